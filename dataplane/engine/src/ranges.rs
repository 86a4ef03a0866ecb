//! What addresses mean, by ranges: one binary search over sorted boundaries, for routes and networks.
//!
//! Prefixes nest and overlap; the boundaries between them do not. So what an address means is worked out
//! once, when the prefixes change, and a lookup costs some 30 instructions whatever their lengths (a
//! hash map for each length cost 130).

use std::net::IpAddr;

use hugepages::object::Prefix;

/// An address as a number.
pub trait Address: Copy + Ord + Default + std::fmt::Debug {
    /// The highest one.
    const MAX: Self;

    /// The one after this; `None` after the last.
    fn next(self) -> Option<Self>;

    /// Whether it has its first `length` bits in common with `other`.
    fn shares(self, other: Self, length: u8) -> bool;

    /// First and last address of a prefix; `None` for one of the other family.
    fn span(prefix: &Prefix) -> Option<(Self, Self)>;
}

impl Address for u32 {
    const MAX: Self = Self::MAX;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    #[inline]
    fn shares(self, other: Self, length: u8) -> bool {
        (self ^ other) & !hosts4(length) == 0
    }

    fn span(prefix: &Prefix) -> Option<(Self, Self)> {
        let IpAddr::V4(address) = prefix.address else {
            return None;
        };
        let hosts = hosts4(prefix.length);
        Some((address.to_bits() & !hosts, address.to_bits() | hosts))
    }
}

impl Address for u128 {
    const MAX: Self = Self::MAX;

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    #[inline]
    fn shares(self, other: Self, length: u8) -> bool {
        (self ^ other) & !hosts6(length) == 0
    }

    fn span(prefix: &Prefix) -> Option<(Self, Self)> {
        let IpAddr::V6(address) = prefix.address else {
            return None;
        };
        let hosts = hosts6(prefix.length);
        Some((address.to_bits() & !hosts, address.to_bits() | hosts))
    }
}

/// The bits that tell hosts of a network with prefixes of this length apart.
#[inline]
fn hosts4(length: u8) -> u32 {
    u32::MAX.checked_shr(length.into()).unwrap_or(0)
}

/// The same for IPv6.
#[inline]
fn hosts6(length: u8) -> u128 {
    u128::MAX.checked_shr(length.into()).unwrap_or(0)
}

/// A value for every address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges<A, V> {
    /// Where each range begins; the first one at the lowest address.
    starts: Vec<A>,
    values: Vec<V>,
}

impl<A: Address, V: Copy + Eq + Default> Default for Ranges<A, V> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<A: Address, V: Copy + Eq + Default> Ranges<A, V> {
    /// Each address has the value of the longest prefix that holds it, or the default. Of two equal
    /// prefixes the later counts.
    pub(crate) fn nested<'a>(prefixes: impl IntoIterator<Item = (&'a Prefix, V)>) -> Self {
        let spans = prefixes
            .into_iter()
            .filter_map(|(prefix, value)| Some((A::span(prefix)?, value)));
        let mut spans: Vec<((A, A), V)> = spans.collect();
        // Outer ones first; stable, so that equal ones keep their order.
        spans.sort_by(|((first, last), _), ((other, end), _)| first.cmp(other).then(end.cmp(last)));
        let mut ranges = Self::empty();
        let mut open: Vec<(A, V)> = Vec::new();
        for ((first, last), value) in spans {
            ranges.close(&mut open, Some(first));
            ranges.begin(first, value);
            open.push((last, value));
        }
        ranges.close(&mut open, None);
        ranges
    }

    /// The value of an address.
    #[inline]
    pub(crate) fn get(&self, address: A) -> V {
        let (mut base, mut size) = (0, self.starts.len());
        while size > 1 {
            let half = size / 2;
            // Which way it goes cannot be predicted.
            let goes_up = self.starts[base + half] <= address;
            base = std::hint::select_unpredictable(goes_up, base + half, base);
            size -= half;
        }
        self.values[base]
    }

    fn empty() -> Self {
        Self {
            starts: vec![A::default()],
            values: vec![V::default()],
        }
    }

    /// Ends the open spans that end before `until` (all, if `None`): the one around each goes on behind it.
    fn close(&mut self, open: &mut Vec<(A, V)>, until: Option<A>) {
        while let Some((last, _)) = open.last()
            && until.is_none_or(|until| *last < until)
        {
            let behind = last.next();
            open.pop();
            let value = open.last().map_or(V::default(), |(_, value)| *value);
            if let Some(behind) = behind {
                self.begin(behind, value);
            }
        }
    }

    /// From `start` on, which lies at or behind the last boundary, the value is this.
    fn begin(&mut self, start: A, value: V) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) || self.starts.is_empty() {
            self.starts.push(start);
            self.values.push(value);
        }
    }
}

