//! Threads of other processes, stopped for a while: what a busy machine does now and then, for certain.

use std::fs;
use std::marker::PhantomData;
use std::time::Duration;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::wait;

/// For a thread to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// A thread that is stopped as long as this lives; its process goes on. Only the thread that stops it can let it go.
#[derive(Debug)]
pub struct Held {
    thread: Pid,
    _not_send: PhantomData<*const ()>,
}

impl Held {
    /// Stops the thread of this name.
    ///
    /// # Panics
    ///
    /// If the process has no such thread, or it cannot be stopped.
    #[must_use]
    pub fn of(process: u32, name: &str) -> Self {
        let thread = Pid::from_raw(find(process, name));
        ptrace::seize(thread, Options::empty()).expect("a thread can be traced");
        let held = Self {
            thread,
            _not_send: PhantomData,
        };
        ptrace::interrupt(thread).expect("a traced thread can be stopped");
        let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        assert!(
            matches!(
                stopped,
                WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)
            ),
            "{stopped:?}"
        );
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = ptrace::detach(self.thread, None);
    }
}

/// A process that has just been started may have its name, and its threads, a moment later.
fn find(process: u32, name: &str) -> i32 {
    wait::until(&format!("thread {name}"), PATIENCE, || {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
        let is_wanted = |task: &fs::DirEntry| {
            let comm = fs::read_to_string(task.path().join("comm"));
            comm.is_ok_and(|comm| comm.trim() == name)
        };
        let task = tasks.flatten().find(is_wanted)?;
        task.file_name().to_str()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_held_thread_stands_still_and_goes_on() {
        let mut child = Command::new("yes").stdout(Stdio::null()).spawn().unwrap();
        let process = child.id();
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
            let rest = stat.rsplit(')').next().unwrap().trim_start();
            rest.chars().next().unwrap()
        };
        let held = Held::of(process, "yes");
        assert_eq!(state(), 't');
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(state(), 't');
        drop(held);
        wait::until("it goes on", PATIENCE, || (state() != 't').then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
