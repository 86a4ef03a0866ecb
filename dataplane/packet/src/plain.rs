//! Plain frames: what nearly every frame is, handled by constant offsets.
//!
//! A frame is plain for a link if it is addressed to it, untagged, IPv4 without options or IPv6 without extension headers, TCP
//! or UDP, whole, right in its lengths and in the IPv4 header checksum, has TTL left, and is at
//! least [`HEAD4`] or [`HEAD6`] bytes long, as every TCP segment is and padded datagrams are. [`key4`] and [`key6`] decide that;
//! the others rely on it for what they mean, not for safety. Everything else is
//! [`crate::parse`]'s, which accepts all that is plain and more (at three times the cost).

use crate::checksum::{Delta, sum_ne};
use crate::parse::{NO_VLAN, Network, Parsed, TCP, UDP};
use crate::rewrite::Translation;
use crate::tcp::SYN;
use crate::tuple::{Words4, Words6};

/// Bytes of a plain IPv4 frame that are looked at: Ethernet, IPv4 and TCP headers.
pub const HEAD4: usize = 54;
/// Bytes of a plain IPv6 frame that are looked at.
pub const HEAD6: usize = 74;

const L3: u16 = 14;
const L4_OF_4: usize = 34;
const L4_OF_6: usize = 54;

/// What the first 32 bytes of a plain frame have in common, compared at once.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    mask: [u8; 32],
    want: [u8; 32],
}

impl Start {
    /// No frame starts so.
    pub const NONE: Self = Self {
        mask: [0; 32],
        want: [1; 32],
    };

    /// IPv4: this destination address, EtherType, version and header length; of the fragmentation word only
    /// "don't fragment" may be set.
    #[must_use]
    pub fn v4(mac: [u8; 6]) -> Self {
        let mut start = Self::to(mac);
        start.demand(12, &[0xff, 0xff, 0xff], &[0x08, 0x00, 0x45]);
        start.demand(20, &[0x3f, 0xff], &[0, 0]);
        start
    }

    /// IPv6: this destination address, EtherType and version.
    #[must_use]
    pub fn v6(mac: [u8; 6]) -> Self {
        let mut start = Self::to(mac);
        start.demand(12, &[0xff, 0xff, 0xf0], &[0x86, 0xdd, 0x60]);
        start
    }

    fn to(mac: [u8; 6]) -> Self {
        let mut start = Self {
            mask: [0; 32],
            want: [0; 32],
        };
        start.demand(0, &[0xff; 6], &mac);
        start
    }

    fn demand(&mut self, at: usize, mask: &[u8], want: &[u8]) {
        self.mask[at..at + mask.len()].copy_from_slice(mask);
        self.want[at..at + want.len()].copy_from_slice(want);
    }

    #[inline(always)]
    fn fits<const N: usize>(&self, head: &[u8; N]) -> bool {
        // Written so that it becomes a few vector instructions; byte by byte or word by word it is twenty.
        let mut differs = [0; 16];
        for at in 0..16 {
            let low = (head[at] & self.mask[at]) ^ self.want[at];
            let high = (head[at + 16] & self.mask[at + 16]) ^ self.want[at + 16];
            differs[at] = low | high;
        }
        differs == [0; 16]
    }
}

/// What is known of a plain frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain<K> {
    /// Its tuple.
    pub key: K,
    /// Whether it has a SYN.
    pub has_syn: bool,
}

/// What there is to know of a plain IPv4 frame that starts so; `None` if it is not one.
#[must_use]
#[inline(always)]
pub fn key4(bytes: &[u8], start: &Start) -> Option<Plain<Words4>> {
    let head = bytes.first_chunk::<HEAD4>()?;
    if !start.fits(head) {
        return None;
    }
    // From its first byte on: total length (2), identification (2), fragmentation (2), TTL, protocol.
    let word = le64(head, 16);
    let total = usize::from((word as u16).swap_bytes());
    if word & 0x00fe_0000_0000_0000 == 0 || total > bytes.len() - 14 || !is_header_right(head) {
        return None;
    }
    let protocol = (word >> 56) as u8;
    let has_syn = if protocol == TCP {
        is_plain_tcp(head, L4_OF_4, total, 20)?
    } else if protocol == UDP && is_plain_udp(head, L4_OF_4, total, 20) {
        false
    } else {
        return None;
    };
    let ports = be32(head, L4_OF_4);
    let key = [be64(head, 26), u64::from(ports) << 32 | u64::from(protocol)];
    Some(Plain { key, has_syn })
}

