//! What the data plane says about a link, for people.
//!
//! # Byte layout
//!
//! Four lines of eight 64-bit words, written by the data plane's main core under a sequence lock:
//!
//! | word | meaning |
//! |-----:|---------|
//! | 0 | sequence |
//! | 1 | bit 0 up, 1 there is a VLAN, 2 RSS, 3 promiscuous, 4 frames are dealt out if need be, 5 always; 16–31 VLAN id, 32–47 MTU, 48–63 MTU asked for |
//! | 2 | MAC address, first octet lowest |
//! | 3 | 0–31 speed in Mbit/s, 32–63 MTU of the kernel's interface; 0 = unknown |
//! | 4 | frames that the device dropped for want of room |
//! | 5–6 | name, 16 bytes of UTF-8, zeros after it |
//! | 7–10 | driver, 32 bytes likewise |
//! | 11–22 | device, 96 bytes likewise |
//! | 23 | 16 bits each: rx queues, tx queues, descriptors of an rx queue, of a tx queue |
//! | 24–25 | offloads that the device has, rx and tx: DPDK's bits, see [`crate::offloads`] |
//! | 26–28 | frames received with errors, that could not be sent, lost for want of buffers |
//! | 29–31 | zeros |

pub use settings::FanOut;

use crate::layout::LINK_LINES;
use crate::seqlock;
use crate::slab::Line;
use crate::sync::AtomicU64;

/// Words after the sequence.
const WORDS: usize = LINK_LINES * 8 - 1;

/// Bytes of a device's text.
const DEVICE: usize = 96;

/// A link, as the region describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkInfo {
    /// Name in the settings; cut to 16 bytes.
    pub name: String,
    /// Device in the settings, such as `af_packet:eth1`; cut to 96 bytes.
    pub device: String,
    /// DPDK's name of the driver; cut to 32 bytes.
    pub driver: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// MTU in bytes, without Ethernet header.
    pub mtu: u16,
    /// The MTU in the settings: more than the link's if the device has less.
    pub mtu_asked: u16,
    /// MTU of the kernel's interface behind it; 0 = there is none.
    pub interface_mtu: u32,
    /// VLAN id of every frame.
    pub vlan: Option<u16>,
    /// Whether the link is up.
    pub up: bool,
    /// Speed in Mbit/s; 0 = unknown.
    pub speed_mbps: u32,
    /// Queues, and how long they are.
    pub queues: Queues,
    /// Whether the device spreads flows over its rx queues.
    pub rss: bool,
    /// Whether it receives frames for other MAC addresses too.
    pub promiscuous: bool,
    /// How workers get frames that have no rx queue.
    pub fan_out: FanOut,
    /// Rx offloads that the device has: DPDK's bits. None is switched on.
    pub rx_offloads: u64,
    /// Tx offloads that the device has, likewise.
    pub tx_offloads: u64,
    /// Frames that the device dropped for want of room since start.
    pub missed: u64,
    /// What else went wrong at the device since start.
    pub errors: LinkErrors,
}

/// Queues of a link's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queues {
    /// Rx queues.
    pub rx: u16,
    /// Tx queues.
    pub tx: u16,
    /// Frames that an rx queue holds.
    pub rx_descriptors: u16,
    /// Frames that a tx queue holds.
    pub tx_descriptors: u16,
}

/// Frames that a link's device has counted as failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkErrors {
    /// Received with errors.
    pub rx: u64,
    /// That could not be sent.
    pub tx: u64,
    /// Lost because there was no buffer to receive into.
    pub no_buffer: u64,
}

