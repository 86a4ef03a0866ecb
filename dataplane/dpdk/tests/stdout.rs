//! Standard output belongs to the programs; DPDK's log, however chatty, goes to stderr.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use common::{config, pool};
use dpdk::{Eal, EalConfig, LogLevel, Port, PortConfig, PortDevice};

#[test]
fn dpdk_writes_nothing_to_stdout_and_its_log_to_stderr() {
    let out = Redirected::to_file(1);
    let err = Redirected::to_file(2);
    let result = std::panic::catch_unwind(|| {
        let debug = EalConfig {
            log_level: LogLevel::Debug,
            ..config(false)
        };
        let eal = Eal::init(&debug).unwrap();
        let mempool = pool(&eal, "frames");
        for device in ["net_ring0", "net_null0", "net_no_such0"] {
            let device = PortDevice::Vdev(device.to_owned());
            let _ = Port::open(&eal, &device, &PortConfig::default(), &mempool);
        }
    });
    let (out, err) = (out.finish(), err.finish());
    result.unwrap();
    assert_eq!(out, "");
    assert!(
        err.contains("EAL: ") && err.contains("net_no_such0"),
        "{err}"
    );
}

/// A standard descriptor that leads to a file for a while.
struct Redirected {
    descriptor: i32,
    saved: OwnedFd,
    file: File,
}

impl Redirected {
    fn to_file(descriptor: i32) -> Self {
        let path = std::env::temp_dir();
        let path = path.join(format!("portgate-test-{}-{descriptor}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(path).unwrap();
        // SAFETY: no pointers; the copy is owned by nobody else, and `file` is open.
        let saved = unsafe {
            let saved = OwnedFd::from_raw_fd(libc::dup(descriptor));
            assert!(libc::dup2(file.as_raw_fd(), descriptor) >= 0);
            saved
        };
        Self {
            descriptor,
            saved,
            file,
        }
    }

    fn finish(mut self) -> String {
        // SAFETY: a null stream stands for all; both descriptors are open.
        unsafe {
            libc::fflush(std::ptr::null_mut());
            assert!(libc::dup2(self.saved.as_raw_fd(), self.descriptor) >= 0);
        }
        let mut text = Vec::new();
        self.file.rewind().unwrap();
        self.file.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}
