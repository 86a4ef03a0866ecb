//! The gateway in a real Kubernetes cluster: objects come from kubectl, EndpointSlices from
//! Kubernetes' own controllers.
//!
//! `make test-cluster` provides the programs and runs these tests; without them they are ignored.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ci::cluster::Cluster;
use ci::cluster::agent::{self, Agent};
use ci::cluster::api::Request;
use ci::gateway::Gateway;
use ci::topology::{CLIENT_V4, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, dial, wait};
use serde_json::json;

/// Pods of nginx and their Service.
const MYNGINX: &str = include_str!("../cluster/mynginx.yaml");
/// The one node that pods are on; the gateway is none.
const NODE: &str = "node-1";
/// What a change may take from kubectl to the gateway on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A cluster, a topology, and the link between them.
struct Lab {
    net: Topology,
    cluster: Cluster,
    link: String,
}

impl Lab {
    fn new() -> Self {
        let plan = Plan {
            pods: &[2, 3, 4, 5, 6, 7],
            ..Plan::default()
        };
        let net = Topology::new(plan);
        let cluster = Cluster::start();
        let (link, _) = cluster.attach(&net.gateway);
        let addresses = ["100.96.2.254", "fd00:100:96:2::fe"];
        let pod_cidrs = ["100.96.2.0/24", "fd00:100:96:2::/64"];
        cluster.add_node(NODE, "zone-a", &addresses, &pod_cidrs);
        Self { net, cluster, link }
    }

    fn start_gateway(&self) -> Gateway<'_> {
        Gateway::start(
            &self.net.gateway,
            &self.configuration(),
            self.net.directory(),
        )
    }

    /// The topology's own, with the API server as the source.
    fn configuration(&self) -> String {
        let own = self.net.configuration();
        let manifests = format!(
            "kind = \"manifests\"\npath = \"{}\"",
            self.net.manifests.path().display()
        );
        let kubernetes = format!(
            "kind = \"kubernetes\"\nkubeconfig = \"{}\"",
            self.cluster.gateway_kubeconfig().display()
        );
        assert!(own.contains(&manifests), "no manifests in:\n{own}");
        own.replace(&manifests, &kubernetes)
    }

    /// Runs `work` beside an agent that starts pods.
    fn with_pods<T>(&self, work: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        let agent = Agent::new(self.cluster.api(), NODE, &self.net, 6);
        beside(&stop, || agent.run(&stop), work)
    }

    /// Pods without programs behind a Service: enough for what only the control plane sees.
    fn make_pods(&self, app: &str, numbers: std::ops::Range<usize>) {
        let names = numbers.map(|number| (number, format!("{app}-{number}")));
        let (pods, states): (Vec<_>, Vec<_>) = names
            .map(|(number, name)| (agent::pod(&name, app, NODE), mark(&name, number, true)))
            .unzip();
        let api = self.cluster.api();
        api.send_all(&pods);
        api.send_all(&states);
    }
}

