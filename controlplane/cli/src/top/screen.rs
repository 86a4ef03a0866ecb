//! The terminal: taken for the screen, and given back however the command ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ratatui::DefaultTerminal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::failure::Failure;

/// A signal that asks the command to end.
#[derive(Debug, Clone)]
pub(super) struct Caught(Arc<AtomicUsize>);

impl Caught {
    /// Notes these signals from now on. A second one ends the command at once, as if nobody had listened: it may
    /// hang, for want of somebody who reads what it writes.
    fn listen() -> io::Result<Self> {
        let caught = Self(Arc::default());
        let is_second = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            flag::register_conditional_default(signal, Arc::clone(&is_second))?;
            flag::register(signal, Arc::clone(&is_second))?;
            flag::register_usize(
                signal,
                Arc::clone(&caught.0),
                signal.unsigned_abs() as usize,
            )?;
        }
        Ok(caught)
    }

    /// The number of the signal, if one came.
    pub(super) fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}

/// Takes the terminal while `show` runs, and leaves it as it was: after its end, after a panic, and after a signal, for
/// which `show` looks now and then, and of which the process then dies.
///
/// # Errors
///
/// Those of `show`; [`Failure::Output`] if the terminal cannot be taken.
pub(super) fn with(
    show: impl FnOnce(&mut DefaultTerminal, &Caught) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let caught = Caught::listen()?;
    // Its hook for panics leaves the screen before the message is written.
    let mut terminal = ratatui::try_init().inspect_err(|_| give_back())?;
    let result = show(&mut terminal, &caught);
    give_back();
    if let Some(signal) = caught.signal() {
        // The process does not come to the end of `terminal`, which would do so.
        let _ = terminal.show_cursor();
        low_level::emulate_default_handler(signal)?;
    }
    result
}

/// Not `ratatui::restore`, which writes about its failure to a standard error that may be gone, too.
fn give_back() {
    let _ = ratatui::try_restore();
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set for the test's second self, which runs on a terminal.
    const ON_TERMINAL: &str = "PORTGATE_TEST_ON_TERMINAL";

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        if std::env::var_os(ON_TERMINAL).is_some() {
            let _ = with(|_, _| panic!("a bug"));
        }
        let myself = std::env::current_exe().unwrap();
        let name = "top::screen::tests::a_panic_leaves_the_terminal_as_it_was";
        let line = format!("{} --nocapture --exact {name}; stty -a", myself.display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--command", &line, "/dev/null"]);
        let environment = [(ON_TERMINAL, "1"), ("TERM", "xterm"), ("SHELL", "/bin/sh")];
        let said = script.envs(environment).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout);
        let [begun, ended, why] =
            ["\u{1b}[?1049h", "\u{1b}[?1049l", "a bug"].map(|part| said.find(part));
        assert!(begun.is_some() && begun < ended && ended < why, "{said:?}");
        for (setting, off) in [("icanon", "-icanon"), ("isig", "-isig"), ("echo", "-echo ")] {
            assert!(said.contains(setting) && !said.contains(off), "{said:?}");
        }
    }
}