/// What there is to know of a plain IPv6 frame that starts so; `None` if it is not one.
#[must_use]
#[inline(always)]
pub fn key6(bytes: &[u8], start: &Start) -> Option<Plain<Words6>> {
    let head = bytes.first_chunk::<HEAD6>()?;
    if !start.fits(head) {
        return None;
    }
    let length = usize::from(be16(head, 18));
    if length + L4_OF_6 > bytes.len() || head[21] <= 1 {
        return None;
    }
    let protocol = head[20];
    let has_syn = if protocol == TCP {
        is_plain_tcp(head, L4_OF_6, length, 0)?
    } else if protocol == UDP && is_plain_udp(head, L4_OF_6, length, 0) {
        false
    } else {
        return None;
    };
    let ports = be32(head, L4_OF_6);
    let key = [
        be64(head, 22),
        be64(head, 30),
        be64(head, 38),
        be64(head, 46),
        u64::from(ports) << 32 | u64::from(protocol),
    ];
    Some(Plain { key, has_syn })
}

/// What [`crate::parse::parse`] says of a plain IPv4 frame.
#[must_use]
#[inline]
pub fn parsed4(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.first_chunk::<HEAD4>() else {
        return Parsed::default();
    };
    Parsed {
        l3: L3,
        l4: L4_OF_4 as u16,
        end: be16(head, 16) + L3,
        vlan: NO_VLAN,
        network: Network::V4,
        protocol: head[23],
        tcp_flags: if head[23] == TCP { head[47] } else { 0 },
        ttl: head[22],
    }
}

/// What [`crate::parse::parse`] says of a plain IPv6 frame.
#[must_use]
#[inline]
pub fn parsed6(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.first_chunk::<HEAD6>() else {
        return Parsed::default();
    };
    Parsed {
        l3: L3,
        l4: L4_OF_6 as u16,
        end: be16(head, 18) + L4_OF_6 as u16,
        vlan: NO_VLAN,
        network: Network::V6,
        protocol: head[20],
        tcp_flags: if head[20] == TCP { head[67] } else { 0 },
        ttl: head[21],
    }
}

/// Whether the checksum of the TCP segment in a plain IPv4 frame is right.
#[must_use]
#[inline]
pub fn is_segment_right4(bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<HEAD4>()
        .is_some_and(|head| is_segment_right(bytes, 26, L4_OF_4, usize::from(be16(head, 16) + L3)))
}

/// [`is_segment_right4`] for IPv6.
#[must_use]
#[inline]
pub fn is_segment_right6(bytes: &[u8]) -> bool {
    bytes.first_chunk::<HEAD6>().is_some_and(|head| {
        is_segment_right(bytes, 22, L4_OF_6, usize::from(be16(head, 18)) + L4_OF_6)
    })
}

/// The addresses, which belong to the pseudo-header, lie right before the segment in both families: one
/// sum goes over all.
#[inline(always)]
fn is_segment_right(bytes: &[u8], addresses: usize, l4: usize, end: usize) -> bool {
    let Some(covered) = bytes.get(addresses..end) else {
        return false;
    };
    // Both are less than 2^16, so that they are swapped as such.
    let rest = u64::from(u16::from(TCP).to_be()) + u64::from(((end - l4) as u16).to_be());
    // Neither protocol nor length is 0: a multiple of 0xffff is all ones in one's complement.
    let (sum, carry) = sum_ne(covered).overflowing_add(rest);
    (sum + u64::from(carry)).is_multiple_of(0xffff)
}

/// TCP flags of a plain IPv4 frame that holds a TCP segment.
#[must_use]
#[inline(always)]
pub fn flags4(bytes: &[u8]) -> u8 {
    bytes.get(L4_OF_4 + 13).copied().unwrap_or(0)
}

/// [`flags4`] for IPv6.
#[must_use]
#[inline(always)]
pub fn flags6(bytes: &[u8]) -> u8 {
    bytes.get(L4_OF_6 + 13).copied().unwrap_or(0)
}

/// [`crate::rewrite::rewrite4`] for a plain frame; returns its TCP flags byte, `None` for UDP. Shorter
/// ones are left alone.
#[inline(always)]
pub fn rewrite4(bytes: &mut [u8], translation: &Translation<1>) -> Option<u8> {
    let head = bytes.first_chunk_mut::<HEAD4>()?;
    head[22] = head[22].wrapping_sub(1);
    apply(head, 24, translation.header);
    put64(head, 26, translation.addresses[0]);
    rewrite_segment(head, L4_OF_4, head[23], translation)
}

