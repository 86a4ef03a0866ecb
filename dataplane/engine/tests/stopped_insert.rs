//! A process that is stopped between any two stores of an insert or a removal.
//!
//! The test starts itself as a process that works on a flow table in a shared region, lets it run one
//! processor instruction at a time (ptrace), and keeps what the memory looked like after every
//! instruction that changed it. So it has every state that a kill could leave behind, and not only
//! those that a sleep happened to meet. Each of them is then recovered as after a restart: flows that were
//! whole are whole, the one under way is there whole or not at all, and nothing else is left.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use engine::family::{Family, V4, V6};
use engine::flow::{FlowTable, Hop, InsertError, NewFlow, state};
use hugepages::sync::Ordering;
use hugepages::{Family as Version, Geometry, Line, Region, Slab, TagLine};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const REGION: &str = "ENGINE_TEST_REGION";
const VERSION: &str = "ENGINE_TEST_VERSION";
const SEEDS: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Flows that are there before; then one more comes and one of these goes.
const BEFORE: std::ops::Range<u64> = 0..5;
const COMES: u64 = 7;
const GOES: u64 = 3;

/// A family with tuples for the test.
trait Tuples: Family {
    const VERSION: Version;
    fn client(number: u64) -> Self::Key;
    fn translated(number: u64) -> Self::Key;
}

impl Tuples for V4 {
    const VERSION: Version = Version::V4;

    fn client(number: u64) -> Self::Key {
        [
            (0x0a00_0000 + number) << 32 | 0x6445_b51f,
            40_000 << 48 | 80 << 32 | 6,
        ]
    }

    fn translated(number: u64) -> Self::Key {
        [
            0xcb00_710a << 32 | 0x6460_0202,
            number << 48 | 8080 << 32 | 6,
        ]
    }
}

impl Tuples for V6 {
    const VERSION: Version = Version::V6;

    fn client(number: u64) -> Self::Key {
        [1, 2 + number, 3, 4, 5 << 32 | 6]
    }

    fn translated(number: u64) -> Self::Key {
        [11, 12, 13, 14, (100 + number) << 48 | 15 << 32 | 6]
    }
}

fn insert<F: Tuples>(table: &FlowTable<F>, number: u64) -> Result<(), InsertError> {
    let flow = NewFlow {
        forward: F::client(number),
        forward_hop: Hop::new(7, 1, 0, 0),
        reply_hop: Hop::new(7, 2, 0, 0),
        second: 1,
        flags: state::SYN,
    };
    table
        .insert(&flow, || Some(F::translated(number)))
        .map(drop)
}

fn remove<F: Tuples>(table: &FlowTable<F>, number: u64) -> bool {
    let key = F::client(number);
    let hit = table.find(&key, table.place(&key)).unwrap();
    table.remove(&table.view_of(hit.index).unwrap())
}

fn table<F: Tuples>(region: &Region) -> FlowTable<F> {
    let (buckets, entries) = (
        region.flow_buckets(F::VERSION),
        region.flow_entries(F::VERSION),
    );
    FlowTable::new(buckets, entries, SEEDS)
}

/// Not a test by itself: what the copy runs.
#[test]
fn copy() {
    let Ok(path) = std::env::var(REGION) else {
        return;
    };
    let geometry = Geometry::new(1, 1, 16, 16);
    let (region, _) = Region::create(Path::new(&path), &geometry).unwrap();
    match std::env::var(VERSION).unwrap().as_str() {
        "V4" => work::<V4>(&region),
        _ => work::<V6>(&region),
    }
}

fn work<F: Tuples>(region: &Region) {
    let table = table::<F>(region);
    BEFORE.for_each(|number| insert(&table, number).unwrap());
    ptrace::traceme().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    insert(&table, COMES).unwrap();
    raise(Signal::SIGSTOP).unwrap();
    assert!(remove(&table, GOES));
    raise(Signal::SIGSTOP).unwrap();
}

/// What the table's memory holds.
#[derive(PartialEq, Clone)]
struct Memory {
    tags: Vec<u32>,
    words: Vec<u64>,
}

impl Memory {
    fn of<F: Tuples>(region: &Region) -> Self {
        let buckets = region.flow_buckets(F::VERSION);
        let entries = region.flow_entries(F::VERSION);
        // Relaxed: whoever writes is stopped.
        Self {
            tags: buckets
                .iter()
                .flat_map(|line| &line.0)
                .map(|tag| tag.load(Ordering::Relaxed))
                .collect(),
            words: entries
                .iter()
                .flat_map(|line| &line.0)
                .map(|word| word.load(Ordering::Relaxed))
                .collect(),
        }
    }

