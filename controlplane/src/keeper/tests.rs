use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use super::Keeper;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::model::{ClusterObject, ObjectKind, ObjectName};
use crate::policy::fixtures::{gateway, service, slice};
use crate::publish::fake::World;
use crate::source::{Change, SourceEvent};
use crate::warning::Warning;

struct Rig {
    world: World,
    keeper: Keeper<World>,
    health: Health,
    metrics: Metrics,
    now: Instant,
    said: usize,
}

impl Rig {
    fn new() -> Self {
        let world = World::with_region(1024);
        let (health, metrics) = (Health::new(), Metrics::new());
        Self {
            keeper: Keeper::new(gateway(), world.clone(), health.clone(), metrics.clone()),
            world,
            health,
            metrics,
            now: Instant::now(),
            said: 0,
        }
    }

    fn take(&mut self, event: SourceEvent) {
        self.keeper.take(event, self.now);
    }

    fn run(&mut self, milliseconds: u32) {
        for _ in 0..milliseconds {
            let (_, synced) = self.keeper.turn(self.now);
            self.said += usize::from(synced.is_some());
            self.world.run(usize::MAX);
            self.now += Duration::from_millis(1);
        }
    }

    fn list(&mut self, services: &[&str]) {
        let objects = services
            .iter()
            .map(|name| ClusterObject::Service(service(name)));
        let objects = objects.collect();
        self.take(SourceEvent::Replace(ObjectKind::Service, objects));
    }

    fn updates(&self) -> usize {
        self.world.change(|state| state.updates.len())
    }
}

#[test]
fn nothing_is_sent_before_every_kind_has_been_listed() {
    let mut rig = Rig::new();
    rig.list(&["web"]);
    rig.take(SourceEvent::Replace(ObjectKind::Slice, Vec::new()));
    rig.run(200);
    assert_eq!(rig.updates(), 0);
    assert!(!rig.health.facts().is_ready());
    rig.take(SourceEvent::Replace(ObjectKind::Node, Vec::new()));
    rig.run(10);
    assert_eq!(rig.updates(), 1);
    assert!(rig.health.facts().is_ready());
    rig.list(&["web", "db"]);
    rig.run(10);
    assert_eq!((rig.updates(), rig.said), (2, 1), "synced is said once");
}

#[test]
fn a_burst_of_changes_becomes_few_updates_and_a_relist_of_the_same_none() {
    let mut rig = Rig::new();
    for kind in ObjectKind::ALL {
        rig.take(SourceEvent::Replace(kind, Vec::new()));
    }
    rig.run(10);
    for number in 0..100u8 {
        let of = format!("s{number}");
        rig.take(SourceEvent::Changes(vec![
            Change::Apply(ClusterObject::Service(service(&of))),
            Change::Apply(ClusterObject::Slice(slice(
                &of,
                [IpAddr::from([10, 0, 0, number + 1])],
            ))),
        ]));
        if number % 10 == 0 {
            rig.run(1);
        }
    }
    rig.run(20);
    let updates = rig.updates();
    assert!((2..=12).contains(&updates), "{updates}");
    let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
    rig.list(&names.iter().map(String::as_str).collect::<Vec<_>>());
    rig.run(20);
    assert_eq!(rig.updates(), updates);
    rig.take(SourceEvent::Changes(vec![Change::Delete(
        ObjectKind::Service,
        ObjectName::new("test", "s7"),
    )]));
    rig.run(20);
    assert_eq!(rig.updates(), updates + 1);
}

#[test]
fn waiting_too_long_for_the_data_plane_is_out_of_sync_and_idling_is_not() {
    let mut rig = Rig::new();
    for kind in ObjectKind::ALL {
        rig.take(SourceEvent::Replace(kind, Vec::new()));
    }
    rig.run(10);
    rig.now += Duration::from_secs(3600);
    rig.run(2);
    assert!(
        rig.health.facts().is_in_sync(rig.now),
        "nothing to do for an hour"
    );
    rig.world.change(|state| state.silent = true);
    rig.list(&["web"]);
    rig.run(10);
    assert!(rig.health.facts().is_in_sync(rig.now));
    rig.now += Duration::from_secs(61);
    rig.run(2);
    assert!(!rig.health.facts().is_in_sync(rig.now));
}

