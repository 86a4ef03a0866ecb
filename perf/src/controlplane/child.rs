//! One of the two processes: started, given orders, listened to, stopped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child as Process, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// How long news may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that says `N`. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Child<N> {
    name: &'static str,
    process: Process,
    orders: Option<ChildStdin>,
    news: Receiver<Result<N, serde_json::Error>>,
    /// What came before something else that was waited for.
    kept: VecDeque<N>,
}

impl<N: DeserializeOwned + Send + std::fmt::Debug + 'static> Child<N> {
    /// Starts this program with other arguments.
    pub(super) fn start(name: &'static str, arguments: &[String]) -> Result<Self, Error> {
        let fail = |error: std::io::Error| Error::Run(format!("{name} cannot be started: {error}"));
        let program = std::env::current_exe().map_err(fail)?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let (sender, news) = channel();
        if let Some(output) = process.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(serde_json::from_str(&line)).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self {
            name,
            orders: process.stdin.take(),
            process,
            news,
            kept: VecDeque::new(),
        })
    }

    /// Gives an order.
    pub(super) fn order(&mut self, order: &impl Serialize) -> Result<(), Error> {
        let fail = |why: &dyn std::fmt::Display| Error::Run(format!("{}: {why}", self.name));
        let mut line = serde_json::to_vec(order).map_err(|error| fail(&error))?;
        line.push(b'\n');
        match &mut self.orders {
            Some(orders) => orders.write_all(&line).map_err(|error| fail(&error)),
            None => Err(fail(&"it is being stopped")),
        }
    }

    /// The first news that `pick` takes, now or later; what it leaves is kept for others.
    pub(super) fn wait<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&N) -> Result<Option<T>, String>,
    ) -> Result<T, Error> {
        let fail = |why: String| Error::Run(format!("{}: {why}", self.name));
        let mut kept = self.kept.iter().enumerate();
        let found = kept.find_map(|(at, news)| Some((at, pick(news).transpose()?)));
        if let Some((at, found)) = found {
            self.kept.remove(at);
            return found.map_err(fail);
        }
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.news.recv_timeout(left) {
                Ok(Ok(news)) => match pick(&news).map_err(fail)? {
                    Some(found) => return Ok(found),
                    None => self.kept.push_back(news),
                },
                Ok(Err(error)) => return Err(fail(format!("it said what is no news: {error}"))),
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = PATIENCE.as_secs();
                    return Err(fail(format!("no word of {what} in {seconds} seconds")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(fail(format!("it ended before {what}")));
                }
            }
        }
    }

    /// Forgets news that nobody waited for.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Has it end, and waits for that.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        self.orders = None;
        let status = self.process.wait();
        let status = status.map_err(|error| Error::Run(format!("{}: {error}", self.name)))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Run(format!("{} ended with {status}", self.name)))
        }
    }
}

impl<N> Drop for Child<N> {
    fn drop(&mut self) {
        // After `stop` it has ended, and both do nothing.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
