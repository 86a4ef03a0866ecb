//! Clients and pods: they resolve addresses, open, use and close connections, and notice what cannot be.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use fuzz::checksum::{self, Found};
use hugepages::object::Prefix;
use packet::build::{FrameSpec, Transport};
use packet::ethernet::Mac;
use packet::parse::{ICMPV6, Network, TCP, UDP, parse};
use packet::tcp::{ACK, FIN, RST, SYN};
use packet::tuple::{addresses, words4, words6};

/// Byte of a TCP header with most of its flags.
const FLAGS: usize = 13;

/// The link where clients are, and that where pods are.
pub(crate) const OUTSIDE: usize = 0;
pub(crate) const PODS: usize = 1;
pub(crate) const GATEWAY_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// The gateway's own addresses.
pub(crate) const NETWORKS: [[&str; 2]; 2] = [
    ["203.0.113.10/24", "2001:db8:1::10/64"],
    ["100.96.2.1/24", "fd00:100:96:2::1/64"],
];

/// Addresses of a host by its number, IPv4 or IPv6.
pub(crate) struct Host;

impl Host {
    pub(crate) fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').expect("a prefix");
        Prefix {
            address: address.parse().expect("an address"),
            length: length.parse().expect("a length"),
        }
    }

    pub(crate) fn client(number: usize, family: usize) -> IpAddr {
        let last = 50 + number as u8;
        match family {
            0 => [203, 0, 113, last].into(),
            _ => [0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(last)].into(),
        }
    }

    pub(crate) fn pod(number: usize, family: usize) -> IpAddr {
        let last = 2 + number as u8;
        match family {
            0 => [100, 96, 2, last].into(),
            _ => [0xfd00, 0x100, 0x96, 2, 0, 0, 0, u16::from(last)].into(),
        }
    }

    /// The MAC address of the host with this IP address: it has its last byte.
    fn mac(link: usize, address: IpAddr) -> [u8; 6] {
        let last = match address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[15],
        };
        [2, 0, 0, 1, link as u8, last]
    }
}

/// A connection (or, over UDP, a series of questions) as its client knows it.
pub(crate) struct Connection {
    pub(crate) id: u32,
    pub(crate) client: SocketAddr,
    pub(crate) service: SocketAddr,
    pub(crate) protocol: u8,
    /// A reply has come.
    pub(crate) is_open: bool,
    /// Who has to be asked what is sent from a step on; `None` = not known, or anybody may. What was sent before may have
    /// waited at the gateway, for a next hop, as part of an earlier flow.
    pub(crate) pod: Option<(IpAddr, u32)>,
    /// A segment's flags were corrupted, perhaps to those of an end: nobody has to be asked any more.
    pub(crate) may_have_ended: bool,
    /// Second of the last answer.
    pub(crate) heard: u32,
    /// Answers so far.
    pub(crate) answers: u32,
}

/// What the hosts of both links know.
#[derive(Default)]
pub(crate) struct Hosts {
    /// By the client's address and port.
    pub(crate) connections: HashMap<(SocketAddr, u8), Connection>,
    /// Answers that clients have got.
    pub(crate) answers: u64,
    /// The step since which nothing has changed: who answers a question that was asked since then will be asked again.
    pub(crate) settled_since: Option<u32>,
    /// Number of the step now.
    pub(crate) step: u32,
}

impl Connection {
    /// A frame of it, with its number in it and that of the step in which it is sent.
    pub(crate) fn frame(&self, flags: u8, step: u32) -> Vec<u8> {
        let mut spec = if self.protocol == UDP {
            FrameSpec::udp(self.client, self.service)
        } else {
            FrameSpec::tcp(self.client, self.service, flags)
        };
        if flags & SYN == 0 {
            spec.payload = [self.id.to_be_bytes(), step.to_be_bytes()].concat();
        }
        frame(spec, OUTSIDE)
    }
}

fn frame(mut spec: FrameSpec, link: usize) -> Vec<u8> {
    spec.source_mac = Mac(Host::mac(link, spec.source.ip()));
    spec.destination_mac = Mac(GATEWAY_MACS[link]);
    spec.bytes().expect("a frame")
}

impl Hosts {
    /// A frame reaches the host at a link that it is for; what that answers.
    pub(crate) fn receive(&mut self, link: usize, bytes: &[u8], second: u32) -> Option<Vec<u8>> {
        let parsed = parse(bytes).ok()?;
        let l3 = parsed.l3();
        if parsed.network == Network::Arp {
            return answer_arp(bytes, l3, link);
        }
        if checksum::judge(bytes).1 == Found::Wrong {
            return None; // as any host does
        }
        let (source, destination) = addresses(bytes, &parsed)?;
        if parsed.protocol == ICMPV6 && bytes.get(parsed.l4()) == Some(&135) {
            return answer_solicitation(bytes, parsed.l4(), source, link);
        }
        if bytes[..6] != Host::mac(link, destination) || !matches!(parsed.protocol, TCP | UDP) {
            return None;
        }
        let (from, to) = ends(bytes, &parsed);
        let payload = payload(bytes, &parsed);
        let flags = parsed.tcp_flags;
        if link == OUTSIDE {
            self.answer_to_client((from, to), parsed.protocol, flags, payload, second);
            return None;
        }
        self.ask_pod((from, to), parsed.protocol, flags, payload)
    }

