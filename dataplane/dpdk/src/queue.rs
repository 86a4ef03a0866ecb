//! One worker's pair of hardware queues: the packet path.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use packet::{Burst, Link};

use crate::mbuf::Mbuf;
use crate::open::Open;

/// Receive queue and transmit queue number `index` of a port, of which either may be missing when
/// the device has fewer than asked for.
///
/// Sending and receiving a burst of 32 over net_ring costs 30 ns together, 0.93 ns a frame, the
/// two calls into C included (DPDK 22.11, EPYC, release build, `tests/burst_cost.rs`): too little
/// to call drivers past ethdev's inline functions.
///
/// One thread at a time may poll a queue, so it can be sent to a thread but not shared:
///
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<dpdk::Queue>();
/// ```
#[derive(Debug)]
pub struct Queue {
    port: u16,
    index: u16,
    rx: bool,
    tx: bool,
    /// Keeps the port open, and started but for when it is [`Resting`](crate::Resting).
    open: Arc<Open>,
    not_sync: PhantomData<Cell<()>>,
}

impl Queue {
    /// # Safety
    ///
    /// The port of `open` is started and stays so as long as it lives, unless somebody has all its queues; if `rx` (`tx`), it has a
    /// receive (transmit) queue `index` set up, for which there is no other `Queue`.
    pub(crate) unsafe fn new(open: Arc<Open>, index: u16, rx: bool, tx: bool) -> Self {
        Self {
            port: open.id(),
            index,
            rx,
            tx,
            open,
            not_sync: PhantomData,
        }
    }

    /// Whether it belongs to that port.
    pub(crate) fn is_of(&self, open: &Arc<Open>) -> bool {
        Arc::ptr_eq(&self.open, open)
    }

    /// Whether frames can be received here. If so, someone must: the device puts its share of the
    /// traffic here and drops it when nobody looks.
    #[must_use]
    pub fn has_rx(&self) -> bool {
        self.rx
    }

    /// Whether frames can be sent here.
    #[must_use]
    pub fn has_tx(&self) -> bool {
        self.tx
    }

    /// Number of the queue in its port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }
}

impl Link for Queue {
    type Buffer = Mbuf;

    /// Appends nothing if there is no receive queue. Some drivers give frames in fours: with room
    /// for fewer they may give none.
    #[inline]
    fn rx_burst(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        if !self.rx {
            return 0;
        }
        let held = frames.len();
        // A burst is 32 frames, so that the count always fits.
        let room = frames.remaining_capacity() as u16;
        // SAFETY: the queue is set up, its port started (`new`; to stop it takes this queue itself), and no other thread
        // polls it (`&mut self` of a type that is not Sync). Behind the `held` elements there is room for
        // `room` more, and `Mbuf` has the representation of the pointers that the driver stores.
        let count = unsafe {
            let spare = frames.as_mut_ptr().add(held).cast();
            usize::from(dpdk_sys::shim_rx_burst(self.port, self.index, spare, room))
        };
        // SAFETY: the driver has stored `count <= room` pointers to buffers from the port's pool,
        // filled in and handed over to us (the contract of rte_eth_rx_burst).
        unsafe { frames.set_len(held + count) };
        count
    }

    /// Takes nothing if there is no transmit queue.
    #[inline]
    fn tx_burst(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        if !self.tx {
            return 0;
        }
        let held = frames.len();
        let first = frames.as_mut_ptr();
        // SAFETY: the queue is set up, its port started, and no other thread sends through it, as
        // in `rx_burst`. `first` points to `held` buffers that are ours to give away.
        let taken = unsafe {
            usize::from(dpdk_sys::shim_tx_burst(
                self.port,
                self.index,
                first.cast(),
                held as u16,
            ))
        };
        // SAFETY: the driver owns the first `taken <= held` frames now and has left the others
        // alone, which move to the front; none is dropped or duplicated.
        unsafe {
            if taken < held {
                std::ptr::copy(first.add(taken), first, held - taken);
            }
            frames.set_len(held - taken);
        }
        taken
    }
}
