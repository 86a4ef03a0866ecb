//! How many frames come at once makes no difference to any of them, and neither does being watched.

mod common;

use common::*;
use engine::counters::{ServiceCounter, Total};
use engine::{Now, Reason};
use hugepages::object::Protocol;
use packet::Burst;
use packet::build::FrameSpec;
use packet::memory::HeapBuffer;
use packet::tcp::{ACK, FIN, PSH, SYN};

/// Frames that came out, by link.
type Sent = Vec<(usize, Vec<u8>)>;

fn services() -> [Spec; 3] {
    let udp = Spec::new("default/dns", &["203.0.113.10:30053"], &["100.96.2.6:53"]);
    [
        Spec::new("default/web", &["203.0.113.10:30379"], &["100.96.2.2:80"]),
        Spec {
            protocol: Protocol::Udp,
            masquerade: false,
            ..udp
        },
        Spec::new(
            "default/web6",
            &["[2001:db8:1::10]:30379"],
            &["[fd00:100:96:2::2]:80"],
        ),
    ]
}

/// The frames of one link go in, all at once or one by one, unwatched.
fn unwatched(gateway: &mut Gateway, link: usize, frames: &[Vec<u8>], at_once: usize) -> Sent {
    let mut sent = Vec::new();
    let now = Now {
        second: gateway.second,
    };
    for frames in frames.chunks(at_once) {
        let mut burst = Burst::new();
        burst.extend(frames.iter().map(|bytes| HeapBuffer::from_bytes(bytes)));
        gateway.workers[0].process(now, link, &mut burst, &mut gateway.pool, &mut ());
        assert!(burst.is_empty());
        sent.extend(gateway.collect(0));
    }
    // Those of one link keep their order; links are served in turns.
    sent.sort_by_key(|(link, _)| *link);
    sent
}

fn watched(gateway: &mut Gateway, link: usize, frames: &[Vec<u8>]) -> Sent {
    let mut sent = Vec::new();
    for frame in frames {
        sent.extend(gateway.put(0, link, frame));
    }
    sent.sort_by_key(|(link, _)| *link);
    sent
}

/// Everything that is counted, but for the number of bursts.
fn counts(gateway: &Gateway) -> Vec<u64> {
    let counters = gateway.workers[0].counters();
    let totals = [
        Total::Received,
        Total::Sent,
        Total::Hits,
        Total::FlowsCreated,
        Total::FlowsRemoved,
        Total::Refused,
        Total::Answered,
    ];
    let services = [
        ServiceCounter::Flows,
        ServiceCounter::Frames,
        ServiceCounter::Bytes,
        ServiceCounter::Refused,
    ];
    let totals = totals.into_iter().map(|total| counters.total(total));
    let drops = Reason::ALL.iter().map(|reason| counters.drops(*reason));
    let slots = (0..counters.slots() as u32)
        .flat_map(|slot| services.map(|counter| counters.service(slot, counter)));
    totals.chain(drops).chain(slots).collect()
}

/// What a client sends next; some of it is no good.
fn from_clients(round: u16) -> Vec<Vec<u8>> {
    let frame = |client: u16| {
        let port = 40_000 + client;
        let v4 = at(&format!("203.0.113.50:{port}"));
        let v6 = at(&format!("[2001:db8:1::50]:{port}"));
        let flags = match round {
            0 => SYN,
            1..=5 => [ACK, ACK | PSH][usize::from(client % 2)],
            _ => ACK | FIN,
        };
        let payload = vec![round as u8; usize::from(client * 7 + round) % 90];
        let spec = match client % 5 {
            0 | 1 => FrameSpec::tcp(v4, at("203.0.113.10:30379"), flags),
            2 => FrameSpec::udp(v4, at("203.0.113.10:30053")),
            3 => FrameSpec::tcp(v6, at("[2001:db8:1::10]:30379"), flags),
            _ => FrameSpec::tcp(v4, at("203.0.113.10:30999"), flags),
        };
        let mut bytes = from_client(spec.with_payload(&payload));
        match (client + round) % 11 {
            7 => bytes[0] ^= 4,
            8 if client % 5 != 3 => bytes[22] = 0,
            9 => bytes.truncate(40),
            _ => {}
        }
        bytes
    };
    (0..29).map(frame).collect()
}

/// What the pods answer to these frames.
fn from_pods(sent: &Sent, round: u16) -> Vec<Vec<u8>> {
    let came = sent.iter().filter(|(link, _)| *link == PODS);
    came.map(|(_, bytes)| {
        let came = tuple(bytes);
        let spec = if came.protocol == packet::parse::UDP {
            FrameSpec::udp(came.to(), came.from())
        } else {
            let flags = if round == 0 { SYN | ACK } else { ACK };
            FrameSpec::tcp(came.to(), came.from(), flags)
        };
        from_pod(spec.with_payload(&vec![1; usize::from(round) * 11]))
    })
    .collect()
}

#[test]
fn frames_in_a_burst_and_alone_become_the_same_and_are_counted_the_same() {
    let mut gateways = [(); 4].map(|()| Gateway::new(&services()));
    let mut put = |link: usize, frames: &[Vec<u8>]| {
        let [together, few, alone, seen] = &mut gateways;
        let sent = unwatched(together, link, frames, 32);
        assert_eq!(unwatched(few, link, frames, 3), sent);
        assert_eq!(unwatched(alone, link, frames, 1), sent);
        assert_eq!(watched(seen, link, frames), sent);
        let counted = counts(together);
        for other in [few, alone, seen] {
            assert_eq!(counts(other), counted);
        }
        sent
    };
    let mut back = 0;
    for round in 0..8 {
        let sent = put(OUTSIDE, &from_clients(round));
        back += put(PODS, &from_pods(&sent, round))
            .iter()
            .filter(|(link, _)| *link == OUTSIDE)
            .count();
    }
    assert!(back > 100, "answers that came back: {back}");
    for gateway in &gateways {
        gateway.assert_balanced();
    }
}
