//! A gateway under live connections while its processes die, come back and are replaced.
//!
//! Clients talk all the time: HTTP connections that stay open, UDP flows that stay, and newcomers that come
//! and go. Meanwhile, at seeded random moments, one or both processes are killed with SIGKILL, and
//! endpoints come and go. Every byte is compared; a reset, a closed connection, a wrong byte or a
//! flow that gets no answer any more is a loss. What happened becomes a [`Report`].

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::browse::{Browser, Browsers, PATIENCE};
use crate::chatter::Chatter;
use crate::gateway::Gateway;
use crate::manifests::{Protocol, Service, ServicePort};
use crate::random::Random;
use crate::topology::{CLIENT_V4, CLUSTER, ECHO, HTTP, HTTP_NODE_PORT, OUTSIDE, Plan, Topology};

/// NodePort of the UDP echo whose endpoints never change.
const TALK_NODE_PORT: u16 = 30_008;

/// What is run.
#[derive(Debug, Clone)]
pub struct Course {
    /// At least so long.
    pub duration: Duration,
    /// At least so many kills of each process.
    pub kills: usize,
    /// HTTP connections that stay open.
    pub connections: usize,
    /// UDP flows that stay.
    pub flows: usize,
    /// Longest pause between two events.
    pub pause: Duration,
    /// Of the moments and the choice of events.
    pub seed: u64,
}

/// Something that was done to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The data plane was killed and started again, with the control plane alive.
    KillDataPlane,
    /// The control plane was killed and started again.
    KillControlPlane,
    /// Both were killed; the data plane came back first, and new connections were served by it alone.
    KillBoth,
    /// Another data plane took over from the one that ran.
    Upgrade,
    /// The service's endpoints changed.
    Endpoints,
}

/// One act.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Since the beginning.
    pub at: Duration,
    /// What was done.
    pub act: Act,
    /// Until everything served again; of an upgrade, how long no frame was polled.
    pub took: Duration,
}

/// What it came to.
#[derive(Debug, Default)]
pub struct Report {
    /// How long it ran.
    pub duration: Duration,
    /// What was done, in order.
    pub events: Vec<Event>,
    /// Rounds of the HTTP connections, each with one request a connection.
    pub rounds: u64,
    /// HTTP requests answered over connections that stayed.
    pub requests: u64,
    /// Bytes of their answers, each compared.
    pub bytes: u64,
    /// Connections opened, used once and closed.
    pub newcomers: u64,
    /// UDP questions answered.
    pub answers: u64,
    /// UDP questions that had to be asked again.
    pub again: u64,
    /// Longest time that the machine let a thread wait beyond what it had asked for: what the clients see
    /// then is not the gateway's doing.
    pub stall: Duration,
    /// What was lost: each a sentence.
    pub losses: Vec<String>,
    /// What socket and gateway said of the first of them.
    pub traces: Vec<String>,
}

/// What the clients count while they talk.
#[derive(Debug, Default)]
struct Tally {
    stop: AtomicBool,
    rounds: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    newcomers: AtomicU64,
    answers: AtomicU64,
    again: AtomicU64,
    stall: AtomicU64,
    losses: Mutex<Vec<String>>,
}

impl Tally {
    fn goes_on(&self) -> bool {
        // Relaxed, as all counters here: they carry no other data.
        !self.stop.load(Ordering::Relaxed)
    }

    fn lose(&self, what: String) {
        let losses = self.losses.lock();
        losses
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(what);
    }
}

