use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::arbitrary;
use crate::digest::Digest;
use crate::message::{Message, Reason, Reply};
use crate::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, Kind, Network, NetworkRole, Object,
    OnEndpointGone, Prefix, Protocol, Ranges, Service, Why, service_key,
};
use crate::record::{BODY, MAX_MEMBERS, Record, RecordError, VERSION};

fn records(message: &Message) -> Vec<Record> {
    let mut records = Vec::new();
    encode(message, &mut records);
    records
}

/// What an assembler makes of the records: every message and every error, in order.
fn assemble(records: &[Record]) -> Vec<Result<Message, RecordError>> {
    let mut assembler = Assembler::new();
    records
        .iter()
        .filter_map(|record| assembler.push(record).transpose())
        .collect()
}

fn set(count: u16) -> Message {
    let member = |i: u16| Backend {
        address: [10, 0, (i >> 8) as u8, i as u8].into(),
        port: 80,
    };
    Message::Put(Object::BackendSet(BackendSet::new(
        (0..count).map(member).collect(),
    )))
}

fn service(name: &str) -> Message {
    Message::Put(Object::Service(Service {
        key: service_key(name, "http", Protocol::Tcp),
        name: name.to_owned(),
        port_name: "http".to_owned(),
        protocol: Protocol::Tcp,
        serving: 5,
        on_endpoint_gone: OnEndpointGone::Drain(30),
    }))
}

fn frontend() -> Message {
    Message::Put(Object::Frontend(Frontend {
        address: [10, 96, 0, 1].into(),
        protocol: Protocol::Tcp,
        port: 443,
        service: 1,
        kind: FrontendKind::ClusterIp,
        affinity_timeout: 0,
        ranges: 0,
        actions: [Action::Reject(Why::NoEndpoint); 3],
    }))
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(messages in prop::collection::vec(arbitrary::message(), 1..10)) {
        let records: Vec<_> = messages.iter().flat_map(records).collect();
        let decoded: Result<Vec<_>, _> = assemble(&records).into_iter().collect();
        prop_assert_eq!(decoded, Ok(messages));
    }

    #[test]
    fn replies_decode_to_themselves(reply in arbitrary::reply()) {
        prop_assert_eq!(decode_reply(&encode_reply(&reply)), Ok(reply));
    }

    #[test]
    fn valid_objects_validate(object in arbitrary::object()) {
        prop_assert_eq!(validate(&object), Ok(()));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<[u8; 128]>(), 1..8)) {
        let mut assembler = Assembler::new();
        for bytes in &bytes {
            let record = Record::read_from_bytes(bytes).unwrap();
            let _ = assembler.push(&record);
            let _ = decode_reply(&record);
        }
    }

    /// Nearly valid bytes reach deeper than arbitrary ones: a changed byte anywhere either is
    /// refused or makes another valid message, which then encodes to just these bytes.
    #[test]
    fn a_changed_byte_is_refused_or_another_message(
        message in arbitrary::message(),
        which in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        let mut changed = records(&message);
        let at = which.index(changed.len() * 128);
        let mut bytes: [u8; 128] = zerocopy::transmute!(changed[at / 128]);
        bytes[at % 128] ^= change;
        changed[at / 128] = zerocopy::transmute!(bytes);
        for result in assemble(&changed).into_iter().flatten() {
            prop_assert_eq!(records(&result), changed.clone());
        }
    }

    #[test]
    fn after_an_error_the_next_message_is_whole(
        broken in arbitrary::message(),
        lost in any::<prop::sample::Index>(),
        next in arbitrary::message(),
        last in arbitrary::message(),
    ) {
        let mut all = records(&broken);
        all.remove(lost.index(all.len()));
        all.extend(records(&next));
        all.extend(records(&last));
        let results = assemble(&all);
        // `next` may be taken for the interruption of `broken`, unless it is a Begin.
        prop_assert_eq!(results.last(), Some(&Ok(last)));
    }
}

#[test]
fn a_large_set_takes_one_record_for_five_members() {
    let message = set(1001);
    let records = records(&message);
    assert_eq!(records.len(), 201);
    assert_eq!(assemble(&records), [Ok(message)]);
}

#[test]
fn the_longest_names_fit() {
    let message = service(&format!("{}/{}", "n".repeat(63), "s".repeat(191)));
    assert_eq!(assemble(&records(&message)), [Ok(message)]);
    for name in [String::new(), "x".repeat(256), "x".repeat(70_000)] {
        let Message::Put(object) = service(&name) else {
            unreachable!()
        };
        assert_eq!(validate(&object), Err(RecordError::Text));
        let results = assemble(&records(&Message::Put(object)));
        assert!(results.iter().all(Result::is_err), "{} bytes", name.len());
    }
}

