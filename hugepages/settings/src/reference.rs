//! The reference of all settings, docs/configuration.md, made out of what decides: names, forms and comments come from
//! the types in [`crate::raw`], what a value must be from what [`crate::validate`] says when it refuses one, and a default that
//! does not mean the same as leaving the key out is an error here.

mod ask;
mod comment;
mod page;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use comment::Comment;
use page::page;

use crate::raw;

/// A table of the file, such as `[region]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    name: &'static str,
    /// Whether it may come more than once: `[[links]]`.
    is_list: bool,
    about: String,
    keys: Vec<Key>,
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    name: &'static str,
    form: Form,
    about: String,
    /// What a number counts; empty if nothing.
    unit: String,
    /// `None` if the key must be there.
    default: Option<String>,
    /// The programs that read it.
    readers: String,
    /// What a value must be or do, in the words of a refusal; empty if the form says it all.
    rule: String,
}

/// What a value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Flag,
    Texts,
    Numbers,
}

/// The page, in Markdown.
///
/// # Errors
///
/// What the types leave open, or say wrongly: a comment without unit, default or reader, a default that is none. A test
/// finds it before anybody else does.
pub fn markdown() -> Result<String, String> {
    Ok(page(&tables()?))
}

/// All tables with all keys, in the order of the types.
fn tables() -> Result<Vec<Table>, String> {
    let schema = SchemaSettings::default()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<raw::Settings>();
    let schema = schema.to_value();
    ask::keys_of::<raw::Settings>()
        .iter()
        .map(|name| table(name, &schema["properties"][name]))
        .collect()
}

fn table(name: &'static str, schema: &Value) -> Result<Table, String> {
    let is_list = schema["type"] == "array";
    let schema = if is_list { &schema["items"] } else { schema };
    let comment = Comment::read(schema).map_err(|why| format!("[{name}]: {why}"))?;
    let names = ask::keys_of_table(name).ok_or_else(|| format!("[{name}] has no type here"))?;
    let key = |key: &&'static str| {
        self::key(name, key, schema, &comment).map_err(|why| format!("{name}.{key}: {why}"))
    };
    Ok(Table {
        name,
        is_list,
        keys: names.iter().map(key).collect::<Result<_, _>>()?,
        about: comment.about,
    })
}

fn key(table: &str, name: &'static str, schema: &Value, above: &Comment) -> Result<Key, String> {
    let property = &schema["properties"][name];
    let comment = Comment::read(property)?;
    let form = form(property).ok_or("has a form that the reference does not know")?;
    let required = schema["required"].as_array();
    let is_required = required.is_some_and(|names| names.iter().any(|each| each == name));
    let is_number = matches!(form, Form::Number | Form::Numbers);
    if comment.about.is_empty() {
        return Err("has no comment".to_owned());
    }
    if is_number == comment.unit.is_empty() {
        return Err(
            "numbers, and they alone, have a unit; say `Unit: none.` if it counts nothing"
                .to_owned(),
        );
    }
    if is_required != comment.default.is_empty() {
        return Err("what need not be there, and it alone, has a default".to_owned());
    }
    let readers = [comment.readers, above.readers.clone()];
    let readers = readers.into_iter().find(|readers| !readers.is_empty());
    let default = Some(comment.default).filter(|default| !default.is_empty());
    if let Some(literal) = default.as_deref().and_then(literal) {
        ask::is_default(table, name, literal)?;
    }
    Ok(Key {
        name,
        form,
        about: comment.about,
        unit: if comment.unit == "none" {
            String::new()
        } else {
            comment.unit
        },
        default,
        readers: readers.ok_or("nobody reads it")?,
        rule: ask::rule(table, name, form)?,
    })
}

fn form(schema: &Value) -> Option<Form> {
    let words = |schema: &Value| match &schema["type"] {
        Value::Array(all) => all.first().and_then(Value::as_str).map(str::to_owned),
        one => one.as_str().map(str::to_owned),
    };
    let of_items = words(&schema["items"]);
    match (words(schema)?.as_str(), of_items.as_deref()) {
        ("string", None) => Some(Form::Text),
        ("integer", None) => Some(Form::Number),
        ("boolean", None) => Some(Form::Flag),
        ("array", Some("string")) => Some(Form::Texts),
        ("array", Some("integer")) => Some(Form::Numbers),
        _ => None,
    }
}

/// The value in a default that is one, and nothing else.
fn literal(default: &str) -> Option<&str> {
    let inside = default.strip_prefix('`')?.strip_suffix('`')?;
    (!inside.contains('`')).then_some(inside)
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
