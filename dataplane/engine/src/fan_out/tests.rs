//! Dealing and taking together: whatever the workers do when, no frame overtakes one of its flow, and none is lost unseen.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use packet::build::FrameSpec;
use packet::memory::HeapBuffer;
use packet::{BURST, Buffer, Burst};
use proptest::prelude::*;

use super::*;

const FLOWS: u16 = 32;
/// As random as a data plane's: a small one would leave flows of neighbouring ports in neighbouring slots.
const SEED: u64 = 0xd1b5_4a32_d192_ed03;
/// Bytes before a UDP datagram's payload.
const HEADERS: usize = 14 + 20 + 8;

fn frame(flow: u16, number: u32) -> HeapBuffer {
    let client = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 10_000 + flow);
    let service = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 53);
    let spec = FrameSpec::udp(client, service).with_payload(&number.to_be_bytes());
    spec.frame().expect("a frame")
}

fn read(frame: &HeapBuffer) -> (u16, u32) {
    let bytes = frame.bytes();
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[HEADERS..HEADERS + 4]);
    let port = u16::from_be_bytes([bytes[34], bytes[35]]);
    (port - 10_000, u32::from_be_bytes(number))
}

/// Checks what leaves the gateway.
#[derive(Default)]
struct Wire {
    next: [u32; FLOWS as usize],
    sent: u64,
}

impl Wire {
    fn send(&mut self, frame: &HeapBuffer) {
        let (flow, number) = read(frame);
        let next = &mut self.next[usize::from(flow)];
        assert!(number >= *next, "flow {flow}: {number} after {next}");
        *next = number + 1;
        self.sent += 1;
    }
}

/// What the workers of a gateway do, one after the other. Worker 0 receives; who has no tx queue hands over to `sender`.
struct Model {
    dealer: Dealer<HeapBuffer>,
    inlets: Vec<Inlet<HeapBuffer>>,
    sender: Option<usize>,
    handover: VecDeque<HeapBuffer>,
    /// What the sender has taken out of it and not sent yet.
    in_hand: Vec<HeapBuffer>,
    wire: Wire,
    numbers: [u32; FLOWS as usize],
    received: u64,
    dealt: u64,
    refused: u64,
}

impl Model {
    fn new(mode: Mode, workers: usize, sender: Option<usize>, pressures: &Pressures) -> Self {
        let (outlets, inlets) = (1..workers).map(|worker| ring(0, worker, 64)).unzip();
        Self {
            dealer: Dealer::new(mode, outlets, pressures.clone(), SEED),
            inlets,
            sender,
            handover: VecDeque::new(),
            in_hand: Vec::new(),
            wire: Wire::default(),
            numbers: [0; FLOWS as usize],
            received: 0,
            dealt: 0,
            refused: 0,
        }
    }

    fn receive(&mut self, flows: &[u16]) {
        let mut burst: Burst<HeapBuffer> = flows
            .iter()
            .map(|flow| {
                let number = &mut self.numbers[usize::from(*flow)];
                *number += 1;
                frame(*flow, *number)
            })
            .collect();
        self.received += burst.len() as u64;
        if self.dealer.has_wish() {
            let is_sent = self.handover.is_empty() && self.in_hand.is_empty();
            self.dealer.change(|| is_sent);
        }
        if self.dealer.is_dealing() {
            let (dealt, refused) = (&mut self.dealt, &mut self.refused);
            self.dealer.deal(
                &mut burst,
                None,
                |frames, bytes| {
                    *dealt += frames;
                    assert_eq!(bytes, frames * (HEADERS as u64 + 4));
                },
                |frames| *refused += frames.len() as u64,
            );
        }
        send(
            0,
            self.sender,
            &mut burst,
            &mut self.handover,
            &mut self.wire,
        );
        if self.sender == Some(0) {
            self.send_for_others();
        }
    }

    fn take(&mut self, at: usize) {
        let (handover, wire, sender) = (&mut self.handover, &mut self.wire, self.sender);
        self.inlets[at].take(|burst| send(at + 1, sender, burst, handover, wire), |_| ());
        // What was handed over comes second, as in a worker's turn.
        if self.sender == Some(at + 1) {
            self.send_for_others();
        }
    }

    /// The sender takes frames in hand, and may lose its CPU then.
    fn take_in_hand(&mut self) {
        let count = self.handover.len().min(BURST - self.in_hand.len());
        self.in_hand.extend(self.handover.drain(..count));
    }

    fn send_for_others(&mut self) {
        loop {
            self.take_in_hand();
            if self.in_hand.is_empty() {
                return;
            }
            let frames = self.in_hand.drain(..);
            frames.for_each(|frame| self.wire.send(&frame));
        }
    }

    fn drain(&mut self) {
        for _ in 0..4 {
            (0..self.inlets.len()).for_each(|at| self.take(at));
        }
        self.send_for_others();
    }
}

