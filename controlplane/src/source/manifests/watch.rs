//! Watching a directory of manifests.
//!
//! A thread of its own: reading and parsing block, and there is nothing to be concurrent with.
//! Notifications only say when to look; every look reads the whole directory's names and stamps, so
//! a lost notification costs no more than [`RESCAN`].

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

use crate::model::ObjectKind;
use crate::source::event::{Events, SourceEvent};
use crate::warning::Warning;

use super::directory::{Directory, Unreadable};

/// Quiet time after a notification before the directory is read, and the longest such wait.
const SETTLE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Between looks without any notification.
const RESCAN: Duration = Duration::from_secs(3);

/// Reads the directory and goes on watching it until nobody listens any more.
///
/// # Errors
///
/// The directory cannot be read now. If that happens later, its last content stays in force.
pub fn spawn(path: &Path, events: Events) -> Result<(), Unreadable> {
    let mut directory = Directory::new(path);
    let reading = directory.read()?;
    let path = path.to_owned();
    std::thread::Builder::new()
        .name("manifests".into())
        .spawn(move || {
            // Fails when nobody listens any more, which is the end.
            let _ = first(&directory, reading.warnings, &events)
                .and_then(|()| watch(&mut directory, &path, &events));
        })
        .map(drop)
        .map_err(|cause| Unreadable {
            path: PathBuf::new(),
            cause,
        })
}

/// Nobody listens any more.
struct Deaf;

fn send(events: &Events, event: SourceEvent) -> Result<(), Deaf> {
    events.blocking_send(event).map_err(|_| Deaf)
}

fn first(directory: &Directory, warnings: Vec<Warning>, events: &Events) -> Result<(), Deaf> {
    send(events, SourceEvent::Warnings(warnings))?;
    let mut kinds: BTreeMap<ObjectKind, Vec<_>> = ObjectKind::ALL
        .into_iter()
        .map(|kind| (kind, Vec::new()))
        .collect();
    for object in directory.objects() {
        kinds.entry(object.kind()).or_default().push(object);
    }
    for (kind, objects) in kinds {
        send(events, SourceEvent::Replace(kind, objects))?;
    }
    Ok(())
}

fn watch(directory: &mut Directory, path: &Path, events: &Events) -> Result<(), Deaf> {
    let (sender, notifications) = channel();
    let mut watched = Watched::default();
    let mut readable = true;
    loop {
        // What changed before the watch began is found by looking at once.
        if !watched.renew(path, &sender) {
            wait(&notifications);
        }
        match directory.read() {
            Ok(reading) => {
                readable = true;
                if !reading.warnings.is_empty() {
                    send(events, SourceEvent::Warnings(reading.warnings))?;
                }
                if !reading.changes.is_empty() {
                    send(events, SourceEvent::Changes(reading.changes))?;
                }
                for kind in ObjectKind::ALL {
                    send(events, SourceEvent::Contact(kind))?;
                }
            }
            Err(error) if readable => {
                readable = false;
                let warning = Warning {
                    subject: "source".into(),
                    message: format!("{error}; its last content stays in force"),
                };
                send(events, SourceEvent::Warnings(vec![warning]))?;
            }
            Err(_) => {}
        }
        if events.is_closed() {
            return Err(Deaf);
        }
    }
}

/// Waits for a notification and the end of the burst that it belongs to, or for [`RESCAN`].
fn wait(notifications: &Receiver<()>) {
    match notifications.recv_timeout(RESCAN) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => return,
        // We hold a sender ourselves, so this cannot be; waiting keeps it from spinning.
        Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(RESCAN),
    }
    let start = Instant::now();
    while start.elapsed() < SETTLE.1 && notifications.recv_timeout(SETTLE.0).is_ok() {}
}

/// The watch of the directory that is at the path now.
#[derive(Default)]
struct Watched {
    watcher: Option<notify::RecommendedWatcher>,
    directory: Option<(u64, u64)>,
}

impl Watched {
    /// Watches anew when there is another directory at the path than before. Where watching is
    /// not possible, rescans alone have to do. Returns whether the watch is new.
    fn renew(&mut self, path: &Path, sender: &Sender<()>) -> bool {
        let metadata = std::fs::metadata(path);
        let directory = metadata
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        if directory == self.directory {
            return false;
        }
        self.directory = directory;
        let sender = sender.clone();
        let changed = move |event: notify::Result<notify::Event>| {
            let read_only = event.is_ok_and(|event| event.kind.is_access());
            if !read_only {
                // Fails when the thread has ended.
                let _ = sender.send(());
            }
        };
        self.watcher = notify::recommended_watcher(changed)
            .and_then(|mut watcher| {
                watcher.watch(path, RecursiveMode::NonRecursive)?;
                Ok(watcher)
            })
            .ok();
        self.watcher.is_some()
    }
}
