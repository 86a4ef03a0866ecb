//! What could not be understood, in sentences for people.

use std::fmt;

use serde_json::Value;

use crate::model::{ObjectKind, ObjectName};
use crate::warning::Warning;

/// Warnings kept for one object; the rest is only counted, so that one bad slice cannot flood a
/// log.
const MOST_PER_OBJECT: usize = 8;

/// Longest piece of a bad value that is shown, in characters.
const LONGEST_VALUE: usize = 60;

/// Collects the warnings about one object.
pub(super) struct Report<'a> {
    subject: String,
    count: usize,
    warnings: &'a mut Vec<Warning>,
}

impl<'a> Report<'a> {
    /// A report about the object of this kind and name.
    pub(super) fn about(
        kind: ObjectKind,
        name: &ObjectName,
        warnings: &'a mut Vec<Warning>,
    ) -> Self {
        Self {
            subject: format!("{} {name}", kind.name()),
            count: 0,
            warnings,
        }
    }

    /// Says that `field` has a `value` against `rule`; the rule also says what is skipped.
    pub(super) fn field(&mut self, field: impl fmt::Display, value: &Value, rule: &str) {
        self.sentence(format_args!("{field} is {}: {rule}", shown(value)));
    }

    /// Says anything else.
    pub(super) fn sentence(&mut self, message: fmt::Arguments<'_>) {
        self.count += 1;
        if self.count <= MOST_PER_OBJECT {
            self.warnings.push(Warning {
                subject: self.subject.clone(),
                message: message.to_string(),
            });
        }
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if self.count > MOST_PER_OBJECT {
            self.warnings.push(Warning {
                subject: std::mem::take(&mut self.subject),
                message: format!("and {} more like these", self.count - MOST_PER_OBJECT),
            });
        }
    }
}

/// The value as JSON, cut to a readable length.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_kind_name_field_value_and_rule() {
        let mut warnings = Vec::new();
        Report::about(
            ObjectKind::Service,
            &ObjectName::new("shop", "web"),
            &mut warnings,
        )
        .field(
            "spec.ports[0].port",
            &Value::from(70_000),
            "must be 1-65535",
        );
        assert_eq!(
            warnings[0].to_string(),
            "Service shop/web: spec.ports[0].port is 70000: must be 1-65535"
        );
    }

    #[test]
    fn one_object_cannot_flood_the_log() {
        let mut warnings = Vec::new();
        let mut report =
            Report::about(ObjectKind::Slice, &ObjectName::new("a", "b"), &mut warnings);
        for number in 0..1000 {
            report.field("x", &Value::from(number), "no");
        }
        drop(report);
        assert_eq!(warnings.len(), MOST_PER_OBJECT + 1);
        assert!(warnings[MOST_PER_OBJECT].message.contains("992 more"));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let value = Value::from("ä".repeat(200));
        assert!(shown(&value).chars().count() <= LONGEST_VALUE + 1);
    }
}
