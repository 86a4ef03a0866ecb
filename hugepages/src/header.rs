//! The first 4096 bytes of both files: who made them, for what, and who is alive.
//!
//! # Byte layout
//!
//! Words of 64 bits in host byte order. In the data file:
//!
//! | line | word | written by | meaning |
//! |-----:|-----:|------------|---------|
//! | 0 | 0 | creator, last | [`MAGIC`] |
//! | 0 | 1 | creator | [`VERSION`] |
//! | 0 | 2 | creator | digest of the layout |
//! | 0 | 3 | creator | size of the data file in bytes |
//! | 0 | 4 | creator | id of the region, random |
//! | 0 | 5, 6 | creator | seeds of keyed hashes, random |
//! | 0 | 7 | creator | time of creation, nanoseconds since 1970 |
//! | 1 | 0–7 | creator | [`Geometry`], a field a word in its order |
//! | 2 | 0–2 | data plane | boot id, process id, heartbeat (nanoseconds, CLOCK_MONOTONIC) |
//! | 4 | 0–3 | data plane | [`State`] installed: sequence, generation, digest (two words) |
//!
//! In the control file:
//!
//! | line | word | written by | meaning |
//! |-----:|-----:|------------|---------|
//! | 0 | 0 | creator | [`CONTROL_MAGIC`] |
//! | 0 | 1 | creator | [`VERSION`] |
//! | 0 | 2 | creator | id of the region that it belongs to |
//! | 3 | 0–2 | control plane | boot id, process id, heartbeat |
//! | 5 | 0–3 | control plane | [`State`] wanted |
//!
//! All other words are zero. The creator of both is the data plane. What it writes in the data file
//! never changes afterwards; the control file may be written by whoever may write the file, so
//! nothing in it is believed. The states are sequence-locked, because a generation and its digest
//! only mean something together.

use crate::digest::Digest;
use crate::layout::{Geometry, Layout};
use crate::seqlock;
use crate::slab::{Line, Slab};
use crate::sync::{AtomicU64, Ordering};

/// First word of a region: "PORTGATE" in ASCII, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"PORTGATE");

/// First word of a control file: "PORTCTRL" in ASCII, read as a little-endian number.
pub const CONTROL_MAGIC: u64 = u64::from_le_bytes(*b"PORTCTRL");

/// Version of the layout of headers, rings, journal and link lines.
pub const VERSION: u64 = 2;

/// Words of the data file's header that the creator writes.
pub(crate) const FIXED: usize = 16;

/// Words of the control file's header that the creator writes, for the region with this id.
pub(crate) const fn control_words(region: u64) -> [u64; 3] {
    [CONTROL_MAGIC, VERSION, region]
}

/// What is wrong with a file that should be a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file is too small for a header.
    #[error("it has {size} bytes, too few for a region")]
    TooSmall {
        /// Size of the file in bytes.
        size: u64,
    },
    /// The first word is another.
    #[error("it is no region: its first word is {found:#018x}")]
    Magic {
        /// The word.
        found: u64,
    },
    /// The region is of another version.
    #[error("it is a region of version {found}, this program speaks version {VERSION}")]
    Version {
        /// Version of the region.
        found: u64,
    },
    /// The geometry in the header is impossible.
    #[error("its header is broken: a region must have {0}")]
    Geometry(&'static str),
    /// The layout is another than this program would make for the same geometry.
    #[error("its layout has the digest {found:016x}, this program lays it out as {wanted:016x}")]
    Layout {
        /// Digest in the header.
        found: u64,
        /// Digest that this program computes.
        wanted: u64,
    },
    /// The region is whole but made for another geometry.
    #[error("it was made for another number of workers, links, services or flows")]
    OtherGeometry,
    /// The control file beside it belongs to another region, or is none.
    #[error("the control file beside it is not its own: a data plane has yet to make it anew")]
    Control,
    /// The file is not as large as its header says.
    #[error("it has {size} bytes and should have {wanted}")]
    Size {
        /// Size of the file in bytes.
        size: u64,
        /// Size that the header and the geometry demand.
        wanted: u64,
    },
}

