//! The second step: from what was typed to what it means. Every rule lives here.

mod network;
mod value;

use std::net::IpAddr;
use std::path::PathBuf;

use crate::error::Error;
use crate::{
    BackendChoice, DataPlane, Dns, DnsPrefer, Gateway, HugePages, Limits, Link, Log, LogFormat,
    LogLevel, Metrics, Mode, Region, Seccomp, Settings, Source, Status, StatusPage, Workers, raw,
};
use value::{choice, cidrs, number, own_addresses, unicast_addresses, wrong};

/// Most workers that one gateway runs: the region has this many sets of counters at most.
pub const MAX_WORKERS: usize = 16;

/// Checks every rule and fills in the defaults.
///
/// # Errors
///
/// [`Error`] for the first key, in the order of the sections, that breaks its rule.
pub fn validate(typed: raw::Settings) -> Result<Settings, Error> {
    let links = network::links(&typed.links)?;
    let routes = network::routes(&typed.routes, &links)?;
    Ok(Settings {
        region: region(&typed.region)?,
        gateway: gateway(&typed.gateway, &links)?,
        workers: workers(&typed.workers)?,
        limits: limits(&typed.limits)?,
        dataplane: data_plane(&typed.dataplane)?,
        source: source(&typed.source)?,
        metrics: metrics(&typed.metrics)?,
        status: status(&typed.status)?,
        log: log(&typed.log)?,
        dns: dns(&typed.dns)?,
        links,
        routes,
    })
}

fn region(typed: &raw::Region) -> Result<Region, Error> {
    let path = typed.path.as_deref().unwrap_or("/dev/shm/portgate/region");
    if !path.starts_with('/') || path.ends_with('/') {
        // Two processes with two working directories must arrive at the same file.
        return Err(wrong("region.path", path, "be the absolute path of a file"));
    }
    let flows_range = 1024..=1 << 26;
    let flows = number("region.flows", typed.flows, 1 << 20, flows_range.clone())?;
    let quarter = (flows / 4).max(*flows_range.start());
    Ok(Region {
        path: PathBuf::from(path),
        group: group(typed.group.as_deref())?,
        huge_pages: choice(
            "region.huge_pages",
            typed.huge_pages.as_deref(),
            &[
                ("auto", HugePages::Auto),
                ("require", HugePages::Require),
                ("off", HugePages::Off),
            ],
        )?,
        flows,
        flows_v6: number("region.flows_v6", typed.flows_v6, quarter, flows_range)?,
        packet_memory_mb: number(
            "region.packet_memory_mb",
            typed.packet_memory_mb,
            256,
            16..=262_144,
        )?,
    })
}

/// Whether the system knows it is for the data plane to find out.
fn group(typed: Option<&str>) -> Result<Option<String>, Error> {
    let Some(text) = typed else { return Ok(None) };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if (1..=32).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
        Ok(Some(text.to_owned()))
    } else {
        Err(wrong(
            "region.group",
            text,
            "be the name or number of a group",
        ))
    }
}

fn gateway(typed: &raw::Gateway, links: &[Link]) -> Result<Gateway, Error> {
    let mode = choice(
        "gateway.mode",
        typed.mode.as_deref(),
        &[("edge", Mode::Edge), ("node", Mode::Node)],
    )?;
    let node_name = name("gateway.node_name", typed.node_name.as_deref())?;
    if mode == Mode::Node && node_name.is_none() {
        return Err(Error::Missing {
            key: "gateway.node_name".to_owned(),
            rule: "gateway.mode = \"node\" needs the name of the Node that the gateway is"
                .to_owned(),
        });
    }
    let addresses = match &typed.addresses {
        Some(list) => own_addresses("gateway.addresses", list)?,
        None => links
            .iter()
            .flat_map(|link| link.addresses.iter().map(ipnet::IpNet::addr))
            .filter(|address| !value::is_link_local(*address))
            .collect(),
    };
    let nodeport_addresses = match &typed.nodeport_addresses {
        Some(list) => Some(cidrs("gateway.nodeport_addresses", Some(list))?),
        None => None,
    };
    Ok(Gateway {
        mode,
        node_name,
        zone: name("gateway.zone", typed.zone.as_deref())?,
        addresses,
        nodeport_addresses,
        nodeport_range: nodeport_range(typed.nodeport_range.as_deref())?,
        cluster_cidrs: cidrs("gateway.cluster_cidrs", typed.cluster_cidrs.as_ref())?,
        service_cidrs: cidrs("gateway.service_cidrs", typed.service_cidrs.as_ref())?,
        masquerade_all: typed.masquerade_all.is_some_and(|flag| flag.0),
        external_ips: typed.external_ips.is_none_or(|flag| flag.0),
        snat_addresses: snat_addresses(typed)?,
        backend_choice: choice(
            "gateway.backend_choice",
            typed.backend_choice.as_deref(),
            &[
                ("maglev", BackendChoice::Maglev),
                ("random", BackendChoice::Random),
                ("least_connections", BackendChoice::LeastConnections),
            ],
        )?,
        // TOML has no larger numbers.
        maglev_seed: number(
            "gateway.maglev_seed",
            typed.maglev_seed,
            0,
            0..=i64::MAX.unsigned_abs(),
        )?,
        service_proxy_name: name(
            "gateway.service_proxy_name",
            typed.service_proxy_name.as_deref(),
        )?,
    })
}

