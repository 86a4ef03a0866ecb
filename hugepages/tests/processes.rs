//! Two real processes on one region, killed again and again.
//!
//! The test starts itself twice, as a small data plane and a small control plane, kills either or
//! both at random moments with SIGKILL and starts them again. The control plane leads the data
//! plane from one known state to the next; at each commit and each start the data plane compares
//! what it has with what it should have, so a command lost, doubled or changed ends it, and the
//! test with it. Meanwhile an observer replays the journal.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hugepages::Region;

use support::{control_plane, data_plane, journal_state, world};

/// Names the role of a started copy of this test, and its region.
const ROLE: &str = "HUGEPAGES_TEST_ROLE";
const REGION: &str = "HUGEPAGES_TEST_REGION";

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Not a test by itself: what the copies run.
#[test]
fn role() {
    let Ok(path) = std::env::var(REGION) else {
        return;
    };
    // A panic must not go unseen because the process is killed while it still prints.
    let verdict = verdict(Path::new(&path));
    std::panic::set_hook(Box::new(move |panic| {
        let _ = std::fs::write(&verdict, panic.to_string());
        std::process::abort();
    }));
    match std::env::var(ROLE).as_deref() {
        Ok("data") => data_plane(Path::new(&path)),
        Ok("control") => control_plane(Path::new(&path)),
        other => panic!("no such role: {other:?}"),
    }
}

#[test]
fn nothing_is_lost_or_doubled_when_either_side_is_killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("region");
    let mut data = Copy::start("data", &path);
    let mut control = Copy::start("control", &path);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut kills, mut observed) = (0, 0);

    // At least 60 rounds, and further where processes start slowly and so do little between two kills.
    let end = Instant::now() + PATIENCE;
    for round in 1.. {
        std::thread::sleep(Duration::from_millis(5 + random.below(40)));
        let before = generation(&path);
        let victims = random.below(4);
        if victims != 0 {
            data.restart();
            kills += 1;
        }
        if victims != 1 {
            control.restart();
            kills += 1;
        }
        observed += u64::from(observe(&path));
        assert!(
            generation(&path) >= before,
            "the installed generation went back"
        );
        if round >= 60 && kills > 60 && generation(&path) > 100 && observed > 20 {
            break;
        }
        assert!(
            Instant::now() < end,
            "{kills} kills, {before} generations, {observed} seen"
        );
    }
    let start = generation(&path);
    wait_for("generations after the last kill", || {
        generation(&path) > start + 20
    });
    control.check_alive();
    data.check_alive();

    let end = generation(&path);
    drop((data, control));
    let region = Region::observe(&path).unwrap();
    let (last, state) = journal_state(&region.journal().unwrap()).unwrap();
    assert!(last >= end);
    assert_eq!(state, world(last));
}

/// Where a copy leaves word of its panic.
fn verdict(path: &Path) -> PathBuf {
    path.with_extension("panic")
}

fn generation(path: &Path) -> u64 {
    Region::observe(path)
        .ok()
        .and_then(|region| region.installed())
        .map_or(0, |state| state.generation)
}

/// Replays the journal while the data plane writes it; false if there was nothing to see.
fn observe(path: &Path) -> bool {
    let Ok(region) = Region::observe(path) else {
        return false;
    };
    match journal_state(&region.journal().unwrap()) {
        Ok((generation, state)) => {
            assert_eq!(
                state,
                world(generation),
                "as the observer sees generation {generation}"
            );
            generation > 0
        }
        Err(error) => {
            assert_eq!(error, hugepages::JournalError::Switched);
            false
        }
    }
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A copy of this test in one role; killed when dropped.
struct Copy {
    role: &'static str,
    path: PathBuf,
    child: Child,
}

impl Copy {
    fn start(role: &'static str, path: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["role", "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(REGION, path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let path = path.to_owned();
        Self { role, path, child }
    }

    fn check_alive(&mut self) {
        if let Ok(panic) = std::fs::read_to_string(verdict(&self.path)) {
            panic!("a process ended by itself: {panic}");
        }
        let status = self.child.try_wait().unwrap();
        assert!(
            status.is_none(),
            "the {} process ended by itself: {status:?}",
            self.role
        );
    }

    fn restart(&mut self) {
        self.check_alive();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        *self = Self::start(self.role, &self.path);
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Xorshift: the kernel's scheduling is random enough, this only spreads the moments.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
