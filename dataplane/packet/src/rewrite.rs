//! Rewriting a parsed frame by a translation: addresses, ports, TTL and checksums.
//!
//! The checksum deltas are computed once per flow ([`Translation::between`]) and applied per
//! frame (RFC 1624), so the payload is never read. SCTP alone has a CRC over the whole packet
//! (RFC 9260 appendix A) and is recomputed.

use crate::checksum::Delta;
use crate::parse::{Parsed, SCTP, TCP, UDP};
use crate::sctp;
use crate::tuple::Ports;

/// What one direction of a flow becomes. `A` is one word for IPv4 (source ‖ destination), four for
/// IPv6 (source, source, destination, destination).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation<const A: usize> {
    /// New source and destination address.
    pub addresses: [u64; A],
    /// New source and destination port.
    pub ports: Ports,
    /// Change of the IPv4 header checksum, TTL decrement included; meaningless for IPv6.
    pub header: Delta,
    /// Change of the TCP or UDP checksum.
    pub transport: Delta,
}

/// The TTL is the high byte of its 16-bit word: one less is 0x0100 less (RFC 1141).
const TTL: u64 = 0x0100;

impl<const A: usize> Translation<A> {
    /// The translation that turns frames with addresses and ports `from` into `to`.
    #[must_use]
    pub fn between(from: ([u64; A], Ports), to: ([u64; A], Ports)) -> Self {
        Self::of_sums(sum(&from.0), sum(&to.0), from.1, to)
    }

    /// [`Translation::between`] and the translation of the answers, which become `answer`: `from` with its
    /// ends exchanged. Sums do not depend on the order, so each is needed once.
    #[must_use]
    #[inline]
    pub fn there_and_back(
        from: ([u64; A], Ports),
        to: ([u64; A], Ports),
        answer: ([u64; A], Ports),
    ) -> [Self; 2] {
        let (old, new) = (sum(&from.0), sum(&to.0));
        let there = Self::of_sums(old, new, from.1, to);
        let back = Self {
            addresses: answer.0,
            ports: answer.1,
            header: Delta::of_sums(new + TTL, old),
            transport: there.transport.inverse(),
        };
        [there, back]
    }

    #[inline(always)]
    fn of_sums(old: u64, new: u64, ports: Ports, to: ([u64; A], Ports)) -> Self {
        Self {
            addresses: to.0,
            ports: to.1,
            header: Delta::of_sums(old + TTL, new),
            transport: Delta::of_sums(old + u64::from(ports), new + u64::from(to.1)),
        }
    }
}

/// Sum of 32-bit halves: there is room for all words, and it is folded once.
#[inline(always)]
fn sum<const A: usize>(words: &[u64; A]) -> u64 {
    let halves = words.iter().map(|word| (word >> 32) + (word & 0xffff_ffff));
    halves.sum()
}

/// Translates an IPv4 frame and decrements its TTL, which must be above 1.
#[inline(always)]
pub fn rewrite4(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<1>) {
    let (l3, l4) = (parsed.l3(), parsed.l4());
    let header = &mut bytes[l3..l3 + 20];
    header[8] = parsed.ttl.wrapping_sub(1);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    header[10..12].copy_from_slice(&translation.header.apply(checksum).to_be_bytes());
    header[12..20].copy_from_slice(&translation.addresses[0].to_be_bytes());
    rewrite_transport(bytes, parsed, l4, translation.ports, translation.transport);
}

/// Translates an IPv6 frame and decrements its hop limit, which must be above 1.
#[inline(always)]
pub fn rewrite6(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<4>) {
    let (l3, l4) = (parsed.l3(), parsed.l4());
    let header = &mut bytes[l3..l3 + 40];
    header[7] = parsed.ttl.wrapping_sub(1);
    for (to, word) in header[8..40]
        .chunks_exact_mut(8)
        .zip(&translation.addresses)
    {
        to.copy_from_slice(&word.to_be_bytes());
    }
    rewrite_transport(bytes, parsed, l4, translation.ports, translation.transport);
}

