//! Records of the command and reply rings, as the other side may have written them.
//!
//! An input is a list of steps: a record of free bytes, or a message whose records are then damaged, left
//! out or repeated. What comes of them is put together and installed as the data plane does it.

use std::net::IpAddr;
use std::sync::Arc;

use engine::install::Installed;
use engine::slots::ServiceSlots;
use engine::topology::Topology;
use hugepages::codec::{Assembler, decode_reply, encode, encode_reply, validate};
use hugepages::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, Kind, NO_KEY, Network, NetworkRole,
    Object, ObjectId, OnEndpointGone, Prefix, Protocol, Ranges, Route, Service, Why, service_key,
};
use hugepages::{Digest, Message, Record, Slab};

use crate::input::Input;

/// Words of a record.
const WORDS: usize = size_of::<Record>() / 8;

/// Steps that are looked at.
const STEPS: usize = 64;

/// The data plane as far as records reach.
struct Side {
    assembler: Assembler,
    installed: Installed,
    /// What the update now under way would leave, if nothing of it were damaged.
    wanted: Digest,
    changes: u64,
}

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let slots = ServiceSlots::new(Slab::heap(1));
    let topology = Arc::new(Topology::default());
    let mut side = Side {
        assembler: Assembler::new(),
        installed: Installed::new(topology, slots, 0),
        wanted: Digest::default(),
        changes: 0,
    };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let step = input.byte();
        if step & 7 == 0 {
            side.take(&free(&mut input));
            continue;
        }
        let message = side.message(&mut input);
        let mut records = Vec::new();
        encode(&message, &mut records);
        damage(&mut records, step >> 3, &mut input);
        for record in &records {
            side.take(record);
        }
    }
}

/// A record of free bytes. Also taken for a reply.
fn free(input: &mut Input<'_>) -> Record {
    let mut words = [0; WORDS];
    for word in &mut words {
        *word = input.long().swap_bytes();
    }
    let record = Record::from_words(words);
    if let Ok(reply) = decode_reply(&record) {
        assert_eq!(encode_reply(&reply), record, "replies have one encoding");
    }
    record
}

fn damage(records: &mut Vec<Record>, how: u8, input: &mut Input<'_>) {
    if how & 3 == 0 || records.is_empty() {
        return;
    }
    let at = input.below(records.len().min(256));
    match how & 3 {
        1 => {
            let mut words = records[at].to_words();
            let place = input.below(WORDS * 8);
            words[place / 8] ^= u64::from(input.byte()) << (place % 8 * 8);
            records[at] = Record::from_words(words);
        }
        2 => drop(records.remove(at)),
        _ => records.push(records[at]),
    }
}

impl Side {
    fn take(&mut self, record: &Record) {
        let Ok(Some(message)) = self.assembler.push(record) else {
            return;
        };
        if let Message::Put(object) = &message {
            assert_eq!(validate(object), Ok(()), "what is decoded is valid");
        }
        let mut again = Vec::new();
        encode(&message, &mut again);
        assert_eq!(again.last(), Some(record), "messages have one encoding");
        let before = self.installed.digest();
        match self.installed.handle(message) {
            Ok(Some(done)) => {
                assert_eq!(done.digest, self.installed.digest());
                self.check();
            }
            Ok(None) | Err(_) => assert_eq!(before, self.installed.digest(), "staged"),
        }
    }

    /// What is installed is what is said of it.
    fn check(&self) {
        let all = self.installed.objects().collect::<Digest>();
        assert_eq!(all, self.installed.digest(), "the digest is that of all");
        let frontends = self
            .installed
            .objects()
            .filter(|object| matches!(object, Object::Frontend(_)));
        let snapshot = self.installed.snapshot();
        assert_eq!(frontends.count(), snapshot.frontends().count());
    }

    fn message(&mut self, input: &mut Input<'_>) -> Message {
        let what = input.byte();
        let (boot, generation) = (u64::from(what >> 7), u64::from(what >> 6 & 1));
        match what & 7 {
            0 => {
                let full = what & 8 != 0;
                self.changes = 0;
                self.wanted = if full {
                    Digest::default()
                } else {
                    self.installed.digest()
                };
                Message::Begin {
                    boot,
                    generation,
                    full,
                }
            }
            1 => Message::Commit {
                boot,
                generation,
                changes: self.changes,
                digest: self.wanted,
            },
            2 => {
                let object = object(input);
                self.changes += 1;
                let id = object.id();
                let old = self.installed.objects().find(|old| old.id() == id);
                old.into_iter().for_each(|old| self.wanted.remove(old));
                Message::Delete(id)
            }
            3 => {
                self.changes += 1;
                Message::Delete(ObjectId {
                    kind: input.one_of(&Kind::ALL),
                    key: input.long(),
                })
            }
            _ => {
                let object = object(input);
                self.changes += 1;
                self.wanted.add(&object);
                Message::Put(object)
            }
        }
    }
}

/// Objects from few, so that they refer to each other.
fn object(input: &mut Input<'_>) -> Object {
    let protocol = input.one_of(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Any]);
    let name = ["a/b", "a/c", "", "a/long"][input.below(4)].repeat(1 + input.below(40));
    let set = BackendSet::new((0..input.below(12)).map(backend).collect());
    let ranges = Ranges::new((0..input.below(8)).map(|at| prefix(at as u8)).collect());
    let why = input.one_of(&[Why::NoEndpoint, Why::NoSuchPort, Why::NotServedHere]);
    let key = service_key(&name, "", protocol);
    match input.below(6) {
        0 => Object::Service(Service {
            key,
            port_name: name.chars().take(input.below(70)).collect(),
            name,
            protocol,
            serving: if input.byte() & 1 == 0 {
                NO_KEY
            } else {
                set.key
            },
            on_endpoint_gone: OnEndpointGone::Keep,
        }),
        1 => Object::BackendSet(set),
        2 => Object::Ranges(ranges),
        3 => Object::Frontend(Frontend {
            address: backend(input.below(256)).address,
            protocol,
            port: input.word(),
            service: if input.byte() & 7 == 0 { NO_KEY } else { key },
            kind: input.one_of(&[FrontendKind::NodePort, FrontendKind::LoadBalancer]),
            affinity_timeout: u32::from(input.byte()),
            ranges: if input.byte() & 1 == 0 {
                NO_KEY
            } else {
                ranges.key
            },
            actions: [0; 3].map(|_| match input.byte() & 3 {
                0 => Action::Reject(why),
                1 => Action::Drop(why),
                how => Action::Translate {
                    set: set.key,
                    masquerade: how == 2,
                },
            }),
        }),
        4 => Object::Network(Network {
            role: input.one_of(&[
                NetworkRole::Pods,
                NetworkRole::Services,
                NetworkRole::Own,
                NetworkRole::Snat,
            ]),
            prefix: prefix(input.byte()),
        }),
        _ => Object::Route(Route {
            to: prefix(input.byte()),
            via: backend(input.below(256)).address,
        }),
    }
}

fn backend(at: usize) -> Backend {
    let last = at as u8;
    let address = if at & 1 == 0 {
        IpAddr::from([10, 0, 0, last])
    } else {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)])
    };
    Backend { address, port: 80 }
}

fn prefix(how: u8) -> Prefix {
    let length = how % 34;
    let address = if how & 0x80 == 0 {
        IpAddr::from([10, how, 0, 0])
    } else {
        IpAddr::from([0xfd00, u16::from(how), 0, 0, 0, 0, 0, 0])
    };
    Prefix { address, length }
}
