//! Shared-memory links (memif) whose peers are other processes, which come and go.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ci::gateway::{Gateway, binary};
use ci::manifests::{Manifests, Protocol, Service, ServicePort};
use ci::netns::{Namespace, require_root};
use ci::perf::{self, number};
use ci::process::Process;
use ci::wait;
use serde_json::Value;

/// How long anything may take on a busy machine.
const LATE: Duration = Duration::from_secs(90);

/// Frames of a run, and in a second of it.
const FRAMES: &str = "500";

#[test]
fn generator_and_sink_in_processes_of_their_own_add_up() {
    let place = Place::new();
    let _gateway = place.gateway("server", "server");
    // Twice, against the same gateway: its links wait for the next peer when one has gone.
    for round in 0..2 {
        let mut sink = place.sink("client", round);
        is_open(&sink);
        let generator = place.generate("client");
        expect_all(&generator, &mut sink);
    }
}

#[test]
#[ignore = "counts on the link that came back were once not seen to grow within 90 s, and it is not known why: run it by hand"]
fn a_link_in_role_client_comes_back_with_its_server_as_often_as_that_goes() {
    let place = Place::new();
    let mut sink = place.sink("server", 0);
    let mut gateway = place.gateway("server", "client");
    is_open(&sink);
    // Goes on all the time, whatever becomes of its frames.
    let mut generator = Process::start(
        "generator",
        place.generator("client", "200000"),
        place.directory.path(),
    );
    let told = |gateway: &Gateway<'_>, word: &str| {
        let line = format!("link inside is {word}: its server");
        let log = gateway.dataplane.log();
        log.lines().filter(|text| text.contains(&line)).count()
    };
    for round in 1..=2 {
        traffic_goes_on(&gateway, sent_inside);
        assert_eq!(told(&gateway, "down"), round - 1);
        sink.kill9();
        wait::until("the gateway tells of the loss", LATE, || {
            (told(&gateway, "down") == round).then_some(())
        });
        assert_eq!(told(&gateway, "up"), round - 1);
        is_shown(&gateway, false);
        // The other link does not stop: what this one cannot send is counted.
        traffic_goes_on(&gateway, refused);
        // A file that a killed server leaves is in the way of the next.
        fs::remove_file(place.socket(Link::Inside)).expect("the killed server's socket");
        // Much longer than the first pause.
        std::thread::sleep(Duration::from_secs(2));
        sink = place.sink("server", round);
        wait::until("the gateway tells of the return", LATE, || {
            (told(&gateway, "up") == round).then_some(())
        });
        is_shown(&gateway, true);
    }
    traffic_goes_on(&gateway, sent_inside);
    assert!(generator.is_running(), "{}", generator.log());
    generator.kill9();
    // One that ends in order, and a run that is counted to the last frame.
    sink.stop();
    wait::until("the gateway tells of the last loss", LATE, || {
        (told(&gateway, "down") == 3).then_some(())
    });
    let mut sink = place.sink("server", 3);
    is_open(&sink);
    let record = place.generate("client");
    expect_all(&record, &mut sink);
    assert!(gateway.dataplane.stop().success());
}

/// One of a gateway's two links.
#[derive(Clone, Copy)]
enum Link {
    Outside,
    Inside,
}

/// Where a gateway between two memif links runs.
struct Place {
    space: Namespace,
    directory: tempfile::TempDir,
    manifests: Manifests,
}

impl Place {
    fn new() -> Self {
        require_root();
        let space = Namespace::new("gateway");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let manifests = Manifests::new(directory.path().join("manifests"));
        let port = ServicePort {
            protocol: Protocol::Udp,
            port: 80,
            target: 8080,
            node_port: Some(30_080),
        };
        let service = Service::new(
            "perf",
            &["172.16.0.10".parse().expect("an address")],
            &[port],
        );
        manifests.apply(&service);
        manifests.endpoints(&service, &["100.64.0.20".parse().expect("an address")]);
        Self {
            space,
            directory,
            manifests,
        }
    }

    /// Where the server of a link listens.
    fn socket(&self, link: Link) -> PathBuf {
        self.directory.path().join(match link {
            Link::Outside => "outside.sock",
            Link::Inside => "inside.sock",
        })
    }

    /// One end of a link.
    fn device(&self, link: Link, role: &str) -> String {
        let (number, socket) = (link as u8, self.socket(link));
        format!(
            "vdev:net_memif{number},role={role},id={number},socket={},socket-abstract=no",
            socket.display()
        )
    }

