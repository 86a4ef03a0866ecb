//! Where traces are asked for: a Unix socket beside the region, served by the main core between other things.
//!
//! What is traced is what people send, so only the user that the data plane runs as, root as a rule, may ask: the
//! region's group, in which the control plane is, may not. One trace at a time. Nothing here waits: an operator who does
//! not read loses frames, and then the trace.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::Shared;
use engine::publish::Publisher;
use engine::trace::{Message, Record, Request, Summary, socket_path};

use super::plan::{DEPTH, Plan};
use super::tap::Tap;

/// Between two looks whether somebody asks.
const PERIOD: Duration = Duration::from_millis(20);

/// For the request of somebody who has connected, and for the last words to somebody who does not read, while this
/// process serves.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest request.
const MOST_ASKED: usize = 1 << 20;

/// What may wait to be read by the operator's command before records are left where they are.
const MOST_UNSENT: usize = 1 << 18;

/// Records that are told in one turn.
const RECORDS_A_TURN: usize = 32;

/// The main core's side.
pub(crate) struct Desk {
    listener: Option<UnixListener>,
    looked: Instant,
    is_on: Arc<AtomicBool>,
    plans: Publisher<Option<Arc<Plan>>>,
    session: Option<Session>,
}

/// Somebody who asks.
struct Session {
    stream: UnixStream,
    since: Instant,
    asked: Vec<u8>,
    unsent: Vec<u8>,
    phase: Phase,
}

enum Phase {
    Asks,
    Traces(Trace),
    /// All is said; what is unsent goes first.
    Ends,
}

/// A trace that is on.
struct Trace {
    plan: Arc<Plan>,
    /// Empty records that may not be used yet.
    #[allow(clippy::vec_box)] // boxes are what goes to and fro
    spare: Vec<Box<Record>>,
    /// Records that might be used so far.
    granted: u64,
    told: u64,
}

impl Desk {
    /// Listens beside the region, which this process holds the lock of.
    pub(crate) fn new(region: &Path) -> Self {
        let listener = crate::beside::listen(&socket_path(region));
        if let Err(error) = &listener {
            tracing::warn!(%error, "no socket beside the region: frames cannot be traced");
        }
        Self {
            listener: listener.ok(),
            looked: Instant::now(),
            is_on: Arc::default(),
            plans: Publisher::new(None),
            session: None,
        }
    }

    /// What worker number `worker` needs.
    pub(crate) fn tap(&self, shared: &Arc<Shared>, worker: u16) -> Tap {
        let plans = self.plans.subscribe();
        Tap::new(self.is_on.clone(), plans, shared.clone(), worker)
    }

    /// Does what is to be done now.
    pub(crate) fn poll(&mut self) {
        if self.session.is_some() {
            self.serve();
        }
        if self.looked.elapsed() < PERIOD {
            return;
        }
        self.looked = Instant::now();
        let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) else {
            return;
        };
        let mut session = Session::new(stream);
        if self.session.is_none() {
            self.session = session.ok();
        } else if let Ok(session) = &mut session {
            session.refuse("another trace runs; end that one first");
            let _ = session.flush();
        }
    }

    /// Ends a trace: this process serves no longer.
    pub(crate) fn close(mut self) {
        self.stop("takeover");
        if let Some(mut session) = self.session.take() {
            // A successor waits, and with it all traffic: who has not read so far does not hear the rest.
            let _ = session.flush();
        }
    }

    fn serve(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        let heard = session.hear();
        match &mut session.phase {
            Phase::Asks => {
                if let Ok(Some(request)) = &heard {
                    self.start(request.clone());
                } else if session.since.elapsed() > PATIENCE {
                    session.refuse("no request came");
                }
            }
            Phase::Traces(trace) => {
                let since = session.since.elapsed();
                trace.grant(since);
                trace.tell(&mut session.unsent);
                let request = &trace.plan.request;
                if trace.told >= request.frames.into() {
                    self.stop("limit");
                } else if since >= Duration::from_secs(request.seconds.into()) {
                    self.stop("time");
                }
            }
            Phase::Ends => {}
        }
        let Some(session) = &mut self.session else {
            return;
        };
        let is_gone = heard.is_err() || session.flush().is_err();
        let is_over = matches!(session.phase, Phase::Ends)
            && (session.unsent.is_empty() || session.since.elapsed() > PATIENCE);
        if is_gone || is_over {
            self.stop("gone");
            self.session = None;
        }
    }

    fn start(&mut self, request: Result<Request, String>) {
        let Some(session) = &mut self.session else {
            return;
        };
        match request {
            Ok(request) => {
                tracing::info!(?request, "frames are traced");
                let plan = Arc::new(Plan::new(request));
                session.say(&Message::Begun);
                session.since = Instant::now();
                let mut trace = Trace::new(plan.clone());
                trace.grant(Duration::ZERO);
                session.phase = Phase::Traces(trace);
                self.plans.publish(Some(plan));
                self.is_on.store(true, Ordering::Relaxed);
            }
            Err(why) => session.refuse(&why),
        }
    }

    /// Ends a trace that is on, and says so.
    fn stop(&mut self, why: &str) {
        let Some(session) = &mut self.session else {
            return;
        };
        let Phase::Traces(trace) = &mut session.phase else {
            return;
        };
        self.is_on.store(false, Ordering::Relaxed);
        self.plans.publish(None);
        let summary = trace.end(why);
        tracing::info!(?summary, "the trace has ended");
        session.say(&Message::Ended(summary));
        session.phase = Phase::Ends;
        session.since = Instant::now();
    }
}

