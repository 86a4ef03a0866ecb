//! What a tracer sees of frames on their way through the real pipeline.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use common::datagram::cut;
use common::*;
use engine::departures::Departures;
use engine::flow::FlowTable;
use engine::shared::Options;
use engine::trace::{Pattern, Record, Request, Sheets, Step, Tracer};
use engine::{Now, Reason, Shared};
use hugepages::object::OnEndpointGone;
use hugepages::sync::Ordering;
use hugepages::{Line, Slab, TagLine};
use packet::build::FrameSpec;
use packet::memory::HeapBuffer;
use packet::tcp::{ACK, SYN};
use packet::{Buffer, Burst};

const NODEPORT: &str = "203.0.113.10:30379";
const CLIENT: &str = "203.0.113.50:40000";
const POD: &str = "100.96.2.2:80";

/// Records on the heap: as many as are left.
#[derive(Debug, Clone)]
struct Paper {
    left: usize,
    told: Rc<RefCell<Vec<Record>>>,
}

impl Sheets for Paper {
    fn take(&mut self) -> Option<Box<Record>> {
        self.left = self.left.checked_sub(1)?;
        Some(Box::new(Record::with_room(256)))
    }

    fn tell(&mut self, mut record: Box<Record>) {
        record.trim();
        self.told.borrow_mut().push(*record);
    }

    fn put_back(&mut self, _record: Box<Record>) {
        self.left += 1;
    }
}

struct Traced {
    gateway: Gateway,
    tracer: Tracer<Paper>,
    told: Rc<RefCell<Vec<Record>>>,
}

impl Traced {
    fn new(request: Request) -> Self {
        Self::of(
            Gateway::new(&[Spec::new("default/mynginx", &[NODEPORT], &[POD])]),
            request,
        )
    }

    fn of(gateway: Gateway, request: Request) -> Self {
        let told = Rc::default();
        let paper = Paper {
            left: 100,
            told: Rc::clone(&told),
        };
        let tracer = Tracer::new(gateway.shared.clone(), Arc::new(request), paper, 0);
        Self {
            gateway,
            tracer,
            told,
        }
    }

    /// What a worker does with one frame.
    fn put(&mut self, link: usize, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let now = Now {
            second: self.gateway.second,
        };
        let frame = HeapBuffer::from_bytes(bytes);
        if self.tracer.wants(link, frame.bytes()) {
            self.tracer.begin(link, frame.bytes());
        }
        let mut burst = Burst::new();
        burst.push(frame);
        let worker = &mut self.gateway.workers[0];
        worker.process(
            now,
            link,
            &mut burst,
            &mut self.gateway.pool,
            &mut self.tracer,
        );
        let mut sent = Vec::new();
        for (link, output) in worker.outputs() {
            sent.extend(output.drain(..).map(|frame| (link, frame.bytes().to_vec())));
        }
        self.tracer.tell();
        sent
    }

    /// Lets so many seconds pass, and the worker do its upkeep.
    fn upkeep_after(&mut self, seconds: u32) {
        self.gateway.second += seconds;
        let now = Now {
            second: self.gateway.second,
        };
        let Gateway { workers, pool, .. } = &mut self.gateway;
        workers[0].upkeep(now, 1, pool, &mut self.tracer);
        self.tracer.tell();
    }

    fn told(&self) -> Vec<Record> {
        self.told.take()
    }

    fn one(&self) -> Record {
        let mut told = self.told();
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    }
}

fn ends(patterns: &[&str]) -> Request {
    let group = |text: &&str| {
        let end = at(text);
        let port = (end.port() != 0).then_some(end.port());
        let address = end.ip();
        vec![Pattern { address, port }]
    };
    Request {
        ends: patterns.iter().map(group).collect(),
        ..Request::all()
    }
}

/// The names of a record's steps.
fn stages(record: &Record) -> Vec<String> {
    let name = |step: &Step| {
        let text = format!("{step:?}");
        let end = text.find(' ').unwrap_or(text.len());
        text[..end].to_owned()
    };
    record.steps.iter().map(name).collect()
}

