//! The answer for programs.

use engine::snapshot::ResolvedSet;
use serde::Serialize;
use serde_json::Value;

use super::gateway::{Seen, Verdict};
use super::question::Question;
use crate::words::{endpoint, kind_name};

/// The answer to a question; its fields are the JSON.
#[derive(Debug, Serialize, PartialEq)]
pub(super) struct Answer<'a> {
    id: &'a Value,
    verdict: &'static str,
    service: Option<&'a str>,
    endpoints: Vec<String>,
    masquerade: bool,
    reason: &'static str,
}

impl<'a> Answer<'a> {
    /// The answer that follows from what was seen.
    pub(super) fn new(question: &'a Question, seen: &'a Seen) -> Self {
        let service = seen
            .frontend
            .as_ref()
            .and_then(|frontend| frontend.service.as_ref());
        let (verdict, reason) = match &seen.verdict {
            Verdict::Translate { .. } => ("translate", way(seen)),
            Verdict::Reject(reason) => ("reject", reason.name()),
            Verdict::Drop(reason) => ("drop", reason.name()),
            Verdict::Pass(reason) => ("pass", reason.name()),
        };
        let (endpoints, masquerade) = match &seen.verdict {
            Verdict::Translate { set, masquerade } => (
                set.members.iter().map(endpoint).collect(),
                *masquerade || is_hairpin(question, set),
            ),
            _ => (Vec::new(), false),
        };
        Self {
            id: &question.id,
            verdict,
            service: service.map(|service| service.name.as_str()),
            endpoints,
            masquerade,
            reason,
        }
    }
}

/// Whether the flow can only go back to its client, which is masqueraded whatever the rule says.
pub(super) fn is_hairpin(question: &Question, set: &ResolvedSet) -> bool {
    set.members
        .iter()
        .all(|member| member.address == question.from.ip())
}

fn way(seen: &Seen) -> &'static str {
    let frontend = seen.frontend.as_ref();
    frontend.map_or("service", |frontend| kind_name(frontend.kind))
}
