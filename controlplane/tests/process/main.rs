//! The program as a whole: a directory of manifests on one side, a real region on the other.

#![allow(clippy::unwrap_used)] // In helpers too, a test that cannot go on fails.

mod dataplane;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use dataplane::DataPlane;
use hugepages::object::{FrontendKind, Object};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_portgate-controlplane");

struct Rig {
    directory: TempDir,
    metrics: SocketAddr,
}

/// A loopback address that nobody else uses: of this process, and of this call.
fn own_address() -> IpAddr {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    // Relaxed: it only has to differ. The second byte is that of no other test.
    IpAddr::from([
        127,
        64 + high % 64,
        low,
        CALLS.fetch_add(1, Ordering::Relaxed),
    ])
}

impl Rig {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("manifests")).unwrap();
        let rig = Self {
            metrics: SocketAddr::new(own_address(), 9199),
            directory,
        };
        let config = format!(
            "[region]\npath = {:?}\n[gateway]\naddresses = [\"192.0.2.1\"]\n\
             [source]\nkind = \"manifests\"\npath = {:?}\n[metrics]\nlisten = \"{}\"\n",
            rig.region(),
            rig.path("manifests"),
            rig.metrics,
        );
        fs::write(rig.path("portgate.toml"), config).unwrap();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn region(&self) -> PathBuf {
        self.path("region")
    }

    fn write(&self, file: &str, text: &str) {
        let temporary = self.path("manifests/.new");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.path("manifests").join(file)).unwrap();
    }

    fn start(&self) -> Program {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("--config")
            .arg(self.path("portgate.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        Program { child, lines }
    }

    /// Status and body of a GET on the metrics address; status 0 while nobody listens.
    fn get(&self, path: &str) -> (u16, String) {
        let Ok(mut stream) = TcpStream::connect(self.metrics) else {
            return (0, String::new());
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }
}

struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn service(name: &str, address: &str, endpoints: &[&str]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|endpoint| format!("{{addresses: [{endpoint}]}}"))
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: test}}\n\
         spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: test, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

fn cluster_ips(dataplane: &DataPlane) -> Vec<String> {
    let mut found: Vec<String> = dataplane
        .installed
        .values()
        .filter_map(|object| match object {
            Object::Frontend(frontend) if frontend.port != 0 => {
                assert_eq!(frontend.kind, FrontendKind::ClusterIp);
                Some(frontend.address.to_string())
            }
            _ => None,
        })
        .collect();
    found.sort();
    found
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn manifests_reach_the_region_and_changes_follow_within_moments() {
    let rig = Rig::new();
    rig.write(
        "web.yaml",
        &service("web", "10.96.0.1", &["10.0.0.1", "10.0.0.2"]),
    );
    let mut dataplane = DataPlane::start(&rig.region());
    let program = rig.start();
    dataplane.work_until(|dataplane| !dataplane.updates.is_empty());
    assert_eq!(cluster_ips(&dataplane), ["10.96.0.1"]);
    let line = program.lines.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(
        line.starts_with("portgate-controlplane synced generation="),
        "{line}"
    );
    assert!(line.ends_with(" services=1 endpoints=2"), "{line}");

    rig.write("db.yaml", &service("db", "10.96.0.2", &["10.0.0.3"]));
    dataplane.work_until(|dataplane| cluster_ips(dataplane) == ["10.96.0.1", "10.96.0.2"]);
    fs::remove_file(rig.path("manifests/web.yaml")).unwrap();
    dataplane.work_until(|dataplane| cluster_ips(dataplane) == ["10.96.0.2"]);
    assert!(
        dataplane.updates.iter().skip(1).all(|(full, _)| !full),
        "differences"
    );

    rig.write("db.yaml", "kind: [broken");
    rig.write("third.yaml", &service("third", "10.96.0.3", &[]));
    dataplane.work_until(|dataplane| cluster_ips(dataplane) == ["10.96.0.2", "10.96.0.3"]);
    assert!(
        program.lines.try_recv().is_err(),
        "one line on stdout, once"
    );
    assert_eq!(program.terminate().code(), Some(0));
}

#[test]
fn either_side_may_come_first_and_die_at_any_time() {
    let rig = Rig::new();
    rig.write("web.yaml", &service("web", "10.96.0.1", &["10.0.0.1"]));
    let program = rig.start();
    eventually("it lives without a data plane", || {
        rig.get("/livez").0 == 200
    });
    assert_eq!(rig.get("/readyz").0, 503);
    let mut dataplane = DataPlane::start(&rig.region());
    dataplane.work_until(|dataplane| !dataplane.updates.is_empty());
    eventually("it is ready after the first commit", || {
        rig.get("/readyz").0 == 200
    });

    drop(dataplane);
    rig.write("db.yaml", &service("db", "10.96.0.2", &["10.0.0.3"]));
    let mut dataplane = DataPlane::start(&rig.region());
    dataplane.work_until(|dataplane| cluster_ips(dataplane).len() == 2);
    assert!(dataplane.updates[0].0, "a new data plane gets everything");

    drop(program);
    let before = dataplane.installed.clone();
    let _program = rig.start();
    let updates = dataplane.updates.len();
    dataplane.work_until(|dataplane| dataplane.updates.len() > updates);
    assert_eq!(
        dataplane.installed, before,
        "a replay of the same world changes nothing"
    );
}

#[test]
fn a_replaced_region_is_noticed() {
    let rig = Rig::new();
    rig.write("web.yaml", &service("web", "10.96.0.1", &["10.0.0.1"]));
    let _program = rig.start();
    let mut dataplane = DataPlane::start(&rig.region());
    dataplane.work_until(|dataplane| !dataplane.updates.is_empty());
    drop(dataplane);
    fs::remove_file(rig.region()).unwrap();
    let mut dataplane = DataPlane::start(&rig.region());
    dataplane.work_until(|dataplane| cluster_ips(dataplane) == ["10.96.0.1"]);
}

#[test]
fn metrics_tell_what_is_wanted_and_what_is_installed() {
    let rig = Rig::new();
    rig.write(
        "web.yaml",
        &service("web", "10.96.0.1", &["10.0.0.1", "10.0.0.300"]),
    );
    let _program = rig.start();
    let mut dataplane = DataPlane::start(&rig.region());
    dataplane.work_until(|dataplane| !dataplane.updates.is_empty());
    eventually("the commit is counted", || {
        rig.get("/metrics")
            .1
            .contains("\nportgate_controlplane_commits_total 1\n")
    });
    let (_, text) = rig.get("/metrics");
    for line in [
        "portgate_controlplane_generation_wanted 1",
        "portgate_controlplane_generation_installed 1",
        "portgate_controlplane_objects{kind=\"Service\"} 1",
        "portgate_controlplane_endpoints 1",
        "portgate_controlplane_skipped_total 1",
        "portgate_controlplane_attached 1",
        "kubeproxy_sync_proxy_rules_service_changes_total 1",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\"} 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\nin {text}");
    }
    for name in [
        "portgate_controlplane_build_info{version=",
        "portgate_controlplane_commit_seconds_count 1",
        "portgate_controlplane_source_age_seconds{kind=\"Node\"}",
        "kubeproxy_network_programming_duration_seconds_count",
    ] {
        assert!(text.contains(name), "{name}\nin {text}");
    }
}

