//! One pass over a received frame: where its layers start and what a verdict needs to know.
//!
//! Every length is checked here, once. What [`parse`] accepts, the tuple readers and the rewrite
//! may index without looking again: `l3 + header ≤ l4`, `l4 + 8 ≤ end` (20 for TCP), `end ≤ len`.

/// Bytes of an untagged Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes of an 802.1Q tag.
pub const VLAN_TAG: usize = 4;

/// IANA protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// IANA protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// IANA protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;
/// IANA protocol number of ICMPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
/// IANA protocol number of SCTP (RFC 9260).
pub const SCTP: u8 = 132;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// What the Ethernet header says it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// RFC 826; only `l3` of [`Parsed`] is meaningful, the body is not yet checked.
    Arp,
    /// RFC 791.
    #[default]
    V4,
    /// RFC 8200.
    V6,
}

/// Offsets and the few fields that decide a frame's way. Offsets count from the first byte of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parsed {
    /// Start of the IP (or ARP) header: 14, or 18 behind a VLAN tag.
    pub l3: u16,
    /// Start of the transport header.
    pub l4: u16,
    /// End of the IP packet; Ethernet padding follows.
    pub end: u16,
    /// VLAN id of the tag; `NO_VLAN` without one.
    pub vlan: u16,
    /// Network layer.
    pub network: Network,
    /// IANA number of the transport protocol.
    pub protocol: u8,
    /// TCP flags byte (RFC 9293 section 3.1), 0 for other protocols.
    pub tcp_flags: u8,
    /// TTL or hop limit as received.
    pub ttl: u8,
}

/// [`Parsed::vlan`] of an untagged frame.
pub const NO_VLAN: u16 = u16::MAX;

impl Parsed {
    /// Start of the network header as an index.
    #[must_use]
    pub const fn l3(&self) -> usize {
        self.l3 as usize
    }

    /// Start of the transport header as an index.
    #[must_use]
    pub const fn l4(&self) -> usize {
        self.l4 as usize
    }

    /// End of the IP packet as an index.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.end as usize
    }
}

/// Why a frame cannot be parsed: each is a drop reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than its headers say or than any header may be.
    TooShort,
    /// An EtherType that is neither IPv4, IPv6, ARP nor one VLAN tag.
    UnknownEtherType,
    /// IP version or header length impossible (RFC 791 section 3.1, RFC 8200 section 3).
    BadIpHeader,
    /// The IP packet is longer than the frame: cut by a device whose slots are too small (GSO, GRO).
    Truncated,
    /// IPv4 header checksum wrong (RFC 1812 section 5.2.2).
    BadIpChecksum,
    /// A fragment (RFC 791 section 3.2, RFC 8200 section 4.5).
    Fragment,
    /// Extension headers that cannot be walked (RFC 8200 section 4).
    BadExtension,
    /// A transport header whose own lengths contradict the packet.
    BadTransport,
    /// A transport protocol that no Service can name.
    UnknownProtocol,
}

/// Finds the layers of `bytes`.
///
/// # Errors
///
/// The first thing that is wrong, from the outside in.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let header = bytes
        .first_chunk::<ETHERNET_HEADER>()
        .ok_or(ParseError::TooShort)?;
    let ethertype = u16::from_be_bytes([header[12], header[13]]);
    match ethertype {
        ETHERTYPE_IPV4 => parse_v4(bytes, ETHERNET_HEADER, NO_VLAN),
        ETHERTYPE_IPV6 => parse_v6(bytes, ETHERNET_HEADER, NO_VLAN),
        _ => parse_rare(bytes, ethertype),
    }
}

fn parse_rare(bytes: &[u8], ethertype: u16) -> Result<Parsed, ParseError> {
    let arp = |l3: usize, vlan| Parsed {
        l3: l3 as u16,
        l4: l3 as u16,
        end: bytes.len().min(usize::from(u16::MAX)) as u16,
        vlan,
        network: Network::Arp,
        ..Parsed::default()
    };
    match ethertype {
        ETHERTYPE_ARP => Ok(arp(ETHERNET_HEADER, NO_VLAN)),
        ETHERTYPE_VLAN => {
            let tag = bytes.get(ETHERNET_HEADER..ETHERNET_HEADER + VLAN_TAG);
            let Some(&[tci_high, tci_low, type_high, type_low]) = tag else {
                return Err(ParseError::TooShort);
            };
            let vlan = u16::from_be_bytes([tci_high, tci_low]) & 0x0fff;
            let l3 = ETHERNET_HEADER + VLAN_TAG;
            match u16::from_be_bytes([type_high, type_low]) {
                ETHERTYPE_IPV4 => parse_v4(bytes, l3, vlan),
                ETHERTYPE_IPV6 => parse_v6(bytes, l3, vlan),
                ETHERTYPE_ARP => Ok(arp(l3, vlan)),
                _ => Err(ParseError::UnknownEtherType),
            }
        }
        _ => Err(ParseError::UnknownEtherType),
    }
}