fn translation(record: &Record) -> [std::net::SocketAddr; 4] {
    let found = record.steps.iter().find_map(|step| match step {
        Step::Translated {
            from,
            to,
            new_from,
            new_to,
        } => Some([*from, *to, *new_from, *new_to]),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("not translated: {record:?}"))
}

#[test]
fn both_directions_of_a_connection_are_seen_with_every_stage() {
    let mut traced = Traced::new(ends(&[CLIENT, NODEPORT]));
    let syn = from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT)));
    let sent = traced.put(OUTSIDE, &syn);
    let there = tuple(&sent[0].1);
    let record = traced.one();
    assert_eq!(
        stages(&record),
        ["Parsed", "Decided", "Translated", "NextHop"]
    );
    assert_eq!(record.frame.bytes, syn);
    assert_eq!(record.input, Some(OUTSIDE as u8));
    assert_eq!(record.out.len(), 1);
    assert_eq!(record.out[0].frame.bytes, sent[0].1, "as it leaves");
    assert_eq!(record.out[0].link, PODS as u8);
    assert_eq!(
        translation(&record),
        [at(CLIENT), at(NODEPORT), there.from(), there.to()]
    );
    let decided = &record.steps[1];
    assert!(
        matches!(decided, Step::Decided { verdict, frontend, kind: Some(kind), backends: 1, masquerade: true, .. }
            if verdict == "translate" && *frontend == Some(at(NODEPORT)) && kind == "nodeport"),
        "{decided:?}"
    );

    // The reply names neither the client nor the service.
    let reply = from_pod(FrameSpec::tcp(there.to(), there.from(), SYN | ACK));
    let sent = traced.put(PODS, &reply);
    let record = traced.one();
    assert_eq!(
        stages(&record),
        ["Parsed", "Found", "Translated", "NextHop"]
    );
    assert_eq!(
        translation(&record),
        [there.to(), there.from(), at(NODEPORT), at(CLIENT)]
    );
    assert_eq!(record.out[0].frame.bytes, sent[0].1);
    let found = &record.steps[1];
    assert!(
        matches!(found, Step::Found { state, forward: false, .. } if state == "half-open"),
        "{found:?}"
    );

    // By the fast lane, which the pipeline itself takes from now on.
    let ack = from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), ACK));
    for _ in 0..2 {
        traced.put(OUTSIDE, &ack);
        let record = traced.one();
        assert_eq!(
            stages(&record),
            ["Parsed", "Found", "Translated", "NextHop"]
        );
        assert_eq!(record.out.len(), 1);
    }
}

#[test]
fn frames_of_others_are_not_told() {
    let mut traced = Traced::new(ends(&[CLIENT]));
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at("203.0.113.51:40000"), at(NODEPORT))),
    );
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at("203.0.113.50:40001"), at(NODEPORT))),
    );
    assert_eq!(traced.told(), []);
    let mut by_protocol = Traced::new(Request {
        protocol: Some(packet::parse::UDP),
        link: Some(OUTSIDE as u8),
        ..Request::all()
    });
    by_protocol.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT))),
    );
    let datagram = FrameSpec::udp(at(CLIENT), at(NODEPORT));
    by_protocol.put(PODS, &from_pod(datagram.clone()));
    assert_eq!(by_protocol.told(), []);
    by_protocol.put(OUTSIDE, &from_client(datagram));
    by_protocol.one();
}

#[test]
fn a_drop_is_told_under_its_name_and_only_drops_if_only_they_are_asked_for() {
    let mut traced = Traced::new(Request {
        dropped: Some(vec![]),
        ..Request::all()
    });
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT))),
    );
    assert_eq!(traced.told(), []);
    let nobody = at("198.51.100.1:80");
    traced.put(OUTSIDE, &from_client(FrameSpec::syn(at(CLIENT), nobody)));
    let record = traced.one();
    assert_eq!(record.dropped(), Some("not_ours"));
    assert_eq!(stages(&record), ["Parsed", "Decided", "Dropped"]);
    assert_eq!(record.out, []);
}

