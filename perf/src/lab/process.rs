//! A program of the gateway: started, waited for, stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;

/// How long a program may take to be ready on a busy machine, with a large region to clear.
const READY: Duration = Duration::from_secs(60);

/// How long it may take to stop before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Bytes of a log that an error quotes.
const QUOTED: usize = 2000;

/// A running program; stopped on drop.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` and waits until it prints a line that begins with `ready`.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        ready: &str,
        logs: &Path,
    ) -> Result<Self, Error> {
        let fail = |error: std::io::Error| Error::Run(format!("cannot start {name}: {error}"));
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).map_err(fail)?)
            .stderr(File::create(&stderr).map_err(fail)?)
            .spawn()
            .map_err(fail)?;
        let mut process = Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        };
        let start = Instant::now();
        while !read(&process.stdout)
            .lines()
            .any(|line| line.starts_with(ready))
        {
            process.check()?;
            if start.elapsed() > READY {
                return Err(process.failure("is not ready after 60 s"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(process)
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failure(&format!("has ended ({status})"))),
            Err(error) => Err(self.failure(&format!("is lost: {error}"))),
        }
    }

    fn failure(&self, what: &str) -> Error {
        let log = read(&self.stderr);
        let start = log.len().saturating_sub(QUOTED);
        let tail = log.get(start..).unwrap_or(&log);
        Error::Run(format!("{} {what}; it said:\n{tail}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let end = Instant::now() + GRACE;
        if let (Ok(None), Some(pid)) = (
            self.child.try_wait(),
            Pid::from_raw(self.child.id().cast_signed()),
        ) {
            let _ = kill_process(pid, Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Process, Error> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sh", command, "ready", directory.path())
    }

    #[test]
    fn a_program_is_waited_for_and_its_end_noticed() {
        let mut process = shell("sleep 0.05; echo ready 7; exec sleep 30").unwrap();
        assert!(process.check().is_ok());
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        assert!(process.check().is_err());
    }

    #[test]
    fn a_program_that_does_not_start_is_quoted() {
        let error = shell("echo no such device >&2; exit 2").unwrap_err();
        assert!(error.to_string().contains("no such device"), "{error}");
    }
}
