//! What must be done in every thread of the process, those of DPDK included: giving up privileges.
//!
//! Linux keeps capabilities and `no_new_privs` by thread, and has no call that changes them for a whole process. EAL's
//! threads are not ours to run code in, so each is sent a signal whose handler does it, as the C
//! library does for `setuid`.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, c_long};

/// How long the threads may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;

/// The call's argument, the number of threads that have done it, and the last error.
static KEEP: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);
static ERROR: AtomicI32 = AtomicI32::new(0);

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Head {
    version: u32,
    pid: c_int,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up, in all threads of the process, all capabilities but those in `keep` (bit = number of
/// the capability), and the way to gain others by running a program (`no_new_privs`). Those that a thread does
/// not have are not gained. New threads have what the one that starts them has.
///
/// Call it when no other thread starts threads. The first real-time signals' last one is used for it.
///
/// # Errors
///
/// A thread could not be reached or has more capabilities afterwards.
pub fn give_up_privileges(keep: u64) -> io::Result<()> {
    KEEP.store(keep, Ordering::Relaxed);
    DONE.store(0, Ordering::Relaxed);
    ERROR.store(0, Ordering::Relaxed);
    let signal = libc::SIGRTMAX();
    set_handler(signal, on_signal as *const () as usize)?;
    // SAFETY: no pointers involved.
    let own = unsafe { libc::gettid() };
    let mut asked = 0;
    for thread in threads()? {
        if thread == own {
            continue;
        }
        // SAFETY: no pointers involved; a thread that has ended meanwhile gives ESRCH.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_tgkill,
                c_long::from(libc::getpid()),
                c_long::from(thread),
                c_long::from(signal),
            )
        };
        asked += usize::from(sent == 0);
    }
    let end = Instant::now() + PATIENCE;
    // Acquire, meets the Release in `on_signal`: an error is there.
    while DONE.load(Ordering::Acquire) < asked {
        if Instant::now() > end {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a thread does not react",
            ));
        }
        std::thread::yield_now();
    }
    set_handler(signal, libc::SIG_IGN)?;
    match limit_own(keep).and(match ERROR.load(Ordering::Relaxed) {
        0 => Ok(()),
        error => Err(error),
    }) {
        Ok(()) => check(keep),
        Err(error) => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Ids of the process's threads.
fn threads() -> io::Result<Vec<c_int>> {
    let entries = fs::read_dir("/proc/self/task")?.flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.collect())
}

/// Looks at every thread's sets.
fn check(keep: u64) -> io::Result<()> {
    for thread in threads()? {
        let Ok(status) = fs::read_to_string(format!("/proc/self/task/{thread}/status")) else {
            continue; // ended meanwhile
        };
        for name in ["CapPrm:", "CapEff:", "CapInh:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let set = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
            if set.is_none_or(|set| set & !keep != 0) {
                return Err(io::Error::other(format!(
                    "thread {thread} has kept capabilities"
                )));
            }
        }
    }
    Ok(())
}

fn set_handler(signal: c_int, handler: usize) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zero is valid for every field of that plain C struct.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler;
    // Calls that were interrupted go on: the threads shall not notice.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised, with an empty mask; the handler, if there is one, makes system
    // calls and stores to atomics alone.
    if unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

extern "C" fn on_signal(_signal: c_int) {
    // SAFETY: the C library's errno of this thread, which the interrupted code may be about to read.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    if let Err(error) = limit_own(KEEP.load(Ordering::Relaxed)) {
        ERROR.store(error, Ordering::Relaxed);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
    // Release, meets the Acquire in `give_up_privileges`.
    DONE.fetch_add(1, Ordering::Release);
}

/// For the calling thread; the error is an errno.
fn limit_own(keep: u64) -> Result<(), c_int> {
    let mut head = Head {
        version: VERSION,
        pid: 0,
    };
    let mut sets = [Sets::default(); 2];
    // SAFETY: both point to what the call expects of this version: a header and two structs of sets.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut head, sets.as_mut_ptr()) };
    if result != 0 {
        return Err(errno());
    }
    for (sets, keep) in sets.iter_mut().zip([keep as u32, (keep >> 32) as u32]) {
        sets.effective &= keep;
        sets.permitted &= keep;
        sets.inheritable &= keep;
    }
    // SAFETY: as above; the call only reads.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut head, sets.as_ptr()) };
    if result != 0 {
        return Err(errno());
    }
    let (yes, unused): (c_long, c_long) = (1, 0);
    // SAFETY: no pointers involved.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_NO_NEW_PRIVS,
            yes,
            unused,
            unused,
            unused,
        )
    };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

fn errno() -> c_int {
    // SAFETY: the calling thread's errno.
    unsafe { *libc::__errno_location() }
}
