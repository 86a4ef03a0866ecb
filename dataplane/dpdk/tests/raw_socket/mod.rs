//! Whole frames sent and received by the kernel's own packet socket: the far end of a veth.
#![allow(missing_docs, clippy::unwrap_used)]

use std::ffi::CString;
use std::io::{self, Error};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

pub(crate) struct RawSocket(OwnedFd);

impl RawSocket {
    /// A socket on the interface of this name in the calling thread's namespace.
    pub(crate) fn open(interface: &str) -> Self {
        let everything = (libc::ETH_P_ALL as u16).to_be();
        let name = CString::new(interface).unwrap();
        // SAFETY: no pointers but a null-terminated string, only read.
        let (index, socket) = unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let index = libc::if_nametoindex(name.as_ptr());
            (
                index,
                libc::socket(libc::AF_PACKET, kind, i32::from(everything)),
            )
        };
        assert!(
            index > 0 && socket >= 0,
            "{interface}: {}",
            Error::last_os_error()
        );
        // SAFETY: a descriptor just made, owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: a sockaddr_ll is integers, for which zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = everything;
        address.sll_ifindex = index as i32;
        let len = size_of_val(&address) as u32;
        // SAFETY: `address` is readable and as long as stated.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        assert_eq!(bound, 0, "{interface}: {}", Error::last_os_error());
        Self(socket)
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // SAFETY: `frame` is readable and as long as stated.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", Error::last_os_error());
    }

    /// Waits until a frame comes that `wanted` likes; panics after five seconds.
    pub(crate) fn receive(&self, wanted: impl Fn(&[u8]) -> bool) {
        let start = Instant::now();
        let mut buffer = vec![0; 65536];
        while start.elapsed() < Duration::from_secs(5) {
            // SAFETY: `buffer` is writable and as long as stated.
            let len = unsafe {
                let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
                libc::recv(self.0.as_raw_fd(), start, len, 0)
            };
            match usize::try_from(len) {
                Ok(len) if wanted(&buffer[..len]) => return,
                Ok(_) => {}
                Err(_) => {
                    assert_eq!(Error::last_os_error().kind(), io::ErrorKind::WouldBlock);
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        }
        panic!("waited in vain for a frame");
    }
}
