//! What the data plane says about a link, for people.
//!
//! # Byte layout
//!
//! Four lines of eight 64-bit words, written by the data plane's main core under a sequence lock:
//!
//! | word | meaning |
//! |-----:|---------|
//! | 0 | sequence |
//! | 1 | bit 0 up, bit 1 there is a VLAN; 16–31 VLAN id, 32–47 MTU |
//! | 2 | MAC address, first octet lowest |
//! | 3 | speed in Mbit/s, 0 = unknown |
//! | 4 | frames that the device dropped for want of room |
//! | 5–6 | name, 16 bytes of UTF-8, zeros after it |
//! | 7–10 | driver, 32 bytes likewise |
//! | 11–31 | device, 168 bytes likewise |

use crate::layout::LINK_LINES;
use crate::seqlock;
use crate::slab::Line;
use crate::sync::AtomicU64;

/// Words after the sequence.
const WORDS: usize = LINK_LINES * 8 - 1;

/// A link, as the region describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkInfo {
    /// Name in the settings; cut to 16 bytes.
    pub name: String,
    /// Device in the settings, such as `af_packet:eth1`; cut to 168 bytes.
    pub device: String,
    /// DPDK's name of the driver; cut to 32 bytes.
    pub driver: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// MTU in bytes, without Ethernet header.
    pub mtu: u16,
    /// VLAN id of every frame.
    pub vlan: Option<u16>,
    /// Whether the link is up.
    pub up: bool,
    /// Speed in Mbit/s; 0 = unknown.
    pub speed_mbps: u32,
    /// Frames that the device dropped for want of room since start.
    pub missed: u64,
}

impl LinkInfo {
    /// Writes the description to the link's four lines.
    pub fn write(&self, lines: &[Line]) {
        let flags = u64::from(self.up)
            | u64::from(self.vlan.is_some()) << 1
            | u64::from(self.vlan.unwrap_or(0)) << 16
            | u64::from(self.mtu) << 32;
        let [a, b, c, d, e, f] = self.mac;
        let numbers = [
            flags,
            u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            u64::from(self.speed_mbps),
            self.missed,
        ];
        let texts = text::<16>(&self.name)
            .into_iter()
            .chain(text::<32>(&self.driver))
            .chain(text::<168>(&self.device));
        seqlock::write(words(lines), numbers.into_iter().chain(texts));
    }

    /// Reads the description from the link's four lines; `None` when there is none yet, or its
    /// writer died in the middle.
    #[must_use]
    pub fn read(lines: &[Line]) -> Option<Self> {
        let words: [u64; WORDS] = seqlock::read(words(lines))?;
        let &[flags, mac, speed, missed, ref texts @ ..] = &words;
        let [a, b, c, d, e, f, ..] = mac.to_le_bytes();
        let name = string(&texts[..2]);
        (!name.is_empty()).then(|| Self {
            name,
            driver: string(&texts[2..6]),
            device: string(&texts[6..]),
            mac: [a, b, c, d, e, f],
            mtu: (flags >> 32) as u16,
            vlan: (flags & 2 != 0).then_some((flags >> 16) as u16),
            up: flags & 1 != 0,
            speed_mbps: speed as u32,
            missed,
        })
    }
}

fn words(lines: &[Line]) -> impl Iterator<Item = &AtomicU64> + Clone {
    lines.iter().flat_map(|line| &line.0).take(1 + WORDS)
}

/// The text in `BYTES` bytes, cut between characters, as words.
fn text<const BYTES: usize>(text: &str) -> Vec<u64> {
    let mut bytes = [0; BYTES];
    let end = (0..=BYTES.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
    bytes.as_chunks().0.iter().map(word).collect()
}

/// Up to the first zero byte; what is not UTF-8 is replaced, for it is shown to people.
fn string(words: &[u64]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::slab::Slab;
    use crate::sync::Ordering;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_undoes_writing(
            name in "[a-z0-9]{1,15}", device in "[ -~]{0,168}", driver in "[a-z_]{0,32}",
            mac: [u8; 6], mtu: u16, vlan in prop::option::of(1u16..=4094), up: bool,
            speed_mbps: u32, missed: u64,
        ) {
            let lines = Slab::heap(LINK_LINES);
            let info = LinkInfo { name, device, driver, mac, mtu, vlan, up, speed_mbps, missed };
            info.write(&lines);
            prop_assert_eq!(LinkInfo::read(&lines), Some(info));
        }

        #[test]
        fn arbitrary_words_never_panic(words: [u64; 32]) {
            let lines = Slab::<Line>::heap(LINK_LINES);
            for (place, word) in lines.iter().flat_map(|line| &line.0).zip(words) {
                place.store(word & !1, Ordering::Relaxed);
            }
            let _ = LinkInfo::read(&lines);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters_and_nothing_is_none() {
        let lines = Slab::heap(LINK_LINES);
        assert_eq!(LinkInfo::read(&lines), None);
        let name = "ääääääääb".to_owned();
        LinkInfo {
            name,
            ..LinkInfo::default()
        }
        .write(&lines);
        assert_eq!(LinkInfo::read(&lines).unwrap().name, "ääääääää");
        let name = "aääääääää".to_owned();
        LinkInfo {
            name,
            ..LinkInfo::default()
        }
        .write(&lines);
        assert_eq!(LinkInfo::read(&lines).unwrap().name, "aäääääää");
    }
}
