//! What all frames have in common that go back to the sender of a received one.

use std::fmt;
use std::net::IpAddr;

use crate::buffer::Buffer;
use crate::ethernet::{self, Mac};
use crate::field::get_u16;
use crate::{ipv4, ipv6};

/// TTL and hop limit of packets that the gateway itself sends (RFC 1122, section 3.2.1.7: at least
/// the Internet's diameter; the value that IANA recommends).
pub const TTL: u8 = 64;

/// Why a received frame gets no answer. The frame is then unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Shorter than its headers, or not the message that the answer is for.
    Malformed,
    /// Its source cannot be answered or its destination is a group: unspecified, loopback,
    /// multicast or broadcast, in the IP or the Ethernet header (RFC 1122, section 3.2.2;
    /// RFC 4443, section 2.4 (e)).
    NotUnicast,
    /// A fragment other than the first (RFC 1122, section 3.2.2), or any fragment where the answer
    /// needs the whole packet.
    Fragment,
    /// An ICMP error, a redirect, or a type that could be one (RFC 1122, section 3.2.2).
    IcmpError,
    /// A TCP reset (RFC 9293, section 3.10.7.1).
    Reset,
    /// Its checksum is wrong: whoever sent it did not send this.
    BadChecksum,
    /// The buffer has no room for the answer, or several segments.
    NoRoom,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "malformed",
            Self::NotUnicast => "not from and to single hosts",
            Self::Fragment => "a fragment",
            Self::IcmpError => "an ICMP error",
            Self::Reset => "a TCP reset",
            Self::BadChecksum => "wrong checksum",
            Self::NoRoom => "no room for the answer in its buffer",
        })
    }
}

impl std::error::Error for Refusal {}

/// Source and destination of a packet that may be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Ends {
    /// Reads and judges the addresses of the frame whose IP header is at `l3`.
    pub(crate) fn read(frame: &impl Buffer, l3: usize, end: usize) -> Result<Self, Refusal> {
        if !frame.is_contiguous() {
            return Err(Refusal::NoRoom);
        }
        let bytes = frame.bytes();
        if l3 < ethernet::l3(None) {
            return Err(Refusal::Malformed);
        }
        let packet = bytes.get(l3..end).ok_or(Refusal::Malformed)?;
        let ethertype = get_u16(bytes, l3 - 2).ok_or(Refusal::Malformed)?;
        let ends = Self::of_packet(packet, ethertype).ok_or(Refusal::Malformed)?;
        let to = ethernet::destination(bytes).ok_or(Refusal::Malformed)?;
        let from = ethernet::source(bytes).ok_or(Refusal::Malformed)?;
        let answerable = from.is_station()
            && !to.is_multicast()
            && is_host(ends.source)
            && !is_group(ends.destination);
        answerable.then_some(ends).ok_or(Refusal::NotUnicast)
    }

    fn of_packet(packet: &[u8], ethertype: u16) -> Option<Self> {
        match (ethertype, packet.first()? >> 4) {
            (ethernet::IPV4, 4) => Some(Self {
                source: ipv4::source(packet)?.into(),
                destination: ipv4::destination(packet)?.into(),
            }),
            (ethernet::IPV6, 6) => Some(Self {
                source: ipv6::source(packet)?.into(),
                destination: ipv6::destination(packet)?.into(),
            }),
            _ => None,
        }
    }
}

/// Whether the address can belong to one host elsewhere: an answer may go there.
fn is_host(address: IpAddr) -> bool {
    let reserved = match address {
        // 0/8 is "this network"; 240/4 is reserved and ends with the broadcast address.
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    !reserved && !address.is_loopback() && !address.is_multicast()
}

fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

/// Length of the plain header in front of an answer to `to`.
pub(crate) const fn header_len(to: IpAddr) -> usize {
    match to {
        IpAddr::V4(_) => ipv4::HEADER,
        IpAddr::V6(_) => ipv6::HEADER,
    }
}

/// Writes a plain IP header at the start of `packet`, whose rest is the payload.
pub(crate) fn write_header(
    packet: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    tos: u8,
) -> Option<()> {
    let payload_len = packet.len().checked_sub(header_len(destination))?;
    let written = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Header {
            source,
            destination,
            protocol,
            ttl: TTL,
            tos,
        }
        .write(packet, payload_len),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6::Header {
            source,
            destination,
            next_header: protocol,
            hop_limit: TTL,
        }
        .write(packet, payload_len),
        _ => false,
    };
    written.then_some(())
}

/// Writes the Ethernet header of a frame that the gateway starts itself and sets its length to that
/// and `len` more bytes, which keep unspecified content: the caller writes them all.
pub(crate) fn start_frame(
    frame: &mut impl Buffer,
    (to, from): (Mac, Mac),
    vlan: Option<u16>,
    ethertype: u16,
    len: usize,
) -> Option<&mut [u8]> {
    frame.set_len(ethernet::l3(vlan) + len).then_some(())?;
    let bytes = frame.bytes_mut();
    let l3 = ethernet::write_header(bytes, to, from, vlan, ethertype)?;
    bytes.get_mut(l3..)
}
