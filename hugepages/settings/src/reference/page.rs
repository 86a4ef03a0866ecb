//! The page.

use super::{Form, Key, Table};

const HEAD: &str = "\
# Configuration reference

All settings of all programs. This page is made out of the programs' own types by `portgate generate configuration`, and a
test holds it against them: what a value must be is what `--check` says when it refuses one.

## The file

All programs read one file in [TOML](https://toml.io), `/etc/portgate/portgate.toml` unless `--config` names another. Unknown keys are
errors, so a misspelt one is never silently ignored. Changes take effect when a program is started again.

```sh
portgate-dataplane --check
portgate-controlplane --check
portgate check
```

The first two check the file and say nothing if it is right; the last one checks the manifests as well. What is wrong is said in
one sentence with the key, its value and the rule, and the exit status is 2.

After the file come environment variables: `PORTGATE__` and the names of table and key, with two underscores between, in capitals.
Lists are separated by commas. Links and routes stand in the file alone.

```sh
PORTGATE__LOG__LEVEL=debug PORTGATE__WORKERS__CORES=2,3 portgate-dataplane --check
```

A key with something in the column “Default” may be left out. That is then as if the default had been typed; “none” is not like
any value. Texts stand in quotes, lists in brackets.
";

/// Everything, in Markdown.
pub(super) fn page(tables: &[Table]) -> String {
    let mut page = format!("{HEAD}\n## Keys\n\n| Table | Keys |\n|---|---|\n");
    for table in tables {
        let links = table.keys.iter().map(|key| {
            let anchor = format!("{}{}", table.name, key.name);
            format!("[{}](#{anchor})", key.name)
        });
        let links: Vec<_> = links.collect();
        page.push_str(&format!("| `{}` | {} |\n", header(table), links.join(", ")));
    }
    for table in tables {
        page.push_str(&format!("\n## `{}`\n\n{}\n", header(table), table.about));
        for key in &table.keys {
            page.push_str(&entry(table, key));
        }
    }
    page
}

fn header(table: &Table) -> String {
    if table.is_list {
        format!("[[{}]]", table.name)
    } else {
        format!("[{}]", table.name)
    }
}

fn entry(table: &Table, key: &Key) -> String {
    let (form, each) = match key.form {
        Form::Text => ("text", ""),
        Form::Number => ("whole number", ""),
        Form::Flag => ("`true` or `false`", ""),
        Form::Texts => ("list of texts", "each: "),
        Form::Numbers => ("list of whole numbers", "each: "),
    };
    let mut columns = vec![("Type", form.to_owned())];
    if !key.unit.is_empty() {
        columns.push(("Unit", key.unit.clone()));
    }
    if !key.rule.is_empty() {
        columns.push(("Must", format!("{each}{}", words(&key.rule))));
    }
    let default = key.default.clone();
    columns.push((
        "Default",
        default.unwrap_or_else(|| "it must be there".to_owned()),
    ));
    columns.push(("Read by", programs(&key.readers)));
    let row = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    format!(
        "\n### `{}.{}`\n\n{}\n\n{}{}{}",
        table.name,
        key.name,
        key.about,
        row(columns.iter().map(|(name, _)| *name).collect()),
        row(columns.iter().map(|_| "---").collect()),
        row(columns.iter().map(|(_, cell)| cell.as_str()).collect()),
    )
}

/// Words in quotes as code.
fn words(rule: &str) -> String {
    let parts = rule.split('"').enumerate();
    let quoted = parts.map(|(at, part)| match at % 2 {
        0 => part.to_owned(),
        _ => format!("`\"{part}\"`"),
    });
    quoted.collect()
}

/// Names of programs as code.
fn programs(readers: &str) -> String {
    let names = readers.split(", ").map(|name| match name {
        program if program.starts_with("portgate") => format!("`{program}`"),
        process => process.to_owned(),
    });
    names.collect::<Vec<_>>().join(", ")
}
