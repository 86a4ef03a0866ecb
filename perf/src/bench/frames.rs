//! Writing the frames of many flows, fast: a template, then addresses, ports and checksums.

use packet::Buffer;
use packet::build::FrameSpec;
use packet::checksum::{finish, sum};
use packet::ethernet::Mac;
use packet::parse::{Network, parse};

use crate::Error;
use engine::family::Family;

/// Writes TCP frames of one kind for any tuple.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// A whole frame with addresses, ports and checksums zero.
    template: Vec<u8>,
    l3: usize,
    l4: usize,
    v4: bool,
    /// Sum of the IPv4 header.
    header_sum: u64,
    /// Sum of the segment and of the pseudo-header's protocol and length.
    segment_sum: u64,
}

impl Stamp {
    /// Frames with these flags, of `size` bytes at least (a payload fills them up; SYNs are padded
    /// instead), between these MAC addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for sizes that no frame can have.
    pub fn tcp<F: Family>(
        flags: u8,
        size: usize,
        from: [u8; 6],
        to: [u8; 6],
    ) -> Result<Self, Error> {
        let any = match F::LINES {
            1 => "0.0.0.0:0",
            _ => "[::]:0",
        };
        let any = any
            .parse()
            .map_err(|error| Error::Run(format!("{any} is no socket address: {error}")))?;
        let mut spec = FrameSpec::tcp(any, any, flags);
        spec.source_mac = Mac(from);
        spec.destination_mac = Mac(to);
        let headers = if F::LINES == 1 { 54 } else { 74 };
        if flags & packet::tcp::SYN == 0 && size > headers {
            spec.payload = vec![0x5a; size - headers];
        }
        spec.pad_to = size;
        let mut template = spec
            .bytes()
            .map_err(|error| Error::Usage(format!("--frame-size {size}: {error}")))?;
        let parsed = parse(&template).map_err(|error| Error::Run(format!("{error:?}")))?;
        let (l3, l4, end) = (parsed.l3(), parsed.l4(), parsed.end());
        let v4 = parsed.network == Network::V4;
        if v4 {
            template[l3 + 10..l3 + 12].fill(0);
        }
        template[l4 + 16..l4 + 18].fill(0);
        let pseudo = (end - l4) as u64 + u64::from(parsed.protocol);
        Ok(Self {
            l3,
            l4,
            v4,
            header_sum: sum(&template[l3..l4]),
            segment_sum: sum(&template[l4..end]) + pseudo,
            template,
        })
    }

    /// Bytes of each frame.
    #[must_use]
    pub fn size(&self) -> usize {
        self.template.len()
    }

    /// Makes `frame` a frame of the tuple `key`.
    ///
    /// # Panics
    ///
    /// If the buffer is too small for the frame.
    pub fn write<F: Family, B: Buffer>(&self, frame: &mut B, key: &F::Key) {
        assert!(frame.set_len(self.size()), "the buffer holds the frame");
        let bytes = frame.bytes_mut();
        bytes.copy_from_slice(&self.template);
        let (addresses, ports, _) = F::split(key);
        let first = self.l3 + if self.v4 { 12 } else { 8 };
        let mut addresses_sum = 0;
        for (at, word) in addresses.as_ref().iter().enumerate() {
            bytes[first + at * 8..][..8].copy_from_slice(&word.to_be_bytes());
            addresses_sum += (word >> 32) + (word & 0xffff_ffff);
        }
        if self.v4 {
            let checksum = finish(self.header_sum + addresses_sum);
            bytes[self.l3 + 10..][..2].copy_from_slice(&checksum.to_be_bytes());
        }
        let checksum = finish(self.segment_sum + addresses_sum + u64::from(ports));
        bytes[self.l4..][..4].copy_from_slice(&ports.to_be_bytes());
        bytes[self.l4 + 16..][..2].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use engine::family::{V4, V6};
    use packet::memory::HeapBuffer;
    use packet::tcp::{ACK, SYN};

    use super::*;

    #[test]
    fn a_stamped_frame_equals_one_built_from_scratch() {
        fn check<F: Family>(from: &str, to: &str, flags: u8, size: usize) {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let mut spec = FrameSpec::tcp(from, to, flags);
            spec.source_mac = Mac([4; 6]);
            spec.destination_mac = Mac([2; 6]);
            spec.pad_to = size;
            let headers = if F::LINES == 1 { 54 } else { 74 };
            if flags & SYN == 0 {
                spec.payload = vec![0x5a; size.saturating_sub(headers)];
            }
            let tuple = packet::tuple::Tuple {
                source: from.ip(),
                destination: to.ip(),
                source_port: from.port(),
                destination_port: to.port(),
                protocol: packet::parse::TCP,
            };
            let stamp = Stamp::tcp::<F>(flags, size, [4; 6], [2; 6]).unwrap();
            let mut frame = HeapBuffer::with_capacity(2048);
            stamp.write::<F, _>(&mut frame, &F::from_tuple(&tuple).unwrap());
            assert_eq!(frame.bytes(), spec.bytes().unwrap());
        }
        for (flags, size) in [(SYN, 60), (ACK, 60), (ACK, 61), (ACK, 1514)] {
            check::<V4>("198.18.7.9:1025", "172.16.0.10:80", flags, size);
            check::<V6>("[2001:db8:2::7]:1025", "[fd00:172::10]:80", flags, size);
        }
    }
}
