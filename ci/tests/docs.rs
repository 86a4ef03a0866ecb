//! The documentation is right: every block has a class, every command that is shown runs and prints what is shown, every
//! configuration is one, every link leads somewhere.
//!
//! What the classes are is in `ci::book::blocks`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ci::book::blocks::{Block, Language, Place, Run, blocks};
use ci::book::links::{anchors, code_words, links};
use ci::book::{pages, root, shown, text};
use ci::gateway::binary;
use ci::process::Process;
use ci::sandbox::Sandbox;

/// Pages whose commands a test of their own follows, and the verb that runs it.
const ELSEWHERE: [(&str, &str); 1] = [("docs/install.md", "test-vm")];

/// Reasons for which nobody runs a block.
const REASONS: [&str; 3] = ["a-shell", "two-machines", "a-unit-of-the-system"];

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// All blocks of a page.
fn read(page: &str) -> Vec<Block> {
    blocks(&text(page)).unwrap_or_else(|why| panic!("{page}, {why}"))
}

#[test]
fn every_block_has_a_class_and_few_are_run_by_nobody() {
    let verbs = text("ci/run.sh") + &text("Makefile");
    let mut never = 0;
    let mut run = 0;
    for page in pages() {
        for block in read(&page).iter().filter(|block| block.has_commands()) {
            let at = format!("{page}, line {}", block.line);
            match &block.run {
                Run::Elsewhere(verb) => {
                    assert!(is_verb(&verbs, verb), "{at}: there is no verb {verb:?}")
                }
                Run::Never(reason) => {
                    assert!(
                        REASONS.contains(&reason.as_str()),
                        "{at}: {reason:?} is no reason"
                    );
                    never += 1;
                }
                _ => run += 1,
            }
            // What nobody runs here can at least be read.
            let script: String = block
                .commands()
                .into_iter()
                .map(|(typed, _)| typed)
                .collect();
            let mut bash = Command::new("bash");
            let output = bash
                .args(["-n", "-c", &script])
                .output()
                .expect("bash is there");
            assert!(
                output.status.success(),
                "{at}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    assert!(run > 30, "only {run} blocks are run");
    assert!(never <= 6, "{never} blocks are run by nobody");
    let followed = ELSEWHERE
        .iter()
        .filter(|(page, _)| root().join(page).exists());
    for (page, verb) in followed {
        assert!(is_verb(&verbs, verb), "{page}: there is no verb {verb:?}");
    }
}

/// Whether one of ci/run.sh's verbs, or of make's, has this name.
fn is_verb(verbs: &str, name: &str) -> bool {
    let begins = [format!("{name}() {{"), format!("{name}:")];
    verbs
        .lines()
        .any(|line| begins.iter().any(|begin| line.starts_with(begin)))
}

#[test]
fn every_configuration_and_document_is_one() {
    let mut number = 0;
    for page in pages() {
        for block in read(&page) {
            let wrong = match block.language {
                Language::Toml => settings::load_str(&block.text)
                    .err()
                    .map(|why| why.to_string()),
                Language::Yaml => serde_saphyr::from_str::<serde_json::Value>(&block.text)
                    .err()
                    .map(|why| why.to_string()),
                Language::Json => serde_json::from_str::<serde_json::Value>(&block.text)
                    .err()
                    .map(|why| why.to_string()),
                _ => continue,
            };
            assert_eq!(wrong, None, "{page}, line {}", block.line);
            number += 1;
        }
    }
    assert!(number > 8, "only {number}");
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_in_the_book() {
    let pages = pages();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut linked: BTreeSet<String> = BTreeSet::new();
    let mut wrong = String::new();
    for page in &pages {
        for link in links(page, &text(page)) {
            let is_there = root().join(&link.path).exists();
            let is_page = link.path.ends_with(".md");
            let has_anchor = link.anchor.is_empty()
                || is_there && is_page && {
                    let known = found.entry(link.path.clone());
                    known
                        .or_insert_with(|| anchors(&text(&link.path)))
                        .contains(&link.anchor)
                };
            if !is_there || !has_anchor {
                let _ = writeln!(
                    wrong,
                    "{page}, line {}: {}#{}",
                    link.line, link.path, link.anchor
                );
            }
            if page == "docs/README.md" {
                linked.insert(link.path);
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{wrong}");
    let is_left_out = |page: &&String| {
        page.as_str() != "docs/README.md"
            && !page.starts_with("docs/decisions/")
            && !linked.contains(*page)
    };
    let left_out: Vec<_> = pages.iter().filter(is_left_out).collect();
    assert!(
        left_out.is_empty(),
        "docs/README.md leaves out {left_out:?}"
    );
}

#[test]
fn every_setting_and_every_verb_that_a_sentence_names_exists() {
    let reference = text("docs/configuration.md");
    let known: BTreeSet<&str> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    let tables: BTreeSet<&str> = known
        .iter()
        .filter_map(|key| Some(key.split_once('.')?.0))
        .collect();
    let verbs = text("ci/run.sh") + &text("Makefile");
    let (mut settings, mut named) = (0, 0);
    let others = pages()
        .into_iter()
        .filter(|page| page != "docs/configuration.md");
    for page in others {
        for (line, word) in code_words(&text(&page)) {
            let at = format!("{page}, line {line}");
            let key = word.split_once('.').filter(|(table, key)| {
                let is_name =
                    |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
                tables.contains(table) && key.chars().all(is_name) && !["rs", "md"].contains(key)
            });
            if key.is_some() {
                assert!(
                    known.contains(word.as_str()),
                    "{at}: there is no setting {word}"
                );
                settings += 1;
            }
            let verb = ["make ", "ci/run.sh "]
                .iter()
                .find_map(|runner| word.strip_prefix(runner));
            if let Some(verb) = verb.and_then(|rest| rest.split(' ').next()) {
                assert!(is_verb(&verbs, verb), "{at}: there is no verb {verb}");
                named += 1;
            }
        }
    }
    assert!(
        settings > 30 && named > 10,
        "only {settings} settings and {named} verbs"
    );
}

#[test]
fn every_figure_in_the_page_on_tuning_is_one_of_the_page_on_performance() {
    let measured = text("docs/performance.md");
    let page = text("docs/tuning.md");
    let words: Vec<_> = page.split_whitespace().collect();
    let mut figures = 0;
    for pair in words.windows(2) {
        let figure = pair[0].trim_matches(|char: char| !char.is_ascii_digit());
        let is_decimal = figure.parse::<f64>().is_ok() && figure.contains('.');
        if is_decimal || ["ns", "ms"].contains(&pair[1]) {
            let plain = figure.replace(',', "");
            let is_measured = [figure, &plain].iter().any(|form| measured.contains(*form));
            assert!(
                is_measured,
                "{figure} {} is not in docs/performance.md",
                pair[1]
            );
            figures += 1;
        }
    }
    assert!(figures > 15, "only {figures}");
}

#[test]
fn every_reason_to_drop_a_frame_is_explained() {
    let page = text("docs/troubleshooting.md");
    let explained: BTreeSet<String> = code_words(&page)
        .into_iter()
        .map(|(_, word)| word)
        .collect();
    let reasons = text("dataplane/engine/src/reason.rs");
    let lines = reasons
        .lines()
        .filter_map(|line| line.trim().split_once(" = \"")?.1.strip_suffix("\","));
    let reasons: BTreeSet<String> = lines.map(str::to_owned).collect();
    assert!(reasons.len() > 40, "only {reasons:?}");
    let missing: Vec<_> = reasons.difference(&explained).collect();
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md leaves out {missing:?}"
    );
}

#[test]
fn every_command_runs_and_prints_what_is_shown() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let programs = binary("portgate");
    let machine = Sandbox::new(
        directory.path(),
        &root(),
        programs.parent().unwrap_or(Path::new("/")),
    );
    let mut last: Vec<(String, Block)> = Vec::new();
    let mut beside: Option<Started> = None;
    let pages = pages();
    let here = pages
        .iter()
        .filter(|page| ELSEWHERE.iter().all(|(other, _)| other != page));
    for page in here {
        for block in read(page).into_iter().filter(Block::has_commands) {
            match block.run {
                Run::Elsewhere(_) | Run::Never(_) => {}
                Run::Last => last.push((page.clone(), block)),
                Run::Beside => {
                    let started = start(&machine, page, &block).pop().expect("one command");
                    started.wait_until_it_says_something();
                    beside = Some(started);
                }
                Run::InTurn => {
                    run(&machine, page, &block);
                    beside.take().into_iter().for_each(Started::end);
                }
            }
        }
    }
    commands_in_sentences(&machine, &pages);
    last.iter()
        .for_each(|(page, block)| run(&machine, page, block));
}

/// A command that runs.
struct Started {
    at: String,
    typed: String,
    shown: Option<String>,
    process: Process,
}

impl Started {
    fn wait_until_it_says_something(&self) {
        let says = || (!self.process.output().is_empty()).then_some(());
        ci::wait::until(&format!("{} says something", self.at), PATIENCE, says);
    }

    fn end(mut self) {
        let status = self.process.wait(PATIENCE);
        let said = self.process.output();
        let told = format!("{}\n$ {}\n{said}", self.at, self.typed.trim_end());
        if std::env::var_os("PORTGATE_DOCS_TOLD").is_some() {
            eprintln!("--- {told}");
        }
        // A command whose failure is shown may fail: that is then what it is about.
        let may_fail = self.shown.as_ref().is_some_and(|shown| !shown.is_empty());
        assert!(status.success() || may_fail, "{told}\nended with {status}");
        if let Some(why) = self
            .shown
            .and_then(|shown| shown::compare(&shown, &said).err())
        {
            panic!("{told}\n{why}");
        }
    }
}

/// Runs the commands of a block, one after the other.
fn run(machine: &Sandbox, page: &str, block: &Block) {
    for at in 0..block.commands().len() {
        start_one(machine, page, block, at).end();
    }
}

fn start(machine: &Sandbox, page: &str, block: &Block) -> Vec<Started> {
    let all = 0..block.commands().len();
    all.map(|at| start_one(machine, page, block, at)).collect()
}

fn start_one(machine: &Sandbox, page: &str, block: &Block, at: usize) -> Started {
    let (typed, shown) = block.commands().swap_remove(at);
    let namespace = match block.place {
        Place::Gateway => Some("gateway"),
        Place::Client => Some("client"),
        Place::Operator => None,
    };
    Started {
        at: format!("{page}, line {}", block.line),
        process: machine.start(namespace, &typed),
        typed,
        shown,
    }
}

/// Commands that stand in a sentence or a table: none of them may be wrong use. They are let run for a moment.
fn commands_in_sentences(machine: &Sandbox, pages: &[String]) {
    let mut commands: BTreeMap<String, String> = BTreeMap::new();
    for page in pages {
        for (line, word) in code_words(&text(page)) {
            let is_placeholder = |word: &str| {
                word.contains('…') || word.chars().all(|char| char.is_ascii_uppercase())
            };
            if word.starts_with("portgate ") && !word.split(' ').any(is_placeholder) {
                let alone = word.split(' ').count() == 2;
                let command = if alone {
                    format!("{word} --help")
                } else {
                    word
                };
                commands.insert(command, format!("{page}, line {line}"));
            }
        }
    }
    assert!(commands.len() > 10, "only {commands:?}");
    let started = commands.into_iter().map(|(command, at)| {
        let process = machine.start(
            Some("gateway"),
            &format!("timeout --signal=INT 2 {command} > /dev/null"),
        );
        (process, command, at)
    });
    let started: Vec<_> = started.collect();
    for (mut process, command, at) in started {
        let status = process.wait(PATIENCE);
        assert_ne!(
            status.code(),
            Some(2),
            "{at}: {command}: {}",
            process.output()
        );
    }
}
