//! A program on a terminal: `script` of util-linux gives it one, and what it draws and what it leaves behind is kept.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::netns::{Namespace, finish};
use crate::wait;

/// How long a program may take to draw on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program; ended on drop.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    said: Arc<Mutex<Vec<u8>>>,
    device: String,
}

impl Terminal {
    /// Starts a command line of the shell on a new terminal with so many columns and rows. When it has ended, its exit
    /// status comes as `ended N`, and the terminal's settings (`stty -a`) after it.
    ///
    /// # Panics
    /// Without `script`.
    pub fn start(namespace: &Namespace, line: &str, size: (u16, u16)) -> Self {
        let (columns, rows) = size;
        let line = format!(
            "stty cols {columns} rows {rows}; echo on $(tty); {line}; echo ended $?; stty -a"
        );
        let mut command = namespace.command("script");
        command.args(["--quiet", "--flush", "--command", &line, "/dev/null"]);
        command
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh");
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run script: {error}"));
        let (Some(keys), Some(mut screen)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("script has no pipes")
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
                said.extend(&buffer[..length]);
            }
        });
        let mut terminal = Self {
            child,
            keys,
            said,
            device: String::new(),
        };
        let text = terminal.wait("the terminal's name", |text| {
            text.contains("on /dev/pts/") && text.contains('\n')
        });
        let name = text.split_whitespace().nth(1);
        name.unwrap_or_default().clone_into(&mut terminal.device);
        terminal
    }

    /// All that was written to the terminal, control sequences included.
    pub fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until what was written satisfies `enough`, and returns it.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait(&self, what: &str, enough: impl Fn(&str) -> bool) -> String {
        wait::until(what, PATIENCE, || {
            Some(self.said()).filter(|text| enough(text))
        })
    }

    /// Types these bytes.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn press(&mut self, keys: &[u8]) {
        let typed = self.keys.write_all(keys).and_then(|()| self.keys.flush());
        typed.unwrap_or_else(|error| panic!("cannot type: {error}"));
    }

    /// Gives the terminal another size, as a window does that is pulled.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        finish(Command::new("stty").args(["-F", &self.device, "cols", &columns, "rows", &rows]));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
