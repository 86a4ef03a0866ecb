//! Frames that wait until a device takes them.

use std::collections::VecDeque;

use packet::{BURST, Burst, Link};

/// Frames to send, in order.
#[derive(Debug)]
pub struct Outbox<B> {
    /// Offered to the device.
    burst: Burst<B>,
    /// Behind them.
    queue: VecDeque<B>,
    sent: u64,
    /// Whether the device took less than it was offered, the last time.
    is_full: bool,
    refusals: u64,
}

impl<B> Default for Outbox<B> {
    fn default() -> Self {
        Self {
            burst: Burst::new(),
            queue: VecDeque::new(),
            sent: 0,
            is_full: false,
            refusals: 0,
        }
    }
}

impl<B> Outbox<B> {
    /// Puts a frame behind the others.
    pub fn push(&mut self, frame: B) {
        if self.queue.is_empty() && !self.burst.is_full() {
            self.burst.push(frame);
        } else {
            self.queue.push_back(frame);
        }
    }

    /// Offers frames until the device takes no more or none are left.
    pub fn send<L: Link<Buffer = B>>(&mut self, link: &mut L) {
        while !self.burst.is_empty() {
            let taken = link.tx_burst(&mut self.burst);
            self.sent += taken as u64;
            let is_full = !self.burst.is_empty();
            self.refusals += u64::from(is_full && !self.is_full);
            self.is_full = is_full;
            let room = BURST - self.burst.len();
            let next = self.queue.len().min(room);
            self.burst.extend(self.queue.drain(..next));
            if taken == 0 {
                break;
            }
        }
    }

    /// Frames that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.burst.len() + self.queue.len()
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.burst.is_empty()
    }

    /// Times that the device had become full: it took fewer frames than it was offered, after it had
    /// taken all the time before.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Frames that the device has taken.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use packet::memory::HeapBuffer;

    use super::*;

    /// Takes some frames at each call.
    struct Slow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Link for Slow {
        type Buffer = HeapBuffer;

        fn rx_burst(&mut self, _: &mut Burst<HeapBuffer>) -> usize {
            0
        }

        fn tx_burst(&mut self, frames: &mut Burst<HeapBuffer>) -> usize {
            use packet::Buffer;
            let count = frames.len().min(self.room);
            self.room -= count;
            let taken = frames.drain(..count).map(|frame| frame.bytes()[0]);
            self.taken.extend(taken);
            count
        }
    }

    #[test]
    fn frames_leave_in_order_whatever_the_device_takes() {
        let mut out = Outbox::default();
        let mut link = Slow {
            room: 0,
            taken: Vec::new(),
        };
        for number in 0..100 {
            out.push(HeapBuffer::from_bytes(&[number]));
            link.room = usize::from(number % 3 == 0);
            out.send(&mut link);
        }
        assert_eq!(out.sent(), 34);
        // The first went whole; then there was always one too many.
        assert_eq!(out.refusals(), 1);
        assert_eq!(out.len(), 66);
        link.room = 1000;
        out.send(&mut link);
        assert_eq!(link.taken, (0..100).collect::<Vec<_>>());
        assert!(out.is_empty());
    }
}
