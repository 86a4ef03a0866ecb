//! Opening and closing a port.

use std::sync::{Arc, Mutex};

use crate::config::PortConfig;
use crate::device::PortDevice;
use crate::eal::Eal;
use crate::error::{Errno, Error};
use crate::handle::Handle;
use crate::info::{LinkStatus, PortInfo, PortStats};
use crate::interface::Interface;
use crate::mempool::Mempool;
use crate::open::{Open, interface_counters, taken};
use crate::queue::Queue;
use crate::restart::Resting;
use crate::unplug;

/// A started port: its description, counters and link. Handles may be cloned and used by any
/// thread; the packet path is in its [`Queue`]s. When all of both are gone it is stopped, closed
/// and, if virtual, removed, so that it can be opened anew.
#[derive(Debug, Clone)]
pub struct Port {
    open: Arc<Open>,
}

impl Port {
    /// Creates the device if it does not exist, configures and starts it, receiving into `pool`.
    ///
    /// Returns the port and as many [`Queue`]s as the larger number of queues asked for; where
    /// the device has fewer ([`PortInfo`] says so), the last ones lack a direction or both.
    ///
    /// # Errors
    ///
    /// Any [`Error`] about a device; each names it. Nothing of the device is left open then.
    pub fn open(
        _eal: &Eal,
        device: &PortDevice,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<(Self, Vec<Queue>), Error> {
        let interface = check_interface(device)?;
        check_buffers(device, config, pool)?;
        let mut taken = taken();
        let mut handle = Handle::find_or_create(device, config, &taken)?;
        let info = match handle.start(device, config, pool, interface) {
            Ok(info) => info,
            Err(error) => {
                handle.close();
                return Err(error);
            }
        };
        taken[usize::from(handle.id)] = true;
        drop(taken);
        let baseline = interface_counters(device);
        let pairs = config.rx_queues.max(config.tx_queues).max(1);
        let open = Arc::new(Open {
            handle,
            info,
            baseline,
            control: Mutex::new(()),
            pairs,
        });
        let queues = (0..pairs).map(|index| {
            let (rx, tx) = (index < open.info.rx_queues, index < open.info.tx_queues);
            // SAFETY: `start` has set up that many queues and started the port, which runs until
            // `open` is dropped, or while somebody has all of them; each index is used once, and the port was not taken before.
            unsafe { Queue::new(Arc::clone(&open), index, rx, tx) }
        });
        let queues = queues.collect();
        Ok((Self { open }, queues))
    }

    /// What the port turned out to be.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.open.info
    }

    /// Its counters (`rte_eth_stats_get`); those that cannot be read are 0.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        let open = &*self.open;
        let mut raw = dpdk_sys::rte_eth_stats::default();
        {
            // Some drivers add up hardware registers in these calls, so one thread at a time.
            let _control = open.control();
            // SAFETY: the port is open as long as `open`; `raw` is writable.
            unsafe { dpdk_sys::rte_eth_stats_get(open.id(), &raw mut raw) };
        }
        PortStats {
            rx_frames: raw.ipackets,
            tx_frames: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_buffer: raw.rx_nombuf,
            interface: open.interface_counters(),
        }
    }

    /// State of its link (`rte_eth_link_get_nowait`, and the kernel's word for its interfaces).
    #[must_use]
    pub fn link(&self) -> LinkStatus {
        let open = &*self.open;
        let (mut speed, mut up) = (0, false);
        {
            let _control = open.control();
            // SAFETY: the port is open as long as `open`; both places are writable.
            let result =
                unsafe { dpdk_sys::shim_link_get_nowait(open.id(), &raw mut speed, &raw mut up) };
            up &= result == 0;
        }
        let mut replaced = false;
        if let Some(name) = open.info.device.interface() {
            // net_af_packet says "up" whatever happens to its interface.
            let interface = Interface::query(name).ok().flatten();
            replaced = interface.map(|interface| interface.index) != open.info.interface_index;
            up &= !replaced && interface.is_some_and(|interface| interface.running);
        }
        let known = speed != 0 && speed != u32::MAX;
        LinkStatus {
            up,
            speed_mbps: known.then_some(speed),
            replaced,
            leaving: unplug::is_asked_for(open.id()),
        }
    }

    /// [`Queue`]s that it was opened with.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.open.pairs.into()
    }

    /// Takes all its queues out of use, so that it can be started anew.
    ///
    /// # Errors
    ///
    /// The queues, if they are not all that the port was opened with.
    pub fn rest(&self, queues: Vec<Queue>) -> Result<Resting, Vec<Queue>> {
        Resting::new(&self.open, queues)
    }

    /// Closes the port, if this is the last handle and no [`Queue`] of it is left; else gives the handle back.
    ///
    /// # Errors
    ///
    /// The handle: somebody else has the port, too.
    pub fn close(self) -> Result<(), Self> {
        Arc::try_unwrap(self.open)
            .map(drop)
            .map_err(|open| Self { open })
    }
}

/// DPDK's messages about interfaces that are missing or down do not name them, so ask first.
fn check_interface(device: &PortDevice) -> Result<Option<Interface>, Error> {
    let Some(name) = device.interface() else {
        return Ok(None);
    };
    let (device, interface) = (device.clone(), name.to_owned());
    match Interface::query(name) {
        Ok(Some(found)) if found.up => Ok(Some(found)),
        Ok(Some(_)) => Err(Error::InterfaceDown { device, interface }),
        Ok(None) => Err(Error::NoInterface { device, interface }),
        Err(error) => Err(Error::Device {
            device,
            call: "asking the kernel about the interface",
            errno: Errno(error.raw_os_error().unwrap_or(libc::EIO)),
        }),
    }
}

/// Frames in several buffers are never asked for, so one must do.
fn check_buffers(device: &PortDevice, config: &PortConfig, pool: &Mempool) -> Result<(), Error> {
    let needed = device.data_room(config.mtu)?;
    if pool.data_room() >= needed {
        return Ok(());
    }
    Err(Error::SmallBuffers {
        device: device.clone(),
        mtu: config.mtu,
        needed,
        pool: pool.name().to_owned(),
        data_room: pool.data_room(),
    })
}
