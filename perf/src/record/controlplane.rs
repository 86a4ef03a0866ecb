//! What `perf controlplane` finds out.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::host::{Host, Load};
use crate::stats::Summary;

/// A cluster of one size: times are nanoseconds, memory is bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ControlPlaneRecord {
    /// `controlplane`.
    pub verb: String,
    /// Services by endpoints of each: `10000x10`.
    pub scenario: String,
    /// Services.
    pub services: usize,
    /// Endpoints of each.
    pub endpoints: usize,
    /// Established flows whose frames were carried meanwhile.
    pub flows: usize,
    /// Objects in the region.
    pub objects: usize,
    /// The first list.
    pub list: List,
    /// Changes of one endpoint.
    pub change: Change,
    /// Frames of established flows.
    pub carried: Carried,
    /// Of the process with the control plane, all changes made.
    pub memory_control_plane: Memory,
    /// Of the process with the data plane.
    pub memory_data_plane: Memory,
    /// A control plane that starts again, from the first page of its list to the worker's new generation.
    pub replay: u64,
    /// A data plane that starts again: to installing what the journal holds.
    pub restart: u64,
    /// What was asked for.
    pub asked: Vec<Asked>,
    /// Against a tenth of the size, measured in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Of every random choice.
    pub seed: u64,
    /// Machine and source.
    #[serde(flatten)]
    pub host: Host,
    /// The machine's load meanwhile.
    #[serde(flatten)]
    pub load: Load,
}

/// The first list, from the text of its first page.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct List {
    /// Bytes of text.
    pub bytes: u64,
    /// Text to JSON values.
    pub parsing: u64,
    /// JSON values to the model.
    pub converting: u64,
    /// From the first page until everything was with the control plane's main loop, the two above included.
    pub reading: u64,
    /// From there until it was installed and published: policy, encoding, ring, decoding, tables, journal.
    pub installing: u64,
    /// All, until the worker decided by it.
    pub seen: u64,
    /// All, until a first frame was translated by it.
    pub met: u64,
}

/// Changes of one endpoint each, from the text of the changed slice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// How many.
    pub count: usize,
    /// Until it was with the main loop: parsing, converting.
    pub reading: Spread,
    /// From there until the data plane's main core looked and found the update: policy, encoding, and half a pause of the main core on
    /// average.
    pub publishing: Spread,
    /// From there until it had installed and published it.
    pub installing: Spread,
    /// All, until the worker decided by it.
    pub seen: Spread,
    /// All, until the first frame of a new flow had left for the new endpoint; `None` if it was not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<Spread>,
}

/// A distribution, nanoseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // Percentiles: their names say it.
pub struct Spread {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

impl Spread {
    /// Of these values, to three digits.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        // Bounds that are no error: a nanosecond to a hundred seconds.
        let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, 100_000_000_000, 3) else {
            return Self::default();
        };
        for value in values {
            histogram.saturating_record(value);
        }
        Self {
            p50: histogram.value_at_percentile(50.0),
            p90: histogram.value_at_percentile(90.0),
            p99: histogram.value_at_percentile(99.0),
            max: histogram.max(),
        }
    }
}

/// What a worker carried while nothing changed and while endpoints did, in turns.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Carried {
    /// Frames, all of established flows.
    pub frames: u64,
    /// Those that no flow translated: 0.
    pub missed: u64,
    /// Nanoseconds a frame while nothing changed.
    pub quiet: Summary,
    /// The same while endpoints changed.
    pub churn: Summary,
    /// Rate during changes over the rate just before, pair by pair.
    pub ratio: Summary,
}

/// Resident memory of a process.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Memory {
    /// All but the region's pages.
    pub own: u64,
    /// The region's pages that this process has touched.
    pub region: u64,
}

/// Something that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// What.
    pub what: String,
    /// Less than this, milliseconds.
    pub limit: f64,
    /// What it was, milliseconds.
    pub is: f64,
    /// Whether that is less.
    pub met: bool,
}

impl Asked {
    /// `is` and `limit` in milliseconds.
    #[must_use]
    pub fn new(what: &str, limit: f64, is: f64) -> Self {
        Self {
            what: what.to_owned(),
            limit,
            is,
            met: is < limit,
        }
    }
}

/// How much more it takes than at a tenth of the size.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Growth {
    /// Of the first list; 10 is linear.
    pub list: f64,
    /// Of a change, at the median; 1 is none.
    pub change: f64,
    /// Of both processes' memory.
    pub memory: f64,
}

