//! The shape of the source: no import cycles inside a crate, unsafe code only where it may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where unsafe code may stand: bindings, devices, single instructions, mapped memory.
const UNSAFE: &[&str] = &[
    "dataplane/dpdk-sys/src/",
    "dataplane/dpdk/src/",
    "dataplane/intrinsics/src/",
    "hugepages/src/region",
    "hugepages/src/ring",
    "hugepages/src/slab",
];

/// Modules of a crate and those that each one imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_crate_has_an_import_cycle_between_its_modules() {
    let found = crates().into_iter().filter_map(|folder| {
        let cycle = cycle(&imports(&folder.join("src")))?;
        Some(format!("{}: {}", folder.display(), cycle.join(" -> ")))
    });
    let found: Vec<_> = found.collect();
    assert!(
        found.is_empty(),
        "modules import each other in {}",
        found.join("; ")
    );
}

#[test]
fn unsafe_code_stands_only_where_it_may() {
    for file in crates()
        .iter()
        .flat_map(|folder| files(&folder.join("src")))
    {
        let path = file.to_string_lossy();
        if UNSAFE.iter().any(|allowed| path.contains(allowed)) {
            continue;
        }
        let code = code(&fs::read_to_string(&file).expect("a source file is readable"));
        let found = ["unsafe {", "unsafe fn ", "unsafe impl "]
            .iter()
            .find(|form| code.contains(**form));
        assert_eq!(found, None, "in {path}");
    }
}

#[test]
fn every_test_that_the_page_on_reliability_names_exists() {
    let named = tests_named(&reliability());
    assert!(named.len() > 30, "only {} tests are named", named.len());
    let functions: BTreeSet<String> = crates()
        .iter()
        .flat_map(|folder| [files(&folder.join("src")), files(&folder.join("tests"))])
        .flatten()
        .flat_map(|file| functions(&fs::read_to_string(file).expect("a source file is readable")))
        .collect();
    let missing: Vec<_> = named.difference(&functions).collect();
    assert!(missing.is_empty(), "docs/reliability.md names {missing:?}");
}

#[test]
fn every_file_with_a_memory_ordering_is_on_the_page_on_reliability() {
    let page = reliability();
    let strong = ["Acquire", "Release", "AcqRel", "SeqCst"].map(|name| format!("Ordering::{name}"));
    let root = root();
    for folder in ["hugepages/src", "dataplane", "controlplane/src"] {
        for file in files(&root.join(folder)) {
            let code = code(&fs::read_to_string(&file).expect("a source file is readable"));
            let path = file
                .strip_prefix(&root)
                .expect("below the root")
                .to_string_lossy();
            let is_named = page.contains(&format!("`{path}`"));
            let is_ordered = strong
                .iter()
                .any(|ordering| code.contains(ordering.as_str()));
            assert!(
                !is_ordered || is_named,
                "{path} orders memory and has no model named"
            );
        }
    }
}

#[test]
fn tests_are_read_from_the_page_by_their_names_long_as_they_are() {
    let text = "`a_name_of_a_test` and `flow_race`, `ci/run.sh`\n`loom_b_c_d`";
    let expected = ["a_name_of_a_test", "loom_b_c_d"].map(str::to_owned);
    assert_eq!(tests_named(text), BTreeSet::from(expected));
}

#[test]
fn a_cycle_is_found_and_told_from_a_chain() {
    let graph = |edges: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (from, to) in edges {
            imports
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        imports
    };
    assert_eq!(cycle(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])).expect("a cycle");
    assert_eq!(found, ["b", "c", "b"]);
}

#[test]
fn imports_are_read_from_paths_and_groups_but_not_from_tests_or_comments() {
    let text = "use crate::a::B;\nuse crate::{c::{D, E}, f};\n// crate::g::h\nfn x() { crate::i::j() }\n\
                #[cfg(test)]\nmod tests {\nuse crate::k;\n}";
    let expected = ["a", "c", "f", "i"].map(str::to_owned);
    assert_eq!(named(text), BTreeSet::from(expected));
}

/// The text of docs/reliability.md.
fn reliability() -> String {
    fs::read_to_string(root().join("docs/reliability.md")).expect("the page is there")
}

/// Names of tests in a page: words in backticks with at least three underscores, which no reason to drop has.
fn tests_named(page: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        word.bytes().all(allowed) && word.matches('_').count() >= 3
    };
    let words = page.split('`').skip(1).step_by(2);
    words.filter(is_name).map(str::to_owned).collect()
}

