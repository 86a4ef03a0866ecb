//! From settings to what DPDK and the engine take.

use std::net::IpAddr;
use std::path::Path;

use dpdk::{Eal, EalConfig, LcorePlan, LogLevel, Mempool, Port, PortConfig, PortDevice, Queue};
use engine::fan_out::Mode;
use engine::flow::Timeouts;
use engine::limits::Limits;
use engine::shared::{Choice, Options};
use engine::topology::{LinkConfig, MssClamp, StaticRoute, Topology};
use hugepages::host::Root;
use hugepages::host::cores;
use hugepages::host::pages::{self, TWO_MIB};
use hugepages::object::Prefix;
use settings::{BackendChoice, Device, FanOut, HugePages, Settings};

use crate::Error;

/// What a link has when nothing is said about it.
const ETHERNET_MTU: u16 = 1500;

/// Descriptors of each device queue.
const DESCRIPTORS: u16 = 1024;

/// Buffers that a worker may have in hand besides those in device queues: bursts, parked frames, its
/// mempool cache.
const BUFFERS_PER_WORKER: u32 = 2048;

/// Buffers in a worker's mempool cache (`RTE_MEMPOOL_CACHE_MAX_SIZE` is 512).
const CACHE: u32 = 256;

/// Links that a data plane can have: the engine's counters and neighbours know no more.
const MAX_LINKS: usize = engine::counters::MAX_LINKS;

/// Id of the group that the region's files are given to.
pub(crate) fn group(settings: &Settings) -> Result<Option<u32>, Error> {
    let Some(name) = &settings.region.group else {
        return Ok(None);
    };
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        Ok(None) => Err(Error::Unsuitable(format!(
            "region.group is \"{name}\": there is no such group; make it with `groupadd --system {name}`"
        ))),
        Err(error) => Err(Error::Unsuitable(format!(
            "region.group is \"{name}\": it cannot be looked up: {error}"
        ))),
    }
}

/// Makes this process a member of the region's group, so that it may give files to the group later,
/// without a capability. Whether it can is seen when it gives the first.
pub(crate) fn join_group(settings: &Settings) -> Result<(), Error> {
    let Some(group) = group(settings)?.map(nix::unistd::Gid::from_raw) else {
        return Ok(());
    };
    let mut groups = nix::unistd::getgroups().unwrap_or_default();
    if !groups.contains(&group) {
        groups.push(group);
        let _ = nix::unistd::setgroups(&groups);
    }
    Ok(())
}

/// What only a data plane demands of the settings.
pub(crate) fn check(settings: &Settings) -> Result<(), Error> {
    group(settings)?;
    if settings.links.is_empty() {
        return Err(Error::Unsuitable(
            "[[links]] is empty: a data plane needs one link".into(),
        ));
    }
    if settings.links.len() > MAX_LINKS {
        let count = settings.links.len();
        return Err(Error::Unsuitable(format!(
            "[[links]]: {count} links, at most {MAX_LINKS}"
        )));
    }
    Ok(())
}

/// Starts EAL: the main core first, then one lcore a worker.
pub(crate) fn start_eal(settings: &Settings) -> Result<Eal, Error> {
    let workers = &settings.workers;
    let mut lcores = vec![LcorePlan { id: 0, cpu: None }];
    for worker in 0..workers.count {
        let cpu = workers.cores.get(usize::from(worker)).copied();
        lcores.push(LcorePlan {
            id: u32::from(worker) + 1,
            cpu,
        });
    }
    let links = settings.links.iter();
    let pci_allow = links.flat_map(|link| link.device.pci_addresses());
    let config = EalConfig {
        huge_pages: huge_pages(settings)?,
        memory_mb: settings.region.packet_memory_mb,
        lcores,
        vdevs: Vec::new(),
        pci_allow: pci_allow.collect(),
        file_prefix: format!("portgate-{}", std::process::id()),
        log_level: LogLevel::Warning,
    };
    Ok(Eal::init(&config)?)
}

/// Whether packet memory is to be on huge pages.
fn huge_pages(settings: &Settings) -> Result<bool, Error> {
    let wanted = u64::from(settings.region.packet_memory_mb);
    let free = free_huge_mb(&Root::default());
    match settings.region.huge_pages {
        HugePages::Off => Ok(false),
        HugePages::Auto if free >= wanted => Ok(true),
        HugePages::Auto => {
            tracing::info!(
                free_mb = free,
                wanted_mb = wanted,
                "too few free huge pages: packet memory is on ordinary pages, which is slower"
            );
            Ok(false)
        }
        HugePages::Require if free >= wanted => Ok(true),
        HugePages::Require => Err(Error::Unsuitable(format!(
            "region.huge_pages = \"require\": {wanted} MiB of 2 MiB huge pages are needed and \
             {free} MiB are free; reserve them (portgate-hugepages reserve) or set \"auto\""
        ))),
    }
}

