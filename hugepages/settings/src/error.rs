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
    #[error("{}{what}", of_key(key.as_deref()))]
    Syntax {
        /// Full path of the key where it is wrong, if there is one.
        key: Option<String>,
        /// What is wrong.
        what: String,
    },
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
    #[error("{}: {}{cause}", path.display(), of_line(*line))]
    File {
        /// The file.
        path: PathBuf,
        /// Where in it; the first line is 1.
        line: Option<usize>,
        /// What is wrong there.
        cause: Box<Error>,
    },
    /// An error in an environment variable.
    #[error("environment variable {name}: {cause}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        cause: Box<Error>,
    },
}

impl Error {
    /// Full path of the key that the error is about, if it is about one.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Syntax { key, .. } => key.as_deref(),
            Self::Unknown { key, .. } | Self::Missing { key, .. } | Self::Value { key, .. } => {
                Some(key)
            }
            Self::Read { .. } => None,
            Self::File { cause, .. } | Self::Variable { cause, .. } => cause.key(),
        }
    }
}

fn of_key(key: Option<&str>) -> String {
    key.map_or_else(
        || "not valid TOML: ".to_owned(),
        |key| format!("`{key}` is not valid TOML: "),
    )
}

fn of_line(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!(" (did you mean `{key}`?)"))
}
