//! The content of a directory, kept from one reading to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::convert;
use crate::model::{ClusterObject, ObjectKind, ObjectName};
use crate::source::event::Change;
use crate::warning::Warning;

use super::parse;

type Key = (ObjectKind, ObjectName);

/// A file that was changed so shortly before it was looked at may be changed again without another time of change: file
/// systems count in steps, of 2 s at most.
const FRESH: Duration = Duration::from_secs(2);

/// A directory that is read again and again. A file that cannot be parsed leaves its previous
/// content in force.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    files: BTreeMap<Arc<Path>, File>,
    /// The files that have each object; never empty.
    holders: BTreeMap<Key, BTreeSet<Arc<Path>>>,
}

/// What a reading has found out.
#[derive(Debug, Default)]
pub struct Reading {
    /// What differs from the reading before.
    pub changes: Vec<Change>,
    /// What is wrong in files that are new or different.
    pub warnings: Vec<Warning>,
}

/// The directory of manifests cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("directory of manifests {} cannot be read: {cause}", path.display())]
pub struct Unreadable {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub cause: std::io::Error,
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    /// Whether the stamp may not tell the next change: [`FRESH`].
    is_fresh: bool,
    /// Hash of what was read, or of why nothing could be.
    content: Option<u64>,
    objects: BTreeMap<Key, ClusterObject>,
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
            holders: BTreeMap::new(),
        }
    }

    /// Reads what is new.
    ///
    /// # Errors
    ///
    /// The directory cannot be read; what was known of it is kept.
    pub fn read(&mut self) -> Result<Reading, Unreadable> {
        let paths = manifests(&self.path).map_err(|cause| Unreadable {
            path: self.path.clone(),
            cause,
        })?;
        let mut reading = Reading::default();
        let mut touched = BTreeSet::new();
        let gone = self.files.keys().filter(|path| !paths.contains_key(*path));
        for path in gone.cloned().collect::<Vec<_>>() {
            self.exchange(&path, BTreeMap::new(), &mut touched, &mut reading.warnings);
            self.files.remove(&path);
        }
        for (path, stamp) in paths {
            let file = self.files.entry(Arc::clone(&path)).or_default();
            if stamp.is_some() && file.stamp == stamp && !file.is_fresh {
                continue;
            }
            file.is_fresh = stamp.is_some_and(is_fresh);
            file.stamp = stamp;
            let text = fs::read_to_string(&path);
            let content = Some(hash(&text));
            if file.content == content {
                continue;
            }
            file.content = content;
            let is_new = file.objects.is_empty();
            if let Some(objects) = load(&path, text, is_new, &mut reading.warnings) {
                self.exchange(&path, objects, &mut touched, &mut reading.warnings);
            }
        }
        reading.changes = touched.into_iter().map(|key| self.change(key)).collect();
        Ok(reading)
    }

    /// Every object of the directory, each once, by kind and name.
    #[must_use]
    pub fn objects(&self) -> Vec<ClusterObject> {
        let mut found: BTreeMap<&Key, &ClusterObject> = BTreeMap::new();
        for file in self.files.values() {
            found.extend(&file.objects);
        }
        found.into_values().cloned().collect()
    }

    /// Takes `objects` for the content of a file.
    fn exchange(
        &mut self,
        path: &Arc<Path>,
        objects: BTreeMap<Key, ClusterObject>,
        touched: &mut BTreeSet<Key>,
        warnings: &mut Vec<Warning>,
    ) {
        for key in objects.keys() {
            let holders = self.holders.entry(key.clone()).or_default();
            if let Some(other) = holders.iter().find(|other| *other != path) {
                warnings.push(twice(key, other.min(path), other.max(path)));
            }
            holders.insert(Arc::clone(path));
            touched.insert(key.clone());
        }
        let file = self.files.entry(Arc::clone(path)).or_default();
        let before = std::mem::replace(&mut file.objects, objects);
        for key in before
            .into_keys()
            .filter(|key| !file.objects.contains_key(key))
        {
            if let Some(holders) = self.holders.get_mut(&key) {
                holders.remove(path);
                if holders.is_empty() {
                    self.holders.remove(&key);
                }
            }
            touched.insert(key);
        }
    }

    fn change(&self, key: Key) -> Change {
        let file = self.holders.get(&key).and_then(BTreeSet::last);
        let file = file.and_then(|path| self.files.get(path));
        match file.and_then(|file| file.objects.get(&key)) {
            Some(object) => Change::Apply(object.clone()),
            None => Change::Delete(key.0, key.1),
        }
    }
}

/// Of this text, or of the kind of this failure.
fn hash(text: &io::Result<String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.as_ref().map_err(io::Error::kind).hash(&mut hasher);
    hasher.finish()
}

/// The objects of a file with this text; `None`, and a warning, if it cannot be read or parsed.
fn load(
    path: &Path,
    text: io::Result<String>,
    is_new: bool,
    warnings: &mut Vec<Warning>,
) -> Option<BTreeMap<Key, ClusterObject>> {
    let documents = text
        .map_err(|cause| parse::Failure::unreadable(&cause))
        .and_then(|text| parse::documents(path, &text));
    let documents = match documents {
        Ok(documents) => documents,
        Err(failure) => {
            let end = if is_new {
                "the file is skipped"
            } else {
                "its previous content stays"
            };
            let shown = path.display();
            warnings.push(Warning {
                subject: failure
                    .line
                    .map_or(shown.to_string(), |line| format!("{shown}:{line}")),
                message: format!("{}; {end}", failure.message),
            });
            return None;
        }
    };
    let (mut objects, mut found) = (Vec::new(), Vec::new());
    for document in &documents {
        convert::document(document, &mut objects, &mut found);
    }
    warnings.extend(found.into_iter().map(|warning| Warning {
        message: format!("{} (in {})", warning.message, path.display()),
        ..warning
    }));
    let mut by_key = BTreeMap::new();
    for object in objects {
        let key = (object.kind(), object.name().clone());
        if by_key.contains_key(&key) {
            warnings.push(twice(&key, path, path));
        }
        by_key.insert(key, object);
    }
    Some(by_key)
}

fn twice(key: &Key, first: &Path, second: &Path) -> Warning {
    Warning {
        subject: format!("{} {}", key.0.name(), key.1),
        message: format!(
            "stands in {} and again in {}: the last one counts",
            first.display(),
            second.display()
        ),
    }
}

fn manifests(directory: &Path) -> std::io::Result<BTreeMap<Arc<Path>, Option<Stamp>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !is_manifest(&path) {
            continue;
        }
        // Follows links: a mounted ConfigMap is made of them.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                found.insert(path.into(), stamp(&metadata));
            }
            Ok(_) => {}
            Err(_) => {
                found.insert(path.into(), None);
            }
        }
    }
    Ok(found)
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let hidden = name.is_none_or(|name| name.starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Also if it lies in the future.
fn is_fresh((changed, ..): Stamp) -> bool {
    let age = SystemTime::now().duration_since(changed);
    age.map_or(true, |age| age < FRESH)
}

fn stamp(metadata: &fs::Metadata) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
