//! Brings the data plane to the desired state, whatever either side has been through.
//!
//! A state machine without a clock and without threads: [`Publisher::poll`] is told the time, does
//! what can be done without waiting, and says when to come back. One update is under way at a time;
//! what changes meanwhile becomes one update after it, so bursts coalesce by themselves while a
//! first change goes out at once.
//!
//! | event | what follows |
//! |-------|--------------|
//! | no region, region replaced, ring broken | attach again (with backoff), then a full update |
//! | data plane's boot id changed, `Replay` | full update |
//! | `Refused`, or an answer of another digest | full update, later and later if it repeats |
//! | ring full | wait; changes coalesce |
//! | everything taken but no answer for a while | full update |
//! | quiet, and the installed digest is not the wanted one | full update |

mod channel;
mod region;

use std::time::{Duration, Instant};

use hugepages::{Digest, Reason, Record, Reply, codec};

use crate::diff::{Update, messages};
use crate::policy::Desired;

pub use channel::{Broken, Channel, Connector};
pub use region::RegionConnector;

/// Shortest and longest wait between attempts that fail.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// While an answer or room in the ring is awaited.
const BUSY_POLL: Duration = Duration::from_millis(1);

/// While nothing is under way; how soon a restarted data plane is noticed.
const IDLE_POLL: Duration = Duration::from_millis(20);

/// Between looks at whether the region has been replaced and the installed digest is right.
const INSPECTION: Duration = Duration::from_secs(1);

/// For an answer to an update that has been taken completely.
const ANSWER: Duration = Duration::from_secs(5);

/// Shortest time between the beginnings of two updates.
const GAP: Duration = Duration::from_millis(2);

/// Something worth a log line or a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The region is attached.
    Attached,
    /// The region cannot be attached or has become unusable.
    Detached(String),
    /// An update has been sent to the ring's producer side (perhaps not all of it yet).
    Began {
        /// Its generation.
        generation: u64,
        /// Whether it holds the whole state.
        full: bool,
        /// Number of Puts and Deletes.
        changes: usize,
    },
    /// The data plane has installed an update.
    Committed {
        /// Its generation.
        generation: u64,
        /// From the first record to the answer.
        latency: Duration,
    },
    /// The data plane has not installed an update.
    Refused(Reason),
    /// The data plane wants everything again.
    Replay(Reason),
    /// The installed state is not the wanted one although all updates were confirmed.
    DigestMismatch,
    /// The data plane has taken an update and not answered it.
    NoAnswer,
    /// A reply that means nothing.
    BadReply,
}

/// The publisher of one control plane process.
#[derive(Debug)]
pub struct Publisher<C: Connector> {
    connector: C,
    link: Option<Link<C::Channel>>,
    /// Generation of the latest update.
    wanted: u64,
    /// Generation of the latest update that was confirmed.
    installed: Option<u64>,
    backoff: Backoff,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Link<C> {
    channel: C,
    /// Records of the update under way; those before `sent` are in the ring.
    outbound: Vec<Record>,
    sent: usize,
    flight: Option<Flight>,
    peer_boot: u64,
    needs_full: bool,
    last_began: Option<Instant>,
    next_inspection: Instant,
}

/// An update that has no answer yet.
#[derive(Debug)]
struct Flight {
    generation: u64,
    digest: Digest,
    began: Instant,
    /// When the last record went into the ring, or was last seen to be waiting there.
    taken: Option<Instant>,
}

/// When something that failed may be tried again.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl<C: Connector> Publisher<C> {
    /// A publisher with nothing sent yet.
    pub fn new(connector: C) -> Self {
        Self {
            connector,
            link: None,
            wanted: 0,
            installed: None,
            backoff: Backoff::default(),
            events: Vec::new(),
        }
    }

    /// Does what can be done at `now`; returns how long nothing else will happen unless the
    /// desired state changes.
    pub fn poll(&mut self, now: Instant, desired: &mut Desired) -> Duration {
        match self.drive(now, desired) {
            Ok(wait) => wait,
            Err(broken) => {
                self.link = None;
                self.backoff.failed(now);
                self.events.push(Event::Detached(broken.0));
                self.backoff.wait(now)
            }
        }
    }

