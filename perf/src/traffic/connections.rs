//! TCP as its client sees it: what each flow has said and heard. There is no retransmission: what a
//! gateway loses stays lost and is counted.

use hdrhistogram::Histogram;
use packet::tcp::{ACK, FIN, RST, SYN};
use serde::Serialize;

use super::writer::Numbers;

/// Longest handshake that is told from longer ones: 100 seconds in nanoseconds.
const LONGEST: u64 = 100_000_000_000;

/// What became of the connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// SYNs sent.
    pub opened: u64,
    /// SYN-ACKs with the right numbers received, and acknowledged.
    pub established: u64,
    /// Reset while being opened.
    pub refused: u64,
    /// FINs sent.
    pub finished: u64,
    /// FIN-ACKs received, and acknowledged.
    pub closed: u64,
    /// Reset after they were established.
    pub reset: u64,
    /// Begun anew, because their flow's turn came again, before they were established.
    pub lapsed: u64,
    /// Segments that their connection did not wait for.
    pub unexpected: u64,
}

/// What to do after a segment came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Established: acknowledge it.
    Established,
    /// The other side has finished as well: acknowledge that.
    Closed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Opening,
    Established,
    Finishing,
}

#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    /// When the SYN should have been sent.
    since: u64,
    numbers: Numbers,
    phase: Phase,
}

/// The state of every flow.
#[derive(Debug)]
pub struct Client {
    connections: Vec<Connection>,
    counts: Connections,
    handshake: Histogram<u64>,
    /// In [`Phase::Established`].
    open: u64,
}

impl Client {
    /// For this many flows.
    #[must_use]
    pub fn new(flows: u32) -> Self {
        let handshake = Histogram::new_with_bounds(1, LONGEST, 3);
        Self {
            connections: vec![Connection::default(); flows as usize],
            counts: Connections::default(),
            handshake: handshake.expect("the bounds are in order"),
            open: 0,
        }
    }

    /// Flags and numbers of the SYN that should be sent at `time`.
    pub fn open(&mut self, flow: u32, time: u64) -> (u8, Numbers) {
        let connection = &mut self.connections[flow as usize];
        match connection.phase {
            Phase::Opening => self.counts.lapsed += 1,
            Phase::Established => self.open -= 1,
            Phase::Closed | Phase::Finishing => {}
        }
        self.counts.opened += 1;
        // Another number each time, as RFC 9293 (section 3.4.1) has it.
        let sequence = connection
            .numbers
            .sequence
            .wrapping_add(64_000)
            .wrapping_add(flow.wrapping_mul(0x9e37_79b1));
        let numbers = Numbers {
            sequence,
            acknowledgement: 0,
        };
        *connection = Connection {
            since: time,
            numbers: Numbers {
                sequence: sequence.wrapping_add(1),
                acknowledgement: 0,
            },
            phase: Phase::Opening,
        };
        (SYN, numbers)
    }

    /// Numbers of a segment with `len` bytes of data, and whether the flow is established.
    pub fn data(&mut self, flow: u32, len: usize) -> (Numbers, bool) {
        let connection = &mut self.connections[flow as usize];
        let numbers = connection.numbers;
        connection.numbers.sequence = numbers.sequence.wrapping_add(len as u32);
        (numbers, connection.phase == Phase::Established)
    }

    /// Flags and numbers of an acknowledgement.
    #[must_use]
    pub fn acknowledge(&self, flow: u32) -> (u8, Numbers) {
        (ACK, self.connections[flow as usize].numbers)
    }

    /// Flags and numbers of the FIN of an established flow.
    pub fn finish(&mut self, flow: u32) -> Option<(u8, Numbers)> {
        let connection = &mut self.connections[flow as usize];
        if connection.phase != Phase::Established {
            return None;
        }
        let numbers = connection.numbers;
        connection.phase = Phase::Finishing;
        connection.numbers.sequence = numbers.sequence.wrapping_add(1);
        self.counts.finished += 1;
        self.open -= 1;
        Some((FIN | ACK, numbers))
    }

