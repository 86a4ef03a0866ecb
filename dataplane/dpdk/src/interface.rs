//! What the kernel says about an interface, in the network namespace of the calling thread.
//!
//! Asked by system calls and not in /sys, which may show another namespace's interfaces.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, c_ulong, ifreq};

/// A kernel interface at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// Its index, which a deleted and recreated interface of the same name does not keep.
    pub index: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Has a carrier, too (`IFF_RUNNING`).
    pub running: bool,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
}

/// The kernel's own counters of an interface since it was made.
///
/// net_af_packet never counts what it loses when its ring is full; what the interface received and
/// the port did not is visible only here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received and thrown away.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets thrown away instead of sent.
    pub tx_dropped: u64,
}

impl Interface {
    /// The interface of this name, `None` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the system calls.
    pub fn query(name: &str) -> io::Result<Option<Self>> {
        let Ok(c_name) = CString::new(name) else {
            return Ok(None);
        };
        // SAFETY: a null-terminated string, only read.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        if index == 0 {
            return Ok(None);
        }
        let socket = control_socket()?;
        let (Some(mut flags), Some(mtu)) = (
            flags(&socket, &c_name)?,
            request(&socket, &c_name, libc::SIOCGIFMTU)?,
        ) else {
            return Ok(None);
        };
        if flags & (libc::IFF_UP | libc::IFF_RUNNING) == libc::IFF_UP {
            // Up, and without a carrier as far as is known: the kernel may not have looked at the news yet.
            settle(&socket, &c_name);
            flags = self::flags(&socket, &c_name)?.unwrap_or(flags);
        }
        // SAFETY: SIOCGIFMTU fills in this member; any bits are a valid int.
        let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
        Ok(Some(Self {
            index,
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_RUNNING != 0,
            mtu: mtu.try_into().unwrap_or(0),
        }))
    }

    /// The counters of the interface of this name (/proc/net/dev), `None` if there is none.
    ///
    /// # Errors
    ///
    /// If the kernel's table cannot be read.
    pub fn counters(name: &str) -> io::Result<Option<InterfaceCounters>> {
        // The thread's own view: /proc/net is the main thread's.
        let table = fs::read_to_string("/proc/thread-self/net/dev")?;
        Ok(parse_counters(&table, name))
    }
}

fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers involved.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Flags of the interface (`IFF_*`); `None` if it has gone.
fn flags(socket: &OwnedFd, name: &CString) -> io::Result<Option<c_int>> {
    let request = request(socket, name, libc::SIOCGIFFLAGS)?;
    // SAFETY: SIOCGIFFLAGS fills in this member; any bits are a valid short.
    Ok(request.map(|request| c_int::from(unsafe { request.ifr_ifru.ifru_flags })))
}

/// Makes the kernel take note of a carrier that has come: it does so up to a second late, unless somebody asks for it
/// (`ETHTOOL_GLINK`, ethtool_op_get_link). An interface whose driver does not know the question stays as it is.
fn settle(socket: &OwnedFd, name: &CString) {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    const ETHTOOL_GLINK: u32 = 0xa;
    let mut value = Value {
        command: ETHTOOL_GLINK,
        data: 0,
    };
    let Some(mut request) = named(name) else {
        return;
    };
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads an ifreq, which `request` is, and with this command reads and writes the two numbers
    // of a `Value`, which lives until the call has returned.
    unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
}

/// A request about the interface; `None` if none has such a name.
fn named(name: &CString) -> Option<ifreq> {
    // SAFETY: an ifreq is integers and arrays of them, for which zero is valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Some(request)
}

/// Asks about the interface; `None` if it has gone meanwhile.
fn request(socket: &OwnedFd, name: &CString, what: c_ulong) -> io::Result<Option<ifreq>> {
    let Some(mut request) = named(name) else {
        return Ok(None);
    };
    // SAFETY: the two requests in use read and write an ifreq, which `request` is.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) } == 0 {
        return Ok(Some(request));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        error => Err(error),
    }
}

/// Columns after `name:` are eight for receiving (bytes, packets, errs, drop, …), then the same
/// for sending.
fn parse_counters(table: &str, name: &str) -> Option<InterfaceCounters> {
    let line = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let columns: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    Some(InterfaceCounters {
        rx_packets: *columns.get(1)?,
        rx_dropped: *columns.get(3)?,
        tx_packets: *columns.get(9)?,
        tx_dropped: *columns.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_with_its_properties() {
        let lo = Interface::query("lo").unwrap().unwrap();
        assert_eq!(lo.index, 1);
        assert!(lo.mtu >= 1500);
        assert!(Interface::counters("lo").unwrap().is_some());
    }

    #[test]
    fn interfaces_that_do_not_exist_are_none() {
        for name in [
            "no-such-link",
            "",
            "a-name-far-too-long-for-an-interface",
            "a\0b",
        ] {
            assert_eq!(Interface::query(name).unwrap(), None, "{name:?}");
            assert_eq!(Interface::counters(name).unwrap(), None, "{name:?}");
        }
    }

    #[test]
    fn counters_are_taken_from_the_right_row_and_columns() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets\n\
                     eth10: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                     \x20 eth1:101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116\n";
        let counters = parse_counters(table, "eth1").unwrap();
        let expected = InterfaceCounters {
            rx_packets: 102,
            rx_dropped: 104,
            tx_packets: 110,
            tx_dropped: 112,
        };
        assert_eq!(counters, expected);
        assert_eq!(parse_counters(table, "eth"), None);
    }
}
