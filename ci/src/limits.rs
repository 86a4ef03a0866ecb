//! Limits of the process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process open as many descriptors as it may without asking anybody.
///
/// # Panics
/// If the kernel refuses what it has promised.
pub fn allow_all_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .unwrap_or_else(|error| panic!("cannot read the descriptor limit: {error}"));
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .unwrap_or_else(|error| panic!("cannot allow {hard} open descriptors: {error}"));
}
