//! Messages to records.

use std::net::IpAddr;

use zerocopy::{FromZeros, IntoBytes};

use crate::message::{Message, Reply};
use crate::object::{
    Action, Backend, Frontend, Key, Kind, Network, Object, OnEndpointGone, Prefix, Route, Service,
};
use crate::record::{
    ActionBody, BODY, BeginBody, CommitBody, CommittedBody, DeleteBody, FIRST_TEXT, FrontendBody,
    PrefixBody, ReasonBody, Record, RecordKind, SLOTS, ServiceBody, Slot, SlotsBody, VERSION,
    record,
};

/// Appends the message's records.
///
/// An object that [`validate`](super::validate) refuses is encoded to records that the decoder
/// refuses; who makes objects from outside data checks them first.
pub fn encode(message: &Message, records: &mut Vec<Record>) {
    for_each_record_of(message, |record| records.push(*record));
}

/// Shows each record of the message, in order.
pub(super) fn for_each_record_of(message: &Message, mut sink: impl FnMut(&Record)) {
    match message {
        Message::Begin {
            boot,
            generation,
            full,
        } => sink(&record(
            RecordKind::Begin,
            0,
            &BeginBody {
                boot: *boot,
                generation: *generation,
                full: u8::from(*full),
                zero: [0; 87],
            },
        )),
        Message::Put(object) => for_each_record(object, sink),
        Message::Delete(id) => sink(&record(
            RecordKind::Delete,
            id.key,
            &DeleteBody {
                kind: id.kind as u8,
                zero: [0; 103],
            },
        )),
        Message::Commit {
            boot,
            generation,
            changes,
            digest,
        } => sink(&record(
            RecordKind::Commit,
            0,
            &CommitBody {
                boot: *boot,
                generation: *generation,
                changes: *changes,
                digest: digest.to_words(),
                zero: [0; 64],
            },
        )),
    }
}

/// Appends the records of a Put of this object.
pub fn encode_object(object: &Object, records: &mut Vec<Record>) {
    for_each_record(object, |record| records.push(*record));
}

/// Shows each record of a Put of this object, in order.
pub fn for_each_record(object: &Object, mut sink: impl FnMut(&Record)) {
    match object {
        Object::Service(service) => encode_service(service, sink),
        Object::BackendSet(set) => {
            let slots = set.members.iter().map(backend_slot);
            encode_slots(Kind::BackendSet, set.key, slots, sink);
        }
        Object::Ranges(ranges) => {
            let slots = ranges.prefixes.iter().map(prefix_slot);
            encode_slots(Kind::Ranges, ranges.key, slots, sink);
        }
        Object::Frontend(frontend) => sink(&encode_frontend(frontend)),
        Object::Network(network) => sink(&encode_network(network)),
        Object::Route(route) => sink(&encode_route(route)),
    }
}

/// The record of a reply.
#[must_use]
pub fn encode_reply(reply: &Reply) -> Record {
    match *reply {
        Reply::Committed {
            generation,
            digest,
            nanos,
        } => record(
            RecordKind::Committed,
            0,
            &CommittedBody {
                generation,
                nanos,
                digest: digest.to_words(),
                zero: [0; 72],
            },
        ),
        Reply::Refused { generation, reason } => {
            reason_record(RecordKind::Refused, generation, reason as u8)
        }
        Reply::Replay { reason } => reason_record(RecordKind::Replay, 0, reason as u8),
    }
}

fn reason_record(kind: RecordKind, generation: u64, reason: u8) -> Record {
    let zero = [0; 95];
    let body = ReasonBody {
        generation,
        reason,
        zero,
    };
    record(kind, 0, &body)
}

/// Parts of a set or of ranges with this many elements; an empty one still is a record.
pub(super) fn slot_parts(count: usize) -> usize {
    count.div_ceil(SLOTS).max(1)
}

/// Parts of a service with this many bytes of text.
pub(super) fn service_parts(text: usize) -> usize {
    1 + text.saturating_sub(FIRST_TEXT).div_ceil(BODY)
}

