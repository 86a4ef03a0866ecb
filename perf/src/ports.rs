//! DPDK and the ports that a generator or sink works on.

use std::str::FromStr;
use std::time::{Duration, Instant};

use dpdk::{
    Eal, EalConfig, LcorePlan, LocalPool, LogLevel, Mempool, Port, PortConfig, PortDevice, Queue,
};
use serde::Serialize;

use crate::Error;
use crate::bench::crew::cpus_for;

/// Buffers for each port: its queues, a pool's caches, frames on their way.
const BUFFERS: u32 = 8192;

/// Descriptors of each queue.
const DESCRIPTORS: u16 = 1024;

/// MiB for each port: on ordinary pages DPDK gives each buffer a page of its own (two for long ones).
const MEMORY: u32 = 72;

/// How long a link may take to come up.
const UP: Duration = Duration::from_secs(10);

/// The lcore that works; the main one waits.
const WORKER: u32 = 1;

/// A device, by the words that the gateway's settings have for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device(PortDevice);

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let device = settings::Device::from_str(text).map_err(|rule| format!("must {rule}"))?;
        Ok(Self(match device {
            settings::Device::AfPacket(interface) => PortDevice::AfPacket(interface),
            settings::Device::AfXdp(interface) => PortDevice::AfXdp(interface),
            settings::Device::Pci(address) => PortDevice::Pci(address),
            settings::Device::Vdev(arguments) => PortDevice::Vdev(arguments),
        }))
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// DPDK, started for this process.
#[derive(Debug)]
pub struct Ports {
    eal: Eal,
    pool: Mempool,
    /// Those opened so far.
    open: Vec<Port>,
}

/// A port to work on.
#[derive(Debug)]
pub struct Seat {
    /// Its one queue pair.
    pub link: Queue,
    /// Buffers.
    pub pool: LocalPool,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// What a port of ours counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PortCounts {
    /// The device.
    pub device: String,
    /// DPDK's driver.
    pub driver: String,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames that the device lost for want of room or buffers, or had errors with.
    pub missed: u64,
    /// Frames that could not be sent.
    pub send_errors: u64,
}

impl Ports {
    /// Starts DPDK, on huge pages or not, its worker on CPU `cpu` (`None`: the first that this
    /// process may use), for these devices and frames of `mtu` bytes of IP at most.
    ///
    /// # Errors
    ///
    /// DPDK's.
    pub fn start(
        devices: &[&Device],
        cpu: Option<u16>,
        huge_pages: bool,
        mtu: u16,
    ) -> Result<Self, Error> {
        // The last ones are a gateway's.
        let first = cpus_for(64).into_iter().min().unwrap_or(0);
        let cpu = cpu.or_else(|| u16::try_from(first).ok());
        let pci = devices.iter().filter_map(|device| match &device.0 {
            PortDevice::Pci(address) => Some(address.clone()),
            _ => None,
        });
        let lcore = |id| LcorePlan { id, cpu };
        let count = devices.len().max(1) as u32;
        let long = u32::from(mtu) / 2048 + 1;
        let eal = Eal::init(&EalConfig {
            huge_pages,
            memory_mb: count * MEMORY * long,
            lcores: vec![lcore(0), lcore(WORKER)],
            vdevs: vec![],
            pci_allow: pci.collect(),
            file_prefix: format!("perf-{}", std::process::id()),
            log_level: LogLevel::Error,
        })?;
        let rooms = devices.iter().map(|device| device.0.data_room(mtu));
        let room = rooms.collect::<Result<Vec<_>, _>>()?.into_iter().max();
        let pool = Mempool::new(
            &eal,
            "frames",
            count * BUFFERS - 1,
            room.unwrap_or(2176),
            256,
        )?;
        Ok(Self {
            eal,
            pool,
            open: Vec::new(),
        })
    }

    /// Opens a device.
    ///
    /// # Errors
    ///
    /// DPDK's; [`Error::Usage`] if the device has no room for frames of `mtu`.
    pub fn open(&mut self, device: &Device, mtu: u16) -> Result<Seat, Error> {
        let config = PortConfig {
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            mtu,
            promiscuous: matches!(device.0, PortDevice::Pci(_)),
            ..PortConfig::default()
        };
        let (port, mut queues) = Port::open(&self.eal, &device.0, &config, &self.pool)?;
        if port.info().mtu < mtu {
            return Err(Error::Usage(format!(
                "{device}: frames of {mtu} bytes of IP are wanted, {} are possible",
                port.info().mtu
            )));
        }
        let seat = Seat {
            link: queues.remove(0),
            pool: self.pool.local(),
            mac: port.info().mac,
        };
        self.open.push(port);
        Ok(seat)
    }

    /// Waits until the links of all ports are up.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] names the one that stays down.
    pub fn wait_up(&self) -> Result<(), Error> {
        let start = Instant::now();
        for port in &self.open {
            while !port.link().up {
                if start.elapsed() > UP {
                    return Err(Error::Run(format!(
                        "{}: the link did not come up in {} s: is the other side there?",
                        port.info().device,
                        UP.as_secs()
                    )));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Starts `work` on the lcore that works, once at a time.
    ///
    /// # Errors
    ///
    /// DPDK's.
    pub fn launch<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<dpdk::Worker<T>, Error> {
        Ok(self.eal.launch(WORKER, work)?)
    }

    /// What each port has counted since it was opened.
    #[must_use]
    pub fn counts(&self) -> Vec<PortCounts> {
        let counts = self.open.iter().map(|port| {
            let stats = port.stats();
            // The drivers of kernel interfaces do not count what their rings had no room for.
            let undelivered = stats.interface.map_or(0, |interface| {
                interface.rx_packets.saturating_sub(stats.rx_frames)
            });
            PortCounts {
                device: port.info().device.to_string(),
                driver: port.info().driver.clone(),
                received: stats.rx_frames,
                sent: stats.tx_frames,
                missed: undelivered.max(stats.rx_missed) + stats.rx_no_buffer + stats.rx_errors,
                send_errors: stats.tx_errors,
            }
        });
        counts.collect()
    }
}
