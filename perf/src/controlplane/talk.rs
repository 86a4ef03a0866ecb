//! What the three processes of `perf controlplane` say to each other: JSON, an object a line, over the
//! standard streams of the two that are started. Times are CLOCK_MONOTONIC in nanoseconds, the same for all.

use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use hugepages::region::monotonic_nanos;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::objects::Lists;
use crate::record::controlplane::Memory;

/// To the process with the control plane.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FeederOrder {
    /// Read these lists, as the first ones of a source.
    List(Lists),
    /// This slice is changed: its new text.
    Change(String),
    /// Say how much memory is in use.
    Memory,
}

/// From it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FeederNews {
    /// Orders can be given.
    Ready,
    /// The lists are with the main loop.
    Listed(Listed),
    /// The first state is installed, as the control plane sees it.
    Synced { at: u64, endpoints: usize },
    /// The slice is with the main loop.
    Changed { handed: u64, passed_on: u64 },
    /// See [`FeederOrder::Memory`].
    Memory(Memory),
    /// It went wrong.
    Failed(String),
}

/// How the lists were read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Before the first page was read.
    pub(super) begun: u64,
    /// When the last list was passed on.
    pub(super) passed_on: u64,
    /// Text to JSON values.
    pub(super) parsing: u64,
    /// JSON values to the model.
    pub(super) converting: u64,
    /// Bytes of text.
    pub(super) bytes: u64,
}

/// To the process with the data plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum GatewayOrder {
    /// Open so many flows, by handshakes, and carry their frames from then on.
    Establish(usize),
    /// Watch for the generation by which the service has an endpoint, and for the first new flow that meets it.
    Expect(Expected),
    /// Say what was carried since this was last asked.
    Window,
    /// Say how much memory is in use.
    Memory,
}

/// What a service is to have.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Expected {
    /// Number of the service.
    pub(super) service: usize,
    /// Any backend, or this one: address and port.
    pub(super) backend: Option<(IpAddr, u16)>,
    /// Whether new flows are to be begun until one meets it.
    pub(super) is_looked_for: bool,
}

/// From it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum GatewayNews {
    /// Orders can be given. The journal held so many objects, and took this time to be installed.
    Ready {
        generation: u64,
        objects: usize,
        restoring: u64,
    },
    /// Flows are open.
    Established(usize),
    /// The worker has taken the order.
    Expecting,
    /// The main core has installed and published a generation.
    Published {
        generation: u64,
        /// Before it looked at the ring.
        looked: u64,
        /// After it had published and answered.
        done: u64,
    },
    /// The worker decides by a generation which has what was expected; or by the next one, if nothing was.
    Seen {
        generation: u64,
        at: u64,
        /// When the first frame of a new flow had met it, if that was looked for and found.
        met: Option<u64>,
    },
    /// See [`GatewayOrder::Window`].
    Window(Window),
    /// See [`GatewayOrder::Memory`].
    Memory(Memory),
    /// It went wrong.
    Failed(String),
}

/// What a worker carried between two questions.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Window {
    /// Frames of established flows.
    pub(super) frames: u64,
    /// Of these, those that a flow translated.
    pub(super) hits: u64,
    /// Nanoseconds in the pipeline for all of them.
    pub(super) nanos: u64,
}

/// Calls `take` for each order on the standard input, until that ends.
pub(super) fn orders<T: DeserializeOwned>(mut take: impl FnMut(T)) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        take(serde_json::from_str(&line?)?);
    }
    Ok(())
}

/// Says something on the standard output. Nobody may be listening any more: then the end is near.
pub(super) fn say<T: Serialize>(news: &T) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Ok(mut line) = serde_json::to_string(news) else {
        return;
    };
    line.push('\n');
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = io::stdout().lock();
    let _ = out.write_all(line.as_bytes());
    let _ = out.flush();
}

/// Now.
pub(super) fn now() -> u64 {
    monotonic_nanos()
}
