//! A few words that change together: one writer, any number of readers who never wait for long.
//!
//! The first word is a sequence number: odd while the writer is inside. A reader that sees an odd
//! number, or two different ones before and after, has seen nothing and tries again. A writer that
//! was killed inside leaves an odd number; readers then give up after some tries, until a new
//! writer has written.

use crate::sync::{AtomicU64, Ordering, fence, spin};

/// Tries of a reader before it gives up. A writer is inside for some ten stores; under loom, which
/// tries every order, two are enough.
const TRIES: usize = if cfg!(loom) { 2 } else { 10_000 };

/// Replaces the words after the first with `values`.
pub(crate) fn write<'a>(
    words: impl IntoIterator<Item = &'a AtomicU64>,
    values: impl IntoIterator<Item = u64>,
) {
    let mut words = words.into_iter();
    let Some(sequence) = words.next() else { return };
    // Relaxed: only writers store it, and there is one. A killed writer left it odd.
    let before = sequence.load(Ordering::Relaxed);
    let inside = before | 1;
    sequence.store(inside, Ordering::Relaxed);
    // Release, meets the Acquire fence in `read`: a reader of any value below sees `inside` too.
    fence(Ordering::Release);
    for (word, value) in words.zip(values) {
        word.store(value, Ordering::Relaxed);
    }
    // Release, meets the Acquire load in `read`: a reader that sees it sees every value above.
    sequence.store(inside.wrapping_add(1), Ordering::Release);
}

/// The words after the first, all from one call of `write`; `None` when a writer seems to have
/// died inside.
pub(crate) fn read<'a, const N: usize>(
    words: impl IntoIterator<Item = &'a AtomicU64, IntoIter: Clone>,
) -> Option<[u64; N]> {
    let mut words = words.into_iter();
    let sequence = words.next()?;
    for _ in 0..TRIES {
        // Acquire, meets the last store of `write`.
        let before = sequence.load(Ordering::Acquire);
        if before & 1 == 0 {
            let mut values = [0; N];
            for (value, word) in values.iter_mut().zip(words.clone()) {
                *value = word.load(Ordering::Relaxed);
            }
            // Acquire, meets the Release fence of `write`.
            fence(Ordering::Acquire);
            if sequence.load(Ordering::Relaxed) == before {
                return Some(values);
            }
        }
        spin();
    }
    None
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_dead_writer_is_noticed() {
        let words: [AtomicU64; 4] = Default::default();
        assert_eq!(read::<3>(&words), Some([0; 3]));
        write(&words, [1, 2, 3]);
        assert_eq!(read::<3>(&words), Some([1, 2, 3]));
        words[0].fetch_or(1, Ordering::Relaxed);
        assert_eq!(read::<3>(&words), None);
        write(&words, [4, 5, 6]);
        assert_eq!(read::<3>(&words), Some([4, 5, 6]));
    }
}

/// Run: see `ring_loom.rs`. It fails when the first load or the last store is weakened to Relaxed, or
/// either fence is left out.
#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn loom_readers_see_all_words_of_one_write() {
        loom::model(|| {
            let words: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
            let writer = {
                let words = Arc::clone(&words);
                loom::thread::spawn(move || {
                    write(&words[..], [1, 1]);
                    write(&words[..], [2, 2]);
                })
            };
            if let Some([left, right]) = read::<2>(&words[..]) {
                assert_eq!(left, right);
            }
            writer.join().unwrap();
            assert_eq!(read::<2>(&words[..]), Some([2, 2]));
        });
    }
}
