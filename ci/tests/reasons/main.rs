//! Every drop reason: provoked on a running gateway, and found under its name in `portgate counters`, in `/metrics` and in
//! `portgate trace`.
//!
//! [`scene`] says where each reason is provoked, [`provoke::provoke`] how: a reason that is new compiles only with its place
//! and its frames.

#![allow(unreachable_pub, reason = "modules of one program")]

mod ground;
mod provoke;

use std::time::{Duration, Instant};

use ci::gateway::Gateway;
use ci::hold::Held;
use ci::{curl, wait};
use engine::Reason;
use serde_json::Value;

use ground::Ground;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a reason is provoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// A gateway with links and services of every kind.
    Common,
    /// One that takes few new flows, has few masquerade ports, is a node, and gives the kernel few frames.
    Tight,
    /// One whose tables are small, and become full.
    Full,
    /// One of whose workers gets frames from the other, and sleeps long.
    Shared,
    /// One whose data plane is killed: no process has the frames any more that could tell of them, so no trace
    /// shows them.
    Killed,
    /// A test of the engine has the real pipeline do it.
    Pipeline,
}

const fn scene(reason: Reason) -> Scene {
    match reason {
        Reason::TooShort
        | Reason::UnknownEtherType
        | Reason::BadIpHeader
        | Reason::Truncated
        | Reason::BadIpChecksum
        | Reason::Fragment
        | Reason::BadExtension
        | Reason::BadTransport
        | Reason::UnknownProtocol
        | Reason::BadChecksum
        | Reason::UnfinishedChecksum
        | Reason::MultiSegment
        | Reason::OtherMac
        | Reason::WrongVlan
        | Reason::NotForUs
        | Reason::NotOurs
        | Reason::NotServed
        | Reason::SourceRange
        | Reason::NoSuchService
        | Reason::NoEndpoint
        | Reason::NoSuchPort
        | Reason::NotServedHere
        | Reason::NoFlow
        | Reason::TtlExpired
        | Reason::TooBig
        | Reason::NoRoute
        | Reason::NoSnatAddress
        | Reason::Unresolved
        | Reason::TxFull
        | Reason::NoBuffer
        | Reason::AnswerRefused
        | Reason::BadSource
        | Reason::FragmentTiny
        | Reason::FragmentBadLength
        | Reason::FragmentOverlap
        | Reason::FragmentCopy
        | Reason::FragmentLimit
        | Reason::FragmentNoFirst
        | Reason::FragmentOfDropped
        | Reason::EndpointGone => Scene::Common,
        Reason::NoLocalEndpoint
        | Reason::SnatPortsExhausted
        | Reason::SourceLimit
        | Reason::ServiceLimit
        | Reason::HostLimit => Scene::Tight,
        Reason::FlowTableFull | Reason::NeighbourTableFull => Scene::Full,
        Reason::WorkerFull => Scene::Shared,
        Reason::Restart => Scene::Killed,
        // A worker would have to be stopped between two stores of an insert. The test is
        // `a_flow_that_another_worker_has_left_unfinished_is_dropped_for_the_race` of engine/tests/trace.rs.
        Reason::FlowRace => Scene::Pipeline,
    }
}

fn of(wanted: Scene) -> impl Iterator<Item = Reason> {
    let all = Reason::ALL.iter().copied();
    all.filter(move |reason| scene(*reason) == wanted)
}

#[test]
fn every_drop_is_counted_and_traced_under_its_name() {
    play(&Ground::common(), Scene::Common);
}

#[test]
fn what_limits_and_policies_drop_is_counted_and_traced_under_its_name() {
    play(&Ground::tight(), Scene::Tight);
}

#[test]
fn what_full_tables_drop_is_counted_and_traced_under_its_name() {
    play(&Ground::full(), Scene::Full);
}

#[test]
fn what_a_worker_has_no_room_for_is_counted_and_traced_under_its_name() {
    play(&Ground::shared(), Scene::Shared);
}

