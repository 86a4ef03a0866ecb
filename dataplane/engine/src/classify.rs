//! Stages 2 and 3 for frames that are not plain: parsed, each into its lane.

use packet::fragment::Piece;
use packet::parse::{Network, ParseError, Parsed, SCTP, TCP, UDP, parse};
use packet::{Buffer, Burst};

use crate::egress::is_vlan;
use crate::family::{Family, V4, V6};
use crate::lane::Lane;
use crate::pipeline::Pipeline;
use crate::reason::Reason;
use crate::topology::LinkConfig;

impl<B: Buffer> Pipeline<B> {
    /// Stage 2 for frames that are not plain, or not for this link.
    #[cold]
    #[inline(never)]
    pub(crate) fn classify_unusual(&mut self, input: usize, burst: &Burst<B>) {
        for (at, frame) in burst.iter().enumerate() {
            if self.scratch.lanes[at] == Lane::Unknown {
                let lane = self.lane(input, at, frame);
                self.scratch.lanes[at] = lane.unwrap_or_else(|reason| {
                    self.scratch.reasons[at] = reason;
                    Lane::Drop
                });
            }
        }
    }

    fn lane(&mut self, input: usize, at: usize, frame: &B) -> Result<Lane, Reason> {
        let bytes = frame.bytes();
        let scratch = &mut *self.scratch;
        let link = self
            .shared
            .topology
            .links
            .get(input)
            .ok_or(Reason::NotOurs)?;
        let parsed = match parse(bytes) {
            Ok(parsed) => parsed,
            Err(_) if !frame.is_contiguous() => return Err(Reason::MultiSegment),
            Err(ParseError::Fragment) => {
                let parsed = Piece::read(bytes)?.parsed;
                // What a group may be asked (neighbour discovery) never comes in fragments (RFC 6980).
                return match lane_of(bytes, frame, &parsed, link)? {
                    _ if bytes.first_chunk() != Some(&link.mac) => Err(Reason::NotForUs),
                    _ => Ok(Lane::Fragment),
                };
            }
            Err(error) => return Err(error.into()),
        };
        scratch.v4[at].parsed = parsed;
        let lane = lane_of(bytes, frame, &parsed, link)?;
        if lane == Lane::V4 {
            let work = &mut scratch.v4[at];
            work.key = V4::key(bytes, &parsed);
            work.place = self.shared.v4.place(&work.key);
            self.shared.v4.prefetch_bucket(work.place);
        }
        if lane == Lane::V6 {
            let work = &mut scratch.v6[at];
            work.parsed = parsed;
            work.key = V6::key(bytes, &parsed);
            work.place = self.shared.v6.place(&work.key);
            self.shared.v6.prefetch_bucket(work.place);
        }
        Ok(lane)
    }

    /// Stage 3 for frames that are not plain.
    #[cold]
    #[inline(never)]
    pub(crate) fn match_unusual(&mut self, count: usize) {
        let scratch = &mut *self.scratch;
        for at in 0..count {
            match scratch.lanes[at] {
                Lane::V4 => {
                    let work = &mut scratch.v4[at];
                    work.candidate = self.shared.v4.candidate(work.place);
                    self.shared.v4.prefetch_free(work.place);
                }
                Lane::V6 => {
                    let work = &mut scratch.v6[at];
                    work.candidate = self.shared.v6.candidate(work.place);
                    self.shared.v6.prefetch_free(work.place);
                }
                _ => {}
            }
        }
    }
}

/// The lane of a frame that could be parsed.
#[inline(always)]
fn lane_of<B: Buffer>(
    bytes: &[u8],
    frame: &B,
    parsed: &Parsed,
    link: &LinkConfig,
) -> Result<Lane, Reason> {
    if bytes.first_chunk() != Some(&link.mac) {
        return group_lane(bytes, parsed, link);
    }
    if !is_vlan(parsed.vlan, link) {
        return Err(Reason::WrongVlan);
    }
    if !frame.is_contiguous() {
        return Err(Reason::MultiSegment);
    }
    Ok(match (parsed.network, parsed.protocol) {
        (Network::V4, TCP | UDP | SCTP) => Lane::V4,
        (Network::V6, TCP | UDP | SCTP) => Lane::V6,
        _ => Lane::Local,
    })
}

/// Frames to a group are for us only as ARP or neighbour discovery; all other destinations are
/// other machines'.
#[cold]
fn group_lane(bytes: &[u8], parsed: &Parsed, link: &LinkConfig) -> Result<Lane, Reason> {
    let is_group = bytes.first().is_some_and(|first| first & 1 == 1);
    let may_ask = parsed.network == Network::Arp
        || parsed.network == Network::V6 && parsed.protocol == packet::parse::ICMPV6;
    match (is_group, may_ask) {
        (false, _) => Err(Reason::OtherMac),
        (true, true) if is_vlan(parsed.vlan, link) => Ok(Lane::Local),
        (true, true) => Err(Reason::WrongVlan),
        (true, false) => Err(Reason::NotForUs),
    }
}
