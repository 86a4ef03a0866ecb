//! Every kept input through its target, in an ordinary build.

use fuzz::kept;
use packet::build::{FrameSpec, Transport};

/// Runs what is kept for a target.
fn run(name: &str) {
    let (_, target) = fuzz::TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let seeds = kept::read(&kept::path("seeds", name)).expect("every target has seeds");
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| target(seed));
    let crashes = kept::path("crashes", name);
    if crashes.exists() {
        let crashes = kept::read(&crashes).expect("hexadecimal lines");
        crashes.iter().for_each(|crash| target(crash));
    }
}

#[test]
fn kept_inputs_of_frame_do_not_fail() {
    run("frame");
}

#[test]
fn kept_inputs_of_pipeline_do_not_fail() {
    run("pipeline");
}

#[test]
fn kept_inputs_of_records_do_not_fail() {
    run("records");
}

#[test]
fn kept_inputs_of_region_do_not_fail() {
    run("region");
}

#[test]
fn kept_inputs_of_manifests_do_not_fail() {
    run("manifests");
}

#[test]
fn kept_inputs_of_settings_do_not_fail() {
    run("settings");
}

/// A fuzzer that begins with nothing takes long to find a checksum. To be run by hand when the targets change:
/// `cargo test -p fuzz --test kept -- --ignored`.
#[test]
#[ignore = "writes the first seeds of all targets"]
fn first_seeds_are_written() {
    let ends = [
        (
            "203.0.113.50:1000",
            "203.0.113.10:30001",
            "203.0.113.10:30002",
        ),
        (
            "[2001:db8:1::50]:1000",
            "[2001:db8:1::10]:30001",
            "[2001:db8:1::10]:30002",
        ),
    ];
    let mut frames = Vec::new();
    for (client, tcp, udp) in ends {
        let (client, tcp, udp) = (
            client.parse().unwrap(),
            tcp.parse().unwrap(),
            udp.parse::<std::net::SocketAddr>().unwrap(),
        );
        let sctp = std::net::SocketAddr::new(udp.ip(), 30_003);
        let mut options = FrameSpec::tcp(client, tcp, 0x10);
        if let Transport::Tcp { options, .. } = &mut options.transport {
            *options = vec![2, 4, 5, 0xb4, 1, 1, 4, 2];
        }
        let mut ip_options = FrameSpec::udp(client, udp);
        ip_options.ip_options = vec![1; 8];
        frames.extend([
            FrameSpec::syn(client, tcp),
            FrameSpec::tcp(client, tcp, 0x18).with_payload(b"GET / HTTP/1.1\r\n"),
            FrameSpec::udp(client, udp).with_payload(b"query"),
            FrameSpec::sctp(client, sctp),
            FrameSpec::echo(client.ip(), udp.ip()).with_payload(b"ping"),
            options,
            ip_options,
            FrameSpec::udp(client, udp).with_vlan(7),
        ]);
    }
    let mut seeds: Vec<Vec<u8>> = frames
        .into_iter()
        .map(|mut spec| {
            spec.destination_mac = packet::ethernet::Mac([2, 0, 0, 0, 0, 1]);
            [vec![8], spec.bytes().unwrap()].concat()
        })
        .collect();
    let arp = [
        &[
            0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 1, 0, 8, 6,
        ][..],
        &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 0, 203, 0, 113, 50],
        &[0, 0, 0, 0, 0, 0, 203, 0, 113, 10],
    ];
    seeds.push(arp.concat());
    kept::write(&kept::path("seeds", "frame"), seeds).unwrap();

    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors");
    let mut manifests: Vec<Vec<u8>> = vec![vec![2], (0..64).collect(), (100..250).collect()];
    for name in ["K-dual-stack", "Q-node-hints", "L-conditions"] {
        let text = std::fs::read(format!("{vectors}/{name}/objects.json")).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let small = serde_json::to_vec(&value).unwrap();
        manifests.push([vec![1], small].concat());
    }
    let yaml = "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec:\n  clusterIP: 10.96.0.1\n  ports: \
                [{port: 80}]\n---\nkind: Node\nmetadata: {name: node-a}\n";
    manifests.push([&[0], yaml.as_bytes()].concat());
    kept::write(&kept::path("seeds", "manifests"), manifests).unwrap();

    let settings = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../hugepages/settings/tests/full.toml"
    );
    let mut texts = vec![std::fs::read(settings).unwrap()];
    for device in [
        "af_packet:eth1",
        "af_xdp:eth1",
        "pci:0000:00:05.0",
        "vdev:net_memif0,role=client",
    ] {
        texts.push([&[0], device.as_bytes()].concat());
    }
    kept::write(&kept::path("seeds", "settings"), texts).unwrap();

    // A Begin, three objects, a Commit.
    let records = vec![
        vec![1, 0x08, 1, 6, 1, 0, 1, 0, 0, 0, 1, 1, 1],
        vec![0; 129],
        vec![
            1, 8, 1, 4, 0, 1, 3, 2, 0, 1, 1, 4, 3, 2, 1, 2, 1, 5, 5, 1, 1,
        ],
    ];
    kept::write(&kept::path("seeds", "records"), records).unwrap();
    let region = vec![
        vec![0],
        vec![1, 0, 0, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        vec![
            0, 0x8a, 0, 0, 4, 1, 2, 3, 4, 0x8b, 0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0,
        ],
        vec![0, 1, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0],
    ];
    kept::write(&kept::path("seeds", "region"), region).unwrap();
    if !kept::path("seeds", "pipeline").exists() {
        let script = vec![vec![0, 0, 0, 2, 8, 3, 1, 0x12, 0, 0, 0, 0x10, 8]];
        kept::write(&kept::path("seeds", "pipeline"), script).unwrap();
    }
}
