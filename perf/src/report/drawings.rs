//! The plots of a page.

use std::collections::BTreeMap;

use super::plots::{self, Line};
use super::section::Section;
use crate::Error;
use crate::capsule::{BESIDE, CAPSULE};
use crate::record::Record;
use crate::set::{Set, USUAL, What, count};

pub(super) fn throughput(set: &Set) -> Result<Option<Section>, Error> {
    // Of several measurements, such as on other pages, the best one counts.
    let mut best = BTreeMap::<String, BTreeMap<usize, f64>>::new();
    for (what, records) in set.by_what() {
        if !is_plain(&what) {
            continue;
        }
        let last = records[records.len() - 1];
        let mut add = |name: String, nanos: f64| {
            let known = best
                .entry(name)
                .or_default()
                .entry(what.flows)
                .or_insert(nanos);
            *known = known.min(nanos);
        };
        add(format!("Portgate, IPv{}", what.family), last.ns_per_packet);
        if what.family == 4 {
            for floor in ["staged_nat", "testpmd_5tswap"] {
                if let Some(nanos) = last.floors.get(floor) {
                    add(floor.to_owned(), *nanos);
                }
            }
        }
    }
    let points = |best: BTreeMap<usize, f64>| {
        let best = best.into_iter();
        best.map(|(flows, nanos)| (flows as f64, 1000.0 / nanos))
            .collect()
    };
    let lines: Vec<_> = best
        .into_iter()
        .map(|(name, best)| Line {
            name,
            points: points(best),
        })
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let text = "Established flows, frames of 60 and 74 bytes, one worker.";
    Ok(Some(Section::plot(
        "Throughput by flows",
        text,
        plots::by_flows(&lines)?,
    )))
}

/// Established flows, nothing unusual.
pub(super) fn is_plain(what: &What) -> bool {
    what.subject == "engine"
        && what.scenario == "established"
        && what.variant == "both"
        && what.workers == 1
        && (what.services, what.burst, what.mbufs) == USUAL
        && !what.instructions
}

/// Peers and floors as multiples of the engine, established flows over IPv4.
pub(super) fn ratios(set: &Set) -> Result<Option<Section>, Error> {
    let ours: Vec<(What, &Record)> = set
        .by_what()
        .into_iter()
        .filter(|(what, _)| is_plain(what) && what.family == 4)
        .map(|(what, records)| (what, records[records.len() - 1]))
        .collect();
    let Some((_, first)) = ours.first() else {
        return Ok(None);
    };
    let mut rows = Vec::new();
    for (what, record) in &ours {
        for floor in [
            "rx_tx",
            "nat",
            "staged_nat",
            "rte_hash_bulk",
            "testpmd_5tswap",
            "testpmd_csum",
        ] {
            if let Some(nanos) = record.floors.get(floor) {
                let name = format!("{floor}, {}", count(what.flows));
                rows.push((name, nanos / record.ns_per_packet));
            }
        }
    }
    for (what, records) in set.by_what() {
        let is_idiomatic = what.subject == format!("{CAPSULE}combinators")
            && (what.frame_size, what.burst) == (60, 32);
        let is_shown = what.scenario == "established" || is_idiomatic;
        if matches!(what.subject.as_str(), "engine" | BESIDE) || !is_shown || what.family != 4 {
            continue;
        }
        let base = ours.iter().find(|(ours, _)| ours.flows == what.flows);
        let base = base.map_or(*first, |(_, record)| *record);
        let nanos = records[records.len() - 1].ns_per_packet;
        let name = match is_idiomatic {
            true => "capsule, combinators, no table".to_owned(),
            false => format!("{}, {}", what.subject, count(what.flows)),
        };
        rows.push((name, nanos / base.ns_per_packet));
    }
    let text =
        "Established flows over IPv4, by number of flows. Floors do less than the gateway does.";
    Ok(Some(Section::plot(
        "Against floors and peers",
        text,
        plots::bars(&rows)?,
    )))
}

/// Measurements whose course over commits is shown: scenario, variant, family, flows.
const FOLLOWED: [(&str, &str, u8, usize); 6] = [
    ("established", "both", 4, 1000),
    ("established", "both", 4, 65_536),
    ("established", "both", 4, 1_000_000),
    ("established", "both", 6, 65_536),
    ("new", "", 4, 65_536),
    ("flood", "no-endpoint", 4, 65_536),
];

pub(super) fn by_commit(set: &Set, history: &Set) -> Result<Option<Section>, Error> {
    let mut records: Vec<&Record> = history
        .records
        .iter()
        .chain(&set.records)
        .filter(|record| record.subject == "engine" && record.instructions_per_packet.is_none())
        .filter(|record| (record.workers, record.services, record.burst) == (1, 100, 32))
        // So many were usual in the first records: others cannot be compared with them.
        .filter(|record| record.mbufs == 32_768)
        .collect();
    records.sort_by_key(|record| record.host.time);
    let mut commits: Vec<String> = Vec::new();
    let mut lines = BTreeMap::<usize, BTreeMap<usize, f64>>::new();
    for record in records {
        let followed = FOLLOWED
            .iter()
            .position(|(scenario, variant, family, flows)| {
                record.scenario == *scenario
                    && record.variant == *variant
                    && (record.family, record.flows) == (*family, *flows)
            });
        let Some(line) = followed else { continue };
        let commit: String = record.host.commit.chars().take(7).collect();
        let at = commits.iter().position(|known| *known == commit);
        let at = at.unwrap_or_else(|| {
            commits.push(commit);
            commits.len() - 1
        });
        lines
            .entry(line)
            .or_default()
            .insert(at, record.ns_per_packet);
    }
    if commits.len() < 2 {
        return Ok(None);
    }
    let lines: Vec<Line> = lines
        .into_iter()
        .map(|(line, points)| {
            let (scenario, _, family, flows) = FOLLOWED[line];
            Line {
                name: format!("{scenario}, IPv{family}, {}", count(flows)),
                points: points
                    .into_iter()
                    .map(|(at, nanos)| (at as f64, nanos))
                    .collect(),
            }
        })
        .collect();
    let text = "In the order in which they were measured, on machines that may differ.";
    let plot = plots::history(&commits, &lines)?;
    Ok(Some(Section::plot("By commit", text, plot)))
}
