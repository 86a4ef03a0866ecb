//! Writing test frames, fast: a template for each size, then addresses, ports, fields and checksums.

use std::net::IpAddr;
use std::ops::Range;

use packet::Buffer;
use packet::build::FrameSpec;
use packet::checksum::{finish, sum};
use packet::ethernet::Mac;
use packet::parse::{TCP, UDP, parse};
use packet::tcp::{ACK, ACKNOWLEDGEMENT, FLAGS, PSH, SEQUENCE};
use packet::tuple::Tuple;

use super::choice::Sizes;
use super::payload::{self, Mark, filler_of};
use crate::Error;

/// Bytes of the frame check sequence, which sizes count and devices add.
pub const FCS: usize = 4;

/// Least bytes of a frame without FCS.
const LEAST_FRAME: usize = 60;

/// Writes data frames of any flow in any of the sizes, and TCP segments without data.
#[derive(Debug, Clone)]
pub struct Writer {
    templates: Vec<Template>,
    control: Template,
}

/// A frame with addresses, ports, TCP's numbers, fields and checksums zero.
#[derive(Debug, Clone)]
struct Template {
    bytes: Vec<u8>,
    l3: usize,
    l4: usize,
    /// Start and end of the payload.
    payload: Range<usize>,
    v4: bool,
    protocol: u8,
    /// Sum of the IPv4 header.
    header_sum: u64,
    /// Sum of the segment and of the pseudo-header's protocol and length.
    segment_sum: u64,
}

/// TCP's numbers in a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
}

/// Least size, FCS included, that has room for the payload's fields.
#[must_use]
pub fn least_size(v4: bool, protocol: u8) -> u16 {
    let ip = if v4 { 20 } else { 40 };
    let transport = if protocol == UDP { 8 } else { 20 };
    (14 + ip + transport + payload::LEN + FCS) as u16
}

impl Writer {
    /// Frames of each of `sizes` between these MAC addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the fields do not fit into a size.
    pub fn new(v4: bool, protocol: u8, sizes: &Sizes, from: Mac, to: Mac) -> Result<Self, Error> {
        let template = |size| Template::data(v4, protocol, size, from, to);
        Ok(Self {
            templates: sizes
                .all()
                .into_iter()
                .map(template)
                .collect::<Result<_, _>>()?,
            control: Template::new(v4, TCP, Vec::new(), from, to)?,
        })
    }

    /// Makes `frame` a data frame of `tuple` with these fields, in size number `size`; returns the
    /// bytes of its payload, 0 if the buffer is too small. TCP's flags are PSH and ACK.
    pub fn data(
        &self,
        frame: &mut impl Buffer,
        size: usize,
        tuple: &Tuple,
        mark: &Mark,
        numbers: Numbers,
    ) -> usize {
        let template = &self.templates[size];
        let payload = &template.payload;
        if !frame.set_len(template.bytes.len()) {
            return 0;
        }
        let bytes = frame.bytes_mut();
        bytes.copy_from_slice(&template.bytes);
        let fields = mark.bytes(payload.len());
        bytes[payload.start..payload.start + payload::LEN].copy_from_slice(&fields);
        // The payload lies at an even distance from the header, so that sums add up.
        template.finish(bytes, tuple, numbers, PSH | ACK, sum(&fields));
        payload.len()
    }

    /// Makes `frame` a segment of `tuple` without data; false if the buffer is too small.
    pub fn control(
        &self,
        frame: &mut impl Buffer,
        tuple: &Tuple,
        flags: u8,
        numbers: Numbers,
    ) -> bool {
        let template = &self.control;
        if !frame.set_len(template.bytes.len()) {
            return false;
        }
        let bytes = frame.bytes_mut();
        bytes.copy_from_slice(&template.bytes);
        template.finish(bytes, tuple, numbers, flags, 0);
        true
    }

    /// Bytes of the payload in size number `size`.
    #[must_use]
    pub fn payload(&self, size: usize) -> usize {
        self.templates[size].payload.len()
    }
}

