//! The Internet checksum: partial sums, whole checksums, incremental updates and verification.
//!
//! RFC 1071 defines the sum; RFC 1624, equation 3, the incremental update. Sums are kept as `u64`
//! in host order and may be added freely; each part must start at an even offset of what it is a
//! part of. A checksum is the complement of the folded sum.
//!
//! One's-complement arithmetic has two zeros, 0x0000 and 0xffff. Every sum here that a checksum is
//! made of contains a non-zero byte (a version nibble, a protocol number), hence folds to
//! 0x0001–0xffff and never to 0x0000. [`Delta`] keeps to the same range, which makes an incremental
//! update equal to the full computation bit by bit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::parse::{ICMP, ICMPV6, TCP, UDP};

/// One's-complement sum of big-endian 16-bit words; an odd last byte counts as the high half of a
/// word (RFC 1071, section 4.1).
///
/// Adds eight bytes at a time in the machine's own byte order and swaps once at the end, which
/// RFC 1071, section 2 (B), shows to be the same.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    u64::from(u16::from_be(fold(sum_ne(bytes))))
}

/// The same in the machine's own byte order, not folded: a multiple of 0xffff more or less.
#[inline]
pub(crate) fn sum_ne(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    // 2^64 is 1 modulo 0xffff: a carry goes back in at the bottom.
    let add = |sum: u64, word: u64| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u64::from(carry)
    };
    let words = words.iter().map(|word| u64::from_ne_bytes(*word));
    let sum = words.fold(0, add);
    let (fours, tail) = tail.as_chunks::<4>();
    let (twos, tail) = tail.as_chunks::<2>();
    let four = fours.first().map_or(0, |word| u32::from_ne_bytes(*word));
    let two = twos.first().map_or(0, |word| u16::from_ne_bytes(*word));
    let one = tail
        .first()
        .map_or(0, |byte| u16::from_ne_bytes([*byte, 0]));
    add(sum, u64::from(four) + u64::from(two) + u64::from(one))
}

/// Adds the carries until 16 bits are left. 0 only for 0.
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff); // at most 0x1_ffff_fffe
    let sum = (sum >> 16) + (sum & 0xffff); // at most 0x2_fffe
    let sum = (sum >> 16) + (sum & 0xffff); // at most 0x1_0001
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The checksum that belongs to a sum: the complement of its fold.
#[must_use]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// Sum of the pseudo-header of TCP and UDP over IPv4 (RFC 9293, 3.1; RFC 768). `len` is the length
/// of the layer 4 header and payload in bytes.
#[must_use]
pub const fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> u64 {
    words_u32(source.to_bits()) + words_u32(destination.to_bits()) + protocol as u64 + len as u64
}

/// Sum of the pseudo-header of IPv6's upper layers (RFC 8200, 8.1). `len` is the length of the
/// upper layer in bytes, without extension headers.
#[must_use]
pub const fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: usize) -> u64 {
    words_u128(source.to_bits()) + words_u128(destination.to_bits()) + protocol as u64 + len as u64
}

/// Pseudo-header sum of either family; 0 for ICMP in IPv4, which has none (RFC 792). `None` for
/// addresses of two families.
#[must_use]
pub const fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Option<u64> {
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) if protocol == ICMP => Some(0),
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(pseudo_v4(src, dst, protocol, len)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Some(pseudo_v6(src, dst, protocol, len)),
        _ => None,
    }
}

/// Checksum of an IPv4 header (all of it, with options), whatever its checksum field holds now
/// (RFC 791, 3.1).
#[must_use]
pub fn ipv4_header_checksum(header: &[u8]) -> u16 {
    finish(sum_without(header, 10))
}

/// Offset of the checksum field in the header of this protocol; `None` if it has no 16-bit
/// Internet checksum.
#[must_use]
pub const fn field_offset(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP => Some(6),
        ICMP | ICMPV6 => Some(2),
        _ => None,
    }
}

