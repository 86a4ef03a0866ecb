//! Which parts of a datagram have been seen.

use arrayvec::ArrayVec;

/// Separate parts that are told apart. In order or in reverse there is one; 64 KiB in fragments of 1,500
/// bytes in the worst of orders make 23.
const MAX_SPANS: usize = 24;

/// Fragments of a datagram, at most: 65,535 bytes at the smallest MTU that IPv4 hosts must take whole
/// (576, RFC 791) are 119.
const MAX_PIECES: u8 = 128;

/// Parts seen, each as first byte and one past the last; sorted, and never touching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    spans: ArrayVec<(u32, u32), MAX_SPANS>,
    /// Length of the datagram, once its last part was seen.
    end: Option<u32>,
    pieces: u8,
}

/// How a fragment fits to those seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It brings what was missing.
    New,
    /// Every byte of it was there: a copy, or it pretends to be one. Without it the datagram is still
    /// what came first.
    Copy,
    /// It contradicts another: both have some bytes, or it goes on where the datagram ended.
    Overlap,
    /// More fragments, or more holes between them, than are kept.
    TooMany,
}

impl Spans {
    /// Takes note of the bytes from `start` to `end`, unless they do not fit.
    pub(crate) fn add(&mut self, start: u32, end: u32, is_last: bool) -> Fit {
        let beyond = match self.end {
            Some(known) => end > known || is_last && end != known,
            None => is_last && self.spans.last().is_some_and(|span| span.1 > end),
        };
        if beyond {
            return Fit::Overlap;
        }
        let at = self.spans.partition_point(|span| span.1 <= start);
        if let Some(&(from, to)) = self.spans.get(at)
            && from < end
        {
            let inside = from <= start && end <= to;
            return if inside { Fit::Copy } else { Fit::Overlap };
        }
        // Every span before `at` ends at `start` or before, every one from it on begins at `end` or later.
        let after = self.spans.get(at).is_some_and(|span| span.0 == end);
        let before = at > 0 && self.spans[at - 1].1 == start;
        if self.pieces >= MAX_PIECES || !after && !before && self.spans.is_full() {
            return Fit::TooMany;
        }
        match (before, after) {
            (true, true) => {
                self.spans[at - 1].1 = self.spans[at].1;
                self.spans.remove(at);
            }
            (true, false) => self.spans[at - 1].1 = end,
            (false, true) => self.spans[at].0 = start,
            (false, false) => self.spans.insert(at, (start, end)),
        }
        self.pieces += 1;
        if is_last {
            self.end = Some(end);
        }
        Fit::New
    }

    /// Whether every byte of the datagram was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.end
            .is_some_and(|end| self.spans.first() == Some(&(0, end)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// An oracle with one flag for each byte.
        #[test]
        fn pieces_fit_where_no_byte_was_seen(
            pieces in proptest::collection::vec((0u32..40, 1u32..6, prop::bool::weighted(0.1)), 1..40),
        ) {
            let mut spans = Spans::default();
            let mut seen = [false; 400];
            let mut known_end = None;
            for (start, len, is_last) in pieces {
                let (start, end) = (start * 8, (start + len) * 8);
                let part = &seen[start as usize..end as usize];
                let highest = seen.iter().rposition(|byte| *byte).map_or(0, |at| at as u32 + 1);
                let contradicts = match known_end {
                    Some(known) => end > known || is_last && end != known,
                    None => is_last && highest > end,
                };
                let expected = if contradicts {
                    Fit::Overlap
                } else if part.iter().all(|byte| *byte) {
                    Fit::Copy
                } else if part.iter().any(|byte| *byte) {
                    Fit::Overlap
                } else {
                    Fit::New
                };
                let fit = spans.add(start, end, is_last);
                prop_assert_eq!(fit, expected, "{} to {}", start, end);
                if fit == Fit::New {
                    seen[start as usize..end as usize].fill(true);
                    known_end = if is_last { Some(end) } else { known_end };
                }
                let all = known_end.is_some_and(|end| seen[..end as usize].iter().all(|byte| *byte));
                prop_assert_eq!(spans.is_complete(), all);
            }
        }
    }

    #[test]
    fn memory_is_bounded_by_holes_and_by_pieces() {
        let mut spans = Spans::default();
        let last = (0..100).find(|at| spans.add(at * 16, at * 16 + 8, false) == Fit::TooMany);
        assert_eq!(last, Some(MAX_SPANS as u32));
        let mut spans = Spans::default();
        let last = (0..200).find(|at| spans.add(at * 8, at * 8 + 8, false) == Fit::TooMany);
        assert_eq!(last, Some(u32::from(MAX_PIECES)));
    }
}
