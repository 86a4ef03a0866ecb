//! A reader beside a writer that commits and rewrites both banks, in every interleaving; entries of
//! two words, for the number of interleavings grows with their power.
//!
//! Run: see `ring_loom.rs`.
//! Each of the six orderings of `log.rs` (two pairs of store and load, one pair of fences), weakened
//! to Relaxed or left out one at a time, makes one of the two models fail.

use loom::thread;

use super::*;

#[test]
fn loom_a_reader_sees_whole_entries_of_one_state() {
    loom::model(|| {
        let slab = Slab::<Line>::heap(lines(2));
        let mut writer = Log::<2>::open(slab.clone()).unwrap();
        writer.append([[1, 1]].into_iter()).unwrap();
        writer.commit();
        let reader = Log::<2>::open(slab).unwrap();
        let writing = thread::spawn(move || {
            for state in [2, 3] {
                writer.begin_rewrite();
                let end = writer.rewrite(0, [[state, state]].into_iter()).unwrap();
                writer.finish_rewrite(end);
            }
        });
        let entries: Result<Vec<_>, _> = reader.replay().collect();
        match entries {
            Ok(entries) => assert!(
                [[1, 1], [2, 2], [3, 3]]
                    .iter()
                    .any(|state| entries == [*state]),
                "{entries:?}"
            ),
            Err(error) => assert_eq!(error, JournalError::Switched),
        }
        writing.join().unwrap();
        assert_eq!(
            reader.replay().collect::<Result<Vec<_>, _>>(),
            Ok(vec![[3, 3]])
        );
    });
}

#[test]
fn loom_a_reader_sees_committed_entries_only() {
    loom::model(|| {
        let slab = Slab::<Line>::heap(lines(2));
        let mut writer = Log::<2>::open(slab.clone()).unwrap();
        let reader = Log::<2>::open(slab).unwrap();
        let writing = thread::spawn(move || {
            for entry in [[1, 1], [2, 2]] {
                writer.append([entry].into_iter()).unwrap();
                writer.commit();
            }
        });
        let entries = reader.replay().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(entries, [[1, 1], [2, 2]][..entries.len()]);
        writing.join().unwrap();
    });
}
