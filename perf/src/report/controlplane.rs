//! Clusters' objects on their way to workers, as a table.

use super::section::Section;
use crate::record::controlplane::{Carried, ControlPlaneRecord, Memory, Spread};
use crate::set::{Set, count};

const TEXT: &str = "“First list” is from the text of a list's first page until a worker has it, “change” from the text of an \
                    EndpointSlice in which one endpoint is another until the first frame of a new flow is sent to it (in a service of \
                    100,000 endpoints: until a worker has it).";

/// The table; `None` if nothing of the kind was measured.
pub(super) fn section(set: &Set) -> Option<Section> {
    let head = [
        "services × endpoints",
        "first list, s",
        "change, ms: median",
        "99 %",
        "most",
        "asked for",
        "ten times a tenth: list, change, memory",
        "MB: control plane",
        "data plane",
        "region",
        "started again, s: control plane",
        "data plane",
        "rate during changes",
    ];
    let rows: Vec<_> = set.control_planes.iter().map(row).collect();
    (!rows.is_empty()).then(|| Section::table("From the cluster to a worker", TEXT, &head, rows))
}

fn row(record: &ControlPlaneRecord) -> Vec<String> {
    let seconds = |nanos: u64| format!("{:.2}", nanos as f64 / 1e9);
    let millis = |nanos: u64| format!("{:.2}", nanos as f64 / 1e6);
    let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
    let change = &record.change;
    let Spread { p50, p99, max, .. } = change.met.unwrap_or(change.seen);
    let missed: Vec<_> = record.asked.iter().filter(|asked| !asked.met).collect();
    let asked = if missed.is_empty() {
        "met".to_owned()
    } else {
        let missed = missed
            .iter()
            .map(|asked| format!("not met: {} < {} ms", asked.what, asked.limit));
        missed.collect::<Vec<_>>().join("; ")
    };
    let growth = record.growth.map_or_else(String::new, |growth| {
        format!(
            "{:.1}, {:.2}, {:.1}",
            growth.list, growth.change, growth.memory
        )
    });
    let Memory { own: control, .. } = record.memory_control_plane;
    let Memory { own: data, region } = record.memory_data_plane;
    let Carried { ratio, .. } = record.carried;
    vec![
        format!("{} × {}", count(record.services), count(record.endpoints)),
        seconds(record.list.seen),
        millis(p50),
        millis(p99),
        millis(max),
        asked,
        growth,
        megabytes(control),
        megabytes(data),
        megabytes(region),
        seconds(record.replay),
        seconds(record.restart),
        format!("× {:.3} ({:.3}–{:.3})", ratio.median, ratio.min, ratio.max),
    ]
}
