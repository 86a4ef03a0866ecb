//! Live connections while processes are killed: half a minute here, as long as one likes by
//! `make soak MINUTES=20`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ci::soak::{Course, run};

/// Minutes, kills of each process, seed and connections of the long course.
const MINUTES: &str = "SOAK_MINUTES";
const KILLS: &str = "SOAK_KILLS";
const SEED: &str = "SOAK_SEED";
const CONNECTIONS: &str = "SOAK_CONNECTIONS";

#[test]
fn short_soak_with_a_few_kills_of_each_process_loses_nothing() {
    let course = Course {
        duration: Duration::from_secs(15),
        kills: 4,
        connections: 200,
        flows: 20,
        pause: Duration::from_millis(1_500),
        seed: 1,
    };
    let report = run(&course);
    assert!(
        report.losses.is_empty(),
        "{}",
        report.page(&course, "short")
    );
    assert!(
        report.rounds > 2 && report.newcomers > 10 && report.answers > 10,
        "too little traffic to prove anything: {}",
        report.page(&course, "short")
    );
}

/// Run by `ci/run.sh soak`, which says where the record goes.
#[test]
#[ignore = "takes as many minutes as one asks for: make soak MINUTES=20"]
fn long_soak_leaves_a_record_and_loses_nothing() {
    let number = |name: &str, default: u64| -> u64 {
        let text = std::env::var(name).unwrap_or_default();
        if text.is_empty() {
            return default;
        }
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}: it must be a number"))
    };
    let minutes = number(MINUTES, 20);
    let course = Course {
        duration: Duration::from_secs(60 * minutes),
        kills: number(KILLS, minutes * 10) as usize,
        connections: number(CONNECTIONS, 1_000) as usize,
        flows: 100,
        pause: Duration::from_millis(1_500),
        seed: number(SEED, 1),
    };
    let report = run(&course);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace");
    let say = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(root)
            .output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let commit = say("git", &["rev-parse", "--short=7", "HEAD"]);
    let day = say("date", &["-u", "+%F"]);
    let page = report.page(&course, &format!("{day}, commit {commit}"));
    let folder = root.join("ci/records");
    let file = folder.join(format!("{day}-{commit}-soak.md"));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, &page))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    println!("{}", page.split("## Events").next().unwrap_or(&page));
    println!("record: {}", file.display());
    assert!(
        report.losses.is_empty(),
        "something was lost: see {}",
        file.display()
    );
}
