//! The installed state in the region, safe against a kill at any point.
//!
//! The data plane writes here what it installs, in the form in which it came: records of Put,
//! Delete and Commit. A data plane that starts again replays them and goes on without a word from
//! the control plane; the operator's command replays them to show what is installed.
//!
//! # Byte layout
//!
//! | line | word | meaning |
//! |-----:|-----:|---------|
//! | 0 | 0 | switches: number of times that the other bank became the active one; bank = switches mod 2 |
//! | 1 | 0 | length of bank 0 in records, up to the last commit |
//! | 2 + 2 r, 3 + 2 r | all | record r of bank 0 |
//! | 2 + 2 n | 0 | length of bank 1, n records a bank |
//! | 3 + 2 n + 2 r, 4 + 2 n + 2 r | all | record r of bank 1 |
//!
//! The data plane alone writes. Records are appended behind the length, where nobody looks, and
//! one store of the length commits them all. When the active bank is full, the whole state is
//! written to the other one, and one store of the switches commits that. So at every store the
//! journal is the last committed state, whole.
//!
//! # Reading while it is written
//!
//! The active bank only grows. A reader is disturbed only if a rewrite turns to the bank that it
//! reads, which takes a switch away from that bank first; so the reader looks at the switches after
//! each record and gives up when they moved ([`JournalError::Switched`]). The orderings are named
//! in `log.rs`.

mod log;

use self::log::Log;
use crate::record::{Record, WORDS};
use crate::slab::{Line, Slab};

pub use self::log::lines;

/// Why the journal cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The memory does not hold two banks.
    #[error("{lines} cache lines do not make a journal")]
    Size {
        /// Lines of the memory.
        lines: usize,
    },
    /// The length in the region is impossible; [`Journal::rewrite`] repairs it.
    #[error("the journal claims {found} records in a bank of {capacity}")]
    Length {
        /// Length found.
        found: u64,
        /// Records that a bank holds.
        capacity: u64,
    },
    /// The bank has no room for these records: rewrite the whole state.
    #[error("the journal's bank of {capacity} records is full")]
    Full {
        /// Records that a bank holds.
        capacity: u64,
    },
    /// The bank was rewritten during the reading: start again.
    #[error("the journal was rewritten while it was read")]
    Switched,
    /// Only the data plane writes the journal.
    #[error("the journal is open for reading only")]
    ReadOnly,
}

/// Times that [`Journal::read_all`] starts again before it gives up.
const TRIES: usize = 100;

/// The journal of a region.
#[derive(Debug)]
pub struct Journal {
    log: Log<WORDS>,
    writable: bool,
}

impl Journal {
    /// The journal in this memory, for its one writer: goes on behind the last commit.
    ///
    /// # Errors
    ///
    /// [`JournalError::Size`].
    pub fn open(lines: Slab<Line>) -> Result<Self, JournalError> {
        let log = Log::open(lines)?;
        let writable = true;
        Ok(Self { log, writable })
    }

    /// The journal in this memory, for a reader.
    ///
    /// # Errors
    ///
    /// [`JournalError::Size`].
    pub fn read_only(lines: Slab<Line>) -> Result<Self, JournalError> {
        let log = Log::open(lines)?;
        let writable = false;
        Ok(Self { log, writable })
    }

    /// Appends all the records or none; nobody sees them before [`Journal::commit`].
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`], [`JournalError::Length`], [`JournalError::ReadOnly`].
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.must_be_writable()?;
        self.log
            .append(records.iter().map(|record| record.to_words()))
    }

    /// Makes everything appended part of the journal.
    ///
    /// # Errors
    ///
    /// [`JournalError::ReadOnly`].
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.must_be_writable()?;
        self.log.commit();
        Ok(())
    }

    /// Forgets what was appended and not committed.
    pub fn abort(&mut self) {
        self.log.abort();
    }

    /// Begins to write the whole state anew, into the bank that is not in use. What was appended
    /// and not committed is forgotten.
    ///
    /// # Errors
    ///
    /// [`JournalError::ReadOnly`].
    pub fn rewrite(&mut self) -> Result<Rewrite<'_>, JournalError> {
        self.must_be_writable()?;
        self.log.begin_rewrite();
        let log = &mut self.log;
        Ok(Rewrite { log, written: 0 })
    }

    /// The records up to the last commit, in order. The first error is the last item.
    pub fn replay(&self) -> impl Iterator<Item = Result<Record, JournalError>> + '_ {
        self.log.replay().map(|entry| entry.map(Record::from_words))
    }

    /// The records up to the last commit, read again when a rewrite came between.
    ///
    /// # Errors
    ///
    /// [`JournalError::Length`]; [`JournalError::Switched`] when the writer rewrites faster than
    /// this can read.
    pub fn read_all(&self) -> Result<Vec<Record>, JournalError> {
        for _ in 1..TRIES {
            match self.replay().collect() {
                Err(JournalError::Switched) => {}
                other => return other,
            }
        }
        self.replay().collect()
    }

    /// Records that a bank holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.log.capacity() as usize
    }

    /// Records that still fit behind those appended; for the writer.
    #[must_use]
    pub fn room(&self) -> usize {
        self.log.room() as usize
    }

    fn must_be_writable(&self) -> Result<(), JournalError> {
        if self.writable {
            Ok(())
        } else {
            Err(JournalError::ReadOnly)
        }
    }
}

/// The whole state on its way into the other bank. Dropped before [`Rewrite::finish`], it changes
/// nothing.
#[derive(Debug)]
#[must_use = "nothing is changed before `finish`"]
pub struct Rewrite<'a> {
    log: &'a mut Log<WORDS>,
    written: u64,
}

impl Rewrite<'_> {
    /// Writes the next records of the state, all or none.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`]: the state is larger than a bank.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let entries = records.iter().map(|record| record.to_words());
        self.written = self.log.rewrite(self.written, entries)?;
        Ok(())
    }

    /// Makes what was written the journal, by one store.
    pub fn finish(self) {
        self.log.finish_rewrite(self.written);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "journal_tests.rs"]
mod tests;
