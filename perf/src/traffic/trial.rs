//! A run: both ends brought to where it can begin, the traffic for its time, and what came of it.

use std::time::Duration;

use hdrhistogram::Histogram;
use hugepages::region::monotonic_nanos;
use packet::parse::TCP;
use packet::{Link, Pool};

use super::choice::Sizes;
use super::client::{Client, Sent};
use super::connections::Connections;
use super::pace::Pace;
use super::payload::WARM_UP;
use super::progress::{Phase, Progress};
use super::server::{Served, Server};
use super::tally::{Received, Tally};
use crate::Error;

/// How long a gateway may take to say where it is.
const RESOLVE: u64 = 10_000_000_000;

/// How long nothing must come after a run before it is over: if all that is waited for has come; if not;
/// and if not, on a machine that others need, where a gateway may not get to work for so long. How long it
/// may take while something still comes.
const QUIET: u64 = 100_000_000;
const MISSING: u64 = 300_000_000;
const MISSING_POLITE: u64 = 2_000_000_000;
const SETTLED: u64 = 30_000_000_000;

/// How long a device may take nothing at all.
const STUCK: u64 = 3_000_000_000;

/// How long the device may take for frames that were due in time: a part of the run, and at least so
/// many nanoseconds. A gateway that keeps up has emptied its queue by then; one that is 0.1 % too slow has
/// not.
const GRACE: f64 = 0.0005;
const LEAST_GRACE: u64 = 1_000_000;

/// Turns between two looks at rare things.
const RARELY: u32 = 256;

/// The ends that one thread turns.
pub struct Ends<L: Link, P> {
    /// Sends.
    pub client: Client<L, P>,
    /// Receives; elsewhere if `None`.
    pub server: Option<Server<L>>,
    /// Whether the gateway may have to wait long for its turn.
    pub polite: bool,
}

/// How a run goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Frames a second, or connections; `None` = as fast as they are taken.
    pub rate: Option<f64>,
    /// For how long.
    pub time: Duration,
    /// At most so many frames, or connections.
    pub most: u64,
    /// The same traffic before, uncounted.
    pub warm_up: Duration,
    /// Sizes of data frames.
    pub sizes: Sizes,
}

/// What came of a run.
#[derive(Debug)]
pub struct Trial {
    /// Number of the run.
    pub run: u16,
    /// Whether connections were counted, instead of frames.
    pub connects: bool,
    /// Frames (or connections) that should have been sent in the time; at full speed those that were.
    pub offered: u64,
    /// What was.
    pub sent: Sent,
    /// Nanoseconds for which was sent.
    pub time: u64,
    /// What the server received, if it is here.
    pub received: Option<Received>,
    /// What the server heard and said besides.
    pub served: Option<Served>,
    /// Nanoseconds from intended sending to receiving by the server.
    pub latency: Option<Histogram<u64>>,
    /// What came back to the client.
    pub returned: Received,
    /// Nanoseconds from intended sending to coming back.
    pub round_trip: Histogram<u64>,
    /// TCP's connections.
    pub connections: Connections,
    /// Nanoseconds from a SYN's intended sending to its answer.
    pub handshake: Histogram<u64>,
    /// Frames that the device had still not taken when the run was over.
    pub waiting: u64,
}

impl Trial {
    /// Data frames lost on the way, if it is known what was received.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        let received = self.received?;
        Some(self.sent.data.saturating_sub(received.distinct))
    }

    /// Frames that should have been sent (connections that should have been opened), but were not in
    /// time, because the device did not take them.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        let done = if self.connects {
            self.connections.opened
        } else {
            self.sent.data
        };
        self.offered.saturating_sub(done)
    }

    /// The part of what was offered that did not arrive; of connections, that did not live to their
    /// end.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let lost = if self.connects {
            self.offered.saturating_sub(self.connections.closed)
        } else {
            self.unsent() + self.lost().unwrap_or(0)
        };
        lost as f64 / (self.offered.max(1)) as f64
    }
}

