//! The publisher against a data plane in memory, with the time in the test's hand.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hugepages::{Reason, Reply};

use super::fake::{Seen, World};
use super::{Event, Publisher};
use crate::index::Index;
use crate::model::{ClusterObject, ObjectKind, ObjectName};
use crate::policy::Desired;
use crate::policy::fixtures::{gateway, service, slice};

const TICK: Duration = Duration::from_millis(1);

struct Rig {
    world: World,
    publisher: Publisher<World>,
    index: Index,
    desired: Desired,
    now: Instant,
    events: Vec<Event>,
}

impl Rig {
    fn new(world: World) -> Self {
        Self {
            publisher: Publisher::new(world.clone()),
            world,
            index: Index::new(),
            desired: Desired::new(gateway()),
            now: Instant::now(),
            events: Vec::new(),
        }
    }

    /// A service with this many endpoints.
    fn put(&mut self, name: &str, endpoints: u8) {
        self.index.apply(ClusterObject::Service(service(name)));
        let addresses = (1..=endpoints).map(|last| IpAddr::from([10, 0, 0, last]));
        self.index
            .apply(ClusterObject::Slice(slice(name, addresses)));
        self.desired.refresh(&mut self.index);
    }

    fn delete(&mut self, name: &str) {
        self.index
            .delete(ObjectKind::Service, &ObjectName::new("test", name));
        self.desired.refresh(&mut self.index);
    }

    fn poll(&mut self) {
        self.publisher.poll(self.now, &mut self.desired);
        self.events.extend(self.publisher.take_events());
        self.now += TICK;
    }

    /// Polls both sides for this many milliseconds.
    fn run(&mut self, milliseconds: usize) {
        for _ in 0..milliseconds {
            self.poll();
            self.world.run(usize::MAX);
        }
    }

    fn updates(&self) -> Vec<Seen> {
        self.world
            .change(|state| std::mem::take(&mut state.updates))
    }

    fn assert_agreed(&self) {
        assert_eq!(self.world.digest(), self.desired.digest());
        let installed = self.world.change(|state| state.installed.len());
        assert_eq!(installed, self.desired.objects().len());
        assert!(self.publisher.is_settled(&self.desired));
    }
}

#[test]
fn the_first_update_is_the_whole_state_and_the_next_ones_are_differences() {
    let mut rig = Rig::new(World::with_region(1024));
    rig.put("web", 3);
    rig.run(5);
    rig.assert_agreed();
    let first = rig.updates();
    assert_eq!(first.len(), 1);
    assert!(first[0].full);

    rig.put("web", 4);
    rig.run(5);
    rig.assert_agreed();
    // One set goes, one comes; the service and two frontends change; other ports stay refused.
    let [
        Seen {
            full: false,
            changes,
        },
    ] = rig.updates()[..]
    else {
        panic!("one difference");
    };
    assert!((4..10).contains(&changes), "{changes}");

    rig.delete("web");
    rig.run(5);
    rig.assert_agreed();
}

#[test]
fn nothing_is_sent_when_nothing_changes() {
    let mut rig = Rig::new(World::with_region(1024));
    rig.put("web", 3);
    rig.run(5);
    rig.updates();
    rig.put("web", 4);
    rig.put("web", 3);
    rig.run(3000);
    assert_eq!(rig.updates(), []);
    rig.assert_agreed();
}

#[test]
fn a_change_after_silence_goes_out_at_once_and_a_burst_becomes_one_update() {
    let mut rig = Rig::new(World::with_region(1024));
    rig.run(50);
    rig.updates();
    rig.put("first", 1);
    rig.poll();
    assert!(rig.world.change(|state| !state.commands.is_empty()));
    for number in 0..50 {
        rig.put(&format!("burst-{number}"), 1);
        rig.poll();
    }
    rig.run(10);
    assert_eq!(rig.updates().len(), 2);
    rig.assert_agreed();
}

