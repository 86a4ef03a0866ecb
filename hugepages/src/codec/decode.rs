//! Records to messages; the caller has put the parts in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::encode::{encode_reply, for_each_record_of, service_parts, slot_parts};
use super::validate;
use crate::digest::Digest;
use crate::message::{Message, Reason, Reply};
use crate::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, Kind, Network, NetworkRole, Object,
    ObjectId, OnEndpointGone, Prefix, Protocol, Ranges, Route, Service, Why,
};
use crate::record::{
    ActionBody, BeginBody, CommitBody, CommittedBody, DeleteBody, FrontendBody, MAX_MEMBERS,
    MAX_NAME, MAX_PORT_NAME, PrefixBody, ReasonBody, Record, RecordError, RecordKind, ServiceBody,
    Slot, SlotsBody, VERSION, body,
};

/// Checks the header of a record that starts a message; gives its kind and number of parts.
pub(super) fn start(record: &Record) -> Result<(RecordKind, usize), RecordError> {
    if record.version != VERSION {
        return Err(RecordError::Version);
    }
    let kind = RecordKind::from_number(record.kind).ok_or(RecordError::Kind)?;
    if record.part != 0 {
        return Err(RecordError::Part);
    }
    let count = record.count as usize;
    let parts = match kind {
        RecordKind::Put(Kind::Service) if count <= MAX_NAME + MAX_PORT_NAME => service_parts(count),
        RecordKind::Put(Kind::BackendSet | Kind::Ranges) if count <= MAX_MEMBERS => {
            slot_parts(count)
        }
        RecordKind::Put(Kind::Service | Kind::BackendSet | Kind::Ranges) => {
            return Err(RecordError::Count);
        }
        _ => 1,
    };
    if usize::from(record.parts) == parts {
        Ok((kind, parts))
    } else {
        Err(RecordError::Parts)
    }
}

/// The command of these records: all parts of one message, in order and with equal headers.
pub(super) fn decode(kind: RecordKind, records: &[Record]) -> Result<Message, RecordError> {
    let first = &records[0];
    let message = match kind {
        RecordKind::Begin => {
            let begin: BeginBody = body(first);
            Message::Begin {
                boot: begin.boot,
                generation: begin.generation,
                full: begin.full != 0,
            }
        }
        RecordKind::Commit => {
            let commit: CommitBody = body(first);
            Message::Commit {
                boot: commit.boot,
                generation: commit.generation,
                changes: commit.changes,
                digest: Digest::from_words(commit.digest),
            }
        }
        RecordKind::Delete => Message::Delete(ObjectId {
            kind: Kind::from_u8(body::<DeleteBody>(first).kind).ok_or(RecordError::Kind)?,
            key: first.key,
        }),
        RecordKind::Put(kind) => Message::Put(decode_object(kind, records)?),
        RecordKind::Committed | RecordKind::Refused | RecordKind::Replay => {
            return Err(RecordError::Kind);
        }
    };
    // A frontend, network or route names its key twice: in the header and by its content.
    let (mut at, mut same_key, mut same) = (0, true, true);
    let compare = |record: &Record| {
        same_key &= at > 0 || record.key == first.key;
        same &= records.get(at) == Some(record);
        at += 1;
    };
    for_each_record_of(&message, compare);
    if !same_key {
        return Err(RecordError::Key);
    }
    if same && at == records.len() {
        Ok(message)
    } else {
        Err(RecordError::NotCanonical)
    }
}

/// The reply of this record.
///
/// # Errors
///
/// [`RecordError`] for anything that [`encode_reply`] does not produce.
pub fn decode_reply(record: &Record) -> Result<Reply, RecordError> {
    let (kind, _) = start(record)?;
    let reason = |body: &ReasonBody| Reason::from_u8(body.reason).ok_or(RecordError::Reason);
    let reply = match kind {
        RecordKind::Committed => {
            let committed: CommittedBody = body(record);
            Reply::Committed {
                generation: committed.generation,
                digest: Digest::from_words(committed.digest),
                nanos: committed.nanos,
            }
        }
        RecordKind::Refused => {
            let refused: ReasonBody = body(record);
            Reply::Refused {
                generation: refused.generation,
                reason: reason(&refused)?,
            }
        }
        RecordKind::Replay => Reply::Replay {
            reason: reason(&body(record))?,
        },
        _ => return Err(RecordError::Kind),
    };
    if encode_reply(&reply) == *record {
        Ok(reply)
    } else {
        Err(RecordError::NotCanonical)
    }
}

