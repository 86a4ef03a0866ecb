//! The control plane: from what a cluster says to what the data plane is to have.
//!
//! Layers, each of which calls only those below it:
//!
//! ```text
//! process            wires the rest on tokio
//! source  publish  health  metrics
//! diff
//! policy             model → objects of the region (pure)
//! index              the objects of the cluster by name
//! convert            Kubernetes JSON → model (lenient)
//! model  warning     plain types
//! ```

pub mod convert;
pub mod diff;
pub mod index;
pub mod model;
pub mod policy;
pub mod publish;
pub mod source;
pub mod warning;

pub use policy::{desired_state, judge};
pub use source::manifests::{LoadReport, load_dir};
pub use warning::Warning;