/// The full checksum for `l4` (header and payload up to the end of the IP packet), whatever its
/// checksum field holds now: what a sender writes there. `pseudo` is its pseudo-header sum with
/// `l4.len()`, or 0 for ICMP in IPv4.
///
/// `None` for protocols without an Internet checksum, for headers too short to have the field, and
/// for UDP headers whose length field (which must be set before) is less than 8 or more than
/// `l4.len()`. SCTP's is no Internet checksum: see [`crate::sctp`].
#[must_use]
pub fn l4_checksum(l4: &[u8], pseudo: u64, protocol: u8) -> Option<u16> {
    let offset = field_offset(protocol)?;
    l4.get(offset..offset + 2)?;
    let (covered, pseudo) = covered(l4, pseudo, protocol)?;
    let checksum = finish(pseudo + sum_without(covered, offset));
    Some(if protocol == UDP {
        sent_by_udp(checksum)
    } else {
        checksum
    })
}

/// [`l4_checksum`] with IPv4's pseudo-header.
#[must_use]
pub fn l4_checksum_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, l4: &[u8]) -> Option<u16> {
    let pseudo = match protocol {
        ICMP => 0,
        _ => pseudo_v4(src, dst, protocol, l4.len()),
    };
    l4_checksum(l4, pseudo, protocol)
}

/// [`l4_checksum`] with IPv6's pseudo-header.
#[must_use]
pub fn l4_checksum_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, l4: &[u8]) -> Option<u16> {
    l4_checksum(l4, pseudo_v6(src, dst, protocol, l4.len()), protocol)
}

/// Computes [`l4_checksum`] and writes it into its field; false, and nothing changed, if there is
/// no such field.
pub fn write_l4(l4: &mut [u8], pseudo: u64, protocol: u8) -> bool {
    let Some(checksum) = l4_checksum(l4, pseudo, protocol) else {
        return false;
    };
    let field = field_offset(protocol).and_then(|at| l4.get_mut(at..at + 2));
    field.is_some_and(|field| {
        field.copy_from_slice(&checksum.to_be_bytes());
        true
    })
}

/// The bytes that the checksum covers, and their pseudo-header sum: all, except that a UDP datagram
/// may be shorter than its packet and then counts by its own length (RFC 768). `None` if it claims
/// to be longer, or shorter than its header.
fn covered(l4: &[u8], pseudo: u64, protocol: u8) -> Option<(&[u8], u64)> {
    if protocol != UDP {
        return Some((l4, pseudo));
    }
    let len = u16::from_be_bytes(*l4.get(4..)?.first_chunk()?);
    let datagram = l4.get(..usize::from(len)).filter(|_| len >= 8)?;
    let shorter = Delta::of_sums(l4.len() as u64, u64::from(len));
    Some((datagram, pseudo + u64::from(shorter.bits())))
}