fn free_huge_mb(root: &Root) -> u64 {
    pages::pool(root, None, TWO_MIB).map_or(0, |pool| pool.free * TWO_MIB / 1024)
}

/// A link with its device open.
pub(crate) struct OpenLink {
    pub(crate) port: Port,
    pub(crate) queues: Vec<Queue>,
}

/// Buffers for every link's frames.
pub(crate) fn make_pool(eal: &Eal, settings: &Settings) -> Result<Mempool, Error> {
    let workers = u32::from(settings.workers.count);
    let mut data_room = 0;
    for link in &settings.links {
        let needed = device(&link.device).data_room(link.mtu);
        data_room = data_room.max(needed.map_err(of_link(link))?);
    }
    let in_queues = settings.links.len() as u32 * workers * 2 * u32::from(DESCRIPTORS);
    let count = in_queues + (workers + 1) * BUFFERS_PER_WORKER;
    if let Some(node) = cores::nics_node(&Root::default(), settings) {
        match Mempool::on_node(eal, "frames", count, data_room, CACHE, node) {
            Ok(pool) => return Ok(pool),
            Err(error) => tracing::warn!(
                "packet memory is not on NUMA node {node}, where the NICs are, which is slower: {error}"
            ),
        }
    }
    Ok(Mempool::new(eal, "frames", count, data_room, CACHE)?)
}

/// Opens a link's device, with a queue pair for each worker if the device has so many.
pub(crate) fn open_link(
    eal: &Eal,
    settings: &Settings,
    pool: &Mempool,
    link: &settings::Link,
) -> Result<OpenLink, Error> {
    let config = PortConfig {
        rx_queues: settings.workers.count,
        tx_queues: settings.workers.count,
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
        mtu: link.mtu,
        mac: link.mac,
        promiscuous: false,
    };
    let opened = Port::open(eal, &device(&link.device), &config, pool);
    let (port, queues) = opened.map_err(of_link(link))?;
    warn_of_kernel_addresses(link);
    check_mtu(link, port.info().mtu)?;
    Ok(OpenLink { port, queues })
}

/// Jumbo frames were asked for by name, so less is no answer; of an ordinary MTU the device's own is used.
fn check_mtu(link: &settings::Link, mtu: u16) -> Result<(), Error> {
    if link.mtu <= ETHERNET_MTU || link.mtu <= mtu {
        return Ok(());
    }
    let (name, device, wanted) = (&link.name, &link.device, link.mtu);
    let or_raise = match device {
        Device::AfPacket(_) | Device::AfXdp(_) => {
            format!(", or the interface's own MTU to {wanted}")
        }
        Device::Pci(_) | Device::Vdev(_) => String::new(),
    };
    Err(Error::Unsuitable(format!(
        "link {name}: mtu is {wanted}, and {device} has at most {mtu}: set links.mtu to {mtu}{or_raise}"
    )))
}

/// Whether two processes may have the link open at a time, each getting every frame. Others can be
/// bound once (AF_XDP to a queue, vfio to a device, a tap to its interface), or are one end of a wire.
pub(crate) fn is_shareable(link: &settings::Link) -> bool {
    matches!(link.device, Device::AfPacket(_)) && link.kernel_interface.is_none()
}

/// Refuses a link whose device is not on this machine, before a data plane that serves is asked to leave.
pub(crate) fn expect_device(link: &settings::Link) -> Result<(), Error> {
    let is_there = match &link.device {
        Device::AfPacket(interface) | Device::AfXdp(interface) => {
            nix::net::if_::if_nametoindex(interface.as_str()).is_ok()
        }
        Device::Pci(address) => Path::new("/sys/bus/pci/devices").join(address).exists(),
        Device::Vdev(_) => true,
    };
    if is_there {
        return Ok(());
    }
    Err(Error::Unsuitable(format!(
        "--takeover: link {}: this machine has no {}; the data plane that serves goes on",
        link.name, link.device
    )))
}