/// What the creator wrote: constant for the life of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Random number that names the region.
    pub id: u64,
    /// Seeds of keyed hashes.
    pub seeds: [u64; 2],
    /// Time of creation, nanoseconds since 1970.
    pub created: u64,
    /// What it was made for.
    pub geometry: Geometry,
}

impl Identity {
    /// The words of a header with this identity.
    pub(crate) fn to_words(self, layout: &Layout) -> [u64; FIXED] {
        let geometry = self.geometry;
        [
            MAGIC,
            VERSION,
            layout.digest(),
            layout.total() as u64,
            self.id,
            self.seeds[0],
            self.seeds[1],
            self.created,
            u64::from(geometry.workers),
            u64::from(geometry.command_records),
            u64::from(geometry.reply_records),
            u64::from(geometry.journal_records),
            u64::from(geometry.service_slots),
            u64::from(geometry.links),
            u64::from(geometry.flows),
            u64::from(geometry.flows_v6),
        ]
    }

    /// The identity in these words of a file of `size` bytes, and the layout that follows from it.
    pub(crate) fn from_words(words: &[u64; FIXED], size: u64) -> Result<(Self, Layout), Flaw> {
        let &[
            magic,
            version,
            digest,
            total,
            id,
            seed0,
            seed1,
            created,
            ref rest @ ..,
        ] = words;
        if magic != MAGIC {
            return Err(Flaw::Magic { found: magic });
        }
        if version != VERSION {
            return Err(Flaw::Version { found: version });
        }
        let geometry = geometry(rest).ok_or(Flaw::Geometry("numbers in their range"))?;
        let layout = Layout::new(&geometry).map_err(Flaw::Geometry)?;
        if layout.digest() != digest {
            return Err(Flaw::Layout {
                found: digest,
                wanted: layout.digest(),
            });
        }
        let wanted = total.max(layout.total() as u64);
        if size < wanted {
            return Err(Flaw::Size { size, wanted });
        }
        let identity = Self {
            id,
            seeds: [seed0, seed1],
            created,
            geometry,
        };
        Ok((identity, layout))
    }
}

fn geometry(words: &[u64; 8]) -> Option<Geometry> {
    let narrow = |index: usize| u16::try_from(words[index]).ok();
    let wide = |index: usize| u32::try_from(words[index]).ok();
    Some(Geometry {
        workers: narrow(0)?,
        command_records: wide(1)?,
        reply_records: wide(2)?,
        journal_records: wide(3)?,
        service_slots: wide(4)?,
        links: narrow(5)?,
        flows: wide(6)?,
        flows_v6: wide(7)?,
    })
}

/// One of the two processes, as the header shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Random number of this start of the process; 0 = none ever came.
    pub boot: u64,
    /// Process id, in its own PID namespace.
    pub pid: u32,
    /// Last sign of life: nanoseconds of CLOCK_MONOTONIC.
    pub heartbeat: u64,
}

/// A state of all objects: which, and a digest of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Number of the update that led to it; 0 = none yet.
    pub generation: u64,
    /// Digest of its objects.
    pub digest: Digest,
}

/// The part of both headers that changes.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    data: Slab<Line>,
    control: Slab<Line>,
}

/// Which line is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    DataPlane,
    ControlPlane,
}

impl Header {
    /// Headers of the data file and of the control file.
    pub(crate) fn new(data: Slab<Line>, control: Slab<Line>) -> Self {
        Self { data, control }
    }

    pub(crate) fn process(&self, side: Side) -> Process {
        // Relaxed: the words are news for people and time-outs; nothing else depends on them.
        let word = |index: usize| self.process_line(side)[index].load(Ordering::Relaxed);
        Process {
            boot: word(0),
            pid: word(1) as u32,
            heartbeat: word(2),
        }
    }

