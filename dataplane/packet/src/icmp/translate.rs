//! Translating a received ICMP error on its way to the host that it concerns (RFC 5508 section 4.2):
//! outer addresses, the quoted packet's addresses and ports, and every checksum in between.

use std::net::IpAddr;

use crate::checksum::{self, Delta};
use crate::field::{get, get_u16, put, put_u16};
use crate::parse::{ICMP, ICMPV6, Parsed, TCP, UDP};
use crate::tuple::Tuple;
use crate::{ipv4, ipv6};

use super::{CHECKSUM, ReceivedError};

/// Offset of TCP's checksum in its header.
const TCP_CHECKSUM: usize = 16;
/// Offset of UDP's checksum in its header.
const UDP_CHECKSUM: usize = 6;

/// Ports of the packet that `error` quotes, with its addresses and protocol: its tuple. `None` if
/// the quotation is malformed.
#[must_use]
pub fn quoted_tuple(bytes: &[u8], error: &ReceivedError) -> Option<Tuple> {
    let packet = bytes.get(error.l3..error.end)?;
    let (source, destination) = addresses(packet)?;
    Some(Tuple {
        source,
        destination,
        source_port: get_u16(bytes, error.l4)?,
        destination_port: get_u16(bytes, error.l4 + 2)?,
        protocol: error.protocol,
    })
}

/// Gives the error the outer addresses `outer` (source, destination) and a hop less, and makes the
/// quoted packet the one that `quoted` names. The quoted packet's checksums change by what its
/// tuple changes, so a quotation cut short stays as right as it came. False, and the frame
/// unspecified, if addresses of two families are mixed or the frame is malformed.
///
/// SCTP's checksum covers the whole packet, which is not there: it stays as it came.
#[must_use]
pub fn translate_error(
    bytes: &mut [u8],
    parsed: &Parsed,
    error: &ReceivedError,
    outer: (IpAddr, IpAddr),
    quoted: &Tuple,
) -> bool {
    try_translate(bytes, parsed, error, outer, quoted).is_some()
}

fn try_translate(
    bytes: &mut [u8],
    parsed: &Parsed,
    error: &ReceivedError,
    outer: (IpAddr, IpAddr),
    quoted: &Tuple,
) -> Option<()> {
    let was = quoted_tuple(bytes, error)?;
    let addresses = address_delta(was.source, quoted.source)?
        .combine(address_delta(was.destination, quoted.destination)?);
    let ports = Delta::of_u16(was.source_port, quoted.source_port)
        .combine(Delta::of_u16(was.destination_port, quoted.destination_port));

    let packet = bytes.get_mut(error.l3..error.end)?;
    put_addresses(packet, quoted.source, quoted.destination)?;
    if quoted.source.is_ipv4() {
        let checksum = get_u16(packet, ipv4::CHECKSUM)?;
        put_u16(packet, ipv4::CHECKSUM, addresses.apply(checksum))?;
    }
    let segment = bytes.get_mut(error.l4..error.end)?;
    put_u16(segment, 0, quoted.source_port)?;
    put_u16(segment, 2, quoted.destination_port)?;
    let change = addresses.combine(ports);
    match error.protocol {
        TCP => {
            if let Some(checksum) = get_u16(segment, TCP_CHECKSUM) {
                put_u16(segment, TCP_CHECKSUM, change.apply(checksum))?;
            }
        }
        UDP => {
            let checksum = get_u16(segment, UDP_CHECKSUM)?;
            put_u16(segment, UDP_CHECKSUM, change.apply_udp(checksum))?;
        }
        _ => {}
    }

    let packet = bytes.get_mut(parsed.l3()..parsed.end())?;
    put_addresses(packet, outer.0, outer.1)?;
    if outer.0.is_ipv4() {
        put(packet, ipv4::TTL, &[parsed.ttl.checked_sub(1)?])?;
        ipv4::write_checksum(packet).then_some(())?;
    } else {
        put(packet, ipv6::HOP_LIMIT, &[parsed.ttl.checked_sub(1)?])?;
    }
    let message = bytes.get_mut(parsed.l4()..parsed.end())?;
    put_u16(message, CHECKSUM, 0)?;
    let protocol = if outer.0.is_ipv4() { ICMP } else { ICMPV6 };
    let pseudo = checksum::pseudo(outer.0, outer.1, protocol, message.len())?;
    let sum = checksum::sum(message) + pseudo;
    put_u16(message, CHECKSUM, checksum::finish(sum))
}

fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match get::<1>(packet, 0)?[0] >> 4 {
        4 => Some((
            ipv4::source(packet)?.into(),
            ipv4::destination(packet)?.into(),
        )),
        6 => Some((
            ipv6::source(packet)?.into(),
            ipv6::destination(packet)?.into(),
        )),
        _ => None,
    }
}

fn put_addresses(packet: &mut [u8], source: IpAddr, destination: IpAddr) -> Option<()> {
    let version = get::<1>(packet, 0)?[0] >> 4;
    match (version, source, destination) {
        (4, IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(packet, ipv4::SOURCE, &source.octets())?;
            put(packet, ipv4::DESTINATION, &destination.octets())
        }
        (6, IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(packet, ipv6::SOURCE, &source.octets())?;
            put(packet, ipv6::DESTINATION, &destination.octets())
        }
        _ => None,
    }
}

fn address_delta(old: IpAddr, new: IpAddr) -> Option<Delta> {
    match (old, new) {
        (IpAddr::V4(old), IpAddr::V4(new)) => Some(Delta::of_u32(old.to_bits(), new.to_bits())),
        (IpAddr::V6(old), IpAddr::V6(new)) => Some(Delta::of_u128(old.to_bits(), new.to_bits())),
        _ => None,
    }
}
