//! `portgate services`.

use std::io::Write;
use std::net::SocketAddr;

use engine::counters::ServiceCounter;
use hugepages::object::{Action, Frontend, OnEndpointGone, Service, SourceClass};
use portgate_controlplane::observe::AllCounters;
use serde_json::{Value, json};
use settings::Settings;

use crate::args::ServicesOptions;
use crate::endpoints::Endpoints;
use crate::failure::Failure;
use crate::installed::{Installed, is_called, is_named};
use crate::observe::{self, numbers};
use crate::rates::{self, Reading};
use crate::table::Table;
use crate::unproxied;
use crate::words::{CLASSES, class_name, endpoint, kind_name, kind_title, or_dash, reason};

/// Endpoints that a table shows before it only counts them.
const SHOWN_ENDPOINTS: usize = 4;

/// Where a reading has a service's endpoints, by address.
const ENDPOINTS: &str = "endpoints";

/// What a table shows; a document has all.
const COUNTERS: [(ServiceCounter, &str); 4] = [
    (ServiceCounter::Flows, "flows"),
    (ServiceCounter::Frames, "frames"),
    (ServiceCounter::Bytes, "bytes"),
    (ServiceCounter::Refused, "refused"),
];

/// Lists what is installed.
pub(crate) fn run(
    settings: &Settings,
    options: &ServicesOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let read = || {
        let view = View::of(settings, options.endpoints)?;
        let services = view.installed.contents.services();
        let counts = services.into_iter().map(|service| {
            let mut counts = view.counts(service, ServiceCounter::ALL).map(numbers);
            if let (Some(endpoints), Some(counts)) = (&view.endpoints, &mut counts) {
                let by_endpoint = endpoints.counts(service, &view.counters);
                counts.insert(ENDPOINTS.to_owned(), by_endpoint.into());
            }
            (key(service), counts.into())
        });
        Ok((Value::Object(counts.collect()), view))
    };
    let show = |reading: &Reading, view: &View, out: &mut dyn Write| {
        let unproxied = unproxied::ask(settings);
        show(view, unproxied, options, json, reading, out)
    };
    rates::watch(&options.rates, !json, out, read, show)
}

/// Names a service port.
fn key(service: &Service) -> String {
    let Service {
        name, port_name, ..
    } = service;
    format!("{name}:{port_name}/{}", service.protocol.name())
}

