//! What is to be traced, and how much.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// Frames to trace, and bounds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Ends that a frame must have, of whichever direction, before or after its translation: one of each group.
    pub ends: Vec<Vec<Pattern>>,
    /// IANA protocol number.
    pub protocol: Option<u8>,
    /// Number of the link that it came in by.
    pub link: Option<u8>,
    /// Only frames that are dropped for one of these reasons; for any if there are none. `None` = all frames.
    pub dropped: Option<Vec<String>>,
    /// Frames to tell, at most.
    pub frames: u32,
    /// Frames to tell a second, at most.
    pub rate: u32,
    /// Frames that each worker looks at a second, at most.
    pub effort: u32,
    /// Bytes to tell of each frame, at most.
    pub bytes: u16,
    /// Seconds after which the trace ends.
    pub seconds: u32,
}

/// An end of a tuple.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None` = any.
    pub port: Option<u16>,
}

impl Request {
    /// All frames, within these default bounds.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            ends: Vec::new(),
            protocol: None,
            link: None,
            dropped: None,
            frames: 100,
            rate: 1000,
            effort: 50_000,
            bytes: 256,
            seconds: 60,
        }
    }

    /// Whether it asks for what can be given.
    ///
    /// # Errors
    ///
    /// The field and its rule.
    pub fn check(&self) -> Result<(), String> {
        let numbers = [
            ("frames", self.frames, 1, 1_000_000),
            ("rate", self.rate, 1, 100_000),
            ("effort", self.effort, 1, 100_000_000),
            ("bytes", self.bytes.into(), 14, 9_216),
            ("seconds", self.seconds, 1, 86_400),
        ];
        for (name, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} = {value}: must be from {least} to {most}"));
            }
        }
        let patterns: usize = self.ends.iter().map(Vec::len).sum();
        if self.ends.len() > 8 || patterns > 4096 {
            return Err("ends: at most 8 groups and 4096 addresses".to_owned());
        }
        let known = |name: &String| Reason::ALL.iter().any(|reason| reason.name() == name);
        match self.dropped.iter().flatten().find(|name| !known(name)) {
            Some(name) => Err(format!("dropped: there is no reason \"{name}\"")),
            None => Ok(()),
        }
    }

    /// Whether a frame that was dropped for `reason`, or not at all, is to be told.
    pub(super) fn wants(&self, reason: Option<&str>) -> bool {
        let Some(wanted) = &self.dropped else {
            return true;
        };
        reason.is_some_and(|reason| wanted.is_empty() || wanted.iter().any(|name| name == reason))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_request_out_of_bounds_is_refused_with_its_rule() {
        assert_eq!(Request::all().check(), Ok(()));
        let wrong = Request {
            bytes: 3,
            ..Request::all()
        };
        assert_eq!(
            wrong.check().unwrap_err(),
            "bytes = 3: must be from 14 to 9216"
        );
        let unknown = Request {
            dropped: Some(vec!["no_route".into(), "rain".into()]),
            ..Request::all()
        };
        assert!(unknown.check().unwrap_err().contains("\"rain\""));
        let wide = Request {
            ends: vec![Vec::new(); 9],
            ..Request::all()
        };
        assert!(wide.check().is_err());
    }

    #[test]
    fn only_the_drops_that_are_asked_for_are_wanted() {
        let of = |dropped: Option<&[&str]>| Request {
            dropped: dropped.map(|names| names.iter().map(|&name| name.into()).collect()),
            ..Request::all()
        };
        assert!(of(None).wants(None) && of(None).wants(Some("no_flow")));
        assert!(!of(Some(&[])).wants(None) && of(Some(&[])).wants(Some("no_flow")));
        let one = of(Some(&["tx_full"]));
        assert!(one.wants(Some("tx_full")) && !one.wants(Some("no_flow")));
    }
}