#[test]
fn bad_objects_are_each_reported_once_by_name_and_counted_and_the_rest_is_served() {
    let rig = Rig::new();
    let mut dataplane = DataPlane::start(&rig.region());
    rig.write("good.yaml", &service("good", "10.96.0.9", &["10.0.0.9"]));
    let bad = |turn: usize| {
        format!(
            "# {turn}\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: port, namespace: test}}\n\
             spec: {{clusterIP: 10.96.0.1, ports: [{{port: 70000}}]}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: größe, namespace: test}}\n\
             spec: {{clusterIP: 10.96.0.2, ports: [{{port: 80}}], externalIPs: [nowhere]}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: {}}}\n\
             spec: {{clusterIP: 10.96.0.3}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: lost, namespace: test}}\naddressType: IPv4\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: family, namespace: test, labels: {{kubernetes.io/service-name: good}}}}\n\
             addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: [\"fd00::1\"]}}]\n",
            "n".repeat(300)
        )
    };
    rig.write("bad.yaml", &bad(0));
    let program = rig.start();
    let long = "n".repeat(300);
    dataplane.work_until(|dataplane| cluster_ips(dataplane) == ["10.96.0.2", "10.96.0.9"]);
    // The same again, twice.
    for turn in 1..3 {
        let before = counted(&rig, "portgate_controlplane_skipped_total");
        rig.write("bad.yaml", &bad(turn));
        eventually("the file is read again", || {
            counted(&rig, "portgate_controlplane_skipped_total") == before + 5
        });
    }
    assert_eq!(counted(&rig, "portgate_controlplane_skipped_total"), 15);
    let log = fs::read_to_string(rig.path("log")).unwrap();
    for (name, what) in [
        ("Service test/port:", "70000"),
        ("Service test/größe:", "nowhere"),
        (&*format!("Service default/{long}:"), "bytes"),
        ("EndpointSlice test/lost:", "service-name"),
        ("EndpointSlice test/family:", "addressType"),
    ] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(name)).collect();
        assert!(
            lines.len() == 1 && lines[0].contains(what),
            "{name} {what}: {lines:?} in {log}"
        );
    }
    assert!(program.terminate().success());
}

/// The number that a metric has; 0 while it is not there.
fn counted(rig: &Rig, metric: &str) -> u64 {
    let (_, text) = rig.get("/metrics");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&format!("{metric} ")));
    value.map_or(0, |value| value.parse().unwrap())
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// What a program said at its end, in one line: the steps of its start, which the log tells, come before.
fn sentence(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let said: Vec<_> = text
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    assert_eq!(said.len(), 1, "{text}");
    said[0].to_owned()
}

#[test]
fn wrong_configurations_end_with_2_and_one_sentence() {
    let rig = Rig::new();
    let config = rig.path("portgate.toml");
    let config = config.to_str().unwrap();
    let good = fs::read_to_string(config).unwrap();
    assert_eq!(run(&["--config", config, "--check"]).status.code(), Some(0));

    fs::write(config, format!("{good}\n[surprise]\nx = 1\n")).unwrap();
    let output = run(&["--config", config, "--check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(sentence(&output).contains("surprise"));

    fs::write(config, good).unwrap();
    fs::remove_dir(rig.path("manifests")).unwrap();
    let output = run(&["--allow-root", "--config", config]);
    assert_eq!(output.status.code(), Some(2));
    let sentence = sentence(&output);
    assert!(
        sentence.contains("source.path") && sentence.contains("manifests"),
        "{sentence}"
    );
    assert_eq!(run(&["--surprise"]).status.code(), Some(2));
    assert_eq!(run(&["--config", "/nonexistent"]).status.code(), Some(2));
}

#[test]
fn version_and_help_are_told() {
    for argument in ["--version", "--help"] {
        let output = run(&[argument]);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty());
    }
    assert!(Path::new(PROGRAM).is_absolute());
}
