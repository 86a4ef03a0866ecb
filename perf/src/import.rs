//! `perf import-pktgen`: what Pktgen-DPDK counted, driven by `perf/pktgen/portgate.lua`, as the lab's records.
//!
//! The script's lines begin with [`PREFIX`]; all else is pktgen's own and is skipped. Pktgen has no sequence
//! numbers: what came twice or out of order is not known, and the records do not say that it was not.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::generate::WIRE;
use crate::record::traffic::Latency;

/// What the script's lines begin with.
const PREFIX: &str = "portgate-pktgen";

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What pktgen printed: its standard output, as it was.
    pub file: PathBuf,
    /// Folder with the files of sampled latencies that the lines name [default: that of FILE].
    #[arg(long)]
    pub samples: Option<PathBuf>,
    /// Commit of the gateway that was measured; pktgen cannot know it.
    #[arg(long, default_value = "")]
    pub commit: String,
    /// Name of the machine that the gateway ran on.
    #[arg(long, default_value = "")]
    pub host: String,
}

/// A line of the script.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Start {
        #[serde(default)]
        pktgen: String,
        #[serde(default)]
        dpdk: String,
        time: u64,
    },
    Run(Counted),
    Trial(Counted),
    Throughput(Counted),
    #[serde(rename = "throughput_at_0_1_percent")]
    Nearly(Counted),
    End,
}

/// What it counted. Sizes are bytes with FCS.
#[derive(Debug, Clone, Deserialize)]
struct Counted {
    scenario: String,
    size: u32,
    flows: u32,
    /// Of the speed that the device says it has.
    rate_percent: f64,
    /// 0 if so many frames were sent as there are flows, however long that took.
    seconds: f64,
    sent: u64,
    /// More than were sent if others speak on the link.
    received: i64,
    #[serde(default)]
    tx_failed: u64,
    #[serde(default)]
    missed: u64,
    #[serde(default)]
    samples: Option<PathBuf>,
}

/// A record, with the words of [`crate::record::traffic::TrafficRecord`] as far as pktgen knows what they are for.
#[derive(Debug, Serialize)]
struct Imported {
    name: String,
    verb: &'static str,
    scenario: String,
    lab: &'static str,
    family: u8,
    flows: u32,
    size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    seconds: f64,
    #[serde(flatten)]
    found: Found,
    #[serde(flatten)]
    origin: Origin,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Run {
        frames: Frames,
        rate_percent: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        received_rate: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        received_bits: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        latency: Option<Latency>,
        #[serde(skip_serializing_if = "Option::is_none")]
        latency_curve: Option<Vec<(f64, u64)>>,
    },
    Throughput {
        throughput: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        throughput_at_0_1_percent: Option<f64>,
        limit: &'static str,
        /// Frames a second, and the part that was lost.
        trials: Vec<(f64, f64)>,
    },
}

#[derive(Debug, Serialize)]
struct Frames {
    offered: u64,
    sent: Sent,
    received: Received,
    lost: u64,
    tx_failed: u64,
    missed: u64,
}

#[derive(Debug, Serialize)]
struct Sent {
    data: u64,
}

#[derive(Debug, Serialize)]
struct Received {
    distinct: u64,
}

/// Who measured, and what.
#[derive(Debug, Clone, Default, Serialize)]
struct Origin {
    pktgen: String,
    dpdk: String,
    time: u64,
    commit: String,
    host: String,
}

/// Prints the records, one a line.
///
/// # Errors
///
/// [`Error::Usage`] for a file that holds no such output, [`Error::Run`] if the script says that it failed.
pub fn run(options: &Options) -> Result<(), Error> {
    let path = &options.file;
    let bytes = fs::read(path)
        .map_err(|error| Error::Usage(format!("{} cannot be read: {error}", path.display())))?;
    let samples = options.samples.clone();
    let samples = samples.or_else(|| Some(path.parent()?.to_owned()));
    let origin = Origin {
        commit: options.commit.clone(),
        host: options.host.clone(),
        ..Origin::default()
    };
    // Pktgen moves the cursor about: not all that it prints is text.
    let text = String::from_utf8_lossy(&bytes);
    let records =
        import(&text, &samples.unwrap_or_default(), origin).map_err(|why| why.of(path))?;
    for record in records {
        let line = serde_json::to_string(&record).map_err(|error| Error::Run(error.to_string()))?;
        println!("{line}");
    }
    Ok(())
}

