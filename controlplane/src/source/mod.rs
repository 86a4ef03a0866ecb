//! Where the cluster's objects come from.

pub mod manifests;