impl<L: Link, P: Pool<Buffer = L::Buffer>> Ends<L, P> {
    /// Waits for the gateway's MAC address, then opens every flow, `rate` a second.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if the gateway does not answer or connections are not established.
    pub fn prepare(&mut self, rate: f64, progress: &Progress) -> Result<(), Error> {
        progress.enter(Phase::Resolve);
        let start = monotonic_nanos();
        while !self.client.is_ready() && !progress.is_stopped() {
            if monotonic_nanos() - start > RESOLVE {
                return Err(Error::Run(
                    "the gateway did not answer ARP or neighbour discovery in 10 s: is the link up, \
                     and is --via its address there?"
                        .to_owned(),
                ));
            }
            self.turn(progress);
        }
        progress.enter(Phase::Open);
        let flows = self.client.traffic().flows.count();
        let is_tcp = self.client.traffic().flows.protocol() == TCP;
        if is_tcp && self.client.traffic().segments.is_some() {
            // Opening and closing connections is what will be measured.
            return Ok(());
        }
        self.each_flow(rate, progress, |client, flow, time| client.open(flow, time));
        self.settle(progress);
        let established = self.client.connections().open_now();
        if is_tcp && established < u64::from(flows) {
            let counts = *self.client.connections().counts();
            return Err(Error::Run(format!(
                "{established} of {flows} connections were established ({} refused); a lower \
                 --open-rate may help",
                counts.refused
            )));
        }
        Ok(())
    }

    /// Finishes all TCP connections, `rate` a second.
    pub fn finish(&mut self, rate: f64, progress: &Progress) {
        if self.client.connections().open_now() > 0 {
            progress.enter(Phase::Close);
            self.each_flow(rate, progress, |client, flow, _| client.finish(flow));
            self.settle(progress);
        }
    }

    /// One run, number `run`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for sizes that have no room for the payload's fields.
    pub fn run(&mut self, run: u16, plan: &Plan, progress: &Progress) -> Result<Trial, Error> {
        if !plan.warm_up.is_zero() {
            progress.enter(Phase::WarmUp);
            self.begin(WARM_UP, plan)?;
            self.send(plan, plan.warm_up, u64::MAX, progress);
            self.settle(progress);
        }
        progress.enter(Phase::Measure);
        self.begin(run, plan)?;
        let (offered, time) = self.send(plan, plan.time, plan.most, progress);
        progress.enter(Phase::Settle);
        self.settle(progress);
        self.client.tell_end(monotonic_nanos());
        self.settle(progress);
        if progress.is_stopped() {
            return Err(Error::Run("interrupted".to_owned()));
        }
        Ok(self.trial(run, offered, time))
    }

    /// Turns both ends for a while, sending nothing but answers.
    pub fn rest(&mut self, time: Duration, progress: &Progress) {
        let start = monotonic_nanos();
        while monotonic_nanos() - start < time.as_nanos() as u64 && !progress.is_stopped() {
            self.turn(progress);
        }
    }

    fn begin(&mut self, run: u16, plan: &Plan) -> Result<(), Error> {
        let dealer = self.client.traffic().dealer.clone();
        self.client.begin(run, plan.sizes.clone())?;
        if let Some(server) = &mut self.server {
            server.begin(Tally::new(Some(run), Some(dealer)));
        }
        Ok(())
    }

