//! One entry of the flow table: its words, and how it is read and written while others do the same.
//!
//! An entry is one cache line for IPv4 and two for IPv6, of 64-bit words:
//!
//! | word | IPv4 | IPv6 | content |
//! |---|---|---|---|
//! | meta | 0 | 0 | second of the first frame (32 bits), sequence number (30), state (2) |
//! | activity | 1 | 1 | second last seen (32 bits), TCP flags seen in this direction (8 bits) |
//! | key | 2–3 | 2–6 | the tuple, [`packet::tuple`], [`Turned`] |
//! | addresses | 4 | 7–10 | source and destination after translation |
//! | ports | 5 | 11 | ports after translation, checksum deltas |
//! | hop | 6 | 12 | [`Hop`]: next hop and service |
//! | peer | 7 | 13 | [`Peer`]: entry of the other direction, which direction this is |
//!
//! Life of an entry, `meta`'s state:
//!
//! | from | to | by | allowed because |
//! |---|---|---|---|
//! | FREE | FILLING | owner of the tag | the tag was claimed by compare-and-swap from 0 |
//! | FILLING | LIVE | the same | all words are written (of both directions: the reply entry first) |
//! | LIVE | FREE | whoever wins a compare-and-swap from the life it has seen | one remover only; it then clears the tag |
//!
//! Which life of an entry is meant is said by its LIVE `meta`: it would be the same again after 2^30 lives that began in
//! one second.
//!
//! Nothing else is allowed; above all a LIVE entry's key and translation never change, so a reader
//! that finds the same LIVE meta before and after its reads has read one entry, not two.

use hugepages::Line;
use hugepages::sync::{AtomicU64, Ordering, fence};

use crate::family::{Family, Turned};

use super::state::RST;

/// Word of `meta`.
pub(crate) const META: usize = 0;
/// Word of `activity`.
pub(crate) const ACTIVITY: usize = 1;
const KEY: usize = 2;

const STATE_MASK: u64 = 3;
const FREE: u64 = 0;
const FILLING: u64 = 1;
const LIVE: u64 = 2;

/// Bits of `meta` that count an entry's lives, and one of them.
const SEQUENCE: u64 = 0xffff_ffff & !STATE_MASK;
const ONE_LIFE: u64 = STATE_MASK + 1;

/// Generation of routes that never is the current one.
pub const NO_ROUTES: u16 = 0;

/// The same, of a flow whose endpoint is gone: see [`Hop::gone`].
const GONE: u16 = 0xfff;

/// Generations of routes: 1 to this.
pub const ROUTE_GENERATIONS: u16 = GONE - 1;

/// Next hop of one direction and where it counts, in one word so that it can be replaced whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hop(pub u64);

impl Hop {
    /// From its parts: slot of the counters ([`crate::endpoints`]), index and generation of the neighbour, and
    /// generation of the routes that led to it.
    #[must_use]
    pub const fn new(slot: u32, neighbour: u16, neighbour_generation: u8, routes: u16) -> Self {
        Self(
            slot as u64
                | ((neighbour as u64 & 0xfff) << 32)
                | ((neighbour_generation as u64) << 44)
                | ((routes as u64 & 0xfff) << 52),
        )
    }

    /// The same next hop for a flow that counts in this slot.
    #[must_use]
    #[inline(always)]
    pub const fn counted_in(self, slot: u32) -> Self {
        Self(self.0 & !0xffff_ffff | slot as u64)
    }

    /// Slot of the counters: an endpoint's, or its service's.
    #[must_use]
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    /// Index of the neighbour (12 bits).
    #[must_use]
    #[inline(always)]
    pub const fn neighbour(self) -> u16 {
        (self.0 >> 32) as u16 & 0xfff
    }

    /// Generation of the neighbour's slot when it was looked up.
    #[must_use]
    #[inline(always)]
    pub const fn neighbour_generation(self) -> u8 {
        (self.0 >> 44) as u8
    }

    /// Generation of the routes (12 bits).
    #[must_use]
    #[inline(always)]
    pub const fn routes(self) -> u16 {
        (self.0 >> 52) as u16
    }

    /// The hop of a flow whose endpoint is gone and that is to be reset: never up to date, so that its frames
    /// leave the fast lane.
    #[must_use]
    pub const fn gone(self) -> Self {
        Self(self.0 | (GONE as u64) << 52)
    }

    /// Whether this is such a hop.
    #[must_use]
    pub const fn is_gone(self) -> bool {
        self.routes() == GONE
    }
}

/// Which direction of a flow an entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    Forward,
    /// From the backend to the client.
    Reply,
}

/// The other direction's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Index of the other entry.
    pub index: u32,
    /// Direction of this entry.
    pub direction: Direction,
}

