//! `perf controlplane`: from a cluster's objects to a worker's snapshot, at the size of large clusters.
//!
//! Three processes: this one has the cluster and the clock, and starts the two others.
//!
//! ```text
//! objects ── text ──► feeder ─────────────────────► region ───► gateway
//!                     parse, convert                ring        main core: the data plane's update path
//!                     the control plane's           journal     worker: pipeline, frames of established flows,
//!                     main loop                                 first frames of new flows
//! ```
//!
//! `objects` writes what an API server would, `feeder` and `gateway` run production code around the region,
//! `worker` notices what was published, `measure` puts the times together.

mod child;
mod feeder;
mod gateway;
mod measure;
mod memory;
mod objects;
mod options;
mod talk;
mod worker;

use std::io::Write;

pub use self::feeder::{Options as FeederOptions, run as run_feeder};
pub use self::gateway::{Options as GatewayOptions, run as run_gateway};
pub use self::options::{Options, Size};
use crate::Error;
use crate::record::controlplane::ControlPlaneRecord;

/// Measures and prints, size by size.
///
/// # Errors
///
/// [`Error`].
pub fn run(options: &Options) -> Result<(), Error> {
    options.check()?;
    let mut records: Vec<(Size, ControlPlaneRecord)> = Vec::new();
    for size in &options.sizes {
        let mut record = measure::measure(options, *size)?;
        let tenth = records.iter().find(|(other, _)| {
            other.services * 10 == size.services && other.endpoints == size.endpoints
        });
        record.growth = tenth.map(|(_, tenth)| record.growth(tenth));
        let text = if options.json {
            serde_json::to_string(&record).map_err(|error| Error::Run(error.to_string()))? + "\n"
        } else {
            record.table()
        };
        // A closed pipe is the reader's wish.
        let _ = std::io::stdout().write_all(text.as_bytes());
        records.push((*size, record));
    }
    Ok(())
}
