//! One data plane takes over from another: a hot upgrade.
//!
//! The one that serves listens on a Unix socket beside the region. The new one prepares everything that
//! can be prepared beside it (EAL, packet memory, links that two processes may have open at a time), then:
//!
//! | new | old, whose links two processes may have open | old with other links |
//! |-----|-----|-----|
//! | `take` | stops its workers, lets the region go | the same |
//! | | `released <nanos>`: when it polled last | `leaving <nanos>`, and ends |
//! | opens what is not open, takes the region over, starts its workers | waits | |
//! | `serving <nanos>`: when it polled first | ends | |
//!
//! Times are CLOCK_MONOTONIC, the same for both, so their difference is the gap. If the new one
//! ends, or is silent for [`PATIENCE`], before it serves, an old one that waits takes the
//! region back and goes on. One that leaves does not: what it has open, nobody else could have, and DPDK's drivers let
//! some of that go only with the process.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::beside;

/// How long either side waits for the other's next word.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// For the first word of somebody who has connected: meanwhile it may start EAL, with gigabytes of memory.
const FIRST_WORD: Duration = Duration::from_secs(60);

/// For a word that may not have come: no wait at all.
const NOW: Duration = Duration::from_micros(1);

/// Between two looks whether somebody wants to take over.
const PERIOD: Duration = Duration::from_millis(20);

/// Path of the socket beside a region.
fn socket_path(region: &Path) -> PathBuf {
    let mut name = region.as_os_str().to_owned();
    name.push(".takeover");
    PathBuf::from(name)
}

/// Where the data plane that serves can be asked.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    looked: Instant,
    /// Who has connected, and when, and has not said anything yet.
    silent: Option<(Line, Instant)>,
}

impl Listener {
    /// Listens beside the region, which this process holds the lock of; a socket that an earlier data plane
    /// left there is removed. Only this process's user can connect.
    pub(crate) fn new(region: &Path) -> io::Result<Self> {
        Ok(Self {
            socket: beside::listen(&socket_path(region))?,
            looked: Instant::now(),
            silent: None,
        })
    }

    /// Whoever wants to take over, if it is time to look and somebody does.
    pub(crate) fn poll(&mut self) -> Option<Successor> {
        if self.looked.elapsed() < PERIOD {
            return None;
        }
        self.looked = Instant::now();
        let (mut line, since) = match self.silent.take() {
            Some(silent) => silent,
            None => {
                let (stream, _) = self.socket.accept().ok()?;
                (Line::new(stream).ok()?, self.looked)
            }
        };
        match line.hear(NOW) {
            Ok(said) if said == "take" => return Some(Successor(line)),
            Err(error) if is_time_out(&error) && since.elapsed() < FIRST_WORD => {
                self.silent = Some((line, since));
            }
            said => tracing::info!(?said, "somebody connected to take over and did not"),
        }
        None
    }
}

/// The new data plane, as the old one sees it.
#[derive(Debug)]
pub(crate) struct Successor(Line);

impl Successor {
    /// Tells it that links and region are free, since this process polled last at `polled`, and waits
    /// until it serves. Returns the gap.
    pub(crate) fn let_go(mut self, polled: u64) -> io::Result<Duration> {
        self.0.say(&format!("released {polled}"))?;
        let said = self.0.hear(PATIENCE)?;
        let first = number(&said, "serving ")?;
        Ok(Duration::from_nanos(first.saturating_sub(polled)))
    }

    /// Tells it that this process ends now, after it polled last at `polled`. Whether it hears that makes no
    /// difference: it sees the end.
    pub(crate) fn leave(mut self, polled: u64) {
        if let Err(error) = self.0.say(&format!("leaving {polled}")) {
            tracing::warn!(%error, "the data plane that takes over was not told");
        }
    }
}

/// The data plane that serves, as the new one sees it.
#[derive(Debug)]
pub(crate) struct Predecessor(Line);

/// How a predecessor made room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// When it polled last, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) polled: u64,
    /// Whether it waits, to go on should this process fail. Else it has ended.
    pub(crate) waits: bool,
}

