//! Sets of records, read back: from a file of JSON lines, or all of a folder's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Error;
use crate::record::Record;
use crate::record::controlplane::ControlPlaneRecord;

/// What was measured, and how: figures of equal ones may be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct What {
    /// See [`Record::subject`].
    pub subject: String,
    /// See [`Record::scenario`].
    pub scenario: String,
    /// See [`Record::family`].
    pub family: u8,
    /// See [`Record::flows`].
    pub flows: usize,
    /// See [`Record::variant`].
    pub variant: String,
    /// See [`Record::workers`].
    pub workers: usize,
    /// See [`Record::services`].
    pub services: usize,
    /// See [`Record::endpoints`].
    pub endpoints: usize,
    /// See [`Record::burst`].
    pub burst: usize,
    /// See [`Record::mbufs`].
    pub mbufs: usize,
    /// See [`Record::frame_size`].
    pub frame_size: usize,
    /// See [`Record::link`].
    pub link: String,
    /// See [`Record::table_pages`].
    pub table_pages: String,
    /// Whether instructions were counted, not time.
    pub instructions: bool,
}

/// Services, endpoints of each, burst and buffers that go without saying.
pub(crate) const USUAL: (usize, usize, usize) = (100, 32, 4_096);

impl What {
    /// Of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            subject: record.subject.clone(),
            scenario: record.scenario.clone(),
            family: record.family,
            flows: rounded(record),
            variant: record.variant.clone(),
            workers: record.workers,
            services: record.services,
            endpoints: record.endpoints,
            burst: record.burst,
            mbufs: record.mbufs,
            frame_size: record.frame_size,
            link: record.link.clone(),
            table_pages: record.table_pages.clone(),
            instructions: record.instructions_per_packet.is_some(),
        }
    }

    /// For people; what is as usual is left out.
    #[must_use]
    pub fn label(&self) -> String {
        let mut parts = vec![self.scenario.clone()];
        if !self.variant.is_empty() && self.variant != "both" {
            parts.push(self.variant.clone());
        }
        parts.push(format!("IPv{}", self.family));
        parts.push(format!("{} flows", count(self.flows)));
        let (services, burst, mbufs) = USUAL;
        if self.workers != 1 {
            parts.push(format!("{} workers", self.workers));
        }
        if self.services != services {
            let endpoints = self.services * self.endpoints;
            let of = format!(
                "{} services, {} endpoints",
                count(self.services),
                count(endpoints)
            );
            parts.push(of);
        }
        if self.burst != burst {
            parts.push(format!("bursts of {}", self.burst));
        }
        if self.mbufs != mbufs && self.mbufs > 0 {
            parts.push(format!("{} buffers", count(self.mbufs)));
        }
        if self.frame_size > 74 {
            parts.push(format!("{} bytes", self.frame_size));
        }
        if self.link != "ring" {
            parts.push(format!("on {}", self.link));
        }
        if !matches!(self.table_pages.as_str(), "huge" | "none") {
            parts.push(format!("{} pages", self.table_pages));
        }
        if self.instructions {
            parts.push("instructions".to_owned());
        }
        let what = parts.join(", ");
        match self.subject.as_str() {
            "engine" => what,
            subject => format!("{subject}: {what}"),
        }
    }
}

/// A full table holds a few flows more or less after each change of the hash.
fn rounded(record: &Record) -> usize {
    match record.variant.as_str() {
        "table-full" => record.capacity * 2,
        _ => record.flows,
    }
}

/// 1,048,576.
#[must_use]
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A distribution of latencies that some record holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it is of.
    pub name: String,
    /// Percentile and nanoseconds, ascending.
    pub points: Vec<(f64, f64)>,
}

/// All that was read.
#[derive(Debug, Default)]
pub struct Set {
    /// Times and instruction counts.
    pub records: Vec<Record>,
    /// Latencies of test traffic.
    pub curves: Vec<Curve>,
    /// Clusters' objects on their way to workers.
    pub control_planes: Vec<ControlPlaneRecord>,
    /// All that is none of these: test traffic and what was searched with it, as it was written.
    pub others: Vec<Value>,
}