    /// What has happened since this was last called.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Generations of the latest update and of the latest confirmed one.
    pub fn generations(&self) -> (u64, Option<u64>) {
        (self.wanted, self.installed)
    }

    /// Whether [`Self::poll`] would begin an update at `now` if the desired state had changed: the
    /// time to bring it up to date.
    pub fn can_begin(&self, now: Instant) -> bool {
        let free = |link: &Link<_>| link.is_free(now);
        self.link.as_ref().is_none_or(free) && self.backoff.is_over(now)
    }

    /// Whether the data plane has confirmed everything that was wanted when last polled.
    pub fn is_settled(&self, desired: &Desired) -> bool {
        let idle = |link: &Link<_>| link.flight.is_none() && !link.needs_full;
        self.link.as_ref().is_some_and(idle) && !desired.has_changes()
    }

    fn drive(&mut self, now: Instant, desired: &mut Desired) -> Result<Duration, Broken> {
        if self.link.is_none() && !self.attach(now)? {
            return Ok(self.backoff.wait(now));
        }
        let Some(link) = self.link.as_mut() else {
            return Ok(RETRY.0);
        };
        link.notice_restart();
        while let Some(record) = link.channel.receive()? {
            match codec::decode_reply(&record) {
                Ok(reply) => {
                    let outcome = link.answer(reply, now, &mut self.events);
                    match outcome {
                        Outcome::Installed(generation) => {
                            self.installed = Some(generation);
                            self.backoff = Backoff::default();
                        }
                        Outcome::Failed => self.backoff.failed(now),
                        Outcome::Nothing => {}
                    }
                }
                Err(_) => self.events.push(Event::BadReply),
            }
        }
        link.inspect(now, desired, &mut self.events)?;
        if link.may_begin(now, desired) && self.backoff.is_over(now) {
            let seen = link
                .channel
                .installed()
                .map_or(0, |(generation, _)| generation);
            let generation = self.wanted.max(seen) + 1;
            if link.begin(generation, now, desired, &mut self.events) {
                self.wanted = generation;
            }
        }
        link.push(now)?;
        let busy = link.flight.is_some() || link.needs_full || desired.has_changes();
        Ok(if !busy {
            IDLE_POLL
        } else if link.flight.is_none() {
            self.backoff.wait(now).clamp(BUSY_POLL, IDLE_POLL)
        } else {
            BUSY_POLL
        })
    }

    /// Attaches if it is time to try. Returns whether there is a link.
    fn attach(&mut self, now: Instant) -> Result<bool, Broken> {
        if !self.backoff.is_over(now) {
            return Ok(false);
        }
        let channel = self.connector.connect()?;
        self.events.push(Event::Attached);
        self.link = Some(Link {
            peer_boot: channel.peer_boot(),
            channel,
            outbound: Vec::new(),
            sent: 0,
            flight: None,
            needs_full: true,
            last_began: None,
            next_inspection: now + INSPECTION,
        });
        Ok(true)
    }
}

enum Outcome {
    Installed(u64),
    Failed,
    Nothing,
}

impl<C: Channel> Link<C> {
    fn notice_restart(&mut self) {
        let peer_boot = self.channel.peer_boot();
        if peer_boot != self.peer_boot {
            self.peer_boot = peer_boot;
            self.start_over();
        }
    }

