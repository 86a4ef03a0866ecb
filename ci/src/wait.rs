//! Waiting for something to become true, with a deadline and a sentence for when it does not.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks every 10 ms until `look` gives a value, and returns it.
///
/// # Panics
/// With `what` in the message when `deadline` passes first.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "waited {deadline:?} in vain until {what}"
        );
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_comes_late_is_returned() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "in vain until the moon is full")]
    fn a_deadline_that_passes_names_what_was_waited_for() {
        until("the moon is full", Duration::from_millis(1), || None::<()>);
    }
}
