//! The steps of an input.
//!
//! The first byte of a step says what is done (bits 0–3), by which worker (bit 4) and whether its frames wait
//! for the next ones, to go in one burst (bit 5); bit 6 keeps the checksums of its frame as they are, bit 7
//! cuts it into fragments.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use hugepages::object::Protocol;
use packet::build::{FrameSpec, Transport};
use packet::ethernet::Mac;
use packet::icmp;
use packet::memory::HeapBuffer;
use packet::parse::{Network, parse};
use packet::{Buffer, Burst};

use super::frame::Frame;
use super::gateway::{Gateway, WORKERS};
use super::world;
use crate::checksum;
use crate::input::Input;

/// Steps of an input that are looked at.
const STEPS: usize = 24;

/// How far the clock moves, in seconds.
const MOVES: [u32; 12] = [0, 1, 2, 3, 6, 11, 31, 61, 121, 301, 1801, 90_000];

/// Frames of a burst to be, all of one link and for one worker.
#[derive(Debug, Default)]
struct Pending {
    frames: Burst<Frame>,
    link: usize,
    worker: usize,
}

/// What the next frames are like.
#[derive(Debug, Clone, Copy)]
struct Style {
    worker: usize,
    holds: bool,
    keeps: bool,
    cuts: bool,
    headroom: usize,
    is_contiguous: bool,
}

/// Runs the steps of an input.
pub fn run(gateway: &mut Gateway, bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut pending = Pending::default();
    let mut previous = (0, Vec::new());
    let (mut headroom, mut is_contiguous) = (128, true);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let step = input.byte();
        let style = Style {
            worker: usize::from(step >> 4 & 1) % WORKERS,
            holds: step & 0x20 != 0,
            keeps: step & 0x40 != 0,
            cuts: step & 0x80 != 0,
            headroom,
            is_contiguous,
        };
        let frame = match step & 0xf {
            0..=2 => Some(request(&mut input)),
            3 | 4 => answer(gateway, &mut input),
            5 => Some(raw(&mut input)),
            6 => again(&previous, &mut input),
            7 => error(gateway, &mut input),
            8 => {
                flush(gateway, &mut pending);
                tick(gateway, style.worker, &mut input);
                None
            }
            9 => {
                flush(gateway, &mut pending);
                gateway.publish(input.below(world::VARIANTS));
                None
            }
            10 => {
                neighbours(gateway, &mut input);
                None
            }
            11 => {
                flush(gateway, &mut pending);
                match input.below(3) {
                    0 => gateway.sweep(),
                    1 => gateway.is_choked = !gateway.is_choked,
                    _ => gateway.pool.left = usize::from(input.byte() & 7),
                }
                None
            }
            12 => {
                let how = input.byte();
                headroom = usize::from(how & 0x7f);
                is_contiguous = how & 0x80 == 0;
                None
            }
            13 => Some(echo(&mut input)),
            14 => Some(question(&mut input)),
            _ => {
                let (link, frame) = previous.clone();
                (!frame.is_empty()).then_some((link, frame))
            }
        };
        if let Some((link, frame)) = frame {
            previous = (link, frame.clone());
            give(gateway, &mut pending, link, frame, style, &mut input);
        }
    }
    flush(gateway, &mut pending);
}

/// Puts a frame, or its fragments, into the burst to be.
fn give(
    gateway: &mut Gateway,
    pending: &mut Pending,
    link: usize,
    mut frame: Vec<u8>,
    style: Style,
    input: &mut Input<'_>,
) {
    frame.truncate(1800);
    if !style.keeps {
        checksum::set(&mut frame);
    }
    if style.cuts {
        let how = input.byte();
        let mut pieces = fragments(&frame, 8 * (1 + usize::from(how & 0xf)));
        if how & 0x10 != 0 {
            pieces.reverse();
        }
        let turn = usize::from(how >> 5) % pieces.len().max(1);
        pieces.rotate_left(turn);
        for piece in pieces {
            push(gateway, pending, link, &piece, style);
        }
    } else {
        push(gateway, pending, link, &frame, style);
    }
    if !style.holds {
        flush(gateway, pending);
    }
}

fn push(gateway: &mut Gateway, pending: &mut Pending, link: usize, bytes: &[u8], style: Style) {
    if pending.frames.is_full() || (pending.link, pending.worker) != (link, style.worker) {
        flush(gateway, pending);
    }
    (pending.link, pending.worker) = (link, style.worker);
    let frame = Frame::new(bytes, style.headroom, style.is_contiguous);
    pending.frames.push(frame);
}

