//! Long-running programs inside a namespace: started, waited for, stopped, and their output kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// How long a program may take to stop after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Lines of a log that a failed test shows.
const SHOWN: usize = 60;

/// A running program; stopped on drop, its log shown if the test is failing.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` with its output going to `<logs>/<name>.out` and `<name>.err`.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Self {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        let open = |path: &Path| {
            // Appending: a program that a test restarts keeps the log of its earlier life.
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap_or_else(|error| {
                    panic!("cannot write {}: {error}", path.display());
                })
        };
        command
            .stdin(Stdio::null())
            .stdout(open(&stdout))
            .stderr(open(&stderr));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard output that begins with `start`, and returns that line.
    ///
    /// # Panics
    /// When the deadline passes or the program ends first; the message holds what it said.
    pub fn wait_for_line(&mut self, start: &str, deadline: Duration) -> String {
        let end = Instant::now() + deadline;
        loop {
            if let Some(line) = self.output().lines().find(|line| line.starts_with(start)) {
                return line.to_owned();
            }
            let exit = self.child.try_wait().ok().flatten();
            let late = Instant::now() >= end;
            assert!(
                exit.is_none() && !late,
                "{} {} before it printed a line {start:?}; it said:\n{}\n{}",
                self.name,
                exit.map_or(format!("took over {deadline:?}"), |status| format!(
                    "ended ({status})"
                )),
                self.output(),
                self.log(),
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// All of standard output so far.
    pub fn output(&self) -> String {
        read(&self.stdout)
    }

    /// All of standard error so far: the program's log.
    pub fn log(&self) -> String {
        read(&self.stderr)
    }

    /// Waits until the log holds a line with every one of `parts`, and returns that line.
    ///
    /// # Panics
    /// When the deadline passes first.
    pub fn wait_for_log(&self, parts: &[&str], deadline: Duration) -> String {
        wait::until(
            &format!("{} logs a line with {parts:?}", self.name),
            deadline,
            || {
                let all = self.log();
                let found = all
                    .lines()
                    .find(|line| parts.iter().all(|part| line.contains(part)));
                found.map(str::to_owned)
            },
        )
    }

    /// Whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the program to end by itself.
    ///
    /// # Panics
    /// When the deadline passes first.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends by itself", self.name);
        wait::until(&what, deadline, || self.child.try_wait().ok().flatten())
    }

    /// Asks the program to stop (SIGTERM), kills it if it does not, and returns how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        let end = Instant::now() + GRACE;
        self.signal(Signal::SIGTERM);
        // A frozen one does not hear it before.
        self.thaw();
        while self.is_running() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.kill9()
    }

    /// Kills the program without warning (SIGKILL) and waits for its end.
    pub fn kill9(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.child
            .wait()
            .unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name))
    }

    /// Stops the program where it stands (SIGSTOP), as if it were wedged.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen program go on (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal if the program has not ended: an ended child's id may be another's by now,
    /// but only after it was waited for, which `is_running` notices.
    fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let _ = kill(Pid::from_raw(self.id().cast_signed()), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = format!("{}{}", self.output(), self.log());
            let skipped = log.lines().count().saturating_sub(SHOWN);
            eprintln!("--- {} (last {SHOWN} lines) ---", self.name);
            log.lines()
                .skip(skipped)
                .for_each(|line| eprintln!("{line}"));
        }
        self.stop();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Process, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (Process::start("sh", command, directory.path()), directory)
    }

    #[test]
    fn a_ready_line_is_waited_for_and_returned_whole() {
        let (mut process, _directory) = shell("sleep 0.05; echo ready links=2; exec sleep 30");
        let line = process.wait_for_line("ready", Duration::from_secs(5));
        assert_eq!(line, "ready links=2");
        assert!(process.is_running());
    }

    #[test]
    #[should_panic(expected = "no such device")]
    fn a_program_that_ends_early_is_quoted() {
        let (mut process, _directory) = shell("echo no such device >&2; exit 2");
        process.wait_for_line("ready", Duration::from_secs(5));
    }

    #[test]
    fn a_program_is_asked_to_stop_or_killed_as_the_test_wishes() {
        use std::os::unix::process::ExitStatusExt;
        let (mut process, _directory) = shell("echo up; exec sleep 30");
        process.wait_for_line("up", Duration::from_secs(5));
        assert_eq!(process.stop().signal(), Some(15));
        let (mut process, _directory) = shell("echo up; exec sleep 30");
        process.wait_for_line("up", Duration::from_secs(5));
        assert_eq!(process.kill9().signal(), Some(9));
    }
}
