//! Cutting a packet that is longer than its egress link's MTU, where its sender allows that (IPv4
//! without don't fragment; RFC 1812 section 4.2.2.7). All others are reported to their senders.

use arrayvec::ArrayVec;
use packet::fragment::{Cut, plan};
use packet::parse::Parsed;
use packet::{Buffer, Pool, ipv4};

use crate::counters::Total;
use crate::egress::OUTPUT;
use crate::family::{Family, V4};
use crate::neighbour::Word;
use crate::observe::Observe;
use crate::pipeline::{Now, Pipeline};
use crate::reason::Reason;

impl<B: Buffer> Pipeline<B> {
    /// The MTU of the link of `word`'s neighbour if the packet is longer and must not be cut.
    #[inline(always)]
    pub(crate) fn forbidding_mtu(&self, bytes: &[u8], parsed: &Parsed, word: Word) -> Option<u16> {
        let link = self.shared.topology.links.get(usize::from(word.link()))?;
        let is_longer = parsed.end - parsed.l3 > link.mtu;
        (is_longer && plan(bytes, parsed, link.mtu).is_none()).then_some(link.mtu)
    }

    /// [`Pipeline::leave`] for a packet that is longer than `mtu`: in fragments, or not at all.
    #[cold]
    #[allow(clippy::too_many_arguments)] // what a frame on its way is made of
    pub(crate) fn leave_cut<P: Pool<Buffer = B>, O: Observe>(
        &mut self,
        now: Now,
        input: usize,
        mut frame: B,
        parsed: &Parsed,
        way: (u16, Word),
        mtu: u16,
        pool: &mut P,
        observer: &mut O,
    ) {
        let Some(cut) = plan(frame.bytes(), parsed, mtu) else {
            return self.drop_frame(input, frame, Reason::TooBig, observer);
        };
        self.renumber(&mut frame, parsed);
        let Some(rest) = cut_rest(&cut, &mut frame, pool) else {
            return self.drop_frame(input, frame, Reason::NoBuffer, observer);
        };
        self.counters.add(Total::Originated, rest.len() as u64);
        for part in std::iter::once(frame).chain(rest) {
            let parsed = Parsed {
                end: part.bytes().len() as u16,
                ..*parsed
            };
            self.leave(now, input, part, &parsed, way, pool, observer);
        }
    }

    /// A whole packet gets an identification that no other of its kind has; a fragment has it already.
    fn renumber(&self, frame: &mut B, parsed: &Parsed) {
        let bytes = frame.bytes_mut();
        let l3 = parsed.l3();
        let is_whole = bytes
            .get(l3..)
            .and_then(ipv4::fragment)
            .is_some_and(|word| word & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET_MASK) == 0);
        let pair = packet::tuple::addresses(bytes, parsed)
            .and_then(|(source, destination)| V4::pack(source, destination));
        if let (true, Some(pair)) = (is_whole, pair) {
            let fragments = &self.shared.fragments;
            let id = fragments
                .ids
                .next(fragments.v4.pair(&pair, parsed.protocol));
            // The header checksum is written with the lengths.
            bytes[l3 + ipv4::IDENTIFICATION..][..2].copy_from_slice(&(id as u16).to_be_bytes());
        }
    }
}

/// Makes the frame the first fragment and returns the others; `None`, and the frame unspecified, without
/// buffers for them.
fn cut_rest<P: Pool>(
    cut: &Cut,
    frame: &mut P::Buffer,
    pool: &mut P,
) -> Option<ArrayVec<P::Buffer, OUTPUT>> {
    let mut rest = ArrayVec::new();
    for at in 1..cut.count() {
        let mut part = pool.alloc()?;
        let is_written = part.set_len(cut.frame_len(at))
            && cut.write(frame.bytes(), at, part.bytes_mut())
            && rest.try_push(part).is_ok();
        if !is_written {
            return None;
        }
    }
    let is_cut = frame.set_len(cut.frame_len(0)) && cut.shorten(frame.bytes_mut());
    is_cut.then_some(rest)
}