fn decode_object(kind: Kind, records: &[Record]) -> Result<Object, RecordError> {
    let first = &records[0];
    let object = match kind {
        Kind::Service => Object::Service(decode_service(records)?),
        Kind::BackendSet => Object::BackendSet(BackendSet {
            key: first.key,
            members: decode_slots(records, decode_backend)?,
        }),
        Kind::Ranges => Object::Ranges(Ranges {
            key: first.key,
            prefixes: decode_slots(records, decode_prefix_slot)?,
        }),
        Kind::Frontend => Object::Frontend(decode_frontend(first)?),
        Kind::Network => Object::Network(decode_network(first)?),
        Kind::Route => Object::Route(decode_route(first)?),
    };
    validate(&object)?;
    Ok(object)
}

fn decode_service(records: &[Record]) -> Result<Service, RecordError> {
    let first = &records[0];
    let head: ServiceBody = body(first);
    let mut text = head.text.to_vec();
    for record in &records[1..] {
        text.extend_from_slice(&record.body);
    }
    // `start` has seen to it that the parts hold `count` bytes.
    text.truncate(first.count as usize);
    let mut name = String::from_utf8(text).map_err(|_| RecordError::Text)?;
    let name_len = usize::from(head.name_len);
    if !name.is_char_boundary(name_len) {
        return Err(RecordError::Text);
    }
    let port_name = name.split_off(name_len);
    Ok(Service {
        key: first.key,
        name,
        port_name,
        protocol: Protocol::from_u8(head.protocol).ok_or(RecordError::Protocol)?,
        serving: head.serving,
        on_endpoint_gone: match head.policy {
            1 => OnEndpointGone::Keep,
            2 => OnEndpointGone::Drain(head.drain),
            3 => OnEndpointGone::Reset,
            _ => return Err(RecordError::Policy),
        },
    })
}

fn decode_slots<T>(
    records: &[Record],
    decode: impl Fn(&Slot) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let count = records[0].count as usize;
    let mut elements = Vec::with_capacity(count);
    for record in records {
        let slots = body::<SlotsBody>(record).slots;
        for slot in slots.iter().take(count - elements.len()) {
            elements.push(decode(slot)?);
        }
    }
    Ok(elements)
}

fn decode_backend(slot: &Slot) -> Result<Backend, RecordError> {
    Ok(Backend {
        address: join(slot.address, slot.family)?,
        port: slot.port,
    })
}

fn decode_prefix_slot(slot: &Slot) -> Result<Prefix, RecordError> {
    Ok(Prefix {
        address: join(slot.address, slot.family)?,
        length: slot.length,
    })
}

fn decode_frontend(record: &Record) -> Result<Frontend, RecordError> {
    let frontend: FrontendBody = body(record);
    let [pod, node, outside] = frontend.actions;
    Ok(Frontend {
        address: join(frontend.address, frontend.family)?,
        protocol: Protocol::from_u8(frontend.protocol).ok_or(RecordError::Protocol)?,
        port: frontend.port,
        service: frontend.service,
        kind: match frontend.kind {
            1 => FrontendKind::ClusterIp,
            2 => FrontendKind::NodePort,
            3 => FrontendKind::LoadBalancer,
            4 => FrontendKind::ExternalIp,
            _ => return Err(RecordError::FrontendKind),
        },
        affinity_timeout: frontend.affinity,
        ranges: frontend.ranges,
        actions: [
            decode_action(pod)?,
            decode_action(node)?,
            decode_action(outside)?,
        ],
    })
}

fn decode_action(action: ActionBody) -> Result<Action, RecordError> {
    let why = || {
        Ok(match action.detail {
            1 => Why::NoEndpoint,
            2 => Why::NoLocalEndpoint,
            3 => Why::NoSuchPort,
            4 => Why::NotServedHere,
            _ => return Err(RecordError::Action),
        })
    };
    match action.what {
        1 => Ok(Action::Translate {
            set: action.set,
            masquerade: action.detail != 0,
        }),
        2 => why().map(Action::Reject),
        3 => why().map(Action::Drop),
        _ => Err(RecordError::Action),
    }
}

fn decode_network(record: &Record) -> Result<Network, RecordError> {
    let network: PrefixBody = body(record);
    Ok(Network {
        role: match network.role {
            1 => NetworkRole::Pods,
            2 => NetworkRole::Services,
            3 => NetworkRole::Own,
            4 => NetworkRole::Snat,
            _ => return Err(RecordError::Role),
        },
        prefix: Prefix {
            address: join(network.address, network.family)?,
            length: network.length,
        },
    })
}

fn decode_route(record: &Record) -> Result<Route, RecordError> {
    let route: PrefixBody = body(record);
    Ok(Route {
        to: Prefix {
            address: join(route.address, route.family)?,
            length: route.length,
        },
        via: join(route.via, route.family)?,
    })
}

fn join(bytes: [u8; 16], family: u8) -> Result<IpAddr, RecordError> {
    match family {
        4 => {
            let [a, b, c, d, ..] = bytes;
            Ok(Ipv4Addr::new(a, b, c, d).into())
        }
        6 => Ok(Ipv6Addr::from(bytes).into()),
        _ => Err(RecordError::Family),
    }
}
