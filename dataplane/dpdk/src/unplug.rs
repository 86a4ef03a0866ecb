//! PCI devices that the machine wants to take away while they are in use.
//!
//! The kernel does not take a device out of vfio's hands: it asks whoever has it open to close it (vfio's request
//! interrupt), and waits. EAL's interrupt thread hears the question and tells whoever registered for the device.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Errno;

/// For each port, whether its device is asked for. Only stored and loaded, so that a late question finds something to
/// write to whatever has become of the port.
static ASKED: [AtomicBool; dpdk_sys::RTE_MAX_ETHPORTS as usize] =
    [const { AtomicBool::new(false) }; dpdk_sys::RTE_MAX_ETHPORTS as usize];

/// Tries to stop listening while a question is under way.
const TRIES: u32 = 1000;

/// From here on [`is_asked_for`] knows when the port's device is to go.
pub(crate) fn listen(name: &CStr, port: u16) -> Result<(), Errno> {
    // Relaxed, here and below: the flag stands alone.
    ASKED[usize::from(port)].store(false, Ordering::Relaxed);
    let argument = ptr::without_provenance_mut(usize::from(port));
    // SAFETY: a null-terminated string that the callee copies; the function takes any argument.
    let result = unsafe {
        dpdk_sys::rte_dev_event_callback_register(name.as_ptr(), Some(on_event), argument)
    };
    if result < 0 {
        return Err(Errno::from_return(result));
    }
    Ok(())
}

/// The end of [`listen`].
pub(crate) fn forget(name: &CStr, port: u16) {
    let argument = ptr::without_provenance_mut(usize::from(port));
    for _ in 0..TRIES {
        // SAFETY: as in `listen`. Should the function stay registered, it does no harm.
        let result = unsafe {
            dpdk_sys::rte_dev_event_callback_unregister(name.as_ptr(), Some(on_event), argument)
        };
        if result != -libc::EAGAIN {
            break;
        }
        std::thread::yield_now();
    }
    ASKED[usize::from(port)].store(false, Ordering::Relaxed);
}

/// Whether the machine wants the port's device back.
pub(crate) fn is_asked_for(port: u16) -> bool {
    ASKED[usize::from(port)].load(Ordering::Relaxed)
}

/// Called by EAL's interrupt thread. The argument is a port's number, not a pointer.
unsafe extern "C" fn on_event(
    _name: *const c_char,
    event: dpdk_sys::rte_dev_event_type,
    port: *mut c_void,
) {
    let asked = ASKED.get(port.addr());
    if let (dpdk_sys::RTE_DEV_EVENT_REMOVE, Some(asked)) = (event, asked) {
        asked.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_asked_for_once_its_device_is_to_be_removed() {
        let port = ptr::without_provenance_mut(7);
        let none = ptr::null();
        // SAFETY: the function looks at event and argument alone.
        unsafe {
            on_event(none, dpdk_sys::RTE_DEV_EVENT_ADD, port);
            assert!(!is_asked_for(7));
            on_event(none, dpdk_sys::RTE_DEV_EVENT_REMOVE, port);
            on_event(
                none,
                dpdk_sys::RTE_DEV_EVENT_REMOVE,
                ptr::without_provenance_mut(4096),
            );
        }
        assert!(is_asked_for(7) && !is_asked_for(6));
    }

    #[test]
    fn whoever_listens_anew_starts_without_the_question_of_before() {
        // EAL keeps its list of listeners whether or not it was started.
        let name = c"0000:00:1f.7";
        listen(name, 9).unwrap();
        // SAFETY: as above.
        unsafe {
            let port = ptr::without_provenance_mut(9);
            on_event(name.as_ptr(), dpdk_sys::RTE_DEV_EVENT_REMOVE, port);
        }
        assert!(is_asked_for(9));
        forget(name, 9);
        listen(name, 9).unwrap();
        assert!(!is_asked_for(9));
        forget(name, 9);
    }
}
