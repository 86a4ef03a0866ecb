//! A digest of a whole state that is cheap to keep up to date.
//!
//! It is the wrapping 128-bit sum of a hash of each object's records (of sets and ranges: of the key, which is a hash of
//! the content), so the order of the objects does not matter, and adding or removing one costs the hash of that one. Both processes keep
//! their own; equal digests mean equal states. It guards against mistakes, not against forgery:
//! whoever can write the region needs no collision.

/// Digest of a set of objects; the default is that of the empty set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub(crate) u128);

impl Digest {
    /// The digest as two words, low one first.
    #[must_use]
    pub const fn to_words(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    /// The digest of these words, low one first.
    #[must_use]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self(words[0] as u128 | (words[1] as u128) << 64)
    }
}

/// 32 hexadecimal digits.
impl std::fmt::Display for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}
