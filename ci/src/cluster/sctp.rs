//! Just enough of SCTP (RFC 9260) for a question and its answer, over raw sockets: few kernels that
//! tests run on have SCTP itself. The question is an INIT, the answer an INIT ACK whose State
//! Cookie holds the words. Packets with a wrong checksum are not heard.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect,
    recvfrom, send, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Chunk types (RFC 9260 section 3.2).
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Type of the parameter State Cookie (RFC 9260 section 3.3.3.1).
const STATE_COOKIE: u16 = 7;
/// Length of the common header, and of an INIT without its chunk header and parameters.
const HEADER: usize = 12;
const FIXED: usize = 16;

/// Ports of clients.
static PORT: AtomicU16 = AtomicU16::new(0);
/// Refusals are told to every raw socket between two addresses: one question at a time for each.
static PAIRS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];

/// Server for one address: answers each INIT to one of `ports`.
#[derive(Debug)]
pub(super) struct Server {
    descriptor: OwnedFd,
    address: IpAddr,
}

/// A packet of one chunk, INIT or INIT ACK.
struct Packet {
    source: u16,
    destination: u16,
    /// Verification tag of the header.
    tag: u32,
    chunk: u8,
    /// Initiate tag of the chunk.
    initiate: u32,
    /// Content of a State Cookie; empty if there is none.
    cookie: Vec<u8>,
}

impl Server {
    /// Listens at `address` in the namespace of the calling thread.
    pub(super) fn open(address: IpAddr) -> io::Result<Self> {
        Ok(Self {
            descriptor: raw(address, SockFlag::SOCK_NONBLOCK)?,
            address,
        })
    }

    /// What epoll watches.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Answers everything that has come, with the address and port asked and the client's address.
    pub(super) fn answer(&self, ports: &[u16]) -> io::Result<()> {
        let mut buffer = [0; 1500];
        while let Ok((length, Some(peer))) =
            recvfrom::<SockaddrStorage>(self.descriptor.as_raw_fd(), &mut buffer[..])
        {
            let Some(peer) = ip_of(&peer) else { continue };
            let question = Packet::parse(strip(self.address, &buffer[..length]));
            let Some(question) = question.filter(|packet| packet.chunk == INIT) else {
                continue;
            };
            if !ports.contains(&question.destination) {
                continue;
            }
            let at = SocketAddr::new(self.address, question.destination);
            let answer = Packet {
                source: question.destination,
                destination: question.source,
                tag: question.initiate,
                chunk: INIT_ACK,
                initiate: 1,
                cookie: format!("{at} {peer}").into_bytes(),
            };
            let to = SockaddrStorage::from(SocketAddr::new(peer, 0));
            sendto(
                self.descriptor.as_raw_fd(),
                &answer.bytes(),
                &to,
                MsgFlags::empty(),
            )?;
        }
        Ok(())
    }
}

/// Asks `to` from the address `from`, in the namespace of the calling thread.
pub(super) fn ask(from: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    (from, to.ip()).hash(&mut hasher);
    let pair = usize::try_from(hasher.finish() % 64).unwrap_or(0);
    let _alone = PAIRS[pair].lock().unwrap_or_else(PoisonError::into_inner);

    let descriptor = raw(from, SockFlag::empty())?;
    // Connected, it hears nobody else, and hears of refusals.
    connect(
        descriptor.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(to.ip(), 0)),
    )?;
    // Relaxed: the number only has to differ from recent ones.
    let port = 20_000 + PORT.fetch_add(1, Ordering::Relaxed) % 40_000;
    let question = Packet {
        source: port,
        destination: to.port(),
        tag: 0,
        chunk: INIT,
        initiate: u32::from(port),
        cookie: Vec::new(),
    };
    send(descriptor.as_raw_fd(), &question.bytes(), MsgFlags::empty())?;

    let end = Instant::now() + patience;
    let mut buffer = [0; 1500];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let limit = TimeVal::new(
            left.as_secs().cast_signed(),
            left.subsec_micros().max(1).into(),
        );
        setsockopt(&descriptor, sockopt::ReceiveTimeout, &limit)?;
        let (length, _) = recvfrom::<SockaddrStorage>(descriptor.as_raw_fd(), &mut buffer[..])?;
        let answer = Packet::parse(strip(from, &buffer[..length]));
        let answer = answer.filter(|packet| {
            let ours = (packet.source, packet.destination) == (to.port(), port);
            ours && packet.chunk == INIT_ACK && packet.tag == u32::from(port)
        });
        if let Some(answer) = answer {
            return Ok(String::from_utf8_lossy(&answer.cookie).into_owned());
        }
    }
}

