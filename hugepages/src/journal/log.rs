//! The journal's mechanism, for entries of any number of words.
//!
//! # Orderings
//!
//! 1. The writer's Release store of a length meets the reader's Acquire load of it: the entries
//!    before it are there.
//! 2. The writer's Release store of the switches meets the reader's Acquire load of them: the new
//!    bank and its length are there.
//! 3. The writer's Release fence at the begin of a rewrite meets the reader's Acquire fence after
//!    each entry: a reader that sees any word of the rewrite also sees the switch that came before
//!    it, and gives up.

use super::JournalError;
use crate::slab::{Line, Slab};
use crate::sync::{AtomicU64, Ordering, fence};

/// Lines of an entry.
const ENTRY: usize = 2;

/// Lines of a journal with so many records a bank.
#[must_use]
pub const fn lines(records: usize) -> usize {
    1 + 2 * bank_lines(records)
}

const fn bank_lines(records: usize) -> usize {
    1 + ENTRY * records
}

/// Two banks of entries of `N` words.
#[derive(Debug)]
pub(super) struct Log<const N: usize> {
    lines: Slab<Line>,
    capacity: u64,
    /// For the writer: our own copy of the switches.
    switches: u64,
    /// For the writer: our own copy of the active bank's length, as found if it is impossible.
    committed: u64,
    /// For the writer: where the next entry goes.
    end: u64,
}

impl<const N: usize> Log<N> {
    pub(super) fn open(lines: Slab<Line>) -> Result<Self, JournalError> {
        const { assert!(N <= ENTRY * 8) };
        let size = lines.len();
        let capacity = size.saturating_sub(3) / (2 * ENTRY);
        if size != self::lines(capacity) || capacity == 0 {
            return Err(JournalError::Size { lines: size });
        }
        let mut log = Self {
            lines,
            capacity: capacity as u64,
            switches: 0,
            committed: 0,
            end: 0,
        };
        // Relaxed: for the writer these are its predecessor's stores, long done; a reader does
        // not use them.
        log.switches = log.switches_word().load(Ordering::Relaxed);
        log.committed = log.length_word(log.switches).load(Ordering::Relaxed);
        log.end = log.committed;
        Ok(log)
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.end)
    }

    pub(super) fn append(
        &mut self,
        entries: impl ExactSizeIterator<Item = [u64; N]>,
    ) -> Result<(), JournalError> {
        if self.committed > self.capacity {
            return Err(self.impossible(self.committed));
        }
        self.end = self.write(self.switches, self.end, entries)?;
        Ok(())
    }

    pub(super) fn commit(&mut self) {
        if self.end != self.committed {
            self.committed = self.end;
            // Release: ordering 1.
            store(self.length_word(self.switches), self.end, Ordering::Release);
        }
    }

    pub(super) fn abort(&mut self) {
        self.end = self.committed;
    }

    pub(super) fn begin_rewrite(&mut self) {
        self.abort();
        // Ordering 3: the switch to the active bank comes before every word of the rewrite.
        fence(Ordering::Release);
    }

    /// Writes entries of a rewrite from `start`; gives the place after them.
    pub(super) fn rewrite(
        &mut self,
        start: u64,
        entries: impl ExactSizeIterator<Item = [u64; N]>,
    ) -> Result<u64, JournalError> {
        self.write(self.switches.wrapping_add(1), start, entries)
    }

    pub(super) fn finish_rewrite(&mut self, length: u64) {
        self.switches = self.switches.wrapping_add(1);
        self.committed = length;
        self.end = length;
        // Relaxed: the next store carries it.
        store(self.length_word(self.switches), length, Ordering::Relaxed);
        // Release: ordering 2.
        store(self.switches_word(), self.switches, Ordering::Release);
    }

    pub(super) fn replay(&self) -> Replay<'_, N> {
        // Acquire: ordering 2.
        let switches = self.switches_word().load(Ordering::Acquire);
        // Acquire: ordering 1.
        let length = self.length_word(switches).load(Ordering::Acquire);
        Replay {
            log: self,
            switches,
            next: 0,
            length,
            failed: false,
        }
    }

    fn write(
        &self,
        switches: u64,
        start: u64,
        entries: impl ExactSizeIterator<Item = [u64; N]>,
    ) -> Result<u64, JournalError> {
        let end = start.saturating_add(entries.len() as u64);
        if end > self.capacity {
            return Err(JournalError::Full {
                capacity: self.capacity,
            });
        }
        for (index, entry) in (start..).zip(entries) {
            for (place, word) in self.words(switches, index).zip(entry) {
                store(place, word, Ordering::Relaxed);
            }
        }
        Ok(end)
    }

    fn impossible(&self, found: u64) -> JournalError {
        JournalError::Length {
            found,
            capacity: self.capacity,
        }
    }

    fn switches_word(&self) -> &AtomicU64 {
        &self.lines[0].0[0]
    }

    fn length_word(&self, switches: u64) -> &AtomicU64 {
        &self.lines[self.bank(switches)].0[0]
    }

    fn words(&self, switches: u64, index: u64) -> impl Iterator<Item = &AtomicU64> {
        let first = self.bank(switches) + 1 + ENTRY * index as usize;
        self.lines[first..first + ENTRY]
            .iter()
            .flat_map(|line| &line.0)
            .take(N)
    }

    /// First line of the bank that is active after so many switches.
    fn bank(&self, switches: u64) -> usize {
        1 + (switches % 2) as usize * bank_lines(self.capacity as usize)
    }
}

/// Entries up to the last commit.
#[derive(Debug)]
pub(super) struct Replay<'a, const N: usize> {
    log: &'a Log<N>,
    switches: u64,
    next: u64,
    length: u64,
    failed: bool,
}

impl<const N: usize> Replay<'_, N> {
    fn is_disturbed(&self) -> bool {
        // Acquire: ordering 3.
        fence(Ordering::Acquire);
        self.log.switches_word().load(Ordering::Relaxed) != self.switches
    }

    fn entry(&self) -> Result<[u64; N], JournalError> {
        if self.length > self.log.capacity {
            // A length that a rewrite has just put there is no fault.
            return Err(if self.is_disturbed() {
                JournalError::Switched
            } else {
                self.log.impossible(self.length)
            });
        }
        let mut entry = [0; N];
        for (word, place) in entry
            .iter_mut()
            .zip(self.log.words(self.switches, self.next))
        {
            *word = place.load(Ordering::Relaxed);
        }
        if self.is_disturbed() {
            return Err(JournalError::Switched);
        }
        Ok(entry)
    }
}

impl<const N: usize> Iterator for Replay<'_, N> {
    type Item = Result<[u64; N], JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.next == self.length {
            return None;
        }
        let entry = self.entry();
        self.failed = entry.is_err();
        self.next += 1;
        Some(entry)
    }
}

/// Every store of the writer goes through here, so that a test can let it die between any two.
fn store(word: &AtomicU64, value: u64, ordering: Ordering) {
    #[cfg(all(test, not(loom)))]
    if !super::tests::alive() {
        return;
    }
    word.store(value, ordering);
}

#[cfg(test)]
#[cfg(loom)]
#[path = "log_loom.rs"]
mod loom_tests;
