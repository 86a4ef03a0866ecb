//! The receiving end: counts what comes, answers for its addresses, opens and closes TCP connections.

use hugepages::region::monotonic_nanos;
use packet::checksum::{pseudo, write_l4};
use packet::ethernet;
use packet::parse::{Network, Parsed, TCP, UDP};
use packet::tcp::{ACK, ACKNOWLEDGEMENT, FIN, FLAGS, RST, SEQUENCE, SYN};
use packet::tuple::addresses;
use packet::{Buffer, Burst, Link};
use serde::Serialize;

use super::outbox::Outbox;
use super::station::Station;
use super::tally::{Kinds, Tally};

/// Answers that wait for the device, at most: buffers are needed to receive, too.
const MOST_WAITING: usize = 1024;

/// What the server heard and said besides data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// SYNs, each answered by a SYN-ACK.
    pub syns: u64,
    /// Acknowledgements of a SYN-ACK with the right number.
    pub established: u64,
    /// FINs, each answered by a FIN-ACK.
    pub fins: u64,
    /// Resets.
    pub resets: u64,
    /// Datagrams sent back.
    pub echoed: u64,
    /// Datagrams not sent back, because too many answers waited for the device.
    pub unechoed: u64,
    /// Questions of neighbours answered.
    pub answered: u64,
}

/// A server of everything that comes over one link.
///
/// It keeps no state of connections: its initial sequence number is a function of the tuple, so that
/// every acknowledgement can be checked, for any number of connections.
#[derive(Debug)]
pub struct Server<L: Link> {
    link: L,
    station: Station,
    echo: bool,
    tally: Tally,
    served: Served,
    out: Outbox<L::Buffer>,
    frames: u64,
}

impl<L: Link> Server<L> {
    /// On this link. With `echo` datagrams are sent back to where they came from.
    #[must_use]
    pub fn new(link: L, station: Station, echo: bool, tally: Tally) -> Self {
        Self {
            link,
            station,
            echo,
            tally,
            served: Served::default(),
            out: Outbox::default(),
            frames: 0,
        }
    }

    /// Receives a burst, if there is one, and answers; returns how many frames came.
    pub fn turn(&mut self) -> usize {
        let mut burst = Burst::new();
        let count = self.link.rx_burst(&mut burst);
        self.frames += count as u64;
        // After the frames are there: none comes before it was sent.
        let now = if count > 0 { monotonic_nanos() } else { 0 };
        for frame in burst.drain(..) {
            if let Some(answer) = self.frame(frame, now) {
                self.out.push(answer);
            }
        }
        self.out.send(&mut self.link);
        count
    }

    /// Begins the account of another run; returns that of the last one.
    pub fn begin(&mut self, tally: Tally) -> (Tally, Served) {
        let served = std::mem::take(&mut self.served);
        (std::mem::replace(&mut self.tally, tally), served)
    }

    /// The account.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What was heard and said besides data.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// Frames received, and frames sent, since the link is open.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        (self.frames, self.out.sent())
    }

    /// Answers that the device has not taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    fn frame(&mut self, mut frame: L::Buffer, now: u64) -> Option<L::Buffer> {
        let kind = self.tally.frame(frame.bytes(), now);
        let is_answer = match kind {
            Kinds::Control(parsed) => self.control(frame.bytes_mut(), &parsed),
            Kinds::Counted(parsed) if parsed.protocol == UDP && self.echo => {
                if self.out.len() >= MOST_WAITING {
                    self.served.unechoed += 1;
                    return None;
                }
                self.served.echoed += 1;
                turn_back(frame.bytes_mut(), &parsed)
            }
            Kinds::Counted(_) => false,
            Kinds::Other => {
                let answered = self.station.meet(&mut frame);
                self.served.answered += u64::from(answered);
                answered
            }
        };
        is_answer.then_some(frame)
    }

    /// A segment without data; true if it is now the answer.
    fn control(&mut self, bytes: &mut [u8], parsed: &Parsed) -> bool {
        let l4 = parsed.l4();
        let number = |at: usize| {
            let four = bytes.get(l4 + at..l4 + at + 4);
            four.map_or(0, |four| {
                u32::from_be_bytes([four[0], four[1], four[2], four[3]])
            })
        };
        let (sequence, acknowledgement) = (number(SEQUENCE), number(ACKNOWLEDGEMENT));
        let own = initial(bytes, parsed);
        let (flags, own) = match parsed.tcp_flags & (SYN | ACK | FIN | RST) {
            flags if flags & RST != 0 => {
                self.served.resets += 1;
                return false;
            }
            SYN => {
                self.served.syns += 1;
                (SYN | ACK, own)
            }
            flags if flags & FIN != 0 => {
                self.served.fins += 1;
                (FIN | ACK, acknowledgement)
            }
            ACK => {
                let opens = acknowledgement == own.wrapping_add(1);
                self.served.established += u64::from(opens);
                return false;
            }
            _ => return false,
        };
        if !turn_back(bytes, parsed) {
            return false;
        }
        put(bytes, l4 + SEQUENCE, &own.to_be_bytes());
        let next = sequence.wrapping_add(1);
        put(bytes, l4 + ACKNOWLEDGEMENT, &next.to_be_bytes());
        put(bytes, l4 + FLAGS, &[flags]);
        let Some((source, destination)) = addresses(bytes, parsed) else {
            return false;
        };
        let end = parsed.end();
        bytes
            .get_mut(l4..end)
            .zip(pseudo(source, destination, TCP, end - l4))
            .is_some_and(|(segment, pseudo)| write_l4(segment, pseudo, TCP))
    }
}

