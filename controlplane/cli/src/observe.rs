//! The region of a running gateway.

use std::io;
use std::path::Path;

use hugepages::{LinkInfo, Region, RegionError};
use portgate_controlplane::observe::{SILENCE, silence};
use serde_json::{Map, Value};
use settings::Settings;

use crate::failure::Failure;

/// Maps the region of these settings, which a data plane uses now.
pub(crate) fn open(settings: &Settings) -> Result<Region, Failure> {
    let path = &settings.region.path;
    let region = Region::observe(path).map_err(|error| unusable(path, error))?;
    let silence = silence(&region);
    if silence > SILENCE {
        return Err(Failure::Failed(format!(
            "no data plane runs: process {} used the region {} last and has been silent for {} s; \
             start portgate-dataplane",
            region.data_plane().pid,
            path.display(),
            silence.as_secs()
        )));
    }
    Ok(region)
}

fn unusable(path: &Path, error: RegionError) -> Failure {
    let path = path.display();
    match error {
        RegionError::Flawed { .. } => Failure::Wrong(error.to_string()),
        RegionError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
            Failure::Failed(format!(
                "there is no region {path}: start portgate-dataplane, or name the file of its \
                 region in region.path"
            ))
        }
        RegionError::Io { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
            Failure::Failed(format!(
                "cannot open the region {path}: {cause}; run this as root or in the group of the \
                 file"
            ))
        }
        other => Failure::Failed(other.to_string()),
    }
}

/// The links' names, by their numbers; of those that say nothing of themselves the number.
pub(crate) fn link_names(region: &Region) -> Vec<String> {
    let name = |at: u16| {
        LinkInfo::read(&region.link(at)).map_or_else(|| format!("#{at}"), |info| info.name)
    };
    (0..region.geometry().links).map(name).collect()
}

/// Numbers by name.
pub(crate) fn numbers(pairs: impl IntoIterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
}