/// Why a file gives no records.
#[derive(Debug, PartialEq)]
enum Refusal {
    /// Nothing of the script's is in it.
    Nothing,
    /// A line that is not as the script writes them.
    Line(usize, String),
    /// The script's own words.
    Failed(String),
}

impl Refusal {
    fn of(self, path: &Path) -> Error {
        let path = path.display();
        match self {
            Self::Nothing => Error::Usage(format!(
                "{path} has no line that begins with {PREFIX}: was pktgen run with -f portgate.lua?"
            )),
            Self::Line(number, why) => Error::Usage(format!("{path} line {number}: {why}")),
            Self::Failed(why) => Error::Run(format!("{path}: the script failed: {why}")),
        }
    }
}

fn import(text: &str, samples: &Path, mut origin: Origin) -> Result<Vec<Imported>, Refusal> {
    let mut records = Vec::new();
    let mut trials = Vec::new();
    let (mut is_started, mut is_ended) = (false, false);
    for (number, line) in (1..).zip(text.lines()) {
        // The cursor's movements may stand before it.
        let Some((_, rest)) = line.split_once(PREFIX) else {
            continue;
        };
        if let Some(why) = rest.strip_prefix(':') {
            return Err(Refusal::Failed(why.trim().to_owned()));
        }
        let refuse = |error: &dyn std::fmt::Display| Refusal::Line(number, error.to_string());
        let line: Line = serde_json::from_str(rest.trim()).map_err(|error| refuse(&error))?;
        match line {
            Line::Start { pktgen, dpdk, time } => {
                is_started = true;
                (origin.pktgen, origin.dpdk, origin.time) = (pktgen, dpdk, time);
            }
            Line::Run(run) => {
                let latency = run.latency(samples).map_err(|why| refuse(&why))?;
                records.push(run.record(&origin, latency));
            }
            Line::Trial(trial) => trials.push((trial.rate().unwrap_or(0.0).round(), trial.loss())),
            Line::Throughput(found) => {
                records.push(found.throughput(&origin, std::mem::take(&mut trials)));
            }
            Line::Nearly(found) => found.nearly(&mut records, std::mem::take(&mut trials)),
            Line::End => is_ended = true,
        }
    }
    if !is_started {
        return Err(Refusal::Nothing);
    }
    if !is_ended {
        eprintln!("perf: the run was cut short; this is what it had measured");
    }
    Ok(records)
}