impl LinkInfo {
    /// Writes the description to the link's four lines.
    pub fn write(&self, lines: &[Line]) {
        let flags = u64::from(self.up)
            | u64::from(self.vlan.is_some()) << 1
            | u64::from(self.rss) << 2
            | u64::from(self.promiscuous) << 3
            | u64::from(self.fan_out == FanOut::Auto) << 4
            | u64::from(self.fan_out == FanOut::Even) << 5
            | u64::from(self.vlan.unwrap_or(0)) << 16
            | u64::from(self.mtu) << 32
            | u64::from(self.mtu_asked) << 48;
        let [a, b, c, d, e, f] = self.mac;
        let numbers = [
            flags,
            u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            u64::from(self.speed_mbps) | u64::from(self.interface_mtu) << 32,
            self.missed,
        ];
        let texts = text::<16>(&self.name)
            .into_iter()
            .chain(text::<32>(&self.driver))
            .chain(text::<DEVICE>(&self.device));
        let Queues {
            rx,
            tx,
            rx_descriptors,
            tx_descriptors,
        } = self.queues;
        let queues = [rx, tx, rx_descriptors, tx_descriptors];
        let queues = queues.into_iter().rev();
        let device = [
            queues.fold(0, |word, count| word << 16 | u64::from(count)),
            self.rx_offloads,
            self.tx_offloads,
            self.errors.rx,
            self.errors.tx,
            self.errors.no_buffer,
            0,
            0,
            0,
        ];
        let all = numbers.into_iter().chain(texts).chain(device);
        seqlock::write(words(lines), all);
    }

    /// Reads the description from the link's four lines; `None` when there is none yet, or its
    /// writer died in the middle.
    #[must_use]
    pub fn read(lines: &[Line]) -> Option<Self> {
        let words: [u64; WORDS] = seqlock::read(words(lines))?;
        let &[flags, mac, speed, missed, ref rest @ ..] = &words;
        let (texts, numbers) = rest.split_at(6 + DEVICE / 8);
        let &[queues, rx_offloads, tx_offloads, rx, tx, no_buffer, ..] = numbers else {
            return None;
        };
        let [a, b, c, d, e, f, ..] = mac.to_le_bytes();
        let name = string(&texts[..2]);
        (!name.is_empty()).then(|| Self {
            name,
            driver: string(&texts[2..6]),
            device: string(&texts[6..]),
            mac: [a, b, c, d, e, f],
            mtu: (flags >> 32) as u16,
            mtu_asked: (flags >> 48) as u16,
            interface_mtu: (speed >> 32) as u32,
            vlan: (flags & 2 != 0).then_some((flags >> 16) as u16),
            up: flags & 1 != 0,
            speed_mbps: speed as u32,
            queues: Queues {
                rx: queues as u16,
                tx: (queues >> 16) as u16,
                rx_descriptors: (queues >> 32) as u16,
                tx_descriptors: (queues >> 48) as u16,
            },
            rss: flags & 4 != 0,
            promiscuous: flags & 8 != 0,
            fan_out: match flags >> 4 & 3 {
                0 => FanOut::Off,
                1 => FanOut::Auto,
                _ => FanOut::Even,
            },
            rx_offloads,
            tx_offloads,
            missed,
            errors: LinkErrors { rx, tx, no_buffer },
        })
    }

    /// A sentence about the workers that have no rx queue of the link, which is number `link`, and get frames of it by software;
    /// `None` if there are none, or they get none.
    #[must_use]
    pub fn dealing(&self, link: usize, workers: usize) -> Option<String> {
        let rx = usize::from(self.queues.rx);
        if self.fan_out == FanOut::Off || rx == 0 || rx >= workers {
            return None;
        }
        let named = |queues: std::ops::Range<usize>| {
            let numbers = queues.map(|queue| worker_of_queue(link, queue, workers));
            let mut numbers: Vec<_> = numbers.collect();
            numbers.sort_unstable();
            let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
            match numbers.split_last() {
                Some((last, [])) => (format!("worker {last}"), true),
                Some((last, rest)) => (format!("workers {} and {last}", rest.join(", ")), false),
                None => (String::new(), false),
            }
        };
        let ((takers, is_one), (dealers, is_one_dealer)) = (named(rx..workers), named(0..rx));
        let get = if is_one { "gets" } else { "get" };
        let when = match (self.fan_out, is_one_dealer) {
            (FanOut::Even, true) => ", as many as that keeps",
            (FanOut::Even, false) => ", as many as those keep",
            (_, true) => " when that cannot keep up",
            (_, false) => " when those cannot keep up",
        };
        Some(format!(
            "{takers} {get} frames from {dealers} by software{when}"
        ))
    }