/// [`crate::rewrite::rewrite6`] for a plain frame; returns its TCP flags byte, `None` for UDP. Shorter
/// ones are left alone.
#[inline(always)]
pub fn rewrite6(bytes: &mut [u8], translation: &Translation<4>) -> Option<u8> {
    let head = bytes.first_chunk_mut::<HEAD6>()?;
    head[21] = head[21].wrapping_sub(1);
    for (at, word) in translation.addresses.iter().enumerate() {
        put64(head, 22 + at * 8, *word);
    }
    rewrite_segment(head, L4_OF_6, head[20], translation)
}

#[inline(always)]
fn rewrite_segment<const N: usize, const A: usize>(
    head: &mut [u8; N],
    l4: usize,
    protocol: u8,
    translation: &Translation<A>,
) -> Option<u8> {
    head[l4..l4 + 4].copy_from_slice(&translation.ports.to_be_bytes());
    if protocol == TCP {
        apply(head, l4 + 16, translation.transport);
        Some(head[l4 + 13])
    } else {
        let checksum = translation.transport.apply_udp(be16(head, l4 + 6));
        head[l4 + 6..l4 + 8].copy_from_slice(&checksum.to_be_bytes());
        None
    }
}

/// [`Delta::apply`] to a field as it lies in memory: one's-complement sums do not depend on the byte
/// order.
#[inline(always)]
fn apply<const N: usize>(head: &mut [u8; N], at: usize, delta: Delta) {
    let checksum = delta.swapped_on_little_endian().apply(ne16(head, at));
    head[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
}

/// The header checksum of an IPv4 header without options. One's-complement sums do not depend on the
/// byte order (RFC 1071 section 2 (B)), so the words are added as they lie in memory.
#[inline(always)]
fn is_header_right(head: &[u8; HEAD4]) -> bool {
    let (sum, carry) = ne64(head, 14).overflowing_add(ne64(head, 22));
    let (sum, more) = sum.overflowing_add(u64::from(ne32(head, 30)) + u64::from(carry));
    // 2^64 is 1 modulo 0xffff, so carries go back in at the bottom. All ones in one's complement is a
    // multiple of 0xffff that is not 0, which the version forbids. The compiler makes one
    // multiplication of the test.
    (sum + u64::from(more)).is_multiple_of(0xffff)
}

/// Whether a TCP header, which must agree with the `end` bytes of which `start` come before it, has a SYN.
#[inline(always)]
fn is_plain_tcp<const N: usize>(
    head: &[u8; N],
    l4: usize,
    end: usize,
    start: usize,
) -> Option<bool> {
    // Data offset in the high half of the low byte, flags in the high byte.
    let word = usize::from(u16::from_le_bytes([head[l4 + 12], head[l4 + 13]]));
    let offset = word >> 2 & 0x3c;
    (offset >= 20 && start + offset <= end).then_some(word & usize::from(SYN) << 8 != 0)
}

/// Whether a UDP header agrees with the `end` bytes of which `start` come before it.
#[inline(always)]
fn is_plain_udp<const N: usize>(head: &[u8; N], l4: usize, end: usize, start: usize) -> bool {
    let own = usize::from(be16(head, l4 + 4));
    own >= 8 && start + own <= end
}

#[inline(always)]
fn ne16<const N: usize>(head: &[u8; N], at: usize) -> u16 {
    u16::from_ne_bytes([head[at], head[at + 1]])
}

#[inline(always)]
fn ne64<const N: usize>(head: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&head[at..at + 8]);
    u64::from_ne_bytes(word)
}

#[inline(always)]
fn be16<const N: usize>(head: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

#[inline(always)]
fn be32<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&head[at..at + 4]);
    u32::from_be_bytes(word)
}

#[inline(always)]
fn le64<const N: usize>(head: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&head[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline(always)]
fn ne32<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&head[at..at + 4]);
    u32::from_ne_bytes(word)
}

#[inline(always)]
fn be64<const N: usize>(head: &[u8; N], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&head[at..at + 8]);
    u64::from_be_bytes(word)
}

