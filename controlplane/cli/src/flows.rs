//! `portgate flows`: the flow tables as they lie in the region, bucket by bucket.
//!
//! Reading is wait-free for both sides: an entry that changes under the reader is left out, and no
//! line is ever written, so a worker notices nothing but the cache lines that it shares.

use std::io::Write;

use engine::family::{V4, V6};
use engine::flow::{FlowTable, FlowView};
use hugepages::Family;
use packet::tuple::Tuple;
use serde::Serialize;
use settings::Settings;

use crate::args::FlowsOptions;
use crate::failure::Failure;
use crate::installed::{Installed, is_named};
use crate::observe;
use crate::table::Table;
use crate::words::protocol_name;

/// Rows that are aligned together.
const PIECE: usize = 500;

/// Lists the flows that match.
pub(crate) fn run(
    settings: &Settings,
    options: &FlowsOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let region = observe::open(settings)?;
    let installed = Installed::of(&region)?;
    let now = (hugepages::region::monotonic_nanos() / 1_000_000_000) as u32;
    let v4 = FlowTable::<V4>::new(
        region.flow_buckets(Family::V4),
        region.flow_entries(Family::V4),
        region.seeds(),
    );
    let v6 = FlowTable::<V6>::new(
        region.flow_buckets(Family::V6),
        region.flow_entries(Family::V6),
        region.seeds(),
    );
    let all = v4.flows().map(Flow::of).chain(v6.flows().map(Flow::of));
    let matching = all
        .filter(|flow| is_wanted(flow, options, &installed))
        .take(options.limit.unwrap_or(usize::MAX));
    let rows = matching.map(|flow| Row::of(&flow, &installed, now));
    if json {
        for row in rows {
            serde_json::to_writer(&mut *out, &row)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        "PROTO",
        "CLIENT",
        "SERVICE ADDRESS",
        "SOURCE",
        "ENDPOINT",
        "STATE",
        ">AGE",
        ">IDLE",
        "SERVICE",
    ]);
    for row in rows {
        table.push(row.cells());
        if table.pending() == PIECE {
            table.flush(out)?;
        }
    }
    Ok(table.flush(out)?)
}

/// A flow of either family.
struct Flow {
    forward: Tuple,
    translated: Tuple,
    state: engine::flow::State,
    last_seen: u32,
    made: u32,
    slot: u32,
}

impl Flow {
    fn of<F: engine::family::Family>(view: FlowView<F>) -> Self {
        Self {
            forward: F::tuple(&view.forward),
            translated: F::tuple(&view.translated),
            state: view.state,
            last_seen: view.last_seen,
            made: view.made,
            slot: view.slot,
        }
    }
}

fn is_wanted(flow: &Flow, options: &FlowsOptions, installed: &Installed) -> bool {
    let FlowsOptions {
        service,
        from,
        to,
        endpoint,
        state,
        protocol,
        limit: _,
    } = options;
    from.is_none_or(|wanted| wanted.matches(flow.forward.from()))
        && to.is_none_or(|wanted| wanted.matches(flow.forward.to()))
        && endpoint.is_none_or(|wanted| wanted.matches(flow.translated.to()))
        && state.is_none_or(|wanted| wanted == flow.state)
        && protocol.is_none_or(|wanted| wanted.number() == flow.forward.protocol)
        && service.as_ref().is_none_or(|wanted| {
            let found = installed.service_at(flow.slot);
            found.is_some_and(|service| is_named(service, wanted))
        })
}

/// A flow as it is shown; the fields are the columns and the JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    protocol: String,
    client: String,
    service_address: String,
    source: String,
    endpoint: String,
    state: &'static str,
    age_seconds: u32,
    idle_seconds: u32,
    service: Option<&'a str>,
    port_name: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(flow: &Flow, installed: &'a Installed, now: u32) -> Self {
        let service = installed.service_at(flow.slot);
        Self {
            protocol: protocol_name(flow.forward.protocol),
            client: flow.forward.from().to_string(),
            service_address: flow.forward.to().to_string(),
            source: flow.translated.from().to_string(),
            endpoint: flow.translated.to().to_string(),
            state: flow.state.name(),
            // A worker may have seen a frame, or made the flow, since the clock was read.
            age_seconds: now.saturating_sub(flow.made),
            idle_seconds: now.saturating_sub(flow.last_seen),
            service: service.map(|service| service.name.as_str()),
            port_name: service.map(|service| service.port_name.as_str()),
        }
    }

    fn cells(self) -> [String; 9] {
        let service = match (self.service, self.port_name) {
            (Some(service), None | Some("")) => service.to_owned(),
            (Some(service), Some(port)) => format!("{service}:{port}"),
            (None, _) => "-".to_owned(),
        };
        [
            self.protocol,
            self.client,
            self.service_address,
            self.source,
            self.endpoint,
            self.state.to_owned(),
            format!("{}s", self.age_seconds),
            format!("{}s", self.idle_seconds),
            service,
        ]
    }
}