fn snat_addresses(typed: &raw::Gateway) -> Result<Vec<IpAddr>, Error> {
    typed.snat_addresses.as_ref().map_or_else(
        || Ok(Vec::new()),
        |list| unicast_addresses("gateway.snat_addresses", list),
    )
}

/// Names of Kubernetes objects, zones and label values: the longest is 253 bytes.
fn name(key: &str, typed: Option<&str>) -> Result<Option<String>, Error> {
    let Some(text) = typed else { return Ok(None) };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if (1..=253).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(Some(text.to_owned()))
    } else {
        Err(wrong(
            key,
            text,
            "be 1 to 253 letters, digits, '-', '.', '_' or '/'",
        ))
    }
}

fn nodeport_range(typed: Option<&str>) -> Result<(u16, u16), Error> {
    let Some(text) = typed else {
        return Ok((30_000, 32_767));
    };
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    text.split_once('-')
        .and_then(|(first, last)| Some((port(first.trim())?, port(last.trim())?)))
        .filter(|(first, last)| first <= last)
        .ok_or_else(|| {
            wrong(
                "gateway.nodeport_range",
                text,
                "be FIRST-LAST with 1 <= FIRST <= LAST <= 65535, such as 30000-32767",
            )
        })
}

fn data_plane(typed: &raw::DataPlane) -> Result<DataPlane, Error> {
    let values = [
        ("on", Seccomp::On),
        ("log", Seccomp::Log),
        ("off", Seccomp::Off),
    ];
    let seccomp = choice("dataplane.seccomp", typed.seccomp.as_deref(), &values)?;
    Ok(DataPlane { seccomp })
}

fn workers(typed: &raw::Workers) -> Result<Workers, Error> {
    let mut cores: Vec<u16> = Vec::new();
    for (i, core) in typed.cores.iter().flat_map(|list| &list.0).enumerate() {
        let key = format!("workers.cores[{i}]");
        // 1023 is the largest CPU number that glibc's cpu_set_t holds.
        let core = number(&key, Some(*core), 0, 0..=1023)?;
        if cores.contains(&core) {
            return Err(wrong(&key, core, "be a core that is not in the list yet"));
        }
        cores.push(core);
    }
    if cores.len() > MAX_WORKERS {
        let rule = format!("hold at most {MAX_WORKERS} cores");
        return Err(wrong("workers.cores", format_args!("{cores:?}"), &rule));
    }
    let default = cores.len().max(1) as u16;
    let count = number(
        "workers.count",
        typed.count,
        default,
        1..=MAX_WORKERS as u16,
    )?;
    if !cores.is_empty() && count != default {
        let rule = format!("equal the number of workers.cores ({default}) or be left out");
        return Err(wrong("workers.count", count, &rule));
    }
    Ok(Workers {
        cores,
        count,
        idle_sleep_us: number(
            "workers.idle_sleep_us",
            typed.idle_sleep_us,
            0,
            0..=1_000_000,
        )?,
    })
}

fn limits(typed: &raw::Limits) -> Result<Limits, Error> {
    let half_open_percent = number(
        "limits.half_open_percent",
        typed.half_open_percent,
        50,
        1..=100,
    )?;
    let key = "limits.half_open_per_service_percent";
    let default = half_open_percent.min(25);
    let half_open_per_service_percent =
        number(key, typed.half_open_per_service_percent, default, 1..=100)?;
    if half_open_per_service_percent > half_open_percent {
        let rule = format!("be at most limits.half_open_percent ({half_open_percent})");
        return Err(wrong(key, u16::from(half_open_per_service_percent), &rule));
    }
    // What a bucket of the data plane holds twice of in 24 bits.
    let rate = 0..=(1 << 23) - 1;
    Ok(Limits {
        half_open_percent,
        half_open_per_service_percent,
        new_flows_per_source: number(
            "limits.new_flows_per_source",
            typed.new_flows_per_source,
            0,
            rate.clone(),
        )?,
        new_flows_per_service: number(
            "limits.new_flows_per_service",
            typed.new_flows_per_service,
            0,
            rate,
        )?,
        kernel_frames: number(
            "limits.kernel_frames",
            typed.kernel_frames,
            5_000,
            1..=1_000_000,
        )?,
        endpoint_counters: number(
            "limits.endpoint_counters",
            typed.endpoint_counters,
            1 << 12,
            0..=1 << 18,
        )?,
    })
}

