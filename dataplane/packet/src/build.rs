//! Frames from a description: for tests, fuzzers and `portgate explain`.
//!
//! ```
//! use packet::build::FrameSpec;
//!
//! let spec = FrameSpec::udp("10.0.0.1:1234".parse()?, "10.96.0.10:53".parse()?);
//! let frame = spec.with_payload(b"query").frame()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assemble;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::ethernet::{self, Mac};
use crate::memory::HeapBuffer;
use crate::tcp::{ACK, SYN};
use crate::{ipv4, ipv6};

/// What the IP packet carries. Ports are those of the spec's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A segment (RFC 9293).
    Tcp {
        /// Flags: see [`crate::tcp`].
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Window as sent, unscaled.
        window: u16,
        /// Options, padded to 4 bytes with End of Option List; at most 40 bytes.
        options: Vec<u8>,
    },
    /// A datagram (RFC 768).
    Udp,
    /// A packet (RFC 9260) whose chunks are the payload.
    Sctp {
        /// Verification tag.
        tag: u32,
    },
    /// An echo message (RFC 792, RFC 4443); the ports are not used.
    Echo {
        /// Reply instead of request.
        reply: bool,
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// The payload is everything behind the IP header, as it is.
    Raw {
        /// Protocol number.
        protocol: u8,
    },
}

/// What is put into the transport's checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fill {
    /// What a sender computes.
    #[default]
    Right,
    /// What a virtual link leaves for hardware: the pseudo-header's sum, or 0 for SCTP.
    Unfinished,
    /// Zero: for UDP "no checksum".
    Zero,
    /// The right one with every bit inverted.
    Wrong,
}

/// A frame to build. Fields may be changed freely after a constructor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSpec {
    /// Ethernet source. Default 02:00:00:00:00:01.
    pub source_mac: Mac,
    /// Ethernet destination. Default 02:00:00:00:00:02.
    pub destination_mac: Mac,
    /// 802.1Q VLAN id.
    pub vlan: Option<u16>,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port, of the same family.
    pub destination: SocketAddr,
    /// What the packet carries.
    pub transport: Transport,
    /// TTL or hop limit. Default 64.
    pub ttl: u8,
    /// IPv4: options, padded to 4 bytes with End of Option List; at most 40 bytes. IPv6: options of
    /// a destination options header, padded to 8 bytes with Pad1; at most 2,046 bytes.
    pub ip_options: Vec<u8>,
    /// IPv4: flags and fragment offset as sent. Default [`ipv4::DONT_FRAGMENT`].
    pub fragment: u16,
    /// IPv4: identification. Default 0.
    pub identification: u16,
    /// Bytes behind the transport header.
    pub payload: Vec<u8>,
    /// The transport's checksum field.
    pub fill: Fill,
    /// Length in bytes to pad the frame to with zeros behind the IP packet, as devices do.
    pub pad_to: usize,
}

/// Why no frame can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildError {
    /// Source and destination are of two address families.
    MixedFamilies,
    /// IP or TCP options longer than their header can hold.
    OptionsTooLong,
    /// The IP packet would be longer than 65,535 bytes behind its (IPv6: fixed) header.
    TooLong,
}

impl fmt::Display for BuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::MixedFamilies => "source and destination are of two address families",
            Self::OptionsTooLong => "the options are longer than their header can hold",
            Self::TooLong => "the payload is longer than an IP packet can hold",
        })
    }
}

impl std::error::Error for BuildError {}

impl FrameSpec {
    /// A TCP segment without payload, sequence numbers 1 and 0 (1 with ACK), window 65,535.
    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        let transport = Transport::Tcp {
            flags,
            seq: 1,
            ack: u32::from(flags & ACK != 0),
            window: u16::MAX,
            options: Vec::new(),
        };
        Self::new(source, destination, transport)
    }

    /// The first segment of a TCP connection.
    #[must_use]
    pub fn syn(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::tcp(source, destination, SYN)
    }

    /// A UDP datagram without payload.
    #[must_use]
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(source, destination, Transport::Udp)
    }

    /// The first packet of an SCTP association: verification tag 0 and an INIT chunk (RFC 9260,
    /// section 3.3.2) with initiate tag 1, one stream each way and initial TSN 1.
    #[must_use]
    pub fn sctp(source: SocketAddr, destination: SocketAddr) -> Self {
        let init = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
        Self::new(source, destination, Transport::Sctp { tag: 0 }).with_payload(&init)
    }

    /// An echo request, identifier and sequence number 1.
    #[must_use]
    pub fn echo(source: IpAddr, destination: IpAddr) -> Self {
        let transport = Transport::Echo {
            reply: false,
            id: 1,
            seq: 1,
        };
        Self::new((source, 0).into(), (destination, 0).into(), transport)
    }

    /// A packet whose payload is everything behind the IP header.
    #[must_use]
    pub fn raw(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Self {
        let transport = Transport::Raw { protocol };
        Self::new((source, 0).into(), (destination, 0).into(), transport).with_payload(payload)
    }

    /// The same with this payload.
    #[must_use]
    pub fn with_payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The same behind an 802.1Q tag.
    #[must_use]
    pub fn with_vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// Where the IP header starts: 14, or 18 behind a tag.
    #[must_use]
    pub const fn l3(&self) -> usize {
        ethernet::l3(self.vlan)
    }

    /// The frame in a buffer.
    ///
    /// # Errors
    ///
    /// As [`FrameSpec::bytes`].
    pub fn frame(&self) -> Result<HeapBuffer, BuildError> {
        self.bytes().map(|bytes| HeapBuffer::from_bytes(&bytes))
    }

    /// The frame's bytes.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which part contradicts another or does not fit.
    pub fn bytes(&self) -> Result<Vec<u8>, BuildError> {
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let l4 = self.l4()?;
        let (ethertype, packet) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = ipv4::Header {
                    source,
                    destination,
                    protocol: self.protocol(),
                    ttl: self.ttl,
                    tos: 0,
                };
                (ethernet::IPV4, self.packet_v4(&header, &l4)?)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = ipv6::Header {
                    source,
                    destination,
                    next_header: self.protocol(),
                    hop_limit: self.ttl,
                };
                (ethernet::IPV6, self.packet_v6(header, &l4)?)
            }
            _ => return Err(BuildError::MixedFamilies),
        };
        let mut frame = vec![0; self.l3()];
        let (to, from) = (self.destination_mac, self.source_mac);
        let written = ethernet::write_header(&mut frame, to, from, self.vlan, ethertype);
        debug_assert_eq!(written, Some(self.l3()));
        frame.extend_from_slice(&packet);
        frame.resize(frame.len().max(self.pad_to), 0);
        Ok(frame)
    }

    fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            source_mac: Mac([2, 0, 0, 0, 0, 1]),
            destination_mac: Mac([2, 0, 0, 0, 0, 2]),
            vlan: None,
            source,
            destination,
            transport,
            ttl: 64,
            ip_options: Vec::new(),
            fragment: ipv4::DONT_FRAGMENT,
            identification: 0,
            payload: Vec::new(),
            fill: Fill::Right,
            pad_to: 0,
        }
    }
}

#[cfg(test)]
mod tests;