    fn gateway(&self, outside: &str, inside: &str) -> Gateway<'_> {
        let directory = self.directory.path();
        let configuration = format!(
            r#"[region]
path = "{}/region"
huge_pages = "off"
flows = 65536
packet_memory_mb = 96
[[links]]
name = "outside"
device = "{}"
addresses = ["203.0.113.10/24"]
[[links]]
name = "inside"
device = "{}"
addresses = ["100.64.0.1/24"]
[[routes]]
to = "0.0.0.0/0"
via = "203.0.113.1"
[workers]
count = 1
idle_sleep_us = 50
[source]
kind = "manifests"
path = "{}"
"#,
            directory.display(),
            self.device(Link::Outside, outside),
            self.device(Link::Inside, inside),
            self.manifests.path().display(),
        );
        Gateway::start(&self.space, &configuration, directory)
    }

    /// Starts what receives for the endpoints, in the role on the inner link.
    fn sink(&self, role: &str, round: usize) -> Process {
        let mut sink = Command::new(binary("perf"));
        sink.args(["sink", "--json", "--polite", "--seconds", "60", "--device"])
            .arg(self.device(Link::Inside, role))
            .args(["--address", "100.64.0.0/24"]);
        let logs = self.directory.path().join(format!("sink-{round}"));
        fs::create_dir_all(&logs).expect("a folder for logs");
        let sink = Process::start("sink", sink, &logs);
        let socket = self.socket(Link::Inside);
        wait::until("the inner link's server is there", LATE, || {
            socket.exists().then_some(())
        });
        sink
    }

    /// Sends to the service by the outer link, to the end.
    fn generate(&self, role: &str) -> Value {
        let mut records = perf::records(&self.generator(role, FRAMES));
        records.remove(0)
    }

    /// What sends so many frames.
    fn generator(&self, role: &str, count: &str) -> Command {
        let device = self.device(Link::Outside, role);
        let mut command = Command::new(binary("perf"));
        command.args([
            "gen",
            "--polite",
            "--device",
            &device,
            "--via",
            "203.0.113.10",
            "--address",
            "203.0.113.1",
            "--to",
            "203.0.113.10:30080",
            "--flows",
            "50",
            "--open-rate",
            "500",
            "--rate",
            FRAMES,
            "--seconds",
            "300",
            "--count",
            count,
            "--json",
        ]);
        command
    }
}

/// Waits until a sink has its link up.
fn is_open(sink: &Process) {
    sink.wait_for_log(&["sink:", "is open"], LATE);
}

/// That the sink had everything that the generator sent.
fn expect_all(generator: &Value, sink: &mut Process) {
    let line = sink.wait_for_line("{", LATE);
    let sink: Value = serde_json::from_str(&line).expect("a record");
    let sent = number(&generator["frames"]["sent"], "data");
    assert_eq!(sent.to_string(), FRAMES, "{generator}");
    let received = &sink["frames"]["received"];
    assert_eq!(number(&sink["frames"]["sent"], "data"), sent, "{sink}");
    assert_eq!(number(received, "distinct"), sent, "{sink}");
    assert_eq!(number(&sink["latency"], "count"), sent, "{sink}");
}

/// Waits until the operator's command shows that the inner link is up, or down.
fn is_shown(gateway: &Gateway<'_>, up: bool) {
    wait::until("the link is shown as it is", LATE, || {
        (inside(gateway)["up"] == up).then_some(())
    });
}

/// Waits until so many frames more have been counted as a second has.
fn traffic_goes_on(gateway: &Gateway<'_>, count: impl Fn(&Gateway<'_>) -> u64) {
    let before = count(gateway);
    wait::until("a second's frames more are counted", LATE, || {
        (count(gateway) >= before + 500).then_some(())
    });
}

/// Frames that the inner link's device took.
fn sent_inside(gateway: &Gateway<'_>) -> u64 {
    number(&inside(gateway), "tx_frames")
}

/// Frames that devices did not take.
fn refused(gateway: &Gateway<'_>) -> u64 {
    let drops = gateway.counters().drops();
    let refused = drops.iter().find(|(reason, _)| reason == "tx_full");
    refused.map_or(0, |(_, frames)| *frames)
}

/// What the operator's command shows of the inner link.
fn inside(gateway: &Gateway<'_>) -> Value {
    gateway.portgate_json(&["links"])["links"][Link::Inside as usize].clone()
}