fn send(
    worker: usize,
    sender: Option<usize>,
    burst: &mut Burst<HeapBuffer>,
    handover: &mut VecDeque<HeapBuffer>,
    wire: &mut Wire,
) {
    for frame in burst.drain(..) {
        if sender.is_some_and(|sender| sender != worker) {
            handover.push_back(frame);
        } else {
            wire.send(&frame);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Receive(Vec<u16>),
    Take(usize),
    TakeInHand,
    Send,
    Behind(usize, bool),
    Look(bool, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let flows = prop::collection::vec(0..FLOWS, 1..BURST);
    prop_oneof![
        5 => flows.prop_map(Step::Receive),
        3 => (0usize..3).prop_map(Step::Take),
        1 => Just(Step::TakeInHand),
        1 => Just(Step::Send),
        1 => (0usize..4, any::<bool>()).prop_map(|(worker, is)| Step::Behind(worker, is)),
        3 => (any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(behind, fed)| Step::Look(behind, fed)),
    ]
}

proptest! {
    #[test]
    fn no_frame_overtakes_one_of_its_flow_and_none_is_lost(
        steps in prop::collection::vec(step(), 1..200), workers in 2usize..5,
        sender in prop::option::of(0usize..4), is_even: bool, given in 0usize..32,
    ) {
        let mode = if is_even { Mode::Even } else { Mode::Auto };
        let pressures = Pressures::new(workers);
        let mut model = Model::new(mode, workers, sender.map(|sender| sender % workers), &pressures);
        // So many slots are dealt out already that most bursts have frames for takers.
        for _ in 0..given {
            model.dealer.look(true, false);
            model.dealer.change(|| true);
        }
        for step in steps {
            match step {
                Step::Receive(flows) => model.receive(&flows),
                Step::Take(at) => model.take(at % (workers - 1)),
                Step::TakeInHand => model.take_in_hand(),
                Step::Send => model.send_for_others(),
                Step::Behind(worker, is) => pressures.set(worker, is),
                Step::Look(is_behind, is_fed) => model.dealer.look(is_behind, is_fed),
            }
        }
        model.drain();
        prop_assert_eq!(model.received, model.wire.sent + model.refused);
        prop_assert!(model.dealt <= model.received);
    }
}

/// A model in which looks alternate with bursts that everybody keeps up with.
fn follow(model: &mut Model, looks: usize, is_behind: bool) {
    for _ in 0..looks {
        model.dealer.look(is_behind, false);
        model.receive(&[0, 1, 2]);
        model.drain();
    }
}

#[test]
fn nothing_is_dealt_until_the_receiver_is_behind_and_all_is_taken_back_from_who_is() {
    let pressures = Pressures::new(3);
    let mut model = Model::new(Mode::Auto, 3, None, &pressures);
    follow(&mut model, 100, false);
    assert!(!model.dealer.is_dealing());
    assert_eq!(model.dealt, 0);
    follow(&mut model, 10, true);
    let [_, one, two, ..] = model.dealer.counts();
    assert_eq!((one, two), (20, 20), "both have their part of 40 slots");
    pressures.set(2, true);
    follow(&mut model, 10, true);
    let [_, one, two, ..] = model.dealer.counts();
    assert_eq!((one, two), (60, 20), "who is behind gets no more");
    follow(&mut model, 100, false);
    let [_, one, two, ..] = model.dealer.counts();
    assert_eq!(
        (one, two),
        (60, 0),
        "and loses all when the receiver has time"
    );
    follow(&mut model, 100, true);
    assert_eq!(model.dealer.counts()[..3], [0, 128, 0]);
    pressures.set(1, true);
    follow(&mut model, 100, false);
    assert!(!model.dealer.is_dealing());
}

/// A ring that always has frames in it cannot be waited for.
#[test]
fn slots_are_taken_back_from_who_never_is_done() {
    let mut model = Model::new(Mode::Auto, 2, None, &Pressures::new(2));
    follow(&mut model, 32, true);
    assert_eq!(model.dealer.counts()[..2], [0, 128]);
    let flows: Vec<u16> = (0..30).collect();
    let mut looks = 0;
    // Without half of them it has about as much as it can carry.
    while model.dealer.counts()[0] < 48 {
        for _ in 0..8 {
            // More comes than it takes.
            model.take(0);
            model.receive(&flows);
            model.receive(&flows);
        }
        model.dealer.look(false, false);
        looks += 1;
        assert!(looks < 100, "{:?}", model.dealer.counts());
    }
    let dealt = model.dealt;
    model.drain();
    assert!(model.refused > 0 && dealt > 0);
    assert_eq!(model.received, model.wire.sent + model.refused);
}

/// Flows whose slots are closed come to their taker again when it takes too long: they are not refused for ever.
#[test]
fn slots_are_opened_again_where_frames_are_on_their_way_for_long() {
    let mut model = Model::new(Mode::Auto, 2, None, &Pressures::new(2));
    follow(&mut model, 32, true);
    let flows: Vec<u16> = (0..30).collect();
    (0..4).for_each(|_| model.receive(&flows));
    model.dealer.look(false, false);
    model.receive(&flows);
    model.dealer.look(false, false);
    let closed = |model: &Model| model.dealer.counts()[2];
    assert_eq!(closed(&model), 4);
    model.receive(&flows);
    assert_eq!(closed(&model), 4, "nothing was taken meanwhile");
    model.dealer.look(false, false);
    assert_eq!((closed(&model), model.dealer.counts()[1]), (0, 128));
    model.drain();
    assert_eq!(model.received, model.wire.sent + model.refused);
}

#[test]
fn who_is_fed_by_others_gives_nothing_away() {
    let mut model = Model::new(Mode::Auto, 2, None, &Pressures::new(2));
    for _ in 0..10 {
        model.dealer.look(true, true);
        assert!(!model.dealer.has_wish());
    }
}

#[test]
fn evenly_dealt_frames_stay_where_they_are_whatever_the_load() {
    let pressures = Pressures::new(4);
    let mut model = Model::new(Mode::Even, 4, None, &pressures);
    assert_eq!(model.dealer.counts()[..4], [32; 4]);
    pressures.set(1, true);
    follow(&mut model, 10, true);
    assert_eq!(model.dealer.counts()[..4], [32; 4]);
}

#[test]
fn frames_for_which_there_is_no_room_are_refused_and_those_before_them_kept() {
    let mut model = Model::new(Mode::Even, 2, None, &Pressures::new(2));
    let flows: Vec<u16> = (0..30).collect();
    for _ in 0..10 {
        model.receive(&flows);
    }
    assert_eq!(model.dealt, 64, "as many as the ring holds");
    assert!(model.refused > 0);
    let before = model.wire.sent;
    model.drain();
    assert_eq!(model.wire.sent - before, 64);
    assert_eq!(model.received, model.wire.sent + model.refused);
}

#[test]
fn the_time_of_a_frame_is_that_from_its_receipt_and_told_once_it_is_carried() {
    let (outlet, mut inlet) = ring(3, 1, 256);
    let mut dealer = Dealer::new(Mode::Even, vec![outlet], Pressures::new(2), SEED);
    let mut deal = |begun, flows: std::ops::Range<u16>| {
        let mut burst: Burst<HeapBuffer> = flows.map(|flow| frame(flow, 1)).collect();
        let mut dealt = 0;
        dealer.deal(&mut burst, begun, |frames, _| dealt += frames, |_| ());
        dealt
    };
    let first = deal(None, 0..30) + deal(None, 0..30) + deal(None, 0..30);
    assert!(first as usize > BURST, "{first}");
    deal(Some(4711), 0..30);
    assert_eq!(inlet.link(), 3);
    let mut times = Vec::new();
    let mut taken = 0;
    loop {
        let count = inlet.take(Burst::clear, |begun| times.push((taken, begun)));
        if count == 0 {
            break;
        }
        taken += count as u64;
    }
    let [(before, 4711)] = times[..] else {
        panic!("{times:?}")
    };
    assert!(
        before + BURST as u64 > first && before < taken,
        "{before} of {taken}"
    );
}

#[test]
fn two_threads_keep_the_order() {
    const BURSTS: u32 = 20_000;
    let (outlet, mut inlet) = ring(0, 1, 256);
    let mut dealer = Dealer::new(Mode::Even, vec![outlet], Pressures::new(2), SEED);
    let all_dealt = OnceLock::<u64>::new();
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let mut wire = Wire::default();
            while all_dealt.get().is_none_or(|all| *all > wire.sent) {
                inlet.take(
                    |burst| burst.drain(..).for_each(|frame| wire.send(&frame)),
                    |_| (),
                );
                std::thread::yield_now();
            }
            wire.sent
        });
        let (mut dealt, mut refused, mut kept) = (0, 0, 0);
        for number in 0..BURSTS {
            let mut burst: Burst<HeapBuffer> = (0..FLOWS).map(|flow| frame(flow, number)).collect();
            let refuse = |frames: &mut Burst<HeapBuffer>| refused += frames.len() as u64;
            dealer.deal(&mut burst, None, |frames, _| dealt += frames, refuse);
            kept += burst.len() as u64;
            if number.is_multiple_of(4) {
                std::thread::yield_now();
            }
        }
        assert!(kept > 0 && dealt > 0);
        assert_eq!(kept + dealt + refused, u64::from(BURSTS) * u64::from(FLOWS));
        all_dealt.set(dealt).unwrap();
        assert_eq!(taker.join().unwrap(), dealt);
    });
}
