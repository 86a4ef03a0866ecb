//! TCP headers (RFC 9293, section 3.1) and the reset that refuses a segment.

use crate::answer::{Ends, Refusal, header_len, write_header};
use crate::buffer::Buffer;
use crate::checksum::{self, Checksum};
use crate::field::get_u32;
use crate::parse::TCP;
use crate::{ethernet, ipv4};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Offset of the source port; the destination port follows.
pub const PORTS: usize = 0;
/// Offset of the sequence number.
pub const SEQUENCE: usize = 4;
/// Offset of the acknowledgement number.
pub const ACKNOWLEDGEMENT: usize = 8;
/// Offset of the byte whose upper half is the header's length in 32-bit words.
pub const DATA_OFFSET: usize = 12;
/// Offset of the flags.
pub const FLAGS: usize = 13;
/// Offset of the window.
pub const WINDOW: usize = 14;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgement number is valid.
pub const ACK: u8 = 0x10;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;

/// Flags of the segment, if it has them.
#[must_use]
pub fn flags(segment: &[u8]) -> Option<u8> {
    segment.get(FLAGS).copied()
}

/// Header length in bytes, 20–60; `None` if it is less or more than the segment.
#[must_use]
pub fn data_offset(segment: &[u8]) -> Option<usize> {
    let len = usize::from(segment.get(DATA_OFFSET)? >> 4) * 4;
    (len >= HEADER && len <= segment.len()).then_some(len)
}

/// Turns a received segment into the reset that refuses it, as a closed port answers (RFC 9293,
/// section 3.10.7.1). Whatever Ethernet header and tag it has stay, addresses exchanged; options
/// and payload of both headers are gone.
///
/// `l3`, `l4` and `end` are the offsets of the IP header, of the segment and of the IP packet's
/// end.
///
/// # Errors
///
/// Says why the segment gets no reset; the frame is then unchanged.
pub fn refuse(frame: &mut impl Buffer, l3: usize, l4: usize, end: usize) -> Result<(), Refusal> {
    let ends = Ends::read(frame, l3, end)?;
    let bytes = frame.bytes();
    let packet = bytes.get(l3..end).ok_or(Refusal::Malformed)?;
    let segment = bytes.get(l4..end).ok_or(Refusal::Malformed)?;
    let fragment = ipv4::fragment(packet).unwrap_or(0);
    if ends.source.is_ipv4() && fragment & !ipv4::DONT_FRAGMENT != 0 {
        return Err(Refusal::Fragment); // The segment's length is not known.
    }
    let reset = reset_header(segment)?;
    let pseudo = checksum::pseudo(ends.source, ends.destination, TCP, segment.len())
        .ok_or(Refusal::Malformed)?;
    if checksum::verify_l4(segment, pseudo, TCP) == Checksum::Bad {
        return Err(Refusal::BadChecksum);
    }

    let header = header_len(ends.source);
    if !frame.set_len(l3 + header + HEADER) {
        return Err(Refusal::NoRoom);
    }
    let bytes = frame.bytes_mut();
    ethernet::swap(bytes);
    let packet = bytes.get_mut(l3..).ok_or(Refusal::Malformed)?;
    // The reset travels the other way: its source is the packet's destination.
    write_header(packet, ends.destination, ends.source, TCP, 0).ok_or(Refusal::Malformed)?;
    let segment = packet.get_mut(header..).ok_or(Refusal::Malformed)?;
    segment.copy_from_slice(&reset);
    let pseudo =
        checksum::pseudo(ends.destination, ends.source, TCP, HEADER).ok_or(Refusal::Malformed)?;
    checksum::write_l4(segment, pseudo, TCP);
    Ok(())
}

/// The reset's header, checksum zero. Window and urgent pointer are zero.
fn reset_header(segment: &[u8]) -> Result<[u8; HEADER], Refusal> {
    let malformed = Refusal::Malformed;
    let flags = flags(segment).ok_or(malformed)?;
    let offset = data_offset(segment).ok_or(malformed)?;
    if flags & RST != 0 {
        return Err(Refusal::Reset);
    }
    let (seq, ack, answer) = if flags & ACK != 0 {
        (get_u32(segment, ACKNOWLEDGEMENT).ok_or(malformed)?, 0, RST)
    } else {
        // SEG.LEN counts the payload, and SYN and FIN as one each (section 3.4).
        let control = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let len = (segment.len() - offset) as u32 + control;
        let seq = get_u32(segment, SEQUENCE).ok_or(malformed)?;
        (0, seq.wrapping_add(len), RST | ACK)
    };
    let ports = get_u32(segment, PORTS).ok_or(malformed)?.rotate_left(16);
    let mut reset = [0; HEADER];
    reset[..4].copy_from_slice(&ports.to_be_bytes());
    reset[SEQUENCE..][..4].copy_from_slice(&seq.to_be_bytes());
    reset[ACKNOWLEDGEMENT..][..4].copy_from_slice(&ack.to_be_bytes());
    reset[DATA_OFFSET] = 0x50;
    reset[FLAGS] = answer;
    Ok(reset)
}

#[cfg(test)]
mod tests;