/// UDP sends a computed zero as 0xffff, because 0 says "no checksum" (RFC 768).
const fn sent_by_udp(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Sum of everything but the 16-bit field at the even offset `at`.
fn sum_without(bytes: &[u8], at: usize) -> u64 {
    let front = bytes.get(..at).unwrap_or(bytes);
    sum(front) + bytes.get(at + 2..).map_or(0, sum)
}

const fn words_u32(value: u32) -> u64 {
    (value >> 16) as u64 + (value & 0xffff) as u64
}

const fn words_u128(value: u128) -> u64 {
    words_u32((value >> 96) as u32)
        + words_u32((value >> 64) as u32)
        + words_u32((value >> 32) as u32)
        + words_u32(value as u32)
}

/// What a change of covered words does to a checksum: the folded `~old + new` of RFC 1624,
/// equation 3. Computed once for each flow, applied to each packet. Never 0x0000 inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delta(u16);

impl Delta {
    /// Changes nothing.
    pub const NONE: Self = Self(0xffff);

    /// A 16-bit word at an even offset goes from `old` to `new`.
    #[must_use]
    pub const fn of_u16(old: u16, new: u16) -> Self {
        Self::from_sum(!old as u64 + new as u64)
    }

    /// Two words (an IPv4 address, `Ipv4Addr::to_bits`) go from `old` to `new`.
    #[must_use]
    pub const fn of_u32(old: u32, new: u32) -> Self {
        Self::from_sum(words_u32(!old) + words_u32(new))
    }

    /// Eight words (an IPv6 address, `Ipv6Addr::to_bits`) go from `old` to `new`.
    #[must_use]
    pub const fn of_u128(old: u128, new: u128) -> Self {
        Self::from_sum(words_u128(!old) + words_u128(new))
    }

    /// Words whose [`sum`] was `old` go to words whose sum is `new`.
    #[must_use]
    pub const fn of_sums(old: u64, new: u64) -> Self {
        // 2^32 is 1 and the constant is 0 modulo 0xffff, so one fold will do for both sums.
        let old = (old >> 32) + (old & 0xffff_ffff);
        let new = (new >> 32) + (new & 0xffff_ffff);
        Self::from_sum((0xffff << 32) - old + new)
    }

    /// Both changes.
    #[must_use]
    pub const fn combine(self, other: Self) -> Self {
        Self::from_sum(self.0 as u64 + other.0 as u64)
    }

    /// The change back.
    #[must_use]
    pub const fn inverse(self) -> Self {
        match !self.0 {
            0 => Self::NONE,
            inverse => Self(inverse),
        }
    }

    /// The stored form: 1–0xffff.
    #[must_use]
    #[inline(always)]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From the stored form. 0, which is none, changes nothing.
    #[must_use]
    #[inline(always)]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The same for checksums read in the machine's own byte order.
    #[must_use]
    #[inline(always)]
    pub const fn swapped_on_little_endian(self) -> Self {
        Self(self.0.to_be())
    }

    /// The new value of a checksum field that held `checksum`: of IPv4 headers, TCP, ICMP and
    /// ICMPv6. A field that was wrong before stays wrong by the same difference.
    #[must_use]
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        // RFC 1624's !(!checksum + delta), written as the subtraction that it is: two instructions.
        let (difference, borrow) = checksum.overflowing_sub(self.0);
        difference.wrapping_sub(borrow as u16)
    }

    /// [`Delta::apply`] for UDP: an unset checksum (0) stays unset, a computed 0 becomes 0xffff.
    #[must_use]
    #[inline(always)]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            0
        } else {
            sent_by_udp(self.apply(checksum))
        }
    }

    const fn from_sum(sum: u64) -> Self {
        // What is left of a sum is what it is modulo 0xffff, and multiples are 0xffff: one multiplication.
        match sum % 0xffff {
            0 => Self::NONE,
            rest => Self(rest as u16),
        }
    }
}

/// What a received checksum field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// Right.
    Good,
    /// Wrong, or the header is too short to have one.
    Bad,
    /// Left for hardware to finish: the field holds the folded pseudo-header sum (Linux'
    /// CHECKSUM_PARTIAL, as veth and virtio hand it over). Must be computed in full.
    Unfinished,
    /// The protocol has none, or UDP's is not used (0).
    Absent,
}

/// Judges the checksum of `l4`: all bytes from the layer 4 header to the end of the IP packet
/// (never Ethernet padding), whose pseudo-header sum with `l4.len()` is `pseudo` (0 for ICMP).
///
/// A UDP datagram shorter than its packet is judged by its own length (RFC 768), one that claims
/// to be longer is [`Checksum::Bad`]. SCTP is not an Internet checksum: see [`crate::sctp`].
#[must_use]
pub fn verify_l4(l4: &[u8], pseudo: u64, protocol: u8) -> Checksum {
    let Some(offset) = field_offset(protocol) else {
        return Checksum::Absent;
    };
    let Some(&[high, low]) = l4.get(offset..offset + 2) else {
        return Checksum::Bad;
    };
    let field = u16::from_be_bytes([high, low]);
    if protocol == UDP && field == 0 {
        return Checksum::Absent;
    }
    let Some((covered, pseudo)) = covered(l4, pseudo, protocol) else {
        return Checksum::Bad;
    };
    if fold(pseudo + sum(covered)) == 0xffff {
        Checksum::Good
    } else if protocol != ICMP && field == fold(pseudo) {
        Checksum::Unfinished
    } else {
        Checksum::Bad
    }
}

#[cfg(test)]
mod tests;
