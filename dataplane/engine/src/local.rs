//! Frames for the gateway itself, and the answers it gives: ARP, neighbour discovery, echo, refusals.
//!
//! Answers are made in place and leave by the link that the frame came from, to the machine that
//! sent it.

use std::net::IpAddr;

use packet::answer::Refusal;
use packet::ethernet::{self, Mac};
use packet::ndp::Message;
use packet::parse::{ICMP, ICMPV6, Network, Parsed, TCP};
use packet::tuple::{Tuple, addresses};
use packet::{Buffer, Pool, arp, icmp, ndp, reset, tcp};

use crate::counters::Total;
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;

/// ICMP errors that a worker sends in a second, at most.
const REPORTS_A_SECOND: u32 = 1_000;

impl<B: Buffer> Pipeline<B> {
    /// ARP, ICMP and ICMPv6.
    #[cold]
    pub(crate) fn local<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        mut frame: B,
        parsed: &Parsed,
        pool: &mut P,
        observer: &mut O,
    ) {
        let answered = match (parsed.network, parsed.protocol) {
            (Network::Arp, _) => self.arp(now, input, &mut frame, parsed),
            (Network::V6, ICMPV6) => self.icmp6(now, input, &mut frame, parsed),
            (Network::V4, ICMP) => self.echo(&mut frame, parsed),
            _ => Err(Reason::NotOurs),
        };
        let concerns_flow = matches!(answered, Err(Reason::NotOurs | Reason::NotServed))
            && parsed.network != Network::Arp;
        match answered {
            Ok(()) => self.answer(input, frame, observer),
            Err(otherwise) if concerns_flow => {
                let sent = self.quoted(now, input, frame, parsed, pool, observer);
                if let Err((frame, reason)) = sent {
                    let reason = reason.unwrap_or(otherwise);
                    self.tell_or_drop(now, input, frame, parsed, reason, observer);
                }
            }
            Err(reason) => self.tell_or_drop(now, input, frame, parsed, reason, observer),
        }
    }

    /// Refuses a new flow: RST for TCP, port unreachable for the rest.
    #[cold]
    #[allow(clippy::too_many_arguments)] // what a refusal is made of
    pub(crate) fn reject<O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        mut frame: B,
        parsed: &Parsed,
        tuple: &Tuple,
        reason: Reason,
        observer: &mut O,
    ) {
        let refused = if reset::refuse_syn(&mut frame, parsed) {
            Ok(())
        } else if parsed.protocol == TCP {
            tcp::refuse(&mut frame, parsed.l3(), parsed.l4(), parsed.end())
        } else if !self.may_report(now) {
            return self.drop_frame(input, frame, reason, observer);
        } else {
            let why = icmp::Reason::PortUnreachable;
            icmp::refuse(
                &mut frame,
                parsed.l3(),
                parsed.end(),
                tuple.destination,
                why,
            )
        };
        match refused {
            Ok(()) => {
                self.counters.add(Total::Refused, 1);
                self.answer(input, frame, observer);
            }
            Err(Refusal::NoRoom) => self.drop_frame(input, frame, Reason::NoBuffer, observer),
            Err(_) => self.drop_frame(input, frame, reason, observer),
        }
    }

    /// The TTL or hop limit is used up (RFC 1812 section 5.3.1, RFC 8200 section 3).
    #[cold]
    pub(crate) fn expire<O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        parsed: &Parsed,
        observer: &mut O,
    ) {
        let why = icmp::Reason::TimeExceeded;
        self.report(now, input, frame, parsed, why, Reason::TtlExpired, observer);
    }

    /// The packet is larger than the egress link's MTU (RFC 1191 section 4, RFC 8201).
    #[cold]
    pub(crate) fn too_big<O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        parsed: &Parsed,
        mtu: u16,
        observer: &mut O,
    ) {
        let why = icmp::Reason::TooBig { mtu };
        self.report(now, input, frame, parsed, why, Reason::TooBig, observer);
    }

    /// Sends an ICMP error from the receiving link's own address, if that is allowed.
    #[allow(clippy::too_many_arguments)] // what a report is made of
    fn report<O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        mut frame: B,
        parsed: &Parsed,
        why: icmp::Reason,
        reason: Reason,
        observer: &mut O,
    ) {
        if !self.may_report(now) {
            return self.drop_frame(input, frame, reason, observer);
        }
        let own = addresses(frame.bytes(), parsed)
            .and_then(|(source, _)| self.shared.topology.links.get(input)?.source_for(source));
        let reported = own.is_some_and(|own| {
            icmp::refuse(&mut frame, parsed.l3(), parsed.end(), own, why).is_ok()
        });
        if reported {
            self.answer(input, frame, observer);
        } else {
            self.drop_frame(input, frame, reason, observer);
        }
    }

    /// Errors that the gateway itself sends are few (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).
    fn may_report(&mut self, now: Now) -> bool {
        if self.reports.0 != now.second {
            self.reports = (now.second, 0);
        }
        self.reports.1 += 1;
        self.reports.1 <= REPORTS_A_SECOND
    }

    /// Sends an answer back by the link that the frame came from.
    pub(crate) fn answer<O: Observe>(&mut self, input: usize, frame: B, observer: &mut O) {
        self.counters.add(Total::Answered, 1);
        observer.answered();
        self.put(input, frame, observer);
    }

    fn arp(
        &mut self,
        now: Now,
        input: usize,
        frame: &mut B,
        parsed: &Parsed,
    ) -> Result<(), Reason> {
        let packet = arp::parse(frame.bytes(), parsed.l3()).map_err(|_| Reason::NotForUs)?;
        let is_ours = self.answers_for(input, packet.target_ip.into());
        self.hear(
            now,
            input,
            packet.sender_ip.into(),
            packet.sender_mac,
            is_ours,
        );
        if packet.op != arp::Operation::Request || !is_ours {
            return Err(Reason::NotForUs);
        }
        let mac = Mac(self.shared.topology.links[input].mac);
        arp::answer(frame, parsed.l3(), mac).map_err(|_| Reason::AnswerRefused)
    }

    fn icmp6(
        &mut self,
        now: Now,
        input: usize,
        frame: &mut B,
        parsed: &Parsed,
    ) -> Result<(), Reason> {
        let (l3, l4, end) = (parsed.l3(), parsed.l4(), parsed.end());
        match ndp::parse(frame.bytes(), l3, l4, end) {
            Ok(Message::Solicitation(solicitation)) => {
                let is_ours = self.answers_for(input, solicitation.target.into());
                if let Some(mac) = solicitation.source_mac {
                    self.hear(now, input, solicitation.source.into(), mac, is_ours);
                }
                if !is_ours {
                    return Err(Reason::NotForUs);
                }
                let mac = Mac(self.shared.topology.links[input].mac);
                if ndp::answer(frame, l3, &solicitation, mac) {
                    Ok(())
                } else {
                    Err(Reason::AnswerRefused)
                }
            }
            Ok(Message::Advertisement(advertisement)) => {
                // An advertisement to one host may leave its link-layer address out.
                let sender = ethernet::source(frame.bytes());
                if let Some(mac) = advertisement.target_mac.or(sender) {
                    self.hear(now, input, advertisement.target.into(), mac, false);
                }
                Err(Reason::NotForUs)
            }
            Err(ndp::NdpError::OtherType) => self.echo(frame, parsed),
            Err(_) => Err(Reason::NotForUs),
        }
    }

    /// Answers an echo request to one of the gateway's own addresses.
    fn echo(&mut self, frame: &mut B, parsed: &Parsed) -> Result<(), Reason> {
        let (_, to) = addresses(frame.bytes(), parsed).ok_or(Reason::TooShort)?;
        if !self.snapshots.get().networks.own.contains(&to) {
            return Err(Reason::NotOurs);
        }
        icmp::answer_echo(frame, parsed.l3(), parsed.l4(), parsed.end())
            .map_err(|_| Reason::NotServed)
    }

    /// Whether `address` is to be answered for on link `input`: the link's own, or one of the
    /// gateway's that lies on the link's network.
    fn answers_for(&self, input: usize, address: IpAddr) -> bool {
        let link = &self.shared.topology.links[input];
        link.addresses.iter().any(|(own, _)| *own == address)
            || link.is_connected(address) && self.snapshots.get().networks.own.contains(&address)
    }

    /// Notes a neighbour's MAC address. One that asks for us will hear from us next, so it is noted
    /// even if nobody waits for it.
    fn hear(&self, now: Now, input: usize, address: IpAddr, mac: Mac, asks_us: bool) {
        let Some(link) = self.shared.topology.links.get(input) else {
            return;
        };
        if !mac.is_station() || address.is_unspecified() {
            return;
        }
        let neighbours = &self.shared.neighbours;
        if asks_us && link.is_connected(address) {
            // No room is no harm: the answer goes to the sender of the frame all the same.
            let _ = neighbours.index(input as u8, address, now.second);
        }
        // Only what somebody has asked for is there to learn, on the network or not (a router's
        // link-local address, a host behind a route without a next hop).
        neighbours.learn(input as u8, address, mac.0, now.second);
    }
}