/// Exchanges both sides of all headers; no checksum changes by that.
fn turn_back(bytes: &mut [u8], parsed: &Parsed) -> bool {
    let (first, len) = match parsed.network {
        Network::V4 => (parsed.l3() + 12, 4),
        Network::V6 => (parsed.l3() + 8, 16),
        Network::Arp => return false,
    };
    ethernet::swap(bytes) && swap(bytes, first, len) && swap(bytes, parsed.l4(), 2)
}

/// Exchanges two neighbouring fields of `len` bytes.
fn swap(bytes: &mut [u8], first: usize, len: usize) -> bool {
    bytes.get_mut(first..first + 2 * len).is_some_and(|both| {
        both.rotate_left(len);
        true
    })
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

/// The initial sequence number towards a client: a mixing of addresses and ports (FNV-1a).
fn initial(bytes: &[u8], parsed: &Parsed) -> u32 {
    let (first, len) = match parsed.network {
        Network::V4 => (parsed.l3() + 12, 8),
        _ => (parsed.l3() + 8, 32),
    };
    let addresses = bytes.get(first..first + len).unwrap_or_default();
    let ports = bytes.get(parsed.l4()..parsed.l4() + 4).unwrap_or_default();
    addresses
        .iter()
        .chain(ports)
        .fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
}

#[cfg(test)]
mod tests {
    use packet::build::FrameSpec;
    use packet::ethernet::Mac;
    use packet::memory::{HeapBuffer, MemoryLink};

    use super::super::payload::{Kind, Mark};
    use super::*;

    fn server(echo: bool) -> Server<MemoryLink> {
        let station = Station::new(Mac([2; 6]), vec![]);
        Server::new(
            MemoryLink::default(),
            station,
            echo,
            Tally::new(Some(1), None),
        )
    }

    fn exchange(server: &mut Server<MemoryLink>, frame: HeapBuffer) -> Option<HeapBuffer> {
        server.link.incoming.push_back(frame);
        assert_eq!(server.turn(), 1);
        server.link.outgoing.pop_front()
    }

    #[test]
    fn datagrams_come_back_whole_if_wished() {
        for (from, to) in [("10.0.0.1:5", "10.0.0.2:6"), ("[::1]:5", "[::2]:6")] {
            let mark = Mark {
                run: 1,
                kind: Kind::Data,
                sequence: 3,
                time: 5,
            };
            let spec = FrameSpec::udp(from.parse().unwrap(), to.parse().unwrap())
                .with_payload(&mark.bytes(18));
            assert_eq!(exchange(&mut server(false), spec.frame().unwrap()), None);
            let mut server = server(true);
            let back = exchange(&mut server, spec.frame().unwrap()).unwrap();
            let mut expected =
                FrameSpec::udp(spec.destination, spec.source).with_payload(&mark.bytes(18));
            expected.source_mac = spec.destination_mac;
            expected.destination_mac = spec.source_mac;
            assert_eq!(back.bytes(), expected.bytes().unwrap());
            assert_eq!(server.tally().received().distinct, 1);
            assert_eq!((server.frames(), server.served().echoed), ((1, 1), 1));
        }
    }

    #[test]
    fn a_handshake_is_answered_and_its_acknowledgement_checked() {
        let (from, to) = ("10.0.0.1:5".parse().unwrap(), "10.0.0.2:6".parse().unwrap());
        let mut server = server(false);
        let syn = FrameSpec::syn(from, to).frame().unwrap();
        let answer = exchange(&mut server, syn).unwrap();
        let mut tally = Tally::new(Some(1), None);
        let Kinds::Control(parsed) = tally.frame(answer.bytes(), 0) else {
            panic!("the answer is sound");
        };
        assert_eq!(parsed.tcp_flags, SYN | ACK);
        let number = |at: usize| {
            let four = &answer.bytes()[parsed.l4() + at..][..4];
            u32::from_be_bytes(four.try_into().unwrap())
        };
        assert_eq!(number(ACKNOWLEDGEMENT), 2);
        let mut ack = FrameSpec::tcp(from, to, ACK);
        for (acknowledged, established) in [(5, 0), (number(SEQUENCE).wrapping_add(1), 1)] {
            if let packet::build::Transport::Tcp { ack, .. } = &mut ack.transport {
                *ack = acknowledged;
            }
            assert_eq!(exchange(&mut server, ack.frame().unwrap()), None);
            assert_eq!(server.served().established, established);
        }
        let fin = FrameSpec::tcp(from, to, FIN | ACK).frame().unwrap();
        assert!(exchange(&mut server, fin).is_some());
        let reset = FrameSpec::tcp(from, to, RST).frame().unwrap();
        assert!(exchange(&mut server, reset).is_none());
        let served = *server.served();
        assert_eq!((served.syns, served.fins, served.resets), (1, 1, 1));
        assert_eq!(server.tally().received().corrupt, 0);
    }
}
