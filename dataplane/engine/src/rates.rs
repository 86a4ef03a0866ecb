//! How many new flows a second a service may get, and a source may open: token buckets, shared by all workers.
//!
//! A bucket is one 64-bit word, so that taking a token is one exchange, tried a fixed number of times: no
//! worker waits for another. It fills by its rate each second and holds two seconds' worth. A bucket of zeros is
//! full.
//!
//! | bits | content |
//! |---|---|
//! | 0–23 | tokens taken |
//! | 32–55 | second last filled, modulo 2²⁴ |
//! | 24–31, 56–63 | which source's it is; 0 in a service's |
//!
//! Sources share a table of fixed size, eight buckets to a cache line; a source belongs to one line. Without a
//! bucket in its line it gets that of the source which has taken least and for the longest time nothing. So a
//! source that takes much keeps its bucket; one that is pushed out begins with a full one. IPv6 sources are
//! /64 networks (what one host is given, RFC 6177 section 2).

use std::net::IpAddr;

use hugepages::sync::{AtomicU64, Ordering};
use hugepages::{Line, Slab};

use crate::family::{Family, SPREAD};
use crate::limits::Limits;
use crate::reason::Reason;

/// Lines of sources: 131,072 buckets, 1 MiB.
const SOURCE_LINES: usize = 1 << 14;

/// Lines of services: as many buckets as a region has slots at most.
const SERVICE_LINES: usize = (1 << 16) / 8;

/// Highest rate that can be set: two seconds' worth fit the 24 bits of a bucket.
pub const MAX_RATE: u32 = (1 << 23) - 1;

/// Exchanges that fail before a flow is let through: each failure means that another worker took one.
const TRIES: usize = 8;

/// Seconds' worth that a bucket holds.
const DEPTH: u32 = 2;

const _: () = assert!(MAX_RATE * DEPTH < 1 << 24);

const TAKEN: u64 = (1 << 24) - 1;
const SECOND: u64 = 0xff_ffff << 32;
const TAG: u64 = !(TAKEN | SECOND);

/// The buckets. Without limits there are none.
#[derive(Debug)]
pub struct Rates {
    per_source: u32,
    per_service: u32,
    sources: Slab<Line>,
    services: Slab<Line>,
    seed: u64,
}

impl Rates {
    /// Buckets for these limits. `seed` decides which sources share a line, so that nobody outside can aim at one.
    #[must_use]
    pub fn new(limits: &Limits, seed: u64) -> Self {
        let lines = |rate: u32, lines: usize| Slab::heap(if rate == 0 { 0 } else { lines });
        Self {
            per_source: limits.new_flows_per_source.min(MAX_RATE),
            per_service: limits.new_flows_per_service.min(MAX_RATE),
            sources: lines(limits.new_flows_per_source, SOURCE_LINES),
            services: lines(limits.new_flows_per_service, SERVICE_LINES),
            seed,
        }
    }

    /// Takes a token of the source's and one of the service's for a new flow.
    ///
    /// # Errors
    ///
    /// The reason to drop the flow's first frame: the source or the service has none left.
    #[inline(always)]
    pub(crate) fn admit<F: Family>(
        &self,
        slot: u32,
        source: F::Address,
        second: u32,
    ) -> Result<(), Reason> {
        if self.per_source == 0 && self.per_service == 0 {
            return Ok(());
        }
        self.take(slot, F::address(source), second)
    }

    #[cold]
    #[inline(never)]
    fn take(&self, slot: u32, source: IpAddr, second: u32) -> Result<(), Reason> {
        if !self.take_of_source(source, second) {
            return Err(Reason::SourceLimit);
        }
        let words = self.services.get(slot as usize / 8);
        let has = words
            .is_none_or(|line| take_from(&line.0[slot as usize % 8], 0, second, self.per_service));
        if has {
            Ok(())
        } else {
            Err(Reason::ServiceLimit)
        }
    }

    fn take_of_source(&self, source: IpAddr, second: u32) -> bool {
        if self.sources.is_empty() {
            return true;
        }
        let bits = match source {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ SPREAD,
        };
        let product =
            u128::from(bits ^ self.seed) * u128::from(SPREAD ^ self.seed.rotate_left(32) | 1);
        let hash = (product as u64) ^ ((product >> 64) as u64);
        let line = &self.sources[(hash >> 32) as usize % SOURCE_LINES].0;
        // Never all zeros: such a bucket is nobody's.
        let tag = (hash & 0xff | 1) << 24 | (hash >> 8 & 0xff) << 56;
        let tag = tag & TAG;
        let bucket = line
            .iter()
            .find(|word| word.load(Ordering::Relaxed) & TAG == tag)
            .or_else(|| {
                line.iter().min_by_key(|word| {
                    filled(word.load(Ordering::Relaxed), second, self.per_source).0
                })
            });
        bucket.is_none_or(|word| take_from(word, tag, second, self.per_source))
    }
}

