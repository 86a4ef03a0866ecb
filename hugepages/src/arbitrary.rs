//! Strategies for valid objects and messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::digest::Digest;
use crate::message::{Message, Reason, Reply};
use crate::object::{
    Action, Backend, BackendSet, Frontend, FrontendKind, Kind, Network, NetworkRole, Object,
    ObjectId, OnEndpointGone, Prefix, Protocol, Ranges, Route, Service, Why, service_key,
};

pub(crate) fn object() -> BoxedStrategy<Object> {
    prop_oneof![
        service().prop_map(Object::Service),
        vec(backend(), 1..40).prop_map(|members| Object::BackendSet(BackendSet::new(members))),
        vec(prefix(), 0..40).prop_map(|prefixes| Object::Ranges(Ranges::new(prefixes))),
        frontend().prop_map(Object::Frontend),
        (role(), prefix()).prop_map(|(role, prefix)| Object::Network(Network { role, prefix })),
        route().prop_map(Object::Route),
    ]
    .boxed()
}

pub(crate) fn message() -> BoxedStrategy<Message> {
    prop_oneof![
        1 => any::<(u64, u64, bool)>().prop_map(|(boot, generation, full)| Message::Begin {
            boot,
            generation,
            full
        }),
        6 => object().prop_map(Message::Put),
        1 => (0..Kind::ALL.len(), any::<u64>())
            .prop_map(|(kind, key)| Message::Delete(ObjectId { kind: Kind::ALL[kind], key })),
        1 => any::<(u64, u64, u64, [u64; 2])>().prop_map(|(boot, generation, changes, digest)| {
            Message::Commit {
                boot,
                generation,
                changes,
                digest: Digest::from_words(digest),
            }
        }),
    ]
    .boxed()
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let reason = (1u8..=9)
        .prop_filter_map("a reason", Reason::from_u8)
        .boxed();
    prop_oneof![
        any::<(u64, [u64; 2], u64)>().prop_map(|(generation, digest, nanos)| Reply::Committed {
            generation,
            digest: Digest::from_words(digest),
            nanos,
        }),
        (any::<u64>(), reason.clone())
            .prop_map(|(generation, reason)| Reply::Refused { generation, reason }),
        reason.prop_map(|reason| Reply::Replay { reason }),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).into()),
        any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).into()),
    ]
}

fn backend() -> impl Strategy<Value = Backend> {
    (address(), 1..=u16::MAX).prop_map(|(address, port)| Backend { address, port })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0u8..=128).prop_map(|(address, length)| match address {
        IpAddr::V4(v4) => {
            let length = length % 33;
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Prefix {
                address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(),
                length,
            }
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Prefix {
                address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(),
                length,
            }
        }
    })
}

fn role() -> impl Strategy<Value = NetworkRole> {
    prop_oneof![
        Just(NetworkRole::Pods),
        Just(NetworkRole::Services),
        Just(NetworkRole::Own),
        Just(NetworkRole::Snat),
    ]
}

fn real_protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ]
}

fn service() -> impl Strategy<Value = Service> {
    let policy = prop_oneof![
        Just(OnEndpointGone::Keep),
        any::<u32>().prop_map(OnEndpointGone::Drain),
        Just(OnEndpointGone::Reset),
    ];
    let name = prop_oneof!["[a-z]{1,63}/[a-z]{1,191}", "[a-zäß日]{1,60}"];
    (name, "[a-z]{0,63}", real_protocol(), any::<u64>(), policy).prop_map(
        |(name, port_name, protocol, serving, on_endpoint_gone)| Service {
            key: service_key(&name, &port_name, protocol),
            name,
            port_name,
            protocol,
            serving,
            on_endpoint_gone,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let why = prop_oneof![
        Just(Why::NoEndpoint),
        Just(Why::NoLocalEndpoint),
        Just(Why::NoSuchPort),
        Just(Why::NotServedHere),
    ]
    .boxed();
    prop_oneof![
        (1..=u64::MAX, any::<bool>())
            .prop_map(|(set, masquerade)| Action::Translate { set, masquerade }),
        why.clone().prop_map(Action::Reject),
        why.prop_map(Action::Drop),
    ]
}

fn frontend() -> impl Strategy<Value = Frontend> {
    let place = prop_oneof![
        (real_protocol(), 1..=u16::MAX, 1..=u64::MAX),
        (Just(Protocol::Any), Just(0), any::<u64>()),
    ];
    let kind = prop_oneof![
        Just(FrontendKind::ClusterIp),
        Just(FrontendKind::NodePort),
        Just(FrontendKind::LoadBalancer),
        Just(FrontendKind::ExternalIp),
    ];
    let actions = [action(), action(), action()];
    (address(), place, kind, any::<u32>(), any::<u64>(), actions).prop_map(
        |(address, (protocol, port, service), kind, affinity_timeout, ranges, actions)| Frontend {
            address,
            protocol,
            port,
            service,
            kind,
            affinity_timeout,
            ranges,
            actions,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    (prefix(), any::<[u8; 16]>()).prop_map(|(to, via)| Route {
        to,
        via: match to.address {
            IpAddr::V4(_) => Ipv4Addr::new(via[0], via[1], via[2], via[3]).into(),
            IpAddr::V6(_) => Ipv6Addr::from(via).into(),
        },
    })
}
