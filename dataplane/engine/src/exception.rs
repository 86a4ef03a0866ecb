//! Frames for the gateway's own addresses that are no service's: the host's kernel has programs for them (BGP, SSH,
//! health checks of a cloud), if it is let.
//!
//! Whoever runs the pipeline says how a frame gets there. A worker gives away only so many a second; what flows
//! carry, what is a service's, and what the gateway answers itself (ARP, neighbour discovery, echo) never comes here.

use packet::Buffer;
use packet::parse::{ICMP, ICMPV6, Network, Parsed};
use packet::tuple::addresses;

use crate::counters::Total;
use crate::family::Family;
use crate::host::{Exceptions, Host};
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;
use crate::service::{Outcome, decide};

impl<B: Buffer> Pipeline<B> {
    /// Lets the host have its frames, at most `rate` a second.
    pub fn set_host(&mut self, host: Box<dyn Host<B>>, rate: u32) {
        self.egress.exceptions = Some(Exceptions::new(host, rate));
    }

    /// Gives a frame that would be dropped for `reason` to the host, if that wants it.
    #[cold]
    pub(crate) fn except<O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        reason: Reason,
        observer: &mut O,
    ) {
        let exceptions = self.egress.exceptions.as_mut();
        let Some(exceptions) = exceptions.filter(|found| found.host.wants(input)) else {
            return self.drop_frame(input, frame, reason, observer);
        };
        if exceptions.spent.0 != now.second {
            exceptions.spent = (now.second, 0);
        }
        if exceptions.spent.1 >= exceptions.rate {
            return self.drop_frame(input, frame, Reason::HostLimit, observer);
        }
        exceptions.spent.1 += 1;
        match exceptions.host.take(input, frame) {
            Ok(()) => {
                self.counters.add(Total::HandedOver, 1);
                observer.given_to_host();
            }
            Err(frame) => self.drop_frame(input, frame, Reason::HostLimit, observer),
        }
    }

    /// Whether a frame whose TTL is used up, and that belongs to no flow, is the host's: it is not to travel on, so that
    /// does not matter (BGP between neighbours is sent with a TTL of 1, RFC 4271 section 5 and RFC 5082).
    #[cold]
    pub(crate) fn is_hosts<F: Family>(&self, input: usize, key: &F::Key) -> bool {
        let wants = |found: &Exceptions<B>| found.host.wants(input);
        self.egress.exceptions.as_ref().is_some_and(wants)
            && matches!(
                decide::<F>(self.snapshots.get(), key).outcome,
                Outcome::Pass(Reason::NotServed)
            )
    }

    /// Gives a frame that the gateway itself has no use for to the host if it may tell it something: an answer to its
    /// question after a neighbour, ICMP to an own address.
    #[cold]
    pub(crate) fn tell_or_drop<O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        frame: B,
        parsed: &Parsed,
        reason: Reason,
        observer: &mut O,
    ) {
        if self.may_tell_host(input, &frame, parsed) {
            self.except(now, input, frame, reason, observer);
        } else {
            self.drop_frame(input, frame, reason, observer);
        }
    }

    /// Only what is addressed to the link alone.
    fn may_tell_host(&self, input: usize, frame: &B, parsed: &Parsed) -> bool {
        let is_ours = |mac: &[u8; 6]| {
            let links = &self.shared.topology.links;
            links.get(input).is_some_and(|link| link.mac == *mac)
        };
        if self.egress.exceptions.is_none() || !frame.bytes().first_chunk().is_some_and(is_ours) {
            return false;
        }
        match (parsed.network, parsed.protocol) {
            (Network::Arp, _) => true,
            (Network::V4, ICMP) | (Network::V6, ICMPV6) => {
                addresses(frame.bytes(), parsed).is_some_and(|(_, to)| self.is_own(to))
            }
            _ => false,
        }
    }

    /// Own, or of the link alone, as the host's interface has one.
    fn is_own(&self, address: std::net::IpAddr) -> bool {
        let is_link_local = match address {
            std::net::IpAddr::V4(_) => false,
            std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        is_link_local || self.snapshots.get().networks.own.contains(&address)
    }
}
