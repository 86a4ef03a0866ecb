//! Settings of every Portgate command: one file, one set of types, one validation.
//!
//! Two steps, two types: what was typed ([`raw`]), then what it means (this module). Validation
//! happens in the second step alone, and every message names key, value and rule. The file is
//! TOML; environment variables `PORTGATE__SECTION__KEY` come after it; unknown keys are errors.

pub mod raw;

mod check;
mod device;
mod error;
mod forms;
mod load;
#[cfg(feature = "log")]
pub mod log;
mod place;
#[cfg(feature = "reference")]
pub mod reference;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub use check::{MAX_WORKERS, validate};
pub use device::Device;
pub use error::Error;
pub use load::{load, load_str};

/// Where the configuration is looked for when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/portgate/portgate.toml";

/// Everything a Portgate process needs to know, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `[region]`: the shared memory between the processes.
    pub region: Region,
    /// `[gateway]`: what this gateway is to the cluster.
    pub gateway: Gateway,
    /// `[[links]]`: the NIC sides, in the order of the file; names are unique.
    pub links: Vec<Link>,
    /// `[[routes]]`: static routes.
    pub routes: Vec<Route>,
    /// `[workers]`: the poll-mode cores.
    pub workers: Workers,
    /// `[limits]`: how many new flows are taken.
    pub limits: Limits,
    /// `[dataplane]`: the data plane's process.
    pub dataplane: DataPlane,
    /// `[source]`: where Services come from.
    pub source: Source,
    /// `[metrics]`: the control plane's HTTP listener for `/metrics`, `/readyz` and `/livez`.
    pub metrics: Metrics,
    /// `[status]`: the control plane's page for a browser.
    pub status: Status,
    /// `[log]`: what both processes write on standard error.
    pub log: Log,
    /// `[dns]`: the control plane's DNS responder.
    pub dns: Dns,
}

/// `[region]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// File of the region (hugetlbfs or tmpfs). Default `/dev/shm/portgate/region`.
    pub path: PathBuf,
    /// Group (name or number) whose members may attach as control plane and look as operators;
    /// `None` = the data plane's own group.
    pub group: Option<String>,
    /// Whether DPDK's memory (and the region, if on hugetlbfs) uses huge pages.
    pub huge_pages: HugePages,
    /// IPv4 flows the table is made for (each is two entries). Default 1,048,576.
    pub flows: u32,
    /// IPv6 flows the table is made for. Default: a quarter of `flows`.
    pub flows_v6: u32,
    /// DPDK packet memory in MiB. Default 256.
    pub packet_memory_mb: u32,
}

/// `region.huge_pages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// Use them if enough are free, else ordinary pages, and say so.
    Auto,
    /// Refuse to start without them.
    Require,
    /// Never.
    Off,
}

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Node of the cluster, or an edge gateway that is none.
    pub mode: Mode,
    /// Name of the Node object that this gateway is (mode `node`), or stands in for.
    pub node_name: Option<String>,
    /// Topology zone; the Node object's label wins over it.
    pub zone: Option<String>,
    /// The gateway's own addresses; the first of each family is its primary one. Defaults to the
    /// addresses of the links, in order, without link-local ones.
    pub addresses: Vec<IpAddr>,
    /// Prefixes whose own addresses serve NodePorts; `None` = the primary address of each family.
    pub nodeport_addresses: Option<Vec<IpNet>>,
    /// Ports that NodePorts are allocated from (never used as SNAT ports): first and last.
    /// Default 30000-32767.
    pub nodeport_range: (u16, u16),
    /// Pod networks; empty = no way to tell pods from others.
    pub cluster_cidrs: Vec<IpNet>,
    /// Service networks; empty = unknown.
    pub service_cidrs: Vec<IpNet>,
    /// Masquerade everything sent to a ClusterIP.
    pub masquerade_all: bool,
    /// Serve `spec.externalIPs`. Default true.
    pub external_ips: bool,
    /// Addresses to masquerade with, instead of the egress link's own.
    pub snat_addresses: Vec<IpAddr>,
    /// How a backend is chosen.
    pub backend_choice: BackendChoice,
    /// Seed of the Maglev tables; the same on every gateway of a group.
    pub maglev_seed: u64,
    /// Serve only Services whose `service.kubernetes.io/service-proxy-name` is this; `None` =
    /// those without the label.
    pub service_proxy_name: Option<String>,
}

/// `gateway.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No node of the cluster: no endpoint is local.
    Edge,
    /// The node `node_name`: Kubernetes semantics are literal.
    Node,
}

/// `gateway.backend_choice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendChoice {
    /// Consistent hashing; the same choice on every gateway with the same seed.
    Maglev,
    /// Uniformly random for each flow.
    Random,
    /// Of two random backends the one with fewer open flows.
    LeastConnections,
}

