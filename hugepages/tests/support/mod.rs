//! A data plane and a control plane with nothing in them but their talk.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hugepages::codec::{self, Assembler};
use hugepages::object::{
    Backend, BackendSet, Network, NetworkRole, Object, ObjectId, OnEndpointGone, Prefix, Protocol,
    Service, service_key,
};
use hugepages::{
    Consumer, Digest, Geometry, Journal, JournalError, Message, Origin, Producer, Reason, Record,
    Region, Reply, State,
};

pub(crate) type World = BTreeMap<ObjectId, Object>;

/// The state of a generation: objects of one record and of many, some the same as in the
/// generation before, some changed, some gone. Generation 0 is empty.
pub(crate) fn world(generation: u64) -> World {
    let mut objects = Vec::new();
    for i in (0..30).filter(|i| generation > 0 && !(i + generation).is_multiple_of(7)) {
        let count = (i * 5 + generation / (1 + i % 4)) % 90 + 1;
        let member = |n: u64| Backend {
            address: [10, i as u8, (n >> 8) as u8, n as u8].into(),
            port: 80,
        };
        let set = BackendSet::new((0..count).map(member).collect());
        let name = format!("default/service-{i}-{}", "x".repeat((i * 7) as usize));
        objects.push(Object::Service(Service {
            key: service_key(&name, "", Protocol::Tcp),
            name,
            port_name: String::new(),
            protocol: Protocol::Tcp,
            serving: set.key,
            on_endpoint_gone: OnEndpointGone::Keep,
        }));
        objects.push(Object::BackendSet(set));
        objects.push(Object::Network(Network {
            role: NetworkRole::Own,
            prefix: Prefix {
                address: [192, 0, 2, i as u8].into(),
                length: 32,
            },
        }));
    }
    objects
        .into_iter()
        .map(|object| (object.id(), object))
        .collect()
}

/// What the journal says: generation of the last commit and the objects.
pub(crate) fn journal_state(journal: &Journal) -> Result<(u64, World), JournalError> {
    let (mut world, mut last) = (World::new(), 0);
    let mut assembler = Assembler::new();
    for record in journal.read_all()? {
        match assembler.push(&record).unwrap() {
            Some(Message::Put(object)) => {
                world.insert(object.id(), object);
            }
            Some(Message::Delete(id)) => {
                world.remove(&id);
            }
            Some(Message::Commit {
                generation, digest, ..
            }) => {
                assert_eq!(world.values().collect::<Digest>(), digest);
                last = generation;
            }
            Some(Message::Begin { .. }) | None => {}
        }
    }
    Ok((last, world))
}

fn records<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<Record> {
    let mut records = Vec::new();
    for message in messages {
        codec::encode(message, &mut records);
    }
    records
}

// ---- the data plane ----

struct Update {
    boot: u64,
    generation: u64,
    changes: u64,
    staged: World,
    /// For the journal, unless the update is full.
    log: Option<Vec<Message>>,
}

struct DataPlane {
    region: Region,
    replies: Producer,
    journal: Journal,
    installed: World,
    update: Option<Update>,
}

/// Runs until it is killed.
pub(crate) fn data_plane(path: &Path) {
    let geometry = Geometry {
        command_records: 64,
        reply_records: 64,
        journal_records: 2048,
        ..Geometry::new(1, 1, 1024, 1024)
    };
    let (region, origin) = Region::create(path, &geometry).unwrap();
    assert!(
        matches!(origin, Origin::Fresh | Origin::TakenOver),
        "{origin}"
    );
    let journal = region.journal().unwrap();
    let (generation, installed) = journal_state(&journal).unwrap();
    assert!(
        installed == world(generation),
        "restarted with generation {generation}"
    );
    region.report(State {
        generation,
        digest: installed.values().collect(),
    });
    let mut commands = region.commands_consumer().unwrap();
    let mut plane = DataPlane {
        replies: region.replies_producer().unwrap(),
        region,
        journal,
        installed,
        update: None,
    };
    plane.reply(Reply::Replay {
        reason: Reason::Started,
    });
    let mut assembler = Assembler::new();
    loop {
        match commands
            .pop()
            .unwrap()
            .map(|record| assembler.push(&record))
        {
            None => std::thread::sleep(Duration::from_micros(50)),
            Some(Ok(None)) => {}
            Some(Ok(Some(message))) => plane.take(message),
            Some(Err(_)) => {
                plane.update = None;
                plane.reply(Reply::Replay {
                    reason: Reason::BadRecord,
                });
            }
        }
    }
}

impl DataPlane {
    fn reply(&mut self, reply: Reply) {
        // Bounded: nothing is lost if the control plane is away for long, it will start with a
        // full update anyway.
        self.replies.push_all(&[codec::encode_reply(&reply)]);
    }

