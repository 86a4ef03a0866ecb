//! What a flow's two activity words say about it: its state, and when it may be forgotten.
//!
//! The table keeps no state machine: each direction only collects the TCP flags it has seen (one
//! word, written by whoever carries that direction), and the state follows from both. There
//! is no window check, so no segment is ever refused for its numbers.

/// TCP FIN, RFC 9293 section 3.1.
pub const FIN: u8 = 0x01;
/// TCP SYN.
pub const SYN: u8 = 0x02;
/// TCP RST.
pub const RST: u8 = 0x04;
/// TCP ACK; in collected flags: an ACK without SYN, hence one that ends or follows the handshake.
pub const ACK: u8 = 0x10;

/// The flags of one frame as they are collected.
#[must_use]
#[inline(always)]
pub const fn seen(tcp_flags: u8) -> u8 {
    let kept = tcp_flags & (FIN | SYN | RST | ACK);
    if kept & SYN != 0 { kept & !ACK } else { kept }
}

/// State of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// TCP: the handshake is not complete. Others: no answer yet.
    HalfOpen,
    /// TCP: both sides have acknowledged. Others: both directions were seen.
    Established,
    /// TCP: one side has sent FIN.
    Closing,
    /// TCP: both sides have sent FIN, or one RST: TIME_WAIT. A SYN starts a fresh flow.
    Closed,
}

impl State {
    /// Lower-case name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// State of a TCP flow with these flags collected in each direction.
    #[must_use]
    pub const fn of_tcp(forward: u8, reply: u8) -> Self {
        if (forward | reply) & RST != 0 || forward & reply & FIN != 0 {
            Self::Closed
        } else if (forward | reply) & FIN != 0 {
            Self::Closing
        } else if forward & ACK != 0 && reply & (SYN | ACK) != 0 {
            Self::Established
        } else {
            Self::HalfOpen
        }
    }

    /// State of a flow of `protocol`, from flags collected (`REPLIED` for the reply direction of
    /// protocols without flags).
    #[must_use]
    pub const fn of(protocol: u8, forward: u8, reply: u8) -> Self {
        if protocol == packet::parse::TCP {
            Self::of_tcp(forward, reply)
        } else if reply & REPLIED != 0 {
            Self::Established
        } else {
            Self::HalfOpen
        }
    }
}

/// Collected for frames of protocols other than TCP: a frame was seen in this direction.
pub const REPLIED: u8 = 0x80;

/// Seconds without a frame after which a flow is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP before the handshake is complete.
    pub tcp_half_open: u32,
    /// TCP established; RFC 5382 REQ-5 demands at least 2 h 4 min.
    pub tcp_established: u32,
    /// TCP after one FIN.
    pub tcp_closing: u32,
    /// TCP after both FINs or RST; RFC 5382 REQ-5 demands at least 4 min for TIME_WAIT in a NAT
    /// that tracks it, but permits reuse by SYN, which this gateway does.
    pub tcp_closed: u32,
    /// UDP without an answer.
    pub udp_unreplied: u32,
    /// UDP with answers; RFC 4787 REQ-5 demands at least 2 min.
    pub udp: u32,
    /// SCTP without an answer; twice T1-init's first value of RFC 9260 section 16, and some.
    pub sctp_unreplied: u32,
    /// SCTP with answers: seven heartbeats of 30 s (RFC 9260 section 16).
    pub sctp: u32,
}

impl Default for Timeouts {
    /// kube-proxy's for established (24 h) and closing TCP (1 h after CLOSE_WAIT), Linux
    /// conntrack's for the rest.
    fn default() -> Self {
        Self {
            tcp_half_open: 60,
            tcp_established: 86_400,
            tcp_closing: 3_600,
            tcp_closed: 120,
            udp_unreplied: 30,
            udp: 120,
            sctp_unreplied: 30,
            sctp: 210,
        }
    }
}

impl Timeouts {
    /// The one for a flow of this protocol and state.
    #[must_use]
    pub const fn of(&self, protocol: u8, state: State) -> u32 {
        match (protocol, state) {
            (packet::parse::TCP, State::HalfOpen) => self.tcp_half_open,
            (packet::parse::TCP, State::Established) => self.tcp_established,
            (packet::parse::TCP, State::Closing) => self.tcp_closing,
            (packet::parse::TCP, State::Closed) => self.tcp_closed,
            (packet::parse::SCTP, State::HalfOpen) => self.sctp_unreplied,
            (packet::parse::SCTP, _) => self.sctp,
            (_, State::HalfOpen) => self.udp_unreplied,
            (_, _) => self.udp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_opens_and_two_fins_close() {
        let (mut forward, mut reply) = (seen(SYN), 0);
        assert_eq!(State::of_tcp(forward, reply), State::HalfOpen);
        reply |= seen(SYN | ACK);
        assert_eq!(State::of_tcp(forward, reply), State::HalfOpen);
        forward |= seen(ACK);
        assert_eq!(State::of_tcp(forward, reply), State::Established);
        forward |= seen(FIN | ACK);
        assert_eq!(State::of_tcp(forward, reply), State::Closing);
        reply |= seen(FIN | ACK);
        assert_eq!(State::of_tcp(forward, reply), State::Closed);
    }

    #[test]
    fn a_reset_of_either_side_closes_at_once() {
        assert_eq!(State::of_tcp(SYN | ACK, SYN | RST), State::Closed);
        assert_eq!(State::of_tcp(SYN | RST, SYN), State::Closed);
    }

    #[test]
    fn a_flood_of_syns_stays_half_open_whatever_the_backend_answers() {
        assert_eq!(
            State::of_tcp(seen(SYN), seen(SYN | ACK) | seen(ACK)),
            State::HalfOpen
        );
    }
}
