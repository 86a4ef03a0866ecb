//! The process with the control plane: what a source does with text, then the control plane's own main loop,
//! which publishes into the region.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::Args;
use portgate_controlplane::convert;
use portgate_controlplane::health::Health;
use portgate_controlplane::keeper::Keeper;
use portgate_controlplane::metrics::Metrics;
use portgate_controlplane::model::ObjectKind;
use portgate_controlplane::process::{EVENTS, keep};
use portgate_controlplane::publish::RegionConnector;
use portgate_controlplane::source::{Change, Events, SourceEvent};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::channel;

use super::memory;
use super::objects::Lists;
use super::talk::{FeederNews, FeederOrder, Listed, now, orders, say};
use crate::Error;

/// As `perf controlplane` types it.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The region's file.
    #[arg(long)]
    pub region: PathBuf,
}

/// What the gateway is to the cluster.
const SETTINGS: &str = r#"
[gateway]
mode = "edge"
addresses = ["203.0.113.10"]
cluster_cidrs = ["10.0.0.0/8"]
service_cidrs = ["172.16.0.0/12"]
"#;

/// [`SETTINGS`], checked.
pub(super) fn gateway_settings() -> Result<settings::Gateway, Error> {
    let settings = settings::load_str(SETTINGS).map_err(|error| Error::Run(error.to_string()))?;
    Ok(settings.gateway)
}

/// Runs a control plane until the standard input ends.
///
/// # Errors
///
/// [`Error::Run`] if it cannot be started or its main loop ends.
pub fn run(options: &Options) -> Result<(), Error> {
    let fail = |error: std::io::Error| Error::Run(error.to_string());
    let runtime = tokio::runtime::Runtime::new().map_err(fail)?;
    let (sender, events) = channel(EVENTS);
    let keeper = Keeper::new(
        gateway_settings()?,
        RegionConnector::new(&options.region),
        Health::new(),
        Metrics::new(),
    );
    let region = options.region.clone();
    let is_told_to_end = Arc::new(AtomicBool::new(false));
    let tells = is_told_to_end.clone();
    // Its end is the source's, and that the main loop's.
    thread::spawn(move || {
        match orders(|order| take(order, &sender, &region)) {
            // Relaxed: the closing of the channel, which comes after it, orders it.
            Ok(()) => tells.store(true, Ordering::Relaxed),
            Err(error) => say(&FeederNews::Failed(error.to_string())),
        }
        drop(sender);
    });
    say(&FeederNews::Ready);
    let result = runtime.block_on(keep(keeper, events, |synced| {
        say(&FeederNews::Synced {
            at: now(),
            endpoints: synced.endpoints,
        });
        Ok(())
    }));
    runtime.shutdown_background();
    if is_told_to_end.load(Ordering::Relaxed) {
        return Ok(());
    }
    result.map_err(|error| Error::Run(error.to_string()))
}

fn take(order: FeederOrder, events: &Events, region: &Path) {
    let news = match order {
        FeederOrder::List(lists) => list(&lists, events).map(FeederNews::Listed),
        FeederOrder::Change(text) => change(&text, events),
        FeederOrder::Memory => memory::of_this_process(region).map(FeederNews::Memory),
    };
    say(&news.unwrap_or_else(|error| FeederNews::Failed(error.to_string())));
}

/// A page of a list; its metadata is of no interest here.
#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
}

/// As the source that watches an API server: pages are parsed and converted one by one, and a kind is passed on when
/// its last page has come. (There the three kinds are listed at once, on as many CPUs as there are.)
fn list(lists: &Lists, events: &Events) -> Result<Listed, Error> {
    let mut listed = Listed {
        begun: now(),
        passed_on: 0,
        parsing: 0,
        converting: 0,
        bytes: 0,
    };
    for (kind, path) in [
        (ObjectKind::Node, &lists.nodes),
        (ObjectKind::Service, &lists.services),
        (ObjectKind::Slice, &lists.slices),
    ] {
        let fail =
            |error: &dyn std::fmt::Display| Error::Run(format!("{}: {error}", path.display()));
        let mut file = BufReader::new(File::open(path).map_err(|error| fail(&error))?);
        let (mut objects, mut warnings, mut line) = (Vec::new(), Vec::new(), String::new());
        while file.read_line(&mut line).map_err(|error| fail(&error))? > 0 {
            let begun = now();
            let page: Page = serde_json::from_str(&line).map_err(|error| fail(&error))?;
            let parsed = now();
            for item in &page.items {
                match convert::object(kind, item, &mut warnings) {
                    Ok((_, object)) => objects.extend(object),
                    Err(warning) => warnings.push(warning),
                }
            }
            listed.bytes += line.len() as u64;
            drop(page);
            line.clear();
            listed.parsing += parsed - begun;
            listed.converting += now() - parsed;
        }
        if let Some(warning) = warnings.first() {
            return Err(fail(warning));
        }
        // Before, not after it: the worker may be quicker than what comes after.
        listed.passed_on = now();
        send(events, SourceEvent::Replace(kind, objects))?;
    }
    Ok(listed)
}

/// As the source does with what a watch brings.
fn change(text: &str, events: &Events) -> Result<FeederNews, Error> {
    let handed = now();
    let value: Value = serde_json::from_str(text).map_err(|error| Error::Run(error.to_string()))?;
    let mut warnings = Vec::new();
    let kind = ObjectKind::Slice;
    let (name, object) = convert::object(kind, &value, &mut warnings)
        .map_err(|warning| Error::Run(warning.to_string()))?;
    let change = object.map_or(Change::Delete(kind, name), Change::Apply);
    let passed_on = now();
    send(events, SourceEvent::Changes(vec![change]))?;
    Ok(FeederNews::Changed { handed, passed_on })
}

fn send(events: &Events, event: SourceEvent) -> Result<(), Error> {
    let sent = events.blocking_send(event);
    sent.map_err(|_| Error::Run("the main loop has ended".to_owned()))
}