    /// Takes in a segment without data that came at `now`.
    pub fn segment(&mut self, flow: u32, flags: u8, numbers: Numbers, now: u64) -> Next {
        let connection = &mut self.connections[flow as usize];
        let fits = numbers.acknowledgement == connection.numbers.sequence;
        match (connection.phase, flags & (SYN | ACK | FIN | RST)) {
            (Phase::Opening, flags) if flags & RST != 0 => {
                self.counts.refused += 1;
                connection.phase = Phase::Closed;
                Next::Nothing
            }
            (Phase::Established | Phase::Finishing, flags) if flags & RST != 0 => {
                self.counts.reset += 1;
                self.open -= u64::from(connection.phase == Phase::Established);
                connection.phase = Phase::Closed;
                Next::Nothing
            }
            (Phase::Opening, flags) if flags == SYN | ACK && fits => {
                connection.phase = Phase::Established;
                connection.numbers.acknowledgement = numbers.sequence.wrapping_add(1);
                let took = now.saturating_sub(connection.since);
                self.handshake.saturating_record(took.max(1));
                self.counts.established += 1;
                self.open += 1;
                Next::Established
            }
            (Phase::Finishing, flags) if flags == FIN | ACK && fits => {
                connection.phase = Phase::Closed;
                connection.numbers.acknowledgement = numbers.sequence.wrapping_add(1);
                self.counts.closed += 1;
                Next::Closed
            }
            _ => {
                self.counts.unexpected += 1;
                Next::Nothing
            }
        }
    }

    /// What became of the connections so far.
    #[must_use]
    pub fn counts(&self) -> &Connections {
        &self.counts
    }

    /// Established ones, at the moment.
    #[must_use]
    pub fn open_now(&self) -> u64 {
        self.open
    }

    /// Nanoseconds from the intended sending of each SYN to its answer.
    #[must_use]
    pub fn handshake(&self) -> &Histogram<u64> {
        &self.handshake
    }

    /// Counts from zero again, with the connections as they are.
    pub fn reset_counts(&mut self) {
        self.counts = Connections::default();
        self.handshake.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: u32 = 0xffff_ffff;

    fn answer(to: Numbers, count: u32) -> Numbers {
        Numbers {
            sequence: THEIRS,
            acknowledgement: to.sequence.wrapping_add(count),
        }
    }

    #[test]
    fn a_connection_lives_from_syn_to_the_last_acknowledgement() {
        let mut client = Client::new(2);
        assert!(!client.data(1, 6).1);
        let (flags, syn) = client.open(1, 100);
        assert_eq!(flags, SYN);
        let next = client.segment(1, SYN | ACK, answer(syn, 1), 600);
        assert_eq!(next, Next::Established);
        assert_eq!(client.open_now(), 1);
        let (_, ack) = client.acknowledge(1);
        assert_eq!(ack.sequence, syn.sequence.wrapping_add(1));
        assert_eq!(ack.acknowledgement, THEIRS.wrapping_add(1));
        let (data, is_open) = client.data(1, 20);
        assert!(is_open);
        assert_eq!(data.sequence, ack.sequence);
        let (flags, fin) = client.finish(1).unwrap();
        assert_eq!(
            (flags, fin.sequence),
            (FIN | ACK, data.sequence.wrapping_add(20))
        );
        assert_eq!(
            client.segment(1, FIN | ACK, answer(fin, 1), 700),
            Next::Closed
        );
        let counts = *client.counts();
        assert_eq!((counts.opened, counts.established), (1, 1));
        assert_eq!((counts.finished, counts.closed), (1, 1));
        assert_eq!((client.open_now(), client.handshake().max()), (0, 500));
    }

    #[test]
    fn wrong_numbers_resets_and_second_answers_are_counted() {
        let mut client = Client::new(1);
        let (_, syn) = client.open(0, 0);
        assert_eq!(
            client.segment(0, SYN | ACK, answer(syn, 2), 1),
            Next::Nothing
        );
        assert_eq!(client.counts().unexpected, 1);
        client.segment(0, RST | ACK, answer(syn, 1), 1);
        assert_eq!(client.counts().refused, 1);
        client.open(0, 0);
        let (_, syn) = client.open(0, 0);
        assert_eq!(client.counts().lapsed, 1);
        client.segment(0, SYN | ACK, answer(syn, 1), 1);
        client.segment(0, SYN | ACK, answer(syn, 1), 1);
        assert_eq!(client.counts().unexpected, 2);
        client.segment(0, RST, answer(syn, 1), 1);
        assert_eq!((client.counts().reset, client.open_now()), (1, 0));
        assert_eq!(client.finish(0), None);
    }
}
