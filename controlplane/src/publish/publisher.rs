//! The publisher: keeps a link, and decides when an update begins.

use std::time::{Duration, Instant};

use hugepages::codec;

use crate::policy::Desired;

use super::backoff::Backoff;
use super::channel::{Broken, Connector};
use super::event::Event;
use super::link::{Link, Outcome};

/// While an answer or room in the ring is awaited.
const BUSY_POLL: Duration = Duration::from_millis(1);

/// While nothing is under way; how soon a restarted data plane is noticed.
const IDLE_POLL: Duration = Duration::from_millis(20);

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
        self.link.as_ref().is_some_and(Link::is_settled) && !desired.has_changes()
    }

    fn drive(&mut self, now: Instant, desired: &mut Desired) -> Result<Duration, Broken> {
        if self.link.is_none() && !self.attach(now)? {
            return Ok(self.backoff.wait(now));
        }
        let Some(link) = self.link.as_mut() else {
            return Ok(BUSY_POLL);
        };
        link.notice_restart();
        while let Some(record) = link.receive()? {
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
            let generation = self.wanted.max(link.seen_generation()) + 1;
            if link.begin(generation, now, desired, &mut self.events) {
                self.wanted = generation;
            }
        }
        link.push(now)?;
        let busy = !link.is_settled() || desired.has_changes();
        Ok(if !busy {
            IDLE_POLL
        } else if !link.is_in_flight() {
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
        self.link = Some(Link::new(channel, now));
        Ok(true)
    }
}
