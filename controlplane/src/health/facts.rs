//! What the main loop knows, for those who answer questions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::model::ObjectName;
use crate::policy::{HealthCheck, Unproxied};

/// An update that is not installed after this time means that the gateway is out of date.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

/// A main loop that has not come round in this time hangs.
const LOOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What the main loop knows, shared with those who answer questions.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<Facts>>);

/// The facts.
#[derive(Debug)]
pub struct Facts {
    /// Everything has been listed once.
    pub synced: bool,
    /// The data plane has confirmed an update.
    pub committed: bool,
    /// When the main loop last came round.
    pub beat: Instant,
    /// Since when something waits to be installed; `None` when nothing does.
    pub queued: Option<Instant>,
    /// When the installed state was last known to be the wanted one.
    pub updated: SystemTime,
    /// The gateway's own node is going away.
    pub node_leaving: bool,
    /// Health checks by service.
    pub checks: BTreeMap<ObjectName, HealthCheck>,
    /// Services that are not proxied.
    pub unproxied: Arc<BTreeMap<ObjectName, Unproxied>>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Of a process that has just started.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Facts {
            synced: false,
            committed: false,
            beat: Instant::now(),
            queued: None,
            updated: SystemTime::now(),
            node_leaving: false,
            checks: BTreeMap::new(),
            unproxied: Arc::default(),
        })))
    }

    /// The facts, to look at or to change. Held for moments only.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        // Facts are stored one by one; a panic in between leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// Whether clients may be sent here: the first state is installed.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.synced && self.committed
    }

    /// Whether the process works. A missing data plane or API server is no reason to restart it.
    #[must_use]
    pub fn is_live(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.beat) < LOOP_TIMEOUT
    }

    /// Whether something is installed and is what is wanted, give or take the time that an update needs.
    /// Having had nothing to do for hours is fine.
    #[must_use]
    pub fn is_in_sync(&self, now: Instant) -> bool {
        let late = |queued| now.saturating_duration_since(queued) >= SYNC_TIMEOUT;
        self.is_ready() && self.is_live(now) && !self.queued.is_some_and(late)
    }
}
