//! What the machine gives a data plane: huge pages, an IOMMU, NICs; and how it is made to.
//!
//! Everything is read from /sys, /proc, /dev and /etc below a [`Root`], which tests replace by a folder, and
//! changed through a [`Kernel`]. Looking changes nothing; what is to be changed is first a list of [`Step`]s, which
//! can be shown instead of done.
//!
//! | module | knows |
//! |--------|-------|
//! | [`root`] | files, and their text |
//! | [`pages`], [`mounts`], [`limits`] | huge pages: pools, filesystems, bounds |
//! | [`iommu`], [`nics`], [`routes`] | devices, and who needs them |
//! | [`cores`] | CPUs of workers |
//! | [`need`] | what a configuration asks for |
//! | [`step`], [`undo`] | changes, and the way back |
//! | [`reserve`], [`bind`] | the two changes there are |
//! | [`status`] | all of it at one glance |

pub mod bind;
pub mod cores;
pub mod iommu;
pub mod limits;
pub mod mounts;
pub mod need;
pub mod nics;
pub mod pages;
pub mod reserve;
pub mod root;
pub mod routes;
pub mod status;
pub mod step;
pub mod undo;

#[cfg(test)]
mod fake;

pub use root::Root;
pub use step::{Kernel, Linux, Step};

/// Why the machine cannot be made to, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// What was asked for makes no sense here, or is not allowed without a word more.
    #[error("{0}")]
    Refused(String),
    /// The kernel did not do it.
    #[error("{0}")]
    Failed(String),
}

impl HostError {
    /// Exit status: 2 for what was refused, 1 for what failed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}