impl Counted {
    /// Frames a second sent; unknown if a number was sent, not a time.
    fn rate(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.sent as f64 / self.seconds)
    }

    fn distinct(&self) -> u64 {
        u64::try_from(self.received).unwrap_or(0).min(self.sent)
    }

    fn loss(&self) -> f64 {
        match self.sent {
            0 => 1.0,
            sent => (sent - self.distinct()) as f64 / sent as f64,
        }
    }

    fn record(&self, origin: &Origin, latency: Option<Latency>) -> Imported {
        let received_rate = self
            .rate()
            .map(|_| (self.distinct() as f64 / self.seconds).round());
        let bits = |rate: f64| (rate * (f64::from(self.size) + WIRE) * 8.0).round();
        self.imported(
            "pktgen",
            origin,
            Found::Run {
                frames: Frames {
                    offered: self.sent,
                    sent: Sent { data: self.sent },
                    received: Received {
                        distinct: self.distinct(),
                    },
                    lost: self.sent - self.distinct(),
                    tx_failed: self.tx_failed,
                    missed: self.missed,
                },
                rate_percent: self.rate_percent,
                received_rate,
                received_bits: received_rate.map(bits),
                latency_curve: latency.as_ref().map(|latency| latency.curve.clone()),
                latency,
            },
        )
    }

    fn throughput(&self, origin: &Origin, trials: Vec<(f64, f64)>) -> Imported {
        let found = Found::Throughput {
            throughput: self.rate().unwrap_or(0.0).round(),
            throughput_at_0_1_percent: None,
            limit: "unknown",
            trials,
        };
        self.imported("pktgen search", origin, found)
    }

    /// Belongs to the throughput before it.
    fn nearly(&self, records: &mut [Imported], more: Vec<(f64, f64)>) {
        let last = records.last_mut().map(|record| &mut record.found);
        if let Some(Found::Throughput {
            throughput_at_0_1_percent: nearly,
            trials,
            ..
        }) = last
        {
            *nearly = self.rate().map(f64::round);
            trials.extend(more);
        }
    }

    fn imported(&self, verb: &'static str, origin: &Origin, found: Found) -> Imported {
        Imported {
            name: format!(
                "pktgen, {}, {} flows, {} bytes, {} %",
                self.scenario, self.flows, self.size, self.rate_percent
            ),
            verb,
            scenario: self.scenario.clone(),
            lab: "pktgen",
            family: 4,
            flows: self.flows,
            size: self.size.to_string(),
            rate: self.rate().map(f64::round),
            seconds: self.seconds,
            found,
            origin: origin.clone(),
        }
    }

    /// Of the file of samples, if there is to be one: nanoseconds, one a line, after a line of text.
    fn latency(&self, folder: &Path) -> Result<Option<Latency>, String> {
        let Some(name) = self.samples.as_deref().and_then(Path::file_name) else {
            return Ok(None);
        };
        let path = folder.join(name);
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("samples {}: {error}", path.display()))?;
        let mut histogram = Latency::histogram();
        for sample in text
            .lines()
            .filter_map(|line| line.trim().parse::<u64>().ok())
        {
            histogram.saturating_record(sample);
        }
        Ok(Latency::of(&histogram))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn recorded(name: &str) -> Vec<Value> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pktgen/recorded");
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let records = import(&text, &folder, Origin::default()).unwrap();
        let values = records
            .iter()
            .map(|record| serde_json::to_value(record).unwrap());
        values.collect()
    }

    #[test]
    fn a_recorded_run_gives_a_record_for_each_size_and_rate() {
        let records = recorded("udp.txt");
        assert_eq!(records.len(), 4);
        let first = &records[0];
        assert_eq!(first["pktgen"], "Pktgen 23.03.0");
        assert_eq!(
            (&first["size"], &first["flows"]),
            (&"64".into(), &1000.into())
        );
        assert_eq!(first["frames"]["sent"]["data"], 18_880);
        assert_eq!(first["frames"]["received"]["distinct"], 18_848);
        assert_eq!(first["frames"]["lost"], 32);
        assert_eq!(
            (&first["rate"], &first["received_rate"]),
            (&9440.0.into(), &9424.0.into())
        );
        assert_eq!(first["received_bits"], 9424.0 * 84.0 * 8.0);
        // 116 samples behind the head of samples-64-0.05.txt.
        assert_eq!(first["latency"]["count"], 116);
        assert!(first["latency"]["p99_9"].as_u64() >= first["latency"]["p50"].as_u64());
        assert!(first["latency_curve"].is_array());
    }

    #[test]
    fn a_number_of_frames_has_no_rate() {
        let records = recorded("new.txt");
        assert_eq!(records.len(), 2);
        for record in &records {
            assert_eq!(record["scenario"], "new");
            assert_eq!(record["frames"]["lost"], 0);
            assert!(record.get("rate").is_none() && record.get("received_rate").is_none());
        }
    }

    #[test]
    fn a_search_that_was_cut_short_has_what_it_found() {
        let records = recorded("search.txt");
        assert_eq!(records.len(), 1);
        let found = &records[0];
        assert_eq!(found["throughput"], 6272.0);
        assert!(found.get("throughput_at_0_1_percent").is_none());
        let trials = found["trials"].as_array().unwrap();
        assert_eq!(trials.len(), 10);
        assert_eq!(trials[9], serde_json::json!([6272.0, 0.0]));
        assert!(trials[0][1].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn what_is_no_output_of_the_script_is_refused_by_name() {
        let refused = |text: &str| import(text, Path::new("."), Origin::default()).unwrap_err();
        assert_eq!(refused("Pktgen:/> quit\n"), Refusal::Nothing);
        let failed = refused("portgate-pktgen: PORTGATE_SIZES: x is no number\n");
        assert_eq!(
            failed,
            Refusal::Failed("PORTGATE_SIZES: x is no number".to_owned())
        );
        let Refusal::Line(2, _) = refused("\nportgate-pktgen {\"kind\":\"walk\"}\n") else {
            panic!("the line is named");
        };
        let missing = "portgate-pktgen {\"kind\":\"start\",\"time\":1}\nportgate-pktgen {\"kind\":\"run\",\
            \"scenario\":\"udp\",\"size\":64,\"flows\":1,\"rate_percent\":1,\"seconds\":1,\"sent\":1,\
            \"received\":1,\"samples\":\"none.txt\"}\n";
        let Refusal::Line(2, why) = refused(missing) else {
            panic!("the line is named");
        };
        assert!(why.contains("none.txt"), "{why}");
    }
}