/// Names of the functions of a file.
fn functions(text: &str) -> Vec<String> {
    let name = |rest: &str| rest.split('(').next().unwrap_or_default().to_owned();
    text.split("fn ").skip(1).map(name).collect()
}

fn root() -> PathBuf {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR"));
    ci.parent().expect("ci is in the workspace").to_owned()
}

/// Folders of the workspace's members.
fn crates() -> Vec<PathBuf> {
    let root = root();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the workspace's manifest");
    let members = manifest
        .split("members = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let members = members.expect("a list of members").split(',');
    let names = members
        .map(|name| name.trim().trim_matches('"'))
        .filter(|name| !name.is_empty());
    let folders: Vec<_> = names.map(|name| root.join(name)).collect();
    assert!(
        folders.len() > 5,
        "only {} members were found",
        folders.len()
    );
    folders
}

/// What the top-level modules under `source` import from each other. The crate root may import
/// them all and is left out.
fn imports(source: &Path) -> Imports {
    let for_tests = test_modules(source);
    let mut imports = Imports::new();
    for file in files(source) {
        let relative = file.strip_prefix(source).expect("a file under its folder");
        let first = relative.iter().next().unwrap_or_default().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let is_test = stem.ends_with("tests") || for_tests.contains(&module);
        if ["lib", "main", "bin"].contains(&module.as_str()) || is_test {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file is readable");
        imports.entry(module).or_default().extend(named(&text));
    }
    let modules: BTreeSet<_> = imports.keys().cloned().collect();
    for (module, targets) in &mut imports {
        targets.retain(|target| target != module && modules.contains(target));
    }
    imports
}

/// All Rust files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let (folders, files): (Vec<_>, Vec<_>) = entries
        .map(|entry| entry.path())
        .partition(|path| path.is_dir());
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.chain(folders.iter().flat_map(|folder| self::files(folder)))
        .collect()
}

/// The first names after `crate::` in the code of a file, its tests left out.
fn named(text: &str) -> BTreeSet<String> {
    code(text)
        .split("crate::")
        .skip(1)
        .flat_map(heads)
        .collect()
}

/// A file without comments and without what follows the head of its module of tests.
fn code(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
    {
        let for_tests = lines.last().is_some_and(|last| is_for_tests(last));
        if for_tests && line.starts_with("mod ") && line.ends_with('{') {
            break;
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Whether a line is an attribute like `#[cfg(test)]` or `#[cfg(all(test, not(loom)))]`.
fn is_for_tests(line: &str) -> bool {
    let mut words = line.split(|char: char| !char.is_alphanumeric());
    line.starts_with("#[cfg(") && words.any(|word| word == "test")
}

/// Modules that a crate root declares for tests alone.
fn test_modules(source: &Path) -> BTreeSet<String> {
    let roots = ["lib.rs", "main.rs"].map(|file| fs::read_to_string(source.join(file)));
    let roots = roots.map(Result::unwrap_or_default).join("\n");
    let lines: Vec<_> = roots.lines().collect();
    let pairs = lines.windows(2).filter(|pair| is_for_tests(pair[0]));
    let names = pairs.filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// The name, or the names of the group, that a path begins with.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim()
            .chars()
            .take_while(|char| char.is_alphanumeric() || *char == '_')
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut depth = 0;
    let mut items = vec![String::new()];
    for char in group.chars() {
        match char {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(char == '{') - i32::from(char == '}');
                items.last_mut().expect("never empty").push(char);
            }
        }
    }
    items.iter().map(|item| name(item)).collect()
}

/// A cycle, beginning and ending with the same module.
fn cycle(imports: &Imports) -> Option<Vec<String>> {
    fn walk(imports: &Imports, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let last = path.last().expect("never empty").clone();
        for next in imports.get(&last).into_iter().flatten() {
            if let Some(start) = path.iter().position(|seen| seen == next) {
                path.drain(..start);
                path.push(next.clone());
                return true;
            }
            if !done.contains(next) {
                path.push(next.clone());
                if walk(imports, path, done) {
                    return true;
                }
            }
        }
        path.pop();
        done.insert(last);
        false
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| {
        let mut path = vec![module.clone()];
        (!done.contains(module) && walk(imports, &mut path, &mut done)).then_some(path)
    })
}