/// One `[[links]]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Name that counters, routes and messages use; 1–15 of `[A-Za-z0-9_.-]`.
    pub name: String,
    /// The device behind it.
    pub device: Device,
    /// Own addresses with the prefix length of the connected network.
    pub addresses: Vec<IpNet>,
    /// MAC address to use instead of the device's.
    pub mac: Option<[u8; 6]>,
    /// VLAN id (1–4094) of every frame on this link; `None` = untagged.
    pub vlan: Option<u16>,
    /// MTU in bytes (IP packet, without Ethernet header). Default 1500.
    pub mtu: u16,
    /// What segment size TCP connections through the link may agree upon. Default: any.
    pub mss_clamp: MssClamp,
    /// How frames reach workers that have no receive queue of the link. Default: not at all.
    pub fan_out: FanOut,
    /// Tap interface by which the host's own programs use the link; made if there is none. `None` = they do not.
    pub kernel_interface: Option<String>,
}

/// `links.fan_out`: how frames of a link reach workers that have no rx queue of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FanOut {
    /// `off`: not at all, or every worker has one.
    #[default]
    Off,
    /// `auto`: those that receive deal out what they cannot keep up with.
    Auto,
    /// `even`: those that receive deal out to all workers alike.
    Even,
}

/// `links.mss_clamp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MssClamp {
    /// `off`: what the two sides say.
    Off,
    /// `auto`: at most what fits the smaller MTU of the two links that the connection passes.
    Auto,
    /// At most so many bytes, 88 to 8960.
    Size(u16),
}

/// One `[[routes]]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Destination prefix.
    pub to: IpNet,
    /// Next hop; `None` = destinations are on the link itself.
    pub via: Option<IpAddr>,
    /// Name of the link; `None` = the link whose connected network holds `via`.
    pub link: Option<String>,
}

/// `[workers]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Workers {
    /// CPUs to pin one worker each to. Empty: `count` workers float over all allowed CPUs.
    pub cores: Vec<u16>,
    /// Number of workers; equals `cores.len()` when cores are given. Default 1.
    pub count: u16,
    /// Microseconds an idle worker sleeps between polls once it has seen nothing for a while;
    /// 0 (default) = never sleep.
    pub idle_sleep_us: u32,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Flows whose handshake is not complete, in all: percent of the flows that each family's table is made for.
    /// Each worker has an equal share. When there are more, the oldest of the service that has most goes.
    /// Default 50.
    pub half_open_percent: u8,
    /// The same for one service; when there are more, its oldest goes. Default 25.
    pub half_open_per_service_percent: u8,
    /// New flows a second that one source (an IPv4 address, an IPv6 /64) may open, and twice as many after a
    /// pause; 0 (default) = any number.
    pub new_flows_per_source: u32,
    /// New flows a second that one service port may get, and twice as many after a pause; 0 (default) =
    /// any number.
    pub new_flows_per_service: u32,
    /// Frames a second that each worker gives to the host's kernel, of links with a `kernel_interface`. Default 5,000.
    pub kernel_frames: u32,
    /// Endpoints that have counters of their own, 0–262,144. Default 4,096.
    pub endpoint_counters: u32,
}

/// `[dataplane]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPlane {
    /// What becomes of system calls that a started data plane does not need.
    pub seccomp: Seccomp,
}

/// `dataplane.seccomp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seccomp {
    /// They fail. The default.
    On,
    /// They pass, and the kernel logs them.
    Log,
    /// They pass.
    Off,
}

/// `[source]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A directory of manifests, watched for changes.
    Manifests {
        /// The directory.
        path: PathBuf,
    },
    /// A Kubernetes API server.
    Kubernetes {
        /// Kubeconfig; `None` = the usual places, else in-cluster credentials.
        kubeconfig: Option<PathBuf>,
    },
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// Listen address; default 127.0.0.1:9102.
    pub listen: std::net::SocketAddr,
    /// Most series of one metric with a label of a service or an endpoint; how many more there would be is a
    /// metric itself. Default 2,000.
    pub max_series: usize,
}

/// `[status]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Who may see the page that the control plane serves at `metrics.listen`.
    pub page: StatusPage,
}

/// `status.page`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPage {
    /// Clients on this host, whatever `metrics.listen` is. The default.
    Local,
    /// Whoever reaches `metrics.listen`.
    Anywhere,
    /// Nobody.
    Off,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// Least important events that are written. `RUST_LOG`, if set, decides instead.
    pub level: LogLevel,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people. The default.
    Text,
    /// One JSON object a line.
    Json,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What happens once: starts, ends, listings. The default.
    Info,
    /// Only what somebody should do something about.
    Warn,
    /// Only what fails.
    Error,
    /// Every update, too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Addresses and ports at which names of Services are answered, over UDP and TCP. Default: none, no responder.
    pub listen: Vec<std::net::SocketAddr>,
    /// Domain below which they are, in lower case. Default `cluster.local`.
    pub cluster_domain: String,
    /// Seconds that an answer may be kept, 0 to 3600. Default 5.
    pub ttl: u32,
    /// Addresses of a Service that has ClusterIPs and load-balancer addresses.
    pub prefer: DnsPrefer,
}

/// `dns.prefer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsPrefer {
    /// ClusterIPs, as inside the cluster. The default.
    ClusterIp,
    /// Load-balancer addresses, where there are any.
    LoadBalancer,
}
