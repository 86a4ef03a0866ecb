//! IPv4 headers (RFC 791, section 3.1). Offsets and accessors count from the first byte of the
//! header; accessors answer `None` for a slice that is too short and check nothing else.

use std::net::Ipv4Addr;

use crate::checksum;
use crate::field::{get, get_u16, put, put_u16};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Offset of type of service: DSCP (6 bits) and ECN (2).
pub const TOS: usize = 1;
/// Offset of the total length: header and payload in bytes.
pub const TOTAL_LENGTH: usize = 2;
/// Offset of the identification that the fragments of a datagram share.
pub const IDENTIFICATION: usize = 4;
/// Offset of the flags (3 bits) and the fragment offset (13, in units of 8 bytes).
pub const FRAGMENT: usize = 6;
/// Offset of the time to live.
pub const TTL: usize = 8;
/// Offset of the protocol.
pub const PROTOCOL: usize = 9;
/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;
/// Offset of the source address.
pub const SOURCE: usize = 12;
/// Offset of the destination address.
pub const DESTINATION: usize = 16;

/// Flag in the word at [`FRAGMENT`]: must not be fragmented.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag in the word at [`FRAGMENT`]: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset in the word at [`FRAGMENT`].
pub const OFFSET_MASK: u16 = 0x1fff;

/// Header length in bytes, 20–60; `None` also if the version is not 4, or the header longer than
/// `packet`.
#[must_use]
pub fn header_len(packet: &[u8]) -> Option<usize> {
    let first = packet.first()?;
    let len = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && len >= HEADER && len <= packet.len()).then_some(len)
}

/// Total length: header and payload in bytes.
#[must_use]
pub fn total_length(packet: &[u8]) -> Option<usize> {
    get_u16(packet, TOTAL_LENGTH).map(usize::from)
}

/// The word of flags and fragment offset.
#[must_use]
pub fn fragment(packet: &[u8]) -> Option<u16> {
    get_u16(packet, FRAGMENT)
}

/// Protocol of the payload.
#[must_use]
pub fn protocol(packet: &[u8]) -> Option<u8> {
    packet.get(PROTOCOL).copied()
}

/// Source address.
#[must_use]
pub fn source(packet: &[u8]) -> Option<Ipv4Addr> {
    get::<4>(packet, SOURCE).map(Ipv4Addr::from)
}

/// Destination address.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    get::<4>(packet, DESTINATION).map(Ipv4Addr::from)
}

/// Computes the header checksum and writes it; false, and nothing changed, if there is no whole
/// header.
pub fn write_checksum(packet: &mut [u8]) -> bool {
    let header = header_len(packet).and_then(|len| packet.get_mut(..len));
    header.is_some_and(|header| {
        let checksum = checksum::ipv4_header_checksum(header);
        put_u16(header, CHECKSUM, checksum).is_some()
    })
}

/// A header to write: no options, never fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
}

impl Header {
    /// Writes [`HEADER`] bytes in front of `payload_len` bytes; false if `packet` is shorter than a
    /// header or the packet would be longer than 65,535 bytes.
    ///
    /// Such a datagram is atomic (don't fragment set), so its identification means nothing and
    /// stays 0 (RFC 6864, section 4.1).
    pub fn write(&self, packet: &mut [u8], payload_len: usize) -> bool {
        let Ok(total) = u16::try_from(HEADER + payload_len) else {
            return false;
        };
        let mut header = [0; HEADER];
        header[0] = 0x45;
        header[TOS] = self.tos;
        header[TOTAL_LENGTH..][..2].copy_from_slice(&total.to_be_bytes());
        header[FRAGMENT..][..2].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        header[TTL] = self.ttl;
        header[PROTOCOL] = self.protocol;
        header[SOURCE..][..4].copy_from_slice(&self.source.octets());
        header[DESTINATION..][..4].copy_from_slice(&self.destination.octets());
        let checksum = checksum::ipv4_header_checksum(&header);
        header[CHECKSUM..][..2].copy_from_slice(&checksum.to_be_bytes());
        put(packet, 0, &header).is_some()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, Ipv4Header, Ipv4HeaderSlice};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_are_those_that_another_writer_writes(
            source in any::<[u8; 4]>(),
            destination in any::<[u8; 4]>(),
            (protocol, ttl, tos) in any::<(u8, u8, u8)>(),
            payload_len in 0u16..=65_515,
        ) {
            let header = Header {
                source: source.into(),
                destination: destination.into(),
                protocol,
                ttl,
                tos,
            };
            let mut bytes = [0xee; HEADER];
            prop_assert!(header.write(&mut bytes, payload_len.into()));
            let mut oracle =
                Ipv4Header::new(payload_len, ttl, IpNumber(protocol), source, destination).unwrap();
            oracle.dscp = (tos >> 2).try_into().unwrap();
            oracle.ecn = (tos & 3).try_into().unwrap();
            oracle.header_checksum = oracle.calc_header_checksum();
            prop_assert_eq!(&bytes[..], &oracle.to_bytes()[..]);
        }

        #[test]
        fn any_bytes_are_read_as_another_reader_reads_them(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..70),
            first in 0x40u8..0x50,
        ) {
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            // The reserved flag, which the oracle does not keep.
            if let Some(byte) = bytes.get_mut(FRAGMENT) {
                *byte &= 0x7f;
            }
            let oracle = Ipv4HeaderSlice::from_slice(&bytes).ok();
            prop_assert_eq!(header_len(&bytes), oracle.as_ref().map(|o| usize::from(o.ihl()) * 4));
            if let Some(oracle) = oracle {
                prop_assert_eq!(total_length(&bytes), Some(oracle.total_len().into()));
                prop_assert_eq!(source(&bytes), Some(oracle.source_addr()));
                prop_assert_eq!(destination(&bytes), Some(oracle.destination_addr()));
                prop_assert_eq!(protocol(&bytes), Some(oracle.protocol().0));
                let word = fragment(&bytes).unwrap();
                prop_assert_eq!(word & DONT_FRAGMENT != 0, oracle.dont_fragment());
                prop_assert_eq!(word & MORE_FRAGMENTS != 0, oracle.more_fragments());
                prop_assert_eq!(word & OFFSET_MASK, oracle.fragments_offset().value());
                let checksum = oracle.to_header().calc_header_checksum();
                prop_assert!(write_checksum(&mut bytes));
                prop_assert_eq!(get_u16(&bytes, CHECKSUM), Some(checksum));
            } else {
                prop_assert!(!write_checksum(&mut bytes));
            }
        }
    }

    #[test]
    fn a_header_that_does_not_fit_is_not_written() {
        let header = Header {
            source: Ipv4Addr::LOCALHOST,
            destination: Ipv4Addr::LOCALHOST,
            protocol: 6,
            ttl: 64,
            tos: 0,
        };
        assert!(!header.write(&mut [0; 19], 0));
        assert!(!header.write(&mut [0; 20], 65_516));
    }
}
