//! The environment abstraction layer: memory, lcores, plugins. Once a process.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::args::{self, EalConfig, LcorePlan};
use crate::error::{Errno, Error};

static STARTED: AtomicBool = AtomicBool::new(false);

/// Proof that EAL runs. It runs until the process ends: in either memory mode it leaves nothing
/// behind that would need cleaning up.
#[derive(Debug, Clone)]
pub struct Eal {
    lcores: Arc<[LcorePlan]>,
}

impl Eal {
    /// Starts EAL (`rte_eal_init`). The calling thread becomes the main lcore, the first of
    /// `config.lcores`, and moves to its CPUs; threads that it starts later inherit these.
    ///
    /// DPDK logs to stderr from here on.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for wishes that cannot be met, [`Error::AlreadyInitialised`] the second
    /// time, [`Error::Init`] if DPDK refuses (not enough memory or huge pages, say); after that
    /// one the process cannot try again.
    pub fn init(config: &EalConfig) -> Result<Self, Error> {
        let arguments = args::arguments(config, &allowed_cpus())?;
        let argv = c_strings(&arguments)?;
        // Relaxed: the flag decides who goes on and publishes nothing.
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(Error::AlreadyInitialised);
        }
        // SAFETY: only stores libc's stderr, which lives as long as the process.
        unsafe { dpdk_sys::shim_log_to_stderr() };
        let count = c_int::try_from(arguments.len()).unwrap_or(c_int::MAX);
        // SAFETY: argv holds `count` pointers to strings and a null pointer, all leaked, because
        // EAL keeps pointers into them; `STARTED` makes this the only call of the process.
        let result = unsafe { dpdk_sys::rte_eal_init(count, argv.as_mut_ptr()) };
        if result < 0 {
            return Err(Error::Init {
                arguments: arguments[1..].join(" "),
                errno: Errno::last(),
            });
        }
        remove_runtime_directory();
        Ok(Self {
            lcores: config.lcores.as_slice().into(),
        })
    }

    /// The lcores it was started with, the main one first.
    #[must_use]
    pub fn lcores(&self) -> &[LcorePlan] {
        &self.lcores
    }

    /// The running library's version, such as `DPDK 22.11.11`.
    #[must_use]
    pub fn version() -> String {
        // SAFETY: returns a static string; needs no initialised EAL.
        let version = unsafe { CStr::from_ptr(dpdk_sys::shim_version()) };
        version.to_string_lossy().into_owned()
    }

    /// Whether lcores may be preempted by one another, because some are not pinned.
    pub(crate) fn has_floating_lcores(&self) -> bool {
        self.lcores.iter().any(|plan| plan.cpu.is_none())
    }
}

/// EAL makes a directory for files shared with other processes even when it is told to share none.
/// It is empty then, and would stay behind.
fn remove_runtime_directory() {
    // SAFETY: EAL runs; returns a string that lives as long as the process.
    let path = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
    // If it is not there or not empty, there is nothing to remove.
    let _ = std::fs::remove_dir(OsStr::from_bytes(path.to_bytes()));
}

/// A null-terminated argv that lives for ever.
fn c_strings(arguments: &[String]) -> Result<&'static mut [*mut c_char], Error> {
    let strings = arguments
        .iter()
        .map(|argument| CString::new(argument.as_str()));
    let strings = strings
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Config(format!("an argument holds a zero byte: {error}")))?;
    let mut pointers: Vec<_> = strings.into_iter().map(CString::into_raw).collect();
    pointers.push(std::ptr::null_mut());
    Ok(pointers.leak())
}

/// The CPUs that the calling thread may run on, ascending.
fn allowed_cpus() -> Vec<u16> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable and as large as stated; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        // More CPUs than the set has bits (1,024): the first ones will do.
        return (0..16).collect();
    }
    let all = 0..u16::try_from(libc::CPU_SETSIZE).unwrap_or(u16::MAX);
    // SAFETY: every index is below CPU_SETSIZE, the number of bits in the set.
    all.filter(|&cpu| unsafe { libc::CPU_ISSET(usize::from(cpu), &set) })
        .collect()
}