/// Runs a course in a topology of its own.
///
/// # Panics
/// If the gateway or the network cannot be set up; what clients lose is in the report.
pub fn run(course: &Course) -> Report {
    let net = Topology::new(Plan::default());
    net.try_tcp_often();
    let _nginx = [0, 1].map(|index| net.start_nginx(index));
    let _echo = [0, 1].map(|index| net.start_echo(index));
    let services = Services::new(&net);
    services.web(&[0, 1]);
    services.talk();
    let mut gateway = net.start_gateway();

    let to = SocketAddr::new(OUTSIDE[0], HTTP_NODE_PORT);
    let talk = SocketAddr::new(OUTSIDE[0], TALK_NODE_PORT);
    let mut browsers = Browsers::open(&net.client, &CLIENT_V4, to, course.connections)
        .unwrap_or_else(|error| panic!("before anything is done: {error}"));
    let mut chatter = Chatter::open(&net.client, &CLIENT_V4, talk, course.flows)
        .unwrap_or_else(|error| panic!("no sockets: {error}"));

    let tally = Tally::default();
    let start = Instant::now();
    let events = net.client.enter(|| {
        thread::scope(|scope| {
            scope.spawn(|| browse(&mut browsers, &tally));
            scope.spawn(|| chat(&mut chatter, &tally));
            scope.spawn(|| visit(CLIENT_V4[1], to, &tally));
            scope.spawn(|| watch(&tally));
            let work = || act_out(course, start, &services, &mut gateway, &tally);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            tally.stop.store(true, Ordering::Relaxed);
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let losses = tally.losses.into_inner().unwrap_or_default();
    let mut traces: Vec<_> = losses
        .iter()
        .take(3)
        .map(|loss| trace(loss, &net, &gateway))
        .collect();
    if !losses.is_empty() {
        traces.push(gateway.portgate(&["counters"]));
        traces.push(gateway.dataplane.log());
    }
    Report {
        traces,
        duration: start.elapsed(),
        events,
        rounds: read(&tally.rounds),
        requests: read(&tally.requests),
        bytes: read(&tally.bytes),
        newcomers: read(&tally.newcomers),
        answers: read(&tally.answers),
        again: read(&tally.again),
        stall: Duration::from_micros(read(&tally.stall)),
        losses,
    }
}

/// What is known of a lost connection afterwards: its socket, and its flow in the gateway.
fn trace(loss: &str, net: &Topology, gateway: &Gateway<'_>) -> String {
    let from = loss
        .split(" from ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let Some(from) = from.and_then(|from| from.parse::<SocketAddr>().ok()) else {
        return String::new();
    };
    let port = from.port().to_string();
    let mut sockets = net.client.command("ss");
    let shown = sockets.args(["-tinoH", "sport", "=", &port]).output();
    let socket = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let flows = gateway.portgate(&["flows"]);
    let flows: Vec<_> = flows.lines().filter(|line| line.contains(&port)).collect();
    format!(
        "{}\n{}",
        socket.unwrap_or_default().trim(),
        flows.join("\n")
    )
}

/// The two Services: one whose endpoints change, one whose endpoints stay.
struct Services<'a> {
    net: &'a Topology,
    web: Service,
    talk: Service,
}

impl<'a> Services<'a> {
    fn new(net: &'a Topology) -> Self {
        let port = |protocol, port, node_port| ServicePort {
            protocol,
            port,
            target: port,
            node_port: Some(node_port),
        };
        let ports = [port(Protocol::Tcp, HTTP, HTTP_NODE_PORT)];
        let web = Service::new("web", &CLUSTER, &ports);
        let ports = [port(Protocol::Udp, ECHO, TALK_NODE_PORT)];
        let address = IpAddr::from([100, 68, 181, 77]);
        let talk = Service::new("talk", &[address], &ports);
        Self { net, web, talk }
    }

    fn web(&self, pods: &[usize]) {
        self.net.apply_as(&self.web, pods);
    }

    fn talk(&self) {
        self.net.apply_as(&self.talk, &[0, 1]);
    }
}

fn browse(browsers: &mut Browsers, tally: &Tally) {
    for round in 0.. {
        if !tally.goes_on() {
            return;
        }
        match browsers.round(round) {
            Ok(done) => {
                tally.rounds.fetch_add(1, Ordering::Relaxed);
                tally.requests.fetch_add(done.requests, Ordering::Relaxed);
                tally.bytes.fetch_add(done.bytes, Ordering::Relaxed);
            }
            Err(error) => return tally.lose(error),
        }
    }
}

fn chat(chatter: &mut Chatter, tally: &Tally) {
    for round in 0.. {
        if !tally.goes_on() {
            return;
        }
        match chatter.round(round) {
            Ok(done) => {
                tally.answers.fetch_add(done.answers, Ordering::Relaxed);
                tally.again.fetch_add(done.again, Ordering::Relaxed);
            }
            Err(error) => return tally.lose(error),
        }
    }
}

/// Sees how long the machine lets a thread wait.
fn watch(tally: &Tally) {
    const NAP: Duration = Duration::from_millis(10);
    while tally.goes_on() {
        let begun = Instant::now();
        thread::sleep(NAP);
        let late = begun.elapsed().saturating_sub(NAP).as_micros() as u64;
        tally.stall.fetch_max(late, Ordering::Relaxed);
    }
}

/// Connections that come, ask once and go.
fn visit(from: IpAddr, to: SocketAddr, tally: &Tally) {
    for number in 1_000_000.. {
        if !tally.goes_on() {
            return;
        }
        let visited = Browser::open_here(from, to, number).and_then(|mut new| new.fetch(number));
        match visited {
            Ok(_) => drop(tally.newcomers.fetch_add(1, Ordering::Relaxed)),
            Err(error) => tally.lose(format!("newcomer: {error}")),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The acts, until there were enough and the time is over, or something was lost.
fn act_out(
    course: &Course,
    start: Instant,
    services: &Services<'_>,
    gateway: &mut Gateway<'_>,
    tally: &Tally,
) -> Vec<Event> {
    let mut random = Random::new(course.seed);
    let mut events: Vec<Event> = Vec::new();
    let is_lost = || {
        tally
            .losses
            .lock()
            .map_or(true, |losses| !losses.is_empty())
    };
    while (start.elapsed() < course.duration || !is_enough(&events, course.kills)) && !is_lost() {
        let pause = random.below(course.pause.as_micros() as u64);
        thread::sleep(Duration::from_micros(pause));
        let act = next_act(&mut random, &events, course.kills);
        let begun = Instant::now();
        let gap = perform(act, &mut random, services, gateway, tally);
        events.push(Event {
            at: begun - start,
            act,
            took: gap.unwrap_or_else(|| begun.elapsed()),
        });
    }
    // A last round over everything that stayed.
    let rounds = tally.rounds.load(Ordering::Relaxed);
    let end = Instant::now() + PATIENCE;
    while tally.rounds.load(Ordering::Relaxed) < rounds + 2 && !is_lost() {
        if Instant::now() > end {
            tally.lose("the HTTP connections do not get on after the last act".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    events
}

/// Any act; but once every kill was made, none is left out.
fn next_act(random: &mut Random, events: &[Event], kills: usize) -> Act {
    const ACTS: [Act; 11] = [
        Act::KillDataPlane,
        Act::KillDataPlane,
        Act::KillDataPlane,
        Act::KillControlPlane,
        Act::KillControlPlane,
        Act::KillControlPlane,
        Act::KillBoth,
        Act::KillBoth,
        Act::KillBoth,
        Act::Endpoints,
        Act::Upgrade,
    ];
    // A short course has each of them.
    let each = [ACTS[0], ACTS[3], ACTS[6], ACTS[9], ACTS[10]];
    match each.get(events.len()) {
        Some(act) if kills > 0 => *act,
        _ => *random.choose(&ACTS),
    }
}

/// Returns the gap of an upgrade.
fn perform(
    act: Act,
    random: &mut Random,
    services: &Services<'_>,
    gateway: &mut Gateway<'_>,
    tally: &Tally,
) -> Option<Duration> {
    match act {
        Act::KillDataPlane => {
            // Perhaps in the middle of an update.
            if random.below(2) == 0 {
                services.web(&pods(random));
            }
            gateway.dataplane.kill9();
            gateway.restart_dataplane();
        }
        Act::KillControlPlane => {
            if random.below(2) == 0 {
                services.web(&pods(random));
            }
            gateway.controlplane.kill9();
            if random.below(2) == 0 {
                // The successor begins with a full replay: kill that one too, in the middle of it.
                gateway.launch_controlplane();
                thread::sleep(Duration::from_micros(random.below(60_000)));
                gateway.controlplane.kill9();
            }
            gateway.restart_controlplane();
        }
        Act::KillBoth => {
            gateway.controlplane.kill9();
            gateway.dataplane.kill9();
            gateway.restart_dataplane();
            // New connections with the control plane still dead.
            let before = tally.newcomers.load(Ordering::Relaxed);
            let end = Instant::now() + PATIENCE;
            while tally.newcomers.load(Ordering::Relaxed) < before + 2 {
                if Instant::now() > end {
                    tally.lose("no new connection without a control plane".into());
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
            gateway.restart_controlplane();
        }
        Act::Upgrade => {
            let gap = gateway.upgrade_dataplane();
            return Some(Duration::from_secs_f64(gap / 1e3));
        }
        Act::Endpoints => services.web(&pods(random)),
    }
    None
}

/// Endpoints of the service: one of the pods, or both.
fn pods(random: &mut Random) -> Vec<usize> {
    let choices: [&[usize]; 3] = [&[0], &[1], &[0, 1]];
    random.choose(&choices).to_vec()
}

/// Kills of the data plane and of the control plane.
fn kills(events: &[Event]) -> [usize; 2] {
    let count = |acts: [Act; 2]| {
        events
            .iter()
            .filter(|event| acts.contains(&event.act))
            .count()
    };
    [
        count([Act::KillDataPlane, Act::KillBoth]),
        count([Act::KillControlPlane, Act::KillBoth]),
    ]
}

fn is_enough(events: &[Event], wanted: usize) -> bool {
    kills(events).iter().all(|count| *count >= wanted)
}

impl Report {
    /// Kills of the data plane and of the control plane. (A control plane killed again in the middle of its
    /// replay counts once.)
    pub fn kills(&self) -> [usize; 2] {
        kills(&self.events)
    }

    /// The report as a page.
    pub fn page(&self, course: &Course, what: &str) -> String {
        let mut page = format!("# Soak: {what}\n\n");
        let [data, control] = self.kills();
        let rows = [
            (
                "duration in s",
                format!("{:.1}", self.duration.as_secs_f64()),
            ),
            ("seed", course.seed.to_string()),
            ("HTTP connections that stay", course.connections.to_string()),
            ("UDP flows that stay", course.flows.to_string()),
            ("kills of the data plane", data.to_string()),
            ("kills of the control plane", control.to_string()),
            ("hot upgrades", self.count(Act::Upgrade).to_string()),
            (
                "changes of endpoints",
                self.count(Act::Endpoints).to_string(),
            ),
            ("rounds over all HTTP connections", self.rounds.to_string()),
            ("HTTP requests answered", self.requests.to_string()),
            (
                "bytes of their answers, all compared",
                self.bytes.to_string(),
            ),
            (
                "new connections, one request each",
                self.newcomers.to_string(),
            ),
            ("UDP questions answered", self.answers.to_string()),
            ("UDP questions asked again", self.again.to_string()),
            (
                "longest stall of the machine in ms",
                self.stall.as_millis().to_string(),
            ),
            ("losses", self.losses.len().to_string()),
        ];
        page.push_str("| | |\n|---|---:|\n");
        for (name, value) in rows {
            let _ = writeln!(page, "| {name} | {value} |");
        }
        page.push_str(
            "\nA loss is a connection that was reset or closed, a byte that is not the one that was asked for, \
             a flow that heard another endpoint than before or got no answer for 30 s (UDP) or 180 s (TCP). \
             TCP of both sides tries again at least every second where the kernel can be told so. \
             Questions over UDP are asked again after 200 ms: frames that come while no data plane runs are gone.\n",
        );
        for loss in &self.losses {
            let _ = writeln!(page, "\n* {loss}");
        }
        for trace in &self.traces {
            let _ = writeln!(page, "\n```text\n{trace}\n```");
        }
        self.add_summary(&mut page);
        page.push_str("\n## Events\n\n| number | at (s) | what | served again after (ms) |\n|---:|---:|---|---:|\n");
        for (number, event) in self.events.iter().enumerate() {
            let (at, took) = (event.at.as_secs_f64(), event.took.as_millis());
            let _ = writeln!(
                page,
                "| {} | {at:.3} | {} | {took} |",
                number + 1,
                event.act.name()
            );
        }
        page
    }

    fn add_summary(&self, page: &mut String) {
        page.push_str(
            "\n## By kind\n\n| what | times | median (ms) | longest (ms) |\n|---|---:|---:|---:|\n",
        );
        for act in Act::ALL {
            let events = self.events.iter().filter(|event| event.act == act);
            let mut took: Vec<_> = events.map(|event| event.took.as_millis()).collect();
            took.sort_unstable();
            if let (Some(middle), Some(last)) = (took.get(took.len() / 2), took.last()) {
                let _ = writeln!(
                    page,
                    "| {} | {} | {middle} | {last} |",
                    act.name(),
                    took.len()
                );
            }
        }
    }

    fn count(&self, act: Act) -> usize {
        self.events.iter().filter(|event| event.act == act).count()
    }
}

impl Act {
    const ALL: [Self; 5] = [
        Self::KillDataPlane,
        Self::KillControlPlane,
        Self::KillBoth,
        Self::Upgrade,
        Self::Endpoints,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::KillDataPlane => "data plane killed",
            Self::KillControlPlane => "control plane killed",
            Self::KillBoth => "both killed, data plane alone for a while",
            Self::Upgrade => "data plane upgraded (gap without polling)",
            Self::Endpoints => "endpoints changed",
        }
    }
}
