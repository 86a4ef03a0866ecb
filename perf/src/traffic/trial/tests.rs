//! Both ends in memory, with a wire between them that can lose, double, exchange and damage frames.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use packet::ethernet::Mac;
use packet::memory::{HeapBuffer, HeapPool};
use packet::parse::UDP;
use packet::{Buffer, Burst};

use super::super::choice::{Choice, Dealer};
use super::super::client::{Gateway, Traffic};
use super::super::flows::FlowSet;
use super::super::station::Station;
use super::*;

type Queue = Rc<RefCell<VecDeque<HeapBuffer>>>;

/// What a wire does to frame number n of those that pass it one way.
type Fault = fn(u64, HeapBuffer) -> Vec<HeapBuffer>;

/// One end of a wire.
struct Wire {
    near: Queue,
    far: Queue,
    fault: Fault,
    passed: u64,
    /// Frames that fit onto it.
    room: usize,
}

impl Link for Wire {
    type Buffer = HeapBuffer;

    fn rx_burst(&mut self, frames: &mut Burst<HeapBuffer>) -> usize {
        let mut near = self.near.borrow_mut();
        let count = near.len().min(frames.remaining_capacity());
        frames.extend(near.drain(..count));
        count
    }

    fn tx_burst(&mut self, frames: &mut Burst<HeapBuffer>) -> usize {
        let mut far = self.far.borrow_mut();
        let count = frames.len().min(self.room.saturating_sub(far.len()));
        for frame in frames.drain(..count) {
            // Only frames that carry something are meddled with.
            let is_data = frame.bytes().len() > 60;
            self.passed += u64::from(is_data);
            match is_data {
                true => far.extend((self.fault)(self.passed, frame)),
                false => far.push_back(frame),
            }
        }
        count
    }
}

fn ends(protocol: u8, segments: Option<u32>, echo: bool, fault: Fault) -> Ends<Wire, HeapPool> {
    let (one, other) = (Queue::default(), Queue::default());
    let wire = |near: &Queue, far: &Queue, fault| Wire {
        near: near.clone(),
        far: far.clone(),
        fault,
        passed: 0,
        room: 64,
    };
    let to = vec!["10.0.0.2:80".parse().unwrap()];
    let flows = FlowSet::new(10, "198.18.0.0/30".parse().unwrap(), to, protocol).unwrap();
    let traffic = Traffic {
        dealer: match segments {
            Some(_) => Dealer::new(10, Choice::Turn, 3),
            None => Dealer::new(10, Choice::Uniform, 3),
        },
        flows,
        sizes: Sizes::one(100),
        segments,
    };
    let client = Station::new(Mac([2, 0, 0, 0, 0, 1]), vec!["10.0.0.1".parse().unwrap()]);
    let server = Station::new(Mac([2, 0, 0, 0, 0, 2]), vec!["10.0.0.2".parse().unwrap()]);
    let gateway = Gateway::Address("10.0.0.2".parse().unwrap());
    let link = wire(&one, &other, fault);
    Ends {
        client: Client::new((link, HeapPool::default()), client, traffic, gateway).unwrap(),
        server: Some(Server::new(
            wire(&other, &one, |_, frame| vec![frame]),
            server,
            echo,
            Tally::new(Some(0), None),
        )),
        polite: false,
    }
}

fn plan(most: u64) -> Plan {
    Plan {
        rate: Some(1e6),
        time: Duration::from_millis(200),
        most,
        warm_up: Duration::ZERO,
        sizes: Sizes::one(100),
    }
}

fn run(ends: &mut Ends<Wire, HeapPool>, plan: &Plan) -> Trial {
    let progress = Progress::default();
    ends.prepare(1e6, &progress).unwrap();
    let trial = ends.run(5, plan, &progress).unwrap();
    ends.finish(1e6, &progress);
    trial
}

#[test]
fn over_a_good_wire_every_datagram_arrives_once_and_comes_back() {
    let mut ends = ends(UDP, None, true, |_, frame| vec![frame]);
    let trial = run(&mut ends, &plan(5000));
    let received = trial.received.unwrap();
    assert_eq!((trial.sent.data, received.distinct), (5000, 5000));
    assert_eq!(received.frames(), 5000 + received.end);
    assert_eq!(received.end, 1);
    assert_eq!(trial.returned.distinct, 5000);
    assert_eq!(
        (trial.lost(), trial.unsent(), trial.waiting),
        (Some(0), 0, 0)
    );
    assert_eq!(trial.latency.unwrap().len(), 5000);
    assert_eq!(trial.round_trip.len(), 5000);
    // Ten frames made the flows, before the run.
    let (client, server) = (ends.client.frames(), ends.server.unwrap().frames());
    assert_eq!((client.0, client.1), (server.1, server.0));
}

