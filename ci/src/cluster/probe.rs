//! Asks through a Service proxy, and says what came of it.
//!
//! Every endpoint address is served by one namespace, whose servers answer with the address they
//! were reached at and the address they saw the client at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::sctp;
use crate::dial;
use crate::netns::Namespace;

/// Ports that endpoints have.
pub const PORTS: [u16; 3] = [8080, 8081, 9090];
/// Last part of the address of the pod that is a client, and may be its own endpoint.
pub const CLIENT_POD: u8 = 100;
/// Requests under way at a time, a namespace.
const THREADS: usize = 48;

/// After so many a probe that is answered now and then is tried no more.
const MOST_SILENCES: usize = 5;

/// Transport of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
    /// The first packet of an association, and the answer to it.
    Sctp,
}

/// One thing to try: the same question from each of some addresses.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What the address is, for a person.
    pub what: &'static str,
    /// Whether a pod asks, or a client outside.
    pub from_pod: bool,
    /// Addresses to ask from.
    pub from: Vec<IpAddr>,
    /// Whom to ask.
    pub to: SocketAddr,
    /// How.
    pub transport: Transport,
    /// Whether each address must get the same endpoint every time.
    pub sticky: bool,
}

/// What happened, over all tries: which endpoints answered, and how they saw the client; or that
/// the client was refused, or heard nothing.
pub type Outcome = BTreeSet<String>;

/// All addresses that endpoints may have, with the index of their node.
pub fn places(family: usize) -> Vec<(IpAddr, usize)> {
    let of_node = |node: usize| {
        let network = [2, 3, 4][node];
        (2..=5).map(move |last| (address(family, network, last), node))
    };
    let mut places: Vec<_> = (0..3).flat_map(of_node).collect();
    places.push((address(family, 2, CLIENT_POD), 0));
    places
}

/// An address of a pod network.
pub fn address(family: usize, network: u8, last: u8) -> IpAddr {
    match family {
        0 => Ipv4Addr::new(100, 96, network, last).into(),
        _ => Ipv6Addr::new(
            0xfd00,
            0x100,
            0x96,
            network.into(),
            0,
            0,
            0,
            u16::from(last),
        )
        .into(),
    }
}

/// Servers on all [`PORTS`] of the given addresses; they stop on drop.
#[derive(Debug)]
pub struct Servers {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Sctp(sctp::Server),
}

impl Servers {
    /// Starts them in a namespace that has the addresses.
    ///
    /// # Panics
    /// If a port cannot be had.
    pub fn start(namespace: &Namespace, addresses: &[IpAddr]) -> Self {
        let sockets = namespace.enter(|| open(addresses));
        let sockets = sockets.unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(&sockets, &seen));
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Relaxed: the flag carries no data; joining orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the servers has been printed; the test fails by its own assertion.
            let _ = thread.join();
        }
    }
}

fn open(addresses: &[IpAddr]) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for address in addresses {
        // A raw socket hears all ports.
        sockets.push(Socket::Sctp(sctp::Server::open(*address)?));
    }
    for port in PORTS {
        for address in addresses {
            let tcp = TcpListener::bind((*address, port))?;
            tcp.set_nonblocking(true)?;
            sockets.push(Socket::Tcp(tcp));
            // One for each address, so that it is the answer's source.
            let udp = UdpSocket::bind((*address, port))?;
            udp.set_nonblocking(true)?;
            sockets.push(Socket::Udp(udp));
        }
    }
    Ok(sockets)
}

fn serve(sockets: &[Socket], stop: &AtomicBool) {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .unwrap_or_else(|error| panic!("no epoll: {error}"));
    for (socket, number) in sockets.iter().zip(0..) {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        let descriptor = match socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
            Socket::Sctp(server) => server.descriptor().as_fd(),
        };
        epoll
            .add(descriptor, event)
            .unwrap_or_else(|error| panic!("cannot watch a socket: {error}"));
    }
    let mut events = vec![EpollEvent::empty(); 64];
    // Relaxed: the flag carries no data.
    while !stop.load(Ordering::Relaxed) {
        let count = epoll
            .wait(&mut events, EpollTimeout::from(50_u16))
            .unwrap_or(0);
        for event in &events[..count] {
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            // A client that is gone is none of the servers' business.
            let _ = sockets.get(index).map(answer);
        }
    }
}

