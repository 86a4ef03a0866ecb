//! Fragments: what one says of the datagram that it is a part of, and how it is rewritten.
//!
//! IPv4: RFC 791 section 3.2; IPv6: RFC 8200 section 4.5. Only the first fragment has a transport
//! header. One whose transport header is not whole, or a later one that reaches into it, is refused
//! (RFC 1858, RFC 3128, RFC 7112): what a filter cannot read it must not pass on.

mod answer;
mod cut;

use crate::checksum::Delta;
use crate::field::{get, get_u16, get_u32};
use crate::parse::{
    ETHERNET_HEADER, ICMP, ICMPV6, NO_VLAN, Network, Parsed, SCTP, TCP, UDP, VLAN_TAG,
};
use crate::rewrite::Translation;
use crate::{ethernet, ipv4, ipv6};

pub use answer::{answer_echo, is_echo};
pub use cut::{Cut, plan};

/// Number of the fragment header (RFC 8200 section 4.5), and its bytes.
pub(crate) const HEADER_V6: u8 = 44;
const HEADER_V6_LEN: usize = 8;

/// A datagram has at most this many bytes (RFC 791 section 3.1; RFC 8200 section 4.5, rule "greater than
/// 65,535").
const MAX_DATAGRAM: usize = 65_535;

/// Extension headers walked at most.
const MAX_EXTENSIONS: usize = 8;

/// One fragment. Offsets count from the first byte of the frame, positions in the datagram from the
/// first byte that is fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Headers as of a whole packet; without ports and flags for a later fragment, whose `l4` is where
    /// its part of the datagram starts.
    pub parsed: Parsed,
    /// Where the identification lies: of 16 bits for IPv4, 32 for IPv6.
    pub id_at: u16,
    /// The identification that all fragments of the datagram share.
    pub id: u32,
    /// First byte of the datagram that it carries.
    pub start: u32,
    /// One past the last.
    pub end: u32,
    /// Whether the datagram ends with it.
    pub is_last: bool,
}

/// Why a fragment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceError {
    /// Not a fragment of a packet that could be parsed.
    Malformed,
    /// The transport header is not whole in the first fragment, or a later one reaches into it.
    Tiny,
    /// Its length is impossible: not a multiple of eight though others follow, nothing at all, or past
    /// what a datagram can hold.
    BadLength,
    /// A transport protocol that cannot be translated in parts (SCTP, whose CRC covers the whole packet).
    Protocol,
}

impl Piece {
    /// Whether the datagram begins with it.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.start == 0
    }

    /// Reads a fragment: a frame for which [`crate::parse::parse`] says
    /// [`crate::parse::ParseError::Fragment`], so that the IP header and its lengths are right.
    ///
    /// # Errors
    ///
    /// Why it must not be passed on.
    pub fn read(bytes: &[u8]) -> Result<Self, PieceError> {
        let (l3, vlan) = network(bytes).ok_or(PieceError::Malformed)?;
        let packet = bytes.get(l3..).ok_or(PieceError::Malformed)?;
        let piece = match packet.first().map(|first| first >> 4) {
            Some(4) => read_v4(packet, l3),
            Some(6) => read_v6(packet, l3),
            _ => None,
        };
        let mut piece = piece.ok_or(PieceError::Malformed)?;
        piece.parsed.vlan = vlan;
        piece.check_lengths()?;
        if piece.is_first() {
            piece.find_transport(bytes)?;
        } else if piece.parsed.protocol == TCP && piece.start < crate::tcp::HEADER as u32 {
            return Err(PieceError::Tiny); // RFC 1858 section 3.2.2, RFC 3128
        }
        match piece.parsed.protocol {
            SCTP => Err(PieceError::Protocol),
            TCP | UDP | ICMP | ICMPV6 => Ok(piece),
            // A later fragment of IPv6 names the first header that was fragmented, which may be an option.
            _ if piece.parsed.network == Network::V6 && !piece.is_first() => Ok(piece),
            _ => Err(PieceError::Protocol),
        }
    }

    /// Gives the fragment another identification, and mends IPv4's header checksum.
    pub fn set_id(&mut self, bytes: &mut [u8], id: u32) {
        let at = usize::from(self.id_at);
        match self.parsed.network {
            Network::V6 => {
                if let Some(field) = bytes.get_mut(at..at + 4) {
                    field.copy_from_slice(&id.to_be_bytes());
                    self.id = id;
                }
            }
            _ => {
                let checksum_at = self.parsed.l3() + ipv4::CHECKSUM;
                let (Some(old), Some(checksum)) = (get_u16(bytes, at), get_u16(bytes, checksum_at))
                else {
                    return;
                };
                let delta = Delta::of_u16(old, id as u16);
                bytes[at..at + 2].copy_from_slice(&(id as u16).to_be_bytes());
                bytes[checksum_at..checksum_at + 2]
                    .copy_from_slice(&delta.apply(checksum).to_be_bytes());
                self.id = id & 0xffff;
            }
        }
    }

    fn check_lengths(&self) -> Result<(), PieceError> {
        if self.is_first() && self.is_last {
            return Err(PieceError::Malformed); // a second fragment header behind an atomic one
        }
        let len = self.end - self.start;
        let header = self.parsed.l4() - self.parsed.l3();
        let counted = match self.parsed.network {
            Network::V6 => header - ipv6::HEADER - HEADER_V6_LEN,
            _ => header,
        };
        let fits = counted + self.end as usize <= MAX_DATAGRAM;
        if len == 0 || !fits || !self.is_last && !len.is_multiple_of(8) {
            return Err(PieceError::BadLength);
        }
        Ok(())
    }

    /// Finds the transport header of a first fragment, which must be whole.
    fn find_transport(&mut self, bytes: &[u8]) -> Result<(), PieceError> {
        let parsed = &mut self.parsed;
        let tiny = PieceError::Tiny;
        if parsed.network == Network::V6 {
            for _ in 0..MAX_EXTENSIONS {
                if !matches!(parsed.protocol, 0 | 43 | 60) {
                    break;
                }
                let header = bytes.get(parsed.l4()..parsed.end()).unwrap_or(&[]);
                let [next, length] = get(header, 0).ok_or(tiny)?;
                let len = (usize::from(length) + 1) * 8;
                header.get(..len).ok_or(tiny)?; // RFC 7112 section 5
                if parsed.protocol == 43 && header.get(3).is_none_or(|&left| left != 0) {
                    return Err(PieceError::Malformed); // RFC 5095, as for whole packets
                }
                parsed.protocol = next;
                parsed.l4 += len as u16;
            }
        }
        let segment = bytes.get(parsed.l4()..parsed.end()).ok_or(tiny)?;
        match parsed.protocol {
            TCP => {
                let offset = crate::tcp::data_offset(segment).ok_or(tiny)?;
                segment.get(..offset).ok_or(tiny)?;
                parsed.tcp_flags = crate::tcp::flags(segment).ok_or(tiny)?;
            }
            UDP if segment.len() < 8 || get_u16(segment, 4).is_none_or(|length| length < 8) => {
                return Err(tiny);
            }
            ICMP | ICMPV6 if segment.len() < 8 => return Err(tiny),
            _ => {}
        }
        Ok(())
    }
}