fn source(typed: &raw::Source) -> Result<Source, Error> {
    let kubernetes = choice(
        "source.kind",
        typed.kind.as_deref(),
        &[("manifests", false), ("kubernetes", true)],
    )?;
    match (kubernetes, &typed.path, &typed.kubeconfig) {
        (true, Some(path), _) => Err(wrong(
            "source.path",
            path.as_str(),
            "be left out unless source.kind is \"manifests\"",
        )),
        (false, _, Some(kubeconfig)) => Err(wrong(
            "source.kubeconfig",
            kubeconfig.as_str(),
            "be left out unless source.kind is \"kubernetes\"",
        )),
        (true, None, kubeconfig) => Ok(Source::Kubernetes {
            kubeconfig: match kubeconfig {
                Some(text) => Some(path("source.kubeconfig", text)?),
                None => None,
            },
        }),
        (false, text, None) => {
            let text = text.as_deref().unwrap_or("/etc/portgate/manifests");
            let path = path("source.path", text)?;
            Ok(Source::Manifests { path })
        }
    }
}

fn path(key: &str, text: &str) -> Result<PathBuf, Error> {
    if text.is_empty() {
        return Err(wrong(key, text, "be a path"));
    }
    Ok(PathBuf::from(text))
}

fn metrics(typed: &raw::Metrics) -> Result<Metrics, Error> {
    let text = typed.listen.as_deref().unwrap_or("127.0.0.1:9102");
    let listen = text.parse().map_err(|_| {
        wrong(
            "metrics.listen",
            text,
            "be ADDRESS:PORT such as 127.0.0.1:9102 or [::1]:9102",
        )
    })?;
    let max_series = number(
        "metrics.max_series",
        typed.max_series,
        2_000,
        0..=1_000_000_u32,
    )?;
    Ok(Metrics {
        listen,
        max_series: max_series as usize,
    })
}

fn status(typed: &raw::Status) -> Result<Status, Error> {
    let values = [
        ("local", StatusPage::Local),
        ("anywhere", StatusPage::Anywhere),
        ("off", StatusPage::Off),
    ];
    let page = choice("status.page", typed.page.as_deref(), &values)?;
    Ok(Status { page })
}

fn dns(typed: &raw::Dns) -> Result<Dns, Error> {
    let mut listen: Vec<std::net::SocketAddr> = Vec::new();
    for (at, text) in typed.listen.iter().flat_map(|list| &list.0).enumerate() {
        let key = format!("dns.listen[{at}]");
        let rule = "be ADDRESS:PORT such as 192.0.2.10:53 or [2001:db8::10]:53, each once";
        match text.parse() {
            Ok(address) if !listen.contains(&address) => listen.push(address),
            _ => return Err(wrong(&key, text.as_str(), rule)),
        }
    }
    let prefer = [
        ("cluster_ip", DnsPrefer::ClusterIp),
        ("load_balancer", DnsPrefer::LoadBalancer),
    ];
    Ok(Dns {
        listen,
        cluster_domain: domain(typed.cluster_domain.as_deref().unwrap_or("cluster.local"))?,
        ttl: number("dns.ttl", typed.ttl, 5, 0..=3_600)?,
        prefer: choice("dns.prefer", typed.prefer.as_deref(), &prefer)?,
    })
}

/// A domain in lower case, without the dot at its end. Labels are those of host names (RFC 1123 section 2.1); names of
/// Services have to find room below it (RFC 1035 section 2.3.4).
fn domain(text: &str) -> Result<String, Error> {
    let bare = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let dashed = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed) && !dashed
    };
    if bare.len() <= 120 && bare.split('.').all(is_label) {
        return Ok(bare);
    }
    let rule = "be a domain such as cluster.local, at most 120 letters, digits, '-' and '.'";
    Err(wrong("dns.cluster_domain", text, rule))
}

fn log(typed: &raw::Log) -> Result<Log, Error> {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        LogLevel::Info,
        LogLevel::Warn,
        LogLevel::Error,
        LogLevel::Debug,
        LogLevel::Trace,
    ];
    let levels = levels.map(|level| (level.name(), level));
    Ok(Log {
        format: choice("log.format", typed.format.as_deref(), &formats)?,
        level: choice("log.level", typed.level.as_deref(), &levels)?,
    })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
