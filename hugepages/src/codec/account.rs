//! How objects come into a digest: by a hash of their records. Sets and ranges are named by their content, which
//! the decoder checks: of them the name is enough, and a set of 100,000 costs no more than one of two.

use xxhash_rust::xxh3::Xxh3;
use zerocopy::IntoBytes;

use super::encode::for_each_record;
use crate::digest::Digest;
use crate::object::{Key, Kind, Object};
use crate::record::RecordKind;

impl Digest {
    /// Accounts for an object that comes into the state. Replacing one is [`Digest::remove`] of
    /// the old and `add` of the new.
    pub fn add(&mut self, object: &Object) {
        self.0 = self.0.wrapping_add(hash(object));
    }

    /// Accounts for an object that leaves the state; it must be equal to the one added.
    pub fn remove(&mut self, object: &Object) {
        self.0 = self.0.wrapping_sub(hash(object));
    }
}

impl<'a> FromIterator<&'a Object> for Digest {
    fn from_iter<I: IntoIterator<Item = &'a Object>>(objects: I) -> Self {
        let mut digest = Self::default();
        for object in objects {
            digest.add(object);
        }
        digest
    }
}

fn hash(object: &Object) -> u128 {
    let mut hash = Xxh3::new();
    let named = |kind: Kind, key: Key, hash: &mut Xxh3| {
        hash.update(&RecordKind::Put(kind).number().to_ne_bytes());
        hash.update(&key.to_ne_bytes());
    };
    match object {
        Object::BackendSet(set) => named(Kind::BackendSet, set.key, &mut hash),
        Object::Ranges(ranges) => named(Kind::Ranges, ranges.key, &mut hash),
        _ => for_each_record(object, |record| hash.update(record.as_bytes())),
    }
    hash.digest128()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_does_not_matter_and_removing_undoes_adding(
            mut objects in prop::collection::vec(arbitrary::object(), 1..20),
            turn in 0usize..20,
        ) {
            let digest: Digest = objects.iter().collect();
            let middle = turn % objects.len();
            objects.rotate_left(middle);
            prop_assert_eq!(objects.iter().collect::<Digest>(), digest);

            let mut less = digest;
            less.remove(&objects[0]);
            prop_assert_ne!(less, digest);
            prop_assert_eq!(objects[1..].iter().collect::<Digest>(), less);
            prop_assert_eq!(Digest::from_words(digest.to_words()), digest);
        }
    }

    #[test]
    fn the_empty_state_has_the_default_digest() {
        assert_eq!([].into_iter().collect::<Digest>(), Digest::default());
        assert_eq!(Digest::default().to_string(), "0".repeat(32));
    }
}
