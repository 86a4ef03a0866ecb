//! What a receiver would say about a frame's checksums: written anew and plainly, so that it shares no fault
//! with the code that it judges.

use std::ops::Range;

/// What a receiver finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing to judge: no checksum, or not all of what it covers.
    Nothing,
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
}

/// Where the checksums of a frame are.
#[derive(Debug, Clone, Default)]
struct Layers {
    ipv4: Option<Range<usize>>,
    /// Segment, protocol, addresses for the pseudo-header.
    transport: Option<(Range<usize>, u8, Range<usize>)>,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Judges the IPv4 header (if there is one) and the transport checksum.
#[must_use]
pub fn judge(frame: &[u8]) -> (Found, Found) {
    let layers = layers(frame);
    let header = layers.ipv4.map_or(Found::Nothing, |range| {
        found(sum(&frame[range], 0) == 0xffff)
    });
    (header, judge_transport(frame, layers.transport))
}

/// Writes right checksums wherever a frame has them.
pub fn set(frame: &mut [u8]) {
    let layers = layers(frame);
    if let Some(range) = layers.ipv4 {
        let header = &mut frame[range];
        header[10..12].fill(0);
        let value = !sum(header, 0);
        header[10..12].copy_from_slice(&value.to_be_bytes());
    }
    let Some((range, protocol, addresses)) = layers.transport else {
        return;
    };
    let Some(at) = field(protocol).filter(|at| range.len() >= at + 4) else {
        return;
    };
    let at = range.start + at;
    if protocol == SCTP {
        frame[at..at + 4].fill(0);
        let crc = crc32c(&frame[range]);
        frame[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        return;
    }
    frame[at..at + 2].fill(0);
    let Some(range) = covered(frame, range, protocol) else {
        return;
    };
    let value = match !pseudo(frame, &range, protocol, addresses) {
        0 if protocol == UDP => 0xffff,
        value => value,
    };
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn judge_transport(frame: &[u8], transport: Option<(Range<usize>, u8, Range<usize>)>) -> Found {
    let Some((range, protocol, addresses)) = transport else {
        return Found::Nothing;
    };
    let Some(at) = field(protocol) else {
        return Found::Nothing;
    };
    if range.len() < at + 4 {
        return Found::Wrong;
    }
    let segment = &frame[range.clone()];
    if protocol == SCTP {
        let mut zeroed = segment.to_vec();
        zeroed[at..at + 4].fill(0);
        return found(crc32c(&zeroed).to_le_bytes() == segment[at..at + 4]);
    }
    if protocol == UDP && segment[at..at + 2] == [0, 0] {
        // RFC 768: not used. RFC 8200 section 8.1: not allowed.
        return if addresses.len() == 8 {
            Found::Nothing
        } else {
            Found::Wrong
        };
    }
    match covered(frame, range, protocol) {
        Some(range) => found(pseudo(frame, &range, protocol, addresses) == 0xffff),
        None => Found::Wrong,
    }
}

/// What a UDP checksum covers ends with the datagram, not with the packet.
fn covered(frame: &[u8], range: Range<usize>, protocol: u8) -> Option<Range<usize>> {
    if protocol != UDP {
        return Some(range);
    }
    let length = usize::from(u16::from_be_bytes([
        frame[range.start + 4],
        frame[range.start + 5],
    ]));
    (8..=range.len())
        .contains(&length)
        .then(|| range.start..range.start + length)
}

const fn found(is_right: bool) -> Found {
    if is_right { Found::Right } else { Found::Wrong }
}

/// Offset of the checksum in a transport header.
const fn field(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | ICMPV6 => Some(2),
        SCTP => Some(8),
        _ => None,
    }
}

fn pseudo(frame: &[u8], range: &Range<usize>, protocol: u8, addresses: Range<usize>) -> u16 {
    let mut start = 0;
    if protocol != ICMP {
        start = u64::from(sum(&frame[addresses], 0)) + u64::from(protocol) + range.len() as u64;
    }
    sum(&frame[range.clone()], start)
}

fn layers(frame: &[u8]) -> Layers {
    let word = |at: usize| {
        let bytes = frame.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (ethertype, l3) = match word(12) {
        Some(0x8100) => (word(16), 18),
        other => (other, 14),
    };
    match ethertype {
        Some(0x0800) => ipv4(frame, l3),
        Some(0x86dd) => ipv6(frame, l3),
        _ => None,
    }
    .unwrap_or_default()
}

fn ipv4(frame: &[u8], l3: usize) -> Option<Layers> {
    let header = frame.get(l3..l3 + 20)?;
    let (length, total) = (
        usize::from(header[0] & 0xf) * 4,
        usize::from(u16::from_be_bytes([header[2], header[3]])),
    );
    if header[0] >> 4 != 4 || length < 20 || total < length || frame.len() < l3 + total {
        return None;
    }
    let whole = u16::from_be_bytes([header[6], header[7]]) & 0x3fff == 0;
    Some(Layers {
        ipv4: Some(l3..l3 + length),
        transport: whole.then(|| (l3 + length..l3 + total, header[9], l3 + 12..l3 + 20)),
    })
}

fn ipv6(frame: &[u8], l3: usize) -> Option<Layers> {
    let header = frame.get(l3..l3 + 40)?;
    let end = l3 + 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || frame.len() < end {
        return None;
    }
    let (mut next, mut at) = (header[6], l3 + 40);
    while let 0 | 43 | 60 = next {
        let extension = frame[..end].get(at..at + 2)?;
        next = extension[0];
        at += (usize::from(extension[1]) + 1) * 8;
    }
    let addresses = l3 + 8..l3 + 40;
    Some(Layers {
        ipv4: None,
        transport: (next != 44 && at <= end).then_some((at..end, next, addresses)),
    })
}

/// RFC 1071, one word at a time.
fn sum(bytes: &[u8], start: u64) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// RFC 9260 appendix A, one bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

#[cfg(test)]
mod tests {
    use packet::build::{Fill, FrameSpec};

    use super::*;

    #[test]
    fn frames_of_the_builder_are_judged_right_or_wrong_as_they_were_built() {
        let ends = [
            ("192.0.2.1:1000", "198.51.100.7:80"),
            ("[2001:db8::1]:1000", "[fd00::7]:80"),
        ];
        for (from, to) in ends {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            for spec in [
                FrameSpec::syn(from, to),
                FrameSpec::udp(from, to).with_payload(b"odd"),
                FrameSpec::sctp(from, to).with_vlan(7),
                FrameSpec::echo(from.ip(), to.ip()).with_payload(b"ping"),
            ] {
                let right = spec.bytes().unwrap();
                assert_eq!(judge(&right).1, Found::Right, "{spec:?}");
                let wrong = FrameSpec {
                    fill: Fill::Wrong,
                    ..spec
                };
                let mut wrong = wrong.bytes().unwrap();
                assert_eq!(judge(&wrong).1, Found::Wrong, "{right:02x?}");
                set(&mut wrong);
                assert_eq!(wrong, right);
            }
        }
    }
}
