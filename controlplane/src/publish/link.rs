//! The link to one region, with at most one update under way.

use std::time::{Duration, Instant};

use hugepages::{Digest, Record, Reply, codec};

use crate::diff::{Update, messages};
use crate::policy::Desired;

use super::channel::{Broken, Channel};
use super::event::Event;

/// Between looks at whether the region has been replaced and the installed digest is right.
const INSPECTION: Duration = Duration::from_secs(1);

/// For an answer to an update that has been taken completely.
const ANSWER: Duration = Duration::from_secs(5);

/// Shortest time between the beginnings of two updates.
const GAP: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Link<C> {
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
pub(super) struct Flight {
    generation: u64,
    digest: Digest,
    began: Instant,
    /// When the last record went into the ring, or was last seen to be waiting there.
    taken: Option<Instant>,
}

pub(super) enum Outcome {
    Installed(u64),
    Failed,
    Nothing,
}

impl<C: Channel> Link<C> {
    /// A link over which nothing has been sent yet.
    pub(super) fn new(channel: C, now: Instant) -> Self {
        Self {
            peer_boot: channel.peer_boot(),
            channel,
            outbound: Vec::new(),
            sent: 0,
            flight: None,
            needs_full: true,
            last_began: None,
            next_inspection: now + INSPECTION,
        }
    }

    /// The next reply.
    pub(super) fn receive(&mut self) -> Result<Option<Record>, Broken> {
        self.channel.receive()
    }

    /// The highest generation that the data plane has seen.
    pub(super) fn seen_generation(&self) -> u64 {
        self.channel
            .installed()
            .map_or(0, |(generation, _)| generation)
    }

    /// Whether an update is under way.
    pub(super) const fn is_in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether the data plane has confirmed all that it was sent, and needs nothing else.
    pub(super) const fn is_settled(&self) -> bool {
        self.flight.is_none() && !self.needs_full
    }

    pub(super) fn notice_restart(&mut self) {
        let peer_boot = self.channel.peer_boot();
        if peer_boot != self.peer_boot {
            self.peer_boot = peer_boot;
            self.start_over();
        }
    }

    pub(super) fn answer(
        &mut self,
        reply: Reply,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Outcome {
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

    pub(super) fn inspect(
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

    pub(super) fn may_begin(&self, now: Instant, desired: &Desired) -> bool {
        self.is_free(now) && (self.needs_full || desired.has_changes())
    }

    pub(super) fn is_free(&self, now: Instant) -> bool {
        let rested = |began| now.saturating_duration_since(began) >= GAP;
        let idle = self.flight.is_none() && self.sent == self.outbound.len();
        idle && self.last_began.is_none_or(rested)
    }

    /// Begins an update if there is anything to say. Returns whether there was.
    pub(super) fn begin(
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

    pub(super) fn push(&mut self, now: Instant) -> Result<(), Broken> {
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
