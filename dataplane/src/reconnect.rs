//! Shared-memory links (memif in role client) whose server went away.
//!
//! The driver calls its server once, when the port is started. So a link that is down gets its port started anew, which takes the
//! queues out of the workers' hands for a moment. That is not done in vain: the server's socket is called first, by a connection of
//! its own, until the server says hello. Then it is there, and the driver's call cannot hang either.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use dpdk::{MemifServer, Port, Restart, Resting};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, socket,
};

use crate::recall::{Lent, Recall};

/// Between two looks at a link that is up, and at one that is being brought back.
const LOOK: Duration = Duration::from_millis(250);
const STEP: Duration = Duration::from_millis(10);

/// From one try to the next: the first pause, which doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long both ends may take to agree after the port was started.
const AGREED: Duration = Duration::from_secs(1);

/// Bytes of every message between a client and a server (memif's protocol, version 2).
const MESSAGE: usize = 128;

/// Brings one link back as often as its server goes.
pub(crate) struct Reconnect {
    server: MemifServer,
    step: Step,
    due: Instant,
    pause: Duration,
    /// Since when the link has been down, if that was told.
    lost: Option<Instant>,
    /// Its queues and whose they are, while the port is not in use.
    aside: Option<(Resting, Vec<usize>)>,
    /// What was told of calls that failed.
    told: Option<Errno>,
}

enum Step {
    Up,
    /// Until it is time for the next try.
    Pausing(Instant),
    Calling(Call),
    Borrowing,
    Restarting,
    /// Until the link is up, or has had time enough.
    Agreeing(Instant),
}

/// The link as others know it.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) number: usize,
    pub(crate) name: &'a str,
    pub(crate) port: &'a Port,
}

impl Reconnect {
    /// `None` if it is another kind of link. Its port has just been started.
    pub(crate) fn new(port: &Port) -> Option<Self> {
        let server = port.info().device.memif_server()?;
        let now = Instant::now();
        Some(Self {
            server,
            step: Step::Agreeing(now + AGREED),
            due: now,
            pause: FIRST_PAUSE,
            lost: None,
            aside: None,
            told: None,
        })
    }

    /// Does what there is to do now. Never waits.
    pub(crate) fn poll(&mut self, link: Subject<'_>, recall: &Recall, now: Instant) {
        if now < self.due {
            return;
        }
        let is_up = self.aside.is_none() && link.port.link().up;
        let step = std::mem::replace(&mut self.step, Step::Borrowing);
        self.step = match step {
            Step::Up | Step::Agreeing(_) | Step::Pausing(_) | Step::Calling(_) if is_up => {
                self.note_up(link.name, now)
            }
            Step::Up => self.note_down(link.name, now),
            Step::Agreeing(end) if now >= end => self.note_down(link.name, now),
            Step::Pausing(end) if now >= end => self.call(link.name, now),
            Step::Calling(call) => match call.answer() {
                Answer::Hello => Step::Borrowing,
                Answer::None => Step::Calling(call),
                Answer::Gone => self.wait(now),
            },
            Step::Borrowing => self.borrow_and_restart(link, recall, now),
            Step::Restarting => self.finish(link.number, recall, now),
            waiting @ (Step::Pausing(_) | Step::Agreeing(_)) => waiting,
        };
        self.due = now
            + match self.step {
                Step::Up => LOOK,
                _ => STEP,
            };
    }

    fn note_up(&mut self, name: &str, now: Instant) -> Step {
        let server = &self.server;
        if let Some(lost) = self.lost.take() {
            let seconds = (now - lost).as_secs_f64();
            tracing::warn!(
                link = name,
                "link {name} is up: its server {server} is back after {seconds:.1} s"
            );
        }
        (self.pause, self.told) = (FIRST_PAUSE, None);
        Step::Up
    }

    fn note_down(&mut self, name: &str, now: Instant) -> Step {
        let server = &self.server;
        if self.lost.is_none() {
            self.lost = Some(now);
            tracing::warn!(
                link = name,
                "link {name} is down: its server {server} has gone, and is called until it is back"
            );
        }
        self.wait(now)
    }

    /// To the next try.
    fn wait(&mut self, now: Instant) -> Step {
        let until = now + self.pause;
        self.pause = longer(self.pause);
        Step::Pausing(until)
    }

