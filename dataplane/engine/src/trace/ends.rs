//! Whether a frame is one of those that are asked for.
//!
//! A frame is known by its ends: those of its own tuple and, if it belongs to a flow, of what it becomes; of an ICMP
//! error those of the packet that it quotes, too. So a request for a client and a service address finds the frames of
//! both directions, whatever they look like on the wire.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use packet::fragment::Piece;
use packet::icmp::{parse_error, quoted_tuple};
use packet::parse::{ICMPV6, Network, ParseError, Parsed, SCTP, TCP, UDP, parse};
use packet::tuple::{Tuple, addresses};
use packet::{arp, ndp};

use crate::family::{Family, V4, V6};
use crate::lane::Tabled;
use crate::shared::Shared;

use super::request::{Pattern, Request};

/// A frame's, its translation's, and those of the other direction, twice for a quoted packet.
const MOST: usize = 16;

/// Protocol of what is no IP packet: reserved in IANA's list.
const NO_PROTOCOL: u8 = 255;

/// Where the network header begins in untagged frames, and behind a tag.
const NETWORK: [usize; 2] = [14, 18];

/// Ends of a frame.
#[derive(Debug, Default)]
struct Ends {
    /// `None` if it cannot be told.
    protocol: Option<u8>,
    all: ArrayVec<End, MOST>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    address: IpAddr,
    port: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Number(u16),
    /// There is none.
    None,
    /// There is one, and it cannot be seen: in later fragments and in broken packets.
    Hidden,
}

/// Whether the frame is asked for, as far as can be told before its way.
pub(super) fn is_wanted(
    request: &Request,
    shared: &Shared,
    input: Option<usize>,
    bytes: &[u8],
) -> bool {
    if let (Some(wanted), Some(input)) = (request.link, input)
        && usize::from(wanted) != input
    {
        return false;
    }
    if request.ends.is_empty() && request.protocol.is_none() {
        return true;
    }
    let ends = Ends::of(shared, bytes);
    let is_protocol = |wanted| ends.protocol.is_none_or(|protocol| protocol == wanted);
    request.protocol.is_none_or(is_protocol)
        && request
            .ends
            .iter()
            .all(|group| group.iter().any(|pattern| ends.have(pattern)))
}

impl Ends {
    fn of(shared: &Shared, bytes: &[u8]) -> Self {
        let mut ends = Self::default();
        match parse(bytes) {
            Ok(parsed) if parsed.network == Network::Arp => ends.add_arp(bytes, &parsed),
            Ok(parsed) => ends.add_packet(shared, bytes, &parsed),
            Err(ParseError::Fragment) => match Piece::read(bytes) {
                Ok(piece) if piece.is_first() => ends.add_packet(shared, bytes, &piece.parsed),
                _ => ends.add_broken(bytes),
            },
            Err(_) => ends.add_broken(bytes),
        }
        ends
    }

    fn have(&self, pattern: &Pattern) -> bool {
        self.all.iter().any(|end| {
            end.address == pattern.address
                && match (pattern.port, end.port) {
                    (None, _) | (_, Port::Hidden) => true,
                    (Some(wanted), Port::Number(port)) => wanted == port,
                    (Some(_), Port::None) => false,
                }
        })
    }

    fn add_arp(&mut self, bytes: &[u8], parsed: &Parsed) {
        self.protocol = Some(NO_PROTOCOL);
        if let Ok(arp) = arp::parse(bytes, parsed.l3()) {
            self.push(arp.sender_ip.into(), Port::None);
            self.push(arp.target_ip.into(), Port::None);
        }
    }

    fn add_packet(&mut self, shared: &Shared, bytes: &[u8], parsed: &Parsed) {
        self.protocol = Some(parsed.protocol);
        if matches!(parsed.protocol, TCP | UDP | SCTP) {
            let tuple = match parsed.network {
                Network::V6 => V6::tuple(&V6::key(bytes, parsed)),
                _ => V4::tuple(&V4::key(bytes, parsed)),
            };
            self.add_tuple(shared, &tuple);
            return;
        }
        if let Some((source, destination)) = addresses(bytes, parsed) {
            self.push(source, Port::None);
            self.push(destination, Port::None);
        }
        // A question goes to a group: whom it is about stands in the message.
        let (l3, l4, end) = (parsed.l3(), parsed.l4(), parsed.end());
        if parsed.protocol == ICMPV6
            && let Ok(ndp::Message::Solicitation(question)) = ndp::parse(bytes, l3, l4, end)
        {
            self.push(question.target.into(), Port::None);
        }
        let error = parse_error(bytes, l4, end, parsed.protocol);
        if let Some(quoted) = error.and_then(|error| quoted_tuple(bytes, &error)) {
            self.protocol = Some(quoted.protocol);
            self.add_tuple(shared, &quoted);
        }
    }

    /// A packet whose transport header cannot be seen, or not be trusted.
    fn add_broken(&mut self, bytes: &[u8]) {
        let is_tagged = bytes.get(12..14) == Some(&[0x81, 0x00]);
        let parsed = Parsed {
            l3: NETWORK[usize::from(is_tagged)] as u16,
            ..Parsed::default()
        };
        if let Some((source, destination)) = addresses(bytes, &parsed) {
            self.push(source, Port::Hidden);
            self.push(destination, Port::Hidden);
        }
    }

    fn add_tuple(&mut self, shared: &Shared, tuple: &Tuple) {
        self.push_tuple(tuple);
        if tuple.source.is_ipv4() {
            self.add_flow::<V4>(shared, tuple);
        } else {
            self.add_flow::<V6>(shared, tuple);
        }
    }

    /// What the tuple becomes, and what the answers to it do: that of a frame that is translated already is
    /// no key, but the one of its answers is.
    fn add_flow<F: Tabled>(&mut self, shared: &Shared, tuple: &Tuple) {
        let Some(key) = F::from_tuple(tuple) else {
            return;
        };
        let table = F::table(shared);
        for key in [key, F::reverse(&key)] {
            if let Some(hit) = table.find(&key, table.place(&key)) {
                let (words, ports) = F::parts(&hit.translation);
                self.push_tuple(&F::tuple(&F::join(words, ports, tuple.protocol)));
            }
        }
    }

    fn push_tuple(&mut self, tuple: &Tuple) {
        self.push(tuple.source, Port::Number(tuple.source_port));
        self.push(tuple.destination, Port::Number(tuple.destination_port));
    }

    fn push(&mut self, address: IpAddr, port: Port) {
        // There is room: MOST counts all of them.
        let _ = self.all.try_push(End { address, port });
    }
}