/// Runs `work` while `other` runs on a thread, then has it stop.
fn beside<T>(stop: &AtomicBool, other: impl FnOnce() + Send, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(other);
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // Relaxed: the flag carries no data.
        stop.store(true, Ordering::Relaxed);
        thread.join().expect("the other thread ends");
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A pod's state with an address that its number gives.
fn mark(name: &str, number: usize, ready: bool) -> Request {
    let address = format!("100.96.{}.{}", 8 + number / 200, 1 + number % 200);
    agent::status(name, &[address], ready)
}

/// What the gateway answers on the NodePort of `mynginx`.
fn fetch(net: &Topology, index: usize) -> Result<String, String> {
    curl::get(&net.client, &url(OUTSIDE[index], HTTP_NODE_PORT))
}

fn wait_until_served(net: &Topology) {
    for (index, family) in ["IPv4", "IPv6"].iter().enumerate() {
        wait::until(&format!("a pod answers over {family}"), SOON, || {
            fetch(net, index)
                .ok()
                .filter(|body| body.starts_with("pod-"))
        });
    }
}

/// Endpoints of a service, as the gateway has them installed; sorted.
fn installed(gateway: &Gateway, service: &str) -> Vec<String> {
    let shown = gateway.portgate_json(&["services"]);
    let services = shown["services"].as_array().cloned().unwrap_or_default();
    let wanted = services
        .iter()
        .filter(|entry| entry["service"] == format!("default/{service}"));
    let mut endpoints: Vec<String> = wanted
        .flat_map(|entry| entry["serving"].as_array().cloned().unwrap_or_default())
        .filter_map(|endpoint| endpoint.as_str().map(str::to_owned))
        .collect();
    endpoints.sort();
    endpoints
}

/// Digest of all that is installed.
fn digest(gateway: &Gateway) -> String {
    let shown = gateway.portgate_json(&["services"]);
    shown["digest"]
        .as_str()
        .unwrap_or_else(|| panic!("no digest in {shown}"))
        .to_owned()
}

/// Ready addresses of a service's EndpointSlices with the port, as the API server has them; sorted.
fn expected(cluster: &Cluster, service: &str, port: u16) -> Vec<String> {
    let path = format!(
        "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=kubernetes.io/service-name={service}"
    );
    let list = cluster.api().get(&path).expect("a list of slices");
    let slices = list["items"].as_array().expect("items");
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let mut found: Vec<String> = endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .filter_map(|endpoint| {
            let address = endpoint["addresses"][0].as_str()?.parse().ok()?;
            Some(SocketAddr::new(address, port).to_string())
        })
        .collect();
    found.sort();
    found
}

/// A ClusterIP Service over the pods of `app`.
fn service(app: &str, extra: usize) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": app, "namespace": "default", "labels": {"turn": extra.to_string()}},
        "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": 80}]},
    })
}

/// Waits until this many pods of a service are ready for Kubernetes, and the gateway has the same.
fn wait_until_converged(lab: &Lab, gateway: &Gateway, service: &str, ready: usize) {
    let mut wanted = Vec::new();
    wait::until(
        &format!("{ready} pods of {service} are in slices"),
        3 * SOON,
        || {
            wanted = expected(&lab.cluster, service, 80);
            (wanted.len() == ready).then_some(())
        },
    );
    wait::until(&format!("{service} is as in the cluster"), SOON, || {
        (installed(gateway, service) == wanted).then_some(())
    });
}

