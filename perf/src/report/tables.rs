//! The tables of a page.

use super::section::Section;
use crate::figures::{self, Figure};
use crate::record::Record;
use crate::set::{Set, What};
use crate::stats::Summary;

/// Floors that the table of figures has a column for.
const COLUMNS: [&str; 5] = [
    "rx_tx",
    "nat",
    "staged_nat",
    "rte_hash_bulk",
    "testpmd_5tswap",
];

pub(super) fn machine(set: &Set) -> Option<Section> {
    let record = set.records.last()?;
    let loads = |of: fn(&Record) -> f64| {
        let figures: Vec<f64> = set.records.iter().map(of).collect();
        let Summary { min, max, .. } = Summary::of(&figures)?;
        Some(format!("{min} to {max}"))
    };
    let host = &record.host;
    let mut commits: Vec<&str> = set
        .records
        .iter()
        .map(|record| record.host.commit.as_str())
        .collect();
    commits.dedup();
    let rows = [
        ("commit", commits.join(", ")),
        ("processor", format!("{} of {}", host.cpus, host.cpu)),
        ("kernel", host.kernel.clone()),
        ("load over a minute", loads(|record| record.load.load_1m)?),
        (
            "per cent of all processors busy",
            loads(|record| record.load.busy_percent)?,
        ),
        (
            "per cent stolen by the hypervisor",
            loads(|record| record.load.steal_percent)?,
        ),
    ];
    let rows = rows
        .map(|(name, value)| vec![name.to_owned(), value])
        .to_vec();
    Some(Section::table("Machine", "", &["", ""], rows))
}

pub(super) fn table_of_figures(set: &Set) -> Option<Section> {
    let find = |id: &str| {
        let mut of_figure = set.records.iter().rev();
        of_figure.find(|record| record.figure.as_deref() == Some(id))
    };
    let row = |figure: Figure| {
        let record = find(figure.id)?;
        let Summary { min, max, .. } = record.repeats;
        let limit = figure.limit.nanos(record, find);
        let met = limit.map_or("", |limit| {
            if record.ns_per_packet <= limit {
                "yes"
            } else if min <= limit {
                "at best"
            } else {
                "no"
            }
        });
        let mut row = vec![
            figure.title.to_owned(),
            format!("{:.1}", record.ns_per_packet),
            format!("{min:.1}–{max:.1}"),
            figure.limit.text(),
            met.to_owned(),
        ];
        row.extend(COLUMNS.map(|floor| {
            let floor = record.floors.get(floor);
            floor.map_or_else(String::new, |floor| {
                format!("{:.1}", record.ns_per_packet / floor)
            })
        }));
        Some(row)
    };
    let rows: Vec<_> = figures::all().into_iter().filter_map(row).collect();
    let mut head = vec![
        "nanoseconds a packet",
        "median",
        "least–most",
        "asked for",
        "met",
    ];
    let columns = COLUMNS.map(|floor| format!("× {floor}"));
    head.extend(columns.iter().map(String::as_str));
    (!rows.is_empty()).then(|| Section::table("Figures", "", &head, rows))
}

/// Everybody else, and the gateway as a whole.
pub(super) fn peers(set: &Set) -> Option<Section> {
    let rows: Vec<_> = set
        .by_what()
        .into_iter()
        .filter(|(what, _)| what.subject != "engine")
        .map(|(what, records)| {
            let last = records[records.len() - 1];
            vec![
                what.label(),
                format!("{:.0}", last.ns_per_packet),
                format!("{:.0}–{:.0}", last.repeats.min, last.repeats.max),
                format!("{:.3}", 1000.0 / last.ns_per_packet),
            ]
        })
        .collect();
    let head = [
        "who and what",
        "ns a packet",
        "least–most",
        "million a second",
    ];
    (!rows.is_empty()).then(|| {
        Section::table(
            "The kernel, and the whole gateway beside it",
            "",
            &head,
            rows,
        )
    })
}

/// Records that are no time a packet, as they are.
pub(super) fn traffic(set: &Set) -> Option<Section> {
    let host = ["host", "commit", "cpu", "cpus", "kernel", "time", "seed"];
    let rows: Vec<_> = set
        .others
        .iter()
        .filter_map(|record| {
            let fields = record.as_object()?;
            let shown = fields.iter().filter(|(name, value)| {
                !host.contains(&name.as_str()) && !value.is_array() && !value.is_null()
            });
            let shown: Vec<_> = shown
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            Some(vec![shown.join("; ").replace('"', "")])
        })
        .collect();
    (!rows.is_empty()).then(|| Section::table("Other records", "", &["fields"], rows))
}

pub(super) fn everything(set: &Set) -> Option<Section> {
    let rows: Vec<_> = set
        .records
        .iter()
        .map(|record| {
            let floors: Vec<_> = record
                .floor_repeats
                .iter()
                .map(|(name, floor)| {
                    format!(
                        "{name} {:.1} ({:.1}–{:.1})",
                        floor.median, floor.min, floor.max
                    )
                })
                .collect();
            let figure = record
                .instructions_per_packet
                .unwrap_or(record.ns_per_packet);
            let Summary { min, max, .. } = record.repeats;
            vec![
                What::of(record).label(),
                format!("{figure:.1}"),
                format!("{min:.1}–{max:.1}"),
                floors.join(", "),
            ]
        })
        .collect();
    let head = ["measurement", "median", "least–most", "floors, ns"];
    (!rows.is_empty()).then(|| Section {
        is_main: false,
        ..Section::table("All records", "", &head, rows)
    })
}
