use std::net::{IpAddr, SocketAddr};

use engine::counters::{ServiceCounter, Total};
use engine::reason::Reason;

use super::fixtures::FakeGateway;
use super::*;

#[test]
fn counters_of_all_workers_are_added() {
    let mut gateway = FakeGateway::new();
    let slot = gateway.install("shop/web", &["10.0.0.1:80"]);
    for (block, count) in [(0, 5), (1, 2)] {
        let counters = gateway.counters(block);
        counters.add(Total::Received, count);
        counters.drop_many(Reason::NoRoute, count);
        counters.add_service(slot, ServiceCounter::Bytes, count);
    }
    let view = gateway.observer().look().unwrap();
    assert_eq!(total(view.counters.blocks(), Total::Received), 7);
    assert_eq!(drops(view.counters.blocks(), Reason::NoRoute), 7);
    assert_eq!(view.counters.service(slot, ServiceCounter::Bytes), 7);
    let names: Vec<_> = view.counters.named().map(|(name, _)| name).collect();
    assert_eq!(names, ["0", "main"]);
    assert!(view.is_running() && view.links()[0].1.missed == 3);
    assert_eq!(view.rings().unwrap().map(|ring| ring.waiting), [0, 0]);
}

#[test]
fn an_endpoint_without_flows_has_counted_none_until_all_counters_are_given() {
    let mut gateway = FakeGateway::new();
    let slot = gateway.install("shop/web", &["10.0.0.1:80"]);
    let endpoint = "10.0.0.1:80".parse().unwrap();
    let counted = |gateway: &FakeGateway| {
        let counters = gateway.observer().look().unwrap().counters;
        let (given, most) = counters.endpoint_slots();
        let count = counters.endpoint(slot, endpoint, ServiceCounter::Frames);
        (count, given, most)
    };
    let (count, given, most) = counted(&gateway);
    assert_eq!((count, given), (Some(0), 0));
    for number in 0..most {
        let _ = gateway.endpoint(slot, &format!("10.1.{}.{}:80", number / 256, number % 256));
    }
    assert_eq!(counted(&gateway), (None, most, most));
}

#[test]
fn flows_are_counted_by_service_endpoint_and_masquerade_address() {
    let mut gateway = FakeGateway::new();
    let slot = gateway.install("shop/web", &["10.0.0.1:80", "10.0.0.2:80"]);
    let flow =
        |client, source, endpoint, idle| gateway.flow(slot, [client, source, endpoint], idle);
    flow("198.51.100.1:1000", "10.9.9.9:2000", "10.0.0.1:80", 30);
    flow("198.51.100.1:1001", "10.9.9.9:2001", "10.0.0.1:80", 0);
    flow("198.51.100.1:1002", "10.9.9.9:2000", "10.0.0.2:80", 0);
    // This one keeps the client's address: it needs no port.
    flow("198.51.100.1:1003", "198.51.100.1:1003", "10.0.0.2:80", 0);
    // One that counts in the slot of its endpoint.
    let counted = gateway.endpoint(slot, "10.0.0.2:80");
    gateway.flow(
        counted,
        ["198.51.100.1:1004", "198.51.100.1:1004", "10.0.0.2:80"],
        0,
    );
    let survey = gateway.observer().look().unwrap().survey;
    assert_eq!(survey.families[0].all(), 5);
    assert_eq!(survey.families[0].made_for, 1024);
    assert!((30..40).contains(&survey.families[0].oldest.unwrap()));
    assert!((30..40).contains(&survey.families[0].longest_idle.unwrap()));
    assert_eq!(survey.families[1].oldest, None);
    assert_eq!(survey.services[&slot], [5, 0, 0, 0], "all half-open");
    let endpoint: SocketAddr = "10.0.0.1:80".parse().unwrap();
    assert_eq!(survey.endpoints[&(slot, endpoint)], 2);
    let source = IpAddr::from([10, 9, 9, 9]);
    let expected = SnatUse { ports: 3, most: 2 };
    assert_eq!(survey.snat[&source], expected);
}

#[test]
fn what_is_installed_is_read_again_when_it_is_another_state() {
    let mut gateway = FakeGateway::new();
    let observer = gateway.observer();
    gateway.install("shop/web", &["10.0.0.1:80"]);
    let names = |view: &View| -> Vec<_> {
        let services = view.installed.services.iter();
        services.map(|service| service.name.clone()).collect()
    };
    assert_eq!(names(&observer.look().unwrap()), ["web"]);
    let first = observer.look().unwrap().installed;
    assert!(Arc::ptr_eq(&first, &observer.look().unwrap().installed));
    gateway.install("shop/api", &["10.0.0.2:80"]);
    assert_eq!(names(&observer.look().unwrap()), ["api", "web"]);
}

#[test]
fn without_a_region_there_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let error = Observer::new(&folder.path().join("none"))
        .look()
        .unwrap_err();
    assert!(error.contains("none"), "{error}");
}
