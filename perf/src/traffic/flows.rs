//! The flows of a run: who sends to whom, as a function of the flow's number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use packet::tuple::Tuple;

use crate::Error;

/// First port of clients; below are the ports of services.
const FIRST_PORT: u16 = 1024;

/// Ports of one client towards one destination.
const PORTS: u64 = 1 << 16;

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that all its addresses share.
    pub length: u8,
}

impl Network {
    /// Whether `address` is of it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                cut(bits(address), host_bits(address, self.length)) == bits(self.address)
            }
            _ => false,
        }
    }

    /// How many addresses it has, if they can be counted.
    fn size(&self) -> u64 {
        1_u64
            .checked_shl(host_bits(self.address, self.length))
            .unwrap_or(u64::MAX)
    }

    fn nth(&self, number: u64) -> IpAddr {
        match self.address {
            IpAddr::V4(first) => Ipv4Addr::from(first.to_bits() + number as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from(first.to_bits() + u128::from(number)).into(),
        }
    }

    /// The inverse of [`Network::nth`].
    fn number(&self, address: IpAddr) -> Option<u64> {
        let inside = self.contains(address);
        inside.then(|| (bits(address) - bits(self.address)) as u64)
    }
}

impl FromStr for Network {
    type Err = &'static str;

    /// `198.18.0.0/15`, or one address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "must be an address or a network such as 198.18.0.0/15";
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse().map_err(|_| rule)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| rule)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        if length > most || cut(bits(address), host_bits(address, length)) != bits(address) {
            return Err("must have no bits set behind its prefix length");
        }
        Ok(Self { address, length })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn host_bits(address: IpAddr, length: u8) -> u32 {
    let all = if address.is_ipv4() { 32 } else { 128 };
    all - u32::from(length)
}

/// `bits` with the last `count` cleared.
fn cut(bits: u128, count: u32) -> u128 {
    bits.checked_shr(count)
        .map_or(0, |high| high.checked_shl(count).unwrap_or(0))
}

/// Flows number 0, 1, 2, …: destinations change first, then clients, then clients' ports.
#[derive(Debug, Clone)]
pub struct FlowSet {
    count: u32,
    clients: Network,
    destinations: Vec<SocketAddr>,
    protocol: u8,
}

impl FlowSet {
    /// # Errors
    ///
    /// [`Error::Usage`]: no or mixed destinations, or fewer tuples than flows.
    pub fn new(
        count: u32,
        clients: Network,
        destinations: Vec<SocketAddr>,
        protocol: u8,
    ) -> Result<Self, Error> {
        let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let other = destinations
            .iter()
            .find(|to| family(to.ip()) != family(clients.address));
        if let Some(other) = other {
            return Err(Error::Usage(format!(
                "--to {other} is {} and --clients {clients} is {}",
                family(other.ip()),
                family(clients.address)
            )));
        }
        let ports = PORTS - u64::from(FIRST_PORT);
        let most = clients
            .size()
            .saturating_mul(ports)
            .saturating_mul(destinations.len() as u64);
        if count == 0 || u64::from(count) > most {
            return Err(Error::Usage(format!(
                "--flows {count}: 1 to {most} are possible with --clients {clients} and {} \
                 destination(s)",
                destinations.len()
            )));
        }
        Ok(Self {
            count,
            clients,
            destinations,
            protocol,
        })
    }

    /// How many flows.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether the flows are of IPv4.
    #[must_use]
    pub fn is_v4(&self) -> bool {
        self.clients.address.is_ipv4()
    }

    /// IANA number of the transport protocol.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The tuple of a client's frames.
    #[must_use]
    pub fn tuple(&self, flow: u32) -> Tuple {
        let destinations = self.destinations.len() as u32;
        let to = self.destinations[(flow % destinations) as usize];
        let rest = u64::from(flow / destinations);
        let clients = self.clients.size();
        Tuple {
            source: self.clients.nth(rest % clients),
            destination: to.ip(),
            source_port: FIRST_PORT + (rest / clients) as u16,
            destination_port: to.port(),
            protocol: self.protocol,
        }
    }

    /// The flow whose reply goes from `server` to `client`.
    #[must_use]
    pub fn flow_of(&self, server: SocketAddr, client: SocketAddr) -> Option<u32> {
        let destination = self.destinations.iter().position(|to| *to == server)?;
        let number = self.clients.number(client.ip())?;
        let port = client.port().checked_sub(FIRST_PORT)?;
        let rest = u64::from(port) * self.clients.size() + number;
        let flow = rest * self.destinations.len() as u64 + destination as u64;
        u32::try_from(flow).ok().filter(|flow| *flow < self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use packet::parse::UDP;

    use super::*;

    fn set(count: u32, clients: &str, destinations: &[&str]) -> Result<FlowSet, Error> {
        let destinations = destinations.iter().map(|to| to.parse().unwrap()).collect();
        FlowSet::new(count, clients.parse().unwrap(), destinations, UDP)
    }

    #[test]
    fn tuples_are_distinct_and_lead_back_to_their_flow() {
        for (clients, destinations) in [
            ("198.18.0.0/29", ["203.0.113.10:80", "203.0.113.10:81"]),
            ("2001:db8:2::/125", ["[2001:db8::1]:80", "[2001:db8::2]:80"]),
        ] {
            let set = set(1000, clients, &destinations).unwrap();
            let mut seen = HashSet::new();
            for flow in 0..1000 {
                let tuple = set.tuple(flow);
                assert!(tuple.source_port >= FIRST_PORT);
                assert_eq!(set.flow_of(tuple.to(), tuple.from()), Some(flow));
                assert!(seen.insert(tuple));
            }
            let beyond = set.tuple(1000);
            assert_eq!(set.flow_of(beyond.to(), beyond.from()), None);
        }
    }

    #[test]
    fn more_flows_than_tuples_and_mixed_families_are_refused() {
        assert!(set(64_512, "198.18.0.1", &["203.0.113.10:80"]).is_ok());
        assert!(set(64_513, "198.18.0.1", &["203.0.113.10:80"]).is_err());
        assert!(set(4_000_000, "198.18.0.0/15", &["203.0.113.10:80"]).is_ok());
        assert!(set(1, "198.18.0.0/15", &["[::1]:80"]).is_err());
        assert!(set(1, "198.18.0.0/15", &[]).is_err());
        assert!(set(4_000_000, "2001:db8::/32", &["[::1]:80"]).is_ok());
    }

    #[test]
    fn networks_know_their_addresses() {
        let network: Network = "10.0.0.0/30".parse().unwrap();
        assert!(network.contains("10.0.0.3".parse().unwrap()));
        assert!(!network.contains("10.0.0.4".parse().unwrap()));
        assert!(!network.contains("::".parse().unwrap()));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains("ffff::".parse().unwrap()));
        for text in ["10.0.0.1/30", "10.0.0.0/33", "x", "10.0.0.0/", "::/129"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
