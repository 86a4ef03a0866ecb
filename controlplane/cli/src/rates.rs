//! Rates: the difference of two readings over the time between them.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::args::RateOptions;
use crate::failure::Failure;

/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// A reading, and with it, if rates were asked for, how much each number has grown a second.
pub(crate) struct Reading {
    /// As it is now.
    pub(crate) now: Value,
    /// The same with rates in the place of numbers.
    pub(crate) rates: Option<Value>,
}

/// Reads as often as was asked for, and shows each reading, with what else was found at the same time.
pub(crate) fn watch<T>(
    options: &RateOptions,
    is_text: bool,
    out: &mut dyn Write,
    read: impl Fn() -> Result<(Value, T), Failure>,
    show: impl Fn(&Reading, &T, &mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(period) = options.watch.or(options.interval) else {
        let (now, found) = read()?;
        return show(&Reading { now, rates: None }, &found, out);
    };
    let clears = is_text && options.watch.is_some() && std::io::stdout().is_terminal();
    let (mut before, mut since) = (read()?.0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs_f64(period));
        let ((now, found), at) = (read()?, Instant::now());
        let rates = Some(growth(&before, &now, (at - since).as_secs_f64()));
        if clears {
            write!(out, "{CLEAR}")?;
        }
        let reading = Reading { now, rates };
        show(&reading, &found, out)?;
        if options.watch.is_none() {
            return Ok(());
        }
        if is_text && !clears {
            writeln!(out)?;
        }
        out.flush()?;
        (before, since) = (reading.now, at);
    }
}

/// What has grown how much a second. Texts stay; in lists, things are known by their places, in objects by
/// their names. What was not there before has no rate.
fn growth(before: &Value, now: &Value, seconds: f64) -> Value {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let of = |(name, now): (&String, &Value)| {
                let before = before.get(name).unwrap_or(&Value::Null);
                // A number that is a name.
                let is_name = name == "worker";
                let value = if is_name {
                    now.clone()
                } else {
                    growth(before, now, seconds)
                };
                (name.clone(), value)
            };
            Value::Object(now.iter().map(of).collect::<Map<_, _>>())
        }
        (Value::Array(before), Value::Array(now)) => {
            let of = |(at, now)| growth(before.get(at).unwrap_or(&Value::Null), now, seconds);
            Value::Array(now.iter().enumerate().map(of).collect())
        }
        (Value::Number(before), Value::Number(now)) => {
            let (before, now) = (before.as_u64(), now.as_u64());
            match before.zip(now) {
                // Counters of a region that was made anew begin again.
                Some((before, now)) => {
                    let grown = now.checked_sub(before).unwrap_or(now);
                    (grown as f64 / seconds).into()
                }
                None => Value::Null,
            }
        }
        (_, Value::String(text)) => Value::String(text.clone()),
        _ => Value::Null,
    }
}

/// A rate for people.
pub(crate) fn text(rate: &Value) -> String {
    match rate.as_f64() {
        None => "-".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_become_rates_and_the_rest_stays() {
        let before = json!({"a": 10, "list": [{"name": "x", "n": 1}], "gone": 5, "again": 100});
        let now = json!({"a": 30, "list": [{"name": "x", "n": 4}, {"name": "y", "n": 2}], "new": 1,
            "none": null, "again": 8});
        let expected = json!({"a": 10.0, "list": [{"name": "x", "n": 1.5}, null], "new": null,
            "none": null, "again": 4.0});
        assert_eq!(growth(&before, &now, 2.0), expected);
    }

    #[test]
    fn small_rates_have_a_digit_behind_the_point() {
        assert_eq!(text(&json!(0.25)), "0.2");
        assert_eq!(text(&json!(1234.4)), "1234");
        assert_eq!(text(&Value::Null), "-");
    }
}
