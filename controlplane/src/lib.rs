//! The control plane: from what a cluster says to what the data plane is to have.
//!
//! Layers, each of which calls only those below it:
//!
//! ```text
//! process                  wires the rest on tokio
//! keeper                   the main loop's state: sources in, updates out
//! status                   the page for a browser
//! source  publish  health  the cluster, the region, HTTP
//! recorder                 Events
//! dns                      names of Services, for clients outside
//! diff  metrics            changes → messages; counters
//! policy  observe          model → objects of the region (pure); what the region shows
//! index  convert           the cluster's objects by name; Kubernetes JSON → model (lenient)
//! model  warning  time     plain types
//! ```

pub mod convert;
pub mod diff;
pub mod dns;
pub mod health;
pub mod index;
pub mod keeper;
pub mod metrics;
pub mod model;
pub mod observe;
pub mod policy;
pub mod process;
pub mod publish;
pub mod recorder;
pub mod source;
pub mod status;
pub mod time;
pub mod warning;

pub use policy::{desired_state, judge};
pub use source::manifests::{LoadReport, load_dir};
pub use warning::Warning;
