//! Translations as both table floors keep them: key, addresses, ports and deltas, MAC address, a line or two each.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use engine::family::Family;
use hugepages::{Line, Slab};

use super::nat::rewrite;

/// Entries of a table, in zeroed memory at first.
#[derive(Debug)]
pub(super) struct Entries<F> {
    lines: Slab<Line>,
    family: PhantomData<F>,
}

impl<F: Family> Entries<F> {
    pub(super) fn new(lines: Slab<Line>) -> Self {
        Self {
            lines,
            family: PhantomData,
        }
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.lines.len() / F::LINES
    }

    /// Makes frames of `from` such of `to`.
    pub(super) fn fill(&self, index: u32, from: &F::Key, to: &F::Key, mac: u64) {
        let (addresses, ports) = F::store(&F::translate(from, to));
        let words = from.as_ref().iter().chain(addresses.as_ref());
        for (at, word) in words.chain([&ports, &mac]).enumerate() {
            self.lines[index as usize * F::LINES + at / 8].0[at % 8]
                .store(*word, Ordering::Relaxed);
        }
    }

    /// Asks for an entry's lines.
    #[inline(always)]
    pub(super) fn ask_for(&self, index: u32) {
        for line in 0..F::LINES {
            intrinsics::prefetch(&self.lines[index as usize * F::LINES + line]);
        }
    }

    #[inline(always)]
    pub(super) fn holds(&self, index: u32, key: &F::Key) -> bool {
        let words = key.as_ref().iter().enumerate();
        words.fold(0, |different, (at, word)| {
            different | (self.read(index, at) ^ word)
        }) == 0
    }

    pub(super) fn is_free(&self, index: u32) -> bool {
        self.read(index, 0) == 0
    }

    /// Rewrites a frame by an entry.
    #[inline(always)]
    pub(super) fn rewrite(&self, index: u32, bytes: &mut [u8]) {
        let mut addresses = F::Addresses::default();
        for (at, word) in addresses.as_mut().iter_mut().enumerate() {
            *word = self.read(index, F::KEY_WORDS + at);
        }
        let rest = F::KEY_WORDS + F::ADDRESS_WORDS;
        let translation = F::load(addresses, self.read(index, rest));
        rewrite::<F>(bytes, &translation, self.read(index, rest + 1));
    }

    #[inline(always)]
    fn read(&self, index: u32, word: usize) -> u64 {
        self.lines[index as usize * F::LINES + word / 8].0[word % 8].load(Ordering::Relaxed)
    }
}
