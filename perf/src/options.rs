//! Options that `perf gen` and `perf search` have in common, and what they mean.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use packet::ethernet::Mac;
use packet::parse::{TCP, UDP};

use crate::Error;
use crate::bench::crew::cpus_for;
use crate::lab::{self, Lab};
use crate::ports::Device;
use crate::traffic::choice::{Choice, Dealer, Sizes};
use crate::traffic::client::{Gateway, Traffic};
use crate::traffic::flows::{FlowSet, Network};
use crate::traffic::writer::Writer;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Datagrams.
    Udp,
    /// Data over TCP connections that were opened before, and are closed after.
    Tcp,
    /// TCP connections, one after the other: SYN, SYN-ACK, ACK, data, FIN, FIN-ACK, ACK.
    Connections,
}

impl Scenario {
    /// Name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Connections => "connections",
        }
    }

    /// IANA number of its protocol.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Udp => UDP,
            Self::Tcp | Self::Connections => TCP,
        }
    }
}

/// The traffic.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub struct Load {
    /// What is sent.
    #[arg(long, value_enum, default_value = "udp")]
    pub traffic: Scenario,
    /// Flows.
    #[arg(long, default_value_t = 1000)]
    pub flows: u32,
    /// How frames are dealt to flows: turn, uniform, zipf, zipf:EXPONENT. Connections are opened in turn.
    #[arg(long, default_value = "uniform")]
    pub choice: Choice,
    /// Network that clients' addresses are of; the lab has its own.
    #[arg(long, default_value = "198.18.0.0/15")]
    pub clients: Network,
    /// Where to send to, ADDRESS:PORT; several times for several services. The lab has its own.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: Vec<SocketAddr>,
    /// Data segments of each connection (`--traffic connections`).
    #[arg(long, default_value_t = 1)]
    pub segments: u32,
    /// Flows made, and connections closed, a second, before and after.
    #[arg(long, default_value_t = 100_000.0)]
    pub open_rate: f64,
    /// Seconds of the same traffic before, uncounted.
    #[arg(long, default_value_t = 0.5)]
    pub warm_up: f64,
    /// Of every random choice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// The devices.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Links")]
pub struct Links {
    /// Device to send by, in the words of the gateway's settings: af_packet:eth1, af_xdp:eth1,
    /// pci:0000:00:05.0, vdev:net_memif0,role=client,….
    #[arg(long, required_unless_present = "lab")]
    pub device: Option<Device>,
    /// Device to receive by in this same process: one clock for both, and on one CPU the only sound
    /// way. Without it a `perf sink` elsewhere receives.
    #[arg(long, value_name = "DEVICE")]
    pub sink: Option<Device>,
    /// Address of the sending end, asked for and with; several for both families.
    #[arg(long, value_name = "NETWORK")]
    pub address: Vec<Network>,
    /// Addresses that the receiving end answers ARP and neighbour discovery for.
    #[arg(long, value_name = "NETWORK")]
    pub sink_address: Vec<Network>,
    /// The gateway's address on the sending link, resolved by ARP or neighbour discovery.
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["lab", "via_mac"])]
    pub via: Option<IpAddr>,
    /// The gateway's MAC address instead.
    #[arg(long, value_name = "MAC")]
    pub via_mac: Option<Mac>,
    /// The sink sends datagrams back, and round trips are counted.
    #[arg(long)]
    pub echo: bool,
    /// CPU to work on; default: the first.
    #[arg(long)]
    pub cpu: Option<u16>,
    /// Packet memory on huge pages, which must be free. In the lab see --lab-huge-pages.
    #[arg(long)]
    pub huge_pages: bool,
    /// Leave other processes their share of the CPUs: neither generator nor the lab's gateway goes first,
    /// and the latter sleeps when idle. For tests; figures mean little then.
    #[arg(long)]
    pub polite: bool,
    /// Region of the gateway between, to set its counters beside ours.
    #[arg(long, value_name = "FILE")]
    pub gateway_region: Option<PathBuf>,
}

/// A gateway of our own.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Lab")]
pub struct LabOptions {
    /// Start a gateway between two links of this kind, and measure that (root).
    #[arg(long, value_enum, conflicts_with_all = ["device", "sink", "via", "via_mac", "to", "gateway_region", "address", "sink_address"])]
    pub lab: Option<lab::Kind>,
    /// 4 or 6.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=6), requires = "lab")]
    pub family: u8,
    /// Endpoints of its service; default: as many as the flows need masquerade ports of, 16 at least.
    #[arg(long, requires = "lab")]
    pub endpoints: Option<u32>,
    /// Its CPU; default: the last.
    #[arg(long, requires = "lab")]
    pub gateway_cpu: Option<u16>,
    /// Folder of its binaries; default: $PORTGATE_BIN, else where this program is.
    #[arg(long, value_name = "DIRECTORY", requires = "lab")]
    pub gateway_bin: Option<PathBuf>,
    /// Huge pages of 2 MiB to reserve for gateway and generator while the lab is there; 0 = none.
    #[arg(long, default_value_t = 0, requires = "lab")]
    pub lab_huge_pages: u64,
    /// How long its worker sleeps when idle, in µs (workers.idle_sleep_us); default: not at all, with --polite 50.
    #[arg(long, value_name = "MICROSECONDS", requires = "lab")]
    pub lab_idle_sleep_us: Option<u32>,
}