/// Tokens taken from a bucket as of this second, and the second that it is filled up to then.
const fn filled(word: u64, second: u32, rate: u32) -> (u32, u64) {
    let taken = (word & TAKEN) as u32;
    let before = (word & SECOND) >> 32;
    // Modulo 2²⁴, which is half a year. A worker whose clock is read later than another's must not fill the
    // bucket: what lies ahead is now.
    let since = (second as u64).wrapping_sub(before) & 0xff_ffff;
    if since >= 1 << 23 {
        return (taken, before);
    }
    let now = second as u64 & 0xff_ffff;
    if since >= DEPTH as u64 {
        (0, now)
    } else {
        (taken.saturating_sub(since as u32 * rate), now)
    }
}

/// Takes a token, if there is one. A bucket with another tag becomes this tag's, and full.
fn take_from(word: &AtomicU64, tag: u64, second: u32, rate: u32) -> bool {
    // Relaxed throughout: the word stands alone; nothing else is concluded from it.
    let mut seen = word.load(Ordering::Relaxed);
    for _ in 0..TRIES {
        let own = if seen & TAG == tag { seen } else { 0 };
        let (taken, now) = filled(own, second, rate);
        if taken >= rate * DEPTH {
            return false;
        }
        let next = tag | now << 32 | u64::from(taken + 1);
        match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(other) => seen = other,
        }
    }
    true
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn rates(per_source: u32, per_service: u32) -> Rates {
        let limits = Limits {
            new_flows_per_source: per_source,
            new_flows_per_service: per_service,
            ..Limits::default()
        };
        Rates::new(&limits, 0x1234_5678_9abc_def1)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("tests name addresses")
    }

    /// Flows admitted of so many.
    fn admitted(rates: &Rates, slot: u32, source: &str, second: u32, count: usize) -> usize {
        (0..count)
            .filter(|_| rates.take(slot, address(source), second).is_ok())
            .count()
    }

    #[test]
    fn without_limits_everything_is_admitted() {
        assert_eq!(
            admitted(&rates(0, 0), 3, "203.0.113.7", 1, 100_000),
            100_000
        );
    }

    #[test]
    fn a_source_gets_its_rate_and_a_second_more_after_a_pause() {
        let rates = rates(100, 0);
        let source = "203.0.113.7";
        assert_eq!(admitted(&rates, 1, source, 50, 1000), 200);
        assert_eq!(rates.take(1, address(source), 50), Err(Reason::SourceLimit));
        assert_eq!(
            admitted(&rates, 2, source, 51, 1000),
            100,
            "whatever the service"
        );
        assert_eq!(
            admitted(&rates, 1, source, 50, 1000),
            0,
            "another worker's clock is behind"
        );
        assert_eq!(
            admitted(&rates, 1, "203.0.113.8", 51, 1000),
            200,
            "another source"
        );
        assert_eq!(admitted(&rates, 1, source, 90, 1000), 200);
    }

    #[test]
    fn ipv6_sources_are_networks_of_64_bits() {
        let rates = rates(100, 0);
        assert_eq!(admitted(&rates, 1, "2001:db8::1", 50, 1000), 200);
        assert_eq!(admitted(&rates, 1, "2001:db8::ffff:2", 50, 1000), 0);
        assert_eq!(admitted(&rates, 1, "2001:db8:0:1::1", 50, 1000), 200);
    }

    #[test]
    fn a_service_gets_its_rate_whoever_asks() {
        let rates = rates(0, 1000);
        let count = |slot| {
            (0..10_000u32)
                .filter(|at| rates.take(slot, IpAddr::from(at.to_be_bytes()), 7).is_ok())
                .count()
        };
        assert_eq!((count(5), count(6)), (2000, 2000));
        assert_eq!(
            rates.take(5, address("192.0.2.1"), 7),
            Err(Reason::ServiceLimit)
        );
    }

    #[test]
    fn a_flood_of_sources_does_not_free_the_one_that_takes_much() {
        let rates = rates(100, 0);
        assert_eq!(admitted(&rates, 1, "203.0.113.7", 50, 1000), 200);
        for other in 0..1_000_000u32 {
            let source = IpAddr::from((0x0a00_0000 + other).to_be_bytes());
            assert!(
                rates.take(1, source, 50).is_ok(),
                "one flow of a new source"
            );
        }
        assert_eq!(admitted(&rates, 1, "203.0.113.7", 50, 1000), 0);
        assert_eq!(admitted(&rates, 1, "203.0.113.7", 51, 1000), 100);
    }

    #[test]
    fn workers_at_once_take_no_more_than_there_is() {
        let rates = rates(0, 10_000);
        let total: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| admitted(&rates, 9, "192.0.2.1", 3, 10_000)))
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        // Besides what eight failed exchanges in a row let through, which is rare.
        assert!((20_000..22_000).contains(&total), "{total}");
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_bits() {
        let rates = rates(0, u32::MAX);
        assert_eq!(rates.per_service, MAX_RATE);
    }
}