fn encode_service(service: &Service, mut sink: impl FnMut(&Record)) {
    let text = [service.name.as_bytes(), service.port_name.as_bytes()].concat();
    let (policy, drain) = match service.on_endpoint_gone {
        OnEndpointGone::Keep => (1, 0),
        OnEndpointGone::Drain(seconds) => (2, seconds),
        OnEndpointGone::Reset => (3, 0),
    };
    let (first, rest) = text.split_at(text.len().min(FIRST_TEXT));
    let mut head = ServiceBody {
        serving: service.serving,
        drain,
        name_len: saturate(service.name.len()),
        protocol: service.protocol as u8,
        policy,
        text: [0; FIRST_TEXT],
    };
    head.text[..first.len()].copy_from_slice(first);
    let mut record = record(RecordKind::Put(Kind::Service), service.key, &head);
    record.count = u32::try_from(text.len()).unwrap_or(u32::MAX);
    record.parts = saturate(service_parts(text.len()));
    sink(&record);
    for piece in rest.chunks(BODY).take(usize::from(record.parts) - 1) {
        record.part += 1;
        record.body = [0; BODY];
        record.body[..piece.len()].copy_from_slice(piece);
        sink(&record);
    }
}

fn encode_slots(
    kind: Kind,
    key: Key,
    mut slots: impl ExactSizeIterator<Item = Slot>,
    mut sink: impl FnMut(&Record),
) {
    let count = slots.len();
    let parts = saturate(slot_parts(count));
    for part in 0..parts {
        let mut body = SlotsBody::new_zeroed();
        for (place, slot) in body.slots.iter_mut().zip(&mut slots) {
            *place = slot;
        }
        sink(&Record {
            kind: RecordKind::Put(kind).number(),
            version: VERSION,
            part,
            parts,
            key,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            reserved: 0,
            body: zerocopy::transmute!(body),
        });
    }
}

fn backend_slot(backend: &Backend) -> Slot {
    let (address, family) = split(backend.address);
    Slot {
        address,
        family,
        length: 0,
        port: backend.port,
    }
}

fn prefix_slot(prefix: &Prefix) -> Slot {
    let (address, family) = split(prefix.address);
    Slot {
        address,
        family,
        length: prefix.length,
        port: 0,
    }
}

fn encode_frontend(frontend: &Frontend) -> Record {
    let (address, family) = split(frontend.address);
    let body = FrontendBody {
        address,
        family,
        protocol: frontend.protocol as u8,
        port: frontend.port,
        kind: frontend.kind as u8,
        zero: [0; 3],
        service: frontend.service,
        ranges: frontend.ranges,
        affinity: frontend.affinity_timeout,
        zero2: [0; 4],
        actions: frontend.actions.map(encode_action),
        zero3: [0; 8],
    };
    record(RecordKind::Put(Kind::Frontend), frontend.key(), &body)
}

fn encode_action(action: Action) -> ActionBody {
    let (set, what, detail) = match action {
        Action::Translate { set, masquerade } => (set, 1, u8::from(masquerade)),
        Action::Reject(why) => (0, 2, why as u8),
        Action::Drop(why) => (0, 3, why as u8),
    };
    ActionBody {
        set,
        what,
        detail,
        zero: [0; 6],
    }
}

fn encode_network(network: &Network) -> Record {
    let body = prefix_body(network.prefix, network.role as u8, [0; 16]);
    record(RecordKind::Put(Kind::Network), network.key(), &body)
}

fn encode_route(route: &Route) -> Record {
    let body = prefix_body(route.to, 0, split(route.via).0);
    record(RecordKind::Put(Kind::Route), route.key(), &body)
}

fn prefix_body(prefix: Prefix, role: u8, via: [u8; 16]) -> PrefixBody {
    let (address, family) = split(prefix.address);
    PrefixBody {
        address,
        family,
        length: prefix.length,
        role,
        zero: [0; 5],
        via,
        zero2: [0; 64],
    }
}

/// 16 address bytes and the family number.
fn split(address: IpAddr) -> ([u8; 16], u8) {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(v4.octets().as_bytes());
            (bytes, 4)
        }
        IpAddr::V6(v6) => (v6.octets(), 6),
    }
}

/// Too large for the format is too large for [`validate`](super::validate) as well.
fn saturate(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
