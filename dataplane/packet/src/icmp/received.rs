//! ICMP errors received: what is reported about which packet.

use crate::field::{get, get_u16, get_u32};
use crate::parse::{ICMP, ICMPV6};
use crate::{ipv4, ipv6};

use super::HEADER;

/// Ports, or identifier and sequence number: what RFC 792 promises of the quoted packet's payload.
const QUOTED_L4: usize = 8;

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// ICMP 3 but for code 4, ICMPv6 1.
    Unreachable,
    /// ICMP 3/4 or ICMPv6 2: the packet is longer than a link's MTU.
    TooBig {
        /// That MTU in bytes; 0 from a router before RFC 1191.
        mtu: u32,
    },
    /// ICMP 11, ICMPv6 3.
    TimeExceeded,
    /// ICMP 12, ICMPv6 4.
    ParameterProblem,
}

/// An ICMP error and the packet that it quotes. Offsets count from the first byte of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceivedError {
    /// What is reported.
    pub kind: ErrorKind,
    /// Code, by the type.
    pub code: u8,
    /// Start of the quoted IP header, of the same version as the outer one.
    pub l3: usize,
    /// Start of the quoted transport header; at least eight bytes of it are there (RFC 792).
    pub l4: usize,
    /// End of the quotation, which is the end of the packet.
    pub end: usize,
    /// Transport protocol of the quoted packet.
    pub protocol: u8,
}

/// Reads the ICMP (`protocol` 1) or ICMPv6 (58) message from `l4` to `end`, the IP packet's end.
///
/// `None` if it is no error, or one that means nothing for a flow: source quench (RFC 6633) and
/// redirects, a quotation too short or of a later fragment. The checksum is not looked at: see
/// [`crate::checksum::verify_l4`].
#[must_use]
pub fn parse_error(bytes: &[u8], l4: usize, end: usize, protocol: u8) -> Option<ReceivedError> {
    let message = bytes.get(l4..end)?;
    let [kind, code] = get(message, 0)?;
    let kind = match (protocol, kind) {
        (ICMP, 3) if code == 4 => ErrorKind::TooBig {
            mtu: get_u16(message, 6)?.into(),
        },
        (ICMPV6, 2) => ErrorKind::TooBig {
            mtu: get_u32(message, 4)?,
        },
        (ICMP, 3) | (ICMPV6, 1) => ErrorKind::Unreachable,
        (ICMP, 11) | (ICMPV6, 3) => ErrorKind::TimeExceeded,
        (ICMP, 12) | (ICMPV6, 4) => ErrorKind::ParameterProblem,
        _ => return None,
    };
    let quoted = message.get(HEADER..)?;
    let (protocol, at) = match protocol {
        ICMP => quoted_v4(quoted)?,
        _ => quoted_v6(quoted)?,
    };
    quoted.get(at..)?.get(..QUOTED_L4)?;
    let l3 = l4 + HEADER;
    Some(ReceivedError {
        kind,
        code,
        l3,
        l4: l3 + at,
        end,
        protocol,
    })
}

fn quoted_v4(quoted: &[u8]) -> Option<(u8, usize)> {
    let len = ipv4::header_len(quoted)?;
    let first = ipv4::fragment(quoted)? & ipv4::OFFSET_MASK == 0;
    first.then_some((ipv4::protocol(quoted)?, len))
}

fn quoted_v6(quoted: &[u8]) -> Option<(u8, usize)> {
    if quoted.first()? >> 4 != 6 {
        return None;
    }
    let upper = ipv6::upper(quoted)?;
    (!upper.is_later_fragment()).then_some((upper.protocol, upper.at))
}