#[test]
fn a_frame_that_cannot_be_parsed_is_found_by_its_addresses() {
    let mut broken = from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT)));
    broken[24] ^= 0xff; // the IPv4 header's checksum
    let mut traced = Traced::new(ends(&[CLIENT]));
    traced.put(OUTSIDE, &broken);
    let record = traced.one();
    assert_eq!(record.dropped(), Some("bad_ip_checksum"));
    assert_eq!(stages(&record), ["Parsed", "Dropped"]);
    let mut other = Traced::new(ends(&["203.0.113.51:0"]));
    other.put(OUTSIDE, &broken);
    assert_eq!(other.told(), []);
}

#[test]
fn a_frame_that_waits_for_its_next_hop_is_told_twice() {
    let pod = "100.96.2.9:80";
    let gateway = Gateway::new(&[Spec::new("default/mynginx", &[NODEPORT], &[pod])]);
    let mut traced = Traced::of(gateway, ends(&[CLIENT, NODEPORT]));
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT))),
    );
    let record = traced.one();
    assert!(matches!(record.steps.last(), Some(Step::Waits { what }) if what == "neighbour"));
    assert_eq!(record.out, []);

    let second = traced.gateway.second;
    let neighbours = &traced.gateway.shared.neighbours;
    assert!(neighbours.learn(PODS as u8, at(pod).ip(), POD_MAC, second));
    // Any burst takes up what waits.
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at("203.0.113.51:1"), at(NODEPORT))),
    );
    let record = traced.one();
    assert_eq!(record.input, None);
    assert_eq!(stages(&record), ["Resumed", "NextHop"]);
    assert_eq!(tuple(&record.out[0].frame.bytes).to(), at(pod));
}

#[test]
fn a_frame_that_waits_in_vain_is_dropped_under_its_name() {
    let gateway = Gateway::new(&[Spec::new(
        "default/mynginx",
        &[NODEPORT],
        &["100.96.2.9:80"],
    )]);
    let mut traced = Traced::of(gateway, ends(&[CLIENT]));
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT))),
    );
    traced.told();
    traced.upkeep_after(10);
    let record = traced.one();
    assert_eq!(record.dropped(), Some("unresolved"));
    assert_eq!(record.steps[0], Step::Resumed);
}

#[test]
fn the_question_after_a_next_hop_is_told_by_itself() {
    for (client, to, pod) in [
        (CLIENT, NODEPORT, "100.96.2.9:80"),
        (
            "[2001:db8:1::50]:40000",
            "[2001:db8:1::10]:30379",
            "[fd00:100:96:2::9]:80",
        ),
    ] {
        let gateway = Gateway::new(&[Spec::new("default/mynginx", &[to], &[pod])]);
        let address = vec![Pattern {
            address: at(pod).ip(),
            port: None,
        }];
        let request = Request {
            ends: vec![address],
            ..Request::all()
        };
        let mut traced = Traced::of(gateway, request);
        let syn = from_client(FrameSpec::syn(at(client), at(to)));
        // Before there is a flow the frame itself says nothing of the pod.
        let sent = traced.put(OUTSIDE, &syn);
        let record = traced.one();
        let question = Step::Own {
            what: "neighbour_question".into(),
        };
        assert_eq!((record.input, &record.steps[..]), (None, &[question][..]));
        assert_eq!(usize::from(record.out[0].link), PODS);
        assert_eq!(record.out[0].frame.bytes, sent[0].1);
    }
}

#[test]
fn the_question_leaves_the_frame_that_caused_it_its_own_way() {
    let gateway = Gateway::new(&[Spec::new(
        "default/mynginx",
        &[NODEPORT],
        &["100.96.2.9:80"],
    )]);
    let mut traced = Traced::of(gateway, Request::all());
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT))),
    );
    let told = traced.told();
    let stages: Vec<_> = told.iter().map(stages).collect();
    assert!(stages.contains(&vec!["Own".to_owned()]), "{stages:?}");
    let way = ["Parsed", "Decided", "Translated", "NextHop", "Waits"].map(str::to_owned);
    assert!(stages.contains(&way.to_vec()), "{stages:?}");
}

