//! Commands in, snapshots out: the main core's part of an update.
//!
//! An update is decoded, staged and installed ([`Installed`]), written to the journal, published to the
//! workers, and answered. UDP flows that lost their endpoint by it are removed by one pass over
//! the tables as soon as no worker uses an older snapshot, so that none can come back; updates are taken
//! between its parts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Shared;
use engine::counters::{Counters, Total};
use engine::departures::Departures;
use engine::install::{Installation, Installed};
use engine::publish::Publisher;
use engine::snapshot::Snapshot;
use engine::sweep::Sweep;
use hugepages::codec::{Assembler, encode, encode_object, encode_reply};
use hugepages::object::{Object, ObjectId};
use hugepages::{
    Consumer, Digest, Journal, JournalError, Message, Producer, Reason, Record, Region,
    RegionError, Reply, State,
};

use crate::quiet::Quiet;

/// Between two looks of the main core at the command ring when that was empty: an update waits half of it
/// on average.
pub const MAIN_PAUSE: Duration = Duration::from_micros(200);

/// Records taken from the ring before the main core looks at other things again.
const RECORDS_A_TURN: usize = 4096;

/// Buckets of a flow table looked at before the main core takes commands again: a pass over a table for a million flows
/// takes 128 such turns.
const BUCKETS_A_TURN: usize = 2048;

/// Records that one update may have, in banks of the journal. What is installed should fit one; a
/// control plane that never commits must not use up all memory.
const MAX_BANKS: usize = 4;

/// Between two looks whether the control file is still what it should be.
const LOOK: Duration = Duration::from_millis(50);

/// The main core's side of the region.
pub struct Updater {
    region: Arc<Region>,
    commands: Consumer,
    replies: Producer,
    journal: Journal,
    assembler: Assembler,
    installed: Installed,
    publisher: Publisher<Snapshot>,
    shared: Arc<Shared>,
    /// The main core's own counters.
    counters: Counters,
    sweep_due: bool,
    /// Endpoints that left services which do not keep the flows to them.
    departures: Departures,
    /// When [`Updater::now`] was 0.
    started: Instant,
    sweep: Sweep,
    /// Since when a pass is under way, and how many flows it has removed.
    swept: Option<(Instant, u64)>,
    /// Flows from before the start have not been looked at.
    sweep_after_update: bool,
    /// The journal does not hold what is installed: only writing all of it anew mends that.
    journal_behind: bool,
    control_boot: u64,
    /// When the control file is looked after again.
    next_look: Instant,
    /// Records since the last Begin.
    records: usize,
    /// What a broken or hostile control plane can cause as often as it likes.
    said: Said,
}

/// Log lines that are held back when they come too often.
#[derive(Debug, Default)]
struct Said {
    attached: Quiet,
    bad_record: Quiet,
    bad_ring: Quiet,
    refused: Quiet,
}

impl Updater {
    /// Attaches to the rings and installs what the journal of a region that was taken over holds.
    ///
    /// # Errors
    ///
    /// [`RegionError`] when the region's rings or its journal cannot be used.
    pub fn new(
        region: Arc<Region>,
        mut installed: Installed,
        shared: Arc<Shared>,
        counters: Counters,
    ) -> Result<Self, RegionError> {
        let journal = region.journal()?;
        let restored = restore(&journal, &mut installed);
        match &restored {
            Ok(0) => {}
            Ok(objects) => {
                let generation = installed.snapshot().generation;
                tracing::info!(generation, objects, "services restored from the region");
            }
            Err(error) => {
                tracing::warn!(%error, "the region's journal is not usable: starting with no services");
            }
        }
        let publisher = Publisher::new(installed.snapshot().clone());
        let is_restored = matches!(restored, Ok(objects) if objects > 0);
        let (reported, digest) = (region.installed(), installed.digest());
        let sweep_due = is_restored && reported.is_none_or(|state| state.digest == digest);
        let mut updater = Self {
            commands: region.commands_consumer()?,
            replies: region.replies_producer()?,
            journal,
            assembler: Assembler::new(),
            installed,
            publisher,
            shared,
            counters,
            // An endpoint may have left between the last update and the end of the data plane before;
            // but what is not restored is not known to have left before the first update says so.
            sweep_due,
            departures: Departures::default(),
            started: Instant::now(),
            sweep: Sweep::default(),
            swept: None,
            sweep_after_update: !sweep_due,
            journal_behind: restored.is_err(),
            control_boot: region.control_plane().boot,
            next_look: Instant::now(),
            records: 0,
            said: Said::default(),
            region,
        };
        if sweep_due {
            updater.note_any_departed();
        }
        // What an earlier data plane left unread belongs to an update that it had begun.
        updater.commands.clear();
        updater.report();
        updater.ask_for_replay(Reason::Started);
        Ok(updater)
    }

    /// The workers' way to snapshots.
    #[must_use]
    pub fn publisher(&self) -> &Publisher<Snapshot> {
        &self.publisher
    }