impl Trace {
    fn new(plan: Arc<Plan>) -> Self {
        let empty = || Box::new(Record::with_room(plan.request.bytes));
        Self {
            spare: (0..DEPTH).map(|_| empty()).collect(),
            granted: 0,
            told: 0,
            plan,
        }
    }

    /// Lets workers have as many empty records as the rate allows by now, and the limit.
    fn grant(&mut self, since: Duration) {
        let request = &self.plan.request;
        let by_now = since.as_secs_f64() * f64::from(request.rate);
        let allowed =
            (by_now as u64 + u64::from(request.rate).min(DEPTH as u64)).min(request.frames.into());
        while self.granted < allowed
            && let Some(record) = self.spare.pop()
        {
            self.granted += 1;
            let _ = self.plan.empty.push(record);
        }
    }

    /// Tells full records, as long as they are read.
    fn tell(&mut self, unsent: &mut Vec<u8>) {
        for _ in 0..RECORDS_A_TURN {
            if unsent.len() > MOST_UNSENT || self.told >= self.plan.request.frames.into() {
                return;
            }
            let Some(mut record) = self.plan.full.pop() else {
                return;
            };
            record.trim();
            say(unsent, &Message::Frame(record));
            self.told += 1;
            let bytes = self.plan.request.bytes;
            self.spare.push(Box::new(Record::with_room(bytes)));
        }
    }

    fn end(&self, why: &str) -> Summary {
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        Summary {
            why: why.to_owned(),
            frames: self.told,
            examined: count(&self.plan.examined),
            unexamined: count(&self.plan.unexamined),
            missed: count(&self.plan.missed),
        }
    }
}

