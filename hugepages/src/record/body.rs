//! The bodies of the kinds of record, as the table in [`super`] lays them out.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{BODY, Record, RecordKind, SLOTS, VERSION};

/// Body of Begin.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct BeginBody {
    pub(crate) boot: u64,
    pub(crate) generation: u64,
    pub(crate) full: u8,
    pub(crate) zero: [u8; 87],
}

/// Body of Commit.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct CommitBody {
    pub(crate) boot: u64,
    pub(crate) generation: u64,
    pub(crate) changes: u64,
    pub(crate) digest: [u64; 2],
    pub(crate) zero: [u8; 64],
}

/// Body of Delete.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct DeleteBody {
    pub(crate) kind: u8,
    pub(crate) zero: [u8; 103],
}

/// Text bytes in the first part of a Service.
pub(crate) const FIRST_TEXT: usize = 88;

/// Body of the first part of a Service.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct ServiceBody {
    pub(crate) serving: u64,
    pub(crate) drain: u32,
    pub(crate) name_len: u16,
    pub(crate) protocol: u8,
    pub(crate) policy: u8,
    pub(crate) text: [u8; FIRST_TEXT],
}

/// A backend or a prefix.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) address: [u8; 16],
    pub(crate) family: u8,
    pub(crate) length: u8,
    pub(crate) port: u16,
}

/// Body of a BackendSet and of Ranges.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct SlotsBody {
    pub(crate) slots: [Slot; SLOTS],
    pub(crate) zero: [u8; 4],
}

/// One action of a Frontend.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct ActionBody {
    pub(crate) set: u64,
    pub(crate) what: u8,
    pub(crate) detail: u8,
    pub(crate) zero: [u8; 6],
}

/// Body of a Frontend.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct FrontendBody {
    pub(crate) address: [u8; 16],
    pub(crate) family: u8,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) kind: u8,
    pub(crate) zero: [u8; 3],
    pub(crate) service: u64,
    pub(crate) ranges: u64,
    pub(crate) affinity: u32,
    pub(crate) zero2: [u8; 4],
    pub(crate) actions: [ActionBody; 3],
    pub(crate) zero3: [u8; 8],
}

/// Body of a Network and of a Route.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct PrefixBody {
    pub(crate) address: [u8; 16],
    pub(crate) family: u8,
    pub(crate) length: u8,
    pub(crate) role: u8,
    pub(crate) zero: [u8; 5],
    pub(crate) via: [u8; 16],
    pub(crate) zero2: [u8; 64],
}

/// Body of Committed.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct CommittedBody {
    pub(crate) generation: u64,
    pub(crate) nanos: u64,
    pub(crate) digest: [u64; 2],
    pub(crate) zero: [u8; 72],
}

/// Body of Refused and of Replay.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct ReasonBody {
    pub(crate) generation: u64,
    pub(crate) reason: u8,
    pub(crate) zero: [u8; 95],
}

/// A body read as `T`, whose size the compiler checks.
pub(crate) fn body<T: FromBytes>(record: &Record) -> T {
    const { assert!(size_of::<T>() == BODY) };
    // `read_from_bytes` fails on a wrong size alone.
    T::read_from_bytes(&record.body).unwrap_or_else(|_| FromZeros::new_zeroed())
}

/// A record of one part with this body.
pub(crate) fn record<T: IntoBytes + Immutable>(kind: RecordKind, key: u64, body: &T) -> Record {
    const { assert!(size_of::<T>() == BODY) };
    let mut bytes = [0; BODY];
    bytes.copy_from_slice(body.as_bytes());
    Record {
        kind: kind.number(),
        version: VERSION,
        part: 0,
        parts: 1,
        key,
        count: 0,
        reserved: 0,
        body: bytes,
    }
}