fn flush(gateway: &mut Gateway, pending: &mut Pending) {
    if !pending.frames.is_empty() {
        gateway.put(pending.worker, pending.link, &mut pending.frames);
    }
}

fn tick(gateway: &mut Gateway, worker: usize, input: &mut Input<'_>) {
    let how = input.byte();
    let seconds = MOVES[usize::from(how & 0x3f) % MOVES.len()];
    if how & 0x80 != 0 && seconds == MOVES[9] {
        // The clock of another boot, earlier than what the tables say.
        gateway.restart(gateway.second.saturating_sub(seconds));
    } else {
        gateway.second += seconds;
    }
    gateway.upkeep(worker, if how & 0x40 != 0 { 1 } else { 64 });
}

fn neighbours(gateway: &Gateway, input: &mut Input<'_>) {
    let (which, last) = (input.byte(), input.byte());
    if which == 0xff {
        gateway.forget_neighbours();
    } else {
        gateway.learn(usize::from(which), last);
    }
}

/// A frame from a client to a service, or to somebody else.
fn request(input: &mut Input<'_>) -> (usize, Vec<u8>) {
    let (who, what, flags, size) = (input.byte(), input.byte(), input.byte(), input.byte());
    let family = usize::from(who >> 7);
    let (link, addresses) = world::CLIENTS[usize::from(who & 7) % world::CLIENTS.len()];
    let port = 1000 + u16::from(who >> 3 & 0xf);
    let client = SocketAddr::new(world::ip(addresses[family]), port);
    let (protocol, service) = world::service(usize::from(what & 0x1f), family);
    let mut spec = match protocol {
        Protocol::Udp => FrameSpec::udp(client, service),
        Protocol::Sctp => FrameSpec::sctp(client, service),
        Protocol::Tcp | Protocol::Any => FrameSpec::tcp(client, service, flags & 0x3f),
    };
    match what >> 5 {
        1 => spec.ttl = flags & 3,
        2 => spec.ip_options = vec![1; usize::from(flags & 0x1f)],
        3 => spec.fragment = u16::from(flags) << 8 | u16::from(size),
        4 => spec.pad_to = 60,
        5 => spec.fragment = 0,
        6 => {
            if let Transport::Tcp { options, .. } = &mut spec.transport {
                *options = input.take(usize::from(size & 0x1f)).to_vec();
            }
        }
        7 => spec.destination.set_port(u16::from(size)),
        _ => {}
    }
    let length = if size >= 0xf0 {
        90 * usize::from(size & 0x1f)
    } else {
        usize::from(size)
    };
    spec.payload.resize(spec.payload.len() + length, size);
    (link, address(spec, link))
}

/// An echo request to an own address, or to a service's.
fn echo(input: &mut Input<'_>) -> (usize, Vec<u8>) {
    let (who, size) = (input.byte(), input.byte());
    let family = usize::from(who >> 7);
    let (link, addresses) = world::CLIENTS[usize::from(who & 7) % world::CLIENTS.len()];
    let (_, to) = world::service(usize::from(who >> 3 & 0xf), family);
    let mut spec = FrameSpec::echo(world::ip(addresses[family]), to.ip());
    spec.payload = vec![size; usize::from(size) * 2];
    spec.fragment = 0;
    (link, address(spec, link))
}

/// ARP and neighbour discovery: a request or an answer of a neighbour, about an address of the list.
fn question(input: &mut Input<'_>) -> (usize, Vec<u8>) {
    let (who, about, how) = (input.byte(), input.byte(), input.byte());
    let (link, from) = world::NEIGHBOURS[usize::from(who) % world::NEIGHBOURS.len()];
    let own = [
        "203.0.113.10",
        "2001:db8:1::10",
        "100.96.2.1",
        "fd00:100:96:2::1",
    ];
    let about = world::ip(own[usize::from(about) % own.len()]);
    let link = usize::from(link);
    let mac = [2, 0, 0, 0, link as u8 + 1, who];
    let frame = match (world::ip(from), about) {
        (IpAddr::V4(from), IpAddr::V4(about)) => {
            let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1 + (how & 1)];
            body.extend(mac);
            body.extend(from.octets());
            body.extend(world::LINK_MACS[link]);
            body.extend(about.octets());
            let mut frame = [world::LINK_MACS[link], mac].concat();
            if how & 2 != 0 {
                frame[..6].fill(0xff);
            }
            if let Some(id) = world::VLANS[link] {
                frame.extend([0x81, 0, 0, id as u8]);
            }
            frame.extend([8, 6]);
            frame.extend(body);
            frame
        }
        (from, about) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V6(v6) => v6.octets(),
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            };
            // Solicitation 135 asks about a target, advertisement 136 tells about it.
            let target = if how & 1 == 0 { about } else { from };
            let mut body = vec![135 + (how & 1), 0, 0, 0, how & 0xe0, 0, 0, 0];
            body.extend(octets(target));
            body.extend([1 + (how & 1), 1]);
            body.extend(mac);
            let (v6_from, v6_about) = (octets(from).into(), octets(about).into());
            let mut spec = FrameSpec::raw(IpAddr::V6(v6_from), IpAddr::V6(v6_about), 58, &body);
            spec.ttl = if how & 4 == 0 { 255 } else { 64 };
            address(spec, link)
        }
    };
    (link, frame)
}

