//! `perf/pktgen/portgate.lua` in a real Pktgen-DPDK, against a gateway on vhost links. Where no `pktgen` is on the PATH
//! it says so and is passed over: Portgate does not bring one. (`perf import-pktgen` is tested on output recorded from
//! such a run, everywhere.)

use std::path::{Path, PathBuf};
use std::process::Command;

use ci::gateway::{Gateway, binary};
use ci::manifests::{Manifests, Protocol, Service, ServicePort};
use ci::netns::{Namespace, require_root};
use serde_json::Value;

/// The gateway's MAC address on the link that pktgen sends to.
const MAC: &str = "02:00:00:00:00:10";

const FLOWS: u64 = 500;

#[test]
fn a_real_pktgen_drives_the_gateway_and_its_counts_become_records() {
    let Some(pktgen) = on_path("pktgen") else {
        eprintln!(
            "skipped: there is no pktgen on the PATH (Pktgen-DPDK 23.03 or 23.06, for DPDK 22.11)"
        );
        return;
    };
    require_root();
    let space = Namespace::new("gateway");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gateway = gateway(&space, directory.path());
    let log = directory.path().join("pktgen.log");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/pktgen");
    let mut command = space.command("timeout");
    command.args(["--kill-after=10", "240"]).arg(pktgen);
    command.args([
        "--lcores",
        "0@0,1@0",
        "--no-huge",
        "-m",
        "8192",
        "--no-pci",
        "--no-shconf",
    ]);
    command.arg(format!("--file-prefix=pktgen-{}", std::process::id()));
    for number in 0..2 {
        let socket = directory.path().join(format!("vhost{number}"));
        let socket = socket.display();
        command.arg(format!(
            "--vdev=net_virtio_user{number},path={socket},queues=1"
        ));
    }
    command
        .args(["--", "-P", "-m", "1.0-1", "-f"])
        .arg(scripts.join("portgate.lua"));
    let settings = [
        ("SCENARIO", "new".to_owned()),
        ("SIZES", "64 512".to_owned()),
        ("RATES", "0.01".to_owned()),
        ("FLOWS", FLOWS.to_string()),
        ("GATEWAY_MAC", MAC.to_owned()),
        ("FOLDER", scripts.display().to_string()),
    ];
    for (name, value) in settings {
        command.env(format!("PORTGATE_{name}"), value);
    }
    command.stdin(std::process::Stdio::null());
    command.stdout(std::fs::File::create(&log).expect("a file for the output"));
    let status = command.status().expect("pktgen runs");
    let said = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    assert!(status.success(), "{status}: {}", said());

    let records = import(&log);
    assert_eq!(records.len(), 2, "{}", said());
    for record in &records {
        assert_eq!(record["frames"]["sent"]["data"], FLOWS, "{record}");
        // At a rate far below what any machine does; what is lost is lost to the machine, and counted.
        let lost = record["frames"]["lost"].as_u64().expect("a count");
        assert!(lost < FLOWS / 2, "{record}");
    }
    let lost: u64 = records
        .iter()
        .filter_map(|record| record["frames"]["lost"].as_u64())
        .sum();
    let counters = gateway.counters();
    let dropped: u64 = counters.drops().iter().map(|(_, count)| count).sum();
    assert_eq!(
        counters.total("hits") + counters.total("flows_created"),
        2 * FLOWS,
        "{}",
        said()
    );
    assert!(
        lost <= dropped,
        "lost {lost}, but the gateway dropped {:?}",
        counters.drops()
    );
}

fn gateway<'a>(space: &'a Namespace, directory: &Path) -> Gateway<'a> {
    let manifests = Manifests::new(directory.join("manifests"));
    let port = ServicePort {
        protocol: Protocol::Udp,
        port: 80,
        target: 8080,
        node_port: Some(30_080),
    };
    let address = |text: &str| text.parse().expect("an address");
    let service = Service::new("perf", &[address("172.16.0.10")], &[port]);
    manifests.apply(&service);
    manifests.endpoints(&service, &[address("100.96.0.2"), address("100.96.0.3")]);
    let folder = directory.display();
    Gateway::start(
        space,
        &format!(
            r#"[region]
path = "{folder}/region"
huge_pages = "off"
flows = 65536
packet_memory_mb = 96
[gateway]
cluster_cidrs = ["100.96.0.0/16"]
[[links]]
name = "outside"
device = "vdev:net_vhost0,iface={folder}/vhost0,queues=1"
mac = "{MAC}"
addresses = ["203.0.113.10/24"]
[[links]]
name = "inside"
device = "vdev:net_vhost1,iface={folder}/vhost1,queues=1"
addresses = ["100.64.0.1/24"]
[[routes]]
to = "0.0.0.0/0"
via = "203.0.113.1"
[[routes]]
to = "100.96.0.0/16"
via = "100.64.0.10"
[workers]
cores = [1]
idle_sleep_us = 50
[source]
kind = "manifests"
path = "{}"
"#,
            manifests.path().display(),
        ),
        directory,
    )
}

fn import(log: &Path) -> Vec<Value> {
    let mut command = Command::new(binary("perf"));
    let output = command
        .arg("import-pktgen")
        .arg(log)
        .output()
        .expect("perf runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let records = text.lines().map(serde_json::from_str);
    records.collect::<Result<_, _>>().expect("records")
}

fn on_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
