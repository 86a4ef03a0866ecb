use std::fs;
use std::path::Path;

use super::ask::with;
use super::*;

fn each(mut look: impl FnMut(&Table, &Key)) {
    let tables = tables().unwrap();
    for table in &tables {
        table.keys.iter().for_each(|key| look(table, key));
    }
}

#[test]
fn every_key_that_can_be_read_is_on_the_page_in_its_order() {
    let page = markdown().unwrap();
    let mut after = 0;
    let mut keys = 0;
    each(|table, key| {
        let heading = format!("\n### `{}.{}`\n", table.name, key.name);
        let found = page[after..].find(&heading);
        after += found.unwrap_or_else(|| panic!("no {heading}"));
        keys += 1;
    });
    assert!(keys > 40, "only {keys}");
}

#[test]
fn the_ends_of_every_range_are_accepted_and_what_is_past_them_is_refused() {
    let mut ranges = 0;
    each(|table, key| {
        let ends = key
            .rule
            .strip_prefix("be ")
            .and_then(|rule| rule.split_once(" to "));
        let ends = ends.and_then(|(first, last)| {
            Some((first.parse::<i128>().ok()?, last.parse::<i128>().ok()?))
        });
        let is_number = matches!(key.form, Form::Number | Form::Numbers);
        assert_eq!(
            ends.is_some(),
            is_number,
            "{}.{}: {}",
            table.name,
            key.name,
            key.rule
        );
        let Some((first, last)) = ends else { return };
        let accepted = |value: i128| {
            let value = if key.form == Form::Numbers {
                format!("[{value}]")
            } else {
                value.to_string()
            };
            with(table.name, key.name, Some(&value)).is_ok()
        };
        let shown = [first - 1, first, last, last + 1].map(accepted);
        assert_eq!(
            shown,
            [false, true, true, false],
            "{}.{}",
            table.name,
            key.name
        );
        ranges += 1;
    });
    assert!(ranges > 10, "only {ranges}");
}

#[test]
fn every_word_that_a_rule_names_is_accepted_and_others_are_not() {
    let mut words = 0;
    each(|table, key| {
        let named: Vec<_> = key.rule.split('"').skip(1).step_by(2).collect();
        // `node` needs a name beside it.
        for word in named.iter().filter(|word| **word != "node") {
            let typed = format!("\"{word}\"");
            with(table.name, key.name, Some(&typed)).unwrap();
            words += 1;
        }
        let wrong = with(table.name, key.name, Some("\"no such word\""));
        assert!(
            named.is_empty() || wrong.is_err(),
            "{}.{}",
            table.name,
            key.name
        );
    });
    assert!(words > 20, "only {words}");
}

#[test]
fn a_default_that_is_none_is_found_out() {
    assert_eq!(ask::is_default("region", "flows", "1048576"), Ok(()));
    let wrong = ask::is_default("region", "flows", "1048577").unwrap_err();
    assert_eq!(wrong, "1048577 is not its default");
    let refused = ask::is_default("region", "flows", "5").unwrap_err();
    assert!(refused.contains("region.flows"), "{refused}");
}

#[test]
fn a_comment_that_leaves_something_out_is_found_out() {
    let of = |description: &str| {
        let schema = serde_json::json!({"properties": {"flows": {"type": "integer", "description": description}}});
        key("region", "flows", &schema, &Comment::default()).map(|key| key.rule)
    };
    let whole = "Flows.\n\nUnit: flows. Default: `1048576`. Read by: data plane.";
    assert_eq!(of(whole).as_deref(), Ok("be 1024 to 67108864"));
    for (without, words) in [
        ("Unit: flows. ", "unit"),
        ("Default: `1048576`. ", "default"),
        (" Read by: data plane.", "nobody"),
        ("Flows.\n\n", "comment"),
    ] {
        let why = of(&whole.replace(without, "")).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}

/// Where the code of a program is that reads settings.
fn folders(reader: &str) -> &'static [&'static str] {
    match reader {
        // The geometry of the region and the log are made in crates that programs share.
        "data plane" => &[
            "dataplane/src",
            "hugepages/src/host/need.rs",
            "hugepages/settings/src/log.rs",
        ],
        "control plane" => &[
            "controlplane/src",
            "hugepages/settings/src/log.rs",
            "hugepages/settings/src/check.rs",
        ],
        // It works with the control plane's policy.
        "portgate" => &[
            "controlplane/cli/src",
            "controlplane/src",
            "hugepages/settings/src/check.rs",
        ],
        "portgate-hugepages" => &["hugepages/src/host"],
        other => panic!("{other:?} is no program"),
    }
}

#[test]
fn who_is_said_to_read_a_key_has_its_name_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    each(|table, key| {
        for reader in key.readers.split(", ") {
            let is_read = folders(reader)
                .iter()
                .any(|folder| reads(&root.join(folder), key.name));
            assert!(
                is_read,
                "{reader} does not read {}.{}",
                table.name, key.name
            );
        }
    });
}

/// Whether code below a path takes a field of this name.
fn reads(path: &Path, name: &str) -> bool {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries.flatten().any(|entry| reads(&entry.path(), name));
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    let goes_on = |char: char| char.is_alphanumeric() || char == '_' || char == '(';
    text.split(&format!(".{name}"))
        .skip(1)
        .any(|rest| !rest.starts_with(goes_on))
}
