//! The receiver's account: which frames came, how often, in what order, whole or not, and how late.

use hdrhistogram::Histogram;
use packet::checksum::{Checksum, pseudo, verify_l4};
use packet::parse::{Parsed, TCP, UDP, parse};
use packet::tuple::addresses;
use serde::Serialize;

use super::choice::Dealer;
use super::payload::{Kind, Mark, WARM_UP};

/// Frames of one flow that are looked through for one that was overtaken; one that comes after more
/// than these counts as overtaken in its flow.
const LOOK_BACK: u64 = 1 << 16;

/// Frames to a chunk of [`Seen`].
const CHUNK: u64 = 1 << 20;

/// Longest latency that is told from longer ones: 100 seconds in nanoseconds.
const LONGEST: u64 = 100_000_000_000;

/// What came, in frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Data frames of this run, each counted once.
    pub distinct: u64,
    /// Data frames that had come before.
    pub duplicates: u64,
    /// Distinct ones that came after a later one (RFC 4737, section 3.3).
    pub reordered: u64,
    /// Those among them that came after a later one of their own flow; nothing if the flows are not
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reordered_in_flow: Option<u64>,
    /// UDP and TCP frames with a payload whose fields, filler or checksums are not as they should be.
    pub corrupt: u64,
    /// Frames of another run.
    pub stale: u64,
    /// Frames sent to make flows or to warm up.
    pub prime: u64,
    /// Frames that tell the end.
    pub end: u64,
    /// TCP segments without payload.
    pub control: u64,
    /// All else: ARP, neighbour discovery, ICMP.
    pub other: u64,
}

impl Received {
    /// All of it.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.distinct
            + self.duplicates
            + self.corrupt
            + self.stale
            + self.prime
            + self.end
            + self.control
            + self.other
    }
}

/// What a received frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// A UDP or TCP frame with a payload that was counted.
    Counted(Parsed),
    /// A TCP segment without payload, its checksum good.
    Control(Parsed),
    /// None of ours.
    Other,
}

/// The account of one run.
#[derive(Debug)]
pub struct Tally {
    run: Option<u16>,
    dealer: Option<Dealer>,
    seen: Seen,
    /// Highest sequence number that came, plus one.
    next: u64,
    received: Received,
    /// Data frames sent, as the last frame says.
    told: Option<u64>,
    latency: Histogram<u64>,
    /// When the first and last data frame came.
    first: u64,
    last: u64,
}

impl Tally {
    /// Of run number `run`; `None` for a run whose number is not known: that of the first whole data
    /// frame. With a dealer it is told whether frames were overtaken in their flow.
    #[must_use]
    pub fn new(run: Option<u16>, dealer: Option<Dealer>) -> Self {
        // 0.1 % of the value: three significant digits.
        let latency = Histogram::new_with_bounds(1, LONGEST, 3);
        Self {
            run,
            seen: Seen::default(),
            next: 0,
            received: Received {
                reordered_in_flow: dealer.as_ref().map(|_| 0),
                ..Received::default()
            },
            dealer,
            told: None,
            latency: latency.expect("the bounds are in order"),
            first: 0,
            last: 0,
        }
    }

    /// Counts a frame that came at `now` (nanoseconds of CLOCK_MONOTONIC).
    pub fn frame(&mut self, bytes: &[u8], now: u64) -> Kinds {
        let Ok(parsed) = parse(bytes) else {
            // A frame of ours is damaged if it cannot be parsed; nobody else sends IP here.
            let is_ip = matches!(bytes.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
            if is_ip {
                self.received.corrupt += 1;
            } else {
                self.received.other += 1;
            }
            return Kinds::Other;
        };
        let header = match parsed.protocol {
            UDP => 8,
            TCP => {
                let offset = bytes.get(parsed.l4() + packet::tcp::DATA_OFFSET);
                usize::from(offset.map_or(5, |byte| byte >> 4)) * 4
            }
            _ => {
                self.received.other += 1;
                return Kinds::Other;
            }
        };
        if !is_sound(bytes, &parsed) {
            self.received.corrupt += 1;
            return Kinds::Counted(parsed);
        }
        let payload = bytes
            .get(parsed.l4() + header..parsed.end())
            .unwrap_or_default();
        if parsed.protocol == TCP && payload.is_empty() {
            self.received.control += 1;
            return Kinds::Control(parsed);
        }
        match Mark::read(payload, now) {
            Some(mark) => self.mark(&mark, now),
            None => self.received.corrupt += 1,
        }
        Kinds::Counted(parsed)
    }

    /// Number of the run, once it is known.
    #[must_use]
    pub fn run(&self) -> Option<u16> {
        self.run
    }

    /// What came so far.
    #[must_use]
    pub fn received(&self) -> &Received {
        &self.received
    }

    /// Data frames sent, as far as is known here: what the frame that tells the end said, else the
    /// highest number that came.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.told.unwrap_or(self.next).max(self.next)
    }

