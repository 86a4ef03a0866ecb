//! Network namespaces that delete themselves, and veth pairs between them.
//!
//! Names are `pg-<pid>-<n>-<role>`. The process id makes them unique among tests that run at the
//! same time, and lets the next run recognise what a killed run left behind ([`sweep`]).

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// Variables that would send a client's requests to a proxy, which no namespace reaches.
pub(crate) const PROXIES: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
];

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// First part of every name made here.
const PREFIX: &str = "pg";

/// Offloads a veth must not use when its peer is read as raw frames: the kernel would leave
/// checksums unfinished and hand over segments of up to 64 kB, for hardware that does not exist.
const OFFLOADS: &[&str] = &[
    "rx", "off", "tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off",
];

/// A network namespace; deleted, with every device in it, on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// Whether the ends of a veth pair pretend to have hardware that finishes checksums and segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offloads {
    /// Real checksums and frames no longer than the MTU: what a NIC would deliver.
    Off,
    /// The kernel's default, a trap for whoever reads raw frames.
    Kernel,
}

/// Fails the test at once, with a sentence, unless it runs as root.
pub fn require_root() {
    assert!(
        Uid::effective().is_root(),
        "end-to-end tests make network namespaces and need root"
    );
}

/// A number no other call in this process gets: for names of namespaces and files.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Relaxed: the only use of the number is that it differs from all others.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Namespace {
    /// Makes a namespace with loopback up and IPv6 router discovery off.
    ///
    /// # Panics
    /// Without root, or if the kernel refuses.
    pub fn new(role: &str) -> Self {
        require_root();
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);

        let name = format!("{PREFIX}-{}-{}-{role}", std::process::id(), unique());
        finish(Command::new("ip").args(["netns", "add", &name]));
        let made = Self { name };
        made.ip("link set lo up");
        made.sysctl("net.ipv6.conf.all.accept_ra", "0");
        made.sysctl("net.ipv6.conf.default.accept_ra", "0");
        made
    }

    /// The name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. The process id of the child is the program's own: `ip netns
    /// exec` replaces itself by the program.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program.as_ref());
        for proxy in PROXIES {
            command.env_remove(proxy);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs `ip` on this namespace with the words of `arguments`.
    ///
    /// # Panics
    /// With `ip`'s own words if it fails.
    pub fn ip(&self, arguments: &str) -> String {
        finish(
            Command::new("ip")
                .args(["-n", &self.name])
                .args(arguments.split_whitespace()),
        )
    }

    /// Gives `device` an address; usable at once (no duplicate address detection).
    pub fn add_address(&self, device: &str, address: IpAddr, prefix: u8) {
        let nodad = if address.is_ipv6() { "nodad" } else { "" };
        self.ip(&format!(
            "address add {address}/{prefix} dev {device} {nodad}"
        ));
    }

    /// Writes a sysctl of this namespace (`net.ipv4.ip_forward`, ...).
    ///
    /// # Panics
    /// If the kernel does not know the key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.enter(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("sysctl {key}={value} in {}: {error}", self.name));
    }

    /// Whether the kernel has this sysctl for namespaces.
    pub fn has_sysctl(&self, key: &str) -> bool {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| path.exists())
    }

    /// Runs `work` on a thread that is inside this namespace, and returns what it returned.
    ///
    /// Sockets stay in the namespace they were made in, so a test can make one here and use it
    /// outside. A panic of `work` goes on in the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new(NAMES).join(&self.name);
        let inside = || {
            let file = File::open(&path)
                .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
            setns(file, CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|error| panic!("cannot enter {}: {error}", path.display()));
            work()
        };
        // A thread of its own, because there is no way back that works for every caller.
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// MAC address of a device inside.
    pub fn mac(&self, device: &str) -> [u8; 6] {
        let shown = self.ip(&format!("-o link show dev {device}"));
        let mut words = shown
            .split_whitespace()
            .skip_while(|word| *word != "link/ether")
            .skip(1);
        let text = words
            .next()
            .unwrap_or_else(|| panic!("{device} has no MAC: {shown}"));
        let bytes: Vec<u8> = text
            .split(':')
            .filter_map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        bytes
            .try_into()
            .unwrap_or_else(|_| panic!("{text} is not a MAC address"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The processes inside were stopped by the values that stand for them. Errors are of no
        // use here: the next run sweeps.
        let _ = quietly(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Joins two namespaces by a veth pair, both ends up, and sets the offloads of both.
pub fn connect(one: (&Namespace, &str), other: (&Namespace, &str), offloads: Offloads) {
    let ((one, near), (other, far)) = (one, other);
    one.ip(&format!(
        "link add {near} type veth peer name {far} netns {}",
        other.name
    ));
    for (namespace, device) in [(one, near), (other, far)] {
        if offloads == Offloads::Off {
            finish(
                namespace
                    .command("ethtool")
                    .args(["-K", device])
                    .args(OFFLOADS),
            );
        }
        namespace.ip(&format!("link set {device} up"));
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Panics
/// With the command and its standard error if it cannot be run or fails.
pub fn finish(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let output = quietly(command).unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    assert!(
        output.status.success(),
        "{shown} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn quietly(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

/// Removes namespaces whose test process is gone, with what still runs inside them.
fn sweep() {
    let Ok(entries) = fs::read_dir(NAMES) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = owner(&name) else { continue };
        if alive(owner) {
            continue;
        }
        let inside = quietly(Command::new("ip").args(["netns", "pids", &name]));
        let inside = inside.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&inside)
            .lines()
            .filter_map(|line| line.parse().ok())
        {
            // Whatever is inside was started by the owner: nobody else knows the name.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = quietly(Command::new("ip").args(["netns", "del", &name]));
    }
}

/// The process id in a name that [`Namespace::new`] makes; `None` for any other name.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('-')?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next()?;
    Some(pid)
}

/// Whether a process with this id exists.
pub(crate) fn alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_from_names_of_the_harness_only() {
        assert_eq!(owner("pg-4711-3-client"), Some(4711));
        assert_eq!(owner("pg-4711-3-pod-1"), Some(4711));
        assert_eq!(owner("pg-demo-4711-client"), None);
        assert_eq!(owner("pg-x-3-client"), None);
        assert_eq!(owner("other-4711-3-client"), None);
        assert_eq!(owner("pg-4711"), None);
    }

    #[test]
    fn unique_numbers_differ() {
        assert_ne!(unique(), unique());
    }
}