impl Predecessor {
    /// The data plane that serves the region; `None` if there is none.
    pub(crate) fn find(region: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(socket_path(region)) {
            Ok(stream) => Ok(Some(Self(Line::new(stream)?))),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Asks it to let go, calling `meanwhile` again and again until it has.
    pub(crate) fn ask(&mut self, mut meanwhile: impl FnMut()) -> io::Result<Room> {
        self.0.say("take")?;
        let end = Instant::now() + PATIENCE;
        let said = loop {
            meanwhile();
            match self.0.hear(Duration::from_micros(200)) {
                Ok(said) => break said,
                Err(error) if is_time_out(&error) && Instant::now() < end => {}
                Err(error) => return Err(error),
            }
        };
        if let Ok(polled) = number(&said, "released ") {
            return Ok(Room {
                polled,
                waits: true,
            });
        }
        let polled = number(&said, "leaving ")?;
        self.wait_for_its_end()?;
        Ok(Room {
            polled,
            waits: false,
        })
    }

    /// Until the process is gone, and with it every descriptor that it has.
    fn wait_for_its_end(&mut self) -> io::Result<()> {
        let peer = getsockopt(self.0.reader.get_ref(), sockopt::PeerCredentials)?;
        let Some(pid) = Pid::from_raw(peer.pid()) else {
            // A process of another container: it is not seen, but its end of this connection is.
            return match self.0.hear(PATIENCE) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
                Err(error) => Err(error),
                Ok(said) => Err(io::Error::new(
                    ErrorKind::InvalidData,
                    format!("it said {said:?} after it said that it leaves"),
                )),
            };
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            other => other?,
        };
        let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience))? {
            0 => Err(io::Error::new(
                ErrorKind::TimedOut,
                "it said that it leaves, and does not end",
            )),
            _ => Ok(()),
        }
    }

    /// Tells it that this process serves, since `polled`.
    pub(crate) fn thank(mut self, polled: u64) -> io::Result<()> {
        self.0.say(&format!("serving {polled}"))
    }
}

/// A connection that carries lines of text.
#[derive(Debug)]
struct Line {
    reader: BufReader<UnixStream>,
    /// What has come of a line that is not whole.
    text: String,
}

impl Line {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(stream),
            text: String::new(),
        })
    }

    fn say(&mut self, word: &str) -> io::Result<()> {
        self.reader
            .get_mut()
            .write_all(format!("{word}\n").as_bytes())
    }

    /// The next line, without its end.
    fn hear(&mut self, patience: Duration) -> io::Result<String> {
        self.reader.get_mut().set_read_timeout(Some(patience))?;
        self.reader.read_line(&mut self.text)?;
        if !self.text.ends_with('\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = std::mem::take(&mut self.text);
        Ok(line.trim_end().to_owned())
    }
}

fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn number(said: &str, before: &str) -> io::Result<u64> {
    let number = said.strip_prefix(before).and_then(|rest| rest.parse().ok());
    number.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("it said {said:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (tempfile::TempDir, PathBuf, Listener) {
        let folder = tempfile::tempdir().unwrap();
        let region = folder.path().join("region");
        let listener = Listener::new(&region).unwrap();
        (folder, region, listener)
    }

    fn successor(listener: &mut Listener) -> Successor {
        loop {
            if let Some(successor) = listener.poll() {
                return successor;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn both_sides_learn_the_gap() {
        let (_folder, region, mut listener) = listener();
        let new = std::thread::spawn(move || {
            let mut old = Predecessor::find(&region).unwrap().unwrap();
            let mut turns = 0;
            let room = old.ask(|| turns += 1).unwrap();
            assert!(room.waits);
            old.thank(room.polled + 5_000).unwrap();
            (room.polled, turns)
        });
        let gap = successor(&mut listener).let_go(1_000).unwrap();
        assert_eq!(gap, Duration::from_micros(5));
        let (polled, turns) = new.join().unwrap();
        assert!(polled == 1_000 && turns > 0, "{polled} {turns}");
    }

    #[test]
    fn a_successor_that_ends_is_noticed_at_once() {
        let (_folder, region, mut listener) = listener();
        let new = std::thread::spawn(move || {
            let mut old = Predecessor::find(&region).unwrap().unwrap();
            old.ask(|| {}).unwrap().polled
        });
        let begun = Instant::now();
        let error = successor(&mut listener).let_go(7).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(begun.elapsed() < PATIENCE);
        assert_eq!(new.join().unwrap(), 7);
    }

    #[test]
    fn nobody_and_a_dead_one_are_no_predecessor() {
        let (_folder, region, listener) = listener();
        drop(listener);
        assert!(
            Predecessor::find(&region).unwrap().is_none(),
            "its socket is left"
        );
        std::fs::remove_file(socket_path(&region)).unwrap();
        assert!(Predecessor::find(&region).unwrap().is_none());
        // A successor's socket takes the place of one that was left.
        drop(Listener::new(&region).unwrap());
        Listener::new(&region).unwrap();
    }

    #[test]
    fn other_words_are_no_request() {
        let (_folder, region, mut listener) = listener();
        let mut stream = UnixStream::connect(socket_path(&region)).unwrap();
        stream.write_all(b"hello\n").unwrap();
        std::thread::sleep(PERIOD);
        assert!(listener.poll().is_none());
        // Who says nothing holds up nobody, and may speak later.
        let mut slow = UnixStream::connect(socket_path(&region)).unwrap();
        for _ in 0..3 {
            std::thread::sleep(PERIOD);
            let asked = Instant::now();
            assert!(listener.poll().is_none());
            assert!(asked.elapsed() < Duration::from_secs(1));
        }
        slow.write_all(b"take\n").unwrap();
        successor(&mut listener);
    }
}