    fn answer(&mut self, reply: Reply, now: Instant, events: &mut Vec<Event>) -> Outcome {
        match reply {
            Reply::Committed {
                generation, digest, ..
            } => {
                let ours = |flight: &mut Flight| flight.generation == generation;
                let Some(flight) = self.flight.take_if(ours) else {
                    return Outcome::Nothing;
                };
                if digest != flight.digest {
                    events.push(Event::DigestMismatch);
                    self.start_over();
                    return Outcome::Failed;
                }
                let latency = now.saturating_duration_since(flight.began);
                events.push(Event::Committed {
                    generation,
                    latency,
                });
                Outcome::Installed(generation)
            }
            Reply::Refused { generation, reason } => {
                if self
                    .flight
                    .as_ref()
                    .is_none_or(|flight| flight.generation != generation)
                {
                    return Outcome::Nothing;
                }
                events.push(Event::Refused(reason));
                self.start_over();
                Outcome::Failed
            }
            Reply::Replay { reason } => {
                events.push(Event::Replay(reason));
                // One asked for before this full update began is already being answered.
                let repeated = self.flight.is_some();
                self.start_over();
                if repeated {
                    Outcome::Failed
                } else {
                    Outcome::Nothing
                }
            }
        }
    }

    /// Gives up the update under way, if need be in the middle of an object (the next Begin makes
    /// the other side forget it), and wants a full one.
    fn start_over(&mut self) {
        self.outbound.clear();
        self.sent = 0;
        self.flight = None;
        self.needs_full = true;
    }

    fn inspect(
        &mut self,
        now: Instant,
        desired: &Desired,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        if let Some(flight) = &mut self.flight
            && let Some(taken) = flight.taken
        {
            if !self.channel.is_drained()? {
                flight.taken = Some(now);
            } else if now.saturating_duration_since(taken) > ANSWER {
                events.push(Event::NoAnswer);
                self.start_over();
            }
        }
        if now < self.next_inspection {
            return Ok(());
        }
        self.next_inspection = now + INSPECTION;
        self.channel.beat();
        if !self.channel.is_current() {
            return Err(Broken("the region has been replaced".into()));
        }
        let quiet = self.flight.is_none() && !self.needs_full && !desired.has_changes();
        let installed = self.channel.installed().map(|(_, digest)| digest);
        if quiet && installed.is_some_and(|digest| digest != desired.digest()) {
            events.push(Event::DigestMismatch);
            self.start_over();
        }
        Ok(())
    }

    fn may_begin(&self, now: Instant, desired: &Desired) -> bool {
        self.is_free(now) && (self.needs_full || desired.has_changes())
    }

    fn is_free(&self, now: Instant) -> bool {
        let rested = |began| now.saturating_duration_since(began) >= GAP;
        let idle = self.flight.is_none() && self.sent == self.outbound.len();
        idle && self.last_began.is_none_or(rested)
    }

    /// Begins an update if there is anything to say. Returns whether there was.
    fn begin(
        &mut self,
        generation: u64,
        now: Instant,
        desired: &mut Desired,
        events: &mut Vec<Event>,
    ) -> bool {
        let full = self.needs_full;
        let changes = if full {
            desired.take_all()
        } else {
            desired.take_changes()
        };
        if !full && changes.is_empty() {
            return false;
        }
        let digest = desired.digest();
        let update = Update {
            boot: self.channel.boot(),
            generation,
            full,
            digest,
        };
        self.channel.report(generation, digest);
        events.push(Event::Began {
            generation,
            full,
            changes: changes.puts.len() + changes.deletes.len(),
        });
        self.outbound.clear();
        self.sent = 0;
        for message in messages(update, changes) {
            codec::encode(&message, &mut self.outbound);
        }
        self.needs_full = false;
        self.last_began = Some(now);
        self.flight = Some(Flight {
            generation,
            digest,
            began: now,
            taken: None,
        });
        true
    }

    fn push(&mut self, now: Instant) -> Result<(), Broken> {
        if self.sent < self.outbound.len() {
            self.sent += self.channel.send(&self.outbound[self.sent..])?;
        }
        if self.sent == self.outbound.len() {
            self.outbound = Vec::new();
            self.sent = 0;
            if let Some(flight) = &mut self.flight {
                flight.taken.get_or_insert(now);
            }
        }
        Ok(())
    }
}

impl Backoff {
    fn failed(&mut self, now: Instant) {
        let wait = RETRY
            .0
            .saturating_mul(1 << self.failures.min(16))
            .min(RETRY.1);
        self.failures += 1;
        self.not_before = Some(now + wait);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    fn wait(&self, now: Instant) -> Duration {
        self.not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