impl Template {
    fn data(v4: bool, protocol: u8, size: u16, from: Mac, to: Mac) -> Result<Self, Error> {
        let least = least_size(v4, protocol);
        if size < least {
            return Err(Error::Usage(format!(
                "--size {size}: {} over {} needs at least {least} bytes for sequence number, time \
                 and check",
                if protocol == UDP { "UDP" } else { "TCP" },
                if v4 { "IPv4" } else { "IPv6" },
            )));
        }
        let mut payload = vec![0; payload::LEN];
        payload.extend_from_slice(filler_of(usize::from(size - least) + payload::LEN));
        Self::new(v4, protocol, payload, from, to)
    }

    fn new(v4: bool, protocol: u8, payload: Vec<u8>, from: Mac, to: Mac) -> Result<Self, Error> {
        let any = (if v4 { "0.0.0.0:0" } else { "[::]:0" })
            .parse()
            .map_err(|error| Error::Run(format!("no socket address: {error}")))?;
        let len = payload.len();
        let mut spec = match protocol {
            UDP => FrameSpec::udp(any, any),
            _ => FrameSpec::tcp(any, any, 0),
        };
        spec.source_mac = from;
        spec.destination_mac = to;
        spec.payload = payload;
        spec.pad_to = LEAST_FRAME;
        let mut bytes = spec
            .bytes()
            .map_err(|error| Error::Usage(format!("--size: {error}")))?;
        let parsed = parse(&bytes).map_err(|error| Error::Run(format!("{error:?}")))?;
        let (l3, l4, end) = (parsed.l3(), parsed.l4(), parsed.end());
        if v4 {
            bytes[l3 + 10..l3 + 12].fill(0);
        }
        let checksum = l4 + checksum_offset(protocol);
        bytes[checksum..checksum + 2].fill(0);
        if protocol == TCP {
            bytes[l4 + SEQUENCE..l4 + ACKNOWLEDGEMENT + 4].fill(0);
        }
        Ok(Self {
            l3,
            l4,
            payload: end - len..end,
            v4,
            protocol,
            header_sum: sum(&bytes[l3..l4]),
            segment_sum: sum(&bytes[l4..end]) + (end - l4) as u64 + u64::from(protocol),
            bytes,
        })
    }

