//! The tree in which the kernel's files are looked for.

use std::fs;
use std::path::{Path, PathBuf};

/// `/`, or a folder that stands for it in tests.
#[derive(Debug, Clone)]
pub struct Root {
    folder: PathBuf,
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Root {
    /// The tree below this folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Whether it is the machine's own, not one that stands for it.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.folder == Path::new("/")
    }

    /// Where an absolute path lies.
    #[must_use]
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.folder.join(absolute.trim_start_matches('/'))
    }

    /// Text of a file without white space around it; `None` if it cannot be read.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number that a file holds.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a folder, sorted; none if it does not exist.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Last part of what a symbolic link points to: sysfs names drivers and groups so.
    #[must_use]
    pub fn target(&self, link: &str) -> Option<String> {
        let target = fs::read_link(self.path(link)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether something is there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }
}
