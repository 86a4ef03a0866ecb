//! What is not served, and why, in sentences for people.

use std::fmt;

/// Something that is not served as written, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Warning {
    /// What it is about: kind and name of an object, or a file.
    pub subject: String,
    /// Field, value and rule, or what else is wrong.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.subject, self.message)
    }
}