/// A raw socket bound to `address`.
fn raw(address: IpAddr, flags: SockFlag) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let descriptor = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | flags,
        SockProtocol::Sctp,
    )?;
    let address = SockaddrStorage::from(SocketAddr::new(address, 0));
    bind(descriptor.as_raw_fd(), &address)?;
    Ok(descriptor)
}

/// What is behind the IP header: raw sockets of IPv4 give that too (RFC 791 section 3.1, IHL).
fn strip(family: IpAddr, bytes: &[u8]) -> &[u8] {
    let header = match family {
        IpAddr::V4(_) => bytes
            .first()
            .map_or(0, |first| usize::from(first & 0xf) * 4),
        IpAddr::V6(_) => 0,
    };
    bytes.get(header..).unwrap_or_default()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

impl Packet {
    /// The packet on the wire (RFC 9260 sections 3, 3.3.2 and 3.3.3).
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        let cookie = if self.cookie.is_empty() {
            0
        } else {
            4 + self.cookie.len()
        };
        // The length of a chunk does not count its padding.
        let length = u16::try_from(4 + FIXED + cookie).unwrap_or(u16::MAX);
        bytes.extend([self.chunk, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.initiate.to_be_bytes());
        bytes.extend(65_536_u32.to_be_bytes());
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(1_u32.to_be_bytes());
        if cookie > 0 {
            bytes.extend(STATE_COOKIE.to_be_bytes());
            bytes.extend(u16::try_from(cookie).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(&self.cookie);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        // The checksum is sent least significant byte first (RFC 9260 appendix A).
        let checksum = crc32c(&bytes).to_le_bytes();
        bytes[8..HEADER].copy_from_slice(&checksum);
        bytes
    }

    /// `None` for anything but an INIT or INIT ACK with a good checksum.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let two = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let four = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let mut zeroed = bytes.to_vec();
        let checksum = zeroed.get_mut(8..HEADER)?;
        let stated = u32::from_le_bytes(checksum.try_into().ok()?);
        checksum.fill(0);
        let chunk = *bytes.get(HEADER)?;
        if crc32c(&zeroed) != stated || ![INIT, INIT_ACK].contains(&chunk) {
            return None;
        }
        let parameter = HEADER + 4 + FIXED;
        let cookie = if two(parameter) == Some(STATE_COOKIE) {
            let length = usize::from(two(parameter + 2)?);
            bytes.get(parameter + 4..parameter + length)?
        } else {
            &[]
        };
        Some(Self {
            source: two(0)?,
            destination: two(2)?,
            tag: four(4)?,
            chunk,
            initiate: four(HEADER + 4)?,
            cookie: cookie.to_vec(),
        })
    }
}

/// The checksum of RFC 9260 appendix A, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 * odd);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_packet_is_read_as_it_was_written_and_not_with_a_flipped_bit() {
        let packet = Packet {
            source: 1,
            destination: 2,
            tag: 3,
            chunk: INIT_ACK,
            initiate: 4,
            cookie: b"words".to_vec(),
        };
        let mut bytes = packet.bytes();
        let read = Packet::parse(&bytes).expect("a packet");
        assert_eq!((read.source, read.destination, read.tag), (1, 2, 3));
        assert_eq!((read.initiate, read.cookie.as_slice()), (4, &b"words"[..]));
        bytes[0] ^= 1;
        assert!(Packet::parse(&bytes).is_none());
    }
}