impl Session {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            since: Instant::now(),
            asked: Vec::new(),
            unsent: Vec::new(),
            phase: Phase::Asks,
        })
    }

    /// The request, when it is whole; an error when the other side has gone.
    fn hear(&mut self) -> io::Result<Option<Result<Request, String>>> {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) if matches!(self.phase, Phase::Asks) => {
                    self.asked.extend_from_slice(&bytes[..count]);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.asked.len() > MOST_ASKED {
                return Ok(Some(Err("the request is too long".to_owned())));
            }
        }
        let Some(end) = self.asked.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line = &self.asked[..end];
        let request = serde_json::from_slice::<Request>(line).map_err(|error| error.to_string());
        Ok(Some(
            request.and_then(|request| request.check().map(|()| request)),
        ))
    }

    fn refuse(&mut self, why: &str) {
        self.say(&Message::Refused(why.to_owned()));
        self.phase = Phase::Ends;
        self.since = Instant::now();
    }

    fn say(&mut self, message: &Message) {
        say(&mut self.unsent, message);
    }

    /// Sends what the other side takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn say(unsent: &mut Vec<u8>, message: &Message) {
    // Strings and numbers only: there is nothing that could not be written.
    if serde_json::to_writer(&mut *unsent, message).is_ok() {
        unsent.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use engine::trace::Sheets;

    use super::super::plan::PlanSheets;
    use super::*;

    struct Asking {
        desk: Desk,
        _folder: tempfile::TempDir,
        lines: BufReader<UnixStream>,
    }

    impl Asking {
        fn new(request: &[u8]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let region = folder.path().join("region");
            let desk = Desk::new(&region);
            let mut stream = UnixStream::connect(socket_path(&region)).unwrap();
            stream.write_all(request).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            let lines = BufReader::new(stream);
            Self {
                desk,
                _folder: folder,
                lines,
            }
        }

        fn with(request: &Request) -> Self {
            let line = serde_json::to_string(request).unwrap() + "\n";
            let mut asking = Self::new(line.as_bytes());
            assert_eq!(asking.next(), Message::Begun);
            asking
        }

        /// The next message.
        fn next(&mut self) -> Message {
            let mut line = String::new();
            let end = Instant::now() + Duration::from_secs(20);
            while Instant::now() < end {
                self.desk.poll();
                if self.lines.read_line(&mut line).is_ok() {
                    return serde_json::from_str(&line).unwrap();
                }
            }
            panic!("nothing is said");
        }

        fn sheets(&self) -> PlanSheets {
            PlanSheets((*self.desk.plans.newest()).clone().unwrap())
        }

        fn is_on(&self) -> bool {
            self.desk.is_on.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn records_are_told_up_to_the_limit_and_then_the_trace_is_off() {
        let mut asking = Asking::with(&Request {
            frames: 3,
            ..Request::all()
        });
        assert!(asking.is_on());
        let mut sheets = asking.sheets();
        for worker in 0..3 {
            let mut record = sheets.take().unwrap();
            record.worker = worker;
            sheets.tell(record);
        }
        assert!(sheets.take().is_none(), "no more may be told");
        for worker in 0..3 {
            let Message::Frame(record) = asking.next() else {
                panic!("no frame");
            };
            assert_eq!((record.worker, record.out.len()), (worker, 0));
        }
        let Message::Ended(summary) = asking.next() else {
            panic!("not ended");
        };
        assert_eq!((summary.why.as_str(), summary.frames), ("limit", 3));
        assert_eq!(summary.missed, 1);
        assert!(!asking.is_on() && asking.desk.plans.newest().is_none());
    }

    #[test]
    fn who_goes_away_ends_the_trace() {
        let mut asking = Asking::with(&Request::all());
        asking
            .lines
            .get_mut()
            .shutdown(std::net::Shutdown::Both)
            .unwrap();
        asking.desk.poll();
        assert!(!asking.is_on() && asking.desk.session.is_none());
    }

    #[test]
    fn who_does_not_read_holds_up_nobody() {
        let mut asking = Asking::with(&Request {
            bytes: 9000,
            ..Request::all()
        });
        let mut sheets = asking.sheets();
        let begun = Instant::now();
        for _ in 0..10_000 {
            if let Some(mut record) = sheets.take() {
                record.frame.bytes.resize(9000, 0);
                sheets.tell(record);
            }
            asking.desk.poll();
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        let session = asking.desk.session.as_ref().unwrap();
        assert!(
            session.unsent.len() < 4 * MOST_UNSENT,
            "{}",
            session.unsent.len()
        );
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_sentence() {
        let unknown = b"{\"ends\":[],\"colour\":1}\n";
        for wrong in [&b"hello\n"[..], unknown] {
            let mut asking = Asking::new(wrong);
            assert!(matches!(asking.next(), Message::Refused(_)));
            assert!(!asking.is_on());
        }
        let mut request = Request::all();
        request.rate = 0;
        let line = serde_json::to_string(&request).unwrap() + "\n";
        let mut asking = Asking::new(line.as_bytes());
        let Message::Refused(why) = asking.next() else {
            panic!("not refused");
        };
        assert!(why.contains("rate = 0"), "{why}");
    }
}
