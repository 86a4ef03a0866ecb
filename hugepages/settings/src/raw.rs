//! What was typed: the file's tables as they stand there, with nothing but their types checked.
//!
//! Every key is optional here, except those without which a list entry means nothing.
//!
//! The comments are the text of docs/configuration.md (`crate::reference`). The last paragraph of a key's comment has
//! its `Unit` (numbers alone), its `Default` (in backticks if it can be typed so) and who it is `Read by`, unless that
//! stands in its table's comment.

use serde::Deserialize;

pub use crate::forms::{Flag, Int, List};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)] // the types say what they are
pub struct Settings {
    pub region: Region,
    pub gateway: Gateway,
    pub links: Vec<Link>,
    pub routes: Vec<Route>,
    pub workers: Workers,
    pub limits: Limits,
    pub dataplane: DataPlane,
    pub source: Source,
    pub metrics: Metrics,
    pub status: Status,
    pub log: Log,
    pub dns: Dns,
}

/// The shared memory between the processes, and the memory of the data plane.
///
/// Read by: data plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Region {
    /// File of the region, on a tmpfs or a hugetlbfs. The data plane makes it, and a folder for it; a second file beside it holds what
    /// the control plane says. Two gateways on one machine need two regions.
    ///
    /// Default: `"/dev/shm/portgate/region"`. Read by: data plane, control plane, portgate, portgate-hugepages.
    pub path: Option<String>,
    /// Group, by name or number, whose members may run the control plane and `portgate`. Without it that is the data plane's
    /// own group alone.
    ///
    /// Default: none.
    pub group: Option<String>,
    /// Whether packet memory is on huge pages of 2 MiB. `auto` uses them if enough are free and says so if not; with `require` the
    /// data plane does not start without them.
    ///
    /// Default: `"auto"`. Read by: data plane, portgate-hugepages.
    pub huge_pages: Option<String>,
    /// Flows over IPv4 at a time that the table is made for. The region takes the memory; another number begins a
    /// new region, without the flows of the old one.
    ///
    /// Unit: flows. Default: `1048576`. Read by: data plane, portgate-hugepages.
    pub flows: Option<Int>,
    /// The same for IPv6.
    ///
    /// Unit: flows. Default: a quarter of `flows`, 1024 at least. Read by: data plane, portgate-hugepages.
    pub flows_v6: Option<Int>,
    /// Memory for packets: the buffers of all links' queues.
    ///
    /// Unit: MiB. Default: `256`. Read by: data plane, portgate-hugepages.
    pub packet_memory_mb: Option<Int>,
}

/// What this gateway is to the cluster. Everything in it decides what `portgate explain` answers.
///
/// Read by: control plane, portgate.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// `edge`: no node of the cluster, so no endpoint is local. `node`: the node that `node_name` names, and Kubernetes' rules hold
    /// to the letter. [What that changes](semantics.md#modes).
    ///
    /// Default: `"edge"`.
    pub mode: Option<String>,
    /// Name of the Node object that the gateway is; needed in mode `node`. In mode `edge` it names the node whose endpoints
    /// `internalTrafficPolicy: Local` means.
    ///
    /// Default: none.
    pub node_name: Option<String>,
    /// Topology zone, for hints of zones. The label `topology.kubernetes.io/zone` of the Node wins over it.
    ///
    /// Default: none.
    pub zone: Option<String>,
    /// The gateway's own addresses. The first of each family is the primary one: NodePorts are served there.
    ///
    /// Default: the addresses of the links, in order, without link-local ones.
    pub addresses: Option<List<String>>,
    /// Networks whose own addresses serve NodePorts, and answer health checks, instead of the primary ones.
    ///
    /// Default: none.
    pub nodeport_addresses: Option<List<String>>,
    /// The cluster's `--service-node-port-range`. Its ports are not used to masquerade with.
    ///
    /// Default: `"30000-32767"`. Read by: data plane, control plane, portgate.
    pub nodeport_range: Option<String>,
    /// Networks of pods. What comes from elsewhere to a ClusterIP is masqueraded; without this key nobody is a pod, and nothing is.
    ///
    /// Default: `[]`.
    pub cluster_cidrs: Option<List<String>>,
    /// Networks of ClusterIPs, beside those of ServiceCIDR objects. What is sent to an address in them that no Service has is dropped.
    ///
    /// Default: `[]`.
    pub service_cidrs: Option<List<String>>,
    /// Masquerade everything that is sent to a ClusterIP.
    ///
    /// Default: `false`.
    pub masquerade_all: Option<Flag>,
    /// Serve `spec.externalIPs`.
    ///
    /// Default: `true`.
    pub external_ips: Option<Flag>,
    /// Addresses to masquerade with, instead of those of the link by which the frame leaves. Answers to them must come to
    /// the gateway.
    ///
    /// Default: `[]`.
    pub snat_addresses: Option<List<String>>,
    /// How a new flow's endpoint is chosen. `maglev`: by a hash of the flow, the same on every gateway with the same
    /// `maglev_seed`; `random`; `least_connections`: of two by chance, the one with fewer open flows.
    ///
    /// Default: `"maglev"`. Read by: data plane.
    pub backend_choice: Option<String>,
    /// Seed of `maglev`: any number, the same on all gateways of a group.
    ///
    /// Unit: none. Default: `0`. Read by: data plane, portgate.
    pub maglev_seed: Option<Int>,
    /// Serve the Services with this value of the label `service.kubernetes.io/service-proxy-name`. Without it, those
    /// without the label.
    ///
    /// Default: none.
    pub service_proxy_name: Option<String>,
}

