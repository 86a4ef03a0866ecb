//! Many HTTP connections that stay open, each asking for what nobody else asks for, so that a byte from
//! elsewhere is seen.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::netns::Namespace;
use crate::{dial, limits};

/// Threads that share the connections.
const THREADS: usize = 8;

/// How long one connection may wait for anything: longer than the longest that TCP waits between two tries
/// (120 s), because a test may make pauses that several tries in a row fall into.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Connections that are all open.
#[derive(Debug)]
pub struct Browsers {
    members: Vec<Browser>,
}

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub struct Browser {
    stream: TcpStream,
    number: usize,
}

/// What a round came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Requests answered.
    pub requests: u64,
    /// Bytes of their bodies, all of them right.
    pub bytes: u64,
}

impl Browsers {
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
                let from = sources[number % sources.len()];
                match Browser::open_here(from, to, number) {
                    Ok(browser) => lock(&opened).push(browser),
                    Err(error) => lock(&errors).push(error),
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
        let members = opened.into_inner().unwrap_or_default();
        Ok(Self { members })
    }

    /// Connections held.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// One request on every connection, all under way at the same time; every answer is compared.
    ///
    /// # Errors
    /// How many connections failed, with the first reason.
    pub fn round(&mut self, round: usize) -> Result<Round, String> {
        let count = self.members.len();
        let errors = Mutex::new(Vec::new());
        let sum = Mutex::new(Round::default());
        let share = count.div_ceil(THREADS).max(1);
        thread::scope(|scope| {
            for members in self.members.chunks_mut(share) {
                scope.spawn(|| {
                    let mut done = Round::default();
                    let asked: Vec<_> =
                        members.iter_mut().map(|member| member.ask(round)).collect();
                    for (member, asked) in members.iter_mut().zip(asked) {
                        match asked.and_then(|()| member.hear(round)) {
                            Ok(bytes) => {
                                done.requests += 1;
                                done.bytes += bytes;
                            }
                            Err(reason) => lock(&errors).push(reason),
                        }
                    }
                    let mut sum = lock(&sum);
                    sum.requests += done.requests;
                    sum.bytes += done.bytes;
                });
            }
        });
        verdict(errors, count)?;
        Ok(sum.into_inner().unwrap_or_default())
    }
}

impl Browser {
    /// Opens one connection in the namespace of the calling thread.
    ///
    /// # Errors
    /// Why not, with the connection's number.
    pub fn open_here(from: IpAddr, to: SocketAddr, number: usize) -> Result<Self, String> {
        let stream = dial::tcp_here(Some(SocketAddr::new(from, 0)), to, PATIENCE)
            .map_err(|error| format!("connection {number}: connect: {error}"))?;
        Ok(Self { stream, number })
    }

    /// One request and its answer; returns the bytes of the body.
    ///
    /// # Errors
    /// What went wrong, with the connection's number.
    pub fn fetch(&mut self, round: usize) -> Result<u64, String> {
        self.ask(round)?;
        self.hear(round)
    }

    /// Path of a request; its length differs from request to request, up to some segments' worth.
    fn path(&self, round: usize) -> String {
        let filler = "x".repeat((self.number * 37 + round * 101) % 900);
        format!("/say/connection-{}/round-{round}/{filler}", self.number)
    }

    fn ask(&mut self, round: usize) -> Result<(), String> {
        let request = format!("GET {} HTTP/1.1\r\nHost: pod\r\n\r\n", self.path(round));
        let sent = self.stream.write_all(request.as_bytes());
        sent.map_err(|error| self.complaint(round, &format!("send: {error}")))
    }

    fn hear(&mut self, round: usize) -> Result<u64, String> {
        let (mut received, mut buffer) = (Vec::new(), [0; 16_384]);
        let (start, length) = loop {
            if let Some(found) = head(&received) {
                break found;
            }
            self.more(round, &mut received, &mut buffer)?;
        };
        while received.len() < start + length {
            self.more(round, &mut received, &mut buffer)?;
        }
        let expected = crate::nginx::said(&self.path(round));
        if received[start..] != *expected.as_bytes() {
            let got = String::from_utf8_lossy(&received[start..]);
            return Err(self.complaint(round, &format!("wrong bytes: {got:?}")));
        }
        Ok(length as u64)
    }

    fn more(&mut self, round: usize, into: &mut Vec<u8>, buffer: &mut [u8]) -> Result<(), String> {
        match self.stream.read(buffer) {
            Ok(0) => Err(self.complaint(round, "closed by the server")),
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(self.complaint(round, &format!("receive: {error}"))),
        }
    }

    fn complaint(&self, round: usize, what: &str) -> String {
        let from = self.stream.local_addr();
        let from = from.map_or_else(|error| error.to_string(), |from| from.to_string());
        format!(
            "connection {} from {from} in round {round}: {what}",
            self.number
        )
    }
}

/// Where the body begins and how long it is, once the head of an answer has come whole.
fn head(received: &[u8]) -> Option<(usize, usize)> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    // An answer without a length is an error page of some other server: no byte of it will match.
    Some((end + 4, length.unwrap_or(0)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: y\r\n\r\nabc";
        assert_eq!(head(answer), Some((answer.len() - 3, 12)));
        assert_eq!(head(&answer[..30]), None);
    }
}
