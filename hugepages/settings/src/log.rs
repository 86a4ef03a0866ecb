//! The log of a process, as `[log]` says: on standard error, one event a line, never one for each frame.
//!
//! Whoever can cause events can cause many. So each place in the program that logs has a bucket of [`BURST`] lines, which fills
//! again by one in [`REFILL`]; what finds it empty is held back, and counted ([`held_back`]).

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{Log, LogFormat};

/// Lines that one place may write at once.
const BURST: u32 = 200;

/// Time after which it may write one more.
const REFILL: Duration = Duration::from_millis(100);

/// Between two lines about lines that were held back.
const REMINDER: Duration = Duration::from_secs(10);

/// Lines held back since the process started.
static HELD_BACK: AtomicU64 = AtomicU64::new(0);

/// What was told of them: how many, and when.
static TOLD: Mutex<(u64, Option<Instant>)> = Mutex::new((0, None));

/// Starts the log. `more` are directives beside the level, such as `,kube_client=off`; the environment variable
/// `RUST_LOG` replaces both.
pub fn start(log: Log, more: &str) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{}{more}", log.level.name())));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(Limiter::default())
        .with(lines)
        .init();
}

/// Lines held back since the process started.
#[must_use]
pub fn held_back() -> u64 {
    // Relaxed: the number stands alone.
    HELD_BACK.load(Ordering::Relaxed)
}

/// Writes a line about lines that were held back, if there are new ones and it is time to. To be called now and
/// then.
pub fn tell_held_back() {
    let now = Instant::now();
    let lines = {
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, when) = *told;
        let all = held_back();
        if all == before || when.is_some_and(|when| now - when < REMINDER) {
            return;
        }
        *told = (all, Some(now));
        all - before
    };
    tracing::warn!(
        lines,
        "log lines were held back: each kind may come {BURST} times at once and 10 times a second; \
         what causes them is in those that were written"
    );
}

/// Holds back what comes too often.
#[derive(Debug, Default)]
struct Limiter {
    buckets: Mutex<HashMap<Identifier, Bucket>>,
}

/// Lines that one place may still write.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    lines: u32,
    filled: Instant,
}

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let place = event.metadata().callsite();
        let bucket = buckets.entry(place).or_insert_with(|| Bucket::full(now));
        let may = bucket.take(now);
        if !may {
            HELD_BACK.fetch_add(1, Ordering::Relaxed);
        }
        may
    }
}

impl Bucket {
    const fn full(now: Instant) -> Self {
        Self {
            lines: BURST,
            filled: now,
        }
    }

    /// Whether one more line may be written at `now`.
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        let refills = (since.as_millis() / REFILL.as_millis()).min(BURST.into()) as u32;
        if refills > 0 {
            self.filled = now;
            self.lines = (self.lines + refills).min(BURST);
        }
        let may = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_may_write_a_burst_and_then_ten_lines_a_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::full(start);
        let written = |bucket: &mut Bucket, millis| {
            let tries = (0..1_000).filter(|_| bucket.take(at(millis)));
            tries.count()
        };
        assert_eq!(written(&mut bucket, 0), 200);
        assert_eq!(written(&mut bucket, 99), 0);
        assert_eq!(written(&mut bucket, 1_000), 10);
        assert_eq!(written(&mut bucket, 3_600_000), 200);
    }

    #[test]
    fn one_place_that_storms_holds_back_no_other() {
        let limiter = Limiter::default();
        let subscriber = tracing_subscriber::registry().with(limiter).with(Counted);
        let before = held_back();
        let (storms, others) = tracing::subscriber::with_default(subscriber, || {
            for number in 0..1_000 {
                tracing::warn!(number, "a storm");
            }
            tracing::warn!("another");
            Counted::seen()
        });
        assert_eq!(others, 1);
        assert!((200..250).contains(&storms), "{storms}");
        assert_eq!(held_back() - before, 1_000 - storms);
    }

    thread_local! {
        static SEEN: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((0, 0)) };
    }

    /// Counts events with fields of their own, and those without.
    struct Counted;

    impl Counted {
        fn seen() -> (u64, u64) {
            SEEN.get()
        }
    }

    impl<S: Subscriber> Layer<S> for Counted {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let (storms, others) = SEEN.get();
            SEEN.set(if event.fields().count() > 1 {
                (storms + 1, others)
            } else {
                (storms, others + 1)
            });
        }
    }
}
