//! Two workers at the fragments of one datagram, in every interleaving.
//!
//! Weakening the count of wakes to Relaxed is not seen: it keeps the processor from looking into the set before it
//! has read the count, and the model never lets a load return what is stored later.

use loom::thread;

use super::*;
use hugepages::sync::Arc;

fn identity() -> Identity<V4> {
    Identity {
        addresses: [0x0a00_0001_0a00_0002],
        id: 7,
        protocol: 17,
    }
}

fn piece(start: u32, end: u32, is_last: bool) -> Piece {
    Piece {
        parsed: Parsed::default(),
        id_at: 18,
        id: 7,
        start,
        end,
        is_last,
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(check);
}

/// A worker that waits is woken: whoever parks either is told the fate, or the count of its wakes moves
/// afterwards and the fate is then known.
///
/// Seen to catch: `decide` that leaves `waiting` out of what it returns, `note` that does not say who waits, a
/// worker woken before the fate is set.
#[test]
fn loom_a_fragment_that_waits_for_its_first_is_woken() {
    model(|| {
        let fragments = Arc::new(Fragments::default());
        let there = fragments.clone();
        let first = thread::spawn(move || {
            let noted = there.v4.note(&identity(), &piece(0, 8, false), 1, 1);
            if !matches!(noted, Noted::Decide) {
                return false; // the lock was not to be had: the fragment is dropped
            }
            let fate = Fate::Echo { id: 9 };
            let waiting = there.v4.decide(&identity(), fate, 1);
            there.wake(waiting, 1);
            true
        });
        let before = fragments.wakes(0);
        let noted = fragments.v4.note(&identity(), &piece(8, 16, true), 1, 0);
        let mut waits = matches!(noted, Noted::Wait);
        let mut known = before;
        if waits {
            // One look while the other may still be at it.
            let wakes = fragments.wakes(0);
            if wakes != known {
                known = wakes;
                waits = fragments.v4.fate(&identity(), 0).is_unknown();
            }
        }
        let decided = first.join().unwrap();
        if waits && decided && !set_is_unknown(&fragments) {
            assert_ne!(fragments.wakes(0), known, "woken");
            assert!(!fragments.v4.fate(&identity(), 0).is_unknown());
        }
    });
}

/// Whether the decision found the lock held and was lost.
fn set_is_unknown(fragments: &Fragments) -> bool {
    let set = fragments.v4.sets[0].lock().unwrap();
    set.iter().all(|datagram| datagram.fate.is_unknown())
}

/// The set's lock is held over finding a datagram and adding to it.
#[test]
fn loom_of_two_copies_of_a_fragment_one_is_new() {
    model(|| {
        let fragments = Arc::new(Fragments::default());
        let there = fragments.clone();
        let copy = thread::spawn(move || there.v4.note(&identity(), &piece(0, 8, true), 1, 1));
        let mine = fragments.v4.note(&identity(), &piece(0, 8, true), 1, 0);
        let theirs = copy.join().unwrap();
        let new = [mine, theirs]
            .iter()
            .filter(|noted| matches!(noted, Noted::Decide))
            .count();
        let raced = [mine, theirs]
            .iter()
            .any(|noted| matches!(noted, Noted::Refused(Reason::FlowRace)));
        assert!(new == 1 || raced && new <= 1, "{mine:?} {theirs:?}");
    });
}
