//! The list-and-watch loop of one kind.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::convert;
use crate::model::ObjectKind;
use crate::source::event::{Change, Events, SourceEvent};
use crate::warning::Warning;

/// Objects of a page of a list; bounds what is in memory as JSON at a time.
const PAGE: u32 = 500;

/// Watches that fail in a row before a new list is tried.
const PATIENCE: u32 = 5;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// A connection, and the beginning of the answer to a watch request.
    pub(super) start: Duration,
    /// A page of a list.
    pub(super) page: Duration,
    /// A watch, after which the server ends it and we begin the next; whole seconds.
    pub(super) watch: Duration,
    /// What we allow the server on top of that to end it.
    pub(super) margin: Duration,
    /// First and longest wait after a failure.
    pub(super) pause: (Duration, Duration),
    /// Between attempts to read what is not needed and not for us to read.
    pub(super) denied: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(10),
            page: Duration::from_secs(60),
            watch: Duration::from_secs(45),
            margin: Duration::from_secs(5),
            pause: (Duration::from_millis(200), Duration::from_secs(30)),
            denied: Duration::from_secs(300),
        }
    }
}

/// The loop of one kind.
pub(super) struct KindWatch {
    pub(super) client: Client,
    pub(super) kind: ObjectKind,
    pub(super) request: Request,
    pub(super) selector: Option<String>,
    pub(super) events: Events,
    pub(super) timing: Timing,
}

/// A page of a list, its items unjudged.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "resourceVersion", default)]
    resource_version: String,
    #[serde(rename = "continue", default)]
    next: Option<String>,
}

/// Why a list or watch ended.
enum End {
    /// The watch was over, as planned.
    Over,
    /// Something failed; trying the same again may help.
    Failed(String),
    /// The server does not know our version any more: only a new list helps.
    Gone(String),
    /// The server does not have this kind, or not for us.
    Denied(String),
    /// Nobody listens any more.
    Deaf,
}

impl KindWatch {
    /// Lists, then watches, for ever (or until nobody listens). What was listed before stays in
    /// force until a new list is complete.
    pub(super) async fn run(self) {
        let mut pause = Pause::new(self.timing.pause);
        let mut denied = false;
        loop {
            let end = match self.list().await {
                Ok(version) => {
                    denied = false;
                    pause = Pause::new(self.timing.pause);
                    self.follow(version).await
                }
                Err(end) => end,
            };
            match end {
                End::Deaf => return,
                End::Over => {}
                End::Denied(why) if !self.kind.is_needed() => {
                    if !std::mem::replace(&mut denied, true) {
                        tracing::info!("{} objects are not used: {why}", self.kind.name());
                    }
                    sleep(self.timing.denied).await;
                }
                End::Failed(why) | End::Gone(why) | End::Denied(why) => {
                    let wait = pause.next();
                    tracing::warn!(kind = self.kind.name(), ?wait, "listing again: {why}");
                    sleep(wait).await;
                }
            }
        }
    }

    /// Lists everything; returns the version at which a watch goes on.
    async fn list(&self) -> Result<String, End> {
        let mut objects = Vec::new();
        let mut warnings = Vec::new();
        let mut params = ListParams {
            label_selector: self.selector.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let page = self.page(&params).await?;
            for item in &page.items {
                match convert::object(self.kind, item, &mut warnings) {
                    Ok((_, object)) => objects.extend(object),
                    Err(warning) => warnings.push(warning),
                }
            }
            params.continue_token = page.metadata.next.filter(|next| !next.is_empty());
            if params.continue_token.is_none() {
                self.warn(warnings).await?;
                self.send(SourceEvent::Replace(self.kind, objects)).await?;
                return Ok(page.metadata.resource_version);
            }
        }
    }

    async fn page(&self, params: &ListParams) -> Result<Page, End> {
        let request = self
            .request
            .list(params)
            .map_err(|error| End::Failed(error.to_string()))?;
        match timeout(self.timing.page, self.client.request(request)).await {
            Ok(page) => page.map_err(|error| judge("the list failed", &error)),
            Err(_) => Err(End::Failed("the list was not answered in time".into())),
        }
    }