    /// Whether a frame has told the end.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Nanoseconds from the intended sending to the receiving of each distinct data frame.
    #[must_use]
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Nanoseconds from the first data frame to the last.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.last.saturating_sub(self.first)
    }

    fn mark(&mut self, mark: &Mark, now: u64) {
        let Mark {
            kind,
            sequence,
            time,
            ..
        } = *mark;
        if kind == Kind::Prime || mark.run == WARM_UP && self.run != Some(WARM_UP) {
            self.received.prime += 1;
            return;
        }
        if *self.run.get_or_insert(mark.run) != mark.run {
            self.received.stale += 1;
            return;
        }
        match kind {
            Kind::Prime => {}
            Kind::End => {
                self.received.end += 1;
                self.told = Some(sequence);
            }
            Kind::Data if !self.seen.insert(sequence) => self.received.duplicates += 1,
            Kind::Data => self.distinct(sequence, now.saturating_sub(time), now),
        }
    }

    fn distinct(&mut self, sequence: u64, latency: u64, now: u64) {
        if self.received.distinct == 0 {
            self.first = now;
        }
        self.last = now;
        self.received.distinct += 1;
        self.latency.saturating_record(latency.max(1));
        if sequence >= self.next {
            self.next = sequence + 1;
            return;
        }
        self.received.reordered += 1;
        let Some(dealer) = &self.dealer else { return };
        let flow = dealer.flow(sequence);
        let is_far = self.next - sequence > LOOK_BACK;
        let overtaken = is_far
            || (sequence + 1..self.next)
                .any(|later| self.seen.contains(later) && dealer.flow(later) == flow);
        if overtaken && let Some(count) = &mut self.received.reordered_in_flow {
            *count += 1;
        }
    }
}

/// Whether the transport's checksum is right; the IP header's was looked at by the parser. UDP's may be
/// absent over IPv4, but nothing here sends such datagrams.
fn is_sound(bytes: &[u8], parsed: &Parsed) -> bool {
    let segment = bytes.get(parsed.l4()..parsed.end());
    let (Some(segment), Some((source, destination))) = (segment, addresses(bytes, parsed)) else {
        return false;
    };
    pseudo(source, destination, parsed.protocol, segment.len())
        .is_some_and(|pseudo| verify_l4(segment, pseudo, parsed.protocol) == Checksum::Good)
}

/// A set of numbers, a bit each.
#[derive(Debug, Default)]
struct Seen {
    chunks: Vec<Option<Box<[u64]>>>,
}

impl Seen {
    /// False if it was there.
    fn insert(&mut self, number: u64) -> bool {
        let (chunk, word, bit) = Self::place(number);
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let chunk = &mut self.chunks[chunk];
        let words = chunk.get_or_insert_with(|| vec![0; (CHUNK / 64) as usize].into());
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        is_new
    }

    fn contains(&self, number: u64) -> bool {
        let (chunk, word, bit) = Self::place(number);
        let words = self.chunks.get(chunk).and_then(Option::as_ref);
        words.is_some_and(|words| words[word] & bit != 0)
    }

    fn place(number: u64) -> (usize, usize, u64) {
        let chunk = (number / CHUNK) as usize;
        (chunk, (number % CHUNK / 64) as usize, 1 << (number % 64))
    }
}

#[cfg(test)]
mod tests {
    use packet::Buffer;
    use packet::build::FrameSpec;
    use packet::memory::HeapBuffer;

    use super::super::choice::Choice;
    use super::super::payload::filler_of;
    use super::*;

    const RUN: u16 = 9;

