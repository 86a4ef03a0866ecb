//! Where the programs of Kubernetes are.

use std::env;
use std::path::PathBuf;

/// Names the folder that `ci/cluster/build.sh` has filled.
const FOLDER: &str = "PORTGATE_CLUSTER_BIN";

/// Path of a program of Kubernetes.
///
/// # Panics
/// If it is not there, saying how to get it.
pub fn program(name: &str) -> PathBuf {
    let folder = env::var_os(FOLDER).unwrap_or_else(|| {
        panic!("{FOLDER} is not set: run `make test-cluster`, or let it name the folder that ci/cluster/build.sh prints")
    });
    let path = PathBuf::from(folder).join(name);
    assert!(
        path.is_file(),
        "{} is missing: run ci/cluster/build.sh",
        path.display()
    );
    path
}
