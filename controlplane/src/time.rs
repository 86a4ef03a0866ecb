//! RFC 3339 times, as Kubernetes writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time that `text` means: UTC or with an offset, with or without a fraction, not before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let zone_start = rest.find(['Z', 'z', '+', '-'])?;
    let fraction: f64 = match rest.get(..zone_start)? {
        "" => 0.0,
        digits => format!("0{digits}").parse().ok()?,
    };
    let offset = match rest.get(zone_start..)? {
        "Z" | "z" => 0,
        zone => {
            let number = |range: std::ops::Range<usize>| zone.get(range)?.parse::<i64>().ok();
            let seconds = number(1..3)? * 3_600 + number(4..6)? * 60;
            if zone.starts_with('-') {
                -seconds
            } else {
                seconds
            }
        }
    };
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    let whole = Duration::from_secs(u64::try_from(seconds).ok()?);
    let fraction = Duration::try_from_secs_f64(fraction).ok()?;
    UNIX_EPOCH.checked_add(whole)?.checked_add(fraction)
}

/// The time in UTC, to the microsecond: Kubernetes' `MicroTime`. Times before 1970 count as 1970.
#[must_use]
pub fn format_micro(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = format(time);
    format!(
        "{}.{:06}Z",
        seconds.trim_end_matches('Z'),
        since.subsec_micros()
    )
}

/// The time in UTC, to the second. Times before 1970 count as 1970.
#[must_use]
pub fn format(time: SystemTime) -> String {
    let since = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, second) = ((since / 86_400).cast_signed(), since % 86_400);
    // Years of 366 days never overshoot; the right year is at most a few ahead.
    let mut year = 1970 + days / 366;
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let month = (2..=12)
        .rev()
        .find(|month| days_since_1970(year, *month, 1) <= days)
        .unwrap_or(1);
    let day = days - days_since_1970(year, month, 1) + 1;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March so that the
/// leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let from_march = (month + 9) % 12;
    let year = year - i64::from(from_march >= 10);
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unix(text: &str) -> Option<f64> {
        let since = parse(text)?.duration_since(UNIX_EPOCH);
        since.ok().map(|since| since.as_secs_f64())
    }

    #[test]
    fn times_are_read_with_fraction_and_offset() {
        assert_eq!(unix("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(unix("2000-02-29T12:00:00Z"), Some(951_825_600.0));
        assert_eq!(unix("2026-01-01T00:00:00.25Z"), Some(1_767_225_600.25));
        assert_eq!(unix("2026-01-01T02:00:00+02:00"), Some(1_767_225_600.0));
        assert_eq!(unix("2025-12-31T19:00:00-05:00"), Some(1_767_225_600.0));
        for text in ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00"] {
            assert_eq!(unix(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0u64..250_000_000_000) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(time)), Some(time));
        }

        #[test]
        fn microseconds_are_written_in_full(seconds in 0u64..4_000_000_000, micros in 0u32..1_000_000) {
            let time = UNIX_EPOCH + Duration::new(seconds, micros * 1_000);
            let text = format_micro(time);
            let end = std::format!(".{micros:06}Z");
            prop_assert!(text.ends_with(&end));
            let seconds = format(time);
            prop_assert_eq!(text.strip_suffix(&end), seconds.strip_suffix('Z'));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,40}|[0-9:TZ.+-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
