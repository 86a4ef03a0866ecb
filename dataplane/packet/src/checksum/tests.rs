use proptest::prelude::*;

use super::*;
use crate::parse::SCTP;

/// RFC 1071, section 4.1, word by word in plain u32 arithmetic: the oracle.
fn reference(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let word = u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        sum += word;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn the_example_of_rfc_1071_section_3() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(fold(sum(&bytes)), 0xddf2);
    assert_eq!(finish(sum(&bytes)), !0xddf2);
}

#[test]
fn the_corner_case_of_rfc_1624_section_4() {
    // HC = 0xDD2F, m = 0x5555, m' = 0x3285, full computation gives 0x0000.
    assert_eq!(Delta::of_u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

#[test]
fn fold_keeps_every_carry() {
    assert_eq!(fold(0), 0);
    assert_eq!(fold(0xffff), 0xffff);
    assert_eq!(fold(0x1_0000), 1);
    assert_eq!(fold(0x1_ffff_fffe), 0xffff);
    assert_eq!(fold(u64::MAX), 0xffff);
    assert_eq!(fold(u64::MAX - 0xfffe), 1);
}

#[test]
fn a_known_ipv4_header() {
    let mut header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];
    assert_eq!(ipv4_header_checksum(&header), 0xb861);
    header[10..12].fill(0xaa);
    assert_eq!(ipv4_header_checksum(&header), 0xb861);
}

/// Every old word against every checksum, with new words that include the corners: 2^16 × 2^16 is
/// too much for three variables, so `new` takes the values where carries and zeros meet.
#[test]
fn every_change_of_one_word_equals_the_full_computation() {
    for new in [0u16, 1, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        for old in 0..=u16::MAX {
            // The rest of the packet: never all zero, as in every real packet.
            for rest in [
                1u16,
                0x00ff,
                0x8000,
                0xfffe,
                0xffff,
                !old.saturating_sub(1),
                old | 1,
            ] {
                let before = finish(u64::from(old) + u64::from(rest));
                let after = finish(u64::from(new) + u64::from(rest));
                assert_eq!(Delta::of_u16(old, new).apply(before), after);
                // A sender may write minus zero for zero: the result is the same.
                if before == 0 {
                    assert_eq!(Delta::of_u16(old, new).apply(0xffff), after);
                }
            }
        }
    }
}

#[test]
fn every_checksum_survives_a_change_and_the_change_back() {
    for delta in [1, 0x1234, 0x8000, 0xfffe, 0xffff].map(Delta::from_bits) {
        for checksum in 0..=u16::MAX {
            let back = delta.inverse().apply(delta.apply(checksum));
            // The two zeros are one number; the result is always the one that a sender computes.
            assert_eq!(back, if checksum == 0xffff { 0 } else { checksum });
            if checksum != 0 {
                let back = delta.inverse().apply_udp(delta.apply_udp(checksum));
                assert_eq!(back, checksum);
            }
        }
    }
}

#[test]
fn every_delta_has_an_inverse_and_a_stored_form() {
    // Not a stored form, but memory that another process writes may hold it.
    assert!((0..=u16::MAX).all(|checksum| Delta::from_bits(0).apply(checksum) == checksum));
    for bits in 1..=u16::MAX {
        let delta = Delta::from_bits(bits);
        assert_eq!(delta.combine(delta.inverse()), Delta::NONE);
        assert_eq!(delta.combine(Delta::NONE), delta);
        assert_eq!(Delta::from_bits(delta.bits()), delta);
    }
}

#[test]
fn udp_never_turns_a_set_checksum_into_an_unset_one_nor_back() {
    for bits in [1, 0x5555, 0xfffe, 0xffff] {
        let delta = Delta::from_bits(bits);
        assert_eq!(delta.apply_udp(0), 0);
        for checksum in 1..=u16::MAX {
            assert_ne!(delta.apply_udp(checksum), 0);
        }
    }
}

#[test]
fn udp_with_a_computed_zero_sends_ones() {
    // Chosen so that the sum folds to 0xffff.
    let mut l4 = [0, 1, 0, 2, 0, 10, 0, 0, 0, 0];
    let pseudo = pseudo_v4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, UDP, l4.len());
    let missing = !fold(pseudo + sum(&l4));
    l4[8..].copy_from_slice(&missing.to_be_bytes());
    assert_eq!(l4_checksum(&l4, pseudo, UDP), Some(0xffff));
    assert!(write_l4(&mut l4, pseudo, UDP));
    assert_eq!(verify_l4(&l4, pseudo, UDP), Checksum::Good);
}

