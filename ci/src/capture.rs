//! Raw frames on a device of a namespace: seen as they arrive, sent byte by byte.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto,
    setsockopt, socket, sockopt,
};

use crate::netns::Namespace;

/// `PACKET_OUTGOING` of linux/if_packet.h: a frame that the kernel of this namespace sent.
const OUTGOING: u8 = 4;

/// Longest frame kept.
const LONGEST: usize = 65536;

/// How long a frame may be refused for want of room.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes the kernel may keep for us between two looks.
const BACKLOG: usize = 8 << 20;

/// An open view on one device.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    device: LinkAddr,
}

impl Capture {
    /// Starts to see what arrives at `device` of `namespace`.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn on(namespace: &Namespace, device: &str) -> Self {
        namespace
            .enter(|| Self::here(device))
            .unwrap_or_else(|error| panic!("cannot capture on {device}: {error}"))
    }

    fn here(device: &str) -> io::Result<Self> {
        let device = getifaddrs()?
            .filter(|interface| interface.interface_name == device)
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .ok_or(io::ErrorKind::NotFound)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            Some(SockProtocol::EthAll),
        )?;
        setsockopt(&socket, sockopt::RcvBuf, &BACKLOG)?;
        bind(socket.as_raw_fd(), &device)?;
        let capture = Self { socket, device };
        // Between socket() and bind() frames of all devices may have come in.
        while capture.next()?.is_some() {}
        Ok(capture)
    }

    /// Sends one frame as it is, as soon as there is room for it.
    ///
    /// # Panics
    /// If the kernel does not take it.
    pub fn send(&self, frame: &[u8]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let socket = self.socket.as_raw_fd();
            match sendto(socket, frame, &self.device, MsgFlags::empty()) {
                Ok(_) => return,
                // Newer kernels tell the sender when the far end of a veth drops a frame.
                Err(Errno::ENOBUFS | Errno::EAGAIN) if Instant::now() < end => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("cannot send {} bytes: {error}", frame.len()),
            }
        }
    }

    /// Everything that arrives within `time`.
    pub fn collect(&self, time: Duration) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.each(time, |frame| {
            frames.push(frame);
            false
        });
        frames
    }

    /// The first frame that `wanted` accepts, or `None` when `time` is over.
    pub fn find(&self, time: Duration, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut found = None;
        self.each(time, |frame| {
            let hit = wanted(&frame);
            if hit {
                found = Some(frame);
            }
            hit
        });
        found
    }

    /// Hands over frame by frame until `take` says that it is enough.
    fn each(&self, time: Duration, mut take: impl FnMut(Vec<u8>) -> bool) {
        let end = Instant::now() + time;
        loop {
            match self.next() {
                Ok(Some(frame)) => {
                    if take(frame) {
                        return;
                    }
                }
                Ok(None) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    self.wait(left);
                }
                Err(error) => panic!("cannot capture: {error}"),
            }
        }
    }

    fn wait(&self, time: Duration) {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        // Interrupted or not, the caller looks again.
        let _ = poll(&mut polled, time);
    }

    /// A frame that has arrived, skipping those that this namespace sent itself.
    fn next(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut buffer = vec![0; LONGEST];
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let kind = from.map_or(0, |from| from.as_ref().sll_pkttype);
                    if kind != OUTGOING {
                        buffer.truncate(length);
                        return Ok(Some(buffer));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
