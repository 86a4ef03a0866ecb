//! A directory of manifests, as kubectl writes them.
//!
//! `*.yaml`, `*.yml` and `*.json` directly inside the directory count, in the order of their
//! names; files whose name starts with a dot do not. Of an object that stands in several files
//! the last one counts.

mod parse;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::convert;
use crate::model::{ClusterObject, ObjectKind, ObjectName};
use crate::warning::Warning;

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
    let mut report = directory.read()?;
    report.objects = directory.objects(&mut report.warnings);
    Ok(report)
}

/// The directory of manifests cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("directory of manifests {}: {cause}", path.display())]
pub struct Unreadable {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub cause: std::io::Error,
}

/// A directory that is read again and again. A file that cannot be parsed leaves its previous
/// content in force.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    objects: Vec<ClusterObject>,
    warnings: Vec<Warning>,
}

/// By what a changed file is told without reading it: time of change, length, inode.
type Stamp = (SystemTime, u64, u64);

impl Directory {
    /// The directory at `path`, not yet read.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
        }
    }

    /// Reads what is new. The report has warnings only.
    ///
    /// # Errors
    ///
    /// The directory cannot be read; what was known of it is kept.
    pub fn read(&mut self) -> Result<LoadReport, Unreadable> {
        let paths = self.manifests().map_err(|cause| Unreadable {
            path: self.path.clone(),
            cause,
        })?;
        self.files.retain(|path, _| paths.contains_key(path));
        let mut report = LoadReport::default();
        for (path, stamp) in paths {
            let file = self.files.entry(path.clone()).or_default();
            if stamp.is_none() || file.stamp != stamp {
                file.refresh(&path, stamp);
            }
            report.warnings.extend_from_slice(&file.warnings);
        }
        Ok(report)
    }

    /// Every object of the directory, each once.
    pub fn objects(&self, warnings: &mut Vec<Warning>) -> Vec<ClusterObject> {
        let mut found: BTreeMap<(ObjectKind, ObjectName), (&Path, &ClusterObject)> =
            BTreeMap::new();
        for (path, file) in &self.files {
            for object in &file.objects {
                let key = (object.kind(), object.name().clone());
                if let Some((other, _)) = found.insert(key, (path, object)) {
                    warnings.push(Warning {
                        subject: format!("{} {}", object.kind().name(), object.name()),
                        message: format!(
                            "stands in {} and again in {}: the last one counts",
                            other.display(),
                            path.display()
                        ),
                    });
                }
            }
        }
        found
            .into_values()
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn manifests(&self) -> std::io::Result<BTreeMap<PathBuf, Option<Stamp>>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if !is_manifest(&path) {
                continue;
            }
            // Follows links: a mounted ConfigMap is made of them.
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    found.insert(path, stamp(&metadata));
                }
                Ok(_) => {}
                Err(_) => {
                    found.insert(path, None);
                }
            }
        }
        Ok(found)
    }
}

impl File {
    fn refresh(&mut self, path: &Path, stamp: Option<Stamp>) {
        let documents = fs::read_to_string(path)
            .map_err(|cause| parse::Failure::unreadable(&cause))
            .and_then(|text| parse::documents(path, &text));
        self.stamp = stamp;
        self.warnings.clear();
        match documents {
            Ok(documents) => {
                self.objects.clear();
                for document in &documents {
                    convert::document(document, &mut self.objects, &mut self.warnings);
                }
                for warning in &mut self.warnings {
                    warning.message = format!("{} (in {})", warning.message, path.display());
                }
            }
            Err(failure) => self.warnings.push(Warning {
                subject: match failure.line {
                    Some(line) => format!("{}:{line}", path.display()),
                    None => path.display().to_string(),
                },
                message: if self.objects.is_empty() {
                    format!("{}; the file is skipped", failure.message)
                } else {
                    format!("{}; its previous content stays in force", failure.message)
                },
            }),
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let hidden = name.is_none_or(|name| name.starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn stamp(metadata: &fs::Metadata) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests;
