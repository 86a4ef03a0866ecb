//! A data plane in memory: the other end of a [`Channel`], for tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use hugepages::codec::{Assembler, encode_reply};
use hugepages::object::{Object, ObjectId};
use hugepages::{Digest, Message, Reason, Record, Reply};

use super::{Broken, Channel, Connector};

/// The region and the process behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Rc<RefCell<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// `None` = no region file.
    pub(crate) region: Option<u64>,
    pub(crate) capacity: usize,
    pub(crate) commands: VecDeque<Record>,
    pub(crate) replies: VecDeque<Record>,
    pub(crate) boot: u64,
    pub(crate) control_boot: u64,
    pub(crate) installed: BTreeMap<ObjectId, Object>,
    pub(crate) generation: u64,
    pub(crate) refuse: Option<Reason>,
    pub(crate) silent: bool,
    pub(crate) updates: Vec<Seen>,
    pub(crate) wanted: Option<(u64, Digest)>,
    pub(crate) beats: u64,
    assembler: Option<Assembler>,
    staged: Option<(u64, bool, BTreeMap<ObjectId, Object>, u64)>,
}

/// An update that the data plane has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) full: bool,
    pub(crate) changes: u64,
}

impl World {
    /// A region and a data plane that has just started in it.
    pub(crate) fn with_region(capacity: usize) -> Self {
        let world = Self::default();
        world.change(|state| {
            state.region = Some(1);
            state.capacity = capacity;
            state.boot = 100;
        });
        world
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.borrow_mut())
    }

    /// Lets the data plane take up to `most` records.
    pub(crate) fn run(&self, most: usize) {
        self.change(|state| {
            for _ in 0..most {
                let Some(record) = state.commands.pop_front() else {
                    return;
                };
                let assembled = state
                    .assembler
                    .get_or_insert_with(Assembler::new)
                    .push(&record);
                match assembled {
                    Ok(Some(message)) => state.handle(message),
                    Ok(None) => {}
                    Err(error) => panic!("the data plane got a bad record: {error}"),
                }
            }
        });
    }

    /// The data plane dies and starts again in the same region, without its state.
    pub(crate) fn restart(&self) {
        self.change(|state| {
            state.boot += 1;
            state.commands.clear();
            state.assembler = None;
            state.staged = None;
            state.installed.clear();
            state.say(Reply::Replay {
                reason: Reason::Started,
            });
        });
    }

    pub(crate) fn digest(&self) -> Digest {
        self.change(|state| state.installed.values().collect())
    }
}

impl State {
    pub(crate) fn say(&mut self, reply: Reply) {
        self.replies.push_back(encode_reply(&reply));
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Begin {
                boot,
                generation,
                full,
            } => {
                assert_eq!(boot, self.control_boot, "the region knows who speaks");
                let start = if full {
                    BTreeMap::new()
                } else {
                    self.installed.clone()
                };
                self.staged = Some((generation, full, start, 0));
            }
            Message::Put(object) => {
                let (_, _, staged, changes) = self.staged.as_mut().expect("Put inside an update");
                staged.insert(object.id(), object);
                *changes += 1;
            }
            Message::Delete(id) => {
                let (_, _, staged, changes) = self.staged.as_mut().expect("Delete in an update");
                assert!(staged.remove(&id).is_some(), "a Delete names what is there");
                *changes += 1;
            }
            Message::Commit {
                generation,
                changes,
                digest,
                ..
            } => {
                let (begun, full, staged, count) = self.staged.take().expect("Commit in an update");
                assert_eq!((begun, count), (generation, changes));
                self.updates.push(Seen { full, changes });
                if let Some(reason) = self.refuse {
                    return self.say(Reply::Refused { generation, reason });
                }
                assert_eq!(staged.values().collect::<Digest>(), digest);
                self.installed = staged;
                self.generation = generation;
                if !self.silent {
                    self.say(Reply::Committed {
                        generation,
                        digest,
                        nanos: 1,
                    });
                }
            }
        }
    }
}

impl Connector for World {
    type Channel = FakeChannel;

    fn connect(&mut self) -> Result<FakeChannel, Broken> {
        let region = self.change(|state| state.region);
        let region = region.ok_or_else(|| Broken("no region".into()))?;
        self.change(|state| state.control_boot += 1);
        Ok(FakeChannel {
            world: self.clone(),
            region,
        })
    }
}

/// A channel into the [`World`].
#[derive(Debug)]
pub(crate) struct FakeChannel {
    world: World,
    region: u64,
}

impl Channel for FakeChannel {
    fn send(&mut self, records: &[Record]) -> Result<usize, Broken> {
        Ok(self.world.change(|state| {
            let fitting = records.len().min(state.capacity - state.commands.len());
            state.commands.extend(&records[..fitting]);
            fitting
        }))
    }

    fn receive(&mut self) -> Result<Option<Record>, Broken> {
        Ok(self.world.change(|state| state.replies.pop_front()))
    }

    fn is_drained(&self) -> Result<bool, Broken> {
        Ok(self.world.change(|state| state.commands.is_empty()))
    }

    fn boot(&self) -> u64 {
        self.world.change(|state| state.control_boot)
    }

    fn peer_boot(&self) -> u64 {
        self.world.change(|state| state.boot)
    }

    fn installed(&self) -> Option<(u64, Digest)> {
        let digest = self.world.digest();
        Some(self.world.change(|state| (state.generation, digest)))
    }

    fn report(&mut self, generation: u64, digest: Digest) {
        self.world
            .change(|state| state.wanted = Some((generation, digest)));
    }

    fn beat(&mut self) {
        self.world.change(|state| state.beats += 1);
    }

    fn is_current(&self) -> bool {
        self.world.change(|state| state.region == Some(self.region))
    }
}
