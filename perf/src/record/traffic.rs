//! What `perf gen`, `perf sink` and `perf search` print.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::host::{Host, Load};
use crate::lab::ledger::GatewayCounts;
use crate::ports::PortCounts;
use crate::traffic::client::Sent;
use crate::traffic::connections::Connections;
use crate::traffic::server::Served;
use crate::traffic::tally::Received;

/// One run of test traffic. Sizes are bytes with FCS, rates frames (connections) a second.
#[derive(Debug, Clone, Serialize)]
pub struct TrafficRecord {
    /// What was measured, in a few words, for pages.
    pub name: String,
    /// `gen`, `sink` or `search`.
    pub verb: &'static str,
    /// `udp`, `tcp` or `connections`.
    pub scenario: String,
    /// Where it ran: `memif`, `vhost`, `af_packet`, `af_xdp`, or `given` for devices of the command
    /// line.
    pub lab: String,
    /// 4 or 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<u8>,
    /// Flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<u32>,
    /// How frames were dealt to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// Sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Rate that was wanted; nothing at full speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Seconds for which was sent.
    pub seconds: f64,
    /// What should have been sent, what the devices took, what arrived.
    pub frames: Frames,
    /// Data frames a second that arrived.
    pub received_rate: f64,
    /// The same in bits a second on a wire of Ethernet: with preamble and gap, 20 bytes a frame.
    pub received_bits: f64,
    /// From the intended time of sending to receiving by the sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Points of its curve: per cent, and the nanoseconds that so many were no more than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_curve: Option<Vec<(f64, u64)>>,
    /// From the intended time of sending to the return of the echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<Latency>,
    /// From the intended time of a SYN to its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Latency>,
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// What the gateway counted meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayCounts>,
    /// Whether all of that adds up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// The devices used, with their own counters since they were opened.
    pub ports: Vec<PortCounts>,
    /// Whether packet memory was on huge pages.
    pub packet_huge_pages: bool,
    /// Number of the run.
    pub run: u16,
    /// Of every random choice.
    pub seed: u64,
    /// Machine and source.
    #[serde(flatten)]
    pub host: Host,
    /// The machine's load meanwhile.
    #[serde(flatten)]
    pub load: Load,
}

/// The account of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Frames {
    /// Due in the time.
    pub offered: u64,
    /// Due, but not taken by the device in time.
    pub unsent: u64,
    /// Sent.
    pub sent: Sent,
    /// Received by the sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Received>,
    /// Sent and not received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<Received>,
    /// What the sink heard and said besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
}

/// All frames on all links, whatever they carry, between two moments of rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Taken from generator and sink by their devices.
    pub sent: u64,
    /// Received by the gateway.
    pub gateway_received: u64,
    /// Lost between: what the gateway's devices say that they missed.
    pub gateway_missed: u64,
    /// Dropped by the gateway, for any reason.
    pub gateway_dropped: u64,
    /// Sent by the gateway.
    pub gateway_sent: u64,
    /// Received by generator and sink.
    pub received: u64,
    /// Lost between: what their devices say that they missed.
    pub missed: u64,
    /// Sent − gateway received − gateway missed, the gateway's own difference, and gateway sent −
    /// received − missed: all 0 if every frame is accounted for.
    pub unaccounted: [i64; 3],
}

impl Balance {
    /// Whether every frame is accounted for.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.unaccounted == [0; 3]
    }

    /// From what the ends and the gateway counted in the same time.
    #[must_use]
    pub fn new(sent: u64, received: u64, missed: u64, gateway: &GatewayCounts) -> Self {
        let difference =
            |whole: u64, parts: [u64; 2]| whole.wrapping_sub(parts[0] + parts[1]).cast_signed();
        Self {
            sent,
            gateway_received: gateway.received,
            gateway_missed: gateway.missed,
            gateway_dropped: gateway.dropped(),
            gateway_sent: gateway.sent,
            received,
            missed,
            unaccounted: [
                difference(sent, [gateway.received, gateway.missed]),
                gateway.unaccounted,
                difference(gateway.sent, [received, missed]),
            ],
        }
    }
}

/// A distribution of times, in nanoseconds, exact to a thousandth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Least.
    pub min: u64,
    /// Mean.
    pub mean: f64,
    /// Half were no more.
    pub p50: u64,
    /// See `p50`.
    pub p90: u64,
    /// See `p50`.
    pub p99: u64,
    /// See `p50`.
    pub p99_9: u64,
    /// See `p50`.
    pub p99_99: u64,
    /// Most.
    pub max: u64,
    /// Points of the curve: per cent, and what that many were no more than. In records it stands by
    /// itself: see [`TrafficRecord::latency_curve`].
    #[serde(skip)]
    pub curve: Vec<(f64, u64)>,
}

/// Steps of the curve in each half of what remains.
const STEPS: u32 = 5;

