//! Help, versions, wrong use, and `check`.
#![allow(clippy::unwrap_used)] // a helper that fails is a failed test

mod common;

use common::*;
use serde_json::{Value, json};

const COMMANDS: [&str; 10] = [
    "services", "flows", "counters", "links", "latency", "top", "trace", "explain", "check",
    "version",
];

const SERVICE: &str = r#"{"apiVersion": "v1", "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
             "ports": [{"port": 80, "protocol": "TCP"}]}}"#;

#[test]
fn every_command_has_help_with_an_example_and_a_version() {
    let overview = said(&portgate(&["--help"]));
    for command in COMMANDS {
        assert!(
            overview.contains(&format!("\n  {command} ")),
            "{command}: {overview}"
        );
        let help = said(&portgate(&[command, "--help"]));
        for words in [
            "Example",
            "portgate ",
            "--config",
            "--json",
            "JSON (one",
            "--version",
        ] {
            assert!(help.contains(words), "{command}: no {words:?} in {help}");
        }
        let version = said(&portgate(&[command, "--version"]));
        assert!(
            version.trim().ends_with(env!("CARGO_PKG_VERSION")),
            "{version}"
        );
    }
}

#[test]
fn version_has_a_json_form() {
    let text = said(&portgate(&["version"]));
    assert!(
        text.starts_with(&format!("portgate {}\n", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    let shown: Value = serde_json::from_str(&said(&portgate(&["version", "--json"]))).unwrap();
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(shown["region_version"], hugepages::header::VERSION);
}

#[test]
fn wrong_use_ends_with_2_and_names_what_is_wrong() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "Usage"),
        (&["serve"], "serve"),
        (&["flows", "--confog", "x"], "--confog"),
        (&["flows", "--from", "nowhere"], "nowhere"),
        (&["flows", "--state", "open"], "half-open, established"),
        (&["explain", "--from", "192.0.2.1:1"], "--to"),
        (
            &["explain", "--from", "192.0.2.1", "--to", "192.0.2.2:80"],
            "192.0.2.1:80 or",
        ),
    ];
    for (arguments, words) in cases {
        let output = portgate(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(words), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_wrong_configuration_is_said_in_one_sentence() {
    let said = complaint(&portgate(&["counters", "--config", "/nonexistent.toml"]), 2);
    assert!(said.contains("/nonexistent.toml"), "{said}");
    let folder = Folder::new("flwos = 5\n");
    for command in [&["counters"][..], &["check"]] {
        let said = complaint(&folder.run(command), 2);
        for word in [text(&folder.config), "region.flwos", "region.flows"] {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
    }
}

#[test]
fn check_finds_nothing_wrong_with_what_is_right() {
    let folder = Folder::new("[gateway]\naddresses = [\"203.0.113.10\"]\n");
    folder.write("manifests/web.json", SERVICE);
    let manifests = folder.path("manifests");
    let output = folder.run(&["check", "--manifests", text(&manifests)]);
    let lines = said(&output);
    assert!(
        lines.contains("right (1 Service, 0 EndpointSlices, 0 Nodes, 0 ServiceCIDRs)"),
        "{lines}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let output = folder.run(&["check", "--manifests", text(&manifests), "--json"]);
    let shown: Value = serde_json::from_str(&said(&output)).unwrap();
    assert_eq!(shown, json!({"ok": true, "problems": []}));
}

#[test]
fn check_names_every_problem_of_the_manifests() {
    let folder = Folder::new("");
    folder.write("manifests/a.json", SERVICE);
    folder.write("manifests/b.yaml", "kind: [this is\n no: manifest");
    let crooked = SERVICE
        .replace("10.96.0.10", "10.96.0.999")
        .replace("web", "crooked");
    folder.write("manifests/c.json", &crooked);
    // Another service with the same address: one of the two cannot be served.
    folder.write("manifests/d.json", &SERVICE.replace("\"web\"", "\"rival\""));
    let manifests = folder.path("manifests");
    let output = folder.run(&["check", "--manifests", text(&manifests)]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for words in [
        "b.yaml",
        "crooked",
        "10.96.0.999",
        "10.96.0.10 tcp port 80 belongs to",
    ] {
        let lines = errors.lines().filter(|line| line.contains(words));
        assert!(lines.count() >= 1, "{words}: {errors}");
    }
    let output = folder.run(&["check", "--manifests", text(&manifests), "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["ok"], false);
    let problems = shown["problems"].as_array().unwrap();
    assert_eq!(problems.len(), errors.lines().count(), "{shown}");
    assert!(
        problems
            .iter()
            .all(|p| p["subject"].is_string() && p["message"].is_string())
    );
}

#[test]
fn check_looks_at_the_directory_of_the_configuration() {
    let folder = Folder::new("[source]\nkind = \"manifests\"\npath = \"/nonexistent/manifests\"\n");
    let output = folder.run(&["check"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("/nonexistent/manifests"), "{errors}");
    let cluster = Folder::new("[source]\nkind = \"kubernetes\"\n");
    assert!(said(&cluster.run(&["check"])).contains("right"));
}

#[test]
fn completions_complete_commands_and_options() {
    for shell in ["bash", "zsh", "fish"] {
        let text = said(&portgate(&["generate", "completions", shell]));
        for command in COMMANDS {
            assert!(text.contains(command), "{shell}: no {command}");
        }
    }
    let folder = Folder::new("");
    let script = said(&portgate(&["generate", "completions", "bash"]));
    let script = folder.write("portgate.bash", &script);
    let complete = |words: &str| {
        let count = words.split(' ').count();
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={}; \
             f=$(complete -p portgate | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
             $f portgate \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             echo ${{COMPREPLY[@]}}",
            text(&script),
            count - 1
        );
        let output = std::process::Command::new("bash")
            .args(["--norc", "-c", &line])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete("portgate ser"), "services");
    assert_eq!(complete("portgate trace --pca"), "--pcap");
    assert_eq!(complete("portgate flows --protocol s"), "sctp");
}

#[test]
fn every_command_has_a_man_page_with_its_examples() {
    let folder = Folder::new("");
    let directory = folder.path("man");
    said(&portgate(&["generate", "man", text(&directory)]));
    let page = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let overview = page("portgate.1");
    for command in COMMANDS {
        let reference = format!("portgate\\-{command}(1)");
        assert!(overview.contains(&reference), "{command}: {overview}");
        let page = page(&format!("portgate-{command}.1"));
        for words in [".TH", "portgate ", "Example", "\\-\\-json", "\\-\\-config"] {
            assert!(page.contains(words), "{command}: no {words:?} in {page}");
        }
    }
    assert!(!overview.contains("generate"), "it is for packages alone");
}

#[test]
fn the_reference_of_the_configuration_is_the_page_in_the_docs() {
    let printed = said(&portgate(&["generate", "configuration"]));
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let kept = std::fs::read_to_string(page).unwrap_or_default();
    assert!(
        printed == kept,
        "docs/configuration.md is not what the types say; run:\n\
         cargo run -p portgate -- generate configuration > docs/configuration.md"
    );
}
