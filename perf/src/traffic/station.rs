//! A host on a link, as far as neighbours see it: it answers ARP and neighbour discovery for its
//! addresses and asks for those of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use packet::Buffer;
use packet::arp::{self, Operation};
use packet::ethernet::{self, Mac};
use packet::ndp::{self, Message};
use packet::parse::{ICMPV6, NO_VLAN, Network as Layer, parse};

use super::flows::Network;

/// Between two questions for the same neighbour, in nanoseconds.
const AGAIN: u64 = 50_000_000;

/// A host.
#[derive(Debug, Clone)]
pub struct Station {
    mac: Mac,
    addresses: Vec<Network>,
    /// Neighbour that is asked for, and by which address.
    wanted: Option<(IpAddr, IpAddr)>,
    found: Option<Mac>,
    asked: Option<u64>,
    /// Questions answered.
    pub answered: u64,
}

impl Station {
    /// With this MAC address and all addresses of these networks.
    #[must_use]
    pub fn new(mac: Mac, addresses: Vec<Network>) -> Self {
        Self {
            mac,
            addresses,
            wanted: None,
            found: None,
            asked: None,
            answered: 0,
        }
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Looks for the MAC address of `neighbour`, asking in the name of its first address of the same
    /// family.
    pub fn look_for(&mut self, neighbour: IpAddr) {
        let mut own = self.addresses.iter().map(|network| network.address);
        let own = own.find(|own| own.is_ipv4() == neighbour.is_ipv4());
        let none = match neighbour {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.wanted = Some((neighbour, own.unwrap_or(none)));
    }

    /// The neighbour's MAC address, once it has answered.
    #[must_use]
    pub fn found(&self) -> Option<Mac> {
        self.found
    }

    /// Writes the question for the neighbour if it is time to ask; whether it is to be sent.
    pub fn ask(&mut self, frame: &mut impl Buffer, now: u64) -> bool {
        let Some((neighbour, own)) = self.wanted else {
            return false;
        };
        self.asked = Some(now);
        match (neighbour, own) {
            (IpAddr::V4(neighbour), IpAddr::V4(own)) => {
                arp::write_request(frame, None, (self.mac, own), Mac::BROADCAST, neighbour)
            }
            (IpAddr::V6(neighbour), IpAddr::V6(own)) => {
                ndp::write_solicitation(frame, None, (self.mac, own), None, neighbour)
            }
            _ => false,
        }
    }

    /// Whether [`Station::ask`] should be called.
    #[must_use]
    pub fn wants_to_ask(&self, now: u64) -> bool {
        self.wanted.is_some()
            && self.found.is_none()
            && self.asked.is_none_or(|asked| now - asked >= AGAIN)
    }

    /// Looks at a frame that is neither UDP nor TCP. True: it was a question and is now the answer,
    /// to be sent back.
    pub fn meet(&mut self, frame: &mut impl Buffer) -> bool {
        let Ok(parsed) = parse(frame.bytes()) else {
            return false;
        };
        if parsed.vlan != NO_VLAN {
            return false;
        }
        let is_answer = match (parsed.network, parsed.protocol) {
            (Layer::Arp, _) => self.arp(frame, parsed.l3()),
            (Layer::V6, ICMPV6) => {
                let message = ndp::parse(frame.bytes(), parsed.l3(), parsed.l4(), parsed.end());
                message.is_ok_and(|message| self.discovery(frame, parsed.l3(), &message))
            }
            _ => false,
        };
        self.answered += u64::from(is_answer);
        is_answer
    }

    fn arp(&mut self, frame: &mut impl Buffer, l3: usize) -> bool {
        let Ok(packet) = arp::parse(frame.bytes(), l3) else {
            return false;
        };
        if packet.op == Operation::Reply {
            self.learn(packet.sender_ip.into(), packet.sender_mac);
            return false;
        }
        self.has(packet.target_ip.into()) && arp::answer(frame, l3, self.mac).is_ok()
    }

    fn discovery(&mut self, frame: &mut impl Buffer, l3: usize, message: &Message) -> bool {
        match message {
            Message::Advertisement(told) => {
                let mac = told.target_mac.or_else(|| ethernet::source(frame.bytes()));
                if let Some(mac) = mac {
                    self.learn(told.target.into(), mac);
                }
                false
            }
            Message::Solicitation(asked) => {
                self.has(asked.target.into()) && ndp::answer(frame, l3, asked, self.mac)
            }
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|network| network.contains(address))
    }

    fn learn(&mut self, address: IpAddr, mac: Mac) {
        if self.wanted.is_some_and(|(wanted, _)| wanted == address) {
            self.found = Some(mac);
        }
    }
}

#[cfg(test)]
mod tests {
    use packet::memory::HeapBuffer;

    use super::*;

    fn station(last: u8, networks: &[&str]) -> Station {
        let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        Station::new(Mac([2, 0, 0, 0, 0, last]), networks)
    }

    #[test]
    fn two_stations_find_each_other() {
        for (one, other) in [
            (["10.0.0.1"], ["10.0.0.0/24"]),
            (["fd00::1"], ["fd00::/64"]),
        ] {
            let target = if one[0].contains(':') {
                "fd00::7"
            } else {
                "10.0.0.7"
            };
            let (mut one, mut other) = (station(1, &one), station(2, &other));
            assert!(!one.wants_to_ask(5));
            one.look_for(target.parse().unwrap());
            assert!(one.wants_to_ask(5));
            let mut frame = HeapBuffer::with_capacity(2048);
            assert!(one.ask(&mut frame, 5));
            assert!(!one.wants_to_ask(6) && one.wants_to_ask(5 + AGAIN));
            assert!(other.meet(&mut frame));
            assert!(!one.meet(&mut frame));
            assert_eq!(one.found(), Some(other.mac()));
            assert!(!one.wants_to_ask(u64::MAX));
            assert_eq!((one.answered, other.answered), (0, 1));
        }
    }

    #[test]
    fn questions_for_others_are_not_answered() {
        let (mut one, mut other) = (station(1, &["10.0.0.1"]), station(2, &["10.0.1.0/24"]));
        one.look_for("10.0.0.7".parse().unwrap());
        let mut frame = HeapBuffer::with_capacity(2048);
        assert!(one.ask(&mut frame, 5));
        assert!(!other.meet(&mut frame));
    }
}
