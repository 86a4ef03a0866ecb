//! A directory of manifests, as kubectl writes them.
//!
//! `*.yaml`, `*.yml` and `*.json` directly inside the directory count, in the order of their
//! names; files whose name starts with a dot do not. Of an object that stands in several files, or
//! several times in one, the last one counts.

mod directory;
mod parse;
mod watch;

use std::path::Path;

use crate::model::ClusterObject;
use crate::warning::Warning;

pub use directory::{Directory, Reading, Unreadable};
pub use watch::spawn;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Its objects, each once, ordered by kind and name.
    pub objects: Vec<ClusterObject>,
    /// What in it is not served, and why.
    pub warnings: Vec<Warning>,
}

/// Reads a directory once.
///
/// # Errors
///
/// The directory itself cannot be read. What is wrong with a file is a warning.
pub fn load_dir(path: &Path) -> Result<LoadReport, Unreadable> {
    let mut directory = Directory::new(path);
    let read = directory.read()?;
    Ok(LoadReport {
        objects: directory.objects(),
        warnings: read.warnings,
    })
}

#[cfg(test)]
mod tests;