/// Whoever got the gateway's last frame on a link answers it.
fn answer(gateway: &Gateway, input: &mut Input<'_>) -> Option<(usize, Vec<u8>)> {
    let (link, flags) = (input.below(3), input.byte());
    let mut frame = gateway.last[link].clone();
    let parsed = parse(&frame).ok()?;
    turn(&mut frame, 0, 6, 6);
    let l3 = usize::from(parsed.l3);
    match parsed.network {
        Network::V4 => turn(&mut frame, l3 + 12, l3 + 16, 4),
        Network::V6 => turn(&mut frame, l3 + 8, l3 + 24, 16),
        Network::Arp => return arp_answer(frame, link, l3),
    }
    let l4 = parsed.l4();
    match parsed.protocol {
        6 | 17 | 132 => turn(&mut frame, l4, l4 + 2, 2),
        // A neighbour solicitation becomes the advertisement of its target.
        58 if frame.get(l4) == Some(&135) => {
            frame[l4] = 136;
            frame[l4 + 4] = 0x60;
            let target: [u8; 16] = frame.get(l4 + 8..l4 + 24)?.try_into().ok()?;
            let (_, own) = frame.get(l3 + 8..l3 + 40)?.split_at(16);
            let own: [u8; 16] = own.try_into().ok()?;
            frame[l3 + 8..l3 + 24].copy_from_slice(&target);
            frame[l3 + 24..l3 + 40].copy_from_slice(&own);
            if let Some(kind) = frame.get_mut(l4 + 24) {
                *kind = 2;
            }
        }
        _ => {}
    }
    if parsed.protocol == 6 && flags & 0xc0 == 0 {
        frame[l4 + 13] = flags & 0x3f;
    }
    let ttl = l3 + if parsed.network == Network::V4 { 8 } else { 7 };
    frame[ttl] = frame[ttl].max(8);
    Some((link, frame))
}

fn arp_answer(mut frame: Vec<u8>, link: usize, l3: usize) -> Option<(usize, Vec<u8>)> {
    let asked: [u8; 4] = frame.get(l3 + 24..l3 + 28)?.try_into().ok()?;
    let (who, own) = (
        [2, 0, 0, 0, link as u8 + 1, asked[3]],
        world::LINK_MACS[link],
    );
    frame[..6].copy_from_slice(&own);
    frame[6..12].copy_from_slice(&who);
    frame[l3 + 7] = 2;
    let own_address: [u8; 4] = frame[l3 + 14..l3 + 18].try_into().ok()?;
    frame[l3 + 8..l3 + 14].copy_from_slice(&who);
    frame[l3 + 14..l3 + 18].copy_from_slice(&asked);
    frame[l3 + 18..l3 + 24].copy_from_slice(&own);
    frame[l3 + 24..l3 + 28].copy_from_slice(&own_address);
    Some((link, frame))
}

/// Any bytes, behind an Ethernet header for the link or without.
fn raw(input: &mut Input<'_>) -> (usize, Vec<u8>) {
    let (how, length) = (input.byte(), input.byte());
    let link = usize::from(how & 3) % 3;
    let mut frame = Vec::new();
    if how & 4 == 0 {
        frame.extend(world::LINK_MACS[link]);
        frame.extend([2, 0, 0, 0, link as u8 + 1, 0]);
        match how >> 3 & 3 {
            0 => frame.extend([0x08, 0x00]),
            1 => frame.extend([0x86, 0xdd]),
            2 => frame.extend([0x08, 0x06]),
            _ => frame.extend([0x81, 0x00, 0x00, how >> 5]),
        }
    }
    frame.extend(input.take(usize::from(length)));
    (link, frame)
}

