use std::time::Instant;

use super::*;
use crate::metrics::Metrics;
use crate::observe::fixtures::FakeGateway;

fn rendered(gateway: &FakeGateway, most_series: usize) -> String {
    let metrics = Metrics::new();
    metrics.watch(gateway.observer(), most_series, (30_000, 32_767));
    metrics.render(Instant::now()).unwrap()
}

#[test]
fn services_links_and_reasons_are_named() {
    let mut gateway = FakeGateway::new();
    let slot = gateway.install("shop/web", &["10.0.0.1:80", "10.0.0.2:80"]);
    let counters = gateway.counters(0);
    counters.add_service(slot, ServiceCounter::SnatExhausted, 4);
    counters.add_service(slot, ServiceCounter::Bytes, 5);
    let [first, gone] = ["10.0.0.1:80", "10.0.0.3:80"].map(|to| gateway.endpoint(slot, to));
    counters.add_service(first, ServiceCounter::Bytes, 70);
    gateway
        .counters(1)
        .add_service(first, ServiceCounter::Bytes, 6);
    counters.add_service(gone, ServiceCounter::Bytes, 100);
    counters.drop_on(0, Reason::EndpointGone, 9);
    counters.drop_many(Reason::Restart, 2);
    counters.add_link(0, LinkCounter::TxBytes, 77);
    // Of 1.5, 2.1 and 3,000 microseconds, and one that took minutes.
    for nanos in [1_500, 2_100, 3_000_000, 200_000_000_000] {
        counters.note_time(nanos);
    }
    let flow = ["198.51.100.1:1000", "10.9.9.9:2000", "10.0.0.3:80"];
    gateway.flow(gone, flow, 0);
    let text = rendered(&gateway, 100);
    let web = "namespace=\"shop\",service=\"web\",port=\"http\",protocol=\"tcp\"";
    for line in [
        "portgate_dataplane_up 1".to_owned(),
        format!("portgate_service_snat_exhausted_total{{{web}}} 4"),
        format!("portgate_service_open_flows{{{web}}} 1"),
        format!("portgate_service_endpoints{{{web}}} 2"),
        format!("portgate_service_bytes_total{{{web}}} 181"),
        format!("portgate_endpoint_bytes_total{{{web},endpoint=\"10.0.0.1:80\"}} 76"),
        format!("portgate_endpoint_bytes_total{{{web},endpoint=\"10.0.0.2:80\"}} 0"),
        format!("portgate_endpoint_bytes_total{{{web},endpoint=\"10.0.0.3:80\"}} 100"),
        format!("portgate_endpoint_open_flows{{{web},endpoint=\"10.0.0.1:80\"}} 0"),
        "portgate_endpoint_counters_given 2".to_owned(),
        // An endpoint that is gone and still has a flow.
        format!("portgate_endpoint_open_flows{{{web},endpoint=\"10.0.0.3:80\"}} 1"),
        "portgate_drops_total{reason=\"endpoint_gone\"} 9".to_owned(),
        "portgate_drops_total{reason=\"restart\"} 2".to_owned(),
        "portgate_link_drops_total{link=\"outside\",reason=\"endpoint_gone\"} 9".to_owned(),
        "portgate_link_drops_total{link=\"outside\",reason=\"restart\"} 0".to_owned(),
        "portgate_link_dropped_total{link=\"outside\"} 9".to_owned(),
        "portgate_link_tx_bytes_total{link=\"outside\"} 77".to_owned(),
        "portgate_link_missed_total{link=\"outside\"} 3".to_owned(),
        "portgate_flows{family=\"ipv4\",state=\"half-open\"} 1".to_owned(),
        "portgate_flow_table_fill_ratio{family=\"ipv4\"} 0.0009765625".to_owned(),
        "portgate_snat_ports_in_use{address=\"10.9.9.9\"} 1".to_owned(),
        "portgate_snat_ports_limit 61744".to_owned(),
        "portgate_ring_records{ring=\"commands\"} 0".to_owned(),
        "portgate_worker_received_total{worker=\"main\"} 0".to_owned(),
        "portgate_worker_burst_seconds_bucket{le=\"0.000001024\",worker=\"0\"} 0".to_owned(),
        "portgate_worker_burst_seconds_bucket{le=\"0.000002048\",worker=\"0\"} 1".to_owned(),
        "portgate_worker_burst_seconds_bucket{le=\"0.004194304\",worker=\"0\"} 3".to_owned(),
        "portgate_worker_burst_seconds_bucket{le=\"+Inf\",worker=\"0\"} 4".to_owned(),
        "portgate_worker_burst_seconds_count{worker=\"0\"} 4".to_owned(),
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
    let of_main = "portgate_worker_burst_seconds_count{worker=\"main\"}";
    assert!(!text.contains(of_main), "the main core carries no frames");
    for reason in Reason::ALL {
        let series = format!("portgate_drops_total{{reason=\"{}\"}} ", reason.name());
        assert!(text.contains(&series), "{series}");
    }
}

#[test]
fn families_of_services_are_bounded_and_what_is_left_out_is_counted() {
    let mut gateway = FakeGateway::new();
    for name in ["a", "b", "c", "d", "e"] {
        gateway.install(&format!("shop/{name}"), &["10.0.0.1:80", "10.0.0.2:80"]);
    }
    let text = rendered(&gateway, 3);
    let series = |family: &str| {
        let start = format!("portgate_{family}{{");
        text.lines().filter(|line| line.starts_with(&start)).count()
    };
    assert_eq!(series("service_frames_total"), 3);
    assert_eq!(series("endpoint_open_flows"), 3);
    assert!(text.contains("service=\"c\"") && !text.contains("service=\"d\""));
    assert_eq!(series("endpoint_frames_total"), 3);
    for (family, count) in [
        ("service_frames", 2),
        ("endpoint_open_flows", 7),
        ("endpoint_frames", 7),
    ] {
        let line =
            format!("portgate_metrics_series_left_out{{family=\"portgate_{family}\"}} {count}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn without_a_region_the_data_plane_is_down_and_the_rest_stays() {
    let metrics = Metrics::new();
    let folder = tempfile::tempdir().unwrap();
    let observer = Observer::new(&folder.path().join("none"));
    metrics.watch(observer, 100, (30_000, 32_767));
    let text = metrics.render(Instant::now()).unwrap();
    assert!(text.contains("portgate_dataplane_up 0\n"), "{text}");
    assert!(text.contains("portgate_controlplane_commits_total 0\n"));
}

#[test]
fn names_cannot_break_out_of_their_labels() {
    let mut gateway = FakeGateway::new();
    gateway.install("shop/a\"} 1\nevil{x=\"", &["10.0.0.1:80"]);
    let text = rendered(&gateway, 10);
    assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    assert!(
        text.contains("service=\"a\\\"} 1\\nevil{x=\\\"\""),
        "{text}"
    );
}