#[inline(always)]
fn rewrite_transport(bytes: &mut [u8], parsed: &Parsed, l4: usize, ports: Ports, delta: Delta) {
    let segment = &mut bytes[l4..parsed.end()];
    segment[..4].copy_from_slice(&ports.to_be_bytes());
    match parsed.protocol {
        TCP => {
            let checksum = u16::from_be_bytes([segment[16], segment[17]]);
            segment[16..18].copy_from_slice(&delta.apply(checksum).to_be_bytes());
        }
        UDP => {
            let checksum = u16::from_be_bytes([segment[6], segment[7]]);
            segment[6..8].copy_from_slice(&delta.apply_udp(checksum).to_be_bytes());
        }
        SCTP => sctp::write_checksum(segment),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checksum::{ipv4_header_checksum, l4_checksum_v4, l4_checksum_v6};
    use crate::parse::parse;
    use crate::tuple::{words4, words6};

    fn frame4(protocol: u8, addresses: u64, ports: Ports, ttl: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 14];
        bytes[12..14].copy_from_slice(&[8, 0]);
        let header_len = if protocol == TCP { 20 } else { 8 };
        let total = 20 + header_len + payload.len();
        let mut ip = [
            0x45, 0, 0, 0, 1, 2, 0x40, 0, ttl, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        ip[12..20].copy_from_slice(&addresses.to_be_bytes());
        let checksum = ipv4_header_checksum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend_from_slice(&ip);
        let l4 = bytes.len();
        bytes.resize(l4 + header_len, 0);
        bytes[l4..l4 + 4].copy_from_slice(&ports.to_be_bytes());
        if protocol == TCP {
            bytes[l4 + 12] = 0x50;
        } else {
            let length = (8 + payload.len()) as u16;
            bytes[l4 + 4..l4 + 6].copy_from_slice(&length.to_be_bytes());
        }
        bytes.extend_from_slice(payload);
        let (source, destination) = ((addresses >> 32) as u32, addresses as u32);
        let sum = l4_checksum_v4(source.into(), destination.into(), protocol, &bytes[l4..]);
        let at = l4 + if protocol == TCP { 16 } else { 6 };
        bytes[at..at + 2].copy_from_slice(&sum.unwrap().to_be_bytes());
        bytes
    }

    fn frame6(addresses: [u64; 4], ports: Ports, hops: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 14 + 40 + 20];
        bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
        bytes[14] = 0x60;
        bytes[18..20].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        bytes[20] = TCP;
        bytes[21] = hops;
        for (to, word) in bytes[22..54].chunks_exact_mut(8).zip(&addresses) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes[54..58].copy_from_slice(&ports.to_be_bytes());
        bytes[66] = 0x50;
        bytes.extend_from_slice(payload);
        let address = |high: u64, low: u64| ((u128::from(high) << 64) | u128::from(low)).into();
        let sum = l4_checksum_v6(
            address(addresses[0], addresses[1]),
            address(addresses[2], addresses[3]),
            TCP,
            &bytes[54..],
        );
        bytes[70..72].copy_from_slice(&sum.unwrap().to_be_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn a_translated_frame_equals_the_frame_built_that_way(
            tcp: bool, from: u64, from_ports: u32, to: u64, to_ports: u32, ttl in 2u8..,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let protocol = if tcp { TCP } else { UDP };
            let mut frame = frame4(protocol, from, from_ports, ttl, &payload);
            let parsed = parse(&frame).unwrap();
            prop_assert_eq!(words4(&frame, &parsed)[0], from);
            let there = Translation::between(([from], from_ports), ([to], to_ports));
            rewrite4(&mut frame, &parsed, &there);
            prop_assert_eq!(frame, frame4(protocol, to, to_ports, ttl - 1, &payload));
        }

        #[test]
        fn rewrite_then_inverse_is_the_identity_but_for_the_hop_limit(
            from: [u64; 4], from_ports: u32, to: [u64; 4], to_ports: u32, hops in 3u8..,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut frame = frame6(from, from_ports, hops, &payload);
            let there = Translation::between((from, from_ports), (to, to_ports));
            let back = Translation::between((to, to_ports), (from, from_ports));
            let parsed = parse(&frame).unwrap();
            prop_assert_eq!(&words6(&frame, &parsed)[..4], &from);
            rewrite6(&mut frame, &parsed, &there);
            prop_assert_eq!(&frame, &frame6(to, to_ports, hops - 1, &payload));
            let parsed = parse(&frame).unwrap();
            rewrite6(&mut frame, &parsed, &back);
            prop_assert_eq!(&frame, &frame6(from, from_ports, hops - 2, &payload));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_ipv4_like_bytes_make_parser_or_rewrite_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 34..120),
            protocol in prop::sample::select(vec![TCP, UDP, SCTP]), options in 0u8..3,
        ) {
            let header_len = 20 + usize::from(options) * 4;
            prop_assume!(bytes.len() >= 14 + header_len);
            let total = (bytes.len() - 14) as u16;
            bytes[12..14].copy_from_slice(&[8, 0]);
            bytes[14] = 0x45 + options;
            bytes[16..18].copy_from_slice(&total.to_be_bytes());
            bytes[20..22].copy_from_slice(&[0, 0]);
            bytes[23] = protocol;
            bytes[24..26].copy_from_slice(&[0, 0]);
            let sum = ipv4_header_checksum(&bytes[14..14 + header_len]);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            if let Ok(parsed) = parse(&bytes) {
                let key = words4(&bytes, &parsed);
                let there = Translation::between(([key[0]], 1), ([!key[0]], 2));
                rewrite4(&mut bytes, &parsed, &there);
            }
        }
    }
}