#[test]
fn segments_to_the_sides_of_a_connection_whose_endpoint_is_gone_are_told() {
    let spec = |backends: &[&str]| {
        let mut spec = Spec::new("default/mynginx", &[NODEPORT], backends);
        spec.on_endpoint_gone = OnEndpointGone::Reset;
        spec
    };
    let mut traced = Traced::of(Gateway::new(&[spec(&[POD])]), ends(&[CLIENT, NODEPORT]));
    let sent = traced.put(
        OUTSIDE,
        &from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT))),
    );
    let there = tuple(&sent[0].1);
    traced.put(
        PODS,
        &from_pod(FrameSpec::tcp(there.to(), there.from(), SYN | ACK)),
    );
    traced.put(
        OUTSIDE,
        &from_client(FrameSpec::tcp(at(CLIENT), at(NODEPORT), ACK)),
    );
    traced.told();

    let mut departures = Departures::default();
    let installation = traced.gateway.update(&[spec(&[])]);
    departures.note(&installation.departed, 0);
    let Gateway {
        shared, installed, ..
    } = &traced.gateway;
    departures.mark(shared, installed, 0);
    departures.give(shared, 0);
    traced.upkeep_after(0);
    let own = |record: &Record| match record.steps.first() {
        Some(Step::Own { what }) => Some((what.to_string(), usize::from(record.out[0].link))),
        _ => None,
    };
    let mut asked: Vec<_> = traced.told().iter().filter_map(own).collect();
    asked.sort();
    let probe = |link| ("endpoint_probe".to_owned(), link);
    assert_eq!(asked, [probe(OUTSIDE), probe(PODS)]);

    traced.put(
        PODS,
        &from_pod(FrameSpec::tcp(there.to(), there.from(), ACK)),
    );
    let told = traced.told();
    let resets: Vec<_> = told.iter().filter_map(own).collect();
    assert_eq!(resets, [("endpoint_reset".to_owned(), OUTSIDE)]);
    let answered = told
        .iter()
        .filter(|record| record.steps.contains(&Step::Answered));
    assert_eq!(answered.count(), 1);
}

#[test]
fn frames_that_are_not_asked_for_use_up_no_paper_when_many_are_taken_up_again() {
    let pod = "100.96.2.9:80";
    let gateway = Gateway::new(&[Spec::new("default/mynginx", &[NODEPORT], &[pod])]);
    let request = Request {
        dropped: Some(vec!["fragment_no_first".into()]),
        ..Request::all()
    };
    let mut traced = Traced::of(gateway, request.clone());
    for port in 0..50 {
        let client = format!("203.0.113.50:{}", 1000 + port);
        traced.put(
            OUTSIDE,
            &from_client(FrameSpec::syn(at(&client), at(NODEPORT))),
        );
    }
    let mut datagram = FrameSpec::udp(at(CLIENT), at(NODEPORT));
    datagram.fragment = 0;
    datagram.payload = vec![0; 64];
    traced.put(OUTSIDE, &cut(&from_client(datagram), 1, 32)[1]);
    assert_eq!(traced.told(), []);
    let paper = Paper {
        left: 1,
        told: Rc::clone(&traced.told),
    };
    traced.tracer = Tracer::new(traced.gateway.shared.clone(), Arc::new(request), paper, 0);
    traced.upkeep_after(10);
    assert_eq!(traced.one().dropped(), Some("fragment_no_first"));
}

#[test]
fn what_the_device_refuses_is_dropped_for_it() {
    let mut traced = Traced::new(Request::all());
    let syn = from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT)));
    let frame = HeapBuffer::from_bytes(&syn);
    traced.tracer.begin(OUTSIDE, frame.bytes());
    let now = Now {
        second: traced.gateway.second,
    };
    let mut burst = Burst::new();
    burst.push(frame);
    let Traced {
        gateway, tracer, ..
    } = &mut traced;
    gateway.workers[0].process(now, OUTSIDE, &mut burst, &mut gateway.pool, tracer);
    tracer.end();
    for frame in gateway.workers[0].output(PODS).unwrap().drain(..) {
        tracer.refused(PODS, frame.bytes());
    }
    traced.tracer.tell();
    let record = traced.one();
    assert_eq!(record.dropped(), Some("tx_full"));
    assert!(record.out[0].refused);
}

