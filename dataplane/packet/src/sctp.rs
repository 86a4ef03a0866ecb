//! SCTP's checksum: CRC32c over the whole packet with the field zero (RFC 9260 section 6.8).

/// Offset of the checksum in the common header (RFC 9260 section 3.1).
const FIELD: std::ops::Range<usize> = 8..12;

/// The checksum that belongs into `packet` (common header and chunks), whatever its field holds
/// now. Zero for fewer than 12 bytes, which no packet is.
#[must_use]
pub fn checksum(packet: &[u8]) -> u32 {
    let (Some(ports), Some(chunks)) = (packet.get(..FIELD.start), packet.get(FIELD.end..)) else {
        return 0;
    };
    crc32c::crc32c_append(
        crc32c::crc32c_append(crc32c::crc32c(ports), &[0; 4]),
        chunks,
    )
}

/// Writes the right checksum into `packet`. The CRC's bytes go out least significant first
/// (RFC 9260 appendix A).
pub fn write_checksum(packet: &mut [u8]) {
    let checksum = checksum(packet);
    if let Some(field) = packet.get_mut(FIELD) {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Whether the checksum of `packet` is right.
#[must_use]
pub fn is_valid(packet: &[u8]) -> bool {
    packet
        .get(FIELD)
        .is_some_and(|field| field == checksum(packet).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc32c_is_the_published_one() {
        // CRC-32/ISCSI catalogue: check = 0xe3069283 over "123456789".
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_written_checksum_is_valid_and_any_flipped_bit_is_not() {
        let mut packet: Vec<u8> = (0..40).collect();
        write_checksum(&mut packet);
        assert!(is_valid(&packet));
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_valid(&packet));
            packet[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn short_packets_are_left_alone() {
        let mut short = [1; 11];
        write_checksum(&mut short);
        assert_eq!(short, [1; 11]);
        assert!(!is_valid(&short));
    }
}
