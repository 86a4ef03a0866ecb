//! Neighbour discovery (RFC 4861): parse solicitations and advertisements, answer, ask, announce.
//!
//! | offset | bytes | field of both messages |
//! |---|---|---|
//! | 0 | 1 | type: 135 solicitation, 136 advertisement |
//! | 1 | 1 | code: 0 |
//! | 2 | 2 | checksum |
//! | 4 | 4 | advertisement: flags router, solicited, override in the top three bits |
//! | 8 | 16 | target address |
//! | 24 | | options: type, length in units of 8 bytes, value |

use std::net::Ipv6Addr;

use crate::answer::start_frame;
use crate::buffer::Buffer;
use crate::checksum::{self, Checksum};
use crate::ethernet::{self, Mac};
use crate::field::{get, put};
use crate::ipv6;
use crate::parse::ICMPV6;

/// ICMPv6 type of a solicitation.
pub const SOLICITATION: u8 = 135;
/// ICMPv6 type of an advertisement.
pub const ADVERTISEMENT: u8 = 136;

/// Fixed part, and one link-layer address option.
const FIXED: usize = 24;
const LEN: usize = FIXED + 8;

const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A hop limit that no router has decremented: the sender is on the link.
const HOP_LIMIT: u8 = 255;

/// Why a message is not believed (RFC 4861, sections 7.1.1 and 7.1.2: silently discard).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NdpError {
    /// Neither solicitation nor advertisement.
    OtherType,
    /// The hop limit is not 255: it may come from beyond the link.
    HopLimit,
    /// Wrong checksum.
    Checksum,
    /// Too short, code not 0, target or addresses not allowed, an option of length 0 or too long.
    Malformed,
}

/// Who has the target's address?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Solicitation {
    /// Who asks; `::` looks for a duplicate of an address that it wants itself (RFC 4862, 5.4).
    pub source: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// The MAC of who asks, from the source link-layer address option.
    pub source_mac: Option<Mac>,
}

/// The sender has the target's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Advertisement {
    /// The address that is spoken of.
    pub target: Ipv6Addr,
    /// Its MAC, from the target link-layer address option; may be absent from an answer to a
    /// solicitation sent to one host.
    pub target_mac: Option<Mac>,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation; a proof that the neighbour is reachable.
    pub solicited: bool,
    /// A known MAC is to be replaced.
    pub override_known: bool,
}

/// A neighbour discovery message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// Type 135.
    Solicitation(Solicitation),
    /// Type 136.
    Advertisement(Advertisement),
}

/// Reads the message in a frame whose IPv6 header is at `l3`, its ICMPv6 header at `l4` and its
/// packet's end at `end`.
///
/// # Errors
///
/// [`NdpError`] names the rule that the message breaks.
pub fn parse(bytes: &[u8], l3: usize, l4: usize, end: usize) -> Result<Message, NdpError> {
    use NdpError::Malformed;
    let packet = bytes.get(l3..end).ok_or(Malformed)?;
    let message = bytes.get(l4..end).ok_or(Malformed)?;
    let [kind, code] = get(message, 0).ok_or(Malformed)?;
    if kind != SOLICITATION && kind != ADVERTISEMENT {
        return Err(NdpError::OtherType);
    }
    let source = ipv6::source(packet).ok_or(Malformed)?;
    let destination = ipv6::destination(packet).ok_or(Malformed)?;
    if packet.get(ipv6::HOP_LIMIT) != Some(&HOP_LIMIT) {
        return Err(NdpError::HopLimit);
    }
    let pseudo = checksum::pseudo_v6(source, destination, ICMPV6, message.len());
    if checksum::verify_l4(message, pseudo, ICMPV6) != Checksum::Good {
        return Err(NdpError::Checksum);
    }
    let target: Ipv6Addr = get::<16>(message, 8).ok_or(Malformed)?.into();
    if code != 0 || target.is_multicast() || source.is_multicast() {
        return Err(Malformed);
    }
    let options = message.get(FIXED..).ok_or(Malformed)?;
    let wanted = if kind == SOLICITATION {
        SOURCE_LINK
    } else {
        TARGET_LINK
    };
    let mac = link_address(options, wanted)?;
    if kind == SOLICITATION {
        // Looking for a duplicate: to the group of the address, and without a MAC.
        let group = ipv6::solicited_node(target);
        if source.is_unspecified() && (destination != group || mac.is_some()) {
            return Err(Malformed);
        }
        return Ok(Message::Solicitation(Solicitation {
            source,
            target,
            source_mac: mac,
        }));
    }
    let [flags] = get(message, 4).ok_or(Malformed)?;
    if destination.is_multicast() && flags & SOLICITED != 0 {
        return Err(Malformed);
    }
    Ok(Message::Advertisement(Advertisement {
        target,
        target_mac: mac,
        router: flags & ROUTER != 0,
        solicited: flags & SOLICITED != 0,
        override_known: flags & OVERRIDE != 0,
    }))
}

