//! A gateway to measure, with both its processes, between two links of ours, on this machine.
//!
//! ```text
//!   generator ── outside ── gateway (CPU of its own) ── inside ── sink
//! ```
//!
//! | | IPv4 | IPv6 |
//! |---|---|---|
//! | outside: gateway, generator | 203.0.113.10/24, .1 | 2001:db8:1::10/64, ::1 |
//! | clients, behind the generator (RFC 2544's range) | 198.18.0.0/15 | 2001:db8:2::/64 |
//! | inside: gateway, sink | 100.64.0.1/24, .10 | fd00:64::1/64, ::10 |
//! | endpoints, behind the sink | 100.96.0.0/16 | fd00:96::/64 |
//!
//! One Service of type NodePort, 30080 over UDP and TCP, in a directory of manifests. Everything is in
//! network namespaces and a folder of its own and goes away with the value.

pub mod ledger;
pub(crate) mod process;
mod settings;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Error;
use crate::netns::{Namespace, connect};
use crate::pages::Reserved;
use crate::ports::Device;
use crate::traffic::flows::Network;
use ledger::Ledger;
use process::Process;

/// What the links are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// Shared memory (net_memif), the gateway as server.
    Memif,
    /// Shared memory (net_vhost at the gateway, net_virtio_user here).
    Vhost,
    /// veth pairs, AF_PACKET at both ends.
    AfPacket,
    /// veth pairs, AF_XDP at the gateway, AF_PACKET here.
    AfXdp,
}

impl Kind {
    /// Name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memif => "memif",
            Self::Vhost => "vhost",
            Self::AfPacket => "af_packet",
            Self::AfXdp => "af_xdp",
        }
    }
}

/// How the lab is set up.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The links.
    pub kind: Kind,
    /// 4 or 6.
    pub family: u8,
    /// Flows that the gateway's table is made for, at least.
    pub flows: u32,
    /// Endpoints of the service.
    pub endpoints: u32,
    /// The gateway's CPU.
    pub cpu: u16,
    /// Folder of the gateway's binaries.
    pub binaries: PathBuf,
    /// Huge pages of 2 MiB to reserve for it; 0 = packet memory and region are on ordinary pages.
    pub huge_pages: u64,
    /// How long its worker sleeps when idle, in µs; 0 = it polls.
    pub idle_sleep_us: u32,
}

/// A running gateway and its surroundings.
#[derive(Debug)]
pub struct Lab {
    // Dropped from the top: what runs, then what it runs in.
    dataplane: Process,
    _controlplane: Process,
    ledger: Ledger,
    ends: Ends,
    _gateway: Namespace,
    _tester: Option<Namespace>,
    _region: TempDir,
    _reserved: Option<Reserved>,
    _directory: TempDir,
}

/// Where a generator and a sink are to stand.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The generator's device.
    pub outside: Device,
    /// The sink's device.
    pub inside: Device,
    /// The generator's own address, and the gateway's.
    pub client: IpAddr,
    /// See `client`.
    pub gateway: IpAddr,
    /// Where clients are.
    pub clients: Network,
    /// Where the service is.
    pub service: SocketAddr,
    /// Addresses that the sink answers for.
    pub answers: Vec<Network>,
}

impl Lab {
    /// Starts everything and waits until the gateway serves. With links of the kernel the calling
    /// thread moves into the namespace of the generator.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] without root or binaries; [`Error::Run`] with what a program said.
    pub fn start(plan: &Plan) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Usage(
                "--lab makes network namespaces and needs root".to_owned(),
            ));
        }
        let fail = |error: std::io::Error| Error::Run(format!("no folder for the lab: {error}"));
        // Short names: a socket's path has 108 bytes.
        let directory = tempfile::Builder::new()
            .prefix("perf-")
            .tempdir()
            .map_err(fail)?;
        let reserved = match plan.huge_pages {
            0 => None,
            count => Some(Reserved::new(count)?),
        };
        let memory = reserved
            .as_ref()
            .map_or(Path::new("/dev/shm"), Reserved::path);
        let region = tempfile::Builder::new()
            .prefix("perf-")
            .tempdir_in(memory)
            .map_err(fail)?;
        let gateway = Namespace::new("gateway")?;
        let tester = match plan.kind {
            Kind::Memif | Kind::Vhost => None,
            Kind::AfPacket | Kind::AfXdp => {
                let tester = Namespace::new("tester")?;
                connect((&tester, "outside"), (&gateway, "outside"))?;
                connect((&tester, "inside"), (&gateway, "inside"))?;
                Some(tester)
            }
        };
        let files = settings::write(plan, directory.path(), region.path()).map_err(fail)?;
        let start = |name: &str, ready: &str| {
            let mut command = gateway.command(plan.binaries.join(name));
            command.arg("--config").arg(&files.configuration);
            Process::start(name, command, ready, directory.path())
        };
        let dataplane = start("portgate-dataplane", "portgate-dataplane ready")?;
        let controlplane = start("portgate-controlplane", "portgate-controlplane synced")?;
        let ledger = Ledger::open(&files.region)?;
        if let Some(tester) = &tester {
            tester.enter()?;
        }
        Ok(Self {
            dataplane,
            _controlplane: controlplane,
            ledger,
            ends: settings::ends(plan, directory.path())?,
            _gateway: gateway,
            _tester: tester,
            _region: region,
            _reserved: reserved,
            _directory: directory,
        })
    }

    /// Where generator and sink stand.
    #[must_use]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The gateway's counters.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Fails if the gateway has ended meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] with its last words.
    pub fn check(&mut self) -> Result<(), Error> {
        self.dataplane.check()
    }
}
