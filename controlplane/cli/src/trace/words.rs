//! Stages and frames in words.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use engine::slots::SHARED_SLOT;
use engine::trace::{Image, Record, Step};
use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice};
use serde_json::{Value, json};

use super::Names;

/// A stage for people: its name, and what was decided.
pub(super) fn step_words(step: &Step, names: &Names) -> (&'static str, String) {
    match step {
        Step::Resumed => ("waited", "put aside before; taken up again".to_owned()),
        Step::Parsed { kind } => ("parsed", kind.clone().into_owned()),
        Step::Found {
            state,
            slot,
            forward,
        } => {
            let of = service_name(*slot, names).map_or(String::new(), |name| format!(" of {name}"));
            let direction = if *forward {
                "client to endpoint"
            } else {
                "reply"
            };
            ("flow", format!("{state} flow{of}, {direction}"))
        }
        Step::Decided {
            verdict,
            reason,
            frontend,
            kind,
            client,
            backends,
            masquerade,
            ..
        } => {
            let rule = match (decided_service(step, names), frontend, kind) {
                (service, Some(frontend), Some(kind)) => {
                    let service = service.map_or(String::new(), |name| format!("{name}, "));
                    format!("{service}{kind} {frontend}")
                }
                _ => "no service has this address".to_owned(),
            };
            let what = match reason {
                Some(reason) => format!("{verdict} ({reason})"),
                None => {
                    let masked = if *masquerade { ", masquerade" } else { "" };
                    let plural = if *backends == 1 { "" } else { "s" };
                    format!("{verdict} to one of {backends} endpoint{plural}{masked}")
                }
            };
            (
                "decided",
                format!("no flow; {rule}; client is {client}: {what}"),
            )
        }
        Step::Translated {
            from,
            to,
            new_from,
            new_to,
        } => (
            "translated",
            format!("{from} > {to} becomes {new_from} > {new_to}"),
        ),
        Step::NextHop { link, address } => {
            ("next hop", format!("{address} on {}", names.link(*link)))
        }
        Step::Waits { what } => ("put aside", format!("waits for {}", awaited(what))),
        Step::Answered => ("answered", "turned into an answer to its sender".to_owned()),
        Step::ToHost => ("given away", "to the host's kernel".to_owned()),
        Step::Own { what } => ("begun", own_words(what).to_owned()),
        Step::Dropped { reason } => ("dropped", reason.clone().into_owned()),
    }
}

/// Why a frame begins in the gateway.
fn own_words(what: &str) -> &str {
    match what {
        "neighbour_question" => "the gateway asks for a neighbour's MAC address",
        "endpoint_reset" => "the endpoint is gone: a reset to the other side",
        "endpoint_probe" => "the endpoint is gone: a segment that makes this side answer",
        "of_host" => "the host's kernel sends it",
        "for_host" => "it was on its way to the host's kernel, whose interface does not take it",
        other => other,
    }
}

/// A stage for programs.
pub(super) fn stage(step: &Step, names: &Names) -> Value {
    let mut value = json!(step);
    let Some(fields) = value.as_object_mut() else {
        return value;
    };
    let service = match step {
        Step::Found { slot, .. } => Some(service_name(*slot, names)),
        Step::Decided { .. } => Some(decided_service(step, names)),
        _ => None,
    };
    if let Some(service) = service {
        fields.remove("slot");
        fields.insert("service".to_owned(), service.into());
    }
    if let Step::NextHop { link, .. } = step {
        fields.insert("link".to_owned(), names.link(*link).into());
    }
    value
}

/// All stages in one line.
pub(super) fn story(record: &Record, names: &Names) -> String {
    let words = record.steps.iter().map(|step| {
        let (stage, words) = step_words(step, names);
        format!("{stage}: {words}")
    });
    let sent = record.out.iter().filter(|out| !out.refused).map(|out| {
        let how = if out.handed_over {
            "handed over for"
        } else {
            "sent on"
        };
        format!("{how} {}", names.link(out.link))
    });
    words.chain(sent).collect::<Vec<_>>().join("; ")
}

