//! The reset that refuses a SYN, at constant offsets: what a SYN flood costs.
//!
//! [`refuse_syn`] does for the usual SYN what [`crate::tcp::refuse`] does for every segment, byte for
//! byte, at a tenth of the instructions.

use crate::answer::TTL;
use crate::buffer::Buffer;
use crate::checksum::{finish, sum};
use crate::parse::{Network, Parsed, TCP};
use crate::tcp::{ACK, FIN, HEADER, RST, SYN};

/// Bytes of an Ethernet header without a tag.
const ETHERNET: usize = 14;

/// Ethernet and IPv4 header, then the same with the reset.
const L4_OVER_V4: usize = ETHERNET + 20;
const FRAME_OVER_V4: usize = L4_OVER_V4 + HEADER;

/// Ethernet and IPv6 header, then the same with the reset.
const L4_OVER_V6: usize = ETHERNET + 40;
const FRAME_OVER_V6: usize = L4_OVER_V6 + HEADER;

/// First eight bytes of an IPv4 header without options: total length, identification, don't fragment.
const START_OF_V4: [u8; 8] = [0x45, 0, 0, 40, 0, 0, 0x40, 0];

/// First eight bytes of an IPv6 header: no class or label, payload length, next header, hop limit.
const START_OF_V6: [u8; 8] = [0x60, 0, 0, 0, 0, HEADER as u8, TCP, TTL];

/// Turns an untagged frame with a SYN, over IPv4 or IPv6 without options, into the reset that refuses it.
/// `parsed` is what the frame was parsed as; the caller has verified its checksums and may answer its source.
/// False, and nothing changed, if the frame is none that this is for: then [`crate::tcp::refuse`] knows what to
/// do.
#[inline]
pub fn refuse_syn(frame: &mut impl Buffer, parsed: &Parsed) -> bool {
    if parsed.protocol != TCP || parsed.l3() != ETHERNET || !frame.is_contiguous() {
        return false;
    }
    match (parsed.network, parsed.l4()) {
        (Network::V4, L4_OVER_V4) => refuse_over_v4(frame, parsed.end()),
        (Network::V6, L4_OVER_V6) => refuse_over_v6(frame, parsed.end()),
        _ => false,
    }
}

fn refuse_over_v4(frame: &mut impl Buffer, end: usize) -> bool {
    let Some(head) = frame.bytes().first_chunk::<FRAME_OVER_V4>() else {
        return false;
    };
    let Some(syn) = Syn::read::<L4_OVER_V4>(head, end) else {
        return false;
    };
    if !frame.set_len(FRAME_OVER_V4) {
        return false;
    }
    let Some(head) = frame.bytes_mut().first_chunk_mut::<FRAME_OVER_V4>() else {
        return false;
    };
    exchange_stations(head);
    let (source, destination) = (be32(head, 26), be32(head, 30));
    // The addresses are in the header's checksum and in the pseudo-header's.
    let ends = halves(source) + halves(destination);
    let header = 0x4500 + 40 + 0x4000 + (u64::from(TTL) << 8) + u64::from(TCP) + ends;
    head[14..22].copy_from_slice(&START_OF_V4);
    head[22] = TTL;
    head[23] = TCP;
    head[24..26].copy_from_slice(&finish(header).to_be_bytes());
    head[26..30].copy_from_slice(&destination.to_be_bytes());
    head[30..34].copy_from_slice(&source.to_be_bytes());
    head[L4_OVER_V4..].copy_from_slice(&syn.reset(ends));
    true
}

fn refuse_over_v6(frame: &mut impl Buffer, end: usize) -> bool {
    let Some(head) = frame.bytes().first_chunk::<FRAME_OVER_V6>() else {
        return false;
    };
    let Some(syn) = Syn::read::<L4_OVER_V6>(head, end) else {
        return false;
    };
    if !frame.set_len(FRAME_OVER_V6) {
        return false;
    }
    let Some(head) = frame.bytes_mut().first_chunk_mut::<FRAME_OVER_V6>() else {
        return false;
    };
    exchange_stations(head);
    let ends = sum(&head[22..54]);
    let mut addresses = [0; 32];
    addresses[..16].copy_from_slice(&head[38..54]);
    addresses[16..].copy_from_slice(&head[22..38]);
    head[14..22].copy_from_slice(&START_OF_V6);
    head[22..54].copy_from_slice(&addresses);
    head[L4_OVER_V6..].copy_from_slice(&syn.reset(ends));
    true
}