#[test]
fn warnings_are_counted_every_time() {
    let mut rig = Rig::new();
    let warning = Warning {
        subject: "Service a/b".into(),
        message: "odd".into(),
    };
    for _ in 0..3 {
        rig.take(SourceEvent::Warnings(vec![warning.clone()]));
    }
    assert_eq!(rig.metrics.warnings.get(), 3);
}

#[test]
fn the_time_from_a_change_to_its_installation_is_measured_but_not_for_what_was_there_before() {
    let mut rig = Rig::new();
    let triggered = |seconds: u64| {
        let mut of_web = slice("web", [IpAddr::from([10, 0, 0, 1])]);
        of_web.triggered = Some(SystemTime::now() - Duration::from_secs(seconds));
        ClusterObject::Slice(of_web)
    };
    rig.list(&["web"]);
    rig.take(SourceEvent::Replace(
        ObjectKind::Slice,
        vec![triggered(1000)],
    ));
    rig.take(SourceEvent::Replace(ObjectKind::Node, Vec::new()));
    rig.run(10);
    let count = |rig: &Rig, number: u32| {
        let text = rig.metrics.render(rig.now).unwrap();
        let name = "kubeproxy_network_programming_duration_seconds_count";
        assert!(text.contains(&format!("{name} {number}\n")), "{text}");
    };
    count(&rig, 0);
    let ClusterObject::Slice(mut changed) = triggered(2) else {
        unreachable!()
    };
    changed.endpoints.clear();
    rig.take(SourceEvent::Changes(vec![Change::Apply(
        ClusterObject::Slice(changed),
    )]));
    rig.run(10);
    count(&rig, 1);
}

#[test]
fn metrics_have_the_names_and_labels_that_kube_proxys_have() {
    let mut rig = Rig::new();
    rig.list(&["web"]);
    rig.take(SourceEvent::Replace(ObjectKind::Slice, Vec::new()));
    rig.take(SourceEvent::Replace(ObjectKind::Node, Vec::new()));
    rig.run(10);
    rig.world.change(|state| state.silent = true);
    rig.take(SourceEvent::Changes(vec![Change::Apply(
        ClusterObject::Slice(slice("web", [IpAddr::from([10, 0, 0, 1])])),
    )]));
    rig.run(1);
    let pending = rig.metrics.render(rig.now).unwrap();
    for line in [
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 1\n",
        "kubeproxy_sync_proxy_rules_service_changes_pending 0\n",
    ] {
        assert!(pending.contains(line), "{line} in {pending}");
    }
    rig.world.change(|state| state.silent = false);
    rig.run(8_000);
    rig.metrics.count_proxy_health("healthz", "200");
    rig.metrics.count_proxy_health("livez", "503");
    let text = rig.metrics.render(rig.now).unwrap();
    for line in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count 2\n",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count ",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds_count ",
        "kubeproxy_network_programming_duration_seconds_count ",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0\n",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total 1\n",
        "kubeproxy_sync_proxy_rules_service_changes_pending 0\n",
        "kubeproxy_sync_proxy_rules_service_changes_total 1\n",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\"} 0\n",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"} 0\n",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1\n",
        "kubeproxy_proxy_livez_total{code=\"503\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    for time in ["last_timestamp_seconds", "last_queued_timestamp_seconds"] {
        let name = format!("kubeproxy_sync_proxy_rules_{time} ");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .unwrap();
        let unix: f64 = value.parse().unwrap();
        assert!(unix > 1.7e9, "{time} is {value}");
    }
}
