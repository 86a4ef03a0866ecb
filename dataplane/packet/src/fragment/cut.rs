//! Cutting an IPv4 packet that is too long for the next link (RFC 791 section 3.2, RFC 1812 section
//! 4.2.2.7).

use crate::field::put_u16;
use crate::ipv4;
use crate::parse::{Network, Parsed};

/// How an IPv4 packet is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    l3: usize,
    header: usize,
    end: usize,
    /// Bytes of data in every fragment but the last: a multiple of eight.
    step: usize,
    /// Flags and offset of the packet as it is.
    word: u16,
}

/// How to cut the packet for a link with this MTU; `None` if it must not be cut or cannot be: IPv6, don't
/// fragment, options (of which later fragments need a selection), an MTU below 28 bytes.
#[must_use]
pub fn plan(bytes: &[u8], parsed: &Parsed, mtu: u16) -> Option<Cut> {
    let packet = bytes.get(parsed.l3()..parsed.end())?;
    if parsed.network != Network::V4 || ipv4::header_len(packet)? != ipv4::HEADER {
        return None;
    }
    let word = ipv4::fragment(packet)?;
    let step = usize::from(mtu).checked_sub(ipv4::HEADER)? & !7;
    if word & ipv4::DONT_FRAGMENT != 0 || step == 0 {
        return None;
    }
    Some(Cut {
        l3: parsed.l3(),
        header: ipv4::HEADER,
        end: parsed.end(),
        step,
        word,
    })
}

impl Cut {
    /// Number of fragments.
    #[must_use]
    pub const fn count(&self) -> usize {
        (self.end - self.l3 - self.header).div_ceil(self.step)
    }

    /// Length of the frame of fragment `at`.
    #[must_use]
    pub fn frame_len(&self, at: usize) -> usize {
        let data = self.end - self.l3 - self.header;
        self.l3 + self.header + self.step.min(data.saturating_sub(at * self.step))
    }

    /// Writes fragment `at` into `to`, which is [`Cut::frame_len`] bytes long; false if it is not, or there
    /// is no such fragment.
    #[must_use]
    pub fn write(&self, whole: &[u8], at: usize, to: &mut [u8]) -> bool {
        if at >= self.count() || to.len() != self.frame_len(at) {
            return false;
        }
        let front = self.l3 + self.header;
        let from = front + at * self.step;
        let (Some(head), Some(data)) =
            (whole.get(..front), whole.get(from..from + to.len() - front))
        else {
            return false;
        };
        to[..front].copy_from_slice(head);
        to[front..].copy_from_slice(data);
        self.finish(at, to)
    }

    /// Makes the frame of the whole packet, already shortened to [`Cut::frame_len`] of 0, the first fragment.
    #[must_use]
    pub fn shorten(&self, first: &mut [u8]) -> bool {
        self.finish(0, first)
    }

    /// Length, flags, offset and header checksum of fragment `at`.
    fn finish(&self, at: usize, frame: &mut [u8]) -> bool {
        let more = at + 1 < self.count();
        let offset = (self.word & ipv4::OFFSET_MASK) + (at * self.step / 8) as u16;
        let kept = self.word & ipv4::MORE_FRAGMENTS;
        let flags = if more { ipv4::MORE_FRAGMENTS } else { kept };
        let Some(packet) = frame.get_mut(self.l3..) else {
            return false;
        };
        let total = packet.len() as u16;
        put_u16(packet, ipv4::TOTAL_LENGTH, total)
            .and_then(|()| put_u16(packet, ipv4::FRAGMENT, flags | offset))
            .is_some()
            && ipv4::write_checksum(packet)
    }
}
