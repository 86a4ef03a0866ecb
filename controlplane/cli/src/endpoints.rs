//! `portgate services --endpoints`: what each endpoint of each service carries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use engine::counters::ServiceCounter;
use hugepages::Region;
use hugepages::object::{Key, Service};
use portgate_controlplane::observe::{AllCounters, Installed, InstalledService, Survey};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::rates::{self, Reading};
use crate::table::Table;
use crate::words::or_dash;

/// The installed services' endpoints, and those that are not installed any more and still have flows.
pub(crate) struct Endpoints {
    services: HashMap<Key, InstalledService>,
    /// Addresses and open flows of the endpoints that have any, by service slot.
    open: BTreeMap<u32, BTreeMap<SocketAddr, u64>>,
}

/// An endpoint, and what is known of it.
struct Endpoint {
    address: SocketAddr,
    state: &'static str,
    open: u64,
}

impl Endpoints {
    /// Those of this region. All flows are counted for it.
    pub(crate) fn of(region: &Region) -> Result<Self, Failure> {
        let installed = Installed::read(region).map_err(Failure::Failed)?;
        let mut open: BTreeMap<u32, BTreeMap<SocketAddr, u64>> = BTreeMap::new();
        for ((slot, address), flows) in Survey::of(region).endpoints {
            open.entry(slot).or_default().insert(address, flows);
        }
        Ok(Self {
            services: installed
                .services
                .into_iter()
                .map(|service| (service.key, service))
                .collect(),
            open,
        })
    }

    /// Counters by endpoint, of a service that has counters of its own; null where the service counts for it.
    pub(crate) fn counts(&self, service: &Service, counters: &AllCounters) -> Map<String, Value> {
        let slot = self
            .services
            .get(&service.key)
            .and_then(|service| service.slot);
        let Some(slot) = slot else { return Map::new() };
        let all = self.all(service).into_iter().map(|endpoint| {
            let counts = ServiceCounter::OF_ENDPOINTS.map(|(counter, name)| {
                let count = counters.endpoint(slot, endpoint.address, counter);
                (name.to_owned(), json!(count))
            });
            let counts = Map::from_iter(counts);
            (endpoint.address.to_string(), counts.into())
        });
        all.collect()
    }

    /// A row for each endpoint of a service.
    pub(crate) fn rows(&self, service: &Service, key: &str, reading: &Reading, table: &mut Table) {
        let mut name = [service.name.as_str(), or_dash(&service.port_name)];
        for endpoint in self.all(service) {
            let address = endpoint.address.to_string();
            let text = |count: &Value| count.as_u64().map_or("-".to_owned(), |n| n.to_string());
            let of = |values: &Value, text: &dyn Fn(&Value) -> String| {
                let values = &values[key]["endpoints"][&address];
                let each = ServiceCounter::OF_ENDPOINTS.iter();
                each.map(|(_, name)| text(&values[*name]))
                    .collect::<Vec<_>>()
            };
            let head = name.map(str::to_owned).into_iter();
            let cells = head
                .chain([address.clone(), endpoint.state.to_owned()])
                .chain([endpoint.open.to_string()])
                .chain(of(&reading.now, &text))
                .chain(reading.rates.iter().flat_map(|all| of(all, &rates::text)));
            table.push(cells);
            name = [""; 2];
        }
        if name[0] == service.name {
            let cells = name.map(str::to_owned).into_iter();
            table.push(cells.chain(["none".to_owned()]));
        }
    }

    /// For programs: the endpoints of a service.
    pub(crate) fn json(&self, service: &Service, key: &str, reading: &Reading) -> Value {
        let shown = self.all(service).into_iter().map(|endpoint| {
            let address = endpoint.address.to_string();
            let mut shown = json!({
                "endpoint": address,
                "state": endpoint.state,
                "open_flows": endpoint.open,
                "counters": reading.now[key]["endpoints"][&address],
            });
            if let Some(rates) = &reading.rates {
                shown["rates"] = rates[key]["endpoints"][&address].clone();
            }
            shown
        });
        shown.collect()
    }

    /// Headings of a table with these rows.
    pub(crate) fn headings(has_rates: bool) -> Vec<String> {
        let fixed = ["SERVICE", "PORT", "ENDPOINT", "STATE", ">OPEN"].map(str::to_owned);
        let names = || ServiceCounter::OF_ENDPOINTS.iter().map(|(_, name)| *name);
        let counts = names().map(|name| format!(">{}", name.to_uppercase()));
        let rates = names().filter(|_| has_rates);
        let rates = rates.map(|name| format!(">{}/S", name.to_uppercase()));
        fixed.into_iter().chain(counts).chain(rates).collect()
    }

    fn all(&self, service: &Service) -> Vec<Endpoint> {
        let Some(service) = self.services.get(&service.key) else {
            return Vec::new();
        };
        let open = service.slot.and_then(|slot| self.open.get(&slot));
        let open_at = |address| open.and_then(|open| open.get(address)).copied();
        let installed = service.endpoints.iter().map(|endpoint| Endpoint {
            address: endpoint.address,
            state: if endpoint.takes_new { "ready" } else { "kept" },
            open: open_at(&endpoint.address).unwrap_or(0),
        });
        let known: BTreeSet<_> = service.endpoints.iter().map(|one| one.address).collect();
        let gone = open.into_iter().flatten();
        let gone = gone
            .filter(|(address, _)| !known.contains(address))
            .map(|(address, open)| Endpoint {
                address: *address,
                state: "gone",
                open: *open,
            });
        installed.chain(gone).collect()
    }
}
