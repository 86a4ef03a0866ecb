//! A frame, for people and for programs.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::trace::{Image, MAIN_CORE, Out, Record, Step};
use hugepages::region::monotonic_nanos;
use portgate_controlplane::time::format_micro;
use serde_json::{Value, json};

use super::Names;
use super::words::{describe, stage, step_words};

/// The wall clock's time of nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Nanoseconds between the starts of both.
    offset: u128,
}

impl Clock {
    /// The difference as it is now.
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_nanos());
        Self {
            offset: now.saturating_sub(monotonic_nanos().into()),
        }
    }

    /// Nanoseconds since 1970.
    pub(super) fn since_1970(self, nanos: u64) -> u64 {
        u64::try_from(self.offset + u128::from(nanos)).unwrap_or(u64::MAX)
    }

    fn text(self, nanos: u64) -> String {
        format_micro(UNIX_EPOCH + Duration::from_nanos(self.since_1970(nanos)))
    }
}

/// What became of a frame.
fn outcome(record: &Record) -> &'static str {
    let steps = &record.steps;
    let is_waiting = |step: &_| matches!(step, Step::Waits { .. });
    if record.dropped().is_some() {
        "dropped"
    } else if steps.contains(&Step::Answered) {
        "answered"
    } else if steps.contains(&Step::ToHost) {
        "given_to_host"
    } else if steps.iter().any(is_waiting) {
        "waiting"
    } else {
        "sent"
    }
}

/// One JSON object.
pub(super) fn document(number: u64, record: &Record, names: &Names, clock: Clock) -> Value {
    let out = record.out.iter().map(|out| {
        json!({
            "link": names.link(out.link),
            "frame": describe(&out.frame),
            "length": out.frame.len,
            "bytes": hex(&out.frame),
            "handed_over": out.handed_over,
            "refused": out.refused,
        })
    });
    json!({
        "number": number,
        "time": clock.text(record.nanos),
        "worker": (record.worker != MAIN_CORE).then_some(record.worker),
        "link": record.input.map(|input| names.link(input)),
        "frame": describe(&record.frame),
        "length": record.frame.len,
        "bytes": hex(&record.frame),
        "stages": record.steps.iter().map(|step| stage(step, names)).collect::<Vec<_>>(),
        "out": out.collect::<Vec<_>>(),
        "outcome": outcome(record),
        "reason": record.dropped(),
    })
}

/// A few lines.
pub(super) fn print(
    number: u64,
    record: &Record,
    names: &Names,
    clock: Clock,
    out: &mut dyn Write,
) -> io::Result<()> {
    let time = clock.text(record.nanos);
    let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
    let Record {
        worker,
        frame,
        input,
        ..
    } = record;
    let input = match input {
        Some(input) => names.link(*input),
        None if record.steps.first() == Some(&Step::Resumed) => "taken up again".to_owned(),
        None if matches!(record.steps.first(), Some(Step::Own { .. })) => "own".to_owned(),
        None => "on its way out".to_owned(),
    };
    let who = match *worker {
        MAIN_CORE => "main core".to_owned(),
        worker => format!("worker {worker}"),
    };
    let (what, length) = (describe(frame), frame.len);
    writeln!(
        out,
        "#{number} {time} {who}, {input}: {what}, {length} bytes"
    )?;
    for step in &record.steps {
        let (stage, words) = step_words(step, names);
        writeln!(out, "    {stage:<11} {words}")?;
    }
    for sent in &record.out {
        writeln!(
            out,
            "    {:<11} {}",
            sent_word(sent),
            out_words(sent, names)
        )?;
    }
    writeln!(out)
}

fn sent_word(out: &Out) -> &'static str {
    match (out.refused, out.handed_over) {
        (true, _) => "not sent",
        (false, true) => "handed over",
        (false, false) => "sent",
    }
}

fn out_words(out: &Out, names: &Names) -> String {
    let (link, what) = (names.link(out.link), describe(&out.frame));
    let to = out.frame.bytes.get(..6).unwrap_or_default();
    let mac: Vec<_> = to.iter().map(|octet| format!("{octet:02x}")).collect();
    format!(
        "{link}, to {}: {what}, {} bytes",
        mac.join(":"),
        out.frame.len
    )
}

fn hex(image: &Image) -> String {
    image
        .bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
