//! The fixed-size unit in which commands and replies travel and the journal stores them.
//!
//! # Byte layout
//!
//! 128 bytes, integers in host byte order (both processes run on one machine), no padding; every
//! byte that a kind does not use is zero.
//!
//! | offset | size | field | meaning |
//! |-------:|-----:|-------|---------|
//! | 0 | 2 | kind | see [`RecordKind`] |
//! | 2 | 2 | version | [`VERSION`] |
//! | 4 | 2 | part | number of this record inside its message, from 0 |
//! | 6 | 2 | parts | number of records of the message, at least 1 |
//! | 8 | 8 | key | key of the object; 0 when the message is about no object |
//! | 16 | 4 | count | elements of the whole object: members, prefixes, bytes of text; else 0 |
//! | 20 | 4 | reserved | 0 |
//! | 24 | 104 | body | by kind, below |
//!
//! | kind | body, offset from its start: size field |
//! |------|------|
//! | Begin | 0: 8 boot · 8: 8 generation · 16: 1 full (0, 1) |
//! | Commit | 0: 8 boot · 8: 8 generation · 16: 8 changes · 24: 16 digest, low word first |
//! | Delete | 0: 1 object kind; the key is in the header |
//! | Service | 0: 8 serving · 8: 4 drain seconds · 12: 2 length of name · 14: 1 protocol · 15: 1 policy · 16: 88 text; further parts: 104 text (name, then port name) |
//! | BackendSet | five times 20: 16 address, 1 family (4, 6; 0 = unused), 1 zero, 2 port |
//! | Ranges | five times 20: 16 address, 1 family (4, 6; 0 = unused), 1 length, 2 zero |
//! | Frontend | 0: 16 address · 16: 1 family · 17: 1 protocol · 18: 2 port · 20: 1 kind · 24: 8 service · 32: 8 ranges · 40: 4 affinity seconds · 48: three times 16: 8 set, 1 what (1 translate, 2 reject, 3 drop), 1 masquerade or why |
//! | Network | 0: 16 address · 16: 1 family · 17: 1 length · 18: 1 role |
//! | Route | 0: 16 address · 16: 1 family · 17: 1 length · 24: 16 next hop |
//! | Committed | 0: 8 generation · 8: 8 nanoseconds · 16: 16 digest, low word first |
//! | Refused | 0: 8 generation · 8: 1 reason |
//! | Replay | 0: 8 generation (0) · 8: 1 reason |
//!
//! Addresses are in network byte order; an IPv4 address is in the first four of the 16 bytes.

mod body;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::object::Kind;

pub(crate) use self::body::*;

/// Version of this format; a record of another version is refused.
pub const VERSION: u16 = 1;

/// Bytes of a record that depend on its kind.
pub const BODY: usize = 104;

/// Members of a backend set, or prefixes of a list of ranges, that one record holds.
pub const SLOTS: usize = 5;

/// Most members of a backend set, and most prefixes of a list of ranges.
pub const MAX_MEMBERS: usize = 131_072;

/// Longest `namespace/name` of a service in bytes.
pub const MAX_NAME: usize = 255;

/// Longest name of a service port in bytes.
pub const MAX_PORT_NAME: usize = 63;

/// 128 bytes: see the module's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// Number of a [`RecordKind`].
    pub kind: u16,
    /// [`VERSION`].
    pub version: u16,
    /// Number of this record inside its message.
    pub part: u16,
    /// Number of records of the message.
    pub parts: u16,
    /// Key of the object or 0.
    pub key: u64,
    /// Elements of the whole object.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// What the kind says.
    pub body: [u8; BODY],
}

const _: () = assert!(size_of::<Record>() == 128 && align_of::<Record>() == 8);

/// 64-bit words of a record, as rings and journal hold it.
pub const WORDS: usize = size_of::<Record>() / size_of::<u64>();

impl Record {
    /// The record as words.
    #[must_use]
    pub fn to_words(self) -> [u64; WORDS] {
        zerocopy::transmute!(self)
    }

    /// The record of these words; any words make one, [`crate::codec`] judges it.
    #[must_use]
    pub fn from_words(words: [u64; WORDS]) -> Self {
        zerocopy::transmute!(words)
    }
}

/// What a record is. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Start of an update.
    Begin,
    /// End of an update: make it the installed state.
    Commit,
    /// Remove an object.
    Delete,
    /// Add or replace an object of this kind.
    Put(Kind),
    /// Reply: the update is installed.
    Committed,
    /// Reply: the update is not installed.
    Refused,
    /// Reply: send everything again.
    Replay,
}

/// Number of a Put is this plus the number of the object's kind.
const PUT: u16 = 0x100;

impl RecordKind {
    /// Its number in the record.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Begin => 1,
            Self::Commit => 2,
            Self::Delete => 3,
            Self::Put(kind) => PUT + kind as u16,
            Self::Committed => 0x201,
            Self::Refused => 0x202,
            Self::Replay => 0x203,
        }
    }

    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Begin),
            2 => Some(Self::Commit),
            3 => Some(Self::Delete),
            0x101..=0x1ff => match Kind::from_u8((number - PUT) as u8) {
                Some(kind) => Some(Self::Put(kind)),
                None => None,
            },
            0x201 => Some(Self::Committed),
            0x202 => Some(Self::Refused),
            0x203 => Some(Self::Replay),
            _ => None,
        }
    }
}

/// Why a record, or the object made of several, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)] // The sentences are the documentation.
pub enum RecordError {
    #[error("the record is of a version that this program does not speak")]
    Version,
    #[error("the record is of no known kind, or of a kind that does not belong here")]
    Kind,
    #[error("the number of parts does not fit the kind and its count")]
    Parts,
    #[error("a part is out of order or belongs to another message")]
    Part,
    #[error("another message began before all parts of the last one had come")]
    Interrupted,
    #[error("the count of elements is zero or too large")]
    Count,
    #[error("the key is not the key of the content, or none where one must be")]
    Key,
    #[error("the protocol is unknown or not possible here")]
    Protocol,
    #[error("the address family is neither 4 nor 6")]
    Family,
    #[error("the prefix length is too large for the address family")]
    PrefixLength,
    #[error("the prefix has host bits set")]
    HostBits,
    #[error("the port is zero where one must be, or the other way round")]
    Port,
    #[error("the text is empty, too long or not UTF-8")]
    Text,
    #[error("the action is unknown")]
    Action,
    #[error("the kind of frontend is unknown")]
    FrontendKind,
    #[error("the role of the network is unknown")]
    Role,
    #[error("the policy for flows without endpoint is unknown")]
    Policy,
    #[error("the next hop is of another address family than the destination")]
    NextHop,
    #[error("the reason is unknown")]
    Reason,
    #[error("bytes that mean nothing are not zero, or elements are not sorted or come twice")]
    NotCanonical,
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_record() {
        let record = record(RecordKind::Put(Kind::Route), 7, &[9u8; BODY]);
        let words = record.to_words();
        assert_eq!(words[0].to_ne_bytes()[..2], 0x106u16.to_ne_bytes());
        assert_eq!(words[1], 7);
        assert_eq!(Record::from_words(words), record);
    }

    #[test]
    fn every_number_is_one_kind_and_back() {
        let known: Vec<_> = (0..=u16::MAX)
            .filter_map(|number| Some((number, RecordKind::from_number(number)?)))
            .collect();
        assert_eq!(known.len(), 6 + Kind::ALL.len());
        for (number, kind) in known {
            assert_eq!(kind.number(), number);
        }
    }
}
