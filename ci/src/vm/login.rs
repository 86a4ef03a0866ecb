//! The way into the guest: ssh and scp, as an operator uses them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::image::{BOOT, Image};
use crate::netns::Namespace;
use crate::process::Process;

/// Address of the guest, and of whoever operates it.
const GUEST: &str = "192.0.2.2";
pub(super) const OPERATOR: &str = "192.0.2.1/24";

/// `ssh` and `scp` that know the guest as `gateway`.
#[derive(Debug)]
pub(super) struct Login {
    /// Folder for the search path.
    tools: PathBuf,
    /// Where a connection that is kept open can be used by others: an emulated CPU takes seconds to make one.
    kept: PathBuf,
}

impl Login {
    /// Writes them into a folder.
    pub(super) fn new(image: &Image, directory: &Path) -> Self {
        let made = Self {
            tools: directory.join("tools"),
            kept: directory.join("ssh"),
        };
        // ssh refuses keys that others may read, whatever the cache has become.
        let key = directory.join("key");
        let config = directory.join("ssh_config");
        let text = format!(
            "Host gateway\n HostName {GUEST}\n User root\n IdentityFile {}\n IdentitiesOnly yes\n \
             StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n ConnectTimeout 5\n \
             BatchMode yes\n ControlPath {}\n",
            key.display(),
            made.kept.display()
        );
        let write = || -> std::io::Result<()> {
            use std::os::unix::fs::PermissionsExt;
            fs::create_dir_all(&made.tools)?;
            fs::copy(image.file("key"), &key)?;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
            fs::write(&config, text)?;
            for name in ["ssh", "scp"] {
                let tool = made.tools.join(name);
                let config = config.display();
                let script = format!("#!/bin/sh\nexec /usr/bin/{name} -F {config} \"$@\"\n");
                fs::write(&tool, script)?;
                fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?;
            }
            Ok(())
        };
        write().unwrap_or_else(|error| panic!("cannot make {}: {error}", made.tools.display()));
        made
    }

    /// Keeps a connection open for all that follow, as long as what is returned lives.
    pub(super) fn keep_open(&self, namespace: &Namespace, logs: &Path) -> Process {
        let mut command = namespace.command(self.tools.join("ssh"));
        command.args(["-M", "-N", "gateway"]);
        let master = Process::start("ssh", command, logs);
        crate::wait::until("a connection is open", BOOT, || {
            self.kept.exists().then_some(())
        });
        master
    }

    /// Runs a script on the guest as root.
    pub(super) fn run(&self, namespace: &Namespace, script: &str) -> Result<String, String> {
        let mut command = namespace.command(self.tools.join("ssh"));
        command.args(["gateway", "sh", "-e"]);
        said(&pipe(&mut command, script))
    }

    /// Runs a script beside the guest, in `folder`.
    pub(super) fn run_beside(
        &self,
        namespace: &Namespace,
        script: &str,
        folder: &Path,
    ) -> Result<String, String> {
        let mut command = namespace.command("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.tools.display()));
        command.arg("-e").current_dir(folder);
        said(&pipe(&mut command, script))
    }
}

/// Runs a command with `script` on its standard input.
pub(super) fn pipe(command: &mut Command, script: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    // Whoever ends before it has read all has said why.
    let _ = child
        .stdin
        .take()
        .map(|mut input| input.write_all(script.as_bytes()));
    child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("cannot wait for {shown}: {error}"))
}

fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    Err(format!(
        "{} {}{}",
        output.status.code().unwrap_or(-1),
        out,
        error.trim()
    ))
}
