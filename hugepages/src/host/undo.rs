//! What was before: kept in a file until the next boot, as the changes themselves are.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::{HostError, Root};

/// The file. /run is empty after a boot.
const FILE: &str = "/run/portgate/host.json";

/// State before the first change of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// Pools and how many pages they had.
    pub pools: Vec<PoolBefore>,
    /// NICs that are bound, and the drivers that they had.
    pub nics: Vec<NicBefore>,
    /// Whether vfio without IOMMU was switched on for them.
    pub no_iommu: bool,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // as in pages::Pool
pub struct PoolBefore {
    pub node: Option<u32>,
    pub size_kib: u64,
    pub reserved: u64,
}

/// A NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // as in nics::Nic
pub struct NicBefore {
    pub address: String,
    pub driver: Option<String>,
}

impl Before {
    /// Reads it; empty if nothing was changed.
    ///
    /// # Errors
    ///
    /// [`HostError::Failed`] if the file is no longer what was written.
    pub fn load(root: &Root) -> Result<Self, HostError> {
        match root.text(FILE) {
            None => Ok(Self::default()),
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                HostError::Failed(format!("{FILE} is damaged ({error}): remove it to go on"))
            }),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`HostError::Failed`] if that is not possible.
    pub fn save(&self, root: &Root) -> Result<(), HostError> {
        let write = || -> io::Result<()> {
            let file = root.path(FILE);
            if *self == Self::default() {
                return match fs::remove_file(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            }
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            let new = file.with_extension("new");
            fs::write(&new, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&new, &file)
        };
        write().map_err(|error| HostError::Failed(format!("{FILE}: {error}")))
    }

    /// The NIC as it was, if it was bound from here.
    #[must_use]
    pub fn nic(&self, address: &str) -> Option<&NicBefore> {
        self.nics.iter().find(|nic| nic.address == address)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn what_was_is_kept_and_an_empty_record_leaves_no_file() {
        let fake = Fake::new();
        let root = fake.root();
        let before = Before {
            nics: vec![NicBefore {
                address: "0000:00:02.0".into(),
                driver: Some("e1000e".into()),
            }],
            ..Before::default()
        };
        before.save(&root).unwrap();
        assert_eq!(Before::load(&root).unwrap(), before);
        Before::default().save(&root).unwrap();
        assert!(!root.has(FILE));
        assert_eq!(Before::load(&root).unwrap(), Before::default());
        fake.file(FILE, "{");
        assert!(
            Before::load(&root)
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
    }
}
