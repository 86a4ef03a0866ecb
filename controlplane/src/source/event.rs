//! What sources say.

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
#[allow(clippy::large_enum_variant)] // Almost every change is an Apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An object is new or different.
    Apply(ClusterObject),
    /// An object is gone.
    Delete(ObjectKind, ObjectName),
}

/// Where a source sends its events. The bound makes a fast source wait for a busy process.
pub type Events = tokio::sync::mpsc::Sender<SourceEvent>;
