//! Capture files that Wireshark opens, with comments (draft-ietf-opsawg-pcapng).

use std::io::{self, Write};

use engine::trace::Image;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

/// Options: of every block, of interfaces, of packets.
const END: u16 = 0;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// Longest comment; an option's length has 16 bits.
const MOST: usize = 60_000;

/// Which way a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    In = 1,
    Out = 2,
}

/// A file being written.
pub(super) struct Pcapng<W: Write> {
    out: W,
    /// Names of the interfaces described so far.
    interfaces: Vec<String>,
}

impl<W: Write> Pcapng<W> {
    /// Begins a file.
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut file = Self {
            out,
            interfaces: Vec::new(),
        };
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        // Version 1.0, of unknown length.
        body.extend([1, 0, 0, 0]);
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, APPLICATION, b"portgate trace");
        option(&mut body, END, &[]);
        file.block(SECTION, &body)?;
        Ok(file)
    }

    /// Adds a packet, `nanos` nanoseconds after 1970.
    pub(super) fn packet(
        &mut self,
        interface: &str,
        direction: Direction,
        nanos: u64,
        image: &Image,
        comment: &str,
    ) -> io::Result<()> {
        let number = self.interface(interface)?;
        let mut body = Vec::new();
        body.extend(number.to_le_bytes());
        body.extend(((nanos >> 32) as u32).to_le_bytes());
        body.extend((nanos as u32).to_le_bytes());
        body.extend((image.bytes.len() as u32).to_le_bytes());
        body.extend(image.len.to_le_bytes());
        body.extend(&image.bytes);
        pad(&mut body);
        let end = (0..=MOST.min(comment.len())).rev();
        let end = end.into_iter().find(|end| comment.is_char_boundary(*end));
        option(&mut body, COMMENT, &comment.as_bytes()[..end.unwrap_or(0)]);
        option(&mut body, FLAGS, &(direction as u32).to_le_bytes());
        option(&mut body, END, &[]);
        self.block(PACKET, &body)
    }

    /// Lets whoever reads the file see what was added.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Number of an interface, described at its first packet.
    fn interface(&mut self, name: &str) -> io::Result<u32> {
        if let Some(at) = self.interfaces.iter().position(|known| known == name) {
            return Ok(at as u32);
        }
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        // Reserved; no limit to the length of packets.
        body.extend([0; 6]);
        option(&mut body, NAME, name.as_bytes());
        // Times are in units of 10⁻⁹ s.
        option(&mut body, RESOLUTION, &[9]);
        option(&mut body, END, &[]);
        self.block(INTERFACE, &body)?;
        self.interfaces.push(name.to_owned());
        Ok(self.interfaces.len() as u32 - 1)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32 + 12).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(body)?;
        self.out.write_all(&length)
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

/// Everything begins at a multiple of four.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
