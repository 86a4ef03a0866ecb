//! Changes to the machine, as a list that can be shown before it is done.

use std::fmt;
use std::fs;
use std::io;
use std::process::Command;

use serde::Serialize;

use super::{HostError, Root};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Loads a module of the kernel.
    Load {
        /// Its name.
        module: String,
    },
    /// Writes to a file of the kernel's.
    Write {
        /// Absolute path.
        path: String,
        /// What is written; an empty line clears a setting.
        value: String,
    },
}

impl fmt::Display for Step {
    /// As a person would do it in a shell.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { module } => write!(formatter, "modprobe {module}"),
            Self::Write { path, value } if value == "\n" => write!(formatter, "echo > {path}"),
            Self::Write { path, value } => write!(formatter, "echo {value} > {path}"),
        }
    }
}

impl Step {
    /// Writes `value` to `path`.
    #[must_use]
    pub fn write(path: impl Into<String>, value: impl ToString) -> Self {
        Self::Write {
            path: path.into(),
            value: value.to_string(),
        }
    }

    /// Does it.
    ///
    /// # Errors
    ///
    /// [`HostError::Failed`] with the step and what the kernel said.
    pub fn apply(&self, kernel: &mut dyn Kernel) -> Result<(), HostError> {
        let done = match self {
            Self::Load { module } => kernel.load(module),
            Self::Write { path, value } => kernel.write(path, value),
        };
        done.map_err(|error| HostError::Failed(format!("{self}: {error}")))
    }
}

/// Who does the steps: Linux, or what stands for it in tests.
pub trait Kernel {
    /// Writes `value` to the file at this absolute path.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn write(&mut self, path: &str, value: &str) -> io::Result<()>;

    /// Loads a module.
    ///
    /// # Errors
    ///
    /// What modprobe says.
    fn load(&mut self, module: &str) -> io::Result<()>;
}

/// The kernel behind a root.
#[derive(Debug)]
pub struct Linux<'a>(pub &'a Root);

impl Kernel for Linux<'_> {
    fn write(&mut self, path: &str, value: &str) -> io::Result<()> {
        // Never made: what does not exist, this kernel does not have.
        let mut file = fs::File::options().write(true).open(self.0.path(path))?;
        io::Write::write_all(&mut file, value.as_bytes())
    }

    fn load(&mut self, module: &str) -> io::Result<()> {
        if !self.0.is_real() {
            return Err(io::Error::other(
                "modules are loaded into the real kernel alone",
            ));
        }
        let output = Command::new("modprobe").arg(module).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(said.trim().replace('\n', "; ")))
    }
}
