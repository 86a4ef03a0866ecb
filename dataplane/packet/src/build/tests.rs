use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::checksum::{self, Checksum, verify_l4};
use crate::parse::{ICMP, Network, SCTP, UDP, parse};
use crate::sctp;
use crate::tcp::PSH;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The same frame from another builder.
fn oracle(spec: &FrameSpec) -> Vec<u8> {
    let (from, to) = (spec.source_mac.0, spec.destination_mac.0);
    let link = PacketBuilder::ethernet2(from, to);
    macro_rules! network {
        ($link:expr) => {
            match (spec.source.ip(), spec.destination.ip()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    $link.ipv4(source.octets(), destination.octets(), spec.ttl)
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    $link.ipv6(source.octets(), destination.octets(), spec.ttl)
                }
                _ => unreachable!("one family"),
            }
        };
    }
    let network = match spec.vlan {
        None => network!(link),
        Some(id) => network!(link.single_vlan(id.try_into().unwrap())),
    };
    let (sport, dport) = (spec.source.port(), spec.destination.port());
    let mut bytes = Vec::new();
    match &spec.transport {
        Transport::Udp => network.udp(sport, dport).write(&mut bytes, &spec.payload),
        Transport::Tcp {
            seq,
            window,
            ack,
            options,
            ..
        } => network
            .tcp(sport, dport, *seq, *window)
            .psh()
            .ack(*ack)
            .options_raw(options)
            .unwrap()
            .write(&mut bytes, &spec.payload),
        Transport::Echo { reply, id, seq } => match (spec.source.is_ipv4(), reply) {
            (true, false) => network
                .icmpv4_echo_request(*id, *seq)
                .write(&mut bytes, &spec.payload),
            (true, true) => network
                .icmpv4_echo_reply(*id, *seq)
                .write(&mut bytes, &spec.payload),
            (false, false) => network
                .icmpv6_echo_request(*id, *seq)
                .write(&mut bytes, &spec.payload),
            (false, true) => network
                .icmpv6_echo_reply(*id, *seq)
                .write(&mut bytes, &spec.payload),
        },
        Transport::Sctp { .. } | Transport::Raw { .. } => unreachable!("not in the strategy"),
    }
    .unwrap();
    bytes
}

fn transports() -> impl Strategy<Value = Transport> {
    let options = proptest::collection::vec(any::<u8>(), 0..=40);
    prop_oneof![
        Just(Transport::Udp),
        (any::<(u32, u32, u16)>(), options).prop_map(|((seq, ack, window), options)| {
            Transport::Tcp {
                flags: PSH | ACK,
                seq,
                ack,
                window,
                options,
            }
        }),
        any::<(bool, u16, u16)>().prop_map(|(reply, id, seq)| Transport::Echo { reply, id, seq }),
    ]
}

/// Any spec that both builders can express.
fn specs() -> impl Strategy<Value = FrameSpec> {
    (
        prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        ],
        any::<(u16, u16, u8, [u8; 6], [u8; 6])>(),
        proptest::option::of(0u16..4096),
        transports(),
        proptest::collection::vec(any::<u8>(), 0..100),
    )
        .prop_map(
            |((source, destination), numbers, vlan, transport, payload)| {
                let (sport, dport, ttl, source_mac, destination_mac) = numbers;
                FrameSpec {
                    source_mac: Mac(source_mac),
                    destination_mac: Mac(destination_mac),
                    vlan,
                    ttl,
                    payload,
                    ..FrameSpec::new(
                        (source, sport).into(),
                        (destination, dport).into(),
                        transport,
                    )
                }
            },
        )
}

proptest! {
    #[test]
    fn frames_are_those_that_another_builder_builds(spec in specs()) {
        prop_assert_eq!(spec.bytes().unwrap(), oracle(&spec));
    }

    #[test]
    fn frames_parse_and_their_checksums_are_what_was_asked_for(
        spec in specs(),
        fill in prop_oneof![Just(Fill::Right), Just(Fill::Unfinished), Just(Fill::Wrong)],
        ip_options in proptest::collection::vec(Just(0u8), 0..=40),
        pad_to in 0usize..200,
    ) {
        let spec = FrameSpec { fill, ip_options, pad_to, ..spec };
        let bytes = spec.bytes().unwrap();
        let parsed = parse(&bytes).unwrap();
        prop_assert_eq!(parsed.l3(), spec.l3());
        prop_assert_eq!(parsed.network == Network::V4, spec.source.is_ipv4());
        prop_assert!(bytes.len() >= pad_to);
        let l4 = &bytes[parsed.l4()..parsed.end()];
        let (source, destination) = (spec.source.ip(), spec.destination.ip());
        let pseudo = checksum::pseudo(source, destination, parsed.protocol, l4.len()).unwrap();
        // One in 65,536 right or wrong checksums looks unfinished.
        let right = checksum::l4_checksum(l4, pseudo, parsed.protocol).unwrap();
        let unfinished = checksum::fold(pseudo);
        prop_assume!(unfinished != right && unfinished != !right);
        let expected = match fill {
            // ICMP over IPv4 has no pseudo-header: nothing is ever left to hardware.
            Fill::Unfinished if parsed.protocol == ICMP => return Ok(()),
            Fill::Unfinished => Checksum::Unfinished,
            Fill::Wrong if l4.get(6..8) == Some(&[0, 0]) && parsed.protocol == UDP => Checksum::Absent,
            Fill::Wrong => Checksum::Bad,
            _ => Checksum::Good,
        };
        prop_assert_eq!(verify_l4(l4, pseudo, parsed.protocol), expected);
    }
}

#[test]
fn sctp_starts_an_association() {
    let mut spec = FrameSpec::sctp(address("10.0.0.1:5000"), address("10.0.0.2:7777"));
    let bytes = spec.bytes().unwrap();
    let parsed = parse(&bytes).unwrap();
    assert_eq!((parsed.protocol, parsed.end() - parsed.l4()), (SCTP, 32));
    assert!(sctp::is_valid(&bytes[parsed.l4()..]));
    spec.fill = Fill::Wrong;
    assert!(!sctp::is_valid(&spec.bytes().unwrap()[parsed.l4()..]));
    spec.fill = Fill::Unfinished;
    assert_eq!(spec.bytes().unwrap()[parsed.l4() + 8..][..4], [0; 4]);
}

#[test]
fn what_cannot_be_built_is_refused() {
    let (v4, v6) = (address("10.0.0.1:1"), address("[fd00::1]:1"));
    assert_eq!(
        FrameSpec::udp(v4, v6).bytes(),
        Err(BuildError::MixedFamilies)
    );
    let long = FrameSpec::udp(v4, v4).with_payload(&[0; 65_508]);
    assert_eq!(long.bytes(), Err(BuildError::TooLong));
    let long = FrameSpec::udp(v6, v6).with_payload(&[0; 65_528]);
    assert_eq!(long.bytes(), Err(BuildError::TooLong));
    let mut spec = FrameSpec::syn(v4, v4);
    spec.ip_options = vec![1; 41];
    assert_eq!(spec.bytes(), Err(BuildError::OptionsTooLong));
    let mut spec = FrameSpec::syn(v6, v6);
    spec.ip_options = vec![0; 2047];
    assert_eq!(spec.bytes(), Err(BuildError::OptionsTooLong));
    spec.ip_options = vec![0; 2046];
    assert!(spec.bytes().is_ok());
    if let Transport::Tcp { options, .. } = &mut spec.transport {
        *options = vec![1; 41];
    }
    assert_eq!(spec.bytes(), Err(BuildError::OptionsTooLong));
}
