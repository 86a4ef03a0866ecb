//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo replies, errors to send and errors received.
//!
//! | offset | bytes | field of every message |
//! |---|---|---|
//! | 0 | 1 | type |
//! | 1 | 1 | code |
//! | 2 | 2 | checksum |
//! | 4 | 4 | depends on the type: identifier and sequence number, MTU |
//! | 8 | | errors: the packet that caused it, from its IP header on |

mod error;
mod received;
mod translate;

use std::net::IpAddr;

use crate::answer::{Ends, Refusal, TTL};
use crate::buffer::Buffer;
use crate::checksum::{self, Checksum};
use crate::field::{get, put};
use crate::parse::{ICMP, ICMPV6};
use crate::{ethernet, ipv4, ipv6};

pub use error::{Reason, refuse};
pub use received::{ErrorKind, ReceivedError, parse_error};
pub use translate::{quoted_tuple, translate_error};

/// Bytes in front of a message's body.
pub const HEADER: usize = 8;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;

/// ICMP type of an echo reply.
pub const ECHO_REPLY: u8 = 0;
/// ICMP type of an echo request.
pub const ECHO_REQUEST: u8 = 8;
/// ICMPv6 type of an echo request.
pub const ECHO_REQUEST_V6: u8 = 128;
/// ICMPv6 type of an echo reply.
pub const ECHO_REPLY_V6: u8 = 129;

/// Turns an echo request into its reply: addresses and MACs exchanged, a fresh TTL, identifier,
/// sequence number and data as they came (RFC 792, page 14; RFC 4443, section 4.2). IPv4 options
/// are blanked with End of Option List, because a source route must not go back as it came
/// (RFC 1122, section 3.2.2.6). Ethernet padding is cut.
///
/// `l3`, `l4` and `end` are the offsets of the IP header, of the ICMP header and of the IP packet's
/// end.
///
/// # Errors
///
/// Says why there is no reply; the frame is then unchanged.
pub fn answer_echo(
    frame: &mut impl Buffer,
    l3: usize,
    l4: usize,
    end: usize,
) -> Result<(), Refusal> {
    let ends = Ends::read(frame, l3, end)?;
    let bytes = frame.bytes();
    let packet = bytes.get(l3..end).ok_or(Refusal::Malformed)?;
    let message = bytes.get(l4..end).ok_or(Refusal::Malformed)?;
    if message.len() < HEADER || l4 < l3 {
        return Err(Refusal::Malformed);
    }
    let (protocol, request, reply) = match ends.source {
        IpAddr::V4(_) => (ICMP, ECHO_REQUEST, ECHO_REPLY),
        IpAddr::V6(_) => (ICMPV6, ECHO_REQUEST_V6, ECHO_REPLY_V6),
    };
    if get(message, 0) != Some([request, 0]) {
        return Err(Refusal::Malformed);
    }
    if ends.source.is_ipv4() {
        ipv4::header_len(packet).ok_or(Refusal::Malformed)?;
        let fragment = ipv4::fragment(packet).unwrap_or(0);
        if fragment & !ipv4::DONT_FRAGMENT != 0 {
            return Err(Refusal::Fragment);
        }
    }
    let pseudo = checksum::pseudo(ends.source, ends.destination, protocol, message.len())
        .ok_or(Refusal::Malformed)?;
    if checksum::verify_l4(message, pseudo, protocol) == Checksum::Bad {
        return Err(Refusal::BadChecksum);
    }

    if !frame.set_len(end) {
        return Err(Refusal::NoRoom);
    }
    let bytes = frame.bytes_mut();
    ethernet::swap(bytes);
    turn_message(bytes.get_mut(l4..), pseudo, protocol, reply)
        .and_then(|()| turn_header(bytes.get_mut(l3..)?, ends))
        .ok_or(Refusal::Malformed)
}

/// Sets the type and the checksum. The checksum is computed in full, because the request's may be
/// one that a virtual link left unfinished; exchanged addresses do not change the pseudo-header's
/// sum.
fn turn_message(message: Option<&mut [u8]>, pseudo: u64, protocol: u8, reply: u8) -> Option<()> {
    let message = message?;
    put(message, 0, &[reply])?;
    checksum::write_l4(message, pseudo, protocol).then_some(())
}

/// Exchanges the addresses and renews TTL or hop limit.
fn turn_header(packet: &mut [u8], ends: Ends) -> Option<()> {
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let len = ipv4::header_len(packet)?;
            packet.get_mut(ipv4::HEADER..len)?.fill(0);
            put(packet, ipv4::TTL, &[TTL])?;
            put(packet, ipv4::SOURCE, &destination.octets())?;
            put(packet, ipv4::DESTINATION, &source.octets())?;
            ipv4::write_checksum(packet).then_some(())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(packet, ipv6::HOP_LIMIT, &[TTL])?;
            put(packet, ipv6::SOURCE, &destination.octets())?;
            put(packet, ipv6::DESTINATION, &source.octets())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