    /// Whether it describes the link of this name on this device.
    #[must_use]
    pub fn is_of(&self, name: &str, device: &str) -> bool {
        let cut = |bytes, text: &str| text[..end_of(text, bytes)].to_owned();
        self.name == cut(16, name) && self.device == cut(DEVICE, device)
    }
}

/// The worker that has queue number `queue` of link number `link`: it is another one for each link's first, so that work is
/// spread where devices have few queues.
#[must_use]
pub const fn worker_of_queue(link: usize, queue: usize, workers: usize) -> usize {
    (queue + link) % workers
}

fn words(lines: &[Line]) -> impl Iterator<Item = &AtomicU64> + Clone {
    lines.iter().flat_map(|line| &line.0).take(1 + WORDS)
}

/// The text in `BYTES` bytes, cut between characters, as words.
fn text<const BYTES: usize>(text: &str) -> Vec<u64> {
    let mut bytes = [0; BYTES];
    let end = end_of(text, BYTES);
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
    bytes.as_chunks().0.iter().map(word).collect()
}

/// Where a text of so many bytes at most ends: between characters.
fn end_of(text: &str, bytes: usize) -> usize {
    (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0)
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
            texts in ("[a-z0-9]{1,15}", "[ -~]{0,96}", "[a-z_]{0,32}"),
            mac: [u8; 6], mtus: (u16, u16, u32), vlan in prop::option::of(1u16..=4094),
            fan_out in prop::sample::select(vec![FanOut::Off, FanOut::Auto, FanOut::Even]),
            flags: [bool; 3], speed_mbps: u32, queues: [u16; 4], numbers: [u64; 6],
        ) {
            let lines = Slab::heap(LINK_LINES);
            let (name, device, driver) = texts;
            let (mtu, mtu_asked, interface_mtu) = mtus;
            let [up, rss, promiscuous] = flags;
            let [rx, tx, rx_descriptors, tx_descriptors] = queues;
            let queues = Queues { rx, tx, rx_descriptors, tx_descriptors };
            let [missed, rx_offloads, tx_offloads, rx, tx, no_buffer] = numbers;
            let info = LinkInfo {
                name, device, driver, mac, mtu, mtu_asked, interface_mtu, vlan, up, speed_mbps, queues, rss,
                promiscuous, fan_out, rx_offloads, tx_offloads, missed, errors: LinkErrors { rx, tx, no_buffer },
            };
            info.write(&lines);
            prop_assert!(info.is_of(&info.name, &info.device));
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
        let read = LinkInfo::read(&lines).unwrap();
        assert_eq!(read.name, "aäääääää");
        assert!(read.is_of("aääääääää", "") && !read.is_of("aäääääää", "b"));
    }

    #[test]
    fn who_gets_frames_by_software_is_said_in_a_sentence() {
        let info = |rx, fan_out| LinkInfo {
            queues: Queues {
                rx,
                ..Queues::default()
            },
            fan_out,
            ..LinkInfo::default()
        };
        let said = |rx, fan_out, link, workers| info(rx, fan_out).dealing(link, workers);
        assert_eq!(
            said(1, FanOut::Auto, 0, 2).unwrap(),
            "worker 1 gets frames from worker 0 by software when that cannot keep up"
        );
        assert_eq!(
            said(2, FanOut::Even, 3, 4).unwrap(),
            "workers 1 and 2 get frames from workers 0 and 3 by software, as many as those keep"
        );
        assert_eq!(said(2, FanOut::Auto, 0, 2), None);
        assert_eq!(said(1, FanOut::Off, 0, 2), None);
    }
}
