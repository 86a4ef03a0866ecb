//! The server that a shared-memory link (net_memif) in role client calls.

use std::fmt;

use crate::device::PortDevice;

/// How DPDK's driver names its devices.
const DRIVER: &str = "net_memif";

/// Where the driver looks for a server if it is told nothing (`ETH_MEMIF_DEFAULT_SOCKET_FILENAME`).
const SOCKET: &str = "/run/memif.sock";

/// A server's socket (AF_UNIX, SOCK_SEQPACKET).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemifServer {
    /// A path, or the name of an abstract socket without the zero before it.
    pub socket: String,
    /// Whether the name is not one of a file.
    pub is_abstract: bool,
}

impl fmt::Display for MemifServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_abstract { "@" } else { "" };
        write!(formatter, "{sign}{}", self.socket)
    }
}

impl PortDevice {
    /// The server that this device calls, if it is a memif in role client: the driver calls once, when the port is started.
    #[must_use]
    pub fn memif_server(&self) -> Option<MemifServer> {
        let Self::Vdev(devargs) = self else {
            return None;
        };
        let mut arguments = devargs.split(',');
        if !arguments.next()?.starts_with(DRIVER) {
            return None;
        }
        let mut server = MemifServer {
            socket: SOCKET.to_owned(),
            is_abstract: true,
        };
        let mut is_client = true;
        // As the driver reads them: the last one counts, and a word is looked for in the value.
        for (key, value) in arguments.filter_map(|argument| argument.split_once('=')) {
            match key {
                "role" => is_client = !value.contains("server") && !value.contains("master"),
                "socket" => value.clone_into(&mut server.socket),
                "socket-abstract" => server.is_abstract = value.contains("yes"),
                _ => (),
            }
        }
        is_client.then_some(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(devargs: &str) -> Option<String> {
        let server = PortDevice::Vdev(devargs.to_owned()).memif_server();
        server.map(|server| server.to_string())
    }

    #[test]
    fn a_client_has_the_server_that_the_driver_would_call() {
        assert_eq!(server("net_memif0").as_deref(), Some("@/run/memif.sock"));
        assert_eq!(
            server("net_memif3,socket=/run/a,role=client,id=1").as_deref(),
            Some("@/run/a")
        );
        assert_eq!(
            server("net_memif3,role=slave,socket=/run/a,socket-abstract=no").as_deref(),
            Some("/run/a")
        );
    }

    #[test]
    fn a_server_and_other_devices_have_none() {
        assert_eq!(server("net_memif0,role=server,socket=/run/a"), None);
        assert_eq!(server("net_memif0,role=master"), None);
        assert_eq!(server("net_vhost0,iface=/run/a"), None);
        assert_eq!(server("net_bonding0,slave=net_memif0"), None);
        assert_eq!(PortDevice::AfPacket("eth1".to_owned()).memif_server(), None);
    }
}
