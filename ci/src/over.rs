//! The end of what runs beside a test.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets a flag when it is dropped, also because what was done meanwhile has failed: threads of a scope that wait for the flag
/// would else run for ever, and the failure would never be seen.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        // Relaxed: the flag carries no data.
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_beside_a_thread_is_seen_and_the_thread_ends() {
        let over = AtomicBool::new(false);
        let failed = std::panic::catch_unwind(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                });
                let _over = Over(&over);
                panic!("on purpose");
            });
        });
        assert!(failed.is_err());
    }
}
