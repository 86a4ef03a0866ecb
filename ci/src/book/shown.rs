//! Whether a command prints what a page shows: line by line, but for what is another each time.
//!
//! Equal are numbers, times with their units, MAC addresses, ports that are nobody's in particular, bars, and the width of columns.
//! Addresses, NodePorts, ports below 1024 and all words must be as they are shown. A line of `…` stands for any lines, one at the
//! end of a line for anything.

use std::net::{IpAddr, SocketAddr};

/// Whether it does.
///
/// # Errors
/// The first line that is shown and not printed.
pub fn compare(shown: &str, printed: &str) -> Result<(), String> {
    let lines = |text: &str| -> Vec<String> {
        let whole = text.lines().map(shape);
        whole.filter(|line| !line.is_empty()).collect()
    };
    let (shown, printed) = (lines(shown), lines(printed));
    match furthest(&shown, &printed) {
        None => Ok(()),
        Some(line) => Err(shown.get(line).map_or_else(
            || "more is printed than is shown".to_owned(),
            |line| format!("no line {line:?} in its place"),
        )),
    }
}

/// Index of the line of `shown` at which the best attempt ends; `None` if all is as shown.
fn furthest(shown: &[String], printed: &[String]) -> Option<usize> {
    let Some(first) = shown.first() else {
        return (!printed.is_empty()).then_some(0);
    };
    if first == "…" {
        let attempts = (0..=printed.len()).map(|from| furthest(&shown[1..], &printed[from..]));
        let attempts: Vec<_> = attempts.collect();
        if attempts.contains(&None) {
            return None;
        }
        return attempts.into_iter().flatten().max().map(|line| line + 1);
    }
    match printed.first() {
        Some(line) if same(first, line) => {
            furthest(&shown[1..], &printed[1..]).map(|line| line + 1)
        }
        _ => Some(0),
    }
}

fn same(shown: &str, printed: &str) -> bool {
    match shown.strip_suffix('…') {
        Some(start) => printed.starts_with(start.trim_end()),
        None => shown == printed,
    }
}

/// A line without what is another each time.
fn shape(line: &str) -> String {
    let words = line
        .split_whitespace()
        .filter(|word| !is_bar(word))
        .map(word);
    words.collect::<Vec<_>>().join(" ")
}

fn is_bar(word: &str) -> bool {
    word.chars()
        .all(|char| ('\u{2580}'..='\u{259f}').contains(&char))
}

fn word(word: &str) -> String {
    if ["ns", "µs", "ms", "s"].contains(&word) {
        return "TIME".to_owned();
    }
    if is_mac(word.trim_end_matches([':', ',', ';'])) {
        return "MAC".to_owned();
    }
    let bare = word.trim_matches(['(', ')', '[', ',', ';', '"', ':', '`']);
    let (address, _) = bare.split_once('/').unwrap_or((bare, ""));
    if let Ok(socket) = address.parse::<SocketAddr>() {
        let port = socket.port();
        // Well-known ports, and Kubernetes' range for NodePorts.
        if port < 1024 || (30_000..=32_767).contains(&port) {
            return word.to_owned();
        }
        return word.replace(&format!(":{port}"), ":#");
    }
    if address.parse::<IpAddr>().is_ok() {
        return word.to_owned();
    }
    numbers(word)
}

fn is_mac(word: &str) -> bool {
    let pairs: Vec<_> = word.split(':').collect();
    let is_pair =
        |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    pairs.len() == 6 && pairs.iter().all(is_pair)
}

/// Each number as `#`; `1,234.5` is one, `12.34s` one and a letter.
fn numbers(word: &str) -> String {
    let mut shape = String::new();
    let mut chars = word.chars().peekable();
    while let Some(char) = chars.next() {
        if !char.is_ascii_digit() {
            shape.push(char);
            continue;
        }
        while let Some(next) = chars.peek().copied() {
            let mut ahead = chars.clone();
            ahead.next();
            let is_inside =
                ['.', ','].contains(&next) && ahead.peek().is_some_and(char::is_ascii_digit);
            if !next.is_ascii_digit() && !is_inside {
                break;
            }
            chars.next();
        }
        shape.push('#');
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_another_each_time_is_the_same() {
        for (shown, printed) in [
            ("received   13", "received 1,234"),
            ("p50  9.22 µs  ███", "p50  1.5 ms  █"),
            (
                "tcp 203.0.113.50:47724 > 100.96.2.2:80",
                "tcp 203.0.113.50:50001  >  100.96.2.2:80",
            ),
            ("mac 3a:21:4a:0c:a2:b1,", "mac 2e:79:71:0c:b5:9c,"),
            (
                "2026-11-28T08:29:53.537405Z  INFO",
                "2027-01-02T18:00:00.1Z  INFO",
            ),
            ("a\n…\nb", "a\n1\n2\n\nb"),
            ("a\n…", "a"),
            ("…\nb\n…", "a\nb\nc"),
            ("cannot read: …", "cannot read: No such file"),
        ] {
            assert_eq!(compare(shown, printed), Ok(()), "{shown}");
        }
    }

    #[test]
    fn what_must_be_as_shown_is_not() {
        for (shown, printed) in [
            ("received 13", "sent 13"),
            ("203.0.113.50:47724", "203.0.113.51:47724"),
            ("203.0.113.10:30379/tcp", "203.0.113.10:30380/tcp"),
            ("100.96.2.2:80", "100.96.2.2:81"),
            ("100.96.0.0/16", "100.97.0.0/16"),
            ("a", "a\nb"),
            ("a\nb", "a"),
            ("a\nb", "a\n1\nb"),
            ("…\nb", "a\nc"),
        ] {
            assert!(compare(shown, printed).is_err(), "{shown}");
        }
        let why = compare("a\n…\nc\nd", "a\nb\nc\ne").unwrap_err();
        assert!(why.contains("\"d\""), "{why}");
    }
}
