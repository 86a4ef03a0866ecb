//! A port of DPDK by its number: the ethdev calls, in the order in which a port is brought up.

use std::ffi::{CStr, CString, c_char, c_int};

use crate::config::PortConfig;
use crate::device::PortDevice;
use crate::error::{Errno, Error};
use crate::info::PortInfo;
use crate::interface::Interface;
use crate::mempool::Mempool;
use crate::negotiate::{self, Limits, Plan};
use crate::unplug;

/// The driver of VMware's NIC, and the largest buffer that fits the 14 bits which its descriptors have for a length.
const VMXNET3: (&str, u16) = ("net_vmxnet3", (1 << 14) - 1);

/// For each port number, whether it is in use.
pub(crate) type Taken = [bool; dpdk_sys::RTE_MAX_ETHPORTS as usize];

/// A port that exists and that nobody else in this process uses.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: u16,
    /// Switched on by us; a kernel interface would otherwise keep it after we are gone.
    promiscuous: bool,
    /// Name by which EAL tells of the device, if it is one that the machine may want back.
    heard: Option<CString>,
}

impl Handle {
    /// The port of `device`, which is created unless EAL has done so at start.
    pub(crate) fn find_or_create(
        device: &PortDevice,
        config: &PortConfig,
        taken: &Taken,
    ) -> Result<Self, Error> {
        for member in device.members() {
            // Those of PCI were made when EAL started.
            if member.interface().is_some() {
                probe(&member, config)?;
            }
        }
        probe(device, config)?;
        let name = c_string(device, device.ethdev_name())?;
        let id = find(&name);
        let id = id.map_err(|result| failure(device, "rte_eth_dev_get_port_by_name", result))?;
        match taken.get(usize::from(id)) {
            Some(false) => Ok(Self {
                id,
                promiscuous: false,
                heard: None,
            }),
            _ => Err(Error::AlreadyOpen {
                device: device.clone(),
            }),
        }
    }

    /// Configures and starts it.
    pub(crate) fn start(
        &mut self,
        device: &PortDevice,
        config: &PortConfig,
        pool: &Mempool,
        interface: Option<Interface>,
    ) -> Result<PortInfo, Error> {
        let raw = self.describe(device)?;
        let size = pool.data_room() - dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;
        check_buffers(device, &text(raw.driver_name), pool.name(), size)?;
        let limits = Limits {
            rx_queues: raw.max_rx_queues,
            tx_queues: raw.max_tx_queues,
            max_mtu: raw.max_mtu,
            max_frame: raw.max_rx_pktlen,
            rss_flows: raw.flow_type_rss_offloads,
            interface_mtu: interface.map(|interface| interface.mtu),
        };
        // SAFETY: a constant of the shim.
        let rss_flows = unsafe { dpdk_sys::shim_rss_flows };
        let plan = negotiate::plan(device, config, &limits, rss_flows);
        self.configure(device, &plan)?;
        let (rx_descriptors, tx_descriptors) = self.set_up_queues(device, config, &plan, pool)?;
        let (mac, filtered) = self.set_address(device, config.mac)?;
        self.set_promiscuous(device, config.promiscuous || !filtered)?;
        self.let_groups_in(device)?;
        // SAFETY: the port exists and is configured.
        check(device, "rte_eth_dev_start", unsafe {
            dpdk_sys::rte_eth_dev_start(self.id)
        })?;
        self.listen(device)?;
        Ok(PortInfo {
            device: device.clone(),
            port_id: self.id,
            driver: text(raw.driver_name),
            mac,
            mtu: plan.mtu,
            rx_queues: plan.rx_queues,
            tx_queues: plan.tx_queues,
            rx_descriptors,
            tx_descriptors,
            max_frame: raw.max_rx_pktlen,
            rx_offloads: raw.rx_offload_capa,
            tx_offloads: raw.tx_offload_capa,
            rss: plan.rss != 0,
            promiscuous: self.promiscuous,
            interface_index: interface.map(|interface| interface.index),
            interface_mtu: limits.interface_mtu,
        })
    }

