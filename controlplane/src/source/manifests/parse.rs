//! Text of a manifest → JSON values.

use std::path::Path;

use serde_json::Value;

/// Why a file cannot be parsed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Line, from 1, if it is known.
    pub(super) line: Option<u64>,
    /// What is wrong.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn unreadable(cause: &std::io::Error) -> Self {
        Self {
            line: None,
            message: format!("cannot be read: {cause}"),
        }
    }
}

/// The documents of a file: JSON by its name, YAML otherwise. Empty documents are left out.
pub(super) fn documents(path: &Path, text: &str) -> Result<Vec<Value>, Failure> {
    let json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    if json {
        json_documents(text)
    } else {
        yaml_documents(text)
    }
}

fn json_documents(text: &str) -> Result<Vec<Value>, Failure> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values.collect::<Result<_, _>>().map_err(|error| Failure {
        line: Some(error.line() as u64),
        message: format!("is not JSON: {error}"),
    })
}

fn yaml_documents(text: &str) -> Result<Vec<Value>, Failure> {
    // An operator's own files, already in memory: the size is no threat, so what bounds the number
    // of nodes is the text. Aliases, which multiply, keep the parser's limits.
    let size = text.len();
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: size.saturating_mul(2).max(1_000_000),
            max_nodes: size.max(250_000),
            max_documents: size.max(1_024),
            max_total_scalar_bytes: size.max(1 << 20),
            max_total_comment_bytes: size.max(1 << 20),
        },
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Failure {
        line: error.location().map(|location| location.line()),
        message: format!("is not YAML: {}", one_line(&error.to_string())),
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
