//! What the types and the check say when they are asked.

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::Form;
use crate::{Error, Settings, load_str, raw};

/// The keys of a table, in the order of its type.
pub(super) fn keys_of_table(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "region" => keys_of::<raw::Region>(),
        "gateway" => keys_of::<raw::Gateway>(),
        "links" => keys_of::<raw::Link>(),
        "routes" => keys_of::<raw::Route>(),
        "workers" => keys_of::<raw::Workers>(),
        "limits" => keys_of::<raw::Limits>(),
        "dataplane" => keys_of::<raw::DataPlane>(),
        "source" => keys_of::<raw::Source>(),
        "metrics" => keys_of::<raw::Metrics>(),
        "status" => keys_of::<raw::Status>(),
        "log" => keys_of::<raw::Log>(),
        "dns" => keys_of::<raw::Dns>(),
        _ => return None,
    })
}

/// The names that a type reads itself from: it tells them to whom it asks for a struct. (A schema has them in
/// alphabetical order.)
pub(super) fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It always fails: there is nothing to read.
    let _ = T::deserialize(Names(&mut names));
    names
}

struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only names are asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// What a value must be or do, as the check says of one that can never be right; empty where any of the form is.
pub(super) fn rule(table: &str, key: &str, form: Form) -> Result<String, String> {
    let (impossible, at) = match form {
        Form::Text => ("\"\"", String::new()),
        Form::Number => ("-9223372036854775808", String::new()),
        Form::Flag => return Ok(String::new()),
        Form::Texts => ("[\"\"]", "[0]".to_owned()),
        Form::Numbers => ("[-9223372036854775808]", "[0]".to_owned()),
    };
    let asked = format!(".{key}{at}");
    match with(table, key, Some(impossible)) {
        Err(Error::Value { key, rule, .. }) if key.ends_with(&asked) => Ok(rule),
        other => Err(format!("{impossible} is not refused for itself: {other:?}")),
    }
}

/// Whether a value means the same as none.
pub(super) fn is_default(table: &str, key: &str, value: &str) -> Result<(), String> {
    let [without, with] = [None, Some(value)].map(|value| with(table, key, value));
    match (without, with) {
        (Ok(without), Ok(with)) if without == with => Ok(()),
        (_, Err(why)) => Err(format!("its default {value} is refused: {why}")),
        _ => Err(format!("{value} is not its default")),
    }
}

/// The settings of a file that has what the key needs beside it, and the key with this value or not at all.
pub(super) fn with(table: &str, key: &str, value: Option<&str>) -> Result<Settings, Error> {
    const LINK: &str =
        "[[links]]\nname = \"a\"\ndevice = \"af_packet:a\"\naddresses = [\"192.0.2.1/24\"]\n";
    let (before, header, beside): (_, _, &[(&str, &str)]) = match (table, key) {
        ("links", _) => (
            "",
            "[[links]]",
            &[("name", "\"b\""), ("device", "\"af_packet:b\"")],
        ),
        ("routes", "link") => (
            LINK,
            "[[routes]]",
            &[("to", "\"198.51.100.0/24\""), ("via", "\"192.0.2.2\"")],
        ),
        ("routes", _) => (
            LINK,
            "[[routes]]",
            &[("to", "\"198.51.100.0/24\""), ("link", "\"a\"")],
        ),
        ("source", "kubeconfig") => ("", "[source]", &[("kind", "\"kubernetes\"")]),
        ("limits", "half_open_per_service_percent") => {
            ("", "[limits]", &[("half_open_percent", "100")])
        }
        _ => ("", "", &[]),
    };
    let header = if header.is_empty() {
        format!("[{table}]")
    } else {
        header.to_owned()
    };
    let mut file = format!("{before}{header}\n");
    let beside = beside.iter().filter(|(name, _)| *name != key).copied();
    for (name, value) in beside.chain(value.map(|value| (key, value))) {
        file.push_str(&format!("{name} = {value}\n"));
    }
    load_str(&file)
}