    /// Sends what is due for `time`; returns how many frames (connections) were due and the time.
    fn send(&mut self, plan: &Plan, time: Duration, most: u64, progress: &Progress) -> (u64, u64) {
        let connects = self.client.traffic().segments.is_some();
        let dealer = self.client.traffic().dealer.clone();
        let start = monotonic_nanos();
        let time = time.as_nanos() as u64;
        let end = start + time;
        let late = end + LEAST_GRACE.max((time as f64 * GRACE) as u64);
        let pace = Pace::new(start, plan.rate);
        let due = match plan.rate {
            Some(_) => pace.due(end).min(most),
            None => most,
        };
        let mut opened = 0;
        let mut now = start;
        loop {
            let done = if connects {
                while opened < due
                    && pace.due(now) > opened
                    && self
                        .client
                        .open(dealer.flow(opened), pace.time(opened, now))
                {
                    opened += 1;
                }
                opened
            } else {
                self.client.send(&pace, due, now);
                self.client.sent().data
            };
            self.turn(progress);
            now = monotonic_nanos();
            let is_over = progress.is_stopped()
                || done >= due
                || now >= late
                || (plan.rate.is_none() && now >= end);
            if is_over {
                let offered = if plan.rate.is_some() { due } else { done };
                return (offered, now.min(end) - start);
            }
        }
    }

    /// Does something for every flow, `rate` times a second.
    fn each_flow(
        &mut self,
        rate: f64,
        progress: &Progress,
        mut work: impl FnMut(&mut Client<L, P>, u32, u64) -> bool,
    ) {
        let flows = self.client.traffic().flows.count();
        let pace = Pace::new(monotonic_nanos(), Some(rate));
        let (mut flow, mut tried) = (0, monotonic_nanos());
        while flow < flows && !progress.is_stopped() {
            let now = monotonic_nanos();
            if pace.due(now) > u64::from(flow) && work(&mut self.client, flow, now) {
                flow += 1;
                tried = now;
            }
            // A device that takes nothing for so long is no device.
            if now - tried > STUCK {
                return;
            }
            self.turn(progress);
        }
    }

    /// Turns both ends until nothing has come for a while.
    fn settle(&mut self, progress: &Progress) {
        let start = monotonic_nanos();
        let (mut last, mut now) = (start, start);
        let missing = if self.polite { MISSING_POLITE } else { MISSING };
        while now - start < SETTLED && !progress.is_stopped() {
            let came = self.turn(progress);
            now = monotonic_nanos();
            if came > 0 {
                last = now;
            }
            let quiet = if self.is_missing() { missing } else { QUIET };
            if now - last >= quiet {
                break;
            }
        }
    }

    /// Whether something that was sent has not arrived, or an answer not come, as far as is known here.
    fn is_missing(&self) -> bool {
        let client = &self.client;
        let counts = client.connections().counts();
        let server = self.server.as_ref();
        client.waiting() > 0
            || counts.opened > counts.established + counts.refused + counts.lapsed
            || counts.finished > counts.closed + counts.reset
            || server.is_some_and(|server| {
                server.tally().received().distinct < client.sent().data || server.waiting() > 0
            })
    }

    /// Receives and answers at both ends; returns how many frames came.
    fn turn(&mut self, progress: &Progress) -> usize {
        let mut came = 0;
        if let Some(server) = &mut self.server {
            // Twice, because a client hands over whole bursts.
            came += server.turn();
            came += server.turn();
        }
        came += self.client.turn(monotonic_nanos());
        progress.turn(RARELY, || {
            let server = self.server.as_ref();
            let received = server.map_or(self.client.tally().received().distinct, |server| {
                server.tally().received().distinct
            });
            (self.client.sent().data, received)
        });
        came
    }

    fn trial(&mut self, run: u16, offered: u64, time: u64) -> Trial {
        let client = &self.client;
        let server = self.server.as_ref();
        Trial {
            run,
            connects: client.traffic().segments.is_some(),
            offered,
            sent: client.sent(),
            time,
            received: server.map(|server| *server.tally().received()),
            served: server.map(|server| *server.served()),
            latency: server.map(|server| server.tally().latency().clone()),
            returned: *client.tally().received(),
            round_trip: client.tally().latency().clone(),
            connections: *client.connections().counts(),
            handshake: client.connections().handshake().clone(),
            waiting: client.waiting() as u64,
        }
    }
}

#[cfg(test)]
mod tests;