/// A side of the gateway towards a network. A gateway has one or more; with one, clients and pods are reached by the same.
///
/// Read by: data plane.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Name in counters, routes and messages; no two links have the same.
    pub name: String,
    /// What it is made of: an interface of the kernel, by AF_PACKET or AF_XDP, which then belongs to the gateway and must have no
    /// addresses; a NIC that vfio-pci drives; or any other device of DPDK, by DPDK's own arguments.
    ///
    /// Read by: data plane, portgate-hugepages.
    pub device: String,
    /// The gateway's own addresses on this link, each with the length of the connected network's prefix.
    ///
    /// Default: `[]`. Read by: data plane, control plane, portgate.
    #[serde(default)]
    pub addresses: Option<List<String>>,
    /// MAC address, instead of the device's own.
    ///
    /// Default: none.
    #[serde(default)]
    pub mac: Option<String>,
    /// VLAN that every frame of this link is tagged with (IEEE 802.1Q).
    ///
    /// Unit: VLAN id. Default: none, which means untagged frames.
    #[serde(default)]
    pub vlan: Option<Int>,
    /// Longest IP packet; with an IPv6 address on the link, 1280 at least. Neighbours must have no larger one.
    ///
    /// Unit: bytes. Default: `1500`.
    #[serde(default)]
    pub mtu: Option<Int>,
    /// What segment size TCP connections through this link may agree upon. `off`: what the ends say; `auto`: at most what fits
    /// the smaller MTU of the two links; or at most so many bytes, as text.
    ///
    /// Default: `"off"`.
    #[serde(default)]
    pub mss_clamp: Option<String>,
    /// Whether workers that have no receive queue of this link get frames of it, by software, from those that have one. `off`:
    /// none; `auto`: as many as these cannot keep up with; `even`: always, all workers alike. A flow's frames stay in order.
    ///
    /// Default: `"off"`.
    #[serde(default)]
    pub fan_out: Option<String>,
    /// Tap interface by which programs of the gateway's own machine (BGP, SSH) use the link's addresses. It is made if there is
    /// none, with the link's MAC address; its addresses and its state are the operator's to set. No two links have the same, and
    /// a link with a `vlan` has none.
    ///
    /// Default: none.
    #[serde(default)]
    pub kernel_interface: Option<String>,
}

/// A way to networks that no link is connected to. In a cluster the networks of pods of each Node come by themselves.
///
/// Read by: data plane.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` for everything else. No two routes have the same.
    pub to: String,
    /// Next hop: a neighbour on a link, of the destination's family. Without it the destination is on the link itself.
    ///
    /// Default: none; `via` or `link` must be there.
    #[serde(default)]
    pub via: Option<String>,
    /// Name of the link. Without it, the one whose connected network holds `via`.
    ///
    /// Default: none.
    #[serde(default)]
    pub link: Option<String>,
}

/// The threads that carry frames.
///
/// Read by: data plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// CPUs, each of which gets one worker for itself. Without it workers run wherever the scheduler puts them. At most 16.
    ///
    /// Unit: CPU number. Default: `[]`.
    pub cores: Option<List<Int>>,
    /// How many workers there are, if `cores` does not say it.
    ///
    /// Unit: workers. Default: `1`.
    pub count: Option<Int>,
    /// How long a worker without frames sleeps between two looks. 0 means never: a worker then uses all of its CPU, always.
    ///
    /// Unit: microseconds. Default: `0`.
    pub idle_sleep_us: Option<Int>,
}

