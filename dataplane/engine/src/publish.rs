//! Handing snapshots from the main core to the workers.
//!
//! The main core stores a snapshot and then its number; a worker compares the number with the
//! one it knows, one load a burst, and only when it differs takes the new snapshot. It never waits for
//! that: if the main core is just then storing another one, the worker goes on with what it has
//! and tries again at the next burst.
//!
//! Old snapshots are freed on the main core: it keeps a share of each until no worker has one
//! ([`Publisher::reap`]), so a worker's drop is never the last.

use hugepages::sync::{Arc, AtomicU64, Mutex, Ordering};

/// The main core's side.
#[derive(Debug)]
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    retired: Vec<Arc<T>>,
}

/// A worker's side.
#[derive(Debug)]
pub struct Subscriber<T> {
    shared: Arc<Shared<T>>,
    known: u64,
    current: Arc<T>,
}

#[derive(Debug)]
struct Shared<T> {
    number: AtomicU64,
    newest: Mutex<Arc<T>>,
}

impl<T> Publisher<T> {
    /// Starts with this value.
    pub fn new(first: T) -> Self {
        let newest = Mutex::new(Arc::new(first));
        Self {
            shared: Arc::new(Shared {
                number: AtomicU64::new(0),
                newest,
            }),
            retired: Vec::new(),
        }
    }

    /// Another reader.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber<T> {
        let (known, current) = {
            let newest = lock(&self.shared.newest);
            (self.shared.number.load(Ordering::Relaxed), newest.clone())
        };
        Subscriber {
            shared: self.shared.clone(),
            known,
            current,
        }
    }

    /// Makes `value` the newest.
    pub fn publish(&mut self, value: T) {
        let value = Arc::new(value);
        let mut newest = lock(&self.shared.newest);
        self.retired.push(std::mem::replace(&mut *newest, value));
        // Inside the lock, so that number and value belong together for whoever holds it. Release
        // meets the Acquire in `refresh`; the value itself is handed over by the lock.
        let number = self.shared.number.load(Ordering::Relaxed) + 1;
        self.shared.number.store(number, Ordering::Release);
        drop(newest);
        self.reap();
    }

    /// The newest value.
    #[must_use]
    pub fn newest(&self) -> Arc<T> {
        lock(&self.shared.newest).clone()
    }

    /// Frees what no worker uses any more; returns how many old values are still in use.
    pub fn reap(&mut self) -> usize {
        // A count of one cannot grow again: only `newest` is ever cloned.
        self.retired.retain(|old| Arc::strong_count(old) > 1);
        self.retired.len()
    }
}

impl<T> Subscriber<T> {
    /// The value to use for this burst; true if it is another one than before.
    #[inline(always)]
    pub fn refresh(&mut self) -> bool {
        // Acquire meets the Release in `publish`.
        self.shared.number.load(Ordering::Acquire) != self.known && self.take()
    }

    /// The value as of the last refresh.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> &T {
        &self.current
    }

    #[cold]
    fn take(&mut self) -> bool {
        let Ok(newest) = self.shared.newest.try_lock() else {
            return false;
        };
        self.current = newest.clone();
        self.known = self.shared.number.load(Ordering::Relaxed);
        true
    }
}

/// A poisoned lock still holds a whole value: it is replaced in one assignment.
fn lock<T>(mutex: &Mutex<T>) -> hugepages::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_newest_after_refresh_and_keeps_the_old_until_then() {
        let mut publisher = Publisher::new(1);
        let mut reader = publisher.subscribe();
        assert!(!reader.refresh());
        publisher.publish(2);
        publisher.publish(3);
        assert_eq!(*reader.get(), 1);
        assert_eq!(publisher.reap(), 1, "the one the reader still has");
        assert!(reader.refresh());
        assert_eq!(*reader.get(), 3);
        assert_eq!(publisher.reap(), 0);
    }
}

/// Mutations that this model was seen to catch: the number stored before the value, or outside the
/// lock, with `known` read after the lock is released (a reader that believes to have what it has not).
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_a_reader_that_sees_the_number_gets_that_value_or_a_newer_one() {
        loom::model(|| {
            let mut publisher = Publisher::new(0u64);
            let mut reader = publisher.subscribe();
            let reading = loom::thread::spawn(move || {
                for _ in 0..2 {
                    if reader.refresh() {
                        // The value is its own number.
                        assert_eq!(*reader.get(), reader.known);
                    }
                }
            });
            publisher.publish(1);
            publisher.publish(2);
            reading.join().unwrap();
        });
    }
}