impl Peer {
    const fn to_word(self) -> u64 {
        self.index as u64 | ((matches!(self.direction, Direction::Reply) as u64) << 32)
    }

    const fn from_word(word: u64) -> Self {
        let direction = if word >> 32 & 1 == 1 {
            Direction::Reply
        } else {
            Direction::Forward
        };
        Self {
            index: word as u32,
            direction,
        }
    }
}

/// What an entry is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Content<F: Family> {
    /// Tuple that frames of this direction carry.
    pub key: F::Key,
    /// What they become.
    pub translation: F::Translation,
    /// Where they go and whom they count for.
    pub hop: Hop,
    /// The other direction.
    pub peer: Peer,
    /// [`activity`] of the first frame (or of none yet).
    pub activity: u64,
}

/// Which life of an entry was seen: its meta word while LIVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life(u64);

impl Life {
    /// As a word, to be handed on.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Second of the first frame.
    #[must_use]
    pub const fn made(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// From such a word. One of nobody's is the life of no entry.
    #[must_use]
    pub const fn of_word(word: u64) -> Self {
        Self(word)
    }
}

/// An entry that is filled and not LIVE yet.
#[derive(Debug)]
#[must_use = "nothing is found in it before it is published"]
pub(crate) struct Filled {
    index: u32,
    /// `meta` without a state.
    life: u64,
}

/// The activity word: second last seen, flags seen.
#[must_use]
#[inline(always)]
pub const fn activity(second: u32, flags: u8) -> u64 {
    ((second as u64) << 32) | flags as u64
}

/// The two parts of an activity word.
#[must_use]
#[inline(always)]
pub const fn activity_parts(word: u64) -> (u32, u8) {
    ((word >> 32) as u32, word as u8)
}

/// The part of `meta` that says when the entry was made, of an activity of its first frame.
const fn made_in(activity: u64) -> u64 {
    activity & !0xffff_ffff
}

/// What a hit needs, copied out of a LIVE entry.
#[derive(Debug, Clone, Copy)]
pub struct Hit<F: Family> {
    /// The entry.
    pub index: u32,
    /// The rewrite.
    pub translation: F::Translation,
    /// Next hop, and where it counts.
    pub hop: Hop,
}

/// A view of the entry array.
#[derive(Clone, Copy)]
pub(crate) struct Entries<'a, F> {
    lines: &'a [Line],
    family: std::marker::PhantomData<F>,
}

