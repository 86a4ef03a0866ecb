//! Where manifests come from.

use std::path::{Path, PathBuf};

use settings::{Settings, Source};

/// The directory that was typed, else the configuration's; `None` if that takes its objects from a
/// cluster.
pub(crate) fn directory(settings: &Settings, typed: Option<&Path>) -> Option<PathBuf> {
    match (typed, &settings.source) {
        (Some(path), _) => Some(path.to_owned()),
        (None, Source::Manifests { path }) => Some(path.clone()),
        (None, Source::Kubernetes { .. }) => None,
    }
}
