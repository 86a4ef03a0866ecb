//! What happens when a mapped file is cut short by another process.
//!
//! The control file can be written by the group of the control plane, so it can be truncated by it.
//! A load from a page that is no longer there is SIGBUS, which would end the data plane. For a
//! guarded mapping, the signal's handler puts pages of zeros in the place of the whole mapping and
//! marks it as lost; the load then gives zero, which is as good as anything else that a broken peer
//! could have written. Whoever uses the mapping looks at [`Guard::is_lost`] and makes the file anew.
//!
//! (A sealed memfd could not be cut short, but has no name under which a control plane or an operator
//! could find it, and files on tmpfs and hugetlbfs cannot be sealed after they were made.)

use std::io;
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

/// Mappings that may be guarded at a time in one process; a program has one, a test some dozens.
const PLACES: usize = 256;

struct Place {
    /// First byte of the mapping; 0 = free, 1 = being taken.
    start: AtomicUsize,
    /// Its length in bytes.
    len: AtomicUsize,
    lost: AtomicBool,
}

#[allow(clippy::declare_interior_mutable_const)] // the initial value of each place
const FREE: Place = Place {
    start: AtomicUsize::new(0),
    len: AtomicUsize::new(0),
    lost: AtomicBool::new(false),
};

static GUARDED: [Place; PLACES] = [FREE; PLACES];

/// Keeps one mapping guarded; drop it before the mapping is removed.
#[derive(Debug)]
pub(super) struct Guard(usize);

impl Guard {
    /// Guards the mapping of `len` bytes from `start`.
    ///
    /// # Errors
    ///
    /// The handler cannot be installed, or too many mappings are guarded.
    pub(super) fn new(start: usize, len: usize) -> io::Result<Self> {
        install()?;
        let taken = GUARDED.iter().position(|place| {
            // Relaxed: the place is nobody else's from here, and not the handler's before `start`.
            let taking = place
                .start
                .compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
            taking.is_ok()
        });
        let at = taken.ok_or_else(|| io::Error::other("too many mappings are guarded"))?;
        let place = &GUARDED[at];
        place.lost.store(false, Ordering::Relaxed);
        place.len.store(len, Ordering::Relaxed);
        // Release, meets the Acquire in `on_bus_error`: the length is there.
        place.start.store(start, Ordering::Release);
        Ok(Self(at))
    }

    /// Whether the file was cut short, and the mapping is memory of this process alone since then.
    pub(super) fn is_lost(&self) -> bool {
        // Relaxed: the flag stands alone; it is looked at now and then.
        GUARDED[self.0].lost.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Release: the place's words are done with before somebody else takes it.
        GUARDED[self.0].start.store(0, Ordering::Release);
    }
}

/// Installs the handler, once in the life of the process.
fn install() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // SAFETY: an all-zero `sigaction` is a valid value of that plain C struct.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_bus_error as *const () as usize;
        // ONSTACK: a thread may have used up its stack, and then the next handler is asked.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `action` is initialised, with an empty mask; its handler is async-signal-safe: it
        // uses atomics and the system calls mmap and sigaction alone.
        if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, null_mut()) } != 0 {
            result = Err(io::Error::last_os_error());
        }
    });
    result
}

/// Replaces the guarded mapping that `info` names by zeros, or lets the process end as it would have.
extern "C" fn on_bus_error(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, and for SIGBUS it has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    for place in &GUARDED {
        // Acquire, meets the Release in `Guard::new`.
        let start = place.start.load(Ordering::Acquire);
        let len = place.len.load(Ordering::Relaxed);
        if start <= 1 || address < start || address - start >= len {
            continue;
        }
        // SAFETY: the range is exactly one mapping of this process, kept by its `Guard`, and stays
        // mapped: its pages change from the file's to zeros, and nothing but atomics refers to them.
        let zeros = unsafe {
            libc::mmap(
                start as *mut c_void,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if zeros != libc::MAP_FAILED {
            place.lost.store(true, Ordering::Relaxed);
            return;
        }
    }
    // Not ours: the load is tried again and ends the process, as without a handler.
    // SAFETY: an all-zero `sigaction` is SIG_DFL with an empty mask.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `default` is initialised; sigaction is async-signal-safe.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const default, null_mut()) };
}