fn answer(socket: &Socket) -> io::Result<()> {
    match socket {
        Socket::Tcp(listener) => {
            while let Ok((mut stream, peer)) = listener.accept() {
                let words = format!("{} {}", stream.local_addr()?, peer.ip());
                stream.write_all(words.as_bytes())?;
            }
        }
        Socket::Udp(socket) => {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let words = format!("{} {}", socket.local_addr()?, peer.ip());
                socket.send_to(words.as_bytes(), peer)?;
            }
        }
        Socket::Sctp(server) => server.answer(&PORTS)?,
    }
    Ok(())
}

/// Tries every probe so many times, from its addresses in turn. `patience` is how long an answer
/// may take before nothing counts as heard.
pub fn run(
    outside: &Namespace,
    pod: &Namespace,
    probes: &[&Probe],
    tries: usize,
    patience: Duration,
) -> Vec<Outcome> {
    let outcomes: Vec<_> = probes.iter().map(|_| Mutex::new(Outcome::new())).collect();
    thread::scope(|scope| {
        for (namespace, from_pod) in [(outside, false), (pod, true)] {
            let (outcomes, next) = (&outcomes, AtomicUsize::new(0));
            scope.spawn(move || {
                let work = || {
                    // Relaxed: each number is somebody's, in whatever order.
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(probe) = probes.get(index) else {
                            break;
                        };
                        if probe.from_pod == from_pod {
                            let heard = attempt(probe, tries, patience);
                            *outcomes[index]
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner) = heard;
                        }
                    }
                };
                namespace.enter(|| {
                    thread::scope(|scope| {
                        (0..THREADS).for_each(|_| drop(scope.spawn(work)));
                    });
                });
            });
        }
    });
    outcomes
        .into_iter()
        .map(|outcome| outcome.into_inner().unwrap_or_default())
        .collect()
}

/// Tries one probe; what does not lead to an endpoint is not worth trying often.
fn attempt(probe: &Probe, tries: usize, patience: Duration) -> Outcome {
    // Twice from each address: from some the first time, from all if there is doubt.
    let from = if probe.sticky && tries < probe.from.len() {
        &probe.from[..probe.from.len() / 2]
    } else {
        &probe.from[..]
    };
    let tries = if probe.sticky { 2 * from.len() } else { tries };
    let mut silences = 0;
    let mut heard = Outcome::new();
    let mut endpoints: BTreeMap<IpAddr, String> = BTreeMap::new();
    for number in 0..tries {
        let from = from[number % from.len()];
        let one = ask(from, probe, patience);
        let before = endpoints.entry(from).or_insert_with(|| one.clone());
        if probe.sticky && *before != one {
            heard.insert(format!("first {before}, then {one}"));
        }
        silences += usize::from(one == "silent");
        let over = one == "silent" || (one == "refused" && number > 0);
        heard.insert(one);
        if (over && heard.len() == 1) || silences == MOST_SILENCES {
            break;
        }
    }
    heard
}

/// One try, in the namespace of the calling thread.
fn ask(from: IpAddr, probe: &Probe, patience: Duration) -> String {
    let said = match probe.transport {
        Transport::Tcp => ask_tcp(from, probe.to, patience),
        Transport::Udp => ask_udp(from, probe.to, patience),
        Transport::Sctp => sctp::ask(from, probe.to, patience),
    };
    let no_protocol = [Errno::ENOPROTOOPT, Errno::EPROTO].map(|code| Some(code as i32));
    match said {
        Ok(words) => match words.split_once(' ') {
            Some((endpoint, seen)) if seen == from.to_string() => format!("{endpoint} kept"),
            Some((endpoint, _)) => format!("{endpoint} masqueraded"),
            None => format!("answered {words:?}"),
        },
        Err(error) => match error.kind() {
            // An SCTP client may be told that there is no such protocol (IPv4), or no such next
            // header (IPv6).
            _ if no_protocol.contains(&error.raw_os_error()) => "refused".to_owned(),
            ErrorKind::ConnectionRefused => "refused".to_owned(),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "silent".to_owned(),
            kind => format!("{kind:?}"),
        },
    }
}

fn ask_tcp(from: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = dial::tcp_here(Some(SocketAddr::new(from, 0)), to, patience)?;
    let mut words = String::new();
    stream.read_to_string(&mut words)?;
    Ok(words)
}

fn ask_udp(from: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(to)?;
    let answer = dial::ask(&socket, b"?")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
