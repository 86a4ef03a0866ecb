//! From the file and the environment to [`raw::Settings`].

use std::path::Path;

use config::{Config, ConfigError, Environment, File, FileFormat};

use crate::error::Error;
use crate::{Settings, check, raw};

/// Reads the file, lets environment variables `PORTGATE__SECTION__KEY` override its keys, and
/// validates the result.
///
/// # Errors
///
/// [`Error`]: unreadable, not TOML, unknown key, or a value against its rule.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let text = std::fs::read_to_string(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause: cause.to_string(),
    })?;
    parse(&text, Some(environment())).map_err(|cause| Error::File {
        path: path.to_owned(),
        cause: Box::new(cause),
    })
}

/// As [`load`], from text and without the environment.
///
/// # Errors
///
/// As [`load`].
pub fn load_str(toml: &str) -> Result<Settings, Error> {
    parse(toml, None)
}

fn environment() -> Environment {
    // No `try_parsing`: it would turn a node name "1e3" into a number. `raw` reads text.
    Environment::with_prefix("PORTGATE")
        .prefix_separator("__")
        .separator("__")
}

fn parse(toml: &str, environment: Option<Environment>) -> Result<Settings, Error> {
    let mut builder = Config::builder().add_source(File::from_str(toml, FileFormat::Toml));
    if let Some(environment) = environment {
        builder = builder.add_source(environment);
    }
    let typed: raw::Settings = builder
        .build()
        .and_then(Config::try_deserialize)
        .map_err(|error| explain(error, ""))?;
    check::validate(typed)
}

/// Turns the configuration library's error at `key` into one of ours.
fn explain(error: ConfigError, key: &str) -> Error {
    match error {
        ConfigError::FileParse { cause, .. } => Error::Syntax(one_line(&cause.to_string())),
        ConfigError::At { error, key, .. } => explain(*error, &dotted(&key.unwrap_or_default())),
        ConfigError::NotFound(key) => Error::Missing {
            key: dotted(&key),
            rule: "each entry of the list needs it".to_owned(),
        },
        ConfigError::Type {
            unexpected,
            expected,
            key: inner,
            ..
        } => Error::Value {
            key: inner.map_or_else(|| key.to_owned(), |key| dotted(&key)),
            value: unexpected.to_string(),
            rule: format!("be {expected}"),
        },
        other => explain_message(&other.to_string(), key),
    }
}

/// serde reports an unknown key and a wrong type as sentences of its own; they hold all we need.
fn explain_message(message: &str, key: &str) -> Error {
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((name, known)) = rest.split_once('`')
    {
        let known = known.split('`').skip(1).step_by(2);
        return Error::Unknown {
            key: join(key, name),
            nearest: nearest(name, known).map(|near| join(key, near)),
        };
    }
    let found = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    match found {
        Some((value, expected)) => Error::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            rule: format!("be {}", plain(expected)),
        },
        None => Error::Value {
            key: key.to_owned(),
            value: "not readable".to_owned(),
            rule: format!("be of another form ({message})"),
        },
    }
}

/// serde's words for tables and lists, in the words of a person who writes TOML.
fn plain(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        struct_name if struct_name.starts_with("struct ") => "a table",
        other => other,
    }
}

/// The library writes `links[0]name` for `links[0].name`.
fn dotted(key: &str) -> String {
    key.replace(']', "].")
        .replace("].[", "][")
        .replace("]..", "].")
        .trim_end_matches('.')
        .to_owned()
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}

/// The known key that differs least from `name`, if it differs little.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replace = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// TOML errors draw the line in question; the first and last lines say the same in words.
fn one_line(message: &str) -> String {
    let mut lines = message.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default().trim();
    match lines.next_back() {
        Some(last) => format!("{first}: {}", last.trim()),
        None => first.to_owned(),
    }
}

/// For tests: as [`load`] with this environment.
#[cfg(test)]
fn load_with(toml: &str, variables: &[(&str, &str)]) -> Result<Settings, Error> {
    let variables: std::collections::HashMap<String, String> = variables
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    parse(toml, Some(environment().source(Some(variables))))
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
