//! An interface of the kernel whose other end is this process: what it sends comes here, and what is written here it
//! receives.
//!
//! Not for the packet path: every frame costs a system call. It is how the host's own programs share a link with
//! the gateway.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use libc::{c_int, c_ulong, c_void, ifreq};

/// Requests of linux/if_tun.h.
const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNSETPERSIST: c_ulong = 0x4004_54cb;

/// Ethernet frames, without a header of the driver's before each.
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;

/// The open end of a tap interface. The interface stays when this is dropped, without carrier, so that
/// its addresses and what listens on them outlive a restart.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Opens the tap interface of this name, makes it if there is none, and gives it the MAC address.
    ///
    /// # Errors
    ///
    /// Those of the system calls; EBUSY if another process has its other end, EINVAL if an interface of
    /// the name exists that is none of this kind.
    pub fn open(name: &str, mac: [u8; 6]) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        let mut request = named(name)?;
        request.ifr_ifru.ifru_flags = IFF_TAP | IFF_NO_PI;
        call(&file, TUNSETIFF, (&raw mut request).cast())?;
        // The argument is a number, not a pointer: anything but zero.
        call(&file, TUNSETPERSIST, std::ptr::without_provenance_mut(1))?;
        let mut address: libc::sockaddr = libc::sockaddr {
            sa_family: libc::ARPHRD_ETHER,
            sa_data: [0; 14],
        };
        for (to, from) in address.sa_data.iter_mut().zip(mac) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_hwaddr = address;
        call(&file, libc::SIOCSIFHWADDR, (&raw mut request).cast())?;
        Ok(Self { file })
    }

    /// A frame that the kernel sends, into `frame`; its length, or `None` if there is none now.
    pub fn receive(&mut self, frame: &mut [u8]) -> Option<usize> {
        // No frame, or the interface is down.
        self.file.read(frame).ok()
    }

    /// Lets the kernel receive a frame; false if it does not take it.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.file.write(frame).is_ok()
    }
}

fn named(name: &str) -> io::Result<ifreq> {
    // SAFETY: an ifreq is integers and arrays of them, for which zero is valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the name's end.
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn call(file: &File, request: c_ulong, argument: *mut c_void) -> io::Result<()> {
    // SAFETY: the three requests in use take a number, or read and write an ifreq, which `argument` then points to.
    let result: c_int = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        for name in ["", "a-name-far-too-long", "a\0b"] {
            let error = named(name).err().map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::InvalidInput), "{name:?}");
        }
    }
}
