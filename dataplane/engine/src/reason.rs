//! Why a frame was not passed on: the names under which drops are counted everywhere.

use packet::fragment::PieceError;
use packet::parse::ParseError;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A named drop reason. The order is part of the counters' layout: append only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that counters, metrics, traces and explanations use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// Shorter than its headers.
    TooShort = "too_short",
    /// Neither IPv4, IPv6, ARP nor one VLAN tag.
    UnknownEtherType = "unknown_ethertype",
    /// Impossible IP version or header length.
    BadIpHeader = "bad_ip_header",
    /// Longer by its IP header than the frame: a sender's GSO or this side's GRO is on.
    Truncated = "truncated",
    /// Wrong IPv4 header checksum.
    BadIpChecksum = "bad_ip_checksum",
    /// A fragment of a protocol that cannot be translated in parts.
    Fragment = "fragment",
    /// Extension headers that cannot be walked.
    BadExtension = "bad_extension",
    /// Transport header contradicts the packet.
    BadTransport = "bad_transport",
    /// A transport protocol that no Service can name.
    UnknownProtocol = "unknown_protocol",
    /// First frame of a flow with a wrong transport checksum.
    BadChecksum = "bad_checksum",
    /// First frame of a flow whose transport checksum the sender left to hardware that is not there.
    UnfinishedChecksum = "unfinished_checksum",
    /// In several buffers; not supported.
    MultiSegment = "multi_segment",
    /// Addressed to another machine's MAC address.
    OtherMac = "other_mac",
    /// Another VLAN than the link's.
    WrongVlan = "wrong_vlan",
    /// An ARP or neighbour-discovery frame that asks nothing of us, or is malformed.
    NotForUs = "not_for_us",
    /// No service, no flow, not one of our own addresses.
    NotOurs = "not_ours",
    /// One of our own addresses, but nothing here takes it.
    NotServed = "not_served",
    /// Source outside loadBalancerSourceRanges.
    SourceRange = "source_range",
    /// Inside a service network, but no such ClusterIP.
    NoSuchService = "no_such_service",
    /// Traffic policy Local, endpoints elsewhere only.
    NoLocalEndpoint = "no_local_endpoint",
    /// No usable endpoint.
    NoEndpoint = "no_endpoint",
    /// An allocated ClusterIP, but no such port or protocol.
    NoSuchPort = "no_such_port",
    /// A service that this gateway is set not to serve.
    NotServedHere = "not_served_here",
    /// A TCP segment that opens nothing and belongs to no flow.
    NoFlow = "no_flow",
    /// TTL or hop limit used up.
    TtlExpired = "ttl_expired",
    /// Larger than the egress link's MTU.
    TooBig = "too_big",
    /// No route to the destination.
    NoRoute = "no_route",
    /// No address to masquerade with on the egress link.
    NoSnatAddress = "no_snat_address",
    /// Every SNAT port tried towards this endpoint is taken.
    SnatPortsExhausted = "snat_ports_exhausted",
    /// The flow table has no room and nothing that may go.
    FlowTableFull = "flow_table_full",
    /// Two workers at the same new flow, and the other did not finish.
    FlowRace = "flow_race",
    /// The neighbour table is full.
    NeighbourTableFull = "neighbour_table_full",
    /// The next hop did not answer ARP or neighbour discovery, or too many frames wait for it.
    Unresolved = "unresolved",
    /// The egress queue had no room.
    TxFull = "tx_full",
    /// No buffer for an answer, or for the parts of a packet that has to be cut.
    NoBuffer = "no_buffer",
    /// A question for a MAC address whose frame has no room for the answer.
    AnswerRefused = "answer_refused",
    /// A source that no host can have, or that is this gateway's own (RFC 1812 section 5.3.7).
    BadSource = "bad_source",
    /// In the hands of a data plane that was killed, or on the way between two workers when it ended.
    Restart = "restart",
    /// A fragment without the whole transport header, or that reaches into it (RFC 1858, RFC 3128).
    FragmentTiny = "fragment_tiny",
    /// A fragment of an impossible length or position.
    FragmentBadLength = "fragment_bad_length",
    /// A fragment that overlaps another, and all further ones of its datagram (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A fragment all of which was there already.
    FragmentCopy = "fragment_copy",
    /// More fragments of a datagram, or waiting ones of a source, than are kept.
    FragmentLimit = "fragment_limit",
    /// The first fragment of its datagram did not come in time.
    FragmentNoFirst = "fragment_no_first",
    /// The first fragment of its datagram was dropped, or two contradicted each other.
    FragmentOfDropped = "fragment_of_dropped",
    /// First frame of a flow whose source opens more a second than `limits.new_flows_per_source`.
    SourceLimit = "source_limit",
    /// First frame of a flow of a service that gets more a second than `limits.new_flows_per_service`.
    ServiceLimit = "service_limit",
    /// A frame of a flow that is being reset because its endpoint is gone, and that is not answered itself.
    EndpointGone = "endpoint_gone",
    /// For the host's kernel, which gets only `limits.kernel_frames` a second, or had no room.
    HostLimit = "host_limit",
    /// The worker that it was dealt to had no room.
    WorkerFull = "worker_full",
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = Self::ALL.len();
}

impl From<ParseError> for Reason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::TooShort => Self::TooShort,
            ParseError::UnknownEtherType => Self::UnknownEtherType,
            ParseError::BadIpHeader => Self::BadIpHeader,
            ParseError::Truncated => Self::Truncated,
            ParseError::BadIpChecksum => Self::BadIpChecksum,
            ParseError::Fragment => Self::Fragment,
            ParseError::BadExtension => Self::BadExtension,
            ParseError::BadTransport => Self::BadTransport,
            ParseError::UnknownProtocol => Self::UnknownProtocol,
        }
    }
}

impl From<PieceError> for Reason {
    fn from(error: PieceError) -> Self {
        match error {
            PieceError::Malformed => Self::BadExtension,
            PieceError::Tiny => Self::FragmentTiny,
            PieceError::BadLength => Self::FragmentBadLength,
            PieceError::Protocol => Self::Fragment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_numbers_follow_the_order() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
        assert!(
            Reason::ALL
                .iter()
                .enumerate()
                .all(|(at, reason)| *reason as usize == at)
        );
    }
}
