//! Echo servers inside a namespace: TCP for thousands of connections at once, and UDP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{Backlog, listen};

use crate::limits;
use crate::netns::Namespace;
use crate::process::Process;

/// How often a server looks whether it should stop.
const GLANCE: u16 = 50;

/// Connections that may wait to be accepted; the kernel's default bound on it (`somaxconn`).
const BACKLOG: i32 = 4096;

/// First words of a server process when it listens.
const READY: &str = "peer ready";

/// Marks the listener among the events; no descriptor has this number.
const LISTENER: u64 = u64::MAX;

/// A server thread; stops on drop.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Echoes every TCP connection to `port` of `namespace`, on all addresses of both families, on a
/// thread of this process.
///
/// # Panics
/// If the port cannot be had.
pub fn tcp(namespace: &Namespace, port: u16) -> Server {
    let echo = namespace.enter(|| TcpEcho::listen(port));
    let echo = echo.unwrap_or_else(|error| panic!("cannot listen on TCP {port}: {error}"));
    Server::spawn(move |stop| echo.run(stop))
}

/// [`tcp`] in a process of its own, for more connections than fit into this one.
///
/// # Panics
/// If the server does not start.
pub fn tcp_process(namespace: &Namespace, port: u16, logs: &Path) -> Process {
    let mut command = namespace.command(peer());
    command.args(["tcp-echo", &port.to_string()]);
    let mut process = Process::start(&format!("tcp-echo-{port}"), command, logs);
    process.wait_for_line(READY, Duration::from_secs(10));
    process
}

/// What `peer tcp-echo` does: echoes on `port` until the process is killed.
///
/// # Errors
/// If the port cannot be had.
pub fn run_tcp(port: u16) -> io::Result<Infallible> {
    limits::allow_all_descriptors();
    let echo = TcpEcho::listen(port)?;
    println!("{READY} port={port}");
    echo.run(&AtomicBool::new(false));
    Err(io::ErrorKind::Interrupted.into())
}

/// Answers every datagram to UDP `port` of `namespace` with `name`, the sender's address as it is
/// seen here, and the datagram, with spaces between.
///
/// # Panics
/// If the port cannot be had.
pub fn udp(namespace: &Namespace, port: u16, name: &str) -> Server {
    let socket = namespace.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)));
    let socket = socket.unwrap_or_else(|error| panic!("cannot listen on UDP {port}: {error}"));
    socket
        .set_read_timeout(Some(Duration::from_millis(GLANCE.into())))
        .unwrap_or_else(|error| panic!("cannot set a timeout: {error}"));
    let name = name.to_owned();
    Server::spawn(move |stop| {
        let mut buffer = vec![0; 65536];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let greeting = format!("{name} {} ", from.ip().to_canonical());
            let answer = [greeting.as_bytes(), &buffer[..length]].concat();
            // A client that is gone is none of the server's business.
            let _ = socket.send_to(&answer, from);
        }
    })
}

impl Server {
    pub(crate) fn spawn(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        Self {
            stop,
            thread: Some(thread::spawn(move || work(&seen))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Relaxed: the flag carries no data; joining orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed; the test fails by its own assertion.
            let _ = thread.join();
        }
    }
}

/// The helper binary; cargo puts it two folders above the tests (`target/debug/deps/`).
fn peer() -> PathBuf {
    let test = std::env::current_exe()
        .unwrap_or_else(|error| panic!("cannot find the running test: {error}"));
    let folder = test.ancestors().nth(2).unwrap_or(Path::new("."));
    let path = folder.join("peer");
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p ci`",
        path.display()
    );
    path
}

/// One thread for all connections, driven by epoll.
struct TcpEcho {
    epoll: Epoll,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes read and not yet accepted by the socket.
    pending: Vec<u8>,
}

impl TcpEcho {
    fn listen(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
        // A connection is open for the client before it is accepted here: thousands may wait.
        listen(&listener, Backlog::new(BACKLOG)?)?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            epoll,
            listener,
            connections: HashMap::new(),
        })
    }

    fn run(mut self, stop: &AtomicBool) {
        let mut events = vec![EpollEvent::empty(); 1024];
        while !stop.load(Ordering::Relaxed) {
            let count = self
                .epoll
                .wait(&mut events, EpollTimeout::from(GLANCE))
                .unwrap_or(0);
            for event in &events[..count] {
                if event.data() == LISTENER {
                    self.accept();
                } else {
                    self.serve(event.data());
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let id = u64::from(stream.as_raw_fd().cast_unsigned());
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            let ready = stream.set_nonblocking(true).is_ok()
                && self
                    .epoll
                    .add(&stream, EpollEvent::new(interest, id))
                    .is_ok();
            if ready {
                self.connections.insert(
                    id,
                    Connection {
                        stream,
                        pending: Vec::new(),
                    },
                );
            }
        }
    }

    /// Reads and writes until the socket would block; a connection at its end is closed.
    fn serve(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.turn() {
            // Dropping the stream closes it, and epoll forgets closed descriptors.
            self.connections.remove(&id);
        }
    }
}

impl Connection {
    /// False when the connection is over.
    fn turn(&mut self) -> bool {
        let mut buffer = [0; 16384];
        loop {
            while !self.pending.is_empty() {
                match self.stream.write(&self.pending) {
                    Ok(written) => drop(self.pending.drain(..written)),
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}