    /// Stops and closes it and removes the device, so that it can be created anew. What fails here
    /// is beyond repair, and DPDK has logged it.
    pub(crate) fn close(&mut self) {
        let mut raw = dpdk_sys::rte_eth_dev_info::default();
        if let Some(name) = self.heard.take() {
            unplug::forget(&name, self.id);
        }
        // SAFETY: the port exists until closed below, and nobody uses its queues: either it was
        // never started, or its last Queue is gone. `raw` is writable; `raw.device` belongs to the
        // bus and outlives the port.
        unsafe {
            if self.promiscuous {
                dpdk_sys::rte_eth_promiscuous_disable(self.id);
            }
            dpdk_sys::rte_eth_dev_stop(self.id);
            let described = dpdk_sys::rte_eth_dev_info_get(self.id, &raw mut raw) == 0;
            dpdk_sys::rte_eth_dev_close(self.id);
            if described && !raw.device.is_null() {
                dpdk_sys::rte_dev_remove(raw.device);
            }
        }
    }

    /// A virtual device, or a kernel interface, never leaves by itself.
    fn listen(&mut self, device: &PortDevice) -> Result<(), Error> {
        let PortDevice::Pci(address) = device else {
            return Ok(());
        };
        let name = c_string(device, address.clone())?;
        unplug::listen(&name, self.id).map_err(|errno| Error::Device {
            device: device.clone(),
            call: "rte_dev_event_callback_register",
            errno,
        })?;
        self.heard = Some(name);
        Ok(())
    }

    fn describe(&self, device: &PortDevice) -> Result<dpdk_sys::rte_eth_dev_info, Error> {
        let mut raw = dpdk_sys::rte_eth_dev_info::default();
        // SAFETY: the port exists; `raw` is writable.
        let result = unsafe { dpdk_sys::rte_eth_dev_info_get(self.id, &raw mut raw) };
        check(device, "rte_eth_dev_info_get", result)?;
        Ok(raw)
    }

    fn configure(&self, device: &PortDevice, plan: &Plan) -> Result<(), Error> {
        let mut conf = dpdk_sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(plan.ethdev_mtu);
        if plan.rss != 0 {
            conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = plan.rss;
        }
        // SAFETY: the port exists and is stopped; the callee copies `conf`.
        let result = unsafe {
            dpdk_sys::rte_eth_dev_configure(
                self.id,
                plan.rx_queues,
                plan.tx_queues,
                &raw const conf,
            )
        };
        check(device, "rte_eth_dev_configure", result)
    }

    /// Returns the numbers of descriptors, made to fit the driver.
    fn set_up_queues(
        &self,
        device: &PortDevice,
        config: &PortConfig,
        plan: &Plan,
        pool: &Mempool,
    ) -> Result<(u16, u16), Error> {
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port exists; both numbers are writable.
        let result = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &raw mut rx, &raw mut tx)
        };
        check(device, "rte_eth_dev_adjust_nb_rx_tx_desc", result)?;
        // SAFETY: the port exists. -1 is "any node", also as an unsigned number.
        let node = unsafe { dpdk_sys::rte_eth_dev_socket_id(self.id) }.cast_unsigned();
        for queue in 0..plan.rx_queues {
            // SAFETY: the port is configured with this queue and stopped; a null configuration is
            // the driver's default; the pool is never freed.
            let result = unsafe {
                let default = std::ptr::null();
                dpdk_sys::rte_eth_rx_queue_setup(self.id, queue, rx, node, default, pool.as_ptr())
            };
            check(device, "rte_eth_rx_queue_setup", result)?;
        }
        for queue in 0..plan.tx_queues {
            // SAFETY: as for receiving.
            let result = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(self.id, queue, tx, node, std::ptr::null())
            };
            check(device, "rte_eth_tx_queue_setup", result)?;
        }
        Ok((rx, tx))
    }

    /// Returns the port's address and whether the device receives for it by itself.
    fn set_address(
        &self,
        device: &PortDevice,
        wanted: Option<[u8; 6]>,
    ) -> Result<([u8; 6], bool), Error> {
        let Some(mac) = wanted else {
            let mut address = dpdk_sys::rte_ether_addr::default();
            // SAFETY: the port exists; `address` is writable.
            let result = unsafe { dpdk_sys::rte_eth_macaddr_get(self.id, &raw mut address) };
            check(device, "rte_eth_macaddr_get", result)?;
            return Ok((address.addr_bytes, true));
        };
        if device.interface().is_some() {
            // The driver would change the interface itself, for good.
            return Ok((mac, false));
        }
        let mut address = dpdk_sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the port exists; the callee copies `address`.
        let result =
            unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.id, &raw mut address) };
        if result == -libc::ENOTSUP {
            return Ok((mac, false));
        }
        check(device, "rte_eth_dev_default_mac_addr_set", result)?;
        Ok((mac, true))
    }

    fn set_promiscuous(&mut self, device: &PortDevice, wanted: bool) -> Result<(), Error> {
        if !wanted {
            return Ok(());
        }
        // SAFETY: the port exists.
        let result = unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.id) };
        let wire = matches!(device, PortDevice::Vdev(_));
        if result == -libc::ENOTSUP && wire {
            // Virtual wires without the call have no address filter either.
            return Ok(());
        }
        check(device, "rte_eth_promiscuous_enable", result)?;
        self.promiscuous = true;
        Ok(())
    }

    /// Neighbour discovery asks groups (RFC 4861 section 7.2.2): a NIC that filters by address would let no
    /// question through.
    fn let_groups_in(&self, device: &PortDevice) -> Result<(), Error> {
        if self.promiscuous {
            return Ok(());
        }
        // SAFETY: the port exists.
        let result = unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.id) };
        if result == -libc::ENOTSUP {
            // No filter of its own, then.
            return Ok(());
        }
        check(device, "rte_eth_allmulticast_enable", result)
    }
}

