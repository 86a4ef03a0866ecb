//! TCP segments that the gateway starts itself.

use std::net::SocketAddr;

use crate::answer::{header_len, start_frame, write_header};
use crate::buffer::Buffer;
use crate::checksum;
use crate::ethernet::{self, Mac};
use crate::parse::TCP;
use crate::tcp::{ACK, HEADER};

/// A segment without options and payload (RFC 9293, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Address and port that it comes from.
    pub source: SocketAddr,
    /// Address and port that it goes to, of the same family.
    pub destination: SocketAddr,
    /// Flags: see [`crate::tcp`].
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; 0 is sent without ACK.
    pub ack: u32,
}

impl Segment {
    /// Makes `frame` this segment, behind an untagged Ethernet header whose addresses are still to be written.
    /// False if the families differ or there is no room; the frame is unspecified then.
    pub fn write(&self, frame: &mut impl Buffer) -> bool {
        self.try_write(frame).is_some()
    }

    fn try_write(&self, frame: &mut impl Buffer) -> Option<()> {
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let header = header_len(destination);
        let ethertype = if destination.is_ipv4() {
            ethernet::IPV4
        } else {
            ethernet::IPV6
        };
        let nobody = Mac([0; 6]);
        let packet = start_frame(frame, (nobody, nobody), None, ethertype, header + HEADER)?;
        write_header(packet, source, destination, TCP, 0)?;
        let segment = packet.get_mut(header..)?;
        let ack = if self.flags & ACK == 0 { 0 } else { self.ack };
        segment.fill(0);
        segment[..2].copy_from_slice(&self.source.port().to_be_bytes());
        segment[2..4].copy_from_slice(&self.destination.port().to_be_bytes());
        segment[4..8].copy_from_slice(&self.seq.to_be_bytes());
        segment[8..12].copy_from_slice(&ack.to_be_bytes());
        segment[12..14].copy_from_slice(&[0x50, self.flags]);
        let pseudo = checksum::pseudo(source, destination, TCP, HEADER)?;
        checksum::write_l4(segment, pseudo, TCP);
        Some(())
    }
}

/// Sequence number of a segment, if it has one.
#[must_use]
pub fn sequence(segment: &[u8]) -> Option<u32> {
    let bytes = segment.get(4..8)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{FrameSpec, Transport};
    use crate::memory::HeapBuffer;
    use crate::tcp::RST;

    #[test]
    fn a_segment_is_what_the_builder_makes_of_the_same_words() {
        for (from, to) in [
            ("203.0.113.50:40000", "198.51.100.7:80"),
            ("[2001:db8::1]:40000", "[2001:db8::2]:80"),
        ] {
            for flags in [ACK, RST, RST | ACK] {
                let segment = Segment {
                    source: from.parse().unwrap(),
                    destination: to.parse().unwrap(),
                    flags,
                    seq: 0xdead_beef,
                    ack: 0xcafe_f00d,
                };
                let mut frame = HeapBuffer::from_bytes(&[]);
                assert!(segment.write(&mut frame));
                let mut spec = FrameSpec::tcp(segment.source, segment.destination, flags);
                spec.source_mac = Mac([0; 6]);
                spec.destination_mac = Mac([0; 6]);
                spec.transport = Transport::Tcp {
                    flags,
                    seq: segment.seq,
                    ack: if flags & ACK == 0 { 0 } else { segment.ack },
                    window: 0,
                    options: Vec::new(),
                };
                assert_eq!(frame.bytes(), spec.bytes().unwrap());
                assert_eq!(
                    sequence(&frame.bytes()[frame.bytes().len() - 20..]),
                    Some(segment.seq)
                );
            }
        }
    }

    #[test]
    fn two_families_make_no_segment() {
        let segment = Segment {
            source: "203.0.113.50:1".parse().unwrap(),
            destination: "[2001:db8::2]:80".parse().unwrap(),
            flags: ACK,
            seq: 0,
            ack: 0,
        };
        assert!(!segment.write(&mut HeapBuffer::from_bytes(&[])));
    }
}
