//! Reading random lines of a table.

use std::sync::atomic::Ordering;
use std::time::Instant;

use hugepages::Line;

use crate::bench::random::Random;

const BATCH: usize = 32;

/// Nanoseconds a read, prefetched in batches of 32.
pub fn batched(lines: &[Line], reads: usize, random: &mut Random) -> f64 {
    let places = places(lines, reads.next_multiple_of(BATCH), random);
    let mut sum = 0;
    let start = Instant::now();
    for batch in places.chunks_exact(BATCH) {
        for place in batch {
            intrinsics::prefetch(&lines[*place as usize]);
        }
        for place in batch {
            sum ^= lines[*place as usize].0[0].load(Ordering::Relaxed);
        }
    }
    let elapsed = start.elapsed();
    std::hint::black_box(sum);
    elapsed.as_nanos() as f64 / places.len() as f64
}

/// Nanoseconds a read, each of a place that depends on the one before.
pub fn alone(lines: &[Line], reads: usize, random: &mut Random) -> f64 {
    let places = places(lines, reads, random);
    let mut before = 0;
    let start = Instant::now();
    for place in &places {
        // The word read is never so large: the processor, which does not know, has to wait.
        let moved = usize::from(before == u64::MAX);
        before = lines[*place as usize ^ moved].0[0].load(Ordering::Relaxed) | before >> 63;
    }
    let elapsed = start.elapsed();
    std::hint::black_box(before);
    elapsed.as_nanos() as f64 / places.len() as f64
}

/// Chosen before the clock starts.
fn places(lines: &[Line], reads: usize, random: &mut Random) -> Vec<u32> {
    // An even number of lines, for `alone` to be able to take the next one.
    let count = lines.len() & !1;
    (0..reads).map(|_| random.below(count) as u32).collect()
}