/// Has EAL make the device, unless it has done so before.
fn probe(device: &PortDevice, config: &PortConfig) -> Result<(), Error> {
    if find(&c_string(device, device.ethdev_name())?).is_ok() {
        return Ok(());
    }
    let queues = negotiate::queue_pairs(device, config);
    let devargs = c_string(device, device.devargs(queues, config.mtu)?)?;
    // SAFETY: a null-terminated string that the callee copies. EAL runs: the caller has a
    // pool made with it.
    let result = unsafe { dpdk_sys::rte_dev_probe(devargs.as_ptr()) };
    check(device, "rte_dev_probe", result)
}

/// Whether the driver can tell its device of buffers with `size` bytes behind their headroom.
fn check_buffers(device: &PortDevice, driver: &str, pool: &str, size: u16) -> Result<(), Error> {
    let (limited, max) = VMXNET3;
    if driver != limited || size <= max {
        return Ok(());
    }
    Err(Error::LargeBuffers {
        device: device.clone(),
        driver: driver.to_owned(),
        pool: pool.to_owned(),
        size,
        max,
    })
}

fn find(name: &CStr) -> Result<u16, c_int> {
    let mut id = 0;
    // SAFETY: a null-terminated string, only read; `id` is writable.
    match unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut id) } {
        0 => Ok(id),
        result => Err(result),
    }
}

/// A string that DPDK owns, copied; empty if there is none.
fn text(raw: *const c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: not null, so one of DPDK's null-terminated names, which live as long as the driver.
    unsafe { CStr::from_ptr(raw) }
        .to_string_lossy()
        .into_owned()
}

fn c_string(device: &PortDevice, text: String) -> Result<CString, Error> {
    CString::new(text).map_err(|_| failure(device, "the device's name", -libc::EINVAL))
}

fn check(device: &PortDevice, call: &'static str, result: c_int) -> Result<(), Error> {
    if result < 0 {
        Err(failure(device, call, result))
    } else {
        Ok(())
    }
}

fn failure(device: &PortDevice, call: &'static str, result: c_int) -> Error {
    Error::Device {
        device: device.clone(),
        call,
        errno: Errno::from_return(result),
    }
}

#[cfg(test)]
mod tests {
    use hugepages::offloads;

    use super::*;

    #[test]
    fn buffers_that_vmxnet3_cannot_have_are_refused_to_it_alone() {
        let device = PortDevice::Pci("0000:00:14.0".to_owned());
        let check = |driver, size| check_buffers(&device, driver, "frames", size);
        assert_eq!(check("net_vmxnet3", 16_383), Ok(()));
        assert_eq!(check("net_e1000_em", 16_384), Ok(()));
        let said = check("net_vmxnet3", 16_384).unwrap_err().to_string();
        for part in ["pci:0000:00:14.0", "at most 16383", "frames have 16384"] {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
    }

    #[test]
    fn offloads_have_the_names_that_dpdk_gives_them() {
        type Name = unsafe extern "C" fn(u64) -> *const c_char;
        let directions: [(&[&str], Name); 2] = [
            (&offloads::RX, dpdk_sys::rte_eth_dev_rx_offload_name),
            (&offloads::TX, dpdk_sys::rte_eth_dev_tx_offload_name),
        ];
        for (names, of_dpdk) in directions {
            for (bit, name) in names
                .iter()
                .enumerate()
                .filter(|(_, name)| !name.is_empty())
            {
                // SAFETY: both functions return static strings for every number.
                let known = text(unsafe { of_dpdk(1 << bit) });
                assert_eq!(*name, known, "bit {bit}");
            }
        }
    }
}