    /// A table of its own with this content, as a new process would find it.
    fn restart<F: Tuples>(&self) -> (FlowTable<F>, Slab<TagLine>) {
        let buckets = Slab::<TagLine>::heap(self.tags.len() / 16);
        let entries = Slab::<Line>::heap(self.words.len() / 8);
        let tags = buckets.iter().flat_map(|line| &line.0);
        tags.zip(&self.tags)
            .for_each(|(to, tag)| to.store(*tag, Ordering::Relaxed));
        let words = entries.iter().flat_map(|line| &line.0);
        words
            .zip(&self.words)
            .for_each(|(to, word)| to.store(*word, Ordering::Relaxed));
        (FlowTable::new(buckets.clone(), entries, SEEDS), buckets)
    }
}

/// The copy, one instruction after the other.
struct Stepped {
    child: Child,
    thread: Pid,
}

impl Stepped {
    fn start(path: &Path, version: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["copy", "--exact", "--nocapture"])
            .env(REGION, path)
            .env(VERSION, version)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The thread that asked to be traced: the test's, not the first of its process.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let thread = match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::Stopped(thread, Signal::SIGSTOP) => thread,
            other => panic!("the copy is not there: {other:?}"),
        };
        Self { child, thread }
    }

    /// Runs to the next SIGSTOP; every state of the memory on the way, first and last included.
    fn states<F: Tuples>(&self, region: &Region) -> Vec<Memory> {
        let mut states = vec![Memory::of::<F>(region)];
        loop {
            ptrace::step(self.thread, None).unwrap();
            match waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return states,
                other => panic!("the copy did not come to its end: {other:?}"),
            }
            let now = Memory::of::<F>(region);
            if states.last() != Some(&now) {
                states.push(now);
            }
        }
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Its process is not gone before its traced thread has been waited for.
        let _ = waitpid(self.thread, Some(WaitPidFlag::__WALL));
        let _ = self.child.wait();
    }
}

/// Whether a flow is there, in both directions and with the right translations.
fn is_there<F: Tuples>(table: &FlowTable<F>, number: u64) -> bool {
    let (forward, reply) = (F::client(number), F::reverse(&F::translated(number)));
    let there = [
        (forward, F::translate(&forward, &F::translated(number))),
        (reply, F::translate(&reply, &F::reverse(&forward))),
    ]
    .map(|(key, expected)| {
        let hit = table.find(&key, table.place(&key));
        hit.map(|hit| assert!(hit.translation == expected, "flow {number} goes elsewhere"))
            .is_some()
    });
    assert_eq!(there[0], there[1], "flow {number} is there by half");
    there[0]
}

/// Recovers every state; how often `changing` was there and not there.
fn recover_all<F: Tuples>(states: &[Memory], changing: u64, stay: &[u64]) -> [usize; 2] {
    let mut seen = [0, 0];
    for (at, state) in states.iter().enumerate() {
        let (table, buckets) = state.restart::<F>();
        let live = table.recover();
        let tags = buckets.iter().flat_map(|line| &line.0);
        let claimed = tags.filter(|tag| tag.load(Ordering::Relaxed) != 0).count();
        assert_eq!(claimed, live, "state {at}: a tag without a live entry");
        for number in stay {
            assert!(
                is_there(&table, *number),
                "state {at}: flow {number} is lost"
            );
        }
        let there = is_there(&table, changing);
        seen[usize::from(there)] += 1;
        assert_eq!(live, 2 * (stay.len() + usize::from(there)), "state {at}");
        // What was half there is in nobody's way.
        match insert(&table, changing) {
            Ok(()) => assert!(!there),
            Err(InsertError::Exists(_)) => assert!(there),
            Err(other) => panic!("state {at}: {other:?}"),
        }
        assert!(is_there(&table, changing), "state {at}");
    }
    seen
}

fn check<F: Tuples>(version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("region");
    let copy = Stepped::start(&path, version);
    let region = Region::observe(&path).unwrap();

    let mut stay: Vec<u64> = BEFORE.collect();
    let inserting = copy.states::<F>(&region);
    let [absent, present] = recover_all::<F>(&inserting, COMES, &stay);
    assert!(
        absent > 10 && present >= 1 && absent + present == inserting.len(),
        "{absent} states without the new flow and {present} with it are not every store of an insert"
    );

    stay.retain(|number| *number != GOES);
    stay.push(COMES);
    let removing = copy.states::<F>(&region);
    let [absent, present] = recover_all::<F>(&removing, GOES, &stay);
    assert!(
        absent >= 1 && present >= 1 && removing.len() >= 4,
        "{absent} and {present} states are not every store of a removal"
    );
}

#[test]
fn ipv4_insert_or_removal_stopped_after_any_store_is_whole_or_discarded() {
    check::<V4>("V4");
}

#[test]
fn ipv6_insert_or_removal_stopped_after_any_store_is_whole_or_discarded() {
    check::<V6>("V6");
}
