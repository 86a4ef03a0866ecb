//! Where in a file a key stands, and what is wrong with a file that is not TOML.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Error;

/// A file that is TOML.
pub(crate) struct Document<'text> {
    text: &'text str,
    root: DeTable<'text>,
}

/// An error, and the line in which it is; the first is 1.
pub(crate) type Fault = (usize, Error);

impl<'text> Document<'text> {
    /// Of a whole file.
    pub(crate) fn new(text: &'text str) -> Result<Self, Fault> {
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let what = plain(error.message(), text, at);
            let key = key_at(text, at);
            (line(text, at), Error::Syntax { key, what })
        })?;
        let root = root.into_inner();
        numbers_of_table(text, &root, "")?;
        Ok(Self { text, root })
    }

    /// The line of a key like `links[0].mtu`, or else that of what it would stand in; `None` if there is nothing of
    /// either.
    pub(crate) fn line(&self, key: &str) -> Option<usize> {
        let mut found = None;
        let mut table = Some(&self.root);
        for part in key.split('.') {
            let mut indices = part.split('[');
            let name = indices.next()?;
            let Some((key, mut value)) = table.and_then(|table| table.get_key_value(name)) else {
                break;
            };
            found = Some(key.span().start);
            for index in indices {
                let index = index.trim_end_matches(']').parse().ok();
                let DeValue::Array(list) = value.get_ref() else {
                    break;
                };
                let Some(element) = index.and_then(|index: usize| list.get(index)) else {
                    break;
                };
                value = element;
                found = Some(value.span().start);
            }
            table = value.get_ref().as_table();
        }
        found.map(|at| line(self.text, at))
    }
}

/// The line of the byte at `at`.
pub(crate) fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// The parser takes for a number whatever begins like one.
fn numbers_of_table(text: &str, table: &DeTable<'_>, path: &str) -> Result<(), Fault> {
    for (key, value) in table {
        let key = key.get_ref();
        let path = match path {
            "" => key.to_string(),
            _ => format!("{path}.{key}"),
        };
        numbers(text, value, &path)?;
    }
    Ok(())
}

fn numbers(text: &str, value: &Spanned<DeValue<'_>>, path: &str) -> Result<(), Fault> {
    let is_right = match value.get_ref() {
        DeValue::Table(table) => return numbers_of_table(text, table, path),
        DeValue::Array(list) => {
            let mut elements = list.iter().enumerate();
            return elements
                .try_for_each(|(at, value)| numbers(text, value, &format!("{path}[{at}]")));
        }
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).is_ok(),
        DeValue::Float(number) => number.as_str().parse::<f64>().is_ok(),
        DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
    };
    if is_right {
        return Ok(());
    }
    let span = value.span();
    let typed = text.get(span.clone()).unwrap_or_default();
    let digits = typed.trim_start_matches(['+', '-']).replace('_', "");
    let rule = if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        "be less than 2^63"
    } else {
        "be a number, or stand in quotes if it is text"
    };
    let error = Error::Value {
        key: path.to_owned(),
        value: typed.to_owned(),
        rule: rule.to_owned(),
    };
    Err((line(text, span.start), error))
}

/// The parser's message, in the words of a person who writes TOML.
fn plain(message: &str, text: &str, at: usize) -> String {
    let rest = text.get(at..).and_then(|rest| rest.lines().next());
    let is_empty = rest.is_none_or(|rest| matches!(rest.trim().as_bytes(), [] | [b'#', ..]));
    match message.split_once(", expected ") {
        Some(("string values must be quoted", _)) if is_empty => "a value is missing".to_owned(),
        Some(("string values must be quoted" | "invalid float", _)) => {
            "text must stand in quotes".to_owned()
        }
        // What is in backticks can be typed; the other names are the grammar's.
        Some((what, expected)) if !expected.starts_with('`') => what.to_owned(),
        None if message == "duplicate key" => "it is there a second time".to_owned(),
        _ => message.to_owned(),
    }
}

/// The key that is set in the line of the byte at `at`, or in one before it if its value takes several, with its
/// table. The file cannot be parsed, so lines are all there is to go by.
fn key_at(text: &str, at: usize) -> Option<String> {
    let rest = text.bytes().skip(at);
    let end = at + rest.take_while(|byte| *byte != b'\n').count();
    let mut key = None;
    let mut lines = text.get(..end)?.lines().rev().enumerate();
    let table = lines.find_map(|(back, line)| {
        let line = line.trim();
        if line.starts_with('[') {
            return Some(bare_key(line.trim_start_matches('[')).0);
        }
        let (name, rest) = bare_key(line);
        let is_bare = back == 0 && !name.starts_with(|sign: char| sign.is_ascii_digit());
        // In the line itself it may be the very sign that is missing.
        if key.is_none() && !name.is_empty() && (is_bare || rest.trim_start().starts_with('=')) {
            key = Some(name);
        }
        None
    });
    let parts = [table, key]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

/// The key that a line begins with, and the rest of the line.
fn bare_key(line: &str) -> (&str, &str) {
    let is_typed = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-' | '.');
    line.split_at(line.find(|sign| !is_typed(sign)).unwrap_or(line.len()))
}