    fn call(&mut self, name: &str, now: Instant) -> Step {
        match Call::new(&self.server) {
            Ok(call) => Step::Calling(call),
            Err(errno) => {
                let is_absence =
                    matches!(errno, Errno::ENOENT | Errno::ECONNREFUSED | Errno::EAGAIN);
                if !is_absence && self.told != Some(errno) {
                    let server = &self.server;
                    tracing::warn!(
                        link = name,
                        "link {name}: {server} cannot be called: {}",
                        errno.desc()
                    );
                    self.told = Some(errno);
                }
                self.wait(now)
            }
        }
    }

    /// With all queues of the port, nobody else uses it.
    fn borrow_and_restart(&mut self, link: Subject<'_>, recall: &Recall, now: Instant) -> Step {
        if self.aside.is_none() {
            let Some(lent) = recall.borrow(link.number, link.port.queues()) else {
                return Step::Borrowing;
            };
            let pairs = lent.into_iter().map(|lent| (lent.queue, lent.worker));
            let (queues, workers): (Vec<_>, Vec<_>) = pairs.unzip();
            match link.port.rest(queues) {
                Ok(resting) => self.aside = Some((resting, workers)),
                Err(queues) => {
                    recall.give_back(link.number, join(queues, workers));
                    return self.wait(now);
                }
            }
        }
        let asked = self.aside.as_ref().map(|(resting, _)| resting.start_anew());
        match asked {
            Some(Ok(())) => Step::Restarting,
            Some(Err(_)) | None => self.wait(now),
        }
    }

    fn finish(&mut self, link: usize, recall: &Recall, now: Instant) -> Step {
        let Some((resting, workers)) = self.aside.take() else {
            return self.wait(now);
        };
        match resting.end() {
            Ok(queues) => {
                recall.give_back(link, join(queues, workers));
                Step::Agreeing(now + AGREED)
            }
            Err(resting) => {
                let restart = resting.restart();
                self.aside = Some((resting, workers));
                match restart {
                    // The server went again: the port stays stopped, and out of the workers' hands, until the next try.
                    Restart::Failed(_) => self.wait(now),
                    Restart::Done | Restart::UnderWay => Step::Restarting,
                }
            }
        }
    }
}

fn join(queues: Vec<dpdk::Queue>, workers: Vec<usize>) -> Vec<Lent> {
    let pairs = queues.into_iter().zip(workers);
    pairs
        .map(|(queue, worker)| Lent { worker, queue })
        .collect()
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

/// A connection to a server that may or may not be alive.
struct Call {
    socket: OwnedFd,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    None,
    Hello,
    Gone,
}

impl Call {
    fn new(server: &MemifServer) -> Result<Self, Errno> {
        let address = if server.is_abstract {
            UnixAddr::new_abstract(server.socket.as_bytes())?
        } else {
            UnixAddr::new(server.socket.as_str())?
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(socket.as_raw_fd(), &address)?;
        Ok(Self { socket })
    }

    /// A server speaks first. It must have done so before this is closed: a DPDK program that writes to a closed socket
    /// is ended by SIGPIPE.
    fn answer(&self) -> Answer {
        let mut message = [0; MESSAGE];
        match recv(
            self.socket.as_raw_fd(),
            &mut message,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(0) => Answer::Gone,
            Ok(_) => Answer::Hello,
            Err(Errno::EAGAIN | Errno::EINTR) => Answer::None,
            Err(_) => Answer::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, accept, bind, listen, send};

    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut pauses = vec![FIRST_PAUSE];
        for _ in 0..6 {
            pauses.push(longer(pauses[pauses.len() - 1]));
        }
        let in_ms: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(in_ms, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn a_server_counts_as_there_when_it_has_said_hello() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memif");
        let server = MemifServer {
            socket: path.to_str().unwrap().to_owned(),
            is_abstract: false,
        };
        let none = Call::new(&server).err();
        assert_eq!(none, Some(Errno::ENOENT));
        let listener = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let call = Call::new(&server).unwrap();
        assert_eq!(call.answer(), Answer::None, "it hangs, so far");
        let peer = accept(listener.as_raw_fd()).unwrap();
        send(peer, &[1; MESSAGE], MsgFlags::empty()).unwrap();
        assert_eq!(call.answer(), Answer::Hello);
        nix::unistd::close(peer).unwrap();
        assert_eq!(call.answer(), Answer::Gone);
        // A hung server's queue of callers is bounded, and a full one does not hold us up.
        let calls: Vec<_> = std::iter::repeat_with(|| Call::new(&server))
            .take(8)
            .collect();
        assert!(calls.iter().any(|call| matches!(call, Err(Errno::EAGAIN))));
    }
}
