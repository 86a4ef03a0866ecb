//! Why settings could not be had.

use std::path::PathBuf;

/// Why settings could not be had. Each is one sentence that names the key (or the file), the value
/// and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: String,
    },
    /// The file is not TOML.
    #[error("the configuration is not valid TOML: {0}")]
    Syntax(String),
    /// No such key.
    #[error("`{key}` is no key of the configuration{}", hint(nearest.as_deref()))]
    Unknown {
        /// Full path of the key.
        key: String,
        /// A key of the same table that may have been meant.
        nearest: Option<String>,
    },
    /// A key that must be there is not.
    #[error("`{key}` is missing; {rule}")]
    Missing {
        /// Full path of the key.
        key: String,
        /// Why it must be there.
        rule: String,
    },
    /// A value of the wrong type or against a rule.
    #[error("`{key}` is {value}; it must {rule}")]
    Value {
        /// Full path of the key.
        key: String,
        /// The value, text in quotes.
        value: String,
        /// What it must be or do instead.
        rule: String,
    },
    /// An error inside this file.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong in it (or in the environment variables that come on top of it).
        cause: Box<Error>,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!(" (did you mean `{key}`?)"))
}
