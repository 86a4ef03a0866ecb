//! Network namespaces that delete themselves, and veth pairs between them. Needs root and iproute2.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// First part of every name made here; then the process id, so that what a killed run left behind is
/// known.
const PREFIX: &str = "perf-";

/// A network namespace; deleted, with every device in it, on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with loopback up and IPv6 off on all other devices.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] without root, or if the kernel refuses.
    pub fn new(role: &str) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: all that matters is that the numbers differ.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            sweep();
        }
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let made = Self { name };
        made.ip("link set lo up")?;
        // The kernel is not to speak on devices that are a gateway's or a generator's.
        run(made.command("sysctl").args([
            "-qw",
            "net.ipv6.conf.all.disable_ipv6=1",
            "net.ipv6.conf.default.disable_ipv6=1",
            "net.ipv6.conf.lo.disable_ipv6=0",
        ]))?;
        Ok(made)
    }

    /// The name under `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. Its process id is the program's own: `ip netns exec` replaces
    /// itself by the program.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program.as_ref())
            .stdin(Stdio::null());
        command
    }

    /// Runs `ip` on this namespace with the words of `arguments`.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] with `ip`'s own words.
    pub fn ip(&self, arguments: &str) -> Result<(), Error> {
        let words = arguments.split_whitespace();
        run(Command::new("ip").args(["-n", &self.name]).args(words))
    }

    /// Moves the calling thread, and the threads that it will start, into this namespace for good.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] if the kernel refuses.
    pub fn enter(&self) -> Result<(), Error> {
        let path: PathBuf = Path::new(NAMES).join(&self.name);
        let fail =
            |error: std::io::Error| Error::Run(format!("cannot enter {}: {error}", path.display()));
        let file = File::open(&path).map_err(fail)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| fail(errno.into()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What ran inside was stopped by the values that stand for it; the next run sweeps.
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Joins two namespaces by a veth pair, both ends up, with real checksums and no frame longer than
/// the MTU, as a NIC would deliver them.
///
/// # Errors
///
/// [`Error::Run`] with the words of the command that failed.
pub fn connect(one: (&Namespace, &str), other: (&Namespace, &str)) -> Result<(), Error> {
    let ((one, near), (other, far)) = (one, other);
    one.ip(&format!(
        "link add {near} type veth peer name {far} netns {}",
        other.name
    ))?;
    for (namespace, device) in [(one, near), (other, far)] {
        let off = "rx off tx off sg off tso off gso off gro off".split(' ');
        run(namespace.command("ethtool").args(["-K", device]).args(off))?;
        namespace.ip(&format!("link set {device} up"))?;
    }
    Ok(())
}

/// Runs a command to its end.
///
/// # Errors
///
/// [`Error::Run`] with the command and what it wrote to standard error.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output();
    let shown = format!("{command:?}").replace('"', "");
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::Run(format!(
            "{shown} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
        Err(error) => Err(Error::Run(format!("cannot run {shown}: {error}"))),
    }
}

/// Removes namespaces whose process is gone.
fn sweep() {
    for entry in fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = run(Command::new("ip").args(["netns", "del", &name]));
        }
    }
}

/// The process id in a name that [`Namespace::new`] makes; `None` for any other name.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
    rest.split_once('-')?.0.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_read_from_names_of_this_module_only() {
        assert_eq!(owner("perf-4711-0-gateway"), Some(4711));
        for other in ["pg-4711-3-pod", "perf-4711", "perf-x-1-a", "perf-7-x-a"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