#[test]
fn a_missing_region_is_waited_for() {
    let world = World::default();
    let mut rig = Rig::new(world.clone());
    rig.put("web", 2);
    rig.run(3000);
    assert!(matches!(rig.events[0], Event::Detached(_)));
    assert!(
        rig.events.len() < 20,
        "attempts back off: {}",
        rig.events.len()
    );
    world.change(|state| (state.region, state.capacity, state.boot) = (Some(1), 64, 9));
    rig.run(1500);
    rig.assert_agreed();
}

#[test]
fn a_full_ring_is_waited_for_and_loses_nothing() {
    let mut rig = Rig::new(World::with_region(4));
    for number in 0..20 {
        rig.put(&format!("service-{number}"), 40);
    }
    for round in 0..3000 {
        rig.poll();
        rig.world.run(1);
        if round % 100 == 0 {
            rig.put("restless", (round / 100) as u8 + 1);
        }
    }
    rig.run(50);
    rig.assert_agreed();
}

#[test]
fn a_restarted_data_plane_gets_everything_again_wherever_it_died() {
    for records_before in 0..60 {
        let mut rig = Rig::new(World::with_region(8));
        for number in 0..5 {
            rig.put(&format!("service-{number}"), 30);
        }
        for _ in 0..records_before {
            rig.poll();
            rig.world.run(1);
        }
        rig.world.restart();
        rig.run(500);
        rig.assert_agreed();
    }
}

#[test]
fn a_request_for_a_replay_is_answered_even_in_the_middle_of_an_object() {
    for records_before in 0..40 {
        let mut rig = Rig::new(World::with_region(4));
        rig.put("large", 200);
        for _ in 0..records_before {
            rig.poll();
            rig.world.run(1);
        }
        let reason = Reason::BrokenRing;
        rig.world
            .change(|state| state.say(Reply::Replay { reason }));
        // The fake panics on a record that does not fit the one before.
        rig.run(500);
        rig.assert_agreed();
    }
}

#[test]
fn a_refused_update_is_tried_again_later_and_later() {
    let mut rig = Rig::new(World::with_region(1024));
    rig.put("web", 2);
    rig.world.change(|state| state.refuse = Some(Reason::Full));
    rig.run(4000);
    let tried = rig.updates().len();
    assert!((4..12).contains(&tried), "{tried}");
    assert!(rig.events.contains(&Event::Refused(Reason::Full)));
    rig.world.change(|state| state.refuse = None);
    rig.run(2000);
    rig.assert_agreed();
}

#[test]
fn a_replaced_region_is_attached_anew() {
    let mut rig = Rig::new(World::with_region(64));
    rig.put("web", 2);
    rig.run(10);
    rig.world.change(|state| {
        state.region = Some(2);
        state.installed.clear();
        state.commands.clear();
    });
    rig.run(3000);
    rig.assert_agreed();
}

#[test]
fn a_wrong_installed_state_is_noticed_and_put_right() {
    let mut rig = Rig::new(World::with_region(64));
    rig.put("web", 2);
    rig.run(10);
    rig.world.change(|state| state.installed.pop_first());
    rig.run(2000);
    assert!(rig.events.contains(&Event::DigestMismatch));
    rig.assert_agreed();
}

#[test]
fn a_data_plane_that_reads_and_says_nothing_is_asked_again() {
    let mut rig = Rig::new(World::with_region(64));
    rig.put("web", 2);
    rig.world.change(|state| state.silent = true);
    rig.run(12_000);
    assert!(rig.events.contains(&Event::NoAnswer));
    let tried = rig.updates().len();
    assert!((2..5).contains(&tried), "{tried}");
    rig.world.change(|state| state.silent = false);
    rig.run(8000);
    rig.assert_agreed();
}

#[test]
fn generations_go_on_from_those_that_the_data_plane_has_seen() {
    let world = World::with_region(64);
    world.change(|state| state.generation = 1000);
    let mut rig = Rig::new(world);
    rig.put("web", 2);
    rig.run(10);
    assert_eq!(rig.publisher.generations(), (1001, Some(1001)));
    let wanted = rig.world.change(|state| state.wanted);
    assert_eq!(wanted, Some((1001, rig.desired.digest())));
    rig.run(3000);
    assert!(
        rig.world.change(|state| state.beats) >= 2,
        "it shows that it is alive"
    );
}