    /// Generation installed now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.installed.snapshot().generation
    }

    /// Number of objects installed now.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.installed.len()
    }

    /// Takes what the command ring holds and does a part of what else there is to do; true if there may be more.
    pub fn poll(&mut self) -> bool {
        self.notice_control_plane();
        let mut taken = 0;
        while taken < RECORDS_A_TURN {
            match self.commands.pop() {
                Ok(Some(record)) => {
                    taken += 1;
                    self.take(&record);
                }
                Ok(None) => break,
                Err(error) => {
                    self.counters.add(Total::BadRings, 1);
                    if let Some(held_back) = self.said.bad_ring.may_say(Instant::now()) {
                        tracing::warn!(%error, held_back, "the command ring is broken: asking for \
                            everything anew");
                    }
                    self.commands.clear();
                    self.ask_for_replay(Reason::BrokenRing);
                    break;
                }
            }
        }
        self.look_after_control();
        let in_use = self.publisher.reap();
        if self.sweep_due && in_use == 0 {
            self.sweep_due = false;
            self.sweep.begin(&self.shared);
        }
        let now = self.now();
        if in_use == 0 && self.departures.is_due(now) {
            self.mark_gone(now);
        }
        self.departures.give(&self.shared, now);
        if self.sweep.is_under_way() {
            self.go_on_sweeping();
        }
        taken > 0 || self.sweep.is_under_way()
    }

    /// A restarted control plane goes on where the ring's cursors stand, but never with the update that
    /// its predecessor had begun.
    fn notice_control_plane(&mut self) {
        let boot = self.region.control_plane().boot;
        if boot != self.control_boot {
            self.control_boot = boot;
            self.assembler.reset();
            if let Some(held_back) = self.said.attached.may_say(Instant::now()) {
                tracing::info!(held_back, "control plane attached");
            }
        }
    }

    /// Goes on with a new control file when somebody has spoilt the old one. If it cannot be had, what is
    /// installed is served, and the next look tries again.
    fn look_after_control(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        if !self.region.control_is_lost() {
            return;
        }
        self.counters.add(Total::BadRings, 1);
        let said = self.said.bad_ring.may_say(Instant::now());
        let renewed = self.region.renew_control().and_then(|()| {
            self.commands = self.region.commands_consumer()?;
            self.commands.clear();
            self.replies = self.region.replies_producer()?;
            self.ask_for_replay(Reason::BrokenRing);
            Ok(())
        });
        match (renewed, said) {
            (Ok(()), Some(held_back)) => {
                tracing::error!(
                    held_back,
                    "the control file was spoilt by somebody who may \
                    write it: made anew; a control plane attaches again by itself"
                );
            }
            (Err(error), Some(held_back)) => {
                tracing::error!(%error, held_back, "the control file was spoilt and cannot be \
                    made anew: no more updates");
            }
            (_, None) => {}
        }
    }

    fn take(&mut self, record: &Record) {
        self.records += 1;
        match self.assembler.push(record) {
            Ok(None) => {}
            Ok(Some(message)) => self.handle(message),
            Err(error) => {
                self.counters.add(Total::BadRecords, 1);
                if let Some(held_back) = self.said.bad_record.may_say(Instant::now()) {
                    tracing::warn!(%error, held_back, "a record is not understood: asking for \
                        everything anew");
                }
                self.ask_for_replay(Reason::BadRecord);
            }
        }
        if self.records > MAX_BANKS * self.journal.capacity() {
            self.give_up_update();
        }
    }

    /// Forgets an update that became too large; its Commit will be refused.
    fn give_up_update(&mut self) {
        self.records = 0;
        self.assembler.reset();
        // A Begin that nobody commits takes the place of what was staged.
        let nothing = Message::Begin {
            boot: 0,
            generation: 0,
            full: false,
        };
        // It cannot fail: a Begin is always taken.
        let _ = self.installed.handle(nothing);
        self.counters.add(Total::UpdatesRefused, 1);
        if let Some(held_back) = self.said.refused.may_say(Instant::now()) {
            let limit = MAX_BANKS * self.journal.capacity();
            tracing::warn!(held_back, limit, "an update of too many records is refused");
        }
    }

    fn handle(&mut self, message: Message) {
        let begun = Instant::now();
        let generation = match &message {
            Message::Commit { generation, .. } => Some(*generation),
            Message::Begin { .. } => {
                self.records = 1;
                None
            }
            _ => None,
        };
        match (self.installed.handle(message), generation) {
            (Ok(Some(installation)), _) => self.publish(&installation, begun),
            (Ok(None), _) => {}
            (Err(reason), Some(generation)) => {
                self.counters.add(Total::UpdatesRefused, 1);
                if let Some(held_back) = self.said.refused.may_say(begun) {
                    tracing::warn!(generation, %reason, held_back, "update refused");
                }
                self.reply(&Reply::Refused { generation, reason });
            }
            // Said once, at the Commit: there is no update to speak of before.
            (Err(_), None) => {}
        }
    }

    fn publish(&mut self, installation: &Installation, begun: Instant) {
        if let Err(error) = self.write_journal(installation) {
            tracing::error!(%error, "the installed state does not fit the region's journal: it \
                             is served, but a restart will need the control plane");
        }
        self.publisher.publish(self.installed.snapshot().clone());
        self.departures.note(&installation.departed, self.now());
        let is_first = std::mem::take(&mut self.sweep_after_update);
        if is_first {
            self.note_any_departed();
        }
        self.sweep_due |= installation.udp_endpoints_left || is_first;
        self.report();
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (generation, digest) = (installation.generation, installation.digest);
        self.reply(&Reply::Committed {
            generation,
            digest,
            nanos,
        });
        tracing::debug!(
            generation,
            changes = installation.changes.len(),
            nanos,
            "update installed"
        );
    }

    fn write_journal(&mut self, installation: &Installation) -> Result<(), JournalError> {
        if self.journal_behind {
            return self.write_whole_journal();
        }
        let mut records = Vec::new();
        for change in &installation.changes {
            encode(change, &mut records);
        }
        encode(&self.commit_record(), &mut records);
        let written = self
            .journal
            .append(&records)
            .and_then(|()| self.journal.commit());
        match written {
            Err(JournalError::Full { .. } | JournalError::Length { .. }) => {
                self.journal.abort();
                self.write_whole_journal()
            }
            other => other,
        }
    }

    fn write_whole_journal(&mut self) -> Result<(), JournalError> {
        // Until it is finished: an update appended to a journal with a hole would be another state.
        self.journal_behind = true;
        let commit = self.commit_record();
        let mut rewrite = self.journal.rewrite()?;
        let mut records = Vec::new();
        for object in self.installed.objects() {
            records.clear();
            encode_object(object, &mut records);
            rewrite.append(&records)?;
        }
        records.clear();
        encode(&commit, &mut records);
        rewrite.append(&records)?;
        rewrite.finish();
        self.journal_behind = false;
        Ok(())
    }

    /// Marks the end of an update in the journal.
    fn commit_record(&self) -> Message {
        Message::Commit {
            boot: self.region.boot(),
            generation: self.installed.snapshot().generation,
            changes: 0,
            digest: self.installed.digest(),
        }
    }

    fn report(&self) {
        let generation = self.installed.snapshot().generation;
        self.region.report(State {
            generation,
            digest: self.installed.digest(),
        });
    }

    fn ask_for_replay(&mut self, reason: Reason) {
        self.assembler.reset();
        self.reply(&Reply::Replay { reason });
    }

    /// A full ring means that nobody reads: a control plane that comes back starts over anyway.
    fn reply(&mut self, reply: &Reply) {
        if self.replies.push_all(&[encode_reply(reply)]) == 0 {
            tracing::debug!(?reply, "nobody reads replies");
        }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Endpoints may have left while no data plane ran, or before the one before could do anything about it.
    fn note_any_departed(&mut self) {
        let any = self.installed.may_have_departed();
        self.departures.note(&any, self.now());
    }

    /// Has the workers reset TCP flows whose endpoint is gone.
    fn mark_gone(&mut self, now: u64) {
        let begun = Instant::now();
        let done = self.departures.mark(&self.shared, &self.installed, now);
        self.counters.add(Total::FlowsRemoved, done.removed);
        if done.marked + done.removed > 0 {
            tracing::info!(
                resetting = done.marked,
                removed = done.removed,
                micros = begun.elapsed().as_micros(),
                "TCP flows to endpoints that left are reset"
            );
        }
    }

    /// Removes UDP flows whose endpoint does not serve any more, in some of the buckets.
    fn go_on_sweeping(&mut self) {
        let (begun, before) = self.swept.take().unwrap_or_else(|| (Instant::now(), 0));
        let removed = self
            .sweep
            .advance(&self.shared, &self.installed, BUCKETS_A_TURN);
        self.counters.add(Total::FlowsRemoved, removed);
        let removed = before + removed;
        if self.sweep.is_under_way() {
            self.swept = Some((begun, removed));
        } else if removed > 0 {
            let micros = begun.elapsed().as_micros();
            tracing::info!(
                removed,
                micros,
                "UDP flows to endpoints that left were removed"
            );
        }
    }
}

/// Why a journal cannot be restored.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Record(#[from] hugepages::RecordError),
    #[error(transparent)]
    State(#[from] Reason),
    #[error("its objects are not those that were committed")]
    Digest,
}

/// Installs the journal's last committed state; returns its number of objects.
fn restore(journal: &Journal, installed: &mut Installed) -> Result<usize, RestoreError> {
    let mut objects: HashMap<ObjectId, Object> = HashMap::new();
    let mut committed = None;
    let mut assembler = Assembler::new();
    for record in journal.replay() {
        match assembler.push(&record?)? {
            Some(Message::Put(object)) => drop(objects.insert(object.id(), object)),
            Some(Message::Delete(id)) => drop(objects.remove(&id)),
            Some(Message::Commit {
                generation, digest, ..
            }) => committed = Some((generation, digest)),
            Some(Message::Begin { .. }) | None => {}
        }
    }
    let count = objects.len();
    if let Some((generation, digest)) = committed {
        if objects.values().collect::<Digest>() != digest {
            return Err(RestoreError::Digest);
        }
        installed.restore(generation, objects.into_values())?;
    }
    Ok(count)
}
