//! The layers of a described frame, from the inside out.

use crate::checksum;
use crate::parse::{ICMP, ICMPV6, SCTP, TCP, UDP};
use crate::{ipv4, ipv6, sctp};

use super::{BuildError, Fill, FrameSpec, Transport};

impl FrameSpec {
    pub(super) fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp => UDP,
            Transport::Sctp { .. } => SCTP,
            Transport::Echo { .. } if self.source.is_ipv4() => ICMP,
            Transport::Echo { .. } => ICMPV6,
            Transport::Raw { protocol } => protocol,
        }
    }

    pub(super) fn packet_v4(
        &self,
        header: &ipv4::Header,
        l4: &[u8],
    ) -> Result<Vec<u8>, BuildError> {
        let options = padded(&self.ip_options, 4);
        let words = (ipv4::HEADER + options.len()) / 4;
        let first = u8::try_from(words).ok().filter(|words| *words <= 15);
        let first = 0x40 | first.ok_or(BuildError::OptionsTooLong)?;
        let mut packet = vec![0; ipv4::HEADER];
        if !header.write(&mut packet, options.len() + l4.len()) {
            return Err(BuildError::TooLong);
        }
        packet[0] = first;
        packet[ipv4::IDENTIFICATION..][..2].copy_from_slice(&self.identification.to_be_bytes());
        packet[ipv4::FRAGMENT..][..2].copy_from_slice(&self.fragment.to_be_bytes());
        packet.extend_from_slice(&options);
        let written = ipv4::write_checksum(&mut packet);
        debug_assert!(written);
        packet.extend_from_slice(l4);
        Ok(packet)
    }

    pub(super) fn packet_v6(
        &self,
        mut header: ipv6::Header,
        l4: &[u8],
    ) -> Result<Vec<u8>, BuildError> {
        let mut payload = Vec::new();
        if !self.ip_options.is_empty() {
            payload.extend_from_slice(&[header.next_header, 0]);
            payload.extend_from_slice(&self.ip_options);
            payload = padded(&payload, 8);
            payload[1] =
                u8::try_from(payload.len() / 8 - 1).map_err(|_| BuildError::OptionsTooLong)?;
            header.next_header = 60;
        }
        payload.extend_from_slice(l4);
        let mut packet = vec![0; ipv6::HEADER];
        if !header.write(&mut packet, payload.len()) {
            return Err(BuildError::TooLong);
        }
        packet.extend_from_slice(&payload);
        Ok(packet)
    }

    /// Transport header and payload, checksum filled in.
    pub(super) fn l4(&self) -> Result<Vec<u8>, BuildError> {
        let ports = [self.source.port(), self.destination.port()].map(u16::to_be_bytes);
        let mut l4 = match &self.transport {
            Transport::Raw { .. } => return Ok(self.payload.clone()),
            Transport::Tcp { .. } | Transport::Sctp { .. } | Transport::Udp => ports.concat(),
            Transport::Echo { reply, id, seq } => {
                let kind = match (self.source.is_ipv4(), reply) {
                    (true, false) => 8,
                    (true, true) => 0,
                    (false, false) => 128,
                    (false, true) => 129,
                };
                let [id, seq] = [id, seq].map(|number| number.to_be_bytes());
                [[kind, 0], [0, 0], id, seq].concat()
            }
        };
        match &self.transport {
            Transport::Tcp {
                flags,
                seq,
                ack,
                window,
                options,
            } => {
                let options = padded(options, 4);
                let words = u8::try_from(5 + options.len() / 4).ok();
                let words = words.filter(|words| *words <= 15);
                l4.extend_from_slice(&seq.to_be_bytes());
                l4.extend_from_slice(&ack.to_be_bytes());
                l4.push(words.ok_or(BuildError::OptionsTooLong)? << 4);
                l4.push(*flags);
                l4.extend_from_slice(&window.to_be_bytes());
                l4.extend_from_slice(&[0; 4]);
                l4.extend_from_slice(&options);
            }
            Transport::Udp => {
                let len = u16::try_from(8 + self.payload.len()).map_err(|_| BuildError::TooLong)?;
                l4.extend_from_slice(&len.to_be_bytes());
                l4.extend_from_slice(&[0; 2]);
            }
            Transport::Sctp { tag } => {
                l4.extend_from_slice(&tag.to_be_bytes());
                l4.extend_from_slice(&[0; 4]);
            }
            Transport::Echo { .. } | Transport::Raw { .. } => {}
        }
        l4.extend_from_slice(&self.payload);
        self.fill_checksum(&mut l4)?;
        Ok(l4)
    }

    /// Fills the checksum field, which is zero.
    fn fill_checksum(&self, l4: &mut [u8]) -> Result<(), BuildError> {
        let protocol = self.protocol();
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let pseudo = checksum::pseudo(source, destination, protocol, l4.len())
            .ok_or(BuildError::MixedFamilies)?;
        let field = match checksum::field_offset(protocol) {
            Some(at) => at..at + 2,
            None => 8..12, // SCTP's (RFC 9260, section 3.1)
        };
        match self.fill {
            Fill::Right | Fill::Wrong if protocol == SCTP => sctp::write_checksum(l4),
            Fill::Right | Fill::Wrong => {
                let written = checksum::write_l4(l4, pseudo, protocol);
                debug_assert!(written);
            }
            Fill::Unfinished if protocol != SCTP => {
                l4[field.clone()].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
            }
            Fill::Unfinished | Fill::Zero => {}
        }
        if self.fill == Fill::Wrong {
            l4[field].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }
}

/// `bytes` and as many zeros as make the length a multiple of `unit`.
fn padded(bytes: &[u8], unit: usize) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(unit), 0);
    padded
}
