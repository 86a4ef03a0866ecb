//! Worker threads that DPDK knows.
//!
//! Workers must be lcores: the caches of a [`Mempool`](crate::Mempool) belong to lcores, and a
//! thread without a number goes to the shared ring for every buffer.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::eal::Eal;
use crate::error::Error;

/// Which lcores have a worker that has not been joined.
static TAKEN: Mutex<[bool; dpdk_sys::RTE_MAX_LCORE as usize]> =
    Mutex::new([false; dpdk_sys::RTE_MAX_LCORE as usize]);

/// A closure that runs on an lcore.
#[derive(Debug)]
pub struct Worker<T> {
    lcore: u32,
    slot: Arc<Slot<T>>,
}

impl Eal {
    /// Runs `work` on `lcore` (`rte_eal_remote_launch`), one of [`Eal::lcores`] but not the first.
    /// A worker whose handle is dropped goes on and keeps its lcore for good.
    ///
    /// # Errors
    ///
    /// [`Error::Lcore`] if there is no such lcore, or if it has a worker that was not joined.
    pub fn launch<T, F>(&self, lcore: u32, work: F) -> Result<Worker<T>, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let error = |why| Err(Error::Lcore { lcore, why });
        match self.lcores().iter().position(|plan| plan.id == lcore) {
            None => return error("EAL was started without it"),
            Some(0) => return error("it is the main lcore, which belongs to the caller of init"),
            Some(_) => {}
        }
        let mut taken = taken();
        if taken[lcore as usize] {
            return error("it has a worker already");
        }
        let slot = Arc::new(Slot {
            result: Mutex::new(None),
            filled: Condvar::new(),
        });
        let task = Box::into_raw(Box::new(Task {
            work,
            slot: Arc::clone(&slot),
        }));
        // SAFETY: EAL runs and `lcore` is one of its workers; `run::<T, F>` takes what `task`
        // points to, once.
        let result =
            unsafe { dpdk_sys::rte_eal_remote_launch(Some(run::<T, F>), task.cast(), lcore) };
        if result != 0 {
            // SAFETY: the lcore has not taken the task, so it is still ours.
            drop(unsafe { Box::from_raw(task) });
            return error("DPDK says that it is busy");
        }
        taken[lcore as usize] = true;
        Ok(Worker { lcore, slot })
    }
}

impl Eal {
    /// Number of the lcore that the calling thread is; `None` for threads that DPDK does not know.
    #[must_use]
    pub fn current_lcore() -> Option<u32> {
        // SAFETY: reads a thread-local variable and a constant.
        let (lcore, any) = unsafe { (dpdk_sys::shim_lcore_id(), dpdk_sys::shim_lcore_id_any) };
        (lcore != any).then_some(lcore)
    }
}

impl<T> Worker<T> {
    /// The lcore it runs on.
    #[must_use]
    pub fn lcore(&self) -> u32 {
        self.lcore
    }

    /// Whether the closure has returned or panicked.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.slot.lock().is_some()
    }

    /// Waits, asleep, until the closure has ended, and returns what it returned. The lcore is free
    /// for another one then.
    ///
    /// # Errors
    ///
    /// [`Error::WorkerPanicked`] with the panic's message.
    pub fn join(self) -> Result<T, Error> {
        let result = self.slot.wait();
        // The closure has ended; EAL needs another moment to take its thread back.
        // SAFETY: `lcore` is one of EAL's workers; it is still taken, so nothing else was started
        // on it that this would wait for.
        unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore) };
        taken()[self.lcore as usize] = false;
        result.map_err(|payload| Error::WorkerPanicked {
            lcore: self.lcore,
            message: message(payload.as_ref()),
        })
    }
}

fn taken() -> MutexGuard<'static, [bool; dpdk_sys::RTE_MAX_LCORE as usize]> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task<T, F> {
    work: F,
    slot: Arc<Slot<T>>,
}

/// Where a worker leaves its result.
#[derive(Debug)]
struct Slot<T> {
    result: Mutex<Option<thread::Result<T>>>,
    filled: Condvar,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Option<thread::Result<T>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) -> thread::Result<T> {
        let mut result = self.lock();
        loop {
            match result.take() {
                Some(result) => return result,
                None => {
                    result = self
                        .filled
                        .wait(result)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// What EAL calls on the lcore. No panic leaves it: unwinding into C would abort the process.
unsafe extern "C" fn run<T, F: FnOnce() -> T>(task: *mut c_void) -> c_int {
    // SAFETY: `launch` made it from a Box of this very type and gave it away.
    let task = unsafe { Box::from_raw(task.cast::<Task<T, F>>()) };
    let Task { work, slot } = *task;
    // Nothing of the closure is looked at after a panic but the panic's message.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    *slot.lock() = Some(result);
    slot.filled.notify_all();
    0
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no text)".to_owned())
}
