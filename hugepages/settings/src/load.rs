//! From the file and the environment to [`raw::Settings`].

use std::collections::HashMap;
use std::path::Path;

use config::{Config, ConfigError, Environment, File, FileFormat};

use crate::error::Error;
use crate::place::{Document, Fault};
use crate::{Settings, check, raw};

/// Reads the file, lets environment variables `PORTGATE__SECTION__KEY` override its keys, and
/// validates the result.
///
/// # Errors
///
/// [`Error`]: unreadable, not TOML, unknown key, or a value against its rule; with the line, or the variable, where it is.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let variables = std::env::vars_os();
    let variables = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_with(path, variables.collect())
}

/// As [`load`], from text and without the environment.
///
/// # Errors
///
/// As [`load`], without the place.
pub fn load_str(toml: &str) -> Result<Settings, Error> {
    let document = Document::new(toml).map_err(|(_, error)| error)?;
    drop(document);
    parse(toml, Variables::new())
}

/// Environment variables.
type Variables = HashMap<String, String>;

fn load_with(path: &Path, variables: Variables) -> Result<Settings, Error> {
    let bytes = std::fs::read(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause: cause.to_string(),
    })?;
    let in_file = |line, cause| Error::File {
        path: path.to_owned(),
        line,
        cause: Box::new(cause),
    };
    let at = |(line, cause)| in_file(Some(line), cause);
    let text = text(&bytes).map_err(at)?;
    let document = Document::new(text).map_err(at)?;
    let names: Vec<String> = variables.keys().cloned().collect();
    parse(text, variables).map_err(|cause| {
        let key = cause.key().unwrap_or_default();
        match variable(names, key) {
            Some(name) => Error::Variable {
                name,
                cause: Box::new(cause),
            },
            None => in_file(document.line(key), cause),
        }
    })
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let what = "it has bytes that are no UTF-8".to_owned();
        (line, Error::Syntax { key: None, what })
    })
}

/// The variable that has set a key, or a whole list of which it is one.
fn variable(names: Vec<String>, key: &str) -> Option<String> {
    let key = key.split_once('[').map_or(key, |(list, _)| list);
    let wanted = format!("{PREFIX}.{key}").replace('.', SEPARATOR);
    names
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(&wanted))
}

/// What the names of variables begin with, and what stands between the names of table and key.
const PREFIX: &str = "PORTGATE";
const SEPARATOR: &str = "__";

fn parse(toml: &str, variables: Variables) -> Result<Settings, Error> {
    // No `try_parsing`: it would turn a node name "1e3" into a number. `raw` reads text.
    let environment = Environment::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(variables));
    let typed: raw::Settings = Config::builder()
        .add_source(File::from_str(toml, FileFormat::Toml))
        .add_source(environment)
        .build()
        .and_then(Config::try_deserialize)
        .map_err(|error| explain(error, ""))?;
    check::validate(typed)
}

/// Turns the configuration library's error at `key` into one of ours.
fn explain(error: ConfigError, key: &str) -> Error {
    match error {
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
        } => {
            let key = inner.map_or_else(|| key.to_owned(), |key| dotted(&key));
            wrong_type(key, &unexpected.to_string(), expected)
        }
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
        Some((value, expected)) => wrong_type(key.to_owned(), value, expected),
        None => Error::Value {
            key: key.to_owned(),
            value: "not readable".to_owned(),
            rule: format!("be of another form ({message})"),
        },
    }
}

/// A value of another type, both in the words of a person who writes TOML.
fn wrong_type(key: String, value: &str, expected: &str) -> Error {
    let (value, is_table) = match value {
        "map" => ("a table", true),
        "sequence" => ("a list", false),
        _ => (
            value
                .trim_start_matches(|sign| !matches!(sign, '`' | '"'))
                .trim_matches('`'),
            false,
        ),
    };
    let rule = match expected {
        "a sequence" if is_table => format!("be a list: begin each entry with [[{key}]]"),
        "a sequence" => "be a list".to_owned(),
        name if name.starts_with("struct ") => "be a table".to_owned(),
        other => format!("be {other}"),
    };
    Error::Value {
        key,
        value: value.to_owned(),
        rule,
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

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
