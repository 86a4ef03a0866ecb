//! Where the cluster's objects come from.
//!
//! A source runs by itself and sends [`SourceEvent`]s. Whatever happens to it, what it said last
//! stays in force.

pub mod kubernetes;
pub mod manifests;

use crate::model::{ClusterObject, ObjectKind, ObjectName};
use crate::warning::Warning;

/// What a source has to say.
#[derive(Debug)]
pub enum SourceEvent {
    /// This is all there is of a kind. The first one of each kind makes the process synced.
    Replace(ObjectKind, Vec<ClusterObject>),
    /// These changes belong together.
    Changes(Vec<Change>),
    /// The source of a kind has been heard of; nothing may have changed.
    Contact(ObjectKind),
    /// Something is not served as written.
    Warnings(Vec<Warning>),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An object is new or different.
    Apply(ClusterObject),
    /// An object is gone.
    Delete(ObjectKind, ObjectName),
}

/// Where a source sends its events. The bound makes a fast source wait for a busy process.
pub type Events = tokio::sync::mpsc::Sender<SourceEvent>;