/// A frame in a few words.
pub(super) fn describe(image: &Image) -> String {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(&image.bytes) else {
        return "not a whole Ethernet header".to_owned();
    };
    let (from, to): (IpAddr, IpAddr) = match &packet.net {
        Some(LaxNetSlice::Ipv4(slice)) => {
            let header = slice.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        Some(LaxNetSlice::Ipv6(slice)) => {
            let header = slice.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        Some(LaxNetSlice::Arp(arp)) => return arp_words(arp.slice()),
        None => return "neither IP nor ARP".to_owned(),
    };
    let ends = |source, destination| {
        let (from, to) = (
            SocketAddr::new(from, source),
            SocketAddr::new(to, destination),
        );
        format!("{from} > {to}")
    };
    let vlan = packet.vlan_ids().first().map(|id| id.value());
    let vlan = vlan.map_or(String::new(), |id| format!("vlan {id} "));
    let what = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let ends = ends(tcp.source_port(), tcp.destination_port());
            format!("tcp {ends} {}", flags(tcp))
        }
        Some(TransportSlice::Udp(udp)) => {
            format!("udp {}", ends(udp.source_port(), udp.destination_port()))
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let (kind, code) = (icmp.type_u8(), icmp.code_u8());
            format!("icmp {from} > {to} type {kind} code {code}")
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (kind, code) = (icmp.type_u8(), icmp.code_u8());
            format!("icmpv6 {from} > {to} type {kind} code {code}")
        }
        Some(TransportSlice::Igmp(_)) => format!("igmp {from} > {to}"),
        None => {
            let payload = packet.net.as_ref().and_then(LaxNetSlice::ip_payload_ref);
            let number = payload.map_or(0, |payload| payload.ip_number.0);
            let is_fragment = payload.is_some_and(|payload| payload.fragmented);
            let ports = payload.and_then(|payload| payload.payload.first_chunk::<4>());
            match (number, is_fragment, ports) {
                (packet::parse::SCTP, false, Some([a, b, c, d])) => {
                    let ends = ends(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                    format!("sctp {ends}")
                }
                (_, true, _) => {
                    let protocol = crate::words::protocol_name(number);
                    format!("fragment of {protocol} {from} > {to}")
                }
                _ => format!("protocol {number} {from} > {to}"),
            }
        }
    };
    format!("{vlan}{what}")
}

fn awaited(what: &str) -> &str {
    match what {
        "neighbour" => "the MAC address of its next hop",
        "first_fragment" => "the first fragment of its datagram",
        other => other,
    }
}

fn service_name(slot: u32, names: &Names) -> Option<String> {
    let service = names.installed.service_at(slot)?;
    Some(named(&service.name, &service.port_name))
}

/// By its slot, or, of those that share one, by the frontend.
fn decided_service(step: &Step, names: &Names) -> Option<String> {
    let Step::Decided { slot, frontend, .. } = step else {
        return None;
    };
    if *slot != SHARED_SLOT {
        return service_name(*slot, names);
    }
    let frontend = (*frontend)?;
    let frontends = names.installed.contents.frontends();
    let is_it = |service: &&hugepages::object::Service| {
        let found = frontends.get(&service.key).into_iter().flatten();
        let mut found = found.map(|of| SocketAddr::new(of.address, of.port));
        found.any(|address| address == frontend)
    };
    let services = names.installed.contents.services();
    let service = services.into_iter().find(is_it)?;
    Some(named(&service.name, &service.port_name))
}

fn named(service: &str, port: &str) -> String {
    if port.is_empty() {
        service.to_owned()
    } else {
        format!("{service}:{port}")
    }
}

fn flags(tcp: &TcpSlice<'_>) -> String {
    let flags = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
    ];
    let set = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(" ")
}

fn arp_words(arp: &[u8]) -> String {
    let address = |at: usize| {
        let octets = arp.get(at..).and_then(|bytes| bytes.first_chunk::<4>());
        octets.map_or_else(
            || "?".to_owned(),
            |octets| Ipv4Addr::from(*octets).to_string(),
        )
    };
    let (sender, target) = (address(14), address(24));
    match arp.get(7) {
        Some(1) => format!("arp who has {target}, tell {sender}"),
        Some(2) => format!("arp {sender} answers {target}"),
        _ => "arp".to_owned(),
    }
}
