//! Kubernetes Events: what happens to an object, told beside the object itself, where
//! `kubectl describe` shows it.
//!
//! Whoever has something to tell puts it into a bounded queue and goes on; what finds no place there
//! is only counted. A task of its own writes, one Event at a time. What goes on happening is put
//! together as client-go does it ([`correlate`]), but in a new Event of the same series each time,
//! because the gateway may create Events and not change them. Every Event also stands in the log, so
//! nothing depends on them.

mod correlate;
mod write;

use std::time::SystemTime;

use kube::Client;
use tokio::sync::mpsc::{Sender, channel};

use crate::metrics::Metrics;
use crate::model::ObjectName;

use write::Writer;

/// Occurrences that may wait to be written.
const QUEUE: usize = 256;

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Regarding {
    /// `Service` or `Node`, of core/v1.
    pub kind: &'static str,
    /// Its name; the namespace of a Node is empty.
    pub name: ObjectName,
    /// `metadata.uid`, by which `kubectl describe` finds the Event; for a Node its name, as the
    /// kubelet and kube-proxy do it.
    pub uid: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// To which object.
    pub regarding: Regarding,
    /// Whether it is a `Warning`; else `Normal`.
    pub is_warning: bool,
    /// Why, in one word for programs: as kube-proxy writes it where kube-proxy tells the same.
    pub reason: &'static str,
    /// What was being done, in one word.
    pub action: &'static str,
    /// What happened, in a sentence for people.
    pub note: String,
    /// When.
    pub at: SystemTime,
}

/// Where to tell what happens. Clones tell it to the same task.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: Option<Sender<Occurrence>>,
    metrics: Metrics,
}

impl Recorder {
    /// Of a gateway without an API server: nobody is told.
    #[must_use]
    pub const fn silent(metrics: Metrics) -> Self {
        Self {
            queue: None,
            metrics,
        }
    }

    /// Starts writing Events to the API server of `client`, on the current tokio runtime, in the name
    /// of `instance`: the node, or the host.
    #[must_use]
    pub fn spawn(client: Client, instance: String, metrics: Metrics) -> Self {
        let (queue, occurrences) = channel(QUEUE);
        let writer = Writer::new(client, instance, metrics.clone());
        tokio::spawn(writer.run(occurrences));
        Self {
            queue: Some(queue),
            metrics,
        }
    }

    /// Tells it, now or never: this never waits.
    pub fn record(&self, occurrence: Occurrence) {
        let Some(queue) = &self.queue else {
            return;
        };
        if queue.try_send(occurrence).is_err() {
            self.metrics.count_event("dropped");
        }
    }
}

#[cfg(test)]
mod tests;