    /// A frame, here as it was sent, was corrupted at this byte. The checksum tells its receiver, but the gateway, which
    /// translates it, only updates that.
    pub(crate) fn corrupted(&mut self, bytes: &[u8], at: usize) {
        let Ok(parsed) = parse(bytes) else { return };
        if parsed.protocol != TCP || at != parsed.l4() + FLAGS {
            return;
        }
        let id = numbers(payload(bytes, &parsed)).map(|[id, _]| id);
        for connection in self.connections.values_mut() {
            // Without a number in it, it may be anybody's.
            if connection.protocol == TCP && id.is_none_or(|id| id == connection.id) {
                (connection.pod, connection.may_have_ended) = (None, true);
            }
        }
    }

    /// A pod answers a SYN, or repeats what it was sent.
    fn ask_pod(
        &self,
        (from, to): (SocketAddr, SocketAddr),
        protocol: u8,
        flags: u8,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        if let Some([id, step]) = numbers(payload) {
            let mut all = self.connections.values();
            if let Some(connection) = all.find(|connection| connection.id == id)
                && let Some((pod, since)) = connection.pod
            {
                assert!(
                    pod == to.ip() || step <= since,
                    "connection {id} of {} to {} was with {pod} and is with {to}",
                    connection.client,
                    connection.service,
                );
            }
        }
        let flags = match flags {
            _ if flags & RST != 0 => return None,
            _ if flags & SYN != 0 => SYN | ACK,
            _ if flags & FIN != 0 => FIN | ACK,
            _ => ACK,
        };
        let mut spec = if protocol == UDP {
            FrameSpec::udp(to, from)
        } else {
            FrameSpec::tcp(to, from, flags)
        };
        if flags & SYN == 0 {
            // The numbers, and which pod it is.
            let last = match to.ip() {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(v6) => v6.octets()[15],
            };
            spec.payload = [payload, &[last]].concat();
        }
        if let Transport::Tcp { window, .. } = &mut spec.transport {
            *window = 4096;
        }
        Some(frame(spec, PODS))
    }

    /// What comes back is from whom the client spoke to, and about what it said.
    fn answer_to_client(
        &mut self,
        (from, to): (SocketAddr, SocketAddr),
        protocol: u8,
        flags: u8,
        payload: &[u8],
        second: u32,
    ) {
        let Some(connection) = self.connections.get_mut(&(to, protocol)) else {
            return; // closed meanwhile
        };
        assert_eq!(from, connection.service, "an answer from somebody else");
        if flags & (RST | SYN | FIN) != 0 {
            connection.is_open |= flags & SYN != 0;
            return;
        }
        let Some([id, asked]) = numbers(payload) else {
            return;
        };
        assert_eq!(id, connection.id, "an answer to somebody else's question");
        (connection.is_open, connection.heard) = (true, second);
        connection.answers += 1;
        self.answers += 1;
        // An answer to an earlier question, which waited at the gateway, may be of a flow that is no more.
        let is_of_now = self.settled_since.is_some_and(|since| asked > since);
        if is_of_now && connection.pod.is_none() && !connection.may_have_ended {
            let family = usize::from(to.is_ipv6());
            let pod = payload
                .get(8)
                .map(|last| (Host::pod(usize::from(*last) - 2, family), self.step));
            connection.pod = pod;
        }
    }
}

/// Numbers of the connection and of the step.
fn numbers(payload: &[u8]) -> Option<[u32; 2]> {
    let (id, rest) = payload.split_first_chunk()?;
    Some([*id, *rest.first_chunk()?].map(u32::from_be_bytes))
}

fn ends(bytes: &[u8], parsed: &packet::parse::Parsed) -> (SocketAddr, SocketAddr) {
    use engine::family::{Family, V4, V6};
    let tuple = match parsed.network {
        Network::V4 => V4::tuple(&words4(bytes, parsed)),
        _ => V6::tuple(&words6(bytes, parsed)),
    };
    (tuple.from(), tuple.to())
}

fn payload<'a>(bytes: &'a [u8], parsed: &packet::parse::Parsed) -> &'a [u8] {
    let l4 = parsed.l4();
    let header = match parsed.protocol {
        TCP => usize::from(bytes[l4 + 12] >> 4) * 4,
        _ => 8,
    };
    bytes.get(l4 + header..parsed.end()).unwrap_or_default()
}

fn answer_arp(bytes: &[u8], l3: usize, link: usize) -> Option<Vec<u8>> {
    let body = bytes.get(l3..l3 + 28)?;
    if body[7] != 1 {
        return None;
    }
    let asked: [u8; 4] = body[24..28].try_into().ok()?;
    let own = Host::mac(link, asked.into());
    let mut answer = [&body[8..14], &own[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    answer.extend(own);
    answer.extend(asked);
    answer.extend(&body[8..18]);
    Some(answer)
}

/// RFC 4861 section 4.4, with the target's link-layer address.
fn answer_solicitation(bytes: &[u8], l4: usize, asker: IpAddr, link: usize) -> Option<Vec<u8>> {
    let target: [u8; 16] = bytes.get(l4 + 8..l4 + 24)?.try_into().ok()?;
    let target = IpAddr::from(target);
    let IpAddr::V6(octets) = target else {
        return None;
    };
    let mut body = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    body.extend(octets.octets());
    body.extend([2, 1]);
    body.extend(Host::mac(link, target));
    let mut spec = FrameSpec::raw(target, asker, ICMPV6, &body);
    spec.ttl = 255;
    let mut answer = frame(spec, link);
    checksum::set(&mut answer);
    Some(answer)
}
