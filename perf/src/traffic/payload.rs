//! What a test frame carries behind its transport header.
//!
//! | offset | bytes | field, little-endian |
//! |---|---|---|
//! | 0 | 2 | run (14 bits), kind (2 bits) |
//! | 2 | 6 | sequence number: 0, 1, 2, … in the order of sending |
//! | 8 | 6 | intended time of sending: nanoseconds of CLOCK_MONOTONIC, low 48 bits (78 hours) |
//! | 14 | 4 | check: over the fields above and the payload's length |
//! | 18 | any | filler: the same in every frame |
//!
//! 18 bytes are what a UDP datagram over IPv4 has room for in the smallest frame of Ethernet. IP and
//! transport checksums are the gateway's to rewrite; check and filler are not, so that a rewriting that
//! damages the payload and repairs the checksum shows.

/// Bytes of the fields.
pub const LEN: usize = 18;

/// Runs that can be told apart.
pub const RUNS: u16 = 1 << 14;

/// Number of the uncounted run before another.
pub const WARM_UP: u16 = RUNS - 1;

/// Longest payload.
pub const LONGEST: usize = 9600;

const FILLER: [u8; LONGEST] = filler();

const LOW_48: u64 = (1 << 48) - 1;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Measured.
    Data,
    /// Sent before, to make flows and warm caches.
    Prime,
    /// Sent after: its sequence number is the number of data frames sent.
    End,
}

/// The fields of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Number of the run, below [`RUNS`].
    pub run: u16,
    /// What the frame is for.
    pub kind: Kind,
    /// Counted within the run, below 2⁴⁸.
    pub sequence: u64,
    /// When it should have been sent: nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
}

impl Mark {
    /// The fields as bytes, for a payload of `len` bytes.
    #[must_use]
    pub fn bytes(&self, len: usize) -> [u8; LEN] {
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::Prime => 1,
            Kind::End => 2,
        };
        let first = u64::from(self.run | (kind << 14)) | (self.sequence & LOW_48) << 16;
        let time = self.time & LOW_48;
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..14].copy_from_slice(&time.to_le_bytes()[..6]);
        bytes[14..].copy_from_slice(&check(first, time, len).to_le_bytes());
        bytes
    }

    /// Reads a payload that arrived at `now` (nanoseconds of CLOCK_MONOTONIC); `None` if a single bit
    /// is not as it was sent.
    #[must_use]
    pub fn read(payload: &[u8], now: u64) -> Option<Self> {
        let (fields, rest) = payload.split_first_chunk::<LEN>()?;
        let (first, others) = fields.split_first_chunk::<8>()?;
        let first = u64::from_le_bytes(*first);
        let mut time = [0; 8];
        time[..6].copy_from_slice(&others[..6]);
        let time = u64::from_le_bytes(time);
        let is_whole = others[6..] == check(first, time, payload.len()).to_le_bytes()
            && FILLER.get(..rest.len()) == Some(rest);
        let kind = match (first >> 14) & 3 {
            0 => Kind::Data,
            1 => Kind::Prime,
            2 => Kind::End,
            _ => return None,
        };
        // The time's upper bits are those of the nearest moment.
        let ago = (now.wrapping_sub(time) << 16).cast_signed() >> 16;
        is_whole.then_some(Self {
            run: first as u16 & (RUNS - 1),
            kind,
            sequence: first >> 16,
            time: now.wrapping_add_signed(ago.wrapping_neg()),
        })
    }
}

/// What stands behind the fields in a payload of `len` bytes.
#[must_use]
pub fn filler_of(len: usize) -> &'static [u8] {
    &FILLER[..len.saturating_sub(LEN)]
}

/// A mixing of all that is in it (multipliers of splitmix64).
fn check(first: u64, time: u64, len: usize) -> u32 {
    let mut word = first ^ (time | (len as u64) << 48).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 30)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)) as u32
}

const fn filler() -> [u8; LONGEST] {
    let mut bytes = [0; LONGEST];
    let mut at = 0;
    while at < LONGEST {
        // Neighbours differ, and so do bytes a power of two apart.
        bytes[at] = (at * 167 + at / 256 * 13 + 7) as u8;
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(mark: &Mark, len: usize) -> Vec<u8> {
        let mut payload = mark.bytes(len).to_vec();
        payload.extend_from_slice(filler_of(len));
        payload
    }

    #[test]
    fn what_was_written_is_read() {
        for (run, sequence, time, now) in [
            (0, 0, 0, 0),
            (RUNS - 1, LOW_48, 1 << 50, (1 << 50) + 7),
            (7, 1 << 40, (1 << 48) - 5, (1 << 48) + 9),
            // Of two clocks that differ a little, the sender's may be ahead.
            (7, 1, (1 << 48) + 9, (1 << 48) - 5),
        ] {
            for kind in [Kind::Data, Kind::Prime, Kind::End] {
                let mark = Mark {
                    run,
                    kind,
                    sequence,
                    time,
                };
                for len in [18, 19, 64, 1472] {
                    let payload = payload(&mark, len);
                    assert_eq!(payload.len(), len);
                    assert_eq!(Mark::read(&payload, now), Some(mark));
                }
            }
        }
    }

    #[test]
    fn no_single_bit_is_changed_unnoticed_and_no_byte_lost() {
        let mark = Mark {
            run: 77,
            kind: Kind::Data,
            sequence: 123_456_789,
            time: 987_654_321,
        };
        let sent = payload(&mark, 60);
        for bit in 0..sent.len() * 8 {
            let mut damaged = sent.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::read(&damaged, mark.time), None, "bit {bit}");
        }
        for len in 0..sent.len() {
            assert_eq!(Mark::read(&sent[..len], mark.time), None, "{len} bytes");
        }
    }
}