#[test]
fn each_broken_field_has_its_error() {
    type Change = fn(&mut Record);
    let cases: [(Message, Change, RecordError); 19] = [
        (set(1), |r| r.version = VERSION + 1, RecordError::Version),
        (set(1), |r| r.kind = 0x1ff, RecordError::Kind),
        (set(1), |r| r.kind = 0x201, RecordError::Kind),
        (set(1), |r| r.part = 1, RecordError::Part),
        (set(1), |r| r.parts = 2, RecordError::Parts),
        (
            set(1),
            |r| r.count = MAX_MEMBERS as u32 + 1,
            RecordError::Count,
        ),
        (set(1), |r| r.count = 0, RecordError::Count),
        (set(1), |r| r.key += 1, RecordError::Key),
        (set(1), |r| r.body[16] = 5, RecordError::Family),
        (set(1), |r| r.body[18..20].fill(0), RecordError::Port),
        (set(1), |r| r.body[17] = 1, RecordError::NotCanonical),
        (set(1), |r| r.reserved = 1, RecordError::NotCanonical),
        (service("a/b"), |r| r.body[14] = 0, RecordError::Protocol),
        (service("a/b"), |r| r.body[15] = 4, RecordError::Policy),
        (service("a/b"), |r| r.body[16] = 0xff, RecordError::Text),
        (service("a/b"), |r| r.body[12] = 200, RecordError::Text),
        (frontend(), |r| r.body[17] = 1, RecordError::Protocol),
        (frontend(), |r| r.body[20] = 0, RecordError::FrontendKind),
        (frontend(), |r| r.body[48 + 8] = 4, RecordError::Action),
    ];
    for (i, (message, change, error)) in cases.into_iter().enumerate() {
        let mut record = records(&message)[0];
        change(&mut record);
        assert_eq!(assemble(&[record]), [Err(error)], "case {i}");
    }
}

#[test]
fn members_out_of_order_or_twice_are_refused() {
    for copy in [[1, 0], [0, 0]] {
        let Message::Put(Object::BackendSet(good)) = set(2) else {
            unreachable!()
        };
        let bad = BackendSet {
            key: good.key,
            members: copy.map(|i| good.members[i]).to_vec(),
        };
        let results = assemble(&records(&Message::Put(Object::BackendSet(bad))));
        assert_eq!(results, [Err(RecordError::NotCanonical)]);
    }
}

#[test]
fn prefixes_are_checked() {
    let network = |address: [u8; 4], length| {
        let prefix = Prefix {
            address: address.into(),
            length,
        };
        Object::Network(Network {
            role: NetworkRole::Pods,
            prefix,
        })
    };
    assert_eq!(
        validate(&network([10, 0, 0, 0], 33)),
        Err(RecordError::PrefixLength)
    );
    assert_eq!(
        validate(&network([10, 0, 0, 1], 31)),
        Err(RecordError::HostBits)
    );
    assert_eq!(validate(&network([10, 0, 0, 1], 32)), Ok(()));
    assert_eq!(validate(&network([0, 0, 0, 0], 0)), Ok(()));
    assert_eq!(
        validate(&network([1, 0, 0, 0], 0)),
        Err(RecordError::HostBits)
    );
    let empty = Object::Ranges(Ranges::new(Vec::new()));
    assert_eq!(validate(&empty), Ok(()));
    assert_eq!(records(&Message::Put(empty.clone())).len(), 1);
}

#[test]
fn a_begin_may_interrupt_but_nothing_else() {
    let begin = Message::Begin {
        boot: 1,
        generation: 2,
        full: true,
    };
    let mut all = records(&set(20))[..2].to_vec();
    all.extend(records(&begin));
    assert_eq!(assemble(&all), [Ok(begin.clone())]);

    let mut all = records(&set(20))[..2].to_vec();
    all.extend(records(&frontend()));
    all.extend(records(&frontend()));
    assert_eq!(
        assemble(&all),
        [Err(RecordError::Interrupted), Ok(frontend())]
    );
}

#[test]
fn parts_of_two_sets_do_not_mix() {
    let (first, second) = (records(&set(10)), records(&set(9)));
    assert_eq!(assemble(&[first[0], second[1]]), [Err(RecordError::Part)]);
    let three = records(&set(15));
    assert_eq!(assemble(&[three[0], three[2]]), [Err(RecordError::Part)]);
}

#[test]
fn commands_are_no_replies_and_unknown_reasons_are_refused() {
    assert_eq!(decode_reply(&records(&set(1))[0]), Err(RecordError::Kind));
    let mut record = encode_reply(&Reply::Replay {
        reason: Reason::Started,
    });
    record.body[8] = 200;
    assert_eq!(decode_reply(&record), Err(RecordError::Reason));
    let mut record = encode_reply(&Reply::Replay {
        reason: Reason::Started,
    });
    record.body[BODY - 1] = 1;
    assert_eq!(decode_reply(&record), Err(RecordError::NotCanonical));
}

#[test]
fn digests_see_every_change_of_an_object() {
    let digest = |message: Message| {
        let Message::Put(object) = message else {
            unreachable!()
        };
        [&object].into_iter().collect::<Digest>()
    };
    assert_ne!(digest(set(5)), digest(set(6)));
    assert_ne!(digest(service("a/b")), digest(service("a/c")));
    assert_eq!(Kind::from_u8(0), None);
}