/// How many new flows are taken.
///
/// Read by: data plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Flows whose handshake is not complete, in each table. When there are more, the oldest of the service that has
    /// most goes. Each worker has an equal share.
    ///
    /// Unit: percent of `region.flows`, `region.flows_v6`. Default: `50`.
    pub half_open_percent: Option<Int>,
    /// The same for one service, whose oldest goes; at most `half_open_percent`.
    ///
    /// Unit: percent of `region.flows`, `region.flows_v6`. Default: `25`, or `half_open_percent` if that is less.
    pub half_open_per_service_percent: Option<Int>,
    /// New flows of one source, which is an IPv4 address or an IPv6 network of 64 bits. After a pause, twice as many. 0 means
    /// any number.
    ///
    /// Unit: flows a second. Default: `0`.
    pub new_flows_per_source: Option<Int>,
    /// New flows of one port of a service. After a pause, twice as many. 0 means any number.
    ///
    /// Unit: flows a second. Default: `0`.
    pub new_flows_per_service: Option<Int>,
    /// Frames that each worker gives to the kernel, of links with a `kernel_interface`; what is more is dropped (`host_limit`).
    ///
    /// Unit: frames a second. Default: `5000`.
    pub kernel_frames: Option<Int>,
    /// Endpoints of services with counters of their own, while the region has slots for them: four with each slot for a service. An
    /// endpoint gets them with its first flow; what goes to others is counted by their services alone. Counters of far
    /// more than 4,096 endpoints, if all have traffic, do not fit a core's cache, and frames take longer. 0 means none.
    ///
    /// Unit: endpoints. Default: `4096`.
    pub endpoint_counters: Option<Int>,
}

/// The process of the data plane.
///
/// Read by: data plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DataPlane {
    /// What becomes of system calls that a started data plane does not need. `on`: they fail; `log`: they pass, and the kernel
    /// logs them; `off`: they pass.
    ///
    /// Default: `"on"`.
    pub seccomp: Option<String>,
}

/// Where Services come from.
///
/// Read by: control plane, portgate.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// A directory of manifests, which is watched for changes, or a cluster's API server.
    ///
    /// Default: `"manifests"`.
    pub kind: Option<String>,
    /// The directory, if `kind` is `manifests`: files `*.yaml`, `*.yml` and `*.json`, as `kubectl get -o yaml` writes them.
    ///
    /// Default: `"/etc/portgate/manifests"`.
    pub path: Option<String>,
    /// File with the way to the API server, if `kind` is `kubernetes`. Without it, the usual places (`$KUBECONFIG`,
    /// `~/.kube/config`), or what a pod is given.
    ///
    /// Default: none. Read by: control plane.
    pub kubeconfig: Option<String>,
}

/// The control plane's HTTP server: `/metrics`, `/readyz`, `/livez` and the status page.
///
/// Read by: control plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and TCP port, of the host's own network.
    ///
    /// Default: `"127.0.0.1:9102"`. Read by: control plane, portgate.
    pub listen: Option<String>,
    /// Most series of one metric with a label of a service or an endpoint; how many are left out is a metric itself.
    ///
    /// Unit: series. Default: `2000`.
    pub max_series: Option<Int>,
}

/// The page for a browser, at the address in `metrics.listen`.
///
/// Read by: control plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// Who may see it. `local`: clients on the same host; `anywhere`: whoever reaches the address; `off`: nobody.
    ///
    /// Default: `"local"`.
    pub page: Option<String>,
}

/// What both processes write on standard error.
///
/// Read by: data plane, control plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Lines for people, or one JSON object a line.
    ///
    /// Default: `"text"`.
    pub format: Option<String>,
    /// Least important events that are written. The environment variable `RUST_LOG`, if set, decides instead.
    ///
    /// Default: `"info"`.
    pub level: Option<String>,
}

/// Answers for [names of Services](dns.md), for clients outside the cluster.
///
/// Read by: control plane.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "reference", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Addresses and ports, over UDP and TCP, of the host's own network. None means no responder.
    ///
    /// Default: `[]`.
    pub listen: Option<List<String>>,
    /// Domain below which the names are.
    ///
    /// Default: `"cluster.local"`.
    pub cluster_domain: Option<String>,
    /// How long an answer may be kept.
    ///
    /// Unit: seconds. Default: `5`.
    pub ttl: Option<Int>,
    /// Which addresses a Service with both kinds has.
    ///
    /// Default: `"cluster_ip"`.
    pub prefer: Option<String>,
}