    pub(crate) fn set_process(&self, side: Side, process: Process) {
        let values = [process.boot, u64::from(process.pid), process.heartbeat];
        for (word, value) in self.process_line(side).iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn beat(&self, side: Side, now: u64) {
        self.process_line(side)[2].store(now, Ordering::Relaxed);
    }

    /// The state that this side reports; `None` while its writer is dead in the middle of it.
    pub(crate) fn state(&self, side: Side) -> Option<State> {
        let [generation, low, high] = seqlock::read(self.state_line(side))?;
        Some(State {
            generation,
            digest: Digest::from_words([low, high]),
        })
    }

    pub(crate) fn set_state(&self, side: Side, state: State) {
        let [low, high] = state.digest.to_words();
        seqlock::write(self.state_line(side), [state.generation, low, high]);
    }

    fn process_line(&self, side: Side) -> &[AtomicU64; 8] {
        &self.lines(side)[2 + side as usize].0
    }

    fn state_line(&self, side: Side) -> &[AtomicU64] {
        &self.lines(side)[4 + side as usize].0
    }

    fn lines(&self, side: Side) -> &[Line] {
        match side {
            Side::DataPlane => &self.data,
            Side::ControlPlane => &self.control,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn identity() -> (Identity, Layout) {
        let geometry = Geometry::new(2, 2, 4096, 1024);
        let identity = Identity {
            id: 1,
            seeds: [2, 3],
            created: 4,
            geometry,
        };
        (identity, Layout::new(&geometry).unwrap())
    }

    #[test]
    fn an_identity_survives_its_words() {
        let (identity, layout) = identity();
        let words = identity.to_words(&layout);
        let size = layout.total() as u64;
        assert_eq!(Identity::from_words(&words, size), Ok((identity, layout)));
    }

    #[test]
    fn every_wrong_word_is_noticed() {
        let (identity, layout) = identity();
        let size = layout.total() as u64;
        let flaw = |index: usize, value: u64| {
            let mut words = identity.to_words(&layout);
            words[index] = value;
            Identity::from_words(&words, size).unwrap_err()
        };
        assert_eq!(flaw(0, 7), Flaw::Magic { found: 7 });
        assert_eq!(flaw(1, 1), Flaw::Version { found: 1 });
        assert!(matches!(flaw(2, 0), Flaw::Layout { found: 0, .. }));
        assert_eq!(
            flaw(3, size + 1),
            Flaw::Size {
                size,
                wanted: size + 1
            }
        );
        assert!(matches!(flaw(8, 1), Flaw::Layout { .. }));
        assert!(matches!(flaw(8, 0), Flaw::Geometry("1 to 64 workers")));
        assert!(matches!(flaw(8, 1 << 16), Flaw::Geometry(_)));
        assert!(matches!(flaw(14, u64::MAX), Flaw::Geometry(_)));
        let words = identity.to_words(&layout);
        assert_eq!(
            Identity::from_words(&words, size - 1),
            Err(Flaw::Size {
                size: size - 1,
                wanted: size
            })
        );
    }

    #[test]
    fn the_two_sides_have_lines_of_their_own() {
        let lines = || Slab::heap(crate::layout::HEADER_LINES);
        let header = Header::new(lines(), lines());
        let process = Process {
            boot: 1,
            pid: 2,
            heartbeat: 3,
        };
        let state = State {
            generation: 4,
            digest: Digest::from_words([5, 6]),
        };
        header.set_process(Side::ControlPlane, process);
        header.set_state(Side::DataPlane, state);
        header.beat(Side::ControlPlane, 9);
        assert_eq!(
            header.process(Side::ControlPlane),
            Process {
                heartbeat: 9,
                ..process
            }
        );
        assert_eq!(header.process(Side::DataPlane).boot, 0);
        assert_eq!(header.state(Side::DataPlane), Some(state));
        assert_eq!(header.state(Side::ControlPlane), Some(State::default()));
    }
}
