//! The main loop's state: what the sources have said, what follows from it, and how far the data
//! plane has got. No clock, no sockets: [`crate::process`] drives it.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant, SystemTime};

use settings::Gateway;

use crate::dns::Names;
use crate::health::Health;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::model::ObjectKind;
use crate::policy::Desired;
use crate::publish::{Connector, Event, Publisher};
use crate::source::{Change, SourceEvent};
use crate::warning::Warning;

/// Without a data plane to send to, how often the desired state follows the sources (health checks
/// and metrics still need it).
const IDLE_REFRESH: Duration = Duration::from_millis(100);

/// Different warnings remembered in order to log each once.
const MOST_REMEMBERED: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub struct Keeper<C: Connector> {
    index: Index,
    desired: Desired,
    publisher: Publisher<C>,
    /// Kinds that have been listed completely at least once.
    listed: BTreeSet<ObjectKind>,
    own_node: Option<String>,
    last_refresh: Option<Instant>,
    /// Trigger times of changes: not yet sent, and under way.
    triggers: (Vec<SystemTime>, Vec<SystemTime>),
    /// Whether the update under way is the whole state.
    full: bool,
    said: HashSet<Warning>,
    detached: Option<String>,
    health: Health,
    metrics: Metrics,
    /// What the DNS responder knows, if there is one.
    names: Option<Names>,
}

/// The first state is installed: what the process says on its standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// Generation of the update.
    pub generation: u64,
    /// Service ports that are proxied.
    pub services: usize,
    /// Their serving endpoints.
    pub endpoints: usize,
}

impl<C: Connector> Keeper<C> {
    /// A keeper that knows nothing of the cluster yet.
    pub fn new(gateway: Gateway, connector: C, health: Health, metrics: Metrics) -> Self {
        Self {
            index: Index::new(),
            own_node: gateway.node_name.clone(),
            desired: Desired::new(gateway),
            publisher: Publisher::new(connector),
            listed: BTreeSet::new(),
            last_refresh: None,
            triggers: Default::default(),
            full: false,
            said: HashSet::new(),
            detached: None,
            health,
            metrics,
            names: None,
        }
    }

    /// Keeps these names, too.
    #[must_use]
    pub fn with_names(mut self, names: Option<Names>) -> Self {
        self.names = names;
        self
    }

    /// Takes in what a source says.
    pub fn take(&mut self, event: SourceEvent, now: Instant) {
        match event {
            SourceEvent::Replace(kind, objects) => {
                self.metrics.contact(kind, now);
                self.metrics.count_changes(kind, objects.len());
                tracing::info!(kind = kind.name(), number = objects.len(), "listed");
                self.index.replace(kind, objects);
                self.listed.insert(kind);
            }
            SourceEvent::Changes(changes) => {
                for change in changes {
                    let kind = match change {
                        Change::Apply(object) => {
                            let kind = object.kind();
                            self.index.apply(object);
                            kind
                        }
                        Change::Delete(kind, name) => {
                            self.index.delete(kind, &name);
                            kind
                        }
                    };
                    self.metrics.contact(kind, now);
                    self.metrics.count_changes(kind, 1);
                }
            }
            SourceEvent::Contact(kind) => self.metrics.contact(kind, now),
            SourceEvent::Warnings(warnings) => self.warn(warnings),
        }
    }

    /// Does what can be done at `now`. Returns when to come back at the latest, and, once in the
    /// life of the process, that the first state is installed.
    pub fn turn(&mut self, now: Instant) -> (Duration, Option<Synced>) {
        let listed = |kind: &ObjectKind| !kind.is_needed() || self.listed.contains(kind);
        let synced = ObjectKind::ALL.iter().all(listed);
        let mut wait = IDLE_REFRESH;
        let mut first = None;
        if synced {
            self.refresh(now);
            wait = self.publisher.poll(now, &mut self.desired);
            for event in self.publisher.take_events() {
                first = first.or(self.note(event));
            }
        }
        self.inform(synced, now);
        (wait, first)
    }