#[test]
fn udp_shorter_than_its_packet_counts_by_its_own_length() {
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let mut l4 = [0x30, 0x39, 0, 53, 0, 9, 0, 0, b'x'];
    assert!(write_l4(&mut l4, pseudo_v4(src, dst, UDP, 9), UDP));
    let mut packet = l4.to_vec();
    packet.extend_from_slice(b"trailer");
    let pseudo = pseudo_v4(src, dst, UDP, packet.len());
    assert_eq!(verify_l4(&packet, pseudo, UDP), Checksum::Good);
    packet[5] = 17;
    assert_eq!(verify_l4(&packet, pseudo, UDP), Checksum::Bad);
    packet[5] = 7;
    assert_eq!(verify_l4(&packet, pseudo, UDP), Checksum::Bad);
    assert_eq!(l4_checksum(&packet, pseudo, UDP), None);
}

#[test]
fn what_a_virtual_link_leaves_unfinished_is_told_from_bad() {
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let mut tcp = [0x11; 24];
    let pseudo = pseudo_v4(src, dst, TCP, tcp.len());
    tcp[16..18].copy_from_slice(&fold(pseudo).to_be_bytes());
    assert_eq!(verify_l4(&tcp, pseudo, TCP), Checksum::Unfinished);
    tcp[17] ^= 1;
    assert_eq!(verify_l4(&tcp, pseudo, TCP), Checksum::Bad);
    assert!(write_l4(&mut tcp, pseudo, TCP));
    assert_eq!(verify_l4(&tcp, pseudo, TCP), Checksum::Good);
    assert_eq!(verify_l4(&tcp[..17], pseudo, TCP), Checksum::Bad);
    assert_eq!(verify_l4(&tcp, pseudo, 47), Checksum::Absent);
    assert_eq!(verify_l4(&[0; 8], 0, UDP), Checksum::Absent);
}

proptest! {
    #[test]
    fn the_fast_sum_is_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(fold(sum(&bytes)), reference(&bytes));
    }

    #[test]
    fn sums_of_parts_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..150) {
        let at = (at * 2).min(bytes.len() & !1);
        let (front, back) = bytes.split_at(at);
        prop_assert_eq!(fold(sum(front) + sum(back)), reference(&bytes));
    }

    #[test]
    fn incremental_equals_full_for_any_rewrite(
        old in any::<(u128, u128, u16, u16)>(),
        new in any::<(u128, u128, u16, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 4..100),
        protocol in prop_oneof![Just(TCP), Just(UDP)],
    ) {
        let checksum = |(src, dst, sport, dport): (u128, u128, u16, u16)| {
            let mut l4 = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
            l4.extend_from_slice(&[0; 16]);
            l4.extend_from_slice(&payload);
            let len = l4.len() as u16;
            l4[4..6].copy_from_slice(&len.to_be_bytes());
            l4_checksum_v6(src.into(), dst.into(), protocol, &l4).unwrap()
        };
        let delta = Delta::of_u128(old.0, new.0)
            .combine(Delta::of_u128(old.1, new.1))
            .combine(Delta::of_u16(old.2, new.2))
            .combine(Delta::of_u16(old.3, new.3));
        let apply = |field| if protocol == UDP { delta.apply_udp(field) } else { delta.apply(field) };
        prop_assert_eq!(apply(checksum(old)), checksum(new));
    }

    #[test]
    fn deltas_agree_whatever_the_width(old in any::<u32>(), new in any::<u32>()) {
        let by_words = Delta::of_u16((old >> 16) as u16, (new >> 16) as u16)
            .combine(Delta::of_u16(old as u16, new as u16));
        let by_sums = Delta::of_sums(sum(&old.to_be_bytes()), sum(&new.to_be_bytes()));
        prop_assert_eq!(Delta::of_u32(old, new), by_words);
        prop_assert_eq!(Delta::of_u128(old.into(), new.into()), by_words);
        prop_assert_eq!(by_sums, by_words);
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(
        l4 in proptest::collection::vec(any::<u8>(), 0..80),
        pseudo in any::<u32>(),
        protocol in any::<u8>(),
    ) {
        let mut l4 = l4;
        for protocol in [protocol, ICMP, TCP, UDP, ICMPV6, SCTP] {
            let _ = verify_l4(&l4, u64::from(pseudo), protocol);
            if write_l4(&mut l4, u64::from(pseudo), protocol) {
                prop_assert_eq!(verify_l4(&l4, u64::from(pseudo), protocol), Checksum::Good);
            }
        }
        let _ = ipv4_header_checksum(&l4);
    }
}