/// Longest time that is told from longer ones: 100 s in nanoseconds.
const LONGEST: u64 = 100_000_000_000;

impl Latency {
    /// An empty distribution of nanoseconds, of the precision that all have.
    ///
    /// # Panics
    ///
    /// Never: the bounds are constants that fit.
    #[must_use]
    pub fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(1, LONGEST, 3).expect("1 to 100 s with three digits fit")
    }

    /// Nothing if nothing was counted.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |per_cent: f64| histogram.value_at_percentile(per_cent);
        let curve = histogram.iter_quantiles(STEPS).map(|step| {
            let per_cent = step.quantile_iterated_to() * 100.0;
            (per_cent, step.value_iterated_to())
        });
        Some(Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: (histogram.mean() * 10.0).round() / 10.0,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: histogram.max(),
            curve: curve.collect(),
        })
    }

    fn line(&self, label: &str) -> String {
        let us = |nanos: u64| nanos as f64 / 1000.0;
        format!(
            "  {label:<12} {:.1} µs median, {:.1} 99 %, {:.1} 99.9 %, {:.1} 99.99 %, {:.1} most\n",
            us(self.p50),
            us(self.p99),
            us(self.p99_9),
            us(self.p99_99),
            us(self.max)
        )
    }
}

impl TrafficRecord {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let frames = &self.frames;
        let mut text = format!(
            "{} {} over {}, {} flows, {} bytes, seed {}\n",
            self.verb,
            self.scenario,
            self.lab,
            self.flows.map_or("?".to_owned(), |flows| flows.to_string()),
            self.size.as_deref().unwrap_or("?"),
            self.seed
        );
        text += &format!(
            "  offered      {} in {:.3} s, sent {}, not taken in time {}\n",
            frames.offered, self.seconds, frames.sent.data, frames.unsent
        );
        if let (Some(received), Some(lost)) = (&frames.received, frames.lost) {
            text += &format!(
                "  received     {} ({:.0} a second), lost {lost}, twice {}, overtaken {}{}, damaged \
                 {}\n",
                received.distinct,
                self.received_rate,
                received.duplicates,
                received.reordered,
                received
                    .reordered_in_flow
                    .map_or(String::new(), |count| format!(" ({count} in their flow)")),
                received.corrupt
            );
        }
        for (label, latency) in [
            ("latency", &self.latency),
            ("round trip", &self.round_trip),
            ("handshake", &self.handshake),
        ] {
            text += &latency
                .as_ref()
                .map_or(String::new(), |latency| latency.line(label));
        }
        if let Some(connections) = &self.connections {
            text += &format!(
                "  connections  {} opened, {} established, {} refused, {} closed, {} reset\n",
                connections.opened,
                connections.established,
                connections.refused,
                connections.closed,
                connections.reset
            );
        }
        if let Some(gateway) = &self.gateway {
            text += &format!(
                "  gateway      received {}, sent {}, dropped {} {:?}, missed by its links {}\n",
                gateway.received,
                gateway.sent,
                gateway.dropped(),
                gateway.drops,
                gateway.missed
            );
        }
        if let Some(balance) = &self.balance {
            text += match balance.is_even() {
                true => "  every frame is accounted for\n",
                false => "  FRAMES ARE NOT ACCOUNTED FOR: ",
            };
            if !balance.is_even() {
                text += &format!("{:?}\n", balance.unaccounted);
            }
        }
        text += &format!(
            "  load {:.1}, busy {} %, steal {} %, commit {}\n",
            self.load.load_1m, self.load.busy_percent, self.load.steal_percent, self.host.commit
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_keeps_its_tail() {
        let mut histogram = Latency::histogram();
        for value in 1..=10_000 {
            histogram.record(value * 1000).unwrap();
        }
        let latency = Latency::of(&histogram).unwrap();
        let close = |got: u64, expected: u64| got.abs_diff(expected) <= expected / 1000 + 1;
        assert!(close(latency.p50, 5_000_000) && close(latency.p99_9, 9_990_000));
        assert!(close(latency.max, 10_000_000));
        assert_eq!(latency.count, 10_000);
        assert!(latency.curve.is_sorted() && latency.curve.len() > 10);
        assert_eq!(
            latency.curve.last().map(|(per_cent, _)| *per_cent),
            Some(100.0)
        );
        histogram.reset();
        assert_eq!(Latency::of(&histogram), None);
    }

    #[test]
    fn a_balance_is_even_only_if_nothing_is_missing_anywhere() {
        let gateway = GatewayCounts {
            received: 90,
            missed: 10,
            sent: 80,
            drops: [("tx_full", 10)].into(),
            ..GatewayCounts::default()
        };
        assert!(Balance::new(100, 75, 5, &gateway).is_even());
        assert_eq!(Balance::new(101, 75, 5, &gateway).unaccounted, [1, 0, 0]);
        assert_eq!(Balance::new(100, 76, 5, &gateway).unaccounted, [0, 0, -1]);
    }
}
