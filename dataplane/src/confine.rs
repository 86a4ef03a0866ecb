//! What the process gives up once everything is open: capabilities, and system calls.
//!
//! A bug in the packet path meets frames from anybody. So after the start the process keeps no capability
//! but those that its devices need to be closed, can gain none (`no_new_privs`), and a
//! seccomp filter refuses every system call that is not on a list.
//!
//! A refused call fails with EPERM and does not end the process: a call that was forgotten here would
//! otherwise stop all traffic, and a program that cannot run others, open network devices or
//! trace processes gains nothing by trying. `dataplane.seccomp = "log"` lets such calls pass and has the
//! kernel log them (`journalctl -k`, type=1326), to find out.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use settings::{Device, Seccomp, Settings};

use crate::Error;

/// Numbers of capabilities (linux/capability.h).
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const IPC_LOCK: u64 = 1 << 14;
const BPF: u64 = 1 << 39;

/// Domains of sockets that may be made.
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_NETLINK: u64 = 16;

/// System calls of every data plane.
const ALWAYS: &[(i64, &str)] = &[
    (
        libc::SYS_read,
        "EAL's pipes to its lcores, /proc/net/dev, a successor's words",
    ),
    (libc::SYS_write, "log lines, the ready line, EAL's pipes"),
    (libc::SYS_writev, "log lines"),
    (libc::SYS_close, "files and sockets looked at for a moment"),
    (
        libc::SYS_sendto,
        "AF_PACKET and AF_XDP: tell the kernel to send; a successor's words",
    ),
    (
        libc::SYS_recvfrom,
        "AF_XDP: tell the kernel to receive; a successor's words",
    ),
    (libc::SYS_sendmsg, "netlink when a device is closed"),
    (
        libc::SYS_recvmsg,
        "EAL's thread for requests of other processes; netlink",
    ),
    (libc::SYS_ppoll, "as poll"),
    (libc::SYS_epoll_pwait, "as epoll_wait"),
    (libc::SYS_epoll_ctl, "EAL's interrupt thread"),
    (
        libc::SYS_epoll_create1,
        "EAL's interrupt thread, when its sources change",
    ),
    (libc::SYS_eventfd2, "EAL, when a device is closed"),
    (libc::SYS_timerfd_settime, "EAL's alarms"),
    (
        libc::SYS_ioctl,
        "state, MTU and index of interfaces; a device's own calls",
    ),
    (libc::SYS_getsockopt, "AF_XDP's counters"),
    (
        libc::SYS_setsockopt,
        "time-outs of the takeover's socket; devices when they are closed",
    ),
    (libc::SYS_getsockname, "netlink when a device is closed"),
    (libc::SYS_bind, "the takeover's socket"),
    (libc::SYS_listen, "the takeover's socket"),
    (libc::SYS_accept4, "the takeover's socket"),
    (
        libc::SYS_openat,
        "/proc/net/dev; the control file when it is made anew",
    ),
    (libc::SYS_faccessat, "as access"),
    (libc::SYS_fstat, "sizes and owners of files"),
    (libc::SYS_newfstatat, "as fstat"),
    (libc::SYS_statx, "as fstat"),
    (libc::SYS_fstatfs, "room on the region's filesystem"),
    (libc::SYS_statfs, "as fstatfs"),
    (libc::SYS_lseek, "files read as a whole"),
    (
        libc::SYS_pread64,
        "the region's header; a PCI device's configuration",
    ),
    (libc::SYS_pwrite64, "a PCI device's configuration"),
    (libc::SYS_fcntl, "descriptors of the region's files"),
    (
        libc::SYS_flock,
        "the region's lock, taken back when a takeover failed",
    ),
    (libc::SYS_ftruncate, "the control file when it is made anew"),
    (libc::SYS_fchmod, "rights of the control file"),
    (libc::SYS_fchown, "the group of the control file"),
    (libc::SYS_fchmodat, "as chmod"),
    (libc::SYS_renameat, "as rename"),
    (libc::SYS_renameat2, "as rename"),
    (libc::SYS_unlinkat, "as unlink"),
    (libc::SYS_mkdirat, "as mkdir"),
    (libc::SYS_getdents64, "devices in /sys, threads in /proc"),
    (libc::SYS_mmap, "memory; the region's files"),
    (libc::SYS_munmap, "memory; devices when they are closed"),
    (libc::SYS_mremap, "memory that grows"),
    (libc::SYS_mprotect, "the C library's arenas"),
    (
        libc::SYS_madvise,
        "huge pages for the region; memory given back",
    ),
    (libc::SYS_brk, "memory"),
    (libc::SYS_futex, "locks between the main core and EAL"),
    (libc::SYS_sched_yield, "waiting for workers"),
    (libc::SYS_nanosleep, "an idle turn"),
    (libc::SYS_clock_nanosleep, "an idle turn"),
    (
        libc::SYS_clock_gettime,
        "clocks, where the kernel gives no vDSO",
    ),
    (libc::SYS_gettimeofday, "as clock_gettime"),
    (libc::SYS_getrandom, "hash maps' seeds, the region's ids"),
    (libc::SYS_getpid, "the region's header, logs"),
    (libc::SYS_gettid, "EAL's logs"),
    (libc::SYS_geteuid, "owners of files"),
    (libc::SYS_getuid, "DPDK's paths"),
    (libc::SYS_sched_getaffinity, "EAL"),
    (libc::SYS_sched_setaffinity, "EAL"),
    (
        libc::SYS_rt_sigaction,
        "the handler of SIGBUS gives way when the fault is not its own",
    ),
    (libc::SYS_rt_sigprocmask, "the C library around thread ends"),
    (libc::SYS_rt_sigreturn, "the end of every signal handler"),
    (libc::SYS_sigaltstack, "the end of a thread"),
    (libc::SYS_restart_syscall, "sleep after SIGSTOP and SIGCONT"),
    (libc::SYS_exit, "the end of a thread"),
    (libc::SYS_exit_group, "the end"),
];

