//! Tuples as the flow table's keys: whole 64-bit words, compared at once.
//!
//! | family | words |
//! |---|---|
//! | IPv4 | source ‖ destination; source port ‖ destination port ‖ protocol (32 bits) |
//! | IPv6 | source (2); destination (2); source port ‖ destination port ‖ protocol (32 bits) |
//!
//! Words are big-endian readings of the frame's bytes, so a tuple's parts come out by shifts and the
//! rewrite stores them back as they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::parse::Parsed;

/// Key words of an IPv4 tuple.
pub type Words4 = [u64; 2];
/// Key words of an IPv6 tuple.
pub type Words6 = [u64; 5];

/// Source port in the high half, destination port in the low half, of the 32 bits both share.
pub type Ports = u32;

/// Both ports with their places exchanged.
#[must_use]
#[inline]
pub const fn swap_ports(ports: Ports) -> Ports {
    ports.rotate_left(16)
}

/// A tuple for people and for the slow path: addresses of one family, ports in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// Source address and port.
    #[must_use]
    pub const fn from(&self) -> SocketAddr {
        SocketAddr::new(self.source, self.source_port)
    }

    /// Destination address and port.
    #[must_use]
    pub const fn to(&self) -> SocketAddr {
        SocketAddr::new(self.destination, self.destination_port)
    }
}

/// Key of a parsed IPv4 frame with a transport that has ports.
#[must_use]
#[inline(always)]
pub fn words4(bytes: &[u8], parsed: &Parsed) -> Words4 {
    let (l3, l4) = (parsed.l3(), parsed.l4());
    [word(bytes, l3 + 12), ports_word(bytes, l4, parsed.protocol)]
}

/// Key of a parsed IPv6 frame with a transport that has ports.
#[must_use]
#[inline(always)]
pub fn words6(bytes: &[u8], parsed: &Parsed) -> Words6 {
    let (l3, l4) = (parsed.l3(), parsed.l4());
    [
        word(bytes, l3 + 8),
        word(bytes, l3 + 16),
        word(bytes, l3 + 24),
        word(bytes, l3 + 32),
        ports_word(bytes, l4, parsed.protocol),
    ]
}

/// Source and destination of a parsed frame of either family (no ports).
#[must_use]
pub fn addresses(bytes: &[u8], parsed: &Parsed) -> Option<(IpAddr, IpAddr)> {
    let packet = bytes.get(parsed.l3()..)?;
    match packet.first()? >> 4 {
        4 => {
            let raw: &[u8; 8] = packet.get(12..)?.first_chunk()?;
            let [a, b, c, d, e, f, g, h] = *raw;
            Some((
                Ipv4Addr::new(a, b, c, d).into(),
                Ipv4Addr::new(e, f, g, h).into(),
            ))
        }
        6 => {
            let source: &[u8; 16] = packet.get(8..)?.first_chunk()?;
            let destination: &[u8; 16] = packet.get(24..)?.first_chunk()?;
            Some((
                Ipv6Addr::from(*source).into(),
                Ipv6Addr::from(*destination).into(),
            ))
        }
        _ => None,
    }
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(raw)
}

#[inline(always)]
fn ports_word(bytes: &[u8], l4: usize, protocol: u8) -> u64 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[l4..l4 + 4]);
    (u64::from(u32::from_be_bytes(raw)) << 32) | u64::from(protocol)
}