impl ControlPlaneRecord {
    /// In relation to one of a tenth of the size.
    #[must_use]
    pub fn growth(&self, tenth: &Self) -> Growth {
        let memory = |record: &Self| record.memory_control_plane.own + record.memory_data_plane.own;
        let ratio = |large: u64, small: u64| large as f64 / small.max(1) as f64;
        Growth {
            list: ratio(self.list.seen, tenth.list.seen),
            change: ratio(self.change.seen.p50, tenth.change.seen.p50),
            memory: ratio(memory(self), memory(tenth)),
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let List {
            parsing,
            converting,
            reading,
            installing,
            seen,
            met,
            bytes,
        } = self.list;
        let mut text = format!(
            "{} services × {} endpoints, {} objects in the region, {} flows carried meanwhile\n",
            self.services, self.endpoints, self.objects, self.flows
        );
        text += &format!(
            "  first list      {:>9} until a worker has it, {} until it translates (read {}: parse {}, convert {} of {:.1} MB; \
             then to installed {})\n",
            millis(seen),
            millis(met),
            millis(reading),
            millis(parsing),
            millis(converting),
            bytes as f64 / 1e6,
            millis(installing),
        );
        let Change {
            count,
            reading,
            publishing,
            installing,
            seen,
            met,
        } = &self.change;
        text += &format!(
            "  {count} changes of one endpoint, µs        p50      p90      p99      max\n"
        );
        let rows = [
            ("read: parse, convert", Some(reading)),
            ("publish: policy, ring, pause", Some(publishing)),
            ("install, journal, answer", Some(installing)),
            ("all, until a worker has it", Some(seen)),
            ("all, until a new flow meets it", met.as_ref()),
        ];
        for (name, spread) in rows {
            if let Some(Spread { p50, p90, p99, max }) = spread {
                let cell = |nanos: &u64| format!("{:>9.0}", *nanos as f64 / 1e3);
                text += &format!(
                    "    {name:<31}{}{}{}{}\n",
                    cell(p50),
                    cell(p90),
                    cell(p99),
                    cell(max)
                );
            }
        }
        let Carried {
            frames,
            missed,
            quiet,
            churn,
            ratio,
        } = self.carried;
        text += &format!(
            "  established     {:.1} ns a frame, {:.1} during changes: rate × {:.3} ({:.3} to {:.3}), {missed} of {frames} frames missed\n",
            quiet.median, churn.median, ratio.median, ratio.min, ratio.max,
        );
        for (name, Memory { own, region }) in [
            ("control plane", self.memory_control_plane),
            ("data plane", self.memory_data_plane),
        ] {
            text += &format!(
                "  {name:<15} {:.0} MB resident, and {:.0} MB of the region's pages\n",
                own as f64 / 1e6,
                region as f64 / 1e6,
            );
        }
        text += &format!(
            "  starts again    control plane: {} for the whole list; data plane: {} for the journal\n",
            millis(self.replay),
            millis(self.restart)
        );
        if let Some(Growth {
            list,
            change,
            memory,
        }) = self.growth
        {
            text += &format!(
                "  ten times a tenth: first list × {list:.1}, a change × {change:.2}, memory × {memory:.1}\n"
            );
        }
        for Asked {
            what,
            limit,
            is,
            met,
        } in &self.asked
        {
            let met = if *met { "met" } else { "NOT MET" };
            text += &format!("  {met:<8} {what}: {is:.3} ms, asked for < {limit} ms\n");
        }
        text += &format!(
            "  load {:.1}, busy {} %, steal {} %, commit {}, seed {}\n",
            self.load.load_1m,
            self.load.busy_percent,
            self.load.steal_percent,
            self.host.commit,
            self.seed
        );
        text
    }
}

fn millis(nanos: u64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_keeps_three_digits_and_the_most() {
        let spread = Spread::of((1..=1000).map(|micros| micros * 1000));
        let within = |is: u64, should: u64| is.abs_diff(should) <= should / 500;
        assert!(within(spread.p50, 500_000), "{spread:?}");
        assert!(within(spread.p99, 990_000), "{spread:?}");
        assert!(within(spread.max, 1_000_000), "{spread:?}");
        assert_eq!(Spread::of([]).max, 0);
    }

    #[test]
    fn what_is_asked_for_is_met_below_its_limit_alone() {
        assert!(Asked::new("x", 5.0, 4.9).met);
        assert!(!Asked::new("x", 5.0, 5.0).met);
    }
}