    fn refresh(&mut self, now: Instant) {
        let due = |last| now.saturating_duration_since(last) >= IDLE_REFRESH;
        let wanted = self.publisher.can_begin(now) || self.last_refresh.is_none_or(due);
        if !self.index.is_dirty() || !wanted {
            return;
        }
        let initial = self.last_refresh.is_none();
        self.last_refresh = Some(now);
        if let Some(names) = &self.names {
            names.refresh(&self.index);
        }
        let warnings = self.desired.refresh(&mut self.index);
        self.warn(warnings);
        let triggers = self.index.take_triggers();
        if !initial {
            // What was there before we were says nothing about how fast we are.
            self.triggers.0.extend(triggers);
        }
        self.metrics
            .count_objects(&self.index, self.desired.tally());
        let checks = self.desired.take_health_changes();
        let own = self
            .own_node
            .as_deref()
            .and_then(|name| self.index.node(name));
        let mut facts = self.health.facts();
        for (name, check) in checks {
            match check {
                Some(check) => facts.checks.insert(name, check),
                None => facts.checks.remove(&name),
            };
        }
        facts.unproxied = self.desired.unproxied();
        facts.node_leaving = own.is_some_and(|node| node.leaving);
    }

    fn note(&mut self, event: Event) -> Option<Synced> {
        match event {
            Event::Attached => {
                self.detached = None;
                self.metrics.attached.set(1);
                tracing::info!("attached to the region");
            }
            Event::Detached(why) => {
                self.metrics.attached.set(0);
                if self.detached.as_ref() != Some(&why) {
                    tracing::warn!(
                        "not attached to the region: {why}; trying again: portgate-dataplane has to \
                         run with the same region.path, and this user to be in region.group"
                    );
                }
                self.detached = Some(why);
            }
            Event::Began {
                generation,
                full,
                changes,
            } => {
                self.metrics.generation_wanted.set(generation.cast_signed());
                self.triggers.1.append(&mut self.triggers.0);
                self.full = full;
                tracing::debug!(generation, full, changes, "update begun");
            }
            Event::Committed {
                generation,
                latency,
            } => return self.committed(generation, latency),
            Event::Refused(reason) => {
                self.metrics.refused.inc();
                tracing::warn!(
                    "the data plane refused an update: {reason}; sending everything, later and later \
                     if it is refused again; its own log says more"
                );
            }
            Event::Replay(reason) => {
                self.metrics.replays.inc();
                tracing::info!("the data plane asked for everything: {reason}");
            }
            Event::DigestMismatch => {
                self.metrics.digest_mismatches.inc();
                tracing::warn!("the installed state is not the wanted one: sending everything");
            }
            Event::NoAnswer => tracing::warn!(
                "the data plane did not answer an update: sending everything; if it goes on, see whether \
                 portgate-dataplane hangs"
            ),
            Event::BadReply => {
                self.metrics.bad_replies.inc();
                tracing::warn!(
                    "a reply of the data plane could not be understood and is ignored: both programs \
                     should be of one version"
                );
            }
        }
        None
    }

    fn committed(&mut self, generation: u64, latency: Duration) -> Option<Synced> {
        self.metrics.committed(latency, self.full);
        self.metrics
            .generation_installed
            .set(generation.cast_signed());
        for triggered in self.triggers.1.drain(..) {
            self.metrics.programmed(triggered);
        }
        tracing::debug!(generation, ?latency, "update installed");
        let first = !std::mem::replace(&mut self.health.facts().committed, true);
        let tally = self.desired.tally();
        first.then_some(Synced {
            generation,
            services: tally.service_ports,
            endpoints: tally.endpoints,
        })
    }

    /// Tells the others what they may be asked about.
    fn inform(&mut self, synced: bool, now: Instant) {
        let settled = self.publisher.is_settled(&self.desired) && !self.index.is_dirty();
        let mut facts = self.health.facts();
        facts.beat = now;
        facts.synced = synced;
        if !settled {
            facts.queued.get_or_insert(now);
        } else if facts.queued.take().is_some() {
            facts.updated = SystemTime::now();
            self.metrics.settled();
        }
    }

    fn warn(&mut self, warnings: Vec<Warning>) {
        self.metrics.warnings.inc_by(warnings.len() as u64);
        if self.said.len() > MOST_REMEMBERED {
            self.said.clear();
        }
        for warning in warnings {
            if !self.said.contains(&warning) {
                tracing::warn!("{warning}");
                self.said.insert(warning);
            }
        }
    }
}

#[cfg(test)]
mod tests;