impl<'a, F: Family> Entries<'a, F> {
    pub(crate) fn new(lines: &'a [Line]) -> Self {
        Self {
            lines,
            family: std::marker::PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn word(&self, index: u32, word: usize) -> &'a AtomicU64 {
        &self.lines[index as usize * F::LINES + word / 8].0[word % 8]
    }

    /// Asks for one line of an entry.
    #[inline(always)]
    pub(crate) fn prefetch(&self, index: u32, line: usize) {
        intrinsics::prefetch_at(self.lines, index as usize * F::LINES + line);
    }

    /// Copies the entry out if it is LIVE and its key is `key`.
    #[inline(always)]
    pub(crate) fn read(&self, index: u32, key: &Turned<F>) -> Option<Hit<F>> {
        // Acquire meets the Release store of LIVE in `fill`: the words read below are at least as new.
        let meta = self.word(index, META).load(Ordering::Acquire);
        if meta & STATE_MASK != LIVE {
            return None;
        }
        let different = (0..F::KEY_WORDS).fold(0, |different, at| {
            different | (self.word(index, KEY + at).load(Ordering::Relaxed) ^ key.0.as_ref()[at])
        });
        if different != 0 {
            return None;
        }
        let mut addresses = F::Addresses::default();
        for (at, word) in addresses.as_mut().iter_mut().enumerate() {
            *word = self
                .word(index, KEY + F::KEY_WORDS + at)
                .load(Ordering::Relaxed);
        }
        let ports_word = KEY + F::KEY_WORDS + F::ADDRESS_WORDS;
        let ports = self.word(index, ports_word).load(Ordering::Relaxed);
        let hop = self.word(index, ports_word + 1).load(Ordering::Relaxed);
        // Had any of the words above come from a later filling, this fence meets that filling's
        // Release fence and the second load sees its FILLING (or something later).
        fence(Ordering::Acquire);
        if self.word(index, META).load(Ordering::Relaxed) != meta {
            return None;
        }
        Some(Hit {
            index,
            translation: F::load(addresses, ports),
            hop: Hop(hop),
        })
    }

    /// Whether the entry is LIVE and `key`'s, as of one moment; `None` when it is not LIVE.
    pub(crate) fn holds(&self, index: u32, key: &Turned<F>) -> Option<bool> {
        // Orderings as in `read`. One meta for both answers: had the entry become LIVE between two
        // looks, a claim of our own key could be taken for another tuple's.
        let meta = self.word(index, META).load(Ordering::Acquire);
        if meta & STATE_MASK != LIVE {
            return None;
        }
        let same = (0..F::KEY_WORDS)
            .all(|at| self.word(index, KEY + at).load(Ordering::Relaxed) == key.0.as_ref()[at]);
        fence(Ordering::Acquire);
        (self.word(index, META).load(Ordering::Relaxed) == meta).then_some(same)
    }

    /// Copies everything out if the entry is LIVE, with the life that it was read from; for listing,
    /// ageing and removal.
    pub(crate) fn read_all(&self, index: u32) -> Option<(Content<F>, Life)> {
        // Orderings as in `read`.
        let meta = self.word(index, META).load(Ordering::Acquire);
        if meta & STATE_MASK != LIVE {
            return None;
        }
        let mut key = Turned::<F>::default();
        for (at, word) in key.0.as_mut().iter_mut().enumerate() {
            *word = self.word(index, KEY + at).load(Ordering::Relaxed);
        }
        let peer = self.peer(index);
        let activity = self.word(index, ACTIVITY).load(Ordering::Relaxed);
        let hit = self.read(index, &key)?;
        fence(Ordering::Acquire);
        if self.word(index, META).load(Ordering::Relaxed) != meta {
            return None;
        }
        let content = Content {
            key: key.key(),
            translation: hit.translation,
            hop: hit.hop,
            peer,
            activity,
        };
        Some((content, Life(meta)))
    }

    /// Whether the entry still lives the life that was seen.
    pub(crate) fn lives(&self, index: u32, life: Life) -> bool {
        // Acquire meets the Release store of LIVE in `fill`.
        self.word(index, META).load(Ordering::Acquire) == life.0
    }

    /// The protocol of the entry's tuple, as last written.
    pub(crate) fn protocol(&self, index: u32) -> u8 {
        // Relaxed, as in `peer`. The protocol is the last byte of the tuple, [`Turned`] or not.
        self.word(index, KEY + F::KEY_WORDS - 1)
            .load(Ordering::Relaxed) as u8
    }

    /// Whether the entry is LIVE at this moment.
    pub(crate) fn is_live(&self, index: u32) -> bool {
        // Acquire meets the Release store of LIVE in `fill`.
        self.word(index, META).load(Ordering::Acquire) & STATE_MASK == LIVE
    }

    /// The other direction's entry, as last written.
    pub(crate) fn peer(&self, index: u32) -> Peer {
        // Relaxed: callers look at `is_live` first and check what they find against the peer's own.
        Peer::from_word(self.word(index, peer_word::<F>()).load(Ordering::Relaxed))
    }

    /// Fills a FREE entry whose tag the caller has claimed; [`Entries::publish`] makes it LIVE.
    #[inline(always)]
    pub(crate) fn fill(&self, index: u32, content: &Content<F>) -> Filled {
        let meta = self.word(index, META);
        // Only the claimer of the tag writes here, so a plain read of the sequence will do.
        let sequence = meta.load(Ordering::Relaxed).wrapping_add(ONE_LIFE) & SEQUENCE;
        let life = made_in(content.activity) | sequence;
        meta.store(life | FILLING, Ordering::Relaxed);
        // Release meets the Acquire fence in `read`: whoever sees a word below sees FILLING.
        fence(Ordering::Release);
        for (at, word) in Turned::<F>::new(&content.key).0.as_ref().iter().enumerate() {
            self.word(index, KEY + at).store(*word, Ordering::Relaxed);
        }
        let (addresses, ports) = F::store(&content.translation);
        for (at, word) in addresses.as_ref().iter().enumerate() {
            self.word(index, KEY + F::KEY_WORDS + at)
                .store(*word, Ordering::Relaxed);
        }
        let ports_word = KEY + F::KEY_WORDS + F::ADDRESS_WORDS;
        self.word(index, ports_word).store(ports, Ordering::Relaxed);
        self.word(index, ports_word + 1)
            .store(content.hop.0, Ordering::Relaxed);
        self.word(index, ports_word + 2)
            .store(content.peer.to_word(), Ordering::Relaxed);
        self.word(index, ACTIVITY)
            .store(content.activity, Ordering::Relaxed);
        Filled { index, life }
    }

    /// Makes an entry that was filled LIVE; returns its life.
    #[inline(always)]
    pub(crate) fn publish(&self, filled: Filled) -> Life {
        let live = filled.life | LIVE;
        // Release meets the Acquire load in `read`: LIVE is seen after everything that `fill` has written.
        self.word(filled.index, META).store(live, Ordering::Release);
        Life(live)
    }

    /// Takes an entry out of use if it still lives the life that was seen; true for exactly one
    /// caller. The entry ends FREE; its tag is still to be cleared.
    pub(crate) fn kill(&self, index: u32, life: Life) -> bool {
        // AcqRel: Acquire meets the Release store of LIVE, so that what the winner reads next
        // belongs to this life of the entry; Release so that its earlier reads do not sink below.
        self.word(index, META)
            .compare_exchange(
                life.0,
                life.0 & !STATE_MASK | FREE,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// The life that the entry lives now, if it is LIVE and the other direction of `peer`.
    pub(crate) fn life_with(&self, index: u32, peer: Peer) -> Option<Life> {
        // Orderings as in `read`.
        let meta = self.word(index, META).load(Ordering::Acquire);
        let is_peer = self.peer(index) == peer;
        fence(Ordering::Acquire);
        let same = self.word(index, META).load(Ordering::Relaxed) == meta;
        (meta & STATE_MASK == LIVE && is_peer && same).then_some(Life(meta))
    }

    /// After a crash: makes an entry that is not LIVE FREE. Only while nobody else uses the table.
    pub(crate) fn recover(&self, index: u32) -> bool {
        let meta = self.word(index, META);
        let seen = meta.load(Ordering::Relaxed);
        if seen & STATE_MASK == LIVE {
            return true;
        }
        meta.store(seen & !STATE_MASK | FREE, Ordering::Relaxed);
        false
    }

    /// Notes that a frame was seen now, with these TCP flags.
    ///
    /// In the steady state this is one load: the word changes once a second and when a new
    /// flag appears.
    #[inline(always)]
    pub(crate) fn touch(&self, index: u32, second: u32, flags: u8) {
        let word = self.word(index, ACTIVITY);
        // Relaxed: the word stands alone; nothing else is concluded from it.
        let seen = word.load(Ordering::Relaxed);
        // Seen in this second with these flags, and no reset: one that is followed by other frames of its
        // direction was none: forged, or refused.
        let now = activity(second, flags);
        if seen & (activity(u32::MAX, RST) | now) != now {
            touch_changed(word, seen, activity(second, seen as u8 & !RST | flags));
        }
    }

    /// Second last seen and flags seen.
    pub(crate) fn activity(&self, index: u32) -> (u32, u8) {
        activity_parts(self.word(index, ACTIVITY).load(Ordering::Relaxed))
    }

    /// Replaces the next hop of an entry, if it is still the one that was read: in another life of the
    /// entry it would be another flow's.
    pub(crate) fn set_hop(&self, index: u32, old: Hop, new: Hop) {
        let word = KEY + F::KEY_WORDS + F::ADDRESS_WORDS + 1;
        // Relaxed: a reader gets the old or the new word, both whole; a stale one is found out by
        // its generations. A failed exchange leaves the newer word.
        let _ = self.word(index, word).compare_exchange(
            old.0,
            new.0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The next hop, as last written.
    pub(crate) fn hop(&self, index: u32) -> Hop {
        // Relaxed, as in `set_hop`.
        let word = self.word(index, KEY + F::KEY_WORDS + F::ADDRESS_WORDS + 1);
        Hop(word.load(Ordering::Relaxed))
    }

    /// Marks the entry as one of a flow whose endpoint is gone; returns the hop that it had.
    pub(crate) fn mark_gone(&self, index: u32) -> Hop {
        let word = self.word(index, KEY + F::KEY_WORDS + F::ADDRESS_WORDS + 1);
        // Relaxed, as in `set_hop`: whose exchange comes second fails, and finds the mark here.
        Hop(word.fetch_or(u64::from(GONE) << 52, Ordering::Relaxed))
    }

    /// Makes the next hop count as out of date. Only while nobody else uses the table.
    pub(crate) fn forget_hop(&self, index: u32) {
        let word = self.word(index, KEY + F::KEY_WORDS + F::ADDRESS_WORDS + 1);
        let hop = Hop(word.load(Ordering::Relaxed));
        if hop.is_gone() {
            return;
        }
        let stale = Hop::new(
            hop.slot(),
            hop.neighbour(),
            hop.neighbour_generation(),
            NO_ROUTES,
        );
        word.store(stale.0, Ordering::Relaxed);
    }
}

const fn peer_word<F: Family>() -> usize {
    KEY + F::KEY_WORDS + F::ADDRESS_WORDS + 2
}

/// A compare-and-swap, so that two workers carrying the same direction lose no flag.
#[cold]
fn touch_changed(word: &AtomicU64, mut seen: u64, mut now: u64) {
    while let Err(other) =
        word.compare_exchange_weak(seen, now, Ordering::Relaxed, Ordering::Relaxed)
    {
        let second = (other >> 32).max(now >> 32);
        now = (second << 32) | (other | now) & 0xff;
        if other == now {
            return;
        }
        seen = other;
    }
}
