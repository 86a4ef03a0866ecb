//! Times, counted in buckets that are as wide as an eighth of what they begin with: an error of 6 % at most,
//! from a nanosecond to seconds, in 256 words.
//!
//! Below 8 ns each nanosecond has a bucket; from there on, each doubling has eight.

/// Buckets of a histogram.
pub const BUCKETS: usize = 256;

/// Buckets of a doubling, as a power of two.
const FINE: u32 = 3;

/// The bucket of a time in nanoseconds; the last one takes all that is longer.
#[must_use]
pub const fn bucket(nanos: u64) -> usize {
    if nanos < 1 << FINE {
        return nanos as usize;
    }
    let doubling = nanos.ilog2() - FINE;
    let within = (nanos >> doubling) as usize - (1 << FINE);
    let at = ((doubling as usize + 1) << FINE) + within;
    if at < BUCKETS { at } else { BUCKETS - 1 }
}

/// The shortest time of a bucket, in nanoseconds.
#[must_use]
pub const fn start(bucket: usize) -> u64 {
    if bucket < 1 << FINE {
        return bucket as u64;
    }
    let doubling = (bucket >> FINE) - 1;
    let within = bucket & ((1 << FINE) - 1);
    ((within + (1 << FINE)) as u64) << doubling
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_a_bucket_that_is_narrow_and_the_buckets_follow_each_other() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(start(at)), at);
            let next = start(at + 1);
            assert!(next > start(at));
            assert_eq!(bucket(next - 1), at);
            assert!((next - start(at)) as f64 <= 1.0_f64.max(start(at) as f64 / 8.0));
        }
        assert!(start(BUCKETS - 1) > 10_000_000_000);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
