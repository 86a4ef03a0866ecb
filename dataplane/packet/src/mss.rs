//! The maximum segment size that a SYN announces (RFC 9293, section 3.7.1), made smaller on the way.

use crate::checksum::{field_offset, fold};
use crate::parse::{Network, Parsed, TCP};
use crate::tcp::{HEADER, data_offset};
use crate::{ipv4, ipv6};

/// End of option list, and no-operation: options of one byte.
const END: u8 = 0;
const NOP: u8 = 1;
/// Maximum segment size, and its length.
const MSS: u8 = 2;
const MSS_LEN: usize = 4;

/// The segment size with which packets of this family are no longer than `mtu` bytes: without options of
/// either header, as RFC 6691 counts.
#[must_use]
pub const fn largest(network: Network, mtu: u16) -> u16 {
    let header = match network {
        Network::V6 => ipv6::HEADER,
        Network::V4 | Network::Arp => ipv4::HEADER,
    };
    mtu.saturating_sub((header + HEADER) as u16)
}

/// Lowers the segment size that a segment with SYN announces to `most`, and its checksum by the difference. True if
/// that changed it. One that announces none means 536 or 1220 bytes (RFC 9293, section 3.7.1) and stays.
pub fn clamp(bytes: &mut [u8], parsed: &Parsed, most: u16) -> bool {
    if parsed.protocol != TCP {
        return false;
    }
    let Some(segment) = bytes.get_mut(parsed.l4()..parsed.end()) else {
        return false;
    };
    let Some(at) = data_offset(segment).and_then(|end| value_at(segment.get(HEADER..end)?)) else {
        return false;
    };
    let at = HEADER + at;
    let announced = u16::from_be_bytes([segment[at], segment[at + 1]]);
    let Some(checksum) = field_offset(TCP).filter(|_| announced > most) else {
        return false;
    };
    segment[at..at + 2].copy_from_slice(&most.to_be_bytes());
    // RFC 1624, equation 3. A value at an odd offset lies in two words, which is the same as its bytes
    // exchanged in one (RFC 1071, section 2 (B)).
    let word = |value: u16| {
        u64::from(if at.is_multiple_of(2) {
            value
        } else {
            value.swap_bytes()
        })
    };
    let old = u16::from_be_bytes([segment[checksum], segment[checksum + 1]]);
    let new = !fold(u64::from(!old) + u64::from(!(word(announced) as u16)) + word(most));
    segment[checksum..checksum + 2].copy_from_slice(&new.to_be_bytes());
    true
}

/// Where in the options the value of the segment size begins.
fn value_at(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *options.get(at)? {
            END => return None,
            NOP => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if len < 2 {
                    return None;
                }
                if kind == MSS && len == MSS_LEN && options.len() >= at + MSS_LEN {
                    return Some(at + 2);
                }
                at += len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{FrameSpec, Transport};
    use crate::checksum::{Checksum, pseudo, verify_l4};
    use crate::parse::parse;
    use crate::tcp::{ACK, SYN};

    fn syn(v6: bool, flags: u8, options: &[u8]) -> Vec<u8> {
        let (from, to) = if v6 {
            ("[2001:db8::1]:40000", "[2001:db8::2]:80")
        } else {
            ("203.0.113.50:40000", "198.51.100.7:80")
        };
        let mut spec = FrameSpec::tcp(from.parse().unwrap(), to.parse().unwrap(), flags);
        spec.transport = Transport::Tcp {
            flags,
            seq: 7,
            ack: 9,
            window: 1000,
            options: options.to_vec(),
        };
        spec.bytes().unwrap()
    }

    /// The options after clamping, with the segment's checksum verified.
    fn clamped(frame: &[u8], most: u16) -> (bool, Vec<u8>) {
        let mut bytes = frame.to_vec();
        let parsed = parse(&bytes).unwrap();
        let changed = clamp(&mut bytes, &parsed, most);
        let segment = &bytes[parsed.l4()..parsed.end()];
        let (source, destination) = crate::tuple::addresses(&bytes, &parsed).unwrap();
        let sum = pseudo(source, destination, TCP, segment.len()).unwrap();
        assert_eq!(verify_l4(segment, sum, TCP), Checksum::Good);
        let end = data_offset(segment).unwrap();
        (changed, segment[HEADER..end].to_vec())
    }

    #[test]
    fn a_larger_size_is_lowered_and_a_smaller_one_stays() {
        for v6 in [false, true] {
            for flags in [SYN, SYN | ACK] {
                let frame = syn(v6, flags, &[2, 4, 0x05, 0xb4]);
                assert_eq!(clamped(&frame, 1360), (true, vec![2, 4, 0x05, 0x50]));
                assert_eq!(clamped(&frame, 1460), (false, vec![2, 4, 0x05, 0xb4]));
                assert_eq!(clamped(&frame, 9000), (false, vec![2, 4, 0x05, 0xb4]));
            }
        }
    }

    #[test]
    fn it_is_found_behind_other_options_at_odd_and_even_offsets() {
        // What Linux sends, and the same moved by one byte.
        let linux = [
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
        ];
        let (changed, options) = clamped(&syn(false, SYN, &linux), 1000);
        assert!(changed);
        assert_eq!(options[..4], [2, 4, 0x03, 0xe8]);
        assert_eq!(options[4..], linux[4..]);
        let odd = [1, 2, 4, 0x05, 0xb4, 4, 2, 0];
        assert_eq!(
            clamped(&syn(true, SYN, &odd), 1000),
            (true, vec![1, 2, 4, 0x03, 0xe8, 4, 2, 0])
        );
    }

    #[test]
    fn sizes_fit_their_mtu() {
        assert_eq!(largest(Network::V4, 1400), 1360);
        assert_eq!(largest(Network::V6, 1400), 1340);
        assert_eq!(largest(Network::V4, 20), 0);
    }

    proptest! {
        #[test]
        fn whatever_the_options_say_the_checksum_stays_right(
            options in proptest::collection::vec(any::<u8>(), 0..40), most: u16, v6: bool,
        ) {
            let before = syn(v6, SYN, &options);
            let (changed, after) = clamped(&before, most);
            let parsed = parse(&before).unwrap();
            prop_assert_eq!(!changed, after == before[parsed.l4() + HEADER..parsed.l4() + HEADER + after.len()]);
        }
    }
}
