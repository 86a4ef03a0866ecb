//! The loop in which everything is timed, and what goes round in it.
//!
//! A *round* takes every frame of a worker once through its link and the work that is measured:
//!
//! ```text
//! for each burst of the frames, oldest first:
//!     tx_burst  frames prepared before the round (a translated burst costs the device the same)
//!     rx_burst  the same frames come back as received
//!     work      the pipeline, or less (a floor), or nothing
//!     set aside
//! ```
//!
//! Timed are rx, the work, tx and the moving of pointers. Frames are written between rounds, when no
//! clock runs, so no generator's cost is in any figure or has to be subtracted. By the time a frame's
//! turn comes, the frames written after it have pushed it out of the L1 and L2 caches, as a NIC's
//! frames are not in them either; with few buffers (`--mbufs 512`) it is the opposite.

pub mod crew;
pub mod frames;
pub mod link;
pub mod random;

use std::time::{Duration, Instant};

use packet::{Burst, Link};

pub use crew::{Crew, Gate};
pub use frames::Stamp;
pub use link::{LoopLink, Seat};
pub use random::Random;

/// Times one round: see the module. `work` gets the number of the burst and the burst, which it
/// leaves empty, and puts into the last argument the frames that it did not free.
#[inline(always)]
pub fn round<L: Link>(
    link: &mut L,
    bursts: &mut [Burst<L::Buffer>],
    mut work: impl FnMut(usize, &mut Burst<L::Buffer>, &mut Burst<L::Buffer>),
) -> Duration {
    let mut received = Burst::new();
    let start = Instant::now();
    for (number, burst) in bursts.iter_mut().enumerate() {
        link.tx_burst(burst);
        link.rx_burst(&mut received);
        work(number, &mut received, burst);
    }
    start.elapsed()
}
