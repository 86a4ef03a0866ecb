//! ICMP errors to send: the received frame becomes the error that goes back to its sender.

use std::net::IpAddr;

use crate::answer::{Ends, Refusal, header_len, write_header};
use crate::buffer::Buffer;
use crate::checksum::{self, Checksum};
use crate::field::{get, put};
use crate::parse::{ICMP, ICMPV6, TCP, UDP};
use crate::{ethernet, ipv4, ipv6};

use super::{CHECKSUM, HEADER};

/// An IPv4 error has at most 576 bytes (RFC 1812, section 4.3.2.3).
const MAX_V4: usize = 576;
/// An IPv6 error has at most 1,280 bytes, the minimum MTU (RFC 4443, section 2.4 (c)).
const MAX_V6: usize = 1280;

/// Precedence "internetwork control" (RFC 1812, section 4.3.2.5).
const TOS: u8 = 0xc0;

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nobody listens at the port: 3/3 (RFC 792), 1/4 (RFC 4443, section 3.1).
    PortUnreachable,
    /// The next hop or the host does not answer: 3/1, 1/3.
    HostUnreachable,
    /// No route to the destination: 3/0, 1/0.
    NoRoute,
    /// Administratively prohibited: 3/13 (RFC 1812, section 5.2.7.1), 1/1.
    Prohibited,
    /// TTL or hop limit ran out on the way: 11/0, 3/0.
    TimeExceeded,
    /// Longer than the next link's MTU: 3/4 (RFC 1191, section 4), 2/0.
    TooBig {
        /// That MTU in bytes, IP header included.
        mtu: u16,
    },
}

impl Reason {
    /// Type, code, and the four bytes that follow the checksum.
    const fn head(self, v4: bool) -> (u8, u8, [u8; 4]) {
        let (kind, code) = match (self, v4) {
            (Self::PortUnreachable, true) => (3, 3),
            (Self::PortUnreachable, false) => (1, 4),
            (Self::HostUnreachable, true) => (3, 1),
            (Self::HostUnreachable, false) => (1, 3),
            (Self::NoRoute, true) => (3, 0),
            (Self::NoRoute, false) => (1, 0),
            (Self::Prohibited, true) => (3, 13),
            (Self::Prohibited, false) => (1, 1),
            (Self::TimeExceeded, true) => (11, 0),
            (Self::TimeExceeded, false) => (3, 0),
            (Self::TooBig { .. }, true) => (3, 4),
            (Self::TooBig { .. }, false) => (2, 0),
        };
        // Big-endian: IPv4's 16-bit MTU is the lower half of IPv6's 32-bit field.
        let rest = match self {
            Self::TooBig { mtu } => (mtu as u32).to_be_bytes(),
            _ => [0; 4],
        };
        (kind, code, rest)
    }
}

/// Turns a received frame into the ICMP error that reports `reason` to its sender, from the address
/// `from` (of the packet's family). The error quotes the packet from its IP header on, as much as
/// 576 (IPv4) or 1,280 bytes hold. Whatever Ethernet header and tag it has stay, addresses
/// exchanged; padding is cut.
///
/// `l3` and `end` are the offsets of the IP header and of the IP packet's end; the packet must be
/// as its sender sent it. Needs 28 (IPv4) or 48 bytes of headroom.
///
/// # Errors
///
/// Says why there must be no error (RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e), without its
/// exceptions for multicast, which the gateway does not forward); the frame is then unchanged.
pub fn refuse(
    frame: &mut impl Buffer,
    l3: usize,
    end: usize,
    from: IpAddr,
    reason: Reason,
) -> Result<(), Refusal> {
    let ends = Ends::read(frame, l3, end)?;
    let v4 = ends.source.is_ipv4();
    if from.is_ipv4() != v4 {
        return Err(Refusal::Malformed);
    }
    let packet = frame.bytes().get(l3..end).ok_or(Refusal::Malformed)?;
    let upper = Upper::read(packet, v4).ok_or(Refusal::Malformed)?;
    upper.may_be_reported(packet, ends, reason)?;

    let (max, protocol) = if v4 { (MAX_V4, ICMP) } else { (MAX_V6, ICMPV6) };
    let front = header_len(ends.source) + HEADER;
    let quoted = packet.len().min(max - front);
    if !frame.grow_front(front) {
        return Err(Refusal::NoRoom);
    }
    // Never more than the frame had: it cannot fail.
    frame.set_len(front + l3 + quoted);
    let bytes = frame.bytes_mut();
    // The Ethernet header moves to the new front; the quoted packet stays where it is.
    bytes.copy_within(front..front + l3, 0);
    ethernet::swap(bytes);
    let packet = bytes.get_mut(l3..).ok_or(Refusal::Malformed)?;
    write_error(packet, from, ends.source, protocol, reason).ok_or(Refusal::Malformed)
}

