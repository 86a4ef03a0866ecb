//! An open port, shared by its handles and queues, and which ports are taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::device::PortDevice;
use crate::handle::{Handle, Taken};
use crate::info::PortInfo;
use crate::interface::{Interface, InterfaceCounters};

/// Which ports of DPDK have a [`Port`](crate::Port). Locked while ports are opened and closed, so that a
/// number given back and taken again meanwhile cannot be confused.
static TAKEN: Mutex<Taken> = Mutex::new([false; dpdk_sys::RTE_MAX_ETHPORTS as usize]);

/// A started port and the promise to close it, shared by its handles and queues.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) handle: Handle,
    pub(crate) info: PortInfo,
    /// The interface's counters when the port was opened.
    pub(crate) baseline: Option<InterfaceCounters>,
    pub(crate) control: Mutex<()>,
    /// [`Queue`](crate::Queue)s that were made of it.
    pub(crate) pairs: u16,
}

impl Open {
    pub(crate) fn id(&self) -> u16 {
        self.handle.id
    }

    pub(crate) fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn interface_counters(&self) -> Option<InterfaceCounters> {
        let (before, now) = (self.baseline?, interface_counters(&self.info.device)?);
        Some(InterfaceCounters {
            rx_packets: now.rx_packets.saturating_sub(before.rx_packets),
            rx_dropped: now.rx_dropped.saturating_sub(before.rx_dropped),
            tx_packets: now.tx_packets.saturating_sub(before.tx_packets),
            tx_dropped: now.tx_dropped.saturating_sub(before.tx_dropped),
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut taken = taken();
        self.handle.close();
        taken[usize::from(self.handle.id)] = false;
    }
}

pub(crate) fn taken() -> MutexGuard<'static, Taken> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn interface_counters(device: &PortDevice) -> Option<InterfaceCounters> {
    Interface::counters(device.interface()?).ok().flatten()
}