/// Start of the network header and VLAN of a frame.
fn network(bytes: &[u8]) -> Option<(usize, u16)> {
    if get_u16(bytes, ethernet::ETHERTYPE)? == ethernet::VLAN {
        let vlan = get_u16(bytes, ETHERNET_HEADER)? & 0x0fff;
        return Some((ETHERNET_HEADER + VLAN_TAG, vlan));
    }
    Some((ETHERNET_HEADER, NO_VLAN))
}

fn read_v4(packet: &[u8], l3: usize) -> Option<Piece> {
    let header = ipv4::header_len(packet)?;
    let total = ipv4::total_length(packet)?;
    let word = ipv4::fragment(packet)?;
    packet.get(header..total)?;
    let start = u32::from(word & ipv4::OFFSET_MASK) * 8;
    Some(Piece {
        parsed: Parsed {
            l3: l3 as u16,
            l4: (l3 + header) as u16,
            end: (l3 + total) as u16,
            network: Network::V4,
            protocol: ipv4::protocol(packet)?,
            ttl: *packet.get(ipv4::TTL)?,
            ..Parsed::default()
        },
        id_at: (l3 + ipv4::IDENTIFICATION) as u16,
        id: get_u16(packet, ipv4::IDENTIFICATION)?.into(),
        start,
        end: start + (total - header) as u32,
        is_last: word & ipv4::MORE_FRAGMENTS == 0,
    })
}

fn read_v6(packet: &[u8], l3: usize) -> Option<Piece> {
    let total = ipv6::HEADER + ipv6::payload_length(packet)?;
    let packet = packet.get(..total)?;
    let (mut next, mut at) = (*packet.get(ipv6::NEXT_HEADER)?, ipv6::HEADER);
    for _ in 0..MAX_EXTENSIONS {
        match next {
            0 | 43 | 60 => {
                let [following, length] = get(packet, at)?;
                next = following;
                at += (usize::from(length) + 1) * 8;
            }
            HEADER_V6 => break,
            _ => return None,
        }
    }
    let [protocol, _, high, low] = get(packet, at)?;
    let id = get_u32(packet, at + 4)?;
    let word = u16::from_be_bytes([high, low]);
    let data = at + HEADER_V6_LEN;
    let start = u32::from(word & 0xfff8);
    let len = total.checked_sub(data)?;
    (next == HEADER_V6).then_some(Piece {
        parsed: Parsed {
            l3: l3 as u16,
            l4: (l3 + data) as u16,
            end: (l3 + total) as u16,
            network: Network::V6,
            protocol,
            ttl: *packet.get(ipv6::HOP_LIMIT)?,
            ..Parsed::default()
        },
        id_at: (l3 + at + 4) as u16,
        id,
        start,
        end: start + len as u32,
        is_last: word & 1 == 0,
    })
}

/// Translates the addresses of a later IPv4 fragment and decrements its TTL, which must be above 1. The
/// transport checksum lies in the first fragment, where a translation changes it for the whole
/// datagram.
pub fn rewrite_later4(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<1>) {
    let l3 = parsed.l3();
    let header = &mut bytes[l3..l3 + ipv4::HEADER];
    header[ipv4::TTL] = parsed.ttl.wrapping_sub(1);
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    header[10..12].copy_from_slice(&translation.header.apply(checksum).to_be_bytes());
    header[12..20].copy_from_slice(&translation.addresses[0].to_be_bytes());
}

/// Translates the addresses of a later IPv6 fragment and decrements its hop limit, which must be above 1.
pub fn rewrite_later6(bytes: &mut [u8], parsed: &Parsed, translation: &Translation<4>) {
    let l3 = parsed.l3();
    let header = &mut bytes[l3..l3 + ipv6::HEADER];
    header[ipv6::HOP_LIMIT] = parsed.ttl.wrapping_sub(1);
    for (to, word) in header[8..40]
        .chunks_exact_mut(8)
        .zip(&translation.addresses)
    {
        to.copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