/// Writes IP and ICMP header in front of the quoted packet.
fn write_error(
    packet: &mut [u8],
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    reason: Reason,
) -> Option<()> {
    let tos = if from.is_ipv4() { TOS } else { 0 };
    write_header(packet, from, to, protocol, tos)?;
    let message = packet.get_mut(header_len(to)..)?;
    let (kind, code, rest) = reason.head(from.is_ipv4());
    put(message, 0, &[kind, code, 0, 0])?;
    put(message, CHECKSUM + 2, &rest)?;
    let pseudo = checksum::pseudo(from, to, protocol, message.len())?;
    checksum::write_l4(message, pseudo, protocol).then_some(())
}

/// Where the upper layer of either family starts, and whether the packet is a fragment.
struct Upper {
    protocol: u8,
    at: usize,
    fragment: bool,
    later_fragment: bool,
}

impl Upper {
    fn read(packet: &[u8], v4: bool) -> Option<Self> {
        if v4 {
            let fragment = ipv4::fragment(packet)?;
            return Some(Self {
                protocol: ipv4::protocol(packet)?,
                at: ipv4::header_len(packet)?,
                fragment: fragment & !ipv4::DONT_FRAGMENT != 0,
                later_fragment: fragment & ipv4::OFFSET_MASK != 0,
            });
        }
        let upper = ipv6::upper(packet)?;
        Some(Self {
            protocol: upper.protocol,
            at: upper.at,
            fragment: upper.fragment.is_some(),
            later_fragment: upper.is_later_fragment(),
        })
    }

    fn may_be_reported(&self, packet: &[u8], ends: Ends, reason: Reason) -> Result<(), Refusal> {
        if self.later_fragment {
            return Err(Refusal::Fragment);
        }
        let l4 = packet.get(self.at..).ok_or(Refusal::Malformed)?;
        match self.protocol {
            ICMP | ICMPV6 => {
                let [kind] = get(l4, 0).ok_or(Refusal::Malformed)?;
                if !is_query(self.protocol, kind) {
                    return Err(Refusal::IcmpError);
                }
            }
            // That a port is closed is said by the host, which first looks at the checksum
            // (RFC 1122, section 4.1.3.4); a router reports whatever it cannot forward.
            TCP | UDP if reason == Reason::PortUnreachable && !self.fragment => {
                let (source, destination) = (ends.source, ends.destination);
                let pseudo = checksum::pseudo(source, destination, self.protocol, l4.len());
                let pseudo = pseudo.ok_or(Refusal::Malformed)?;
                if checksum::verify_l4(l4, pseudo, self.protocol) == Checksum::Bad {
                    return Err(Refusal::BadChecksum);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the type is known to ask or tell something other than an error. An unknown type might
/// be an error, and errors about errors never end.
const fn is_query(protocol: u8, kind: u8) -> bool {
    match protocol {
        // Echo, router discovery, timestamp, information and address mask (RFC 792, 950, 1256).
        ICMP => matches!(kind, 0 | 8..=10 | 13..=18),
        // Informational messages have the top bit set; 137 is a redirect (RFC 4443, 2.4 (e.2)).
        _ => kind >= 128 && kind != 137,
    }
}