    /// Watches from `version` on, again and again, until only a new list helps.
    async fn follow(&self, mut version: String) -> End {
        let mut pause = Pause::new(self.timing.pause);
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let before = version.clone();
            let end = self.watch(&mut version).await;
            // A watch that brought something, or lasted, was a good one.
            if version != before || began.elapsed() >= self.timing.watch / 2 {
                pause = Pause::new(self.timing.pause);
                failures = 0;
            }
            match end {
                // A server that ends every watch at once must not be asked without pause.
                End::Over if began.elapsed() < self.timing.pause.0 => sleep(pause.next()).await,
                End::Over => {}
                End::Failed(why) => {
                    failures += 1;
                    if failures >= PATIENCE {
                        return End::Failed(why);
                    }
                    let wait = pause.next();
                    tracing::warn!(kind = self.kind.name(), ?wait, "watching again: {why}");
                    sleep(wait).await;
                }
                gone_denied_or_deaf => return gone_denied_or_deaf,
            }
        }
    }

    /// One watch request; moves `version` on with what it brings.
    async fn watch(&self, version: &mut String) -> End {
        let params = WatchParams {
            label_selector: self.selector.clone(),
            timeout: u32::try_from(self.timing.watch.as_secs()).ok(),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = match self.request.watch(&params, version) {
            Ok(request) => request,
            Err(error) => return End::Failed(error.to_string()),
        };
        let start = self.client.request_events::<Value>(request);
        let stream = match timeout(self.timing.start, start).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return judge("the watch could not start", &error),
            Err(_) => return End::Failed("the watch was not answered in time".into()),
        };
        let mut stream = std::pin::pin!(stream);
        if let Err(end) = self.send(SourceEvent::Contact(self.kind)).await {
            return end;
        }
        loop {
            let longest = self.timing.watch + self.timing.margin;
            let event = match timeout(longest, stream.try_next()).await {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None)) => return End::Over,
                Ok(Err(error)) => return judge("the watch broke off", &error),
                Err(_) => return End::Failed("the watch went silent".into()),
            };
            if let Err(end) = self.take(event, version).await {
                return end;
            }
        }
    }

    async fn take(&self, event: WatchEvent<Value>, version: &mut String) -> Result<(), End> {
        let (value, deleted) = match event {
            WatchEvent::Added(value) | WatchEvent::Modified(value) => (value, false),
            WatchEvent::Deleted(value) => (value, true),
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                return self.send(SourceEvent::Contact(self.kind)).await;
            }
            WatchEvent::Error(status) if status.code == 410 => {
                return Err(End::Gone(format!(
                    "the watch is out of date: {}",
                    status.message
                )));
            }
            WatchEvent::Error(status) => return Err(End::Failed(status.message)),
        };
        let mut warnings = Vec::new();
        let change = if deleted {
            convert::object_name(self.kind, &value).map(|name| Change::Delete(self.kind, name))
        } else {
            convert::object(self.kind, &value, &mut warnings)
                .map(|(name, object)| object.map_or(Change::Delete(self.kind, name), Change::Apply))
        };
        match change {
            Ok(change) => self.send(SourceEvent::Changes(vec![change])).await?,
            Err(warning) => warnings.push(warning),
        }
        self.warn(warnings).await?;
        let seen = value
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str);
        if let Some(seen) = seen {
            seen.clone_into(version);
        }
        Ok(())
    }

    async fn warn(&self, warnings: Vec<Warning>) -> Result<(), End> {
        if warnings.is_empty() {
            return Ok(());
        }
        self.send(SourceEvent::Warnings(warnings)).await
    }

    async fn send(&self, event: SourceEvent) -> Result<(), End> {
        self.events.send(event).await.map_err(|_| End::Deaf)
    }
}

/// An answer of the server that rejects our version, however it comes, needs a new list; so does
/// one that rejects the request itself, because repeating it would not help.
fn judge(what: &str, error: &kube::Error) -> End {
    let mut why = format!("{what}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !why.contains(&text) {
            why.push_str(": ");
            why.push_str(&text);
        }
        cause = error.source();
    }
    match error {
        kube::Error::Api(status) if matches!(status.code, 403 | 404) => End::Denied(why),
        kube::Error::Api(status) if matches!(status.code, 400..=428 | 430..=499) => End::Gone(why),
        _ => End::Failed(why),
    }
}

/// Waits that double, with up to a quarter taken off at random so that gateways that lost the
/// same server do not come back in step.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    fn new((first, longest): (Duration, Duration)) -> Self {
        Self {
            next: first,
            longest,
        }
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.longest);
        let random = RandomState::new().hash_one(0) % 256;
        wait - wait / 1024 * u32::try_from(random).unwrap_or(0)
    }
}
