//! `perf engine` as a program, in memory: no root, no DPDK.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn perf(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_perf"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn record(arguments: &str) -> Value {
    let common = "engine --json --link memory --mbufs 256 --packets 512 --repeat 1 --services 3";
    let output = perf(&format!("{common} {arguments}"));
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "one object a line");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_scenario_gives_a_record_whose_frames_ended_as_they_should() {
    for family in [4, 6] {
        for (scenario, fate) in [
            ("established --direction both", "hits"),
            ("established --direction reply", "hits"),
            ("new", "created"),
            ("flood --flood no-endpoint", "refused"),
        ] {
            let arguments = format!("--family {family} --flows 100 --scenario {scenario}");
            let record = record(&arguments);
            assert_eq!(record["family"], family);
            assert_eq!(record["flows"], 100);
            assert!(record["ns_per_packet"].as_f64().unwrap() > 0.0);
            assert_eq!(record["fates"]["frames"], 512);
            assert_eq!(record["fates"][fate], 512, "{arguments}");
            for key in [
                "host",
                "commit",
                "cpu",
                "kernel",
                "seed",
                "load_1m",
                "steal_percent",
            ] {
                assert!(record.get(key).is_some(), "{key}");
            }
        }
    }
}

#[test]
fn a_full_table_refuses_and_two_workers_share_one() {
    let full = record("--flows 512 --scenario flood --flood table-full");
    assert!(full["fates"]["dropped"].as_u64().unwrap() >= 486);
    let two = record("--flows 100 --workers 2");
    assert_eq!(two["workers"], 2);
    assert_eq!(two["fates"]["hits"], two["fates"]["frames"]);
}

#[test]
fn wrong_use_exits_with_2_and_names_the_option() {
    for (arguments, named) in [
        ("engine --burst 33", "--burst"),
        ("engine --family 5", "--family"),
        ("engine --flows 0", "--flows"),
        ("engine --table-pages huge", "--huge-pages"),
        ("engine --frame-size 59", "--frame-size"),
        ("engine --capacity 10 --flows 1000", "--capacity"),
        ("engine --nonsense", "--nonsense"),
    ] {
        let output = perf(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains(named), "{errors}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_gate_passes_what_is_recorded_and_refuses_what_is_above() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("instructions.json");
    let gate = |what: &str| {
        perf(&format!(
            "engine --callgrind --json {what} --record {}",
            path.display()
        ))
    };
    let none = gate("--check");
    assert_eq!(none.status.code(), Some(1), "there is no record yet");
    let update = gate("--update --reason first");
    assert!(
        update.status.success(),
        "{}",
        String::from_utf8_lossy(&update.stderr)
    );
    assert!(gate("--check").status.success(), "the same program again");

    let text = std::fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["updates"][0]["reason"], "first");
    let new = record["instructions"]["new-v4"].as_f64().unwrap();
    record["instructions"]["new-v4"] = (new / 1.04).into();
    std::fs::write(&path, record.to_string()).unwrap();
    let refused = gate("--check");
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        errors.contains("new-v4") && !errors.contains("new-v6"),
        "{errors}"
    );
}

/// The names that programs which read these lines rely on.
#[test]
fn a_line_of_json_has_the_names_that_others_rely_on() {
    for family in [4, 6] {
        let record = record(&format!("--family {family} --flows 64 --floors"));
        assert_eq!(record["scenario"], "established");
        assert_eq!(record["workers"], 1);
        assert!(record["family"].is_u64() && record["flows"].is_u64());
        assert!(record["ns_per_packet"].is_f64());
        let floors = record["floors"].as_object().unwrap();
        for floor in ["rx_tx", "nat", "staged_nat", "random_read"] {
            assert!(floors[floor].as_f64().unwrap() > 0.0, "{floor}");
        }
        let latency = &record["rx_to_tx"];
        assert!(latency["p99_9"].as_u64() >= latency["p50"].as_u64());
        assert!(latency["p50"].as_u64().unwrap() > 0);
    }
}

#[test]
fn every_verb_shows_examples() {
    for verb in [
        "engine",
        "kernel",
        "capsule",
        "figures",
        "compare",
        "report",
        "import-pktgen",
        "gen",
        "sink",
        "search",
    ] {
        let output = perf(&format!("{verb} --help"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains(&format!("Examples:\n  perf {verb}")) || verb == "capsule",
            "{text}"
        );
        assert!(text.contains("Examples:"), "{verb}");
    }
}

/// As root, and where the machine has two free huge pages; elsewhere there is nothing to give back.
#[test]
fn ended_by_a_signal_it_takes_its_huge_pages_down() {
    let directory = tempfile::tempdir().unwrap();
    let mounts = || {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        mounts.contains(directory.path().to_str().unwrap())
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_perf"))
        .args("engine --link memory --flows 100 --huge-pages auto --table-pages huge".split(' '))
        .args(["--seconds", "60", "--json"])
        .env("TMPDIR", directory.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !mounts() {
        if child.try_wait().unwrap().is_some() {
            let errors = child.wait_with_output().unwrap().stderr;
            eprintln!("skipped: {}", String::from_utf8_lossy(&errors));
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let status = child.wait().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(
        signal,
        Some(15),
        "it ends as if it had not looked: {status}"
    );
    assert!(!mounts(), "the hugetlbfs is still mounted");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
