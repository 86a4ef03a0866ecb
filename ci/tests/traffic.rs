//! `perf gen`, `perf sink` and `perf search` through a gateway: what is sent is received, or lost in a
//! place that has a name. Rates are far below what any machine does; nothing here depends on time.

use std::process::Command;

use ci::gateway::binary;
use ci::netns::require_root;
use ci::perf::{self, number};
use serde_json::Value;

/// Frames in a second, low enough that no queue is full when a busy machine halts for a moment, and in a run.
const RATE: u64 = 300;
const COUNT: u64 = 600;

#[test]
fn at_a_low_rate_every_datagram_of_every_size_arrives() {
    for lab in ["memif", "vhost", "af_packet", "af_xdp"] {
        let record = measure(&format!(
            "gen --lab {lab} --size 64:7,594:4,1518:1 --rate {RATE} --count {COUNT}"
        ));
        let frames = &record["frames"];
        assert_eq!(number(frames, "offered"), COUNT, "{lab}: {record}");
        assert_eq!(number(frames, "lost"), 0, "{lab}: {record}");
        let received = &frames["received"];
        assert_eq!(number(received, "distinct"), COUNT, "{lab}: {record}");
        for nothing in ["duplicates", "reordered", "corrupt", "stale"] {
            assert_eq!(number(received, nothing), 0, "{lab}, {nothing}: {record}");
        }
        assert_eq!(
            number(&record["latency"], "count"),
            COUNT,
            "{lab}: {record}"
        );
    }
}

#[test]
fn datagrams_over_ipv6_come_back_by_the_way_they_went() {
    let record = measure(&format!(
        "gen --lab memif --family 6 --size 84 --echo --rate {RATE} --count {COUNT}"
    ));
    assert_eq!(number(&record["frames"], "lost"), 0, "{record}");
    let returned = &record["frames"]["returned"];
    assert_eq!(number(returned, "distinct"), COUNT, "{record}");
    assert_eq!(number(&record["round_trip"], "count"), COUNT, "{record}");
}

#[test]
fn connections_are_opened_carry_data_and_are_closed() {
    let held = measure(&format!(
        "gen --lab memif --traffic tcp --size 200 --rate {RATE} --count {COUNT} --flows 100"
    ));
    assert_eq!(number(&held["frames"], "lost"), 0, "{held}");
    for every in ["opened", "established", "finished", "closed"] {
        assert_eq!(number(&held["connections"], every), 100, "{every}: {held}");
    }
    let brief = measure(&format!(
        "gen --lab memif --traffic connections --segments 3 --size 100 --rate {RATE} --count 500 --flows 10000"
    ));
    let connections = &brief["connections"];
    for every in ["opened", "established", "finished", "closed"] {
        assert_eq!(number(connections, every), 500, "{every}: {brief}");
    }
    assert_eq!(
        number(&brief["frames"]["received"], "distinct"),
        1500,
        "{brief}"
    );
    // And some in the warm-up.
    assert!(number(&brief["gateway"], "flows_created") >= 500, "{brief}");
}

#[test]
fn at_full_speed_every_frame_is_accounted_for() {
    // The exit code says that the balance is even; here it is computed once more.
    for lab in ["memif", "af_packet", "af_xdp"] {
        let record = measure(&format!("gen --lab {lab} --seconds 1"));
        let balance = &record["balance"];
        let [sent, missed, received, dropped, gateway_sent, arrived, lost] = [
            "sent",
            "gateway_missed",
            "gateway_received",
            "gateway_dropped",
            "gateway_sent",
            "received",
            "missed",
        ]
        .map(|name| number(balance, name));
        assert_eq!(sent, received + missed, "{lab}: {record}");
        let gateway = &record["gateway"];
        assert_eq!(
            received + number(gateway, "originated"),
            gateway_sent + dropped + number(gateway, "waiting"),
            "{lab}: {record}"
        );
        assert_eq!(gateway_sent, arrived + lost, "{lab}: {record}");
        let frames = &record["frames"];
        let distinct = number(&frames["received"], "distinct");
        assert!(sent > RATE, "{lab}: {record}");
        assert_eq!(
            number(&frames["sent"], "data"),
            distinct + number(frames, "lost"),
            "{lab}: {record}"
        );
    }
}