#[inline(always)]
fn parse_v4(bytes: &[u8], l3: usize, vlan: u16) -> Result<Parsed, ParseError> {
    let packet = &bytes[l3..];
    let header = packet.first_chunk::<20>().ok_or(ParseError::TooShort)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return Err(ParseError::BadIpHeader);
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if total < header_len {
        return Err(ParseError::BadIpHeader);
    }
    if total > packet.len() {
        return Err(ParseError::Truncated);
    }
    if l3 + total > usize::from(u16::MAX) {
        return Err(ParseError::BadIpHeader); // offsets are 16 bits; no device delivers such frames
    }
    // Five 32-bit words summed in 64 bits cannot overflow; a right header folds to 0xffff.
    let mut sum = header.chunks_exact(4).fold(0u64, |sum, word| {
        sum + u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    });
    if header_len > 20 {
        sum += packet[20..header_len]
            .chunks_exact(4)
            .fold(0u64, |sum, word| {
                sum + u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
            });
    }
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    if sum != 0xffff {
        return Err(ParseError::BadIpChecksum);
    }
    // More-fragments bit or an offset: everything but the don't-fragment bit.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(ParseError::Fragment);
    }
    finish(
        bytes,
        Parsed {
            l3: l3 as u16,
            l4: (l3 + header_len) as u16,
            end: (l3 + total) as u16,
            vlan,
            network: Network::V4,
            protocol: header[9],
            tcp_flags: 0,
            ttl: header[8],
        },
    )
}

/// Extension headers walked at most; real packets carry one or two.
const MAX_EXTENSIONS: usize = 8;

#[inline(always)]
fn parse_v6(bytes: &[u8], l3: usize, vlan: u16) -> Result<Parsed, ParseError> {
    let packet = &bytes[l3..];
    let header = packet.first_chunk::<40>().ok_or(ParseError::TooShort)?;
    if header[0] >> 4 != 6 {
        return Err(ParseError::BadIpHeader);
    }
    let total = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if total > packet.len() {
        return Err(ParseError::Truncated);
    }
    if l3 + total > usize::from(u16::MAX) {
        return Err(ParseError::BadIpHeader); // offsets are 16 bits; no device delivers such frames
    }
    let mut protocol = header[6];
    let mut l4 = 40;
    if !matches!(protocol, TCP | UDP | ICMPV6) {
        (protocol, l4) = skip_extensions(&packet[..total], protocol)?;
    }
    finish(
        bytes,
        Parsed {
            l3: l3 as u16,
            l4: (l3 + l4) as u16,
            end: (l3 + total) as u16,
            vlan,
            network: Network::V6,
            protocol,
            tcp_flags: 0,
            ttl: header[7],
        },
    )
}

/// Walks hop-by-hop (0), routing (43), destination options (60) and atomic fragments (44); RFC 8200 section 4.1.
#[cold]
fn skip_extensions(packet: &[u8], first: u8) -> Result<(u8, usize), ParseError> {
    let (mut protocol, mut at) = (first, 40);
    for _ in 0..MAX_EXTENSIONS {
        match protocol {
            0 | 43 | 60 => {
                let Some(&[next, length]) = packet.get(at..at + 2) else {
                    return Err(ParseError::BadExtension);
                };
                // A routing header with segments left is for the node it names, and RFC 5095
                // forbids type 0: neither may be translated.
                if protocol == 43 && packet.get(at + 3).is_none_or(|&left| left != 0) {
                    return Err(ParseError::BadExtension);
                }
                protocol = next;
                at += (usize::from(length) + 1) * 8;
                if at > packet.len() {
                    return Err(ParseError::BadExtension);
                }
            }
            44 => {
                let Some(&[next, _, high, low]) = packet.get(at..at + 4) else {
                    return Err(ParseError::BadExtension);
                };
                if u16::from_be_bytes([high, low]) & 0xfff9 != 0 {
                    return Err(ParseError::Fragment);
                }
                // An atomic fragment is a whole packet (RFC 6946).
                protocol = next;
                at += 8;
                if at > packet.len() {
                    return Err(ParseError::BadExtension);
                }
            }
            _ => return Ok((protocol, at)),
        }
    }
    Err(ParseError::BadExtension)
}

/// Checks the transport header against the packet.
#[inline(always)]
fn finish(bytes: &[u8], mut parsed: Parsed) -> Result<Parsed, ParseError> {
    let segment = &bytes[parsed.l4()..parsed.end()];
    match parsed.protocol {
        TCP => {
            let header = segment
                .first_chunk::<20>()
                .ok_or(ParseError::BadTransport)?;
            let offset = usize::from(header[12] >> 4) * 4;
            if offset < 20 || offset > segment.len() {
                return Err(ParseError::BadTransport);
            }
            parsed.tcp_flags = header[13];
        }
        UDP => {
            let header = segment.first_chunk::<8>().ok_or(ParseError::BadTransport)?;
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if length < 8 || length > segment.len() {
                return Err(ParseError::BadTransport);
            }
        }
        // Common header and at least one chunk header: RFC 9260 section 3.
        SCTP if segment.len() < 16 => return Err(ParseError::BadTransport),
        ICMP | ICMPV6 if segment.len() < 8 => return Err(ParseError::BadTransport),
        SCTP => {}
        ICMP if parsed.network == Network::V4 => {}
        ICMPV6 if parsed.network == Network::V6 => {}
        _ => return Err(ParseError::UnknownProtocol),
    }
    Ok(parsed)
}
