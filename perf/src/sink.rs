//! `perf sink`: the receiving end in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use hugepages::region::monotonic_nanos;
use packet::ethernet::Mac;

use crate::Error;
use crate::generate::show;
use crate::host::{Host, LoadSince};
use crate::ports::{Device, PortCounts, Ports};
use crate::priority::Raised;
use crate::record::traffic::{Frames, Latency, TrafficRecord};
use crate::tester::stop_on_signals;
use crate::traffic::client::Sent;
use crate::traffic::flows::Network;
use crate::traffic::progress::{Phase, Progress};
use crate::traffic::server::Server;
use crate::traffic::station::Station;
use crate::traffic::tally::Tally;

/// Nothing must come for so long after the frame that tells the end.
const QUIET: u64 = 500_000_000;

/// Turns between two looks at rare things.
const RARELY: u32 = 256;

/// Receives what a `perf gen` elsewhere on this machine sends through a gateway (both read the same
/// clock), answers ARP, neighbour discovery and TCP, and ends when the generator says that it has.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Device to receive by, in the words of the gateway's settings.
    #[arg(long)]
    device: Device,
    /// Addresses that it answers ARP and neighbour discovery for.
    #[arg(long, value_name = "NETWORK", required = true)]
    address: Vec<Network>,
    /// Sends datagrams back.
    #[arg(long)]
    echo: bool,
    /// Longest frames, in bytes of IP.
    #[arg(long, default_value_t = 1500)]
    mtu: u16,
    /// Ends after so many seconds, whatever came.
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// CPU to work on; default: the first.
    #[arg(long)]
    cpu: Option<u16>,
    /// Packet memory on huge pages, which must be free.
    #[arg(long)]
    huge_pages: bool,
    /// Leave other processes their share of the CPU.
    #[arg(long)]
    polite: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// [`Error::Run`] names the device that failed.
pub fn run(options: &Options) -> Result<(), Error> {
    if !(0.001..=86_400.0).contains(&options.seconds) {
        let seconds = options.seconds;
        return Err(Error::Usage(format!(
            "--seconds {seconds}: must be 0.001 to 86400"
        )));
    }
    let _raised = (!options.polite).then(Raised::now);
    let device = &options.device;
    let mut ports = Ports::start(&[device], options.cpu, options.huge_pages, options.mtu)?;
    let seat = ports.open(device, options.mtu)?;
    ports.wait_up()?;
    let station = Station::new(Mac(seat.mac), options.address.clone());
    let server = Server::new(seat.link, station, options.echo, Tally::new(None, None));
    let progress = Arc::new(Progress::default());
    stop_on_signals(&progress)?;
    let load = LoadSince::now();
    let most = Duration::from_secs_f64(options.seconds);
    let shared = progress.clone();
    eprintln!("sink: {device} is open");
    let worker = ports.launch(move || receive(server, most, &shared))?;
    progress.show_until("sink", || worker.is_finished());
    let server = worker.join()?;
    let record = record(options, &server, ports.counts(), load.load());
    show(&record, options.json)
}

/// Until the end is told and nothing comes any more, or it is time.
fn receive<L: packet::Link>(
    mut server: Server<L>,
    most: Duration,
    progress: &Progress,
) -> Server<L> {
    progress.enter(Phase::Measure);
    let start = monotonic_nanos();
    let mut last = start;
    while !progress.is_stopped() {
        let came = server.turn();
        let now = monotonic_nanos();
        if came > 0 {
            last = now;
        }
        let is_over = server.tally().is_told() && now - last > QUIET;
        if is_over || now - start > most.as_nanos() as u64 {
            break;
        }
        progress.turn(RARELY, || {
            (server.frames().1, server.tally().received().distinct)
        });
    }
    server
}

fn record<L: packet::Link>(
    options: &Options,
    server: &Server<L>,
    ports: Vec<PortCounts>,
    load: crate::host::Load,
) -> TrafficRecord {
    let tally = server.tally();
    let received = *tally.received();
    let sent = tally.expected();
    let seconds = tally.span() as f64 / 1e9;
    let latency = Latency::of(tally.latency());
    TrafficRecord {
        name: format!("sink on {}", options.device),
        verb: "sink",
        scenario: "any".to_owned(),
        lab: "given".to_owned(),
        family: None,
        flows: None,
        choice: None,
        size: None,
        rate: None,
        seconds,
        frames: Frames {
            offered: sent,
            sent: Sent {
                data: sent,
                ..Sent::default()
            },
            received: Some(received),
            lost: Some(sent - received.distinct),
            served: Some(*server.served()),
            ..Frames::default()
        },
        received_rate: (received.distinct as f64 / seconds.max(1e-9)).round(),
        received_bits: 0.0,
        latency_curve: latency.as_ref().map(|latency| latency.curve.clone()),
        latency,
        round_trip: None,
        handshake: None,
        connections: None,
        gateway: None,
        balance: None,
        ports,
        packet_huge_pages: options.huge_pages,
        run: tally.run().unwrap_or(0),
        seed: 0,
        host: Host::here(),
        load,
    }
}
