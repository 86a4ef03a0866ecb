//! Stopping a port and starting it anew while the process goes on.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Errno;
use crate::open::Open;
use crate::queue::Queue;

/// A port with all its queues, which nobody polls meanwhile: what it takes to start it anew.
#[derive(Debug)]
pub struct Resting {
    open: Arc<Open>,
    queues: Vec<Queue>,
    restart: Arc<Mutex<Restart>>,
}

/// How far a restart has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// The port is started, and nothing is under way.
    Done,
    /// EAL's interrupt thread has yet to do it.
    UnderWay,
    /// The port is stopped, for this reason.
    Failed(Errno),
}

/// What EAL's interrupt thread is given. The port stays open until it has ended.
struct Job {
    open: Arc<Open>,
    restart: Arc<Mutex<Restart>>,
}

impl Resting {
    /// Gives the queues back unless they are all that the port has.
    pub(crate) fn new(open: &Arc<Open>, queues: Vec<Queue>) -> Result<Self, Vec<Queue>> {
        let is_all = queues.len() == usize::from(open.pairs);
        if !is_all || !queues.iter().all(|queue| queue.is_of(open)) {
            return Err(queues);
        }
        Ok(Self {
            open: open.clone(),
            queues,
            restart: Arc::new(Mutex::new(Restart::Done)),
        })
    }

    /// Asks EAL's interrupt thread to stop the port and to start it (`rte_eth_dev_stop`, `rte_eth_dev_start`). It is that thread
    /// that tells drivers of their peers, so nothing that a driver does by itself is under way meanwhile.
    ///
    /// # Errors
    ///
    /// It cannot be asked (`rte_eal_alarm_set`), or [`Restart::UnderWay`] still holds (EBUSY).
    pub fn start_anew(&self) -> Result<(), Errno> {
        if std::mem::replace(&mut *locked(&self.restart), Restart::UnderWay) == Restart::UnderWay {
            return Err(Errno::from_return(-libc::EBUSY));
        }
        let job = Box::into_raw(Box::new(Job {
            open: self.open.clone(),
            restart: self.restart.clone(),
        }));
        // SAFETY: the function takes what `job` is, once.
        let result = unsafe { dpdk_sys::rte_eal_alarm_set(1, Some(restart), job.cast()) };
        if result < 0 {
            // SAFETY: EAL has not taken it.
            drop(unsafe { Box::from_raw(job) });
            let errno = Errno::from_return(result);
            *locked(&self.restart) = Restart::Failed(errno);
            return Err(errno);
        }
        Ok(())
    }

    /// How far the last [`Self::start_anew`] has come.
    #[must_use]
    pub fn restart(&self) -> Restart {
        *locked(&self.restart)
    }

    /// The queues, in the order in which they came, if the port is started.
    ///
    /// # Errors
    ///
    /// Itself: it is stopped, or about to be.
    pub fn end(self) -> Result<Vec<Queue>, Self> {
        match self.restart() {
            Restart::Done => Ok(self.queues),
            Restart::UnderWay | Restart::Failed(_) => Err(self),
        }
    }
}

/// Called by EAL's interrupt thread, once for each job.
unsafe extern "C" fn restart(job: *mut c_void) {
    // SAFETY: `start_anew` made it and gave it away.
    let job = unsafe { Box::from_raw(job.cast::<Job>()) };
    let id = job.open.id();
    let result = {
        let _control = job.open.control();
        // SAFETY: the port is open as long as `job`, and nobody polls it: whoever made `job` has all its queues, and
        // gives none back before this has ended well.
        unsafe {
            match dpdk_sys::rte_eth_dev_stop(id) {
                0 => dpdk_sys::rte_eth_dev_start(id),
                failed => failed,
            }
        }
    };
    *locked(&job.restart) = match result {
        0 => Restart::Done,
        failed => Restart::Failed(Errno::from_return(failed)),
    };
}

fn locked(restart: &Mutex<Restart>) -> std::sync::MutexGuard<'_, Restart> {
    restart.lock().unwrap_or_else(PoisonError::into_inner)
}