/// The frame before with a byte changed, cut, or by another link.
fn again(previous: &(usize, Vec<u8>), input: &mut Input<'_>) -> Option<(usize, Vec<u8>)> {
    let (link, mut frame) = previous.clone();
    let (how, at, value) = (input.byte(), input.byte(), input.byte());
    let at = usize::from(at);
    if at < frame.len() {
        match how & 7 {
            0..=2 => frame[at] = value,
            3 => frame[at] ^= 1 << (value & 7),
            4 => frame.truncate(at),
            5 => frame.resize(frame.len() + usize::from(value), at as u8),
            6 => {
                frame.remove(at);
            }
            _ => frame.insert(at, value),
        }
    }
    let link = if how & 8 != 0 {
        usize::from(how >> 4) % 3
    } else {
        link
    };
    (!frame.is_empty()).then_some((link, frame))
}

/// A router behind a link reports that the gateway's last frame there did not get through.
fn error(gateway: &Gateway, input: &mut Input<'_>) -> Option<(usize, Vec<u8>)> {
    let (link, why, cut) = (input.below(3), input.byte(), input.byte());
    let about = &gateway.last[link];
    let parsed = parse(about).ok()?;
    let mut frame = HeapBuffer::from_bytes(about);
    let family = usize::from(parsed.network != Network::V4);
    let router = world::ip(
        [
            ["203.0.113.1", "2001:db8:1::1"],
            ["100.96.2.2", "fd00:100:96:2::2"],
            ["198.51.100.9", "2001:db8:7::9"],
        ][link][family],
    );
    let reason = match why % 6 {
        0 => icmp::Reason::PortUnreachable,
        1 => icmp::Reason::HostUnreachable,
        2 => icmp::Reason::NoRoute,
        3 => icmp::Reason::Prohibited,
        4 => icmp::Reason::TimeExceeded,
        _ => icmp::Reason::TooBig {
            mtu: u16::from(why) * 8,
        },
    };
    icmp::refuse(&mut frame, parsed.l3(), parsed.end(), router, reason).ok()?;
    let mut frame = frame.bytes().to_vec();
    if cut > 0 {
        // Shorter quotations: the packet's own length field says so too.
        let l3 = parsed.l3();
        let length = (frame.len() - l3).min(usize::from(cut) * 4 + 28);
        frame.truncate(l3 + length);
        if family == 0 {
            frame[l3 + 2..l3 + 4].copy_from_slice(&(length as u16).to_be_bytes());
        } else {
            let length = (length as u16).saturating_sub(40);
            frame[l3 + 4..l3 + 6].copy_from_slice(&length.to_be_bytes());
        }
    }
    Some((link, frame))
}

/// The bytes of a spec that arrives by `link`.
fn address(mut spec: FrameSpec, link: usize) -> Vec<u8> {
    spec.source_mac = Mac([2, 0, 0, 0, link as u8 + 1, 0]);
    spec.destination_mac = Mac(world::LINK_MACS[link]);
    spec.vlan = world::VLANS[link];
    spec.bytes().unwrap_or_default()
}

fn turn(frame: &mut [u8], one: usize, other: usize, count: usize) {
    if other + count <= frame.len() {
        for at in 0..count {
            frame.swap(one + at, other + at);
        }
    }
}

/// A frame in fragments of at most `step` bytes of data; as it is, if it cannot be cut.
fn fragments(frame: &[u8], step: usize) -> ArrayVec<Vec<u8>, 16> {
    let mut pieces = ArrayVec::new();
    let Ok(parsed) = parse(frame) else {
        pieces.push(frame.to_vec());
        return pieces;
    };
    let data = &frame[parsed.l4()..parsed.end()];
    let step = step.max(data.len().div_ceil(16).next_multiple_of(8));
    let (l3, count) = (parsed.l3(), data.len().div_ceil(step));
    for (at, part) in data.chunks(step).enumerate() {
        let more = u16::from(at + 1 < count);
        let mut piece = frame[..parsed.l4()].to_vec();
        if parsed.network == Network::V4 {
            let length = (parsed.l4() - l3 + part.len()) as u16;
            piece[l3 + 2..l3 + 4].copy_from_slice(&length.to_be_bytes());
            let word = (at * step / 8) as u16 | more << 13;
            piece[l3 + 6..l3 + 8].copy_from_slice(&word.to_be_bytes());
        } else if parsed.l4() == l3 + 40 {
            let length = (8 + part.len()) as u16;
            piece[l3 + 4..l3 + 6].copy_from_slice(&length.to_be_bytes());
            piece[l3 + 6] = 44;
            piece.extend([parsed.protocol, 0]);
            piece.extend(((at * step) as u16 | more).to_be_bytes());
            piece.extend([0, 0, 0, 7]);
        }
        piece.extend(part);
        checksum::set(&mut piece);
        pieces.push(piece);
    }
    pieces
}