/// Sleep of a polite gateway, in µs.
const POLITE_SLEEP: u32 = 50;

/// Flows to an endpoint from one masquerade address, less some that have not ended yet.
const FLOWS_PER_ENDPOINT: u32 = 40_000;

impl LabOptions {
    /// Starts the lab if there is to be one, and puts its devices and addresses into the options.
    ///
    /// # Errors
    ///
    /// As [`Lab::start`]; [`Error::Usage`] for options that contradict each other.
    pub fn start(&self, load: &mut Load, links: &mut Links) -> Result<Option<Lab>, Error> {
        let Some(kind) = self.lab else {
            return Ok(None);
        };
        let lab = Lab::start(&lab::Plan {
            kind,
            family: self.family,
            flows: load.flows,
            endpoints: self
                .endpoints
                .unwrap_or((load.flows / FLOWS_PER_ENDPOINT + 1).max(16)),
            cpu: self.gateway_cpu.unwrap_or_else(last_cpu),
            binaries: self.binaries()?,
            huge_pages: self.lab_huge_pages,
            idle_sleep_us: self.lab_idle_sleep_us.unwrap_or(if links.polite {
                POLITE_SLEEP
            } else {
                0
            }),
        })?;
        let ends = lab.ends();
        links.device = Some(ends.outside.clone());
        links.sink = Some(ends.inside.clone());
        links.address = vec![host(ends.client)];
        links.sink_address.clone_from(&ends.answers);
        links.via = Some(ends.gateway);
        links.huge_pages |= self.lab_huge_pages > 0;
        load.clients = ends.clients;
        load.to = vec![ends.service];
        Ok(Some(lab))
    }

    fn binaries(&self) -> Result<PathBuf, Error> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
        let folder = self
            .gateway_bin
            .clone()
            .or_else(|| std::env::var_os("PORTGATE_BIN").map(PathBuf::from))
            .or_else(beside)
            .unwrap_or_default();
        for name in ["portgate-dataplane", "portgate-controlplane"] {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(Error::Usage(format!(
                    "--gateway-bin {}: {name} is not there; build it (ci/run.sh build) or name its \
                     folder",
                    folder.display()
                )));
            }
        }
        Ok(folder)
    }
}

impl Load {
    /// The traffic, with data frames of these sizes.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] names the option that cannot be.
    pub fn traffic(&self, sizes: &Sizes) -> Result<Traffic, Error> {
        for (name, value) in [("open-rate", self.open_rate), ("warm-up", self.warm_up)] {
            let least = if name == "warm-up" { 0.0 } else { 1.0 };
            if !(least..=1e9).contains(&value) {
                return Err(Error::Usage(format!(
                    "--{name} {value}: must be at least {least}"
                )));
            }
        }
        if self.to.is_empty() {
            return Err(Error::Usage("--to is missing: where to send to".to_owned()));
        }
        let flows = FlowSet::new(
            self.flows,
            self.clients,
            self.to.clone(),
            self.traffic.protocol(),
        )?;
        let connects = self.traffic == Scenario::Connections;
        let choice = if connects { Choice::Turn } else { self.choice };
        Ok(Traffic {
            dealer: Dealer::new(self.flows, choice, self.seed),
            flows,
            sizes: sizes.clone().seeded(self.seed),
            segments: connects.then_some(self.segments),
        })
    }

    /// Whether data frames of these sizes can be written, without touching a device.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] names the size that cannot.
    pub fn check(&self, lab: &LabOptions, sizes: &Sizes) -> Result<(), Error> {
        if lab.family == 5 {
            return Err(Error::Usage("--family 5: must be 4 or 6".to_owned()));
        }
        let v4 = match lab.lab {
            Some(_) => lab.family == 4,
            None => self.clients.address.is_ipv4(),
        };
        let mac = Mac::default();
        Writer::new(v4, self.traffic.protocol(), sizes, mac, mac)?;
        match lab.lab {
            Some(_) => Ok(()),
            None => self.traffic(sizes).map(|_| ()),
        }
    }

    /// Time of the warm-up.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}

impl Links {
    /// Where frames are sent to.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if nothing says so.
    pub fn gateway(&self) -> Result<Gateway, Error> {
        match (self.via_mac, self.via) {
            (Some(mac), _) => Ok(Gateway::Mac(mac)),
            (None, Some(address)) => Ok(Gateway::Address(address)),
            (None, None) => Err(Error::Usage(
                "--via is missing: the gateway's address".into(),
            )),
        }
    }
}

/// The network of one address.
fn host(address: IpAddr) -> Network {
    Network {
        address,
        length: if address.is_ipv4() { 32 } else { 128 },
    }
}

fn last_cpu() -> u16 {
    let last = cpus_for(1).first().copied();
    last.and_then(|cpu| u16::try_from(cpu).ok()).unwrap_or(0)
}