/// An interface with addresses in the kernel is answered for twice, and connections meet resets by chance.
fn warn_of_kernel_addresses(link: &settings::Link) {
    let (Device::AfPacket(interface) | Device::AfXdp(interface)) = &link.device else {
        return;
    };
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses: Vec<IpAddr> = all
        .filter(|each| each.interface_name == *interface)
        .filter_map(|each| {
            let address = each.address?;
            let v4 = address.as_sockaddr_in().map(|socket| socket.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|socket| socket.ip().into()))
        })
        .collect();
    if !addresses.is_empty() {
        tracing::warn!(
            ?addresses,
            "link {}: {interface} has addresses in the kernel, which answers beside the gateway: take them away (ip \
             address flush dev {interface}), and turn IPv6 off on it",
            link.name
        );
    }
}

fn of_link(link: &settings::Link) -> impl FnOnce(dpdk::Error) -> Error + use<> {
    let link = link.name.clone();
    move |source| Error::Link { link, source }
}

fn device(device: &Device) -> PortDevice {
    match device {
        Device::AfPacket(interface) => PortDevice::AfPacket(interface.clone()),
        Device::AfXdp(interface) => PortDevice::AfXdp(interface.clone()),
        Device::Pci(address) => PortDevice::Pci(address.clone()),
        Device::Vdev(arguments) => PortDevice::Vdev(arguments.clone()),
    }
}

/// Links and routes for the engine, with what the devices turned out to have.
pub(crate) fn topology(settings: &Settings, open: &[OpenLink]) -> Topology {
    let links = settings
        .links
        .iter()
        .zip(open)
        .map(|(link, open)| LinkConfig {
            name: link.name.clone(),
            mac: link.mac.unwrap_or(open.port.info().mac),
            vlan: link.vlan,
            mtu: open.port.info().mtu.min(link.mtu),
            mss_clamp: match link.mss_clamp {
                settings::MssClamp::Off => MssClamp::Off,
                settings::MssClamp::Auto => MssClamp::Auto,
                settings::MssClamp::Size(size) => MssClamp::Size(size),
            },
            addresses: link
                .addresses
                .iter()
                .map(|net| (net.addr(), net.prefix_len()))
                .collect(),
        });
    let index = |name: &str| settings.links.iter().position(|link| link.name == name);
    let routes = settings.routes.iter().map(|route| StaticRoute {
        to: Prefix {
            address: route.to.network(),
            length: route.to.prefix_len(),
        },
        via: route.via,
        link: route.link.as_deref().and_then(index).map(|at| at as u8),
    });
    Topology {
        links: links.collect(),
        routes: routes.collect(),
    }
}

/// How a link's frames are dealt out to workers that have no receive queue of it.
pub(crate) fn fan_out(link: &settings::Link) -> Option<Mode> {
    match link.fan_out {
        FanOut::Off => None,
        FanOut::Auto => Some(Mode::Auto),
        FanOut::Even => Some(Mode::Even),
    }
}

/// The engine's options.
pub(crate) fn options(settings: &Settings) -> Options {
    Options {
        choice: match settings.gateway.backend_choice {
            BackendChoice::Maglev => Choice::Maglev,
            BackendChoice::Random => Choice::Random,
            BackendChoice::LeastConnections => Choice::LeastConnections,
        },
        maglev_seed: settings.gateway.maglev_seed,
        nodeport_range: settings.gateway.nodeport_range,
        timeouts: Timeouts::default(),
        limits: Limits {
            half_open_percent: settings.limits.half_open_percent,
            half_open_per_service_percent: settings.limits.half_open_per_service_percent,
            new_flows_per_source: settings.limits.new_flows_per_source,
            new_flows_per_service: settings.limits.new_flows_per_service,
            workers: settings.workers.count,
        },
        endpoint_counters: settings.limits.endpoint_counters,
    }
}

/// A line about what a link got, for the log.
pub(crate) fn describe(link: &settings::Link, open: &OpenLink) -> String {
    let info = open.port.info();
    let [a, b, c, d, e, f] = link.mac.unwrap_or(info.mac);
    let addresses: Vec<String> = link
        .addresses
        .iter()
        .map(|net| IpAddr::to_string(&net.addr()))
        .collect();
    format!(
        "link {}: {} driver {} mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} mtu {} \
         rx queues {}{} tx queues {} descriptors {}/{} checksums by software addresses {}",
        link.name,
        link.device,
        info.driver,
        info.mtu.min(link.mtu),
        info.rx_queues,
        if info.rss { " by RSS" } else { "" },
        info.tx_queues,
        info.rx_descriptors,
        info.tx_descriptors,
        if addresses.is_empty() {
            "none".into()
        } else {
            addresses.join(" ")
        },
    )
}
