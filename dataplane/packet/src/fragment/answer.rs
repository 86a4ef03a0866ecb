//! Answering an echo request fragment by fragment: a reply is the request with another type, so it
//! needs no reassembly.

use crate::answer::TTL;
use crate::buffer::Buffer;
use crate::checksum::Delta;
use crate::field::{get, get_u16, put, put_u16};
use crate::icmp::{CHECKSUM, ECHO_REPLY, ECHO_REPLY_V6, ECHO_REQUEST, ECHO_REQUEST_V6};
use crate::parse::{ICMP, ICMPV6, Network};
use crate::{ethernet, ipv4, ipv6};

use super::{HEADER_V6_LEN, Piece};

/// Whether a first fragment begins an echo request without IP options.
#[must_use]
pub fn is_echo(bytes: &[u8], piece: &Piece) -> bool {
    let parsed = &piece.parsed;
    let request = match (parsed.network, parsed.protocol) {
        (Network::V4, ICMP) => ECHO_REQUEST,
        (Network::V6, ICMPV6) => ECHO_REQUEST_V6,
        _ => return false,
    };
    piece.is_first() && is_bare(piece) && get(bytes, parsed.l4()) == Some([request, 0])
}

/// Turns a fragment of an echo request into the fragment of its reply, with the identification `id`
/// (RFC 792, page 14; RFC 4443, section 4.2). The checksum, in the first fragment, changes by what the
/// type changes, so a wrong one stays wrong. False, and the frame unspecified, if it is malformed.
#[must_use]
pub fn answer_echo(frame: &mut impl Buffer, piece: &Piece, id: u32) -> bool {
    is_bare(piece) && frame.set_len(piece.parsed.end()) && try_answer(frame, *piece, id).is_some()
}

fn try_answer(frame: &mut impl Buffer, mut piece: Piece, id: u32) -> Option<()> {
    let bytes = frame.bytes_mut();
    ethernet::swap(bytes);
    let is_v4 = piece.parsed.network == Network::V4;
    if piece.is_first() {
        let (old, new) = if is_v4 {
            (ECHO_REQUEST, ECHO_REPLY)
        } else {
            (ECHO_REQUEST_V6, ECHO_REPLY_V6)
        };
        let delta = Delta::of_u16(u16::from(old) << 8, u16::from(new) << 8);
        let message = bytes.get_mut(piece.parsed.l4()..)?;
        let checksum = get_u16(message, CHECKSUM)?;
        put(message, 0, &[new])?;
        put_u16(message, CHECKSUM, delta.apply(checksum))?;
    }
    piece.set_id(bytes, id);
    let packet = bytes.get_mut(piece.parsed.l3()..)?;
    if is_v4 {
        put(packet, ipv4::TTL, &[TTL])?;
        packet
            .get_mut(ipv4::SOURCE..ipv4::DESTINATION + 4)?
            .rotate_left(4);
        ipv4::write_checksum(packet).then_some(())
    } else {
        put(packet, ipv6::HOP_LIMIT, &[TTL])?;
        packet
            .get_mut(ipv6::SOURCE..ipv6::DESTINATION + 16)?
            .rotate_left(16);
        Some(())
    }
}

/// Whether nothing but the IP header (and IPv6's fragment header) stands before the data.
fn is_bare(piece: &Piece) -> bool {
    let header = piece.parsed.l4() - piece.parsed.l3();
    match piece.parsed.network {
        Network::V4 => header == ipv4::HEADER,
        _ => header == ipv6::HEADER + HEADER_V6_LEN,
    }
}
