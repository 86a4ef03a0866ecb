//! The reset that refuses a SYN, at constant offsets: what a SYN flood costs.
//!
//! [`refuse_syn4`] does for the usual SYN what [`crate::tcp::refuse`] does for every segment, byte for
//! byte, at a tenth of the instructions.

use crate::answer::TTL;
use crate::buffer::Buffer;
use crate::checksum::finish;
use crate::parse::{Network, Parsed, TCP};
use crate::tcp::{ACK, FIN, HEADER, RST, SYN};

/// Bytes of the reset's frame: Ethernet, IPv4 and TCP headers.
const FRAME: usize = 54;

/// First two bytes of a header without options, its total length, identification, and don't fragment.
const IP_START: [u8; 8] = [0x45, 0, 0, 40, 0, 0, 0x40, 0];

/// Turns an untagged frame with a SYN over IPv4 without options into the reset that refuses it. `parsed` is
/// what the frame was parsed as; the caller has verified its checksums and may answer its source. False, and
/// nothing changed, if the frame is none that this is for: then [`crate::tcp::refuse`] knows what to do.
pub fn refuse_syn4(frame: &mut impl Buffer, parsed: &Parsed) -> bool {
    let is_plain = parsed.network == Network::V4 && (parsed.l3(), parsed.l4()) == (14, 34);
    if !is_plain || parsed.protocol != TCP || !frame.is_contiguous() {
        return false;
    }
    let Some(head) = frame.bytes().first_chunk::<FRAME>() else {
        return false;
    };
    let offset = usize::from(head[46] >> 4) * 4;
    let is_station = head[6] & 1 == 0 && head[6..12] != [0; 6];
    let is_syn = head[47] & (SYN | ACK | RST | FIN) == SYN;
    let Some(payload) = parsed.end().checked_sub(34 + offset) else {
        return false;
    };
    if !is_syn || !is_station {
        return false;
    }
    // SEG.LEN counts the payload, and the SYN as one (RFC 9293, section 3.4).
    let sequence = be32(head, 38);
    let acknowledged = sequence.wrapping_add(payload as u32 + 1);
    let (source, destination) = (be32(head, 26), be32(head, 30));
    let ports = be32(head, 34).rotate_left(16);
    if !frame.set_len(FRAME) {
        return false;
    }
    let Some(head) = frame.bytes_mut().first_chunk_mut::<FRAME>() else {
        return false;
    };
    let mut addresses = [0; 12];
    addresses[..6].copy_from_slice(&head[6..12]);
    addresses[6..].copy_from_slice(&head[..6]);
    head[..12].copy_from_slice(&addresses);
    // The addresses are in the header's checksum and in the pseudo-header's.
    let ends = halves(source) + halves(destination);
    let header = 0x4500 + 40 + 0x4000 + (u64::from(TTL) << 8) + u64::from(TCP) + ends;
    head[14..22].copy_from_slice(&IP_START);
    head[22] = TTL;
    head[23] = TCP;
    head[24..26].copy_from_slice(&finish(header).to_be_bytes());
    head[26..30].copy_from_slice(&destination.to_be_bytes());
    head[30..34].copy_from_slice(&source.to_be_bytes());
    let offset_and_flags = 0x5000 | u64::from(RST | ACK);
    let segment = halves(ports) + halves(acknowledged) + offset_and_flags;
    let sum = ends + u64::from(TCP) + HEADER as u64 + segment;
    head[34..38].copy_from_slice(&ports.to_be_bytes());
    head[38..42].copy_from_slice(&[0; 4]);
    head[42..46].copy_from_slice(&acknowledged.to_be_bytes());
    head[46..50].copy_from_slice(&[0x50, RST | ACK, 0, 0]);
    head[50..52].copy_from_slice(&finish(sum).to_be_bytes());
    head[52..54].copy_from_slice(&[0; 2]);
    true
}

/// Sum of the two 16-bit words.
const fn halves(word: u32) -> u64 {
    (word >> 16) as u64 + (word & 0xffff) as u64
}

fn be32(head: &[u8; FRAME], at: usize) -> u32 {
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::FrameSpec;
    use crate::memory::HeapBuffer;
    use crate::parse::parse;
    use crate::tcp::refuse;

    proptest! {
        #[test]
        fn a_refused_syn_is_what_any_refused_segment_is(
            flags: u8, from: u32, to: u32, ports: [u16; 2], pad in 0usize..80, options in 0usize..5,
            payload in proptest::collection::vec(any::<u8>(), 0..64), station: bool,
        ) {
            let address = |bits: u32| std::net::Ipv4Addr::from(bits % 0xb000_0000 + 0x0100_0000);
            prop_assume!(!address(from).is_loopback());
            let mut spec = FrameSpec::tcp(
                (address(from), ports[0]).into(),
                (address(to), ports[1]).into(),
                flags,
            );
            spec.payload = payload;
            spec.pad_to = pad;
            if options > 3 {
                spec.ip_options = vec![1; 4];
            }
            let mut bytes = spec.bytes().unwrap();
            if !station {
                bytes[6] |= 1;
            }
            let parsed = parse(&bytes).unwrap();
            let mut quick = HeapBuffer::from_bytes(&bytes);
            let mut any = HeapBuffer::from_bytes(&bytes);
            let usual = options <= 3 && flags & (SYN | ACK | RST | FIN) == SYN && station;
            prop_assert_eq!(refuse_syn4(&mut quick, &parsed), usual);
            if usual {
                prop_assert!(refuse(&mut any, parsed.l3(), parsed.l4(), parsed.end()).is_ok());
            }
            prop_assert_eq!(quick.bytes(), any.bytes());
        }
    }
}