    fn take(&mut self, message: Message) {
        match (&message, &mut self.update) {
            (
                Message::Begin {
                    boot,
                    generation,
                    full,
                },
                _,
            ) => {
                self.update = Some(Update {
                    boot: *boot,
                    generation: *generation,
                    changes: 0,
                    staged: if *full {
                        World::new()
                    } else {
                        self.installed.clone()
                    },
                    log: (!*full).then(Vec::new),
                });
            }
            (Message::Put(object), Some(update)) => {
                update.changes += 1;
                update.staged.insert(object.id(), object.clone());
                update
                    .log
                    .iter_mut()
                    .for_each(|log| log.push(message.clone()));
            }
            (Message::Delete(id), Some(update)) => {
                update.changes += 1;
                assert!(update.staged.remove(id).is_some(), "{id:?} deleted twice");
                update
                    .log
                    .iter_mut()
                    .for_each(|log| log.push(message.clone()));
            }
            (Message::Commit { generation, .. }, Some(_)) => {
                let generation = *generation;
                self.commit(generation, message);
            }
            // The rest of an update whose beginning went to the process before this one.
            (_, None) => {}
        }
    }

    fn commit(&mut self, generation: u64, commit: Message) {
        let update = self.update.take().unwrap();
        let Message::Commit {
            boot,
            changes,
            digest,
            ..
        } = commit
        else {
            unreachable!()
        };
        assert_eq!(
            (boot, generation, changes),
            (update.boot, update.generation, update.changes)
        );
        let own: Digest = update.staged.values().collect();
        assert!(
            own == digest && update.staged == world(generation),
            "generation {generation}"
        );
        self.installed = update.staged;
        self.write_journal(update.log, &commit);
        self.region.report(State { generation, digest });
        self.reply(Reply::Committed {
            generation,
            digest,
            nanos: 0,
        });
    }

    fn write_journal(&mut self, log: Option<Vec<Message>>, commit: &Message) {
        let appended = log.is_some_and(|log| {
            let records = records(log.iter().chain([commit]));
            self.journal.append(&records).is_ok()
        });
        if appended {
            self.journal.commit().unwrap();
        } else {
            let mut rewrite = self.journal.rewrite().unwrap();
            for object in self.installed.values() {
                rewrite
                    .append(&records([&Message::Put(object.clone())]))
                    .unwrap();
            }
            rewrite.append(&records([commit])).unwrap();
            rewrite.finish();
        }
    }
}

// ---- the control plane ----

/// Runs until it is killed.
pub(crate) fn control_plane(path: &Path) {
    let region = loop {
        match Region::attach(path) {
            Ok(region) => break region,
            // The data plane was killed before it had made the region.
            Err(error) => assert!(
                matches!(error, hugepages::RegionError::Io { .. }),
                "{error}"
            ),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut commands = region.commands_producer().unwrap();
    let mut replies = region.replies_consumer().unwrap();
    let generation = |state: Option<State>| state.map_or(0, |state| state.generation);
    let mut last = generation(region.installed()).max(generation(region.wanted()));
    let mut from = None;
    loop {
        let digest = world(last + 1).values().collect();
        region.report(State {
            generation: last + 1,
            digest,
        });
        send(&mut commands, &update(region.boot(), from, last + 1));
        last += 1;
        from = wait(&mut replies, last).then_some(last);
    }
}

/// The messages that lead from one generation (or from anything) to another.
fn update(boot: u64, from: Option<u64>, generation: u64) -> Vec<Message> {
    let old = from.map(world).unwrap_or_default();
    let new = world(generation);
    let full = from.is_none();
    let mut messages = vec![Message::Begin {
        boot,
        generation,
        full,
    }];
    messages.extend(
        old.keys()
            .filter(|id| !new.contains_key(id))
            .map(|id| Message::Delete(*id)),
    );
    messages.extend(
        new.iter()
            .filter(|(id, object)| old.get(id) != Some(object))
            .map(|(_, object)| Message::Put(object.clone())),
    );
    let changes = messages.len() as u64 - 1;
    let digest = new.values().collect();
    messages.push(Message::Commit {
        boot,
        generation,
        changes,
        digest,
    });
    messages
}

/// Sends everything, at the pace of the other side.
fn send(commands: &mut Producer, messages: &[Message]) {
    let records = records(messages);
    let mut sent = 0;
    while sent < records.len() {
        match commands.push_all(&records[sent..]) {
            0 => std::thread::sleep(Duration::from_micros(50)),
            count => sent += count,
        }
    }
}

/// True once this generation is installed, false when a full update must follow.
fn wait(replies: &mut Consumer, wanted: u64) -> bool {
    loop {
        match replies
            .pop()
            .unwrap()
            .map(|record| codec::decode_reply(&record).unwrap())
        {
            None => std::thread::sleep(Duration::from_micros(50)),
            Some(Reply::Committed { generation, .. }) if generation == wanted => return true,
            // To a process before this one.
            Some(Reply::Committed { .. }) => {}
            Some(Reply::Replay { .. }) => return false,
            Some(Reply::Refused { reason, .. }) => panic!("refused: {reason}"),
        }
    }
}
