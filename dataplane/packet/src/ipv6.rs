//! IPv6 headers (RFC 8200, section 3) and the walk over extension headers (section 4). Offsets and
//! accessors count from the first byte of the fixed header; accessors answer `None` for a slice
//! that is too short and check nothing else.

use std::net::Ipv6Addr;

use crate::field::{get, get_u16, put};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;
/// Offset of the payload length: extension headers and upper layer in bytes.
pub const PAYLOAD_LENGTH: usize = 4;
/// Offset of the number of the next header.
pub const NEXT_HEADER: usize = 6;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// Offset of the source address.
pub const SOURCE: usize = 8;
/// Offset of the destination address.
pub const DESTINATION: usize = 24;

/// Every node on the link (RFC 4291, section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Extension headers walked at most.
const MAX_EXTENSIONS: usize = 8;

/// Source address.
#[must_use]
pub fn source(packet: &[u8]) -> Option<Ipv6Addr> {
    get::<16>(packet, SOURCE).map(Ipv6Addr::from)
}

/// Destination address.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<Ipv6Addr> {
    get::<16>(packet, DESTINATION).map(Ipv6Addr::from)
}

/// Payload length: everything behind the fixed header, in bytes.
#[must_use]
pub fn payload_length(packet: &[u8]) -> Option<usize> {
    get_u16(packet, PAYLOAD_LENGTH).map(usize::from)
}

/// The multicast group in which the owner of `address` listens for solicitations (RFC 4291,
/// section 2.7.1): ff02::1:ff00:0/104 and the last 24 bits.
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_bits(
        0xff02_0000_0000_0000_0000_0001_ff00_0000
            | (a as u128) << 16
            | (b as u128) << 8
            | c as u128,
    )
}

/// What the chain of headers leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// Number of the upper-layer protocol.
    pub protocol: u8,
    /// Where it starts, from the fixed header.
    pub at: usize,
    /// Flags and offset of the fragment header, if there is one: offset in units of 8 bytes in
    /// the upper 13 bits, more-fragments in the lowest.
    pub fragment: Option<u16>,
}

impl Upper {
    /// Whether this is a fragment other than the first: no upper-layer header starts at `at`.
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some(word) if word & 0xfff8 != 0)
    }
}

/// Walks hop-by-hop (0), routing (43), fragment (44) and destination options (60). `None` if the
/// packet ends inside them, or there are more than eight. A later fragment ends the walk: behind
/// it is payload.
#[must_use]
pub fn upper(packet: &[u8]) -> Option<Upper> {
    let [protocol] = get(packet, NEXT_HEADER)?;
    let mut upper = Upper {
        protocol,
        at: HEADER,
        fragment: None,
    };
    for _ in 0..=MAX_EXTENSIONS {
        match upper.protocol {
            0 | 43 | 60 => {
                let [next, length] = get(packet, upper.at)?;
                upper.protocol = next;
                upper.at += (usize::from(length) + 1) * 8;
            }
            44 => {
                let [next, _, high, low] = get(packet, upper.at)?;
                upper.protocol = next;
                upper.fragment = Some(u16::from_be_bytes([high, low]) & 0xfff9);
                upper.at += 8;
            }
            _ => return (upper.at <= packet.len()).then_some(upper),
        }
        if upper.is_later_fragment() {
            return (upper.at <= packet.len()).then_some(upper);
        }
    }
    None
}

/// A fixed header to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Number of the next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
}

impl Header {
    /// Writes [`HEADER`] bytes in front of `payload_len` bytes; false if `packet` is shorter than a
    /// header or the payload longer than 65,535 bytes.
    pub fn write(&self, packet: &mut [u8], payload_len: usize) -> bool {
        let Ok(payload_len) = u16::try_from(payload_len) else {
            return false;
        };
        let mut header = [0; HEADER];
        header[0] = 0x60;
        header[PAYLOAD_LENGTH..][..2].copy_from_slice(&payload_len.to_be_bytes());
        header[NEXT_HEADER] = self.next_header;
        header[HOP_LIMIT] = self.hop_limit;
        header[SOURCE..][..16].copy_from_slice(&self.source.octets());
        header[DESTINATION..][..16].copy_from_slice(&self.destination.octets());
        put(packet, 0, &header).is_some()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, Ipv6Header};
    use proptest::prelude::*;

    use super::*;

    fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
            next_header: next,
            hop_limit: 64,
        };
        let mut packet = vec![0; HEADER];
        assert!(header.write(&mut packet, payload.len()));
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn the_example_of_rfc_4291_section_2_7_1() {
        let address = "4037::1:800:200e:8c6c".parse().unwrap();
        let group: Ipv6Addr = "ff02::1:ff0e:8c6c".parse().unwrap();
        assert_eq!(solicited_node(address), group);
    }

    #[test]
    fn the_walk_over_extension_headers() {
        let at = |next, payload: &[u8]| upper(&packet(next, payload)).map(|u| (u.protocol, u.at));
        assert_eq!(at(6, &[]), Some((6, 40)));
        assert_eq!(at(60, &[17, 0, 0, 0, 0, 0, 0, 0]), Some((17, 48)));
        assert_eq!(at(60, &[17, 1, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(at(60, &[]), None);
        let hop_and_destination = [60, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(at(0, &hop_and_destination), Some((58, 56)));
        assert_eq!(at(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(9)), None);
    }

    #[test]
    fn fragments_first_and_later() {
        let first = upper(&packet(44, &[6, 0, 0, 1, 0, 0, 0, 9])).unwrap();
        assert_eq!((first.protocol, first.at, first.fragment), (6, 48, Some(1)));
        assert!(!first.is_later_fragment());
        // Payload that looks like an extension header is not walked.
        let later = upper(&packet(44, &[60, 0, 0, 8, 0, 0, 0, 9])).unwrap();
        assert_eq!((later.protocol, later.at), (60, 48));
        assert!(later.is_later_fragment());
    }

    proptest! {
        #[test]
        fn headers_are_those_that_another_writer_writes(
            source in any::<[u8; 16]>(),
            destination in any::<[u8; 16]>(),
            (next_header, hop_limit, payload_length) in any::<(u8, u8, u16)>(),
        ) {
            let header = Header {
                source: source.into(),
                destination: destination.into(),
                next_header,
                hop_limit,
            };
            let mut bytes = [0xee; HEADER];
            prop_assert!(header.write(&mut bytes, payload_length.into()));
            let oracle = Ipv6Header {
                payload_length,
                next_header: IpNumber(next_header),
                hop_limit,
                source,
                destination,
                ..Ipv6Header::default()
            };
            prop_assert_eq!(bytes, oracle.to_bytes());
            prop_assert_eq!(super::source(&bytes), Some(header.source));
            prop_assert_eq!(super::destination(&bytes), Some(header.destination));
            prop_assert_eq!(super::payload_length(&bytes), Some(payload_length.into()));
        }

        #[test]
        fn any_bytes_are_walked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(upper) = upper(&bytes) {
                prop_assert!(upper.at >= HEADER && upper.at <= bytes.len());
            }
        }
    }
}
