//! Log lines that somebody else can cause as often as they like: said at once, then rarely.

use std::time::{Duration, Instant};

/// Between two lines of one kind.
const PERIOD: Duration = Duration::from_secs(5);

/// Lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Option<Instant>,
    held: u64,
}

impl Quiet {
    /// Asks to say one more at `now`: how many were held back since the last one that was said, or
    /// `None` if this one is to be held back too.
    pub(crate) fn may_say(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now - last < PERIOD) {
            self.held += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_next_tells_how_many_were_held_back() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(quiet.may_say(at(0)), Some(0));
        assert_eq!(quiet.may_say(at(1)), None);
        assert_eq!(quiet.may_say(at(4999)), None);
        assert_eq!(quiet.may_say(at(5000)), Some(2));
        assert_eq!(quiet.may_say(at(9000)), None);
        assert_eq!(quiet.may_say(at(10_000)), Some(1));
    }
}