#[test]
fn a_frame_that_another_worker_began_and_the_device_refuses_is_told_by_itself() {
    let mut traced = Traced::new(ends(&[CLIENT]));
    let syn = from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT)));
    let sent = traced.gateway.put(0, OUTSIDE, &syn);
    let other = from_client(FrameSpec::syn(at("203.0.113.51:40000"), at(NODEPORT)));
    let unwanted = traced.gateway.put(0, OUTSIDE, &other);
    for (link, bytes) in sent.iter().chain(&unwanted) {
        traced.tracer.refused(*link, bytes);
    }
    traced.tracer.tell();
    let record = traced.one();
    assert_eq!(record.dropped(), Some("tx_full"));
    assert_eq!(
        (record.input, stages(&record)),
        (None, vec!["Dropped".to_owned()])
    );
    assert_eq!(record.frame.bytes, sent[0].1, "as it would have left");
    assert!(record.out[0].refused && usize::from(record.out[0].link) == PODS);
}

#[test]
fn a_flow_that_another_worker_has_left_unfinished_is_dropped_for_the_race() {
    let (buckets, entries) = (Slab::<TagLine>::heap(64), Slab::<Line>::heap(64 * 16));
    let mut shared = Shared::heap(1024, topology(), Options::default());
    shared.v4 = FlowTable::new(buckets.clone(), entries.clone(), [1, 2]);
    let specs = [Spec::new("default/mynginx", &[NODEPORT], &[POD])];
    let mut traced = Traced::of(Gateway::of(shared, &specs, 1), ends(&[CLIENT, NODEPORT]));
    let syn = from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT)));
    let sent = traced.put(OUTSIDE, &syn);
    assert_eq!(traced.one().dropped(), None, "{sent:?}");
    // As if the worker that claimed both entries had not written them yet.
    for word in entries.iter().flat_map(|line| &line.0) {
        word.store(0, Ordering::Relaxed);
    }
    let claims = buckets.iter().flat_map(|line| &line.0);
    let claims = claims.filter(|tag| tag.load(Ordering::Relaxed) != 0);
    assert_eq!(claims.count(), 2);
    assert_eq!(traced.put(OUTSIDE, &syn), []);
    assert_eq!(traced.one().dropped(), Some("flow_race"));
    let counters = traced.gateway.workers[0].counters();
    assert_eq!(counters.drops(Reason::FlowRace), 1);
}

#[test]
fn no_more_is_told_than_there_is_paper_for_and_frames_go_on() {
    let mut traced = Traced::new(Request::all());
    for port in 0..150 {
        let client = format!("203.0.113.50:{}", 1000 + port);
        let sent = traced.put(
            OUTSIDE,
            &from_client(FrameSpec::syn(at(&client), at(NODEPORT))),
        );
        assert_eq!(sent.len(), 1);
    }
    assert_eq!(traced.told().len(), 100);
}

#[test]
fn an_icmp_error_is_found_by_the_connection_that_it_is_about() {
    let mut traced = Traced::new(ends(&[CLIENT, NODEPORT]));
    let syn = from_client(FrameSpec::syn(at(CLIENT), at(NODEPORT)));
    let sent = traced.put(OUTSIDE, &syn);
    traced.told();
    let why = packet::icmp::Reason::TooBig { mtu: 1400 };
    let mut error = error_about(&sent[0].1, "100.96.2.2", why);
    error[..6].copy_from_slice(&PODS_MAC);
    error[6..12].copy_from_slice(&POD_MAC);
    traced.put(PODS, &error);
    let record = traced.one();
    assert_eq!(
        stages(&record),
        ["Parsed", "Found", "Translated", "NextHop"]
    );
    assert_eq!(record.out[0].link, OUTSIDE as u8);
}
