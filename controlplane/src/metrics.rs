//! Metrics in the OpenMetrics text format.
//!
//! Names of this process begin with `portgate_controlplane_`, those of the gateway, which are read from the
//! region, with `portgate_` (`gateway`). Where kube-proxy exports the same thing (rule by rule), its name is
//! used, so that dashboards and alerts go on working.

mod curve;
mod gateway;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::index::Index;
use crate::model::ObjectKind;
use crate::observe::Observer;
use crate::policy::Tally;

pub use curve::{Curve, PERCENTILES};

type Labels = [(&'static str, String); 1];
type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Handles of every metric; clones count in the same place.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    commits: Counter,
    /// Updates that it has refused.
    pub refused: Counter,
    /// Replays that it has asked for.
    pub replays: Counter,
    /// Times that the installed state was not the wanted one.
    pub digest_mismatches: Counter,
    /// Replies that meant nothing.
    pub bad_replies: Counter,
    /// Objects and fields that are not served as written.
    pub warnings: Counter,
    held_back: Counter,
    /// Generation of the latest update.
    pub generation_wanted: Gauge,
    /// Generation of the latest confirmed update.
    pub generation_installed: Gauge,
    /// 1 while the region is attached.
    pub attached: Gauge,
    commit_seconds: Histogram,
    full_seconds: Histogram,
    partial_seconds: Histogram,
    programming_seconds: Histogram,
    /// From an update's first record to its confirmation.
    pub commit_curve: Curve,
    /// From a change of endpoints in the cluster to its confirmation.
    pub programming_curve: Curve,
    service_changes: Counter,
    endpoint_changes: Counter,
    service_pending: Gauge,
    endpoint_pending: Gauge,
    last_queued: FloatGauge,
    last_synced: FloatGauge,
    objects: Family<Labels, Gauge>,
    service_ports: Gauge,
    endpoints: Gauge,
    no_local: Family<Labels, Gauge>,
    proxy_health: [Family<Labels, Counter>; 2],
    source_age: Family<Labels, FloatGauge>,
    events: Family<Labels, Counter>,
    dns: Family<Labels, Counter>,
    contacts: Arc<Mutex<[Option<Instant>; ObjectKind::ALL.len()]>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        let update_seconds = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let metrics = Self {
            registry: Arc::default(),
            commits: Counter::default(),
            refused: Counter::default(),
            replays: Counter::default(),
            digest_mismatches: Counter::default(),
            bad_replies: Counter::default(),
            warnings: Counter::default(),
            held_back: Counter::default(),
            generation_wanted: Gauge::default(),
            generation_installed: Gauge::default(),
            attached: Gauge::default(),
            commit_seconds: update_seconds(),
            full_seconds: update_seconds(),
            partial_seconds: update_seconds(),
            programming_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            commit_curve: Curve::default(),
            programming_curve: Curve::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            service_pending: Gauge::default(),
            endpoint_pending: Gauge::default(),
            last_queued: FloatGauge::default(),
            last_synced: FloatGauge::default(),
            objects: Family::default(),
            service_ports: Gauge::default(),
            endpoints: Gauge::default(),
            no_local: Family::default(),
            proxy_health: Default::default(),
            source_age: Family::default(),
            events: Family::default(),
            dns: Family::default(),
            contacts: Arc::default(),
        };
        {
            let mut registry = metrics
                .registry
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            metrics.register_own(registry.sub_registry_with_prefix("portgate_controlplane"));
            metrics.register_shared(registry.sub_registry_with_prefix("kubeproxy"));
        }
        metrics
    }

    /// Adds what the region shows, with at most so many series in a family with a label of a service or an
    /// endpoint, and with these NodePorts, which are no masquerade ports.
    pub fn watch(&self, observer: Observer, most_series: usize, nodeports: (u16, u16)) {
        let collector = gateway::Gateway {
            observer,
            most_series,
            snat_ports: engine::usable_ports(nodeports),
        };
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let own = registry.sub_registry_with_prefix("portgate");
        own.register_collector(Box::new(collector));
    }

    fn register_own(&self, registry: &mut Registry) {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the program", build);
        let counters = [
            (
                "commits",
                "Updates confirmed by the data plane",
                &self.commits,
            ),
            (
                "refused",
                "Updates refused by the data plane",
                &self.refused,
            ),
            (
                "replays",
                "Full updates that the data plane asked for",
                &self.replays,
            ),
            (
                "digest_mismatches",
                "Installed state was not the wanted one",
                &self.digest_mismatches,
            ),
            (
                "bad_replies",
                "Replies of the data plane that meant nothing",
                &self.bad_replies,
            ),
            (
                "skipped",
                "Objects and fields not served as written",
                &self.warnings,
            ),
            (
                "log_lines_held_back",
                "Lines of the log that were held back because too many came",
                &self.held_back,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            (
                "generation_wanted",
                "Generation of the latest update",
                &self.generation_wanted,
            ),
            (
                "generation_installed",
                "Latest confirmed generation",
                &self.generation_installed,
            ),
            ("attached", "Whether the region is attached", &self.attached),
            (
                "service_ports",
                "Service ports that are proxied",
                &self.service_ports,
            ),
            (
                "endpoints",
                "Serving endpoints of all service ports",
                &self.endpoints,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register("objects", "Objects known, by kind", self.objects.clone());
        registry.register(
            "source_age_seconds",
            "Time since the source was last heard of, by kind",
            self.source_age.clone(),
        );
        registry.register(
            "events",
            "What was to be told in Kubernetes Events, by what became of it",
            self.events.clone(),
        );
        let help = "Answers of the DNS responder, by code";
        registry.register("dns_answers", help, self.dns.clone());
        let help = "From an update's first record to its confirmation";
        registry.register("commit_seconds", help, self.commit_seconds.clone());
    }

    fn register_shared(&self, registry: &mut Registry) {
        registry.register(
            "network_programming_duration_seconds",
            "From a change of endpoints in the cluster to its installation",
            self.programming_seconds.clone(),
        );
        let [healthz, livez] = &self.proxy_health;
        registry.register(
            "proxy_healthz",
            "Answers to /healthz, by status",
            healthz.clone(),
        );
        registry.register("proxy_livez", "Answers to /livez, by status", livez.clone());
        registry.register(
            "sync_full_proxy_rules_duration_seconds",
            "The same of updates that are the whole state",
            self.full_seconds.clone(),
        );
        registry.register(
            "sync_partial_proxy_rules_duration_seconds",
            "The same of updates that are differences",
            self.partial_seconds.clone(),
        );
        let rules = registry.sub_registry_with_prefix("sync_proxy_rules");
        let help = "From an update's first record to its confirmation";
        rules.register("duration_seconds", help, self.commit_seconds.clone());
        let help = "When the state was last confirmed";
        rules.register("last_timestamp_seconds", help, self.last_synced.clone());
        let help = "When a change was last queued";
        rules.register(
            "last_queued_timestamp_seconds",
            help,
            self.last_queued.clone(),
        );
        rules.register(
            "service_changes",
            "Changes of Services",
            self.service_changes.clone(),
        );
        rules.register(
            "endpoint_changes",
            "Changes of slices",
            self.endpoint_changes.clone(),
        );
        let help = "Changes of Services not yet installed";
        rules.register(
            "service_changes_pending",
            help,
            self.service_pending.clone(),
        );
        let help = "Changes of slices not yet installed";
        rules.register(
            "endpoint_changes_pending",
            help,
            self.endpoint_pending.clone(),
        );
        rules.register(
            "no_local_endpoints_total",
            "Service ports of policy Local with usable endpoints elsewhere only",
            self.no_local.clone(),
        );
    }

    /// Counts changes of a kind that have arrived.
    pub fn count_changes(&self, kind: ObjectKind, number: usize) {
        let number = number as u64;
        let (counter, pending) = match kind {
            ObjectKind::Service => (&self.service_changes, &self.service_pending),
            ObjectKind::Slice => (&self.endpoint_changes, &self.endpoint_pending),
            ObjectKind::Node | ObjectKind::ServiceCidr => return,
        };
        counter.inc_by(number);
        pending.inc_by(number.cast_signed());
        self.last_queued.set(unix_now());
    }

    /// Notes that the data plane has confirmed an update, the whole state or a difference, and how long
    /// after its first record.
    pub fn committed(&self, latency: Duration, full: bool) {
        self.commits.inc();
        let seconds = latency.as_secs_f64();
        self.commit_seconds.observe(seconds);
        let of_kind = if full {
            &self.full_seconds
        } else {
            &self.partial_seconds
        };
        of_kind.observe(seconds);
        self.commit_curve.observe(latency);
    }

    /// Notes that everything wanted is installed.
    pub fn settled(&self) {
        self.service_pending.set(0);
        self.endpoint_pending.set(0);
        self.last_synced.set(unix_now());
    }

    /// Notes that the source of a kind was heard of.
    pub fn contact(&self, kind: ObjectKind, now: Instant) {
        let mut contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        contacts[kind as usize] = Some(now);
    }

    /// Takes the numbers of the model.
    pub fn count_objects(&self, index: &Index, tally: Tally) {
        for kind in ObjectKind::ALL {
            let gauge = self.objects.get_or_create(&[("kind", kind.name().into())]);
            gauge.set(index.count(kind) as i64);
        }
        self.service_ports.set(tally.service_ports as i64);
        self.endpoints.set(tally.endpoints as i64);
        let traffic = [
            ("internal", tally.no_local_internal),
            ("external", tally.no_local_external),
        ];
        for (policy, number) in traffic {
            let labels = [("traffic_policy", policy.into())];
            self.no_local.get_or_create(&labels).set(number as i64);
        }
    }

    /// Notes how long a change that happened at `triggered` took.
    pub fn programmed(&self, triggered: SystemTime) {
        if let Ok(duration) = triggered.elapsed() {
            self.programming_seconds.observe(duration.as_secs_f64());
            self.programming_curve.observe(duration);
        }
    }

    /// Counts an answer on kube-proxy's health port.
    pub fn count_proxy_health(&self, path: &str, code: &str) {
        let [healthz, livez] = &self.proxy_health;
        let family = if path == "healthz" { healthz } else { livez };
        family.get_or_create(&[("code", code.into())]).inc();
    }

    /// Counts what became of something that was to be told in an Event.
    pub fn count_event(&self, result: &'static str) {
        let labels = [("result", result.into())];
        self.events.get_or_create(&labels).inc();
    }

    /// Counts an answer of the DNS responder.
    pub fn count_dns(&self, code: &'static str) {
        self.dns.get_or_create(&[("code", code.into())]).inc();
    }

    /// The text of all metrics. It may take as long as [`Observer::look`].
    ///
    /// # Errors
    ///
    /// A metric could not be encoded.
    pub fn render(&self, now: Instant) -> Result<String, std::fmt::Error> {
        let contacts = *self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, contact) in ObjectKind::ALL.into_iter().zip(contacts) {
            if let Some(contact) = contact {
                let age = now.saturating_duration_since(contact).as_secs_f64();
                self.source_age
                    .get_or_create(&[("kind", kind.name().into())])
                    .set(age);
            }
        }
        let held_back = settings::log::held_back();
        self.held_back
            .inc_by(held_back.saturating_sub(self.held_back.get()));
        let mut text = String::new();
        encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(text)
    }
}

fn unix_now() -> f64 {
    let since: Duration = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs_f64()
}