#[test]
fn what_a_bad_wire_does_is_counted_exactly() {
    // Ten frames that make the flows pass first.
    let fault = |number, mut frame: HeapBuffer| match number {
        100..150 => vec![],
        200..220 => vec![frame.clone(), frame],
        300..307 => {
            let last = frame.bytes().len() - 1;
            frame.bytes_mut()[last] ^= 4;
            vec![frame]
        }
        _ => vec![frame],
    };
    let trial = run(&mut ends(UDP, None, false, fault), &plan(1000));
    let received = trial.received.unwrap();
    assert_eq!(trial.sent.data, 1000);
    assert_eq!(trial.lost(), Some(50 + 7));
    assert_eq!((received.duplicates, received.corrupt), (20, 7));
    assert_eq!(received.reordered, 0);
    assert!((trial.loss() - 0.057).abs() < 1e-9);
}

#[test]
fn a_link_that_takes_too_little_leaves_frames_unsent_and_none_unaccounted() {
    let mut ends = ends(UDP, None, false, |_, frame| vec![frame]);
    let plan = Plan {
        // More than any machine writes in this loop.
        rate: Some(1e12),
        time: Duration::from_millis(20),
        ..plan(u64::MAX)
    };
    let trial = run(&mut ends, &plan);
    assert_eq!(trial.offered, 20_000_000_000);
    assert!(trial.sent.data > 0 && trial.unsent() > 0);
    assert_eq!(trial.received.unwrap().distinct, trial.sent.data);
    assert!(trial.loss() > 0.9);
}

#[test]
fn connections_are_opened_used_and_closed() {
    // Left open while data passes.
    let mut held = ends(TCP, None, false, |_, frame| vec![frame]);
    let trial = run(&mut held, &plan(1000));
    assert_eq!(trial.received.unwrap().distinct, 1000);
    assert_eq!((trial.sent.unconnected, trial.lost()), (0, Some(0)));
    let closed = held.client.connections();
    assert_eq!((closed.counts().closed, closed.open_now()), (10, 0));
    // Opened for three segments each, and again in a second run.
    let mut brief = ends(TCP, Some(3), false, |_, frame| vec![frame]);
    for _ in 0..2 {
        let trial = run(&mut brief, &plan(10));
        let connections = trial.connections;
        assert_eq!((trial.offered, connections.opened), (10, 10));
        assert_eq!((connections.established, connections.closed), (10, 10));
        assert_eq!((connections.unexpected, connections.lapsed), (0, 0));
        assert_eq!(trial.sent.data, 30);
        assert_eq!(trial.received.unwrap().distinct, 30);
        let served = trial.served.unwrap();
        assert_eq!((served.syns, served.established, served.fins), (10, 10, 10));
        assert_eq!(trial.handshake.len(), 10);
    }
}

#[test]
fn latency_counts_from_the_time_that_was_meant() {
    // A wire that is shut for 20 ms: frames due meanwhile wait in the generator.
    let mut ends = ends(UDP, None, false, |_, frame| vec![frame]);
    let progress = Progress::default();
    ends.prepare(1e6, &progress).unwrap();
    ends.begin(5, &plan(0)).unwrap();
    let start = monotonic_nanos();
    let pace = Pace::new(start, Some(10_000.0));
    std::thread::sleep(Duration::from_millis(20));
    while ends.client.sent().data < 200 {
        ends.client.send(&pace, 200, monotonic_nanos());
        ends.turn(&progress);
    }
    ends.settle(&progress);
    let latency = ends.server.unwrap().tally().latency().clone();
    assert_eq!(latency.len(), 200);
    // The first was due at 0.1 ms, the hundredth at 10 ms; none was sent before 20 ms.
    assert!(latency.max() > 19_000_000, "{}", latency.max());
    assert!(latency.value_at_quantile(0.5) > 9_000_000);
}