#[test]
fn a_search_ends_at_or_below_the_highest_rate_it_may_try() {
    let records = in_a_lab(
        "search --lab memif --sizes 128 --most 3000 --trial 0.2 --tries 1 --confirm 2 --resolution 30 --warm-up 0.1",
    );
    let found = records.last().expect("a result");
    assert_eq!(
        (&found["verb"], &found["size"]),
        (&"search".into(), &"128".into())
    );
    let throughput = found["throughput"].as_f64().expect("a rate");
    assert!((0.0..=3000.0).contains(&throughput), "{found}");
    // At parts of what was found, unless nothing was.
    let parts = records.len() - 1;
    assert!(parts == 3 || throughput == 0.0 && parts == 0, "{records:?}");
    if parts == 3 {
        // What is called a throughput was seen to hold.
        let whole = &records[2]["frames"];
        assert_eq!(
            (number(whole, "unsent"), number(whole, "lost")),
            (0, 0),
            "{whole}"
        );
        let trials = found["trials"].as_array().expect("trials");
        let held = trials
            .iter()
            .any(|trial| trial[0].as_f64() == Some(throughput) && trial[1].as_f64() == Some(0.0));
        assert!(held, "{found}");
        assert_eq!(number(found, "confirmed"), 2);
        assert!(found["held_once"].as_f64() >= Some(throughput), "{found}");
        let steal = trials.iter().all(|trial| trial[2].is_f64());
        assert!(steal, "each says how much was stolen meanwhile: {found}");
    }
    for record in &records[..parts] {
        assert!(record["latency"]["p99_9"].is_u64(), "{record}");
        assert_eq!(
            record["balance"]["unaccounted"],
            serde_json::json!([0, 0, 0])
        );
    }
}

#[test]
fn below_the_found_rate_nothing_is_lost_and_above_it_every_frame_is_accounted_for() {
    for lab in ["memif", "af_packet"] {
        // The most that is tried is far below what any machine does, so that what is found depends on no machine.
        let search = format!(
            "search --lab {lab} --sizes 128 --most 2000 --trial 0.2 --tries 2 --confirm 1 --resolution 40"
        );
        let found = in_a_lab(&search).pop().expect("a result");
        let throughput = found["throughput"].as_f64().expect("a rate");
        let below = (throughput / 2.0).clamp(100.0, RATE as f64).round();
        let record = measure(&format!(
            "gen --lab {lab} --size 128 --rate {below} --count {below}"
        ));
        assert_eq!(number(&record["frames"], "lost"), 0, "{lab}: {record}");

        // As fast as the device takes them. The exit code says that the balance is even.
        let record = measure(&format!("gen --lab {lab} --size 128 --seconds 1"));
        let frames = &record["frames"];
        let sent = number(&frames["sent"], "data");
        assert!(sent as f64 > throughput, "{lab}: {record}");
        let distinct = number(&frames["received"], "distinct");
        assert_eq!(sent, distinct + number(frames, "lost"), "{lab}: {record}");
        assert_eq!(
            record["balance"]["unaccounted"],
            serde_json::json!([0, 0, 0]),
            "{lab}: {record}"
        );
    }
}

#[test]
fn wrong_use_exits_with_2_and_names_the_option() {
    for (arguments, named) in [
        ("gen", "--device"),
        ("gen --device nonsense --via 10.0.0.1", "--device"),
        ("gen --device vdev:net_null0", "--via"),
        ("gen --device vdev:net_null0 --via 10.0.0.1", "--to"),
        ("gen --lab memif --device vdev:net_null0", "--lab"),
        ("gen --lab memif --size 63", "--size"),
        ("gen --lab memif --rate 0", "--rate"),
        ("gen --lab memif --family 5", "--family"),
        ("gen --lab memif --traffic tcp", "--size 64"),
        (
            "gen --lab memif --gateway-bin /nonexistent",
            "--gateway-bin",
        ),
        (
            "search --device vdev:net_null0 --via 10.0.0.1 --to 10.0.0.1:1",
            "--sink",
        ),
        ("sink --device vdev:net_null0", "--address"),
    ] {
        let output = Command::new(binary("perf"))
            .args(arguments.split(' '))
            .output()
            .expect("perf runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(named), "{arguments}: {errors}");
    }
}

/// The one record of a run. One with a count ends when so many are sent, however long that takes.
fn measure(arguments: &str) -> Value {
    let mut records = in_a_lab(arguments);
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

/// Runs `perf` in a lab of its own.
fn in_a_lab(arguments: &str) -> Vec<Value> {
    require_root();
    let mut command = Command::new(binary("perf"));
    command
        .args(arguments.split(' '))
        .args(["--json", "--polite", "--open-rate", "2000"]);
    perf::records(&command)
}
