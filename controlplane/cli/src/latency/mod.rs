//! `portgate latency`.

mod metrics;

use std::io::Write;
use std::time::Duration;

use portgate_controlplane::observe::{AllCounters, Histogram, QUANTILES};
use serde_json::{Value, json};
use settings::Settings;

use crate::args::LatencyOptions;
use crate::controlplane;
use crate::failure::Failure;
use crate::observe;

/// Metrics of the control plane that tell how long changes take, and what they are called here.
const CHANGES: [(&str, &str, &str); 2] = [
    (
        "portgate_controlplane_commit_seconds",
        "commit",
        "Updates, from the first record to the data plane's word that workers have it",
    ),
    (
        "kubeproxy_network_programming_duration_seconds",
        "network_programming",
        "Changes of endpoints, from the cluster to the workers",
    ),
];

/// Columns of the longest bar.
const WIDTH: usize = 40;

/// Shows how long things take.
pub(crate) fn run(
    settings: &Settings,
    options: &LatencyOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let region = observe::open(settings)?;
    let counters = AllCounters::of(&region);
    let read = || -> Vec<Histogram> {
        let workers = counters.workers().iter();
        workers.map(Histogram::of_bursts).collect()
    };
    let (mut workers, mut changes) = (read(), ask(settings));
    if let Some(seconds) = options.interval {
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let before = std::mem::replace(&mut workers, read());
        for (worker, before) in workers.iter_mut().zip(&before) {
            worker.subtract(before);
        }
        let before = std::mem::replace(&mut changes, ask(settings));
        for (later, before) in changes.iter_mut().zip(&before) {
            if let (Some(later), Some(before)) = (later, before) {
                later.subtract(before);
            }
        }
    }
    let named = CHANGES.iter().zip(changes);
    if json {
        let document = |(number, worker): (usize, &Histogram)| {
            let mut shown = worker.document();
            shown["worker"] = number.into();
            shown
        };
        let mut shown = json!({
            "unit": "seconds",
            "workers": workers.iter().enumerate().map(document).collect::<Vec<_>>(),
        });
        for ((_, name, _), found) in named {
            shown[*name] = found.map_or(Value::Null, |found| found.document());
        }
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    for (number, worker) in workers.iter().enumerate() {
        writeln!(out, "Worker {number}: bursts, from rx to tx")?;
        draw(worker, out)?;
    }
    for ((_, _, title), found) in named {
        writeln!(out, "{title}")?;
        match found {
            Some(found) => draw(&found, out)?,
            None => writeln!(out, "  the control plane does not answer\n")?,
        }
    }
    Ok(())
}

fn ask(settings: &Settings) -> Vec<Option<Histogram>> {
    let text = controlplane::get(settings, "/metrics");
    let of = |(metric, _, _): &(&str, _, _)| metrics::histogram(text.as_deref()?, metric);
    CHANGES.iter().map(of).collect()
}

/// A curve on its side: a line for each quantile, as long as the logarithm of its time.
fn draw(histogram: &Histogram, out: &mut dyn Write) -> Result<(), Failure> {
    let count = histogram.count();
    if count == 0 {
        writeln!(out, "  none yet\n")?;
        return Ok(());
    }
    writeln!(out, "  {count} timed")?;
    let times: Vec<_> = QUANTILES
        .iter()
        .map(|(name, quantile)| (name, histogram.quantile(*quantile)))
        .collect();
    let (first, last) = (times[0].1.max(1e-9), times[times.len() - 1].1.max(1e-9));
    // A line more than a tenth of the scale for the first, so that it is seen.
    let scale = (last / first).log10().max(0.1);
    for (name, time) in times {
        let part = (time.max(1e-9) / first).log10() / scale;
        let bar = 1 + (part * (WIDTH - 1) as f64).round() as usize;
        writeln!(
            out,
            "  {name:<6} {:>9}  {}",
            text(time),
            "█".repeat(bar.min(WIDTH))
        )?;
    }
    writeln!(out)?;
    Ok(())
}

/// A time with three digits and its unit.
fn text(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let digits = match number {
        n if n < 10.0 => 2,
        n if n < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        assert_eq!(text(0.0), "0.00 ns");
        assert_eq!(text(1.234e-6), "1.23 µs");
        assert_eq!(text(45.6e-3), "45.6 ms");
        assert_eq!(text(0.7), "700 ms");
        assert_eq!(text(12.0), "12.0 s");
    }

    #[test]
    fn a_curve_is_longer_the_longer_the_time() {
        let counters = engine::counters::Counters::heap(16);
        for (nanos, count) in [(1_000, 989), (100_000, 10), (10_000_000, 1)] {
            (0..count).for_each(|_| counters.note_time(nanos));
        }
        let mut out = Vec::new();
        draw(&Histogram::of_bursts(&counters), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let bar = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.trim_start().starts_with(name));
            line.unwrap().matches('█').count()
        };
        assert!(text.contains("1000 timed"), "{text}");
        assert!(
            bar("p50") < bar("p99 ") && bar("p99 ") < bar("max"),
            "{text}"
        );
        assert_eq!(bar("max"), WIDTH);
    }
}
