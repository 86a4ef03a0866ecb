//! The tables of a page.

use serde_json::Value;

use super::section::Section;
use crate::capsule;
use crate::figures::{self, Figure};
use crate::record::Record;
use crate::set::{Set, What, count};
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
        let latency = record.rx_to_tx.as_ref();
        row.push(latency.map_or_else(String::new, |latency| {
            format!("{:.1}", latency.p99_9 as f64 / 1000.0)
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
    head.push("rx to tx, 99.9 %, µs");
    let text = "Rx to tx: what the gateway adds to a burst at full load, from having received it until its last frame is \
                handed to the device.";
    (!rows.is_empty()).then(|| Section::table("Figures", text, &head, rows))
}

/// Everybody else, and the gateway as a whole.
pub(super) fn peers(set: &Set) -> Option<Section> {
    let rows: Vec<_> = set
        .by_what()
        .into_iter()
        .filter(|(what, _)| what.subject != "engine" && !is_of_capsule(what))
        .map(|(what, records)| {
            let last = records[records.len() - 1];
            vec![
                what.label(),
                format!("{:.0}", last.ns_per_packet),
                format!("{:.0}–{:.0}", last.repeats.min, last.repeats.max),
                format!("{:.3}", 1000.0 / last.ns_per_packet),
                lost(last),
            ]
        })
        .collect();
    let head = [
        "who and what",
        "ns a packet",
        "least–most",
        "million a second",
        "lost",
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

fn is_of_capsule(what: &What) -> bool {
    what.subject == capsule::BESIDE || what.subject.starts_with(capsule::CAPSULE)
}

/// The crate capsule, and the gateway measured in turns with it.
pub(super) fn beside_capsule(set: &Set) -> Option<Section> {
    let rows: Vec<_> = set
        .by_what()
        .into_iter()
        .filter(|(what, _)| is_of_capsule(what))
        .map(|(what, records)| {
            let last = records[records.len() - 1];
            let Summary { min, max, .. } = last.repeats;
            let floor = |name: &str| {
                let floor = last.floors.get(name);
                floor.map_or_else(String::new, |floor| {
                    format!("{:.1}", last.ns_per_packet / floor)
                })
            };
            let bursts = what.burst.to_string();
            vec![
                what.subject,
                what.frame_size.to_string(),
                bursts,
                format!("{:.1}", last.ns_per_packet),
                format!("{min:.1}–{max:.1}"),
                floor("rx_tx"),
                floor("nat"),
                floor("testpmd_5tswap"),
            ]
        })
        .collect();
    let head = [
        "who",
        "bytes",
        "burst",
        "ns a packet",
        "least–most",
        "× rx_tx",
        "× nat",
        "× testpmd_5tswap",
    ];
    let text = "capsule rewrites by one fixed translation, without a table: “combinators” is the way of its examples, \
                “custom” a loop over its buffers, “raw” the same over DPDK's. The gateway does all that it does.";
    (!rows.is_empty()).then(|| Section::table("The crate capsule", text, &head, rows))
}

/// Per cent of the frames that did not arrive.
fn lost(record: &Record) -> String {
    let fates = record.fates;
    format!(
        "{:.1} %",
        fates.dropped as f64 / fates.frames.max(1) as f64 * 100.0
    )
}

/// Test traffic through a gateway: runs and what was searched for.
pub(super) fn traffic(set: &Set) -> Option<Section> {
    let rows: Vec<_> = set.others.iter().map(traffic_row).collect();
    let head = [
        "traffic through the gateway",
        "frames a second sent",
        "received",
        "lost",
        "latency µs: median",
        "99 %",
        "99.9 %",
    ];
    let text = "Rows of a search give what held without loss, and under “lost” what held at 0.1 %.";
    (!rows.is_empty()).then(|| Section::table("Whole gateway, test traffic", text, &head, rows))
}

fn traffic_row(record: &Value) -> Vec<String> {
    let word = |key: &str| match record.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_f64);
    let whole = |value: Option<f64>| {
        value.map_or_else(String::new, |value| count(value.round().max(0.0) as usize))
    };
    let what = format!(
        "{}: {} over {}, {} flows, {} bytes",
        word("verb"),
        word("scenario"),
        word("lab"),
        word("flows"),
        word("size")
    );
    if let Some(throughput) = number("/throughput") {
        let tolerant = whole(number("/throughput_at_0_1_percent"));
        let none = String::new;
        let limit = word("limit");
        let what = format!("{what} (limit: {limit})");
        return vec![
            what,
            none(),
            whole(Some(throughput)),
            tolerant,
            none(),
            none(),
            none(),
        ];
    }
    let offered = number("/frames/offered").zip(number("/seconds"));
    let micros = |key: &str| {
        let nanos = number(&format!("/latency/{key}"));
        nanos.map_or_else(String::new, |nanos| format!("{:.1}", nanos / 1000.0))
    };
    vec![
        what,
        whole(offered.map(|(frames, seconds)| frames / seconds)),
        whole(number("/received_rate")),
        whole(number("/frames/lost")),
        micros("p50"),
        micros("p99"),
        micros("p99_9"),
    ]
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
