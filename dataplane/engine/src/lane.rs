//! What is known of the frames of a burst between the stages of the pipeline.

use packet::BURST;
use packet::parse::Parsed;
use packet::plain::Start;

use crate::family::{Family, Turned, V4, V6};
use crate::flow::{FlowTable, Place};
use crate::reason::Reason;
use crate::shared::Shared;
use crate::topology::LinkConfig;

/// Working memory of a burst. Kept between bursts: to clear it would cost more than to fill it.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) lanes: [Lane; BURST],
    /// Where a translated frame leaves; [`UNUSUAL`] for all others.
    pub(crate) links: [u8; BURST],
    /// Bytes of the whole burst.
    pub(crate) bytes: u64,
    pub(crate) plain4: [Quick<V4>; BURST],
    pub(crate) plain6: [Quick<V6>; BURST],
    pub(crate) reasons: [Reason; BURST],
    pub(crate) v4: [Work<V4>; BURST],
    pub(crate) v6: [Work<V6>; BURST],
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            lanes: [Lane::Local; BURST],
            links: [UNUSUAL; BURST],
            bytes: 0,
            plain4: [Quick::default(); BURST],
            plain6: [Quick::default(); BURST],
            reasons: [Reason::NotOurs; BURST],
            v4: [Work::default(); BURST],
            v6: [Work::default(); BURST],
        }
    }
}

/// How plain frames that come in by a link start, over IPv4 and over IPv6.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starts {
    v4: Start,
    v6: Start,
}

impl Starts {
    /// Frames of a link with a VLAN are tagged, hence not plain.
    pub(crate) fn new(link: &LinkConfig) -> Self {
        if link.vlan.is_some() {
            return Self {
                v4: Start::NONE,
                v6: Start::NONE,
            };
        }
        Self {
            v4: Start::v4(link.mac),
            v6: Start::v6(link.mac),
        }
    }
}

/// The link of a frame that the fast lane has left alone.
pub(crate) const UNUSUAL: u8 = u8::MAX;

/// Where a frame goes after parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lane {
    /// A plain frame of IPv4; see [`packet::plain`].
    Plain4,
    /// A plain frame of IPv6.
    Plain6,
    /// Any other frame of IPv4 that may belong to a flow.
    V4,
    /// Any other frame of IPv6.
    V6,
    /// ARP, neighbour discovery, ICMP.
    Local,
    /// A fragment of either family.
    Fragment,
    /// To be dropped, for its reason in `reasons`.
    Drop,
    /// Not known yet.
    Unknown,
}

impl Lane {
    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain4 => "plain IPv4",
            Self::Plain6 => "plain IPv6",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
            Self::Local => "ARP or ICMP",
            Self::Fragment => "fragment",
            Self::Drop | Self::Unknown => "refused",
        }
    }
}

/// What stage 2 has found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    /// Plain frames.
    pub(crate) plain: usize,
    /// Whether any of them has a SYN.
    pub(crate) has_syn: bool,
    /// All others.
    pub(crate) others: usize,
}

/// A plain frame between stages. The default stands for all others: it is looked up like a plain one, which
/// costs less than to ask, and not found. Nor are frames with a SYN, whose tuples are marked: they go on alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quick<F: Family> {
    pub(crate) key: Turned<F>,
    /// Bucket, then entry.
    pub(crate) index: u32,
    pub(crate) tag: u32,
}

/// Any frame that may belong to a flow, between stages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<F: Family> {
    pub(crate) parsed: Parsed,
    pub(crate) key: F::Key,
    pub(crate) place: Place,
    pub(crate) candidate: u32,
}

impl<F: Family> Default for Work<F> {
    fn default() -> Self {
        Self {
            parsed: Parsed::default(),
            key: F::Key::default(),
            place: Place::default(),
            candidate: 0,
        }
    }
}

impl<F: Family> Default for Quick<F> {
    fn default() -> Self {
        Self {
            key: Turned::default(),
            index: 0,
            tag: 0,
        }
    }
}

/// A burst's frames of one family.
pub(crate) struct Frames<'a, F: Family> {
    pub(crate) lanes: &'a mut [Lane; BURST],
    pub(crate) links: &'a mut [u8; BURST],
    pub(crate) quick: &'a mut [Quick<F>; BURST],
}

/// A family whose table and working memory the pipeline can find.
pub(crate) trait Tabled: Family {
    /// Lane of its plain frames.
    const PLAIN: Lane;

    fn table(shared: &Shared) -> &FlowTable<Self>;

    fn frames(scratch: &mut Scratch) -> Frames<'_, Self>;

    /// How its plain frames start that come in by this link.
    fn start(starts: &[Starts], link: usize) -> &Start;
}

impl Tabled for V4 {
    const PLAIN: Lane = Lane::Plain4;

    #[inline(always)]
    fn table(shared: &Shared) -> &FlowTable<Self> {
        &shared.v4
    }

    #[inline(always)]
    fn frames(scratch: &mut Scratch) -> Frames<'_, Self> {
        Frames {
            lanes: &mut scratch.lanes,
            links: &mut scratch.links,
            quick: &mut scratch.plain4,
        }
    }

    #[inline(always)]
    fn start(starts: &[Starts], link: usize) -> &Start {
        starts.get(link).map_or(&Start::NONE, |starts| &starts.v4)
    }
}

impl Tabled for V6 {
    const PLAIN: Lane = Lane::Plain6;

    #[inline(always)]
    fn table(shared: &Shared) -> &FlowTable<Self> {
        &shared.v6
    }

    #[inline(always)]
    fn frames(scratch: &mut Scratch) -> Frames<'_, Self> {
        Frames {
            lanes: &mut scratch.lanes,
            links: &mut scratch.links,
            quick: &mut scratch.plain6,
        }
    }

    #[inline(always)]
    fn start(starts: &[Starts], link: usize) -> &Start {
        starts.get(link).map_or(&Start::NONE, |starts| &starts.v6)
    }
}
