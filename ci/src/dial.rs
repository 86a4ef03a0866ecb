//! Client sockets with a chosen source: what std's `connect` cannot ask for.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::netns::Namespace;

/// Opens a TCP connection from `namespace`, with a timeout for the connection and for each later
/// read and write. `from` chooses the source address and, unless zero, the source port.
pub fn tcp(
    namespace: &Namespace,
    from: Option<SocketAddr>,
    to: SocketAddr,
    timeout: Duration,
) -> io::Result<TcpStream> {
    namespace.enter(|| tcp_here(from, to, timeout))
}

/// [`tcp`] in the namespace of the calling thread.
pub fn tcp_here(
    from: Option<SocketAddr>,
    to: SocketAddr,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let family = if to.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let descriptor = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The kernel gives up a blocking connect after the send timeout.
    let limit = TimeVal::new(
        timeout.as_secs().cast_signed(),
        timeout.subsec_micros().into(),
    );
    setsockopt(&descriptor, sockopt::SendTimeout, &limit)?;
    setsockopt(&descriptor, sockopt::ReceiveTimeout, &limit)?;
    if let Some(from) = from {
        setsockopt(&descriptor, sockopt::ReuseAddr, &true)?;
        bind(descriptor.as_raw_fd(), &SockaddrStorage::from(from))?;
    }
    match connect(descriptor.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => Ok(TcpStream::from(descriptor)),
        Err(Errno::EINPROGRESS | Errno::EAGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

/// A UDP socket in `namespace`, connected to `to`, that waits `timeout` for an answer.
pub fn udp(
    namespace: &Namespace,
    from: SocketAddr,
    to: SocketAddr,
    timeout: Duration,
) -> io::Result<UdpSocket> {
    namespace.enter(|| {
        let socket = UdpSocket::bind(from)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.connect(to)?;
        Ok(socket)
    })
}

/// Sends one datagram and returns the answer to it.
pub fn ask(socket: &UdpSocket, question: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(question)?;
    let mut answer = vec![0; 65536];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}
