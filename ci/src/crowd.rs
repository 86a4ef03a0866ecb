//! Many TCP connections held open at the same time, each with data of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::dial;
use crate::limits;
use crate::netns::Namespace;

/// Threads that connect and exchange: enough to keep the wire busy while each waits for answers.
const THREADS: usize = 8;

/// How long one connection may wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that are all open now.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    stream: TcpStream,
    number: usize,
}

impl Crowd {
    /// Opens `count` connections to `to`, from each of `sources` in turn.
    ///
    /// # Errors
    /// How many connections failed, with the first reason.
    pub fn open(
        namespace: &Namespace,
        sources: &[IpAddr],
        to: SocketAddr,
        count: usize,
    ) -> Result<Self, String> {
        limits::allow_all_descriptors();
        let opened = Mutex::new(Vec::with_capacity(count));
        let errors = Mutex::new(Vec::new());
        let connect = |first: usize| {
            for number in (first..count).step_by(THREADS) {
                let from = SocketAddr::new(sources[number % sources.len()], 0);
                match dial::tcp_here(Some(from), to, PATIENCE) {
                    Ok(stream) => lock(&opened).push(Member { stream, number }),
                    Err(error) => lock(&errors).push(format!("connection {number}: {error}")),
                }
            }
        };
        let connect = &connect;
        // Threads inherit the namespace of the one that starts them.
        namespace.enter(|| {
            thread::scope(|scope| {
                (0..THREADS).for_each(|first| drop(scope.spawn(move || connect(first))));
            });
        });
        verdict(errors, count)?;
        Ok(Self {
            members: opened.into_inner().unwrap_or_default(),
        })
    }

    /// Connections held.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sends a line on every connection and expects it back; nobody else's line will do.
    ///
    /// # Errors
    /// How many connections failed, with the first reason.
    pub fn exchange(&mut self, round: usize) -> Result<(), String> {
        let count = self.members.len();
        let errors = Mutex::new(Vec::new());
        let share = count.div_ceil(THREADS).max(1);
        thread::scope(|scope| {
            for members in self.members.chunks_mut(share) {
                scope.spawn(|| {
                    for member in members {
                        if let Err(reason) = member.exchange(round) {
                            lock(&errors).push(format!("connection {}: {reason}", member.number));
                        }
                    }
                });
            }
        });
        verdict(errors, count)
    }
}

impl Member {
    fn exchange(&mut self, round: usize) -> Result<(), String> {
        let sent = format!("connection {} round {round}\n", self.number).into_bytes();
        let mut received = vec![0; sent.len()];
        self.stream
            .write_all(&sent)
            .map_err(|error| format!("send: {error}"))?;
        self.stream
            .read_exact(&mut received)
            .map_err(|error| format!("receive: {error}"))?;
        if received != sent {
            return Err(format!("got {:?}", String::from_utf8_lossy(&received)));
        }
        Ok(())
    }
}

fn verdict(errors: Mutex<Vec<String>>, count: usize) -> Result<(), String> {
    let errors = errors.into_inner().unwrap_or_default();
    match errors.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} of {count} connections failed; {first}",
            errors.len()
        )),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