/// The MAC in the first option of type `wanted`. Other types are skipped (RFC 4861, section 4.6);
/// a group or zero is no neighbour's MAC.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, NdpError> {
    let mut found = None;
    while !options.is_empty() {
        let [kind, units] = get(options, 0).ok_or(NdpError::Malformed)?;
        let len = usize::from(units) * 8;
        if len == 0 || len > options.len() {
            return Err(NdpError::Malformed);
        }
        if kind == wanted && len == 8 && found.is_none() {
            let mac = get(options, 2).map(Mac).filter(|mac| mac.is_station());
            found = Some(mac.ok_or(NdpError::Malformed)?);
        }
        options = options.get(len..).unwrap_or_default();
    }
    Ok(found)
}

/// Turns the frame that `solicitation` was parsed from into the advertisement that says: `our_mac`
/// has the target's address (RFC 4861, section 7.2.4). Whether it has is the caller's business.
///
/// Flags: router, because the gateway forwards; override, because the address is its own; solicited,
/// unless the asker has no address yet, in which case the answer goes to all nodes. False, and the
/// frame unchanged, if its buffer has no room.
pub fn answer(
    frame: &mut impl Buffer,
    l3: usize,
    solicitation: &Solicitation,
    our_mac: Mac,
) -> bool {
    let Some(asker) = ethernet::source(frame.bytes()) else {
        return false;
    };
    let len = l3 + ipv6::HEADER + LEN;
    if l3 < ethernet::l3(None) || !frame.is_contiguous() || !frame.set_len(len) {
        return false;
    }
    let (to, to_mac, flags) = if solicitation.source.is_unspecified() {
        let group = ipv6::ALL_NODES;
        (group, Mac::of_group(group), ROUTER | OVERRIDE)
    } else {
        let mac = solicitation.source_mac.unwrap_or(asker);
        (solicitation.source, mac, ROUTER | SOLICITED | OVERRIDE)
    };
    let bytes = frame.bytes_mut();
    ethernet::set_addresses(bytes, to_mac, our_mac);
    bytes.get_mut(l3..).is_some_and(|packet| {
        let target = solicitation.target;
        let message = message(ADVERTISEMENT, flags, target, our_mac);
        write_packet(packet, target, to, message).is_some()
    })
}

/// Writes a solicitation for `target` into a fresh buffer, tagged if `vlan` is given; false if it
/// has no room. `to` is `None` to ask the target's group, or a known neighbour's MAC to ask whether
/// it is still there (RFC 4861, section 7.2.2).
pub fn write_solicitation(
    frame: &mut impl Buffer,
    vlan: Option<u16>,
    (our_mac, our_ip): (Mac, Ipv6Addr),
    to: Option<Mac>,
    target: Ipv6Addr,
) -> bool {
    let (destination, mac) = match to {
        Some(mac) => (target, mac),
        None => {
            let group = ipv6::solicited_node(target);
            (group, Mac::of_group(group))
        }
    };
    let message = message(SOLICITATION, 0, target, our_mac);
    write_frame(frame, vlan, (mac, our_mac), (our_ip, destination), message)
}

/// Writes an unsolicited advertisement of `our_ip` to all nodes into a fresh buffer, for when the
/// address moves to another MAC (RFC 4861, section 7.2.6); false if it has no room.
pub fn write_announcement(
    frame: &mut impl Buffer,
    vlan: Option<u16>,
    (our_mac, our_ip): (Mac, Ipv6Addr),
) -> bool {
    let group = ipv6::ALL_NODES;
    let macs = (Mac::of_group(group), our_mac);
    let message = message(ADVERTISEMENT, ROUTER | OVERRIDE, our_ip, our_mac);
    write_frame(frame, vlan, macs, (our_ip, group), message)
}

/// A message with the link-layer address option of its type; checksum zero.
fn message(kind: u8, flags: u8, target: Ipv6Addr, our_mac: Mac) -> [u8; LEN] {
    let mut message = [0; LEN];
    message[0] = kind;
    message[4] = flags;
    message[8..FIXED].copy_from_slice(&target.octets());
    message[FIXED] = if kind == SOLICITATION {
        SOURCE_LINK
    } else {
        TARGET_LINK
    };
    message[FIXED + 1] = 1;
    message[FIXED + 2..].copy_from_slice(&our_mac.0);
    message
}

fn write_frame(
    frame: &mut impl Buffer,
    vlan: Option<u16>,
    macs: (Mac, Mac),
    (source, destination): (Ipv6Addr, Ipv6Addr),
    message: [u8; LEN],
) -> bool {
    start_frame(frame, macs, vlan, ethernet::IPV6, ipv6::HEADER + LEN)
        .and_then(|packet| write_packet(packet, source, destination, message))
        .is_some()
}

fn write_packet(
    packet: &mut [u8],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mut message: [u8; LEN],
) -> Option<()> {
    let header = ipv6::Header {
        source,
        destination,
        next_header: ICMPV6,
        hop_limit: HOP_LIMIT,
    };
    header.write(packet, LEN).then_some(())?;
    let pseudo = checksum::pseudo_v6(source, destination, ICMPV6, LEN);
    checksum::write_l4(&mut message, pseudo, ICMPV6).then_some(())?;
    put(packet, ipv6::HEADER, &message)
}

#[cfg(test)]
mod tests;