fn show(
    view: &View,
    mut unproxied: Option<Vec<Value>>,
    options: &ServicesOptions,
    json: bool,
    reading: &Reading,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut services = view.installed.contents.services();
    if let Some(name) = &options.service {
        services.retain(|service| is_named(service, name));
    }
    let frontends = view.installed.contents.frontends();
    let of = |service: &Service| frontends.get(&service.key).map_or(&[][..], Vec::as_slice);
    if let (Some(found), Some(name)) = (&mut unproxied, &options.service) {
        found.retain(|entry| is_called(entry["service"].as_str().unwrap_or_default(), name));
    }
    if json {
        let services = services
            .iter()
            .map(|service| view.json(service, of(service), reading));
        let shown = json!({
            "generation": view.installed.contents.generation,
            "digest": view.digest,
            "services": services.collect::<Vec<_>>(),
            "unproxied": unproxied,
        });
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    if let Some(endpoints) = &view.endpoints {
        let headings = Endpoints::headings(reading.rates.is_some());
        let mut table = Table::new(&headings);
        for service in services {
            endpoints.rows(service, &key(service), reading, &mut table);
        }
        return Ok(table.flush(out)?);
    }
    let mut headings = vec![
        "SERVICE",
        "PORT",
        "TYPE",
        "ADDRESS",
        "CLIENTS",
        "ACTION",
        "ENDPOINTS",
        ">FLOWS",
        ">FRAMES",
        ">BYTES",
        ">REFUSED",
    ];
    if reading.rates.is_some() {
        headings.extend([">FLOWS/S", ">FRAMES/S", ">BYTES/S", ">REFUSED/S"]);
    }
    let mut table = Table::new(&headings);
    for service in services {
        view.rows(service, of(service), reading, &mut table);
    }
    table.flush(out)?;
    Ok(unproxied::show(&unproxied.unwrap_or_default(), out)?)
}

struct View {
    installed: Installed,
    counters: AllCounters,
    digest: Option<String>,
    /// Only where they are asked for: all flows are counted for them.
    endpoints: Option<Endpoints>,
}

impl View {
    fn of(settings: &Settings, with_endpoints: bool) -> Result<Self, Failure> {
        let region = observe::open(settings)?;
        Ok(Self {
            installed: Installed::of(&region)?,
            counters: AllCounters::of(&region),
            digest: region.installed().map(|state| state.digest.to_string()),
            endpoints: with_endpoints.then(|| Endpoints::of(&region)).transpose()?,
        })
    }

    /// A service's rows: its name and counters stand in the first alone, an address in the first of
    /// its own.
    fn rows(
        &self,
        service: &Service,
        frontends: &[&Frontend],
        reading: &Reading,
        table: &mut Table,
    ) {
        let mut name = [service.name.as_str(), or_dash(&service.port_name)];
        let counts = self.counts(service, COUNTERS).map_or_else(
            || COUNTERS.map(|_| "shared".to_owned()),
            |counts| counts.map(|(_, count)| count.to_string()),
        );
        let rates = reading.rates.iter().flat_map(|rates| {
            let of_service = &rates[key(service)];
            COUNTERS.map(|(_, name)| rates::text(&of_service[name]))
        });
        let mut counts: Vec<_> = counts.into_iter().chain(rates).collect();
        let mut push = |cells: [&str; 5]| {
            let counts = std::mem::take(&mut counts);
            let cells = name.iter().chain(&cells).map(|cell| (*cell).to_owned());
            table.push(cells.chain(counts));
            name = [""; 2];
        };
        if frontends.is_empty() {
            push(["-", "no address that this gateway serves", "", "", ""]);
        }
        for frontend in frontends {
            let address = format!("{}/{}", address_of(frontend), frontend.protocol.name());
            let mut head = [kind_title(frontend.kind), &address];
            for (clients, action) in by_action(&frontend.actions) {
                let (words, endpoints) = self.describe(action);
                push([head[0], head[1], &clients, &words, &endpoints]);
                head = [""; 2];
            }
        }
    }

    fn describe(&self, action: &Action) -> (String, String) {
        match action {
            Action::Translate { set, masquerade } => {
                let words = if *masquerade {
                    "masquerade"
                } else {
                    "keep source"
                };
                (words.to_owned(), some_endpoints(&self.endpoints(*set)))
            }
            Action::Reject(why) => (format!("reject: {}", reason(*why).name()), "-".to_owned()),
            Action::Drop(why) => (format!("drop: {}", reason(*why).name()), "-".to_owned()),
        }
    }

    fn json(&self, service: &Service, frontends: &[&Frontend], reading: &Reading) -> Value {
        let (policy, drain) = match service.on_endpoint_gone {
            OnEndpointGone::Keep => ("keep", None),
            OnEndpointGone::Drain(seconds) => ("drain", Some(seconds)),
            OnEndpointGone::Reset => ("reset", None),
        };
        let mut shown = json!({
            "service": service.name,
            "port_name": service.port_name,
            "protocol": service.protocol.name(),
            "frontends": frontends.iter().map(|frontend| self.frontend(frontend)).collect::<Vec<_>>(),
            "serving": self.endpoints(service.serving),
            "on_endpoint_gone": policy,
            "drain_seconds": drain,
            "counters": reading.now[key(service)],
        });
        if let Some(rates) = &reading.rates {
            shown["rates"] = rates[key(service)].clone();
        }
        if let Some(endpoints) = &self.endpoints {
            for name in ["counters", "rates"] {
                if let Some(counts) = shown.get_mut(name).and_then(Value::as_object_mut) {
                    counts.remove(ENDPOINTS);
                }
            }
            shown[ENDPOINTS] = endpoints.json(service, &key(service), reading);
        }
        shown
    }

    fn frontend(&self, frontend: &Frontend) -> Value {
        let action = |class: SourceClass| {
            let action = &frontend.actions[class as usize];
            (class_name(class).to_owned(), self.action(action))
        };
        let ranges = self
            .installed
            .contents
            .ranges(frontend.ranges)
            .map(|prefixes| {
                let text = |p: &hugepages::object::Prefix| format!("{}/{}", p.address, p.length);
                prefixes.iter().map(text).collect::<Vec<_>>()
            });
        json!({
            "type": kind_name(frontend.kind),
            "address": address_of(frontend),
            "affinity_seconds": frontend.affinity_timeout,
            "source_ranges": ranges,
            "actions": CLASSES.map(action).into_iter().collect::<serde_json::Map<_, _>>(),
        })
    }

    fn action(&self, action: &Action) -> Value {
        let shown = |action: &str, endpoints: Vec<String>, masquerade, reason: Option<&str>| {
            json!({
                "action": action,
                "endpoints": endpoints,
                "masquerade": masquerade,
                "reason": reason,
            })
        };
        match action {
            Action::Translate { set, masquerade } => {
                shown("translate", self.endpoints(*set), *masquerade, None)
            }
            Action::Reject(why) => shown("reject", Vec::new(), false, Some(reason(*why).name())),
            Action::Drop(why) => shown("drop", Vec::new(), false, Some(reason(*why).name())),
        }
    }

    fn endpoints(&self, set: hugepages::object::Key) -> Vec<String> {
        self.installed
            .contents
            .backends(set)
            .iter()
            .map(endpoint)
            .collect()
    }

    /// `None` for a service without counters of its own.
    fn counts<const N: usize>(
        &self,
        service: &Service,
        counters: [(ServiceCounter, &'static str); N],
    ) -> Option<[(&'static str, u64); N]> {
        let slot = self.installed.slot(service.key)?;
        Some(counters.map(|(counter, name)| (name, self.counters.service(slot, counter))))
    }
}

fn address_of(frontend: &Frontend) -> String {
    SocketAddr::new(frontend.address, frontend.port).to_string()
}

/// The different actions, each with the clients that it is for.
fn by_action(actions: &[Action; 3]) -> Vec<(String, &Action)> {
    let mut found: Vec<(Vec<&str>, &Action)> = Vec::new();
    for class in CLASSES {
        let action = &actions[class as usize];
        match found.iter_mut().find(|(_, other)| *other == action) {
            Some((classes, _)) => classes.push(class_name(class)),
            None => found.push((vec![class_name(class)], action)),
        }
    }
    let named = |(classes, action): (Vec<&str>, _)| match classes.len() {
        3 => ("all".to_owned(), action),
        _ => (classes.join(", "), action),
    };
    found.into_iter().map(named).collect()
}

fn some_endpoints(all: &[String]) -> String {
    let shown = all
        .iter()
        .take(SHOWN_ENDPOINTS)
        .cloned()
        .collect::<Vec<_>>();
    match all.len().saturating_sub(SHOWN_ENDPOINTS) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use hugepages::object::Why;

    use super::*;

    #[test]
    fn clients_with_the_same_action_share_a_row() {
        let keep = Action::Translate {
            set: 1,
            masquerade: false,
        };
        let rewrite = Action::Translate {
            set: 1,
            masquerade: true,
        };
        let clients = |actions: [Action; 3]| -> Vec<String> {
            by_action(&actions)
                .into_iter()
                .map(|(clients, _)| clients)
                .collect()
        };
        assert_eq!(clients([keep, rewrite, rewrite]), ["pod", "node, outside"]);
        assert_eq!(clients([keep, rewrite, keep]), ["pod, outside", "node"]);
        assert_eq!(clients([Action::Drop(Why::NoEndpoint); 3]), ["all"]);
    }

    #[test]
    fn many_endpoints_are_counted() {
        let all: Vec<String> = (1..=6).map(|n| n.to_string()).collect();
        assert_eq!(some_endpoints(&all[..4]), "1, 2, 3, 4");
        assert_eq!(some_endpoints(&all), "1, 2, 3, 4 and 2 more");
    }
}
