//! Why the command ends without success: one sentence and an exit code.

use std::io;

use portgate_controlplane::source::manifests::Unreadable;

/// Exit code of failures at run time.
const FAILED: u8 = 1;

/// Exit code of wrong use or configuration.
const WRONG: u8 = 2;

/// Why the command ends without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// The directory of manifests cannot be read.
    #[error(transparent)]
    Manifests(#[from] Unreadable),
    /// Arguments, or a file that they name, are wrong.
    #[error("{0}")]
    Wrong(String),
    /// Something failed at run time.
    #[error("{0}")]
    Failed(String),
    /// `check` has found problems, and has named them.
    #[error("there are problems")]
    Problems,
    /// The result cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// What to say; nothing when it has been said, or when the reader of a pipe has seen enough.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        (!self.is_closed_pipe() && !matches!(self, Self::Problems)).then(|| self.to_string())
    }

    /// 1 for what failed at run time, 2 for wrong use or configuration; 0 when a pipe was closed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Manifests(_) | Self::Wrong(_) | Self::Problems => WRONG,
            Self::Output(_) if self.is_closed_pipe() => 0,
            Self::Failed(_) | Self::Output(_) => FAILED,
        }
    }

    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<serde_json::Error> for Failure {
    /// What is shown always has a JSON form, so only writing it can fail.
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((closed.exit_code(), closed.sentence()), (0, None));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit_code(), 1);
        assert!(
            full.sentence()
                .is_some_and(|text| text.contains("cannot write"))
        );
    }

    #[test]
    fn wrong_use_is_told_from_bad_luck() {
        assert_eq!(Failure::Wrong(String::new()).exit_code(), 2);
        assert_eq!(Failure::Failed(String::new()).exit_code(), 1);
        assert_eq!(
            (Failure::Problems.exit_code(), Failure::Problems.sentence()),
            (2, None)
        );
    }
}