    fn frame(run: u16, kind: Kind, sequence: u64, time: u64) -> HeapBuffer {
        let mark = Mark {
            run,
            kind,
            sequence,
            time,
        };
        let mut payload = mark.bytes(40).to_vec();
        payload.extend_from_slice(filler_of(40));
        let (from, to) = ("10.0.0.1:5", "10.0.0.2:6");
        FrameSpec::udp(from.parse().unwrap(), to.parse().unwrap())
            .with_payload(&payload)
            .frame()
            .unwrap()
    }

    fn tally(sequences: &[u64], flows: u32) -> Received {
        let dealer = Dealer::new(flows, Choice::Turn, 0);
        let mut tally = Tally::new(Some(RUN), Some(dealer));
        for sequence in sequences {
            tally.frame(frame(RUN, Kind::Data, *sequence, 5).bytes(), 10);
        }
        *tally.received()
    }

    #[test]
    fn losses_duplicates_and_overtaken_frames_are_told_apart() {
        let received = tally(&[0, 1, 4, 2, 2, 5, 4, 3], 2);
        assert_eq!(received.distinct, 6);
        assert_eq!(received.duplicates, 2);
        // 2 after 4, 3 after 4 and 5.
        assert_eq!(received.reordered, 2);
        assert_eq!(received.reordered_in_flow, Some(2));
        // Every frame of a flow of its own: none is overtaken there.
        assert_eq!(tally(&[0, 2, 1], 3).reordered_in_flow, Some(0));
        assert_eq!(tally(&[0, 2, 1], 3).reordered, 1);
    }

    #[test]
    fn any_damage_is_corruption_and_counts_as_nothing_else() {
        let whole = frame(RUN, Kind::Data, 7, 5);
        // Ethernet addresses are nobody's payload; the rest is checked. A changed type of frame is
        // none of ours.
        for bit in 14 * 8..whole.bytes().len() * 8 {
            let mut damaged = whole.clone();
            damaged.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
            let mut tally = Tally::new(Some(RUN), None);
            tally.frame(damaged.bytes(), 10);
            assert_eq!(tally.received().corrupt, 1, "bit {bit}");
            assert_eq!(tally.received().frames(), 1);
        }
    }

    #[test]
    fn the_end_tells_how_many_were_sent() {
        let mut tally = Tally::new(None, None);
        tally.frame(frame(0, Kind::Prime, 0, 5).bytes(), 10);
        tally.frame(frame(WARM_UP, Kind::Data, 0, 5).bytes(), 10);
        tally.frame(frame(RUN, Kind::Data, 0, 5).bytes(), 10);
        tally.frame(frame(RUN + 1, Kind::Data, 1, 5).bytes(), 10);
        assert_eq!((tally.expected(), tally.is_told()), (1, false));
        tally.frame(frame(RUN, Kind::End, 12, 5).bytes(), 10);
        assert_eq!((tally.expected(), tally.is_told()), (12, true));
        let received = *tally.received();
        assert_eq!((received.distinct, received.prime), (1, 2));
        assert_eq!((received.stale, received.end), (1, 1));
        assert_eq!(received.frames(), 5);
    }

    #[test]
    fn latency_is_from_the_intended_time_also_of_late_frames() {
        let mut tally = Tally::new(Some(RUN), None);
        for (sequence, came) in [(0, 1_100), (1, 3_000)] {
            tally.frame(frame(RUN, Kind::Data, sequence, 1_000).bytes(), came);
        }
        // A clock that is behind the sender's is not 2^48 nanoseconds late.
        tally.frame(frame(RUN, Kind::Data, 2, 1_000).bytes(), 990);
        assert_eq!(tally.latency().len(), 3);
        assert_eq!((tally.latency().min(), tally.latency().max()), (1, 2_000));
    }

    #[test]
    fn the_set_holds_what_was_put_in() {
        let mut seen = Seen::default();
        for number in [0, 63, 64, CHUNK - 1, CHUNK, 5 * CHUNK + 1] {
            assert!(!seen.contains(number));
            assert!(seen.insert(number));
            assert!(!seen.insert(number));
            assert!(seen.contains(number));
        }
        assert!(!seen.contains(1) && !seen.contains(3 * CHUNK));
    }
}