impl<A: Address> Ranges<A, u8> {
    /// Each address has all the bits of the prefixes that hold it.
    pub(crate) fn united<'a>(prefixes: impl IntoIterator<Item = (&'a Prefix, u8)>) -> Self {
        // Where a bit is set once more, and where once less.
        let mut steps: Vec<(A, u8, i32)> = Vec::new();
        for (prefix, bits) in prefixes {
            let Some((first, last)) = A::span(prefix) else {
                continue;
            };
            steps.push((first, bits, 1));
            steps.extend(last.next().map(|behind| (behind, bits, -1)));
        }
        steps.sort_unstable_by_key(|(at, _, _)| *at);
        let mut ranges = Self::empty();
        let mut counts = [0; 8];
        for (at, bits, step) in steps {
            for (bit, count) in counts.iter_mut().enumerate() {
                *count += i32::from(bits >> bit & 1) * step;
            }
            let bits = counts.iter().enumerate();
            let value = bits.fold(0, |value, (bit, count)| value | u8::from(*count > 0) << bit);
            ranges.begin(at, value);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prefixes among few addresses, so that they nest, repeat and touch.
    fn prefixes() -> impl Strategy<Value = Vec<(Prefix, u8)>> {
        let prefix = (any::<u32>(), 0u8..=6, any::<bool>(), 1u8..=255).prop_map(
            |(bits, length, high, value)| {
                let length = if high { length } else { length + 26 };
                let bits = if high {
                    bits
                } else {
                    0xffff_ffc0 | bits & 0x3f
                };
                let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                let address = IpAddr::from(std::net::Ipv4Addr::from(bits & !hosts));
                (Prefix { address, length }, value)
            },
        );
        proptest::collection::vec(prefix, 0..24)
    }

    fn probes(prefixes: &[(Prefix, u8)], others: &[u32]) -> Vec<u32> {
        let ends = prefixes.iter().filter_map(|(prefix, _)| u32::span(prefix));
        ends.flat_map(|(first, last)| [first, last, first.wrapping_sub(1), last.wrapping_add(1)])
            .chain(others.iter().copied())
            .chain([0, u32::MAX])
            .collect()
    }

    proptest! {
        #[test]
        fn the_longest_prefix_wins_and_the_later_of_equal_ones(
            prefixes in prefixes(), others: [u32; 8],
        ) {
            let ranges = Ranges::<u32, u8>::nested(prefixes.iter().map(|(p, v)| (p, *v)));
            for address in probes(&prefixes, &others) {
                let holding = prefixes.iter().filter(|(prefix, _)| {
                    u32::span(prefix).is_some_and(|(first, last)| (first..=last).contains(&address))
                });
                let best = holding.max_by_key(|(prefix, _)| prefix.length);
                prop_assert_eq!(ranges.get(address), best.map_or(0, |(_, value)| *value));
            }
        }

        #[test]
        fn united_prefixes_give_all_their_bits(prefixes in prefixes(), others: [u32; 8]) {
            let ranges = Ranges::<u32, u8>::united(prefixes.iter().map(|(p, v)| (p, *v)));
            for address in probes(&prefixes, &others) {
                let bits = prefixes.iter().filter(|(prefix, _)| {
                    u32::span(prefix).is_some_and(|(first, last)| (first..=last).contains(&address))
                });
                let bits = bits.fold(0, |all, (_, bits)| all | bits);
                prop_assert_eq!(ranges.get(address), bits);
            }
        }
    }

    #[test]
    fn prefixes_of_the_other_family_mean_nothing() {
        let prefix = Prefix {
            address: "2001:db8::".parse().unwrap(),
            length: 32,
        };
        assert_eq!(Ranges::<u32, u8>::nested([(&prefix, 7)]).get(0), 0);
        let ranges = Ranges::<u128, u8>::nested([(&prefix, 7)]);
        assert_eq!(ranges.get(0x2001_0db8 << 96), 7);
        assert_eq!(ranges.get(0x2001_0db9 << 96), 0);
    }
}
