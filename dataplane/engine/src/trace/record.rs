//! What is seen of one frame.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// In place of a worker's number: the main core, which serves the host's kernel.
pub const MAIN_CORE: u16 = u16::MAX;

/// Steps that a record has room for.
pub const STEPS: usize = 24;

/// Frames that a record has room for: what a frame became.
const OUTS: usize = 4;

/// A frame's way. Made once with room for everything, so that a worker that fills it in allocates nothing.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// The worker that had it, or [`MAIN_CORE`].
    pub worker: u16,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub nanos: u64,
    /// The link that it came in by; `None` if it had been put aside before, or begins here.
    pub input: Option<u8>,
    /// As it came; one that had been put aside, as it was then.
    pub frame: Image,
    /// What happened to it, in order.
    pub steps: Vec<Step>,
    /// What was put out for it.
    pub out: Vec<Out>,
}

/// Bytes of a frame.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Image {
    /// Its length in bytes, Ethernet header included.
    pub len: u32,
    /// Its first bytes.
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

/// A frame that was put into the output of a link.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Out {
    /// The link.
    pub link: u8,
    /// As it leaves.
    pub frame: Image,
    /// Whether another worker sends it.
    pub handed_over: bool,
    /// Whether it was dropped after all.
    pub refused: bool,
    /// Where its bytes lie, to know it again.
    #[serde(skip)]
    pub(super) place: usize,
}

/// One stage, and what was decided there.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Step {
    /// It had been put aside, and is taken up again.
    Resumed,
    /// The parser knows it.
    Parsed {
        /// What it is.
        kind: Cow<'static, str>,
    },
    /// It belongs to a flow.
    Found {
        /// The flow's state before it.
        state: Cow<'static, str>,
        /// Slot of the service's counters.
        slot: u32,
        /// Whether it goes from the client to the backend.
        forward: bool,
    },
    /// It belongs to no flow, and a frontend decided, or none.
    Decided {
        /// `translate`, `reject`, `drop` or `pass`.
        verdict: Cow<'static, str>,
        /// Reason, unless it is translated.
        reason: Option<Cow<'static, str>>,
        /// Address of the frontend.
        frontend: Option<SocketAddr>,
        /// Its type: `clusterip`, `nodeport`, `loadbalancer` or `externalip`.
        kind: Option<Cow<'static, str>>,
        /// Slot of the service's counters.
        slot: u32,
        /// What kind of source the client is: `pod`, `node` or `outside`.
        client: Cow<'static, str>,
        /// Backends to choose from.
        backends: usize,
        /// Whether the frontend masquerades.
        masquerade: bool,
    },
    /// Addresses and ports are rewritten.
    Translated {
        /// Source before.
        from: SocketAddr,
        /// Destination before.
        to: SocketAddr,
        /// Source after.
        new_from: SocketAddr,
        /// Destination after.
        new_to: SocketAddr,
    },
    /// Where it goes next.
    NextHop {
        /// Link.
        link: u8,
        /// Address of the neighbour.
        address: IpAddr,
    },
    /// It is put aside.
    Waits {
        /// For what.
        what: Cow<'static, str>,
    },
    /// It was turned into an answer to its sender.
    Answered,
    /// It was given to the host's kernel.
    ToHost,
    /// It did not come in by a link: it begins here.
    Own {
        /// What it is.
        what: Cow<'static, str>,
    },
    /// It was dropped.
    Dropped {
        /// Name of the reason.
        reason: Cow<'static, str>,
    },
}

impl Record {
    /// An empty record with room for frames of `bytes` bytes.
    #[must_use]
    pub fn with_room(bytes: u16) -> Self {
        let image = || Image {
            len: 0,
            bytes: Vec::with_capacity(bytes.into()),
        };
        let out = || Out {
            link: 0,
            frame: image(),
            handed_over: false,
            refused: false,
            place: 0,
        };
        let mut record = Self {
            worker: 0,
            nanos: 0,
            input: None,
            frame: image(),
            steps: Vec::with_capacity(STEPS),
            out: (0..OUTS).map(|_| out()).collect(),
        };
        record.clear();
        record
    }

    /// Empties it; the room stays.
    pub fn clear(&mut self) {
        self.steps.clear();
        for out in &mut self.out {
            out.place = FREE;
        }
    }

    /// Leaves out what was not filled in: it is to be sent.
    pub fn trim(&mut self) {
        self.out.retain(|out| out.place != FREE);
    }

    /// The reason that it was dropped for; frames of it that a device refused count.
    #[must_use]
    pub fn dropped(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Dropped { reason } => Some(&**reason),
            _ => None,
        })
    }

    pub(super) fn note(&mut self, step: Step) {
        if self.steps.len() < self.steps.capacity() {
            self.steps.push(step);
        }
    }

    /// What was put out so far.
    pub(super) fn outs(&mut self) -> impl DoubleEndedIterator<Item = &mut Out> {
        self.out.iter_mut().filter(|out| out.place != FREE)
    }

    pub(super) fn add_out(&mut self, link: usize, bytes: &[u8]) {
        if let Some(out) = self.out.iter_mut().find(|out| out.place == FREE) {
            out.link = link as u8;
            out.handed_over = false;
            out.refused = false;
            out.place = bytes.as_ptr().addr();
            out.frame.fill(bytes);
        }
    }
}

/// Place of an [`Out`] that is not filled in.
const FREE: usize = 0;

impl Image {
    /// Takes as many of the bytes as there is room for.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        self.len = bytes.len() as u32;
        self.bytes.clear();
        let kept = bytes.len().min(self.bytes.capacity());
        self.bytes.extend_from_slice(&bytes[..kept]);
    }
}

/// Bytes as text.
mod hex {
    use std::fmt::Write;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        out.serialize_str(&text)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes
            .filter(|_| rest.is_empty())
            .ok_or_else(|| Error::custom("not hexadecimal"))
    }
}
