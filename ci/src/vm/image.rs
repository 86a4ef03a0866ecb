//! The guest's files.

use std::path::PathBuf;
use std::time::Duration;

/// Environment variable that names the folder of the guest; `ci/run.sh test-vm` sets it.
const IMAGE: &str = "PORTGATE_VM";

/// How long a guest may take to boot in software emulation.
pub(super) const BOOT: Duration = Duration::from_secs(300);

/// The guest's files, as `ci/vm/build.sh` makes them.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// The guest that `PORTGATE_VM` names.
    ///
    /// # Panics
    /// If it is not named, saying how to have it made.
    pub fn from_environment() -> Self {
        let folder = std::env::var_os(IMAGE).map(PathBuf::from);
        let folder = folder.unwrap_or_else(|| panic!("{IMAGE} is not set: run `make test-vm`"));
        assert!(
            folder.join("disk.img").is_file(),
            "there is no guest in {}: run `make test-vm`",
            folder.display()
        );
        Self { folder }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