#[inline(always)]
fn put64<const N: usize>(head: &mut [u8; N], at: usize, value: u64) {
    head[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::FrameSpec;
    use crate::checksum::{Checksum, pseudo, verify_l4};
    use crate::parse::parse;
    use crate::rewrite;
    use crate::tuple::{addresses, words4, words6};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// What is plain is what it is for the parser, and is rewritten alike.
    fn check(bytes: &[u8]) {
        assert_eq!(key4(bytes, &Start::NONE), None);
        let parsed = parse(bytes);
        if let Some(Plain { key, has_syn }) = key4(bytes, &Start::v4(MAC)) {
            assert_eq!(bytes[..6], MAC);
            let parsed = parsed.unwrap();
            assert_eq!(parsed4(bytes), parsed);
            assert_eq!(key, words4(bytes, &parsed));
            assert_eq!(has_syn, parsed.tcp_flags & SYN != 0);
            assert!(parsed.ttl > 1);
            let there = Translation::between(([key[0]], 1), ([!key[0]], 2));
            let (mut plain, mut any) = (bytes.to_vec(), bytes.to_vec());
            let flags = rewrite4(&mut plain, &there);
            assert_eq!(flags.unwrap_or(0), parsed.tcp_flags);
            rewrite::rewrite4(&mut any, &parsed, &there);
            assert_eq!(plain, any);
            check_segment(bytes, &parsed);
        }
        if let Some(Plain { key, has_syn }) = key6(bytes, &Start::v6(MAC)) {
            assert_eq!(bytes[..6], MAC);
            let parsed = parsed.unwrap();
            assert_eq!(parsed6(bytes), parsed);
            assert_eq!(key, words6(bytes, &parsed));
            assert_eq!(has_syn, parsed.tcp_flags & SYN != 0);
            assert!(parsed.ttl > 1);
            let from = [key[0], key[1], key[2], key[3]];
            let there = Translation::between((from, 1), (from.map(|word| !word), 2));
            let (mut plain, mut any) = (bytes.to_vec(), bytes.to_vec());
            let flags = rewrite6(&mut plain, &there);
            assert_eq!(flags.unwrap_or(0), parsed.tcp_flags);
            rewrite::rewrite6(&mut any, &parsed, &there);
            assert_eq!(plain, any);
            check_segment(bytes, &parsed);
        }
    }

    fn check_segment(bytes: &[u8], parsed: &Parsed) {
        if parsed.protocol == TCP {
            let (source, destination) = addresses(bytes, parsed).unwrap();
            let segment = &bytes[parsed.l4()..parsed.end()];
            let pseudo = pseudo(source, destination, TCP, segment.len()).unwrap();
            let is_right = verify_l4(segment, pseudo, TCP) == Checksum::Good;
            let quick = match parsed.network {
                Network::V4 => (is_segment_right4(bytes), flags4(bytes)),
                _ => (is_segment_right6(bytes), flags6(bytes)),
            };
            assert_eq!(quick, (is_right, parsed.tcp_flags));
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_is_parsed_and_rewritten_alike(
            v6: bool, udp: bool, flags: u8, ttl: u8, options in 0usize..12, pad in 0usize..80,
            payload in proptest::collection::vec(any::<u8>(), 0..64),
            at in 0usize..128, value: u8, corrupt: bool, cut in 0usize..4,
        ) {
            let addresses = if v6 {
                ["[2001:db8::1]:40000", "[fd00::2]:80"]
            } else {
                ["203.0.113.50:40000", "10.1.2.3:80"]
            };
            let [from, to] = addresses.map(|text| text.parse().unwrap());
            let mut spec = if udp {
                FrameSpec::udp(from, to)
            } else {
                FrameSpec::tcp(from, to, flags)
            };
            spec.ttl = ttl;
            spec.payload = payload;
            spec.pad_to = pad;
            if options > 8 {
                spec.ip_options = vec![1; options];
            }
            let mut bytes = spec.bytes().unwrap();
            let long = bytes.len() >= if v6 { HEAD6 } else { HEAD4 };
            let usual = options <= 8 && ttl > 1 && long;
            bytes[..6].copy_from_slice(&MAC);
            prop_assert_eq!(key4(&bytes, &Start::v4(MAC)).is_some(), usual && !v6);
            prop_assert_eq!(key6(&bytes, &Start::v6(MAC)).is_some(), usual && v6);
            check(&bytes);
            if corrupt {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(bytes.len() - cut);
            check(&bytes);
        }
    }
}
