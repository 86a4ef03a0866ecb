//! The other side of the region: takes updates as a data plane does, and keeps the objects.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use hugepages::codec::{Assembler, encode_reply, validate};
use hugepages::object::{Object, ObjectId};
use hugepages::{Consumer, Digest, Geometry, Message, Producer, Reason, Region, Reply, State};

#[derive(Debug)]
pub(crate) struct DataPlane {
    region: Region,
    commands: Consumer,
    replies: Producer,
    assembler: Assembler,
    staged: Option<BTreeMap<ObjectId, Object>>,
    pub(crate) installed: BTreeMap<ObjectId, Object>,
    /// Updates installed: whether each was full, and its changes.
    pub(crate) updates: Vec<(bool, u64)>,
    full: bool,
}

impl DataPlane {
    pub(crate) fn start(path: &Path) -> Self {
        let (region, _) = Region::create(path, &Geometry::new(1, 1, 1024, 1024)).unwrap();
        let mut commands = region.commands_consumer().unwrap();
        commands.clear();
        let mut replies = region.replies_producer().unwrap();
        let reason = Reason::Started;
        replies.push_all(&[encode_reply(&Reply::Replay { reason })]);
        region.report(State::default());
        Self {
            commands,
            replies,
            region,
            assembler: Assembler::new(),
            staged: None,
            installed: BTreeMap::new(),
            updates: Vec::new(),
            full: false,
        }
    }

    /// Works until `done` or the end of patience.
    pub(crate) fn work_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "what was awaited did not come"
            );
            if !self.step() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(record) = self.commands.pop().unwrap() else {
            return false;
        };
        match self.assembler.push(&record).unwrap() {
            None => {}
            Some(Message::Begin { full, .. }) => {
                self.full = full;
                let start = if full {
                    BTreeMap::new()
                } else {
                    self.installed.clone()
                };
                self.staged = Some(start);
            }
            Some(Message::Put(object)) => {
                validate(&object).unwrap();
                self.staged.as_mut().unwrap().insert(object.id(), object);
            }
            Some(Message::Delete(id)) => {
                self.staged.as_mut().unwrap().remove(&id).unwrap();
            }
            Some(Message::Commit {
                generation,
                changes,
                digest,
                ..
            }) => {
                self.installed = self.staged.take().unwrap();
                assert_eq!(self.installed.values().collect::<Digest>(), digest);
                self.updates.push((self.full, changes));
                self.region.report(State { generation, digest });
                let reply = Reply::Committed {
                    generation,
                    digest,
                    nanos: 1,
                };
                assert_eq!(self.replies.push_all(&[encode_reply(&reply)]), 1);
            }
        }
        true
    }
}