/// Has a control plane list everything anew and checks that this changes nothing.
fn expect_what_a_fresh_list_gives(gateway: &mut Gateway) {
    let before = digest(gateway);
    gateway.controlplane.stop();
    gateway.restart_controlplane();
    assert_eq!(
        digest(gateway),
        before,
        "what was installed from changes is not what a fresh list gives"
    );
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn a_service_from_kubectl_is_served_by_pods_in_slices_that_kubernetes_made() {
    let lab = Lab::new();
    let gateway = lab.start_gateway();
    lab.with_pods(|| {
        lab.cluster.apply(MYNGINX);
        wait_until_served(&lab.net);
        wait::until("three pods of each family", SOON, || {
            (installed(&gateway, "mynginx").len() == 6).then_some(())
        });
        let slices = lab
            .cluster
            .kubectl(&["get", "endpointslices", "-o", "name"]);
        assert!(slices.contains("/mynginx-"), "{slices}");

        lab.cluster
            .kubectl(&["scale", "deployment/mynginx", "--replicas=0"]);
        wait::until("connections are refused", SOON, || {
            fetch(&lab.net, 0)
                .err()
                .filter(|said| said.starts_with("7 "))
        });
        lab.cluster
            .kubectl(&["scale", "deployment/mynginx", "--replicas=1"]);
        wait_until_served(&lab.net);
        lab.cluster.kubectl(&["delete", "service/mynginx"]);
        wait::until("the service is gone", SOON, || {
            fetch(&lab.net, 0).is_err().then_some(())
        });
    });
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn the_gateways_account_may_do_what_it_does_and_nothing_else() {
    let lab = Lab::new();
    let gateway = lab.start_gateway();
    let may = |verb: &str, what: &str| {
        let account = "--as=system:serviceaccount:portgate:portgate";
        let arguments = ["auth", "can-i", verb, what, "-A", account, "-q"];
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lab.cluster.kubectl(&arguments)
        }));
        asked.is_ok()
    };
    for verb in ["get", "list", "watch"] {
        for what in ["services", "endpointslices.discovery.k8s.io", "nodes"] {
            assert!(may(verb, what), "{verb} {what}");
        }
        for what in ["secrets", "pods", "configmaps"] {
            assert!(!may(verb, what), "{verb} {what}");
        }
    }
    assert!(may("create", "events"));
    for verb in ["update", "patch", "delete"] {
        assert!(!may(verb, "services") && !may(verb, "events"), "{verb}");
    }
    // ServiceCIDRs are asked for and not needed.
    let log = gateway.controlplane.log();
    let others = log.lines().filter(|line| !line.contains("servicecidrs"));
    let refused: Vec<_> = others.filter(|line| line.contains("forbidden")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn s05_kubectl_describe_tells_of_a_health_port_that_the_gateway_cannot_listen_on() {
    const PORT: u16 = 31_999;
    let lab = Lab::new();
    let taken = lab.net.gateway.enter(|| {
        let everywhere = TcpListener::bind(("::", PORT));
        everywhere.or_else(|_| TcpListener::bind(("0.0.0.0", PORT)))
    });
    let taken = taken.expect("the port is free so far");
    let mut gateway = lab.start_gateway();
    let balancer = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "balanced", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local",
                 "healthCheckNodePort": PORT, "selector": {"app": "balanced"},
                 "ports": [{"name": "http", "port": 80}]},
    });
    lab.cluster.apply(&balancer.to_string());
    lab.make_pods("balanced", 0..2);
    let describe = || {
        let text = lab.cluster.kubectl(&["describe", "service/balanced"]);
        text.contains("FailedToStartServiceHealthcheck")
            .then_some(text)
    };
    let text = wait::until("the Service has an Event", SOON, describe);
    let words = ["Warning", "portgate", "healthCheckNodePort 31999", "in use"];
    for word in words {
        assert!(text.contains(word), "{word} in {text}");
    }
    gateway
        .controlplane
        .wait_for_log(&["default/balanced", "31999", "in use"], SOON);
    drop(taken);
    let health = format!("http://127.0.0.1:{PORT}/");
    wait::until("the health check tells of both endpoints", SOON, || {
        let answer = curl::get(&lab.net.gateway, &health).ok()?;
        answer.contains("\"localEndpoints\":2").then_some(())
    });
    // Whoever starts again finds the port free and has nothing to tell.
    gateway.controlplane.stop();
    gateway.restart_controlplane();
    wait::until("the health check is answered again", SOON, || {
        curl::get(&lab.net.gateway, &health).ok()
    });
    let events = lab.cluster.kubectl(&["get", "events", "-o", "name"]);
    let of_it = events.lines().filter(|name| name.contains("/balanced."));
    assert_eq!(of_it.count(), 1, "{events}");
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn k11_networks_of_services_come_from_the_cluster_where_the_gateway_may_read_them() {
    let lab = Lab::new();
    lab.cluster
        .apply(include_str!("../cluster/rbac-servicecidrs.yaml"));
    let gateway = lab.start_gateway();
    let known = |number: usize| {
        let line = format!("portgate_controlplane_objects{{kind=\"ServiceCIDR\"}} {number}\n");
        wait::until(&line, SOON, || {
            let metrics = curl::get(&lab.net.gateway, "http://127.0.0.1:9102/metrics").ok()?;
            metrics.contains(&line).then_some(())
        });
    };
    // The API server makes the first one itself, of its own flag.
    known(1);
    let before = digest(&gateway);
    let more = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "more"}, "spec": {"cidrs": ["100.80.0.0/24"]},
    });
    lab.cluster.apply(&more.to_string());
    known(2);
    wait::until("the network is installed", SOON, || {
        (digest(&gateway) != before).then_some(())
    });
    // Nothing holds it back: the controller that would, while an address of it is in use, is not here.
    lab.cluster.kubectl(&["delete", "servicecidr/more"]);
    known(1);
    wait::until("the network is gone", SOON, || {
        (digest(&gateway) == before).then_some(())
    });
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn a_rolling_update_under_load_loses_no_request() {
    let lab = Lab::new();
    let _gateway = lab.start_gateway();
    lab.with_pods(|| {
        lab.cluster.apply(MYNGINX);
        wait_until_served(&lab.net);
        let load = Load::default();
        let target = SocketAddr::new(OUTSIDE[0], HTTP_NODE_PORT);
        beside(
            &load.stop,
            || lab.net.client.enter(|| load.run(target)),
            || {
                for image in ["nginx:2", "nginx:3"] {
                    let image = format!("nginx={image}");
                    let set = ["set", "image", "deployment/mynginx", &image];
                    lab.cluster.kubectl(&set);
                    let status = ["rollout", "status", "deployment/mynginx", "--timeout=90s"];
                    lab.cluster.kubectl(&status);
                }
            },
        );
        let failures = load.failures.into_inner().expect("no panic in the load");
        let requests = load.requests.into_inner();
        assert!(requests > 200, "only {requests} requests");
        assert_eq!(failures, [""; 0], "of {requests} requests");
    });
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn a_killed_api_server_stops_no_traffic_and_is_followed_when_it_is_back() {
    let mut lab = Lab::new();
    let echo = lab.net.start_nginx(0);
    lab.cluster.apply(MYNGINX);
    lab.cluster
        .kubectl(&["scale", "deployment/mynginx", "--replicas=0"]);
    let name = "by-hand";
    let addresses = lab.net.pod_addresses(0).map(|ip| ip.to_string());
    let api = lab.cluster.api();
    api.send(&named_pod(name, "mynginx")).expect("a pod");
    api.send(&agent::status(name, &addresses, true))
        .expect("its state");

    let net = &lab.net;
    let configuration = lab.configuration();
    let mut gateway = Gateway::start(&net.gateway, &configuration, net.directory());
    wait_until_served(net);

    lab.cluster.kill_server();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(fetch(net, 0).as_deref(), Ok("pod-0\n"));
    assert!(gateway.controlplane.is_running());
    lab.cluster.start_server();

    let api = lab.cluster.api();
    api.send(&agent::status(name, &addresses, false))
        .expect("its state");
    wait::until("the pod is taken out", 3 * SOON, || {
        fetch(net, 0).err().filter(|said| said.starts_with("7 "))
    });
    // Out of the other family's slice as well, which is another change.
    wait_until_converged(&lab, &gateway, "mynginx", 0);
    expect_what_a_fresh_list_gives(&mut gateway);
    drop(echo);
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn broken_watches_are_begun_anew_and_miss_nothing() {
    let lab = Lab::new();
    let mut gateway = lab.start_gateway();
    lab.cluster.apply(&service("web", 0).to_string());
    lab.make_pods("web", 0..20);
    wait_until_converged(&lab, &gateway, "web", 20);
    for round in 0..3 {
        let back = round % 2 == 1;
        let broken = lab.cluster.break_connections();
        assert!(broken > 0, "there was no connection to break");
        let states: Vec<_> = (0..10)
            .map(|number| mark(&format!("web-{number}"), number, back))
            .collect();
        lab.cluster.api().send_all(&states);
        wait_until_converged(&lab, &gateway, "web", if back { 20 } else { 10 });
    }
    expect_what_a_fresh_list_gives(&mut gateway);
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn after_a_minute_without_the_server_and_a_compacted_history_everything_is_listed_anew() {
    let mut lab = Lab::new();
    lab.cluster.apply(&service("web", 0).to_string());
    lab.cluster.apply(&service("gone", 0).to_string());
    lab.make_pods("web", 0..20);
    let configuration = lab.configuration();
    let mut gateway = Gateway::start(&lab.net.gateway, &configuration, lab.net.directory());
    wait_until_converged(&lab, &gateway, "web", 20);

    let away = Instant::now();
    lab.cluster.set_link(&lab.link, false);
    lab.cluster.kubectl(&["delete", "service/gone"]);
    let states: Vec<_> = (0..10)
        .map(|number| mark(&format!("web-{number}"), number, false))
        .collect();
    lab.cluster.api().send_all(&states);
    lab.make_pods("web", 20..25);
    // The server forgets what it had in memory, etcd what it had on disk.
    lab.cluster.kill_server();
    lab.cluster.compact();
    lab.cluster.start_server();
    thread::sleep(Duration::from_secs(60).saturating_sub(away.elapsed()));
    assert_eq!(
        installed(&gateway, "web").len(),
        20,
        "the last state is kept while the server is away"
    );
    lab.cluster.set_link(&lab.link, true);

    wait_until_converged(&lab, &gateway, "web", 15);
    // Each kind has a watch of its own, which comes back in its own time.
    wait::until("the service that was deleted is gone", SOON, || {
        let shown = gateway.portgate(&["services"]);
        (!shown.contains("default/gone")).then_some(())
    });
    gateway
        .controlplane
        .wait_for_log(&["out of date"], Duration::from_secs(1));
    expect_what_a_fresh_list_gives(&mut gateway);
}

#[test]
#[ignore = "needs the programs of Kubernetes: run `make test-cluster`"]
fn a_thousand_changes_at_once_end_in_what_a_fresh_list_gives() {
    let lab = Lab::new();
    let services = 20;
    let each = 25;
    for number in 0..services {
        lab.cluster
            .apply(&service(&format!("web{number}"), 0).to_string());
        lab.make_pods(&format!("web{number}"), 0..each);
    }
    let mut gateway = lab.start_gateway();
    wait_until_converged(&lab, &gateway, "web0", each);

    // Two states a pod, so that the last one is not the only one seen.
    for ready in [false, true] {
        let changes: Vec<_> = (0..services * each)
            .map(|number| {
                let (app, pod) = (number / each, number % each);
                // Every third pod stays out in the end.
                mark(&format!("web{app}-{pod}"), pod, ready && pod % 3 != 0)
            })
            .collect();
        lab.cluster.api().send_all(&changes);
    }
    for number in 0..services {
        let ready = each - each.div_ceil(3);
        wait_until_converged(&lab, &gateway, &format!("web{number}"), ready);
    }
    expect_what_a_fresh_list_gives(&mut gateway);
}

fn named_pod(name: &str, app: &str) -> Request {
    let mut request = agent::pod(name, app, NODE);
    request.body["spec"]["containers"][0]["ports"] = json!([{"name": "web", "containerPort": 80}]);
    request
}

/// Requests one after the other on connections of their own, on some threads.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    requests: AtomicUsize,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Load {
    const THREADS: usize = 3;

    fn run(&self, target: SocketAddr) {
        thread::scope(|scope| {
            for _ in 0..Self::THREADS {
                scope.spawn(|| {
                    // Relaxed: neither flag nor count carries data.
                    while !self.stop.load(Ordering::Relaxed) {
                        let number = self.requests.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = request(target) {
                            let mut failures = self.failures.lock().expect("no panic in the load");
                            failures.push(format!("request {number}: {error}"));
                        }
                        thread::sleep(Duration::from_millis(5));
                    }
                });
            }
        });
    }
}

/// One HTTP request on a new connection.
fn request(target: SocketAddr) -> Result<(), String> {
    let from = SocketAddr::new(CLIENT_V4[0], 0);
    let said = |error: std::io::Error| error.to_string();
    let patience = Duration::from_secs(5);
    let mut stream = dial::tcp_here(Some(from), target, patience).map_err(said)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(said)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(said)?;
    let served = answer.starts_with("HTTP/1.1 200") && answer.contains("pod-");
    served.then_some(()).ok_or(answer)
}
