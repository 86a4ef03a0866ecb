//! capsule's runtime on one port and one core, the main one: it is the one lcore, so the mempool's cache works.

use std::error::Error;

use capsule::Runtime;
use capsule::config::RuntimeConfig;

/// What a runtime is to have.
pub struct Wanted<'a> {
    /// `net_ring0`, `net_af_packet0`.
    pub device: &'a str,
    /// Of the device, comma-separated.
    pub arguments: &'a str,
    /// CPU to work on.
    pub cpu: usize,
    /// Buffers.
    pub mbufs: usize,
    /// MiB of packet memory; on huge pages if `huge_pages`.
    pub memory: usize,
    /// Whether on huge pages of 2 MiB, which must be free.
    pub huge_pages: bool,
    /// Ends by itself after a second (and whatever runs then), instead of by a signal.
    pub brief: bool,
}

/// Name of the port.
pub const PORT: &str = "port";

/// Builds it. EAL runs from here on.
pub fn runtime(wanted: &Wanted<'_>) -> Result<Runtime, Box<dyn Error>> {
    let memory = match wanted.huge_pages {
        true => "--in-memory --single-file-segments",
        false => "--no-huge --iova-mode=va",
    };
    let mut config = format!(
        "app_name = \"capsule-lab-{}\"\nmaster_core = {cpu}\n\
         dpdk_args = \"{memory} -m {} --log-level=error\"\n",
        std::process::id(),
        wanted.memory,
        cpu = wanted.cpu,
    );
    if wanted.brief {
        config += "duration = 1\n";
    }
    config += &format!(
        "[mempool]\ncapacity = {}\ncache_size = 256\n\
         [[ports]]\nname = \"{PORT}\"\ndevice = \"{}\"\ncores = [{}]\nrxd = 1024\ntxd = 1024\n\
         promiscuous = true\n",
        wanted.mbufs, wanted.device, wanted.cpu,
    );
    if !wanted.arguments.is_empty() {
        config += &format!("args = \"{}\"\n", wanted.arguments);
    }
    let config: RuntimeConfig = toml::from_str(&config)?;
    Ok(Runtime::build(config)?)
}

/// The last CPU: the first takes most interrupts.
pub fn last_cpu() -> usize {
    std::thread::available_parallelism().map_or(0, |count| count.get() - 1)
}
