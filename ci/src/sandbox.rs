//! A machine for commands out of the documentation: the kernel's, with a network, process numbers and changeable folders of its
//! own. What is typed there can be typed word by word as on any machine, and all of it is gone when the value that stands
//! for the machine is dropped.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::netns::{PROXIES, require_root, unique};
use crate::process::Process;

/// What a machine makes of itself: private copies or empty folders where commands may write.
const MAKE: &str = r#"
set -e
mkdir -p "$home/etc" "$home/bin" "$home/share" "$home/log" "$home/root"
cp -a /etc/. "$home/etc/"
mount --bind "$home/etc" /etc
mount --bind "$home/bin" /usr/local/bin
mount --bind "$home/share" /usr/local/share
mount --bind "$home/log" /var/log
mount -t tmpfs tmpfs /run
mkdir /run/netns
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
echo "the machine is up"
# The first process buries those that lose their parents.
sleep infinity &
wait
"#;

/// The machine.
#[derive(Debug)]
pub struct Sandbox {
    init: Process,
    home: PathBuf,
    logs: PathBuf,
}

impl Sandbox {
    /// Makes a machine that keeps its files below `directory`. In the folder in which its operator works is what is in
    /// `source`, with the programs of `binaries` as if they had been built there.
    ///
    /// # Panics
    /// Without root, or if the kernel refuses.
    pub fn new(directory: &Path, source: &Path, binaries: &Path) -> Self {
        require_root();
        let home = directory.join("machine");
        let logs = directory.join("said");
        for folder in [&home, &logs] {
            fs::create_dir_all(folder)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        }
        look_like(&home.join("portgate"), source, binaries)
            .unwrap_or_else(|error| panic!("cannot make the operator's folder: {error}"));
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["bash", "-c", MAKE])
            .env("home", &home);
        let mut init = Process::start("machine", command, &logs);
        init.wait_for_line("the machine is up", Duration::from_secs(10));
        Self { init, home, logs }
    }

    /// The folder in which the operator works.
    pub fn folder(&self) -> PathBuf {
        self.home.join("portgate")
    }

    /// Starts a script of bash, which ends with its first command that fails, in a network namespace of the machine
    /// or in its own. Both outputs are in the process's output, in order.
    pub fn start(&self, namespace: Option<&str>, script: &str) -> Process {
        let id = self.init.id();
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &id.to_string(), "--mount", "--net"])
            .arg(format!("--pid=/proc/{id}/ns/pid_for_children"))
            .arg(format!("--wd={}", self.folder().display()))
            .args(["bash", "-c", "exec 2>&1; exec \"$@\"", "bash"]);
        if let Some(name) = namespace {
            command.args(["ip", "netns", "exec", name]);
        }
        command
            .args(["bash", "-euo", "pipefail", "-c", script])
            .env("HOME", self.home.join("root"))
            .env("LC_ALL", "C.UTF-8")
            // What is to be built is built already.
            .env("PORTGATE_BIN", self.folder().join("target/release"));
        for proxy in PROXIES {
            command.env_remove(proxy);
        }
        Process::start(&format!("command-{}", unique()), command, &self.logs)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // unshare does not listen to SIGTERM; with it goes the first process of the machine, and with that all others.
        self.init.kill9();
    }
}

fn look_like(folder: &Path, source: &Path, binaries: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("target"))?;
    symlink(binaries, folder.join("target/release"))?;
    for entry in fs::read_dir(source)?.flatten() {
        if entry.file_name() != "target" {
            symlink(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}