    /// Writes what changes from frame to frame; `fields` is the sum of what was written already.
    fn finish(&self, bytes: &mut [u8], tuple: &Tuple, numbers: Numbers, flags: u8, fields: u64) {
        let addresses = put_addresses(&mut bytes[self.l3..], tuple);
        let l4 = &mut bytes[self.l4..];
        let ports = u32::from(tuple.source_port) << 16 | u32::from(tuple.destination_port);
        l4[..4].copy_from_slice(&ports.to_be_bytes());
        let mut total = self.segment_sum + addresses + u64::from(ports) + fields;
        if self.protocol == TCP {
            l4[SEQUENCE..SEQUENCE + 4].copy_from_slice(&numbers.sequence.to_be_bytes());
            l4[ACKNOWLEDGEMENT..ACKNOWLEDGEMENT + 4]
                .copy_from_slice(&numbers.acknowledgement.to_be_bytes());
            l4[FLAGS] = flags;
            total += u64::from(numbers.sequence) + u64::from(numbers.acknowledgement);
            total += u64::from(flags);
        }
        let checksum = match (finish(total), self.protocol) {
            // Zero would say that there is none (RFC 768).
            (0, UDP) => 0xffff,
            (checksum, _) => checksum,
        };
        let at = checksum_offset(self.protocol);
        l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        if self.v4 {
            let checksum = finish(self.header_sum + addresses);
            bytes[self.l3 + 10..][..2].copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

/// Writes the addresses into the IP header at the start of `bytes`; returns their sum.
fn put_addresses(bytes: &mut [u8], tuple: &Tuple) -> u64 {
    match (tuple.source, tuple.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes[12..16].copy_from_slice(&source.octets());
            bytes[16..20].copy_from_slice(&destination.octets());
            u64::from(source.to_bits()) + u64::from(destination.to_bits())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes[8..24].copy_from_slice(&source.octets());
            bytes[24..40].copy_from_slice(&destination.octets());
            sum(&bytes[8..40])
        }
        // FlowSet has one family.
        _ => 0,
    }
}

const fn checksum_offset(protocol: u8) -> usize {
    if protocol == UDP { 6 } else { 16 }
}

#[cfg(test)]
mod tests {
    use packet::build::Transport;
    use packet::memory::HeapBuffer;
    use packet::tcp::{FIN, SYN};

    use super::super::payload::Kind;
    use super::*;

    const MARK: Mark = Mark {
        run: 3,
        kind: Kind::Data,
        sequence: 0x1234_5678_9abc,
        time: 0xfedc_ba98_7654,
    };

    /// The same frame, built from its parts by the other builder.
    fn expected(tuple: &Tuple, size: u16, numbers: Numbers) -> Vec<u8> {
        let (from, to) = (tuple.from(), tuple.to());
        let mut spec = match tuple.protocol {
            UDP => FrameSpec::udp(from, to),
            _ => FrameSpec::tcp(from, to, PSH | ACK),
        };
        if let Transport::Tcp { seq, ack, .. } = &mut spec.transport {
            (*seq, *ack) = (numbers.sequence, numbers.acknowledgement);
        }
        spec.source_mac = Mac([4; 6]);
        spec.destination_mac = Mac([2; 6]);
        let v4 = tuple.source.is_ipv4();
        let len = usize::from(size - least_size(v4, tuple.protocol)) + payload::LEN;
        spec.payload = MARK.bytes(len).to_vec();
        spec.payload.extend_from_slice(filler_of(len));
        spec.bytes().unwrap()
    }

    #[test]
    fn a_written_frame_equals_one_built_from_scratch() {
        for (source, destination) in [
            ("198.18.7.9", "172.16.0.10"),
            ("2001:db8:2::7", "fd00:172::10"),
        ] {
            for protocol in [UDP, TCP] {
                let tuple = Tuple {
                    source: source.parse().unwrap(),
                    destination: destination.parse().unwrap(),
                    source_port: 1025,
                    destination_port: 30_080,
                    protocol,
                };
                let v4 = tuple.source.is_ipv4();
                let least = least_size(v4, protocol);
                for size in [least, least + 1, 1518] {
                    let sizes = Sizes::one(size);
                    let writer =
                        Writer::new(v4, protocol, &sizes, Mac([4; 6]), Mac([2; 6])).unwrap();
                    let mut frame = HeapBuffer::with_capacity(2048);
                    let numbers = Numbers {
                        sequence: 0xffff_fff0,
                        acknowledgement: 77,
                    };
                    let payload = writer.data(&mut frame, 0, &tuple, &MARK, numbers);
                    assert_eq!(frame.bytes(), expected(&tuple, size, numbers));
                    assert_eq!(frame.bytes().len() + FCS, usize::from(size));
                    let start = frame.bytes().len() - payload;
                    assert_eq!(Mark::read(&frame.bytes()[start..], MARK.time), Some(MARK));
                }
                let small = Sizes::one(least - 1);
                let refused = Writer::new(v4, protocol, &small, Mac([4; 6]), Mac([2; 6]));
                assert!(refused.is_err());
            }
        }
    }

    #[test]
    fn a_segment_without_data_equals_one_built_from_scratch() {
        let tuple = Tuple {
            source: "198.18.7.9".parse().unwrap(),
            destination: "172.16.0.10".parse().unwrap(),
            source_port: 1025,
            destination_port: 80,
            protocol: TCP,
        };
        let sizes = Sizes::one(76);
        let writer = Writer::new(true, TCP, &sizes, Mac([4; 6]), Mac([2; 6])).unwrap();
        for (flags, ack) in [(SYN, 0), (FIN | ACK, 9), (ACK, 0xffff_ffff)] {
            let numbers = Numbers {
                sequence: 5,
                acknowledgement: ack,
            };
            let mut spec = FrameSpec::tcp(tuple.from(), tuple.to(), flags);
            if let Transport::Tcp { seq, ack, .. } = &mut spec.transport {
                (*seq, *ack) = (numbers.sequence, numbers.acknowledgement);
            }
            spec.source_mac = Mac([4; 6]);
            spec.destination_mac = Mac([2; 6]);
            spec.pad_to = LEAST_FRAME;
            let mut frame = HeapBuffer::with_capacity(2048);
            assert!(writer.control(&mut frame, &tuple, flags, numbers));
            assert_eq!(frame.bytes(), spec.bytes().unwrap());
        }
    }

    #[test]
    fn only_udp_over_ipv4_fits_the_smallest_frame() {
        assert_eq!(least_size(true, UDP), 64);
        assert_eq!(least_size(false, UDP), 84);
        assert_eq!(least_size(true, TCP), 76);
    }
}