/// Older forms of some of them, which x86-64 alone has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(i64, &str)] = &[
    (libc::SYS_open, "as openat, in the C library's older calls"),
    (libc::SYS_access, "the C library, before some opens"),
    (libc::SYS_readlink, "devices in /sys when they are closed"),
    (libc::SYS_rename, "the control file's name"),
    (
        libc::SYS_unlink,
        "what an earlier data plane left half done",
    ),
    (libc::SYS_rmdir, "EAL's directory"),
    (libc::SYS_mkdir, "the region's folder, if it has gone"),
    (libc::SYS_chmod, "rights of the takeover's socket"),
    (libc::SYS_poll, "AF_PACKET: whether frames are there"),
    (libc::SYS_epoll_wait, "EAL's interrupt thread"),
    (
        libc::SYS_epoll_create,
        "EAL's interrupt thread, when a NIC's interrupt goes: without it EAL ends the process",
    ),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[(i64, &str)] = &[];

/// System calls of a data plane with AF_XDP links.
const FOR_AF_XDP: &[(i64, &str)] = &[(
    libc::SYS_bpf,
    "the map of an interface's program, when a queue is closed",
)];

/// Gives up what is not needed from here on.
///
/// # Errors
///
/// The kernel refuses, which it does not do to a process that asks for less.
pub(crate) fn confine(settings: &Settings) -> Result<(), Error> {
    let keep = capabilities(settings);
    dpdk::give_up_privileges(keep)
        .map_err(|error| Error::Confinement(format!("capabilities: {error}")))?;
    // What virtual devices call when a peer comes is each driver's own affair.
    let is_virtual = |link: &settings::Link| matches!(link.device, Device::Vdev(_));
    let action = match settings.dataplane.seccomp {
        _ if settings.links.iter().any(is_virtual) => None,
        Seccomp::Off => None,
        Seccomp::On => Some(SeccompAction::Errno(libc::EPERM.cast_unsigned())),
        Seccomp::Log => Some(SeccompAction::Log),
    };
    if let Some(action) = action {
        let filter = filter(settings, action).map_err(refused)?;
        // For all threads at once.
        seccompiler::apply_filter_all_threads(&filter).map_err(refused)?;
    }
    tracing::info!(
        capabilities = format!("{keep:#x}"),
        seccomp = ?settings.dataplane.seccomp,
        "privileges given up"
    );
    Ok(())
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Confinement(format!("seccomp: {error}"))
}

/// Capabilities that the links' devices need to be closed, or to meet a new peer. What AF_PACKET has open it
/// keeps, without any.
fn capabilities(settings: &Settings) -> u64 {
    let needed = settings.links.iter().map(|link| match link.device {
        Device::AfPacket(_) => 0,
        Device::AfXdp(_) => NET_ADMIN | BPF,
        Device::Pci(_) => IPC_LOCK,
        Device::Vdev(_) => NET_ADMIN | NET_RAW | IPC_LOCK,
    });
    needed.fold(0, |all, each| all | each)
}

fn filter(settings: &Settings, otherwise: SeccompAction) -> Result<BpfProgram, BackendError> {
    let device =
        |wanted: fn(&Device) -> bool| settings.links.iter().any(|link| wanted(&link.device));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let has_af_xdp = device(|device| matches!(device, Device::AfXdp(_)));
    let more = if has_af_xdp { FOR_AF_XDP } else { &[] };
    for (call, _) in ALWAYS.iter().chain(OLDER).chain(more) {
        rules.insert(*call, Vec::new());
    }
    // UNIX: takeover. INET: to ask about interfaces.
    let mut domains = vec![AF_UNIX, AF_INET];
    if has_af_xdp {
        domains.push(AF_NETLINK);
    }
    let domain = |domain| {
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, domain)?;
        SeccompRule::new(vec![is])
    };
    let domains = domains.into_iter().map(domain).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, domains);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(device: &str) -> Settings {
        settings::load_str(&format!("[[links]]\nname = \"a\"\ndevice = \"{device}\"\n")).unwrap()
    }

    #[test]
    fn af_packet_needs_no_capability_and_others_only_theirs() {
        assert_eq!(capabilities(&settings("af_packet:eth0")), 0);
        assert_eq!(capabilities(&settings("pci:0000:00:05.0")), IPC_LOCK);
        assert!(capabilities(&settings("af_xdp:eth0")) & BPF != 0);
    }

    #[test]
    fn every_call_is_listed_once_and_the_filter_compiles_for_every_device() {
        let all = || ALWAYS.iter().chain(OLDER).chain(FOR_AF_XDP);
        let mut calls: Vec<_> = all().map(|(call, _)| call).collect();
        calls.sort_unstable();
        let listed = calls.len();
        calls.dedup();
        assert_eq!(calls.len(), listed);
        assert!(all().all(|(_, reason)| !reason.is_empty()));
        for forbidden in [
            libc::SYS_execve,
            libc::SYS_ptrace,
            libc::SYS_clone,
            libc::SYS_mount,
        ] {
            assert!(!calls.contains(&&forbidden));
        }
        for device in [
            "af_packet:eth0",
            "af_xdp:eth0",
            "pci:0000:00:05.0",
            "vdev:net_null0",
        ] {
            let filter = filter(&settings(device), SeccompAction::Log).unwrap();
            assert!(filter.len() > ALWAYS.len());
        }
    }
}