impl Set {
    /// Reads a file of JSON lines, or every `.jsonl` of a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] that names file and line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let fail = |why: &dyn std::fmt::Display| {
            Error::Usage(format!(
                "records cannot be read from {}: {why}",
                path.display()
            ))
        };
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(|error| fail(&error))?;
            files = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
                .collect::<Vec<PathBuf>>();
            files.sort();
        }
        let mut set = Self::default();
        for file in &files {
            let text = fs::read_to_string(file).map_err(|error| fail(&error))?;
            for (number, line) in (1..).zip(text.lines()) {
                set.add(line).map_err(|why| {
                    Error::Usage(format!(
                        "{} line {number} is no record: {why}",
                        file.display()
                    ))
                })?;
            }
        }
        Ok(set)
    }

    /// Adds a line.
    fn add(&mut self, line: &str) -> Result<(), serde_json::Error> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(line)?;
        if let Some(curve) = curve(&value) {
            self.curves.push(curve);
        }
        if value.get("ns_per_packet").is_some() {
            self.records.push(serde_json::from_value(value)?);
        } else if value.get("verb").is_some_and(|verb| verb == "controlplane") {
            self.control_planes.push(serde_json::from_value(value)?);
        } else {
            self.others.push(value);
        }
        Ok(())
    }

    /// The records of each measurement.
    #[must_use]
    pub fn by_what(&self) -> BTreeMap<What, Vec<&Record>> {
        let mut sorted = BTreeMap::<_, Vec<&Record>>::new();
        for record in &self.records {
            sorted.entry(What::of(record)).or_default().push(record);
        }
        sorted
    }
}

fn curve(value: &Value) -> Option<Curve> {
    let points = value.get("latency_curve")?.as_array()?;
    let points = points
        .iter()
        .filter_map(|pair| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_f64()?)))
        .collect();
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("?");
    let rate = value.get("rate").and_then(Value::as_f64);
    let rate = rate.map_or_else(
        || "full speed".to_owned(),
        |rate| format!("{} a second", count(rate.round() as usize)),
    );
    let name = format!(
        "{} over {}, {} bytes, {rate}",
        word("scenario"),
        word("lab"),
        word("size")
    );
    Some(Curve { name, points })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record as `perf engine` prints it.
    pub(crate) fn line(flows: usize, nanos: f64) -> String {
        format!(
            r#"{{"scenario":"established","variant":"both","family":4,"flows":{flows},"capacity":{flows},"workers":1,
"ns_per_packet":{nanos},"repeats":{{"count":3,"min":{},"median":{nanos},"max":{}}},"floors":{{"nat":6.0}},
"floor_repeats":{{"nat":{{"count":3,"min":5.9,"median":6.0,"max":6.1}}}},"fates":{{"frames":9,"hits":9,"created":0,
"refused":0,"dropped":0}},"services":100,"endpoints":2,"frame_size":60,"burst":32,"mbufs":4096,"link":"ring",
"table_pages":"huge","packet_huge_pages":true,"seed":1,"host":"h","commit":"c","cpu":"x","cpus":2,"kernel":"k",
"time":1,"load_1m":1.0,"busy_percent":50.0,"steal_percent":0.0}}"#,
            nanos - 1.0,
            nanos + 1.0
        )
        .replace('\n', "")
    }

    #[test]
    fn a_folder_of_records_is_read_in_order_and_a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("b.jsonl", line(2, 20.0) + "\n");
        write("a.jsonl", line(1, 10.0) + "\n\n");
        write(
            "c.jsonl",
            r#"{"verb":"gen","scenario":"udp","lab":"memif","size":"64","rate":1e6,
                "latency_curve":[[50,1000],[99.9,5000]]}"#
                .replace('\n', ""),
        );
        write("other.txt", "nonsense".to_owned());
        let set = Set::read(folder.path()).unwrap();
        let flows: Vec<_> = set.records.iter().map(|record| record.flows).collect();
        assert_eq!(flows, [1, 2]);
        assert_eq!(set.records[0].subject, "engine");
        assert_eq!(set.curves[0].points, [(50.0, 1000.0), (99.9, 5000.0)]);
        let name = set.curves[0].name.as_str();
        assert_eq!(name, "udp over memif, 64 bytes, 1,000,000 a second");
        assert_eq!(set.others.len(), 1);

        write("b.jsonl", format!("{}\nnonsense\n", line(2, 20.0)));
        let error = Set::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b.jsonl line 2"), "{error}");
        assert!(Set::read(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn labels_say_what_is_not_as_usual() {
        let mut record: Record = serde_json::from_str(&line(65_536, 10.0)).unwrap();
        assert_eq!(What::of(&record).label(), "established, IPv4, 65,536 flows");
        record.burst = 1;
        record.services = 10_000;
        record.subject = "kernel".to_owned();
        assert_eq!(
            What::of(&record).label(),
            "kernel: established, IPv4, 65,536 flows, 10,000 services, 20,000 endpoints, bursts of 1"
        );
    }
}
