use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::record::{BODY, RecordKind, record};
use crate::sync::Ordering;

thread_local! {
    /// Stores that the writer of this thread still makes before it "dies".
    static STORES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Counts a store; false once the writer is dead.
pub(super) fn alive() -> bool {
    STORES_LEFT.with(|left| {
        let before = left.get();
        left.set(before.saturating_sub(1));
        before > 0
    })
}

/// Stores made while `STORES_LEFT` counted down from its top.
fn stores_made() -> u64 {
    u64::MAX - STORES_LEFT.with(Cell::get)
}

fn numbered(number: u64) -> Record {
    record(RecordKind::Begin, number, &[number as u8; BODY])
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Commit,
    Abort,
    Rewrite { records: usize, finish: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4).prop_map(Step::Append),
        3 => Just(Step::Commit),
        1 => Just(Step::Abort),
        2 => (0usize..6, any::<bool>())
            .prop_map(|(records, finish)| Step::Rewrite { records, finish }),
        1 => Just(Step::Restart),
    ]
}

const CAPACITY: usize = 8;

/// The state that should be found, and what is appended behind it.
#[derive(Default, Clone)]
struct Oracle {
    committed: Vec<Record>,
    pending: Vec<Record>,
    next: u64,
}

impl Oracle {
    fn fresh(&mut self, count: usize) -> Vec<Record> {
        let records = (self.next..).take(count).map(numbered).collect();
        self.next += count as u64;
        records
    }

    fn apply(&mut self, step: &Step, journal: &mut Journal, lines: &Slab<Line>) {
        match *step {
            Step::Append(count) => {
                let records = self.fresh(count);
                let used = self.committed.len() + self.pending.len();
                let fits = used + count <= CAPACITY;
                let full = Err(JournalError::Full {
                    capacity: CAPACITY as u64,
                });
                let expected = if fits { Ok(()) } else { full };
                assert_eq!(journal.append(&records), expected);
                if fits {
                    self.pending.extend(records);
                }
            }
            Step::Commit => {
                journal.commit().unwrap();
                self.committed.append(&mut self.pending);
            }
            Step::Abort => {
                journal.abort();
                self.pending.clear();
            }
            Step::Rewrite { records, finish } => {
                let records = self.fresh(records);
                let mut rewrite = journal.rewrite().unwrap();
                let (front, back) = records.split_at(records.len() / 2);
                rewrite.append(front).unwrap();
                rewrite.append(back).unwrap();
                self.pending.clear();
                if finish {
                    rewrite.finish();
                    self.committed = records;
                }
            }
            Step::Restart => {
                *journal = Journal::open(lines.clone()).unwrap();
                self.pending.clear();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The writer dies before each store in turn: what is found is the state after the last step
    /// whose last store was made, and the next writer goes on from there.
    #[test]
    fn killed_at_any_store_the_last_commit_is_found(
        steps in prop::collection::vec(step(), 1..14),
    ) {
        // First without a death: the number of stores and the state after each step.
        STORES_LEFT.with(|left| left.set(u64::MAX));
        let lines = Slab::heap(lines(CAPACITY));
        let mut journal = Journal::open(lines.clone()).unwrap();
        let mut oracle = Oracle::default();
        let mut history = vec![(0, oracle.clone())];
        for step in &steps {
            oracle.apply(step, &mut journal, &lines);
            prop_assert_eq!(journal.read_all(), Ok(oracle.committed.clone()));
            history.push((stores_made(), oracle.clone()));
        }

        for death in 0..=stores_made() {
            let lines = Slab::heap(self::lines(CAPACITY));
            let mut journal = Journal::open(lines.clone()).unwrap();
            let mut oracle = Oracle::default();
            STORES_LEFT.with(|left| left.set(death));
            for (step, (stores, _)) in steps.iter().zip(&history[1..]) {
                oracle.apply(step, &mut journal, &lines);
                if *stores > death {
                    break;
                }
            }
            STORES_LEFT.with(|left| left.set(u64::MAX));
            let last = history.iter().rev().find(|(stores, _)| *stores <= death).unwrap();
            let mut journal = Journal::open(lines).unwrap();
            prop_assert_eq!(journal.read_all(), Ok(last.1.committed.clone()), "death at {}", death);

            let mut expected = last.1.committed.clone();
            if journal.append(&[numbered(999)]).is_ok() {
                journal.commit().unwrap();
                expected.push(numbered(999));
            }
            prop_assert_eq!(journal.read_all(), Ok(expected));
        }
    }
}

#[test]
fn a_full_bank_is_rewritten() {
    let mut journal = Journal::open(Slab::heap(lines(2))).unwrap();
    journal.append(&[numbered(1), numbered(2)]).unwrap();
    journal.commit().unwrap();
    assert_eq!(
        journal.append(&[numbered(3)]),
        Err(JournalError::Full { capacity: 2 })
    );
    let mut rewrite = journal.rewrite().unwrap();
    rewrite.append(&[numbered(4)]).unwrap();
    rewrite.finish();
    assert_eq!(journal.room(), 1);
    journal.append(&[numbered(3)]).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.read_all(), Ok(vec![numbered(4), numbered(3)]));
    let mut rewrite = journal.rewrite().unwrap();
    let three = [numbered(5), numbered(6), numbered(7)];
    assert_eq!(
        rewrite.append(&three),
        Err(JournalError::Full { capacity: 2 })
    );
    drop(rewrite);
    assert_eq!(journal.read_all(), Ok(vec![numbered(4), numbered(3)]));
}

#[test]
fn an_impossible_length_is_an_error_that_a_rewrite_repairs() {
    let lines = Slab::<Line>::heap(lines(4));
    lines[1].0[0].store(5, Ordering::Relaxed);
    let length = JournalError::Length {
        found: 5,
        capacity: 4,
    };
    let mut journal = Journal::open(lines.clone()).unwrap();
    assert_eq!(journal.read_all(), Err(length));
    assert_eq!(journal.append(&[numbered(1)]), Err(length));
    let mut rewrite = journal.rewrite().unwrap();
    rewrite.append(&[numbered(1)]).unwrap();
    rewrite.finish();
    assert_eq!(
        Journal::open(lines).unwrap().read_all(),
        Ok(vec![numbered(1)])
    );
}

#[test]
fn a_reader_notices_a_switch_under_it() {
    let lines = Slab::heap(lines(4));
    let mut journal = Journal::open(lines.clone()).unwrap();
    journal.append(&[numbered(1), numbered(2)]).unwrap();
    journal.commit().unwrap();
    let reader = Journal::read_only(lines).unwrap();
    let mut replay = reader.replay();
    assert_eq!(replay.next(), Some(Ok(numbered(1))));
    let mut rewrite = journal.rewrite().unwrap();
    rewrite.append(&[numbered(3)]).unwrap();
    rewrite.finish();
    assert_eq!(replay.next(), Some(Err(JournalError::Switched)));
    assert_eq!(replay.next(), None);
    assert_eq!(reader.read_all(), Ok(vec![numbered(3)]));
}

#[test]
fn readers_cannot_write_and_memory_must_fit() {
    let mut reader = Journal::read_only(Slab::heap(lines(4))).unwrap();
    assert_eq!(reader.append(&[]), Err(JournalError::ReadOnly));
    assert_eq!(reader.commit(), Err(JournalError::ReadOnly));
    assert!(matches!(reader.rewrite(), Err(JournalError::ReadOnly)));
    for bad in [0, 1, 3, 6, lines(4) + 1] {
        assert_eq!(
            Journal::open(Slab::heap(bad)).map(|_| ()),
            Err(JournalError::Size { lines: bad })
        );
    }
}