/// Provokes the reasons of a scene, one after the other.
fn play(ground: &Ground, scene: Scene) {
    let gateway = ground.start();
    for reason in of(scene) {
        let begun = Instant::now();
        let before = counted(&gateway, reason);
        let trace = gateway.trace(&["--reason", reason.name(), "--limit", "64"]);
        let held = (reason == Reason::WorkerFull).then(|| {
            // Who takes what the other one receives stands still.
            Held::of(gateway.dataplane.id(), "rte-worker-2")
        });
        let is_met = || is_told(reason, &trace.told());
        provoke::provoke(reason, ground, &is_met);
        let told = trace.wait(reason.name(), |told| is_told(reason, told));
        drop(held);
        for frame in told.iter().filter(|line| !line["ended"].is_string()) {
            assert_eq!(frame["reason"], reason.name(), "{frame}");
            assert_eq!(frame["outcome"], "dropped", "{frame}");
        }
        drop(trace);
        expect_the_same(ground, &gateway, reason, before);
        println!("{}: {:?}", reason.name(), begun.elapsed());
    }
}

/// Whether the trace has told enough: a drop; of those at a device one, too, that another worker had handed over.
fn is_told(reason: Reason, told: &[Value]) -> bool {
    match reason {
        Reason::TxFull => [true, false].iter().all(|handed_over| {
            let frames = told.iter().filter(|line| !line["ended"].is_string());
            let mut links = frames.map(|frame| frame["link"].is_null());
            links.any(|is_null| is_null == *handed_over)
        }),
        _ => !told.is_empty(),
    }
}

/// The counter has grown, and `/metrics` has it too, also by link.
fn expect_the_same(ground: &Ground, gateway: &Gateway<'_>, reason: Reason, before: u64) {
    let series = format!("portgate_drops_total{{reason=\"{}\"}} ", reason.name());
    // Frames may still be coming in: look until nothing has changed in between.
    wait::until("counters and metrics agree", PATIENCE, || {
        let first = counted(gateway, reason);
        let text = curl::get(&ground.net.gateway, "http://127.0.0.1:9102/metrics").ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        let value: u64 = value.and_then(|value| value.parse().ok()).expect("a count");
        let by_link = by_link(&text, reason);
        // What a killed process had in hand is of no link.
        let on_links = if reason == Reason::Restart { 0 } else { first };
        let is_same = first == counted(gateway, reason) && value == first && by_link == on_links;
        (is_same && first > before).then_some(())
    });
}

/// The sum over all links.
fn by_link(metrics: &str, reason: Reason) -> u64 {
    let label = format!("reason=\"{}\"}} ", reason.name());
    let series = metrics.lines();
    let series = series.filter(|line| line.starts_with("portgate_link_drops_total{"));
    let values = series.filter_map(|line| line.split_once(&label));
    values
        .map(|(_, value)| value.parse::<u64>().expect("a count"))
        .sum()
}

fn counted(gateway: &Gateway<'_>, reason: Reason) -> u64 {
    let shown = gateway.portgate_json(&["counters"]);
    shown["drops"][reason.name()].as_u64().expect("a count")
}

#[test]
fn frames_in_the_hands_of_a_killed_data_plane_are_counted_for_the_restart() {
    let ground = Ground::common();
    let mut gateway = ground.start();
    for reason in of(Scene::Killed) {
        assert_eq!(counted(&gateway, reason), 0);
        // They wait for a next hop that does not answer.
        let waiting = |told: &[Value]| told.iter().any(|frame| frame["outcome"] == "waiting");
        let trace = gateway.trace(&["--from", &ground::CLIENT.to_string()]);
        provoke::provoke(reason, &ground, &|| waiting(&trace.told()));
        trace.wait("a frame that waits", waiting);
        gateway.dataplane.kill9();
        drop(trace);
        gateway.restart_dataplane();
        expect_the_same(&ground, &gateway, reason, 0);
    }
}