/// What a reset has from the SYN that it answers.
struct Syn {
    /// The SYN's, exchanged.
    ports: u32,
    /// The number after the last that the SYN takes up.
    acknowledged: u32,
}

impl Syn {
    /// The SYN at offset `L4` of a frame whose packet ends at `end`; none if it is another segment, or if no single
    /// station has sent it.
    #[inline(always)]
    fn read<const L4: usize>(head: &[u8], end: usize) -> Option<Self> {
        let offset = usize::from(head[L4 + 12] >> 4) * 4;
        let is_station = head[6] & 1 == 0 && head[6..12] != [0; 6];
        let is_syn = head[L4 + 13] & (SYN | ACK | RST | FIN) == SYN;
        let payload = end.checked_sub(L4 + offset)?;
        (is_syn && is_station).then(|| Self {
            ports: be32(head, L4).rotate_left(16),
            // SEG.LEN counts the payload, and the SYN as one (RFC 9293, section 3.4).
            acknowledged: be32(head, L4 + 4).wrapping_add(payload as u32 + 1),
        })
    }

    /// The reset's header. `ends` is the sum of the packet's addresses.
    #[inline(always)]
    fn reset(&self, ends: u64) -> [u8; HEADER] {
        let offset_and_flags = 0x5000 | u64::from(RST | ACK);
        let segment = halves(self.ports) + halves(self.acknowledged) + offset_and_flags;
        let sum = ends + u64::from(TCP) + HEADER as u64 + segment;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&self.ports.to_be_bytes());
        header[8..12].copy_from_slice(&self.acknowledged.to_be_bytes());
        header[12..14].copy_from_slice(&[0x50, RST | ACK]);
        header[16..18].copy_from_slice(&finish(sum).to_be_bytes());
        header
    }
}

/// The answer goes back to the station that the frame came from.
#[inline(always)]
fn exchange_stations(head: &mut [u8]) {
    let mut stations = [0; 12];
    stations[..6].copy_from_slice(&head[6..12]);
    stations[6..].copy_from_slice(&head[..6]);
    head[..12].copy_from_slice(&stations);
}

/// Sum of the two 16-bit words.
const fn halves(word: u32) -> u64 {
    (word >> 16) as u64 + (word & 0xffff) as u64
}

#[inline(always)]
fn be32(head: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::build::FrameSpec;
    use crate::memory::HeapBuffer;
    use crate::parse::parse;
    use crate::tcp::refuse;

    /// An address that may be answered.
    fn address(bits: u128, is_v4: bool) -> IpAddr {
        if is_v4 {
            let bits = bits as u32 % 0x6000_0000 + 0x0100_0000;
            return Ipv4Addr::from(bits).into();
        }
        Ipv6Addr::from(0x2000_u128 << 112 | bits >> 16).into()
    }

    proptest! {
        #[test]
        fn a_refused_syn_is_what_any_refused_segment_is(
            flags: u8, from: u128, to: u128, is_v4: bool, ports: [u16; 2], pad in 0usize..80, options in 0usize..5,
            payload in proptest::collection::vec(any::<u8>(), 0..64), station: bool,
        ) {
            let mut spec = FrameSpec::tcp(
                (address(from, is_v4), ports[0]).into(),
                (address(to, is_v4), ports[1]).into(),
                flags,
            );
            spec.payload = payload;
            spec.pad_to = pad;
            let has_options = is_v4 && options > 3;
            if has_options {
                spec.ip_options = vec![1; 4];
            }
            let mut bytes = spec.bytes().unwrap();
            if !station {
                bytes[6] |= 1;
            }
            let parsed = parse(&bytes).unwrap();
            let mut quick = HeapBuffer::from_bytes(&bytes);
            let mut any = HeapBuffer::from_bytes(&bytes);
            let usual = !has_options && flags & (SYN | ACK | RST | FIN) == SYN && station;
            prop_assert_eq!(refuse_syn(&mut quick, &parsed), usual);
            if usual {
                prop_assert!(refuse(&mut any, parsed.l3(), parsed.l4(), parsed.end()).is_ok());
            }
            prop_assert_eq!(quick.bytes(), any.bytes());
        }
    }
}
