use crate::{FanOut, Limits, Mode, MssClamp, Seccomp, Source, load_str};

fn message(toml: &str) -> String {
    load_str(toml).unwrap_err().to_string()
}

fn link(rest: &str) -> String {
    format!("[[links]]\nname = \"lan\"\ndevice = \"af_packet:eth0\"\n{rest}\n")
}

fn refused(toml: &str, sentence: &str) {
    assert_eq!(message(toml), sentence, "for\n{toml}");
}

#[test]
fn a_gateway_section_alone_is_enough_and_the_rest_has_defaults() {
    let settings = load_str("[gateway]\n").unwrap();
    assert_eq!(
        settings.region.path.to_str(),
        Some("/dev/shm/portgate/region")
    );
    assert_eq!(
        (settings.region.flows, settings.region.flows_v6),
        (1 << 20, 1 << 18)
    );
    assert_eq!(settings.gateway.mode, Mode::Edge);
    assert_eq!(settings.gateway.nodeport_range, (30_000, 32_767));
    assert!(settings.gateway.external_ips && !settings.gateway.masquerade_all);
    assert_eq!(
        (settings.workers.count, settings.workers.cores.len()),
        (1, 0)
    );
    assert_eq!(settings.metrics.listen.to_string(), "127.0.0.1:9102");
    assert_eq!(
        settings.limits,
        Limits {
            half_open_percent: 50,
            half_open_per_service_percent: 25,
            new_flows_per_source: 0,
            new_flows_per_service: 0,
            kernel_frames: 5_000,
            endpoint_counters: 4_096,
        }
    );
    let Source::Manifests { path } = settings.source else {
        panic!("not manifests")
    };
    assert_eq!(path.to_str(), Some("/etc/portgate/manifests"));
}

#[test]
fn a_full_configuration_means_what_it_says() {
    let settings = load_str(include_str!("../tests/full.toml")).unwrap();
    assert_eq!(settings.gateway.mode, Mode::Node);
    assert_eq!(settings.gateway.node_name.as_deref(), Some("worker-1"));
    let addresses: Vec<_> = settings
        .gateway
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["203.0.113.10", "2001:db8:1::10", "10.0.0.1"]);
    assert_eq!(settings.links[0].mac, Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(
        (settings.links[1].vlan, settings.links[1].mtu),
        (Some(100), 9000)
    );
    assert_eq!(
        [settings.links[0].mss_clamp, settings.links[1].mss_clamp],
        [MssClamp::Off, MssClamp::Auto]
    );
    assert_eq!(
        [settings.links[0].fan_out, settings.links[1].fan_out],
        [FanOut::Off, FanOut::Even]
    );
    assert_eq!(settings.routes[1].link.as_deref(), Some("wan"));
    assert_eq!(settings.workers.count, 2);
    assert_eq!(
        settings.limits,
        Limits {
            half_open_percent: 40,
            half_open_per_service_percent: 10,
            new_flows_per_source: 2000,
            new_flows_per_service: 50_000,
            kernel_frames: 5_000,
            endpoint_counters: 4_096,
        }
    );
    assert_eq!(
        settings.source,
        Source::Kubernetes {
            kubeconfig: Some("/root/.kube/config".into())
        }
    );
}

#[test]
fn mss_clamp_rules() {
    let clamp = |text: &str| {
        let toml = link(&format!("mss_clamp = {text}"));
        load_str(&toml).map(|settings| settings.links[0].mss_clamp)
    };
    assert_eq!(clamp("\"off\"").unwrap(), MssClamp::Off);
    assert_eq!(clamp("\"auto\"").unwrap(), MssClamp::Auto);
    assert_eq!(clamp("\"1360\"").unwrap(), MssClamp::Size(1360));
    assert_eq!(clamp("1360").unwrap(), MssClamp::Size(1360));
    refused(
        &link("mss_clamp = \"87\""),
        "`links[0].mss_clamp` is \"87\"; it must be \"off\", \"auto\" or \"88\" to \"8960\" bytes",
    );
}

#[test]
fn fan_out_rules() {
    let fan_out = |text: &str| load_str(&link(text)).map(|settings| settings.links[0].fan_out);
    assert_eq!(fan_out("").unwrap(), FanOut::Off);
    assert_eq!(fan_out("fan_out = \"auto\"").unwrap(), FanOut::Auto);
    assert_eq!(fan_out("fan_out = \"even\"").unwrap(), FanOut::Even);
    assert_eq!(fan_out("fan_out = \"off\"").unwrap(), FanOut::Off);
    refused(
        &link("fan_out = \"on\""),
        "`links[0].fan_out` is \"on\"; it must be \"off\", \"auto\" or \"even\"",
    );
}

#[test]
fn kernel_interface_rules() {
    let with = |text: &str| link(&format!("kernel_interface = {text}"));
    let settings = load_str(&with("\"host0\"")).unwrap();
    assert_eq!(settings.links[0].kernel_interface.as_deref(), Some("host0"));
    refused(
        &with("\"a b\""),
        "`links[0].kernel_interface` is \"a b\"; it must be an interface's name: 1 to 15 letters, digits, '_', '.' or '-'",
    );
    refused(
        &with("\"host0\"\nvlan = 7"),
        "`links[0].kernel_interface` is \"host0\"; it must be left out on a link with a vlan: the kernel's frames get no tag",
    );
    let second = "[[links]]\nname = \"b\"\ndevice = \"af_packet:b\"\nkernel_interface = \"host0\"";
    refused(
        &format!("{}\n{second}", with("\"host0\"")),
        "`links[1].kernel_interface` is \"host0\"; it must be an interface that no other link has",
    );
    refused(
        "[limits]\nkernel_frames = 0",
        "`limits.kernel_frames` is 0; it must be 1 to 1000000",
    );
}

#[test]
fn limits_rules() {
    refused(
        "[limits]\nhalf_open_percent = 0",
        "`limits.half_open_percent` is 0; it must be 1 to 100",
    );
    refused(
        "[limits]\nhalf_open_percent = 20\nhalf_open_per_service_percent = 21",
        "`limits.half_open_per_service_percent` is 21; it must be at most limits.half_open_percent (20)",
    );
    refused(
        "[limits]\nnew_flows_per_source = 8388608",
        "`limits.new_flows_per_source` is 8388608; it must be 0 to 8388607",
    );
    let small = load_str("[limits]\nhalf_open_percent = 20").unwrap();
    assert_eq!(small.limits.half_open_per_service_percent, 20);
}

#[test]
fn region_rules() {
    refused(
        "[region]\npath = \"x\"",
        "`region.path` is \"x\"; it must be the absolute path of a file",
    );
    refused(
        "[region]\nflows = 1023",
        "`region.flows` is 1023; it must be 1024 to 67108864",
    );
    refused(
        "[region]\nflows_v6 = 67108865",
        "`region.flows_v6` is 67108865; it must be 1024 to 67108864",
    );
    refused(
        "[region]\nhuge_pages = \"yes\"",
        "`region.huge_pages` is \"yes\"; it must be \"auto\", \"require\" or \"off\"",
    );
    refused(
        "[region]\npacket_memory_mb = 0",
        "`region.packet_memory_mb` is 0; it must be 16 to 262144",
    );
    refused(
        "[region]\ngroup = \"a group\"",
        "`region.group` is \"a group\"; it must be the name or number of a group",
    );
    assert_eq!(load_str("").unwrap().region.group, None);
    assert_eq!(
        load_str("[region]\nflows = 1024").unwrap().region.flows_v6,
        1024
    );
}

#[test]
fn data_plane_rules() {
    refused(
        "[dataplane]\nseccomp = \"yes\"",
        "`dataplane.seccomp` is \"yes\"; it must be \"on\", \"log\" or \"off\"",
    );
    assert_eq!(load_str("").unwrap().dataplane.seccomp, Seccomp::On);
}

#[test]
fn gateway_rules() {
    refused(
        "[gateway]\nmode = \"both\"",
        "`gateway.mode` is \"both\"; it must be \"edge\" or \"node\"",
    );
    refused(
        "[gateway]\nmode = \"node\"",
        "`gateway.node_name` is missing; gateway.mode = \"node\" needs the name of the Node that the gateway is",
    );
    refused(
        "[gateway]\naddresses = [\"10.0.0.1\", \"10.0.0.01\"]",
        "`gateway.addresses[1]` is \"10.0.0.01\"; it must be an IPv4 or IPv6 address",
    );
    refused(
        "[gateway]\naddresses = [\"10.0.0.1\", \"10.0.0.1\"]",
        "`gateway.addresses[1]` is \"10.0.0.1\"; it must be an address that is not in the list yet",
    );
    refused(
        "[gateway]\nsnat_addresses = [\"224.0.0.1\"]",
        "`gateway.snat_addresses[0]` is \"224.0.0.1\"; it must be a unicast address, not a multicast one",
    );
    refused(
        "[gateway]\ncluster_cidrs = [\"10.1.2.3/16\"]",
        "`gateway.cluster_cidrs[0]` is \"10.1.2.3/16\"; it must have its host bits zero: 10.1.0.0/16",
    );
    refused(
        "[gateway]\nservice_cidrs = [\"10.1.0.0\"]",
        "`gateway.service_cidrs[0]` is \"10.1.0.0\"; it must be an address and a prefix length such as 192.0.2.0/24 or 2001:db8::/64",
    );
    assert!(message("[gateway]\nservice_cidrs = [\"10.1.0.0/33\"]").contains("service_cidrs[0]"));
    assert!(message("[gateway]\nnodeport_addresses = [\"10.0.0.0/08\"]").contains("prefix length"));
    assert!(
        message("[gateway]\nmaglev_seed = -1")
            .contains("`gateway.maglev_seed` is -1; it must be 0 to")
    );
    refused(
        "[gateway]\nbackend_choice = \"rr\"",
        "`gateway.backend_choice` is \"rr\"; it must be \"maglev\", \"random\" or \"least_connections\"",
    );
}

#[test]
fn nodeport_range_is_ordered_and_made_of_ports() {
    for text in ["30000", "30000-", "2-1", "0-10", "1-65536", "+1-5", "a-b"] {
        let toml = format!("[gateway]\nnodeport_range = \"{text}\"");
        assert!(
            message(&toml).contains("`gateway.nodeport_range`"),
            "{text}"
        );
    }
    let settings = load_str("[gateway]\nnodeport_range = \"7-7\"").unwrap();
    assert_eq!(settings.gateway.nodeport_range, (7, 7));
}

#[test]
fn link_rules() {
    refused(
        "[[links]]\ndevice = \"af_xdp:eth0\"",
        "`links[0].name` is missing; each entry of the list needs it",
    );
    assert!(message(&link("device = 1")).contains("TOML"));
    let twice = |name: &str, device: &str| {
        format!(
            "{}[[links]]\nname = {name:?}\ndevice = {device:?}\n",
            link("")
        )
    };
    refused(
        &twice("lan", "af_packet:eth1"),
        "`links[1].name` is \"lan\"; it must be a name that no other link has",
    );
    refused(
        &twice("wan", "af_packet:eth0"),
        "`links[1].device` is \"af_packet:eth0\"; it must be a device that no other link has",
    );
    refused(
        &twice("wa n", "af_packet:eth1"),
        "`links[1].name` is \"wa n\"; it must be 1 to 15 letters, digits, '_', '.' or '-'",
    );
    assert!(
        message(&twice("wan", "eth1"))
            .starts_with("`links[1].device` is \"eth1\"; it must be af_packet:")
    );
    refused(
        &link("vlan = 4095"),
        "`links[0].vlan` is 4095; it must be 1 to 4094",
    );
    refused(
        &link("mtu = 67"),
        "`links[0].mtu` is 67; it must be 68 to 9000",
    );
    refused(
        &link("mtu = 1279\naddresses = [\"2001:db8::1/64\"]"),
        "`links[0].mtu` is 1279; it must be at least 1280 on a link with an IPv6 address",
    );
    for mac in [
        "01:00:00:00:00:01",
        "00:00:00:00:00:00",
        "2:0:0:0:0:1",
        "02:00:00:00:00:01:02",
        "+2:00:00:00:00:01",
    ] {
        assert!(
            message(&link(&format!("mac = \"{mac}\""))).contains("`links[0].mac`"),
            "{mac}"
        );
    }
}

#[test]
fn link_addresses_are_host_addresses() {
    for (text, why) in [
        ("10.0.0.0/24", "the network's own"),
        ("10.0.0.255/24", "the network's broadcast address"),
        ("2001:db8::/64", "the subnet-router anycast address"),
        ("127.0.0.1/8", "a loopback one"),
        ("0.0.0.0/0", "the unspecified one"),
        ("::ffff:10.0.0.1/128", "an IPv4-mapped one"),
    ] {
        let message = message(&link(&format!("addresses = [\"{text}\"]")));
        assert_eq!(
            message,
            format!(
                "`links[0].addresses[0]` is \"{text}\"; it must hold a host address, not {why}"
            )
        );
    }
    for text in [
        "10.0.0.0/31",
        "10.0.0.0/32",
        "2001:db8::/127",
        "fe80::1/64",
        "10.0.1.0/23",
    ] {
        load_str(&link(&format!("addresses = [\"{text}\"]"))).unwrap();
    }
    let second = "[[links]]\nname = \"b\"\ndevice = \"af_xdp:b\"\naddresses = [\"fe80::1/64\"]";
    let both = load_str(&format!("{}{second}", link("addresses = [\"fe80::1/64\"]"))).unwrap();
    assert!(
        both.gateway.addresses.is_empty(),
        "link-local addresses are no gateway addresses"
    );
    let twice = link("addresses = [\"10.0.0.1/24\", \"10.0.0.1/16\"]");
    assert!(message(&twice).contains("`links[0].addresses[1]`"));
}

#[test]
fn route_rules() {
    let route = |rest: &str| {
        format!(
            "{}[[routes]]\n{rest}\n",
            link("addresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]")
        )
    };
    refused(
        &route("to = \"10.1.0.0/16\"\nvia = \"10.0.1.2\"\nlink = \"lan\""),
        "`routes[0].via` is \"10.0.1.2\"; it must lie in a network of the addresses of link \"lan\"",
    );
    refused(
        &route("to = \"10.1.0.0/16\"\nvia = \"10.0.1.2\""),
        "`routes[0].via` is \"10.0.1.2\"; it must lie in a network of some link's addresses",
    );
    refused(
        &route("to = \"10.1.0.0/16\"\nvia = \"10.0.0.2\"\nlink = \"wan\""),
        "`routes[0].link` is \"wan\"; it must be the name of a link (lan)",
    );
    refused(
        &route("to = \"10.1.0.0/16\"\nvia = \"2001:db8::2\""),
        "`routes[0].via` is \"2001:db8::2\"; it must be of the same address family as the destination 10.1.0.0/16",
    );
    refused(
        &route("to = \"10.1.0.0/16\"\nvia = \"10.0.0.1\""),
        "`routes[0].via` is \"10.0.0.1\"; it must be another host's address, not the gateway's own",
    );
    refused(
        &route("to = \"10.1.0.0/8\"\nvia = \"10.0.0.2\""),
        "`routes[0].to` is \"10.1.0.0/8\"; it must have its host bits zero: 10.0.0.0/8",
    );
    refused(
        &route("to = \"10.1.0.0/16\""),
        "`routes[0].via` is missing; a route needs a next hop (via), a link, or both",
    );
    refused(
        &route("via = \"10.0.0.2\""),
        "`routes[0].to` is missing; each entry of the list needs it",
    );
    refused(
        &route(
            "to = \"0.0.0.0/0\"\nvia = \"10.0.0.2\"\n[[routes]]\nto = \"0.0.0.0/0\"\nlink = \"lan\"",
        ),
        "`routes[1].to` is \"0.0.0.0/0\"; it must be a destination that no other route has",
    );
    load_str(&route("to = \"::/0\"\nvia = \"fe80::1\"\nlink = \"lan\"")).unwrap();
    assert!(message(&route("to = \"::/0\"\nvia = \"fe80::1\"")).contains("`routes[0].via`"));
}

#[test]
fn worker_rules() {
    refused(
        "[workers]\ncores = [1, 2, 1]",
        "`workers.cores[2]` is 1; it must be a core that is not in the list yet",
    );
    refused(
        "[workers]\ncores = [-1]",
        "`workers.cores[0]` is -1; it must be 0 to 1023",
    );
    refused(
        "[workers]\ncount = 17",
        "`workers.count` is 17; it must be 1 to 16",
    );
    refused(
        "[workers]\ncores = [1, 2]\ncount = 3",
        "`workers.count` is 3; it must equal the number of workers.cores (2) or be left out",
    );
    assert!(
        message("[workers]\ncores = [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]")
            .contains("at most 16 cores")
    );
    assert_eq!(
        load_str("[workers]\ncores = [3]\ncount = 1")
            .unwrap()
            .workers
            .cores,
        [3]
    );
}

#[test]
fn source_and_metrics_rules() {
    refused(
        "[source]\nkind = \"etcd\"",
        "`source.kind` is \"etcd\"; it must be \"manifests\" or \"kubernetes\"",
    );
    refused(
        "[source]\nkind = \"kubernetes\"\npath = \"/x\"",
        "`source.path` is \"/x\"; it must be left out unless source.kind is \"manifests\"",
    );
    refused(
        "[source]\nkubeconfig = \"/x\"",
        "`source.kubeconfig` is \"/x\"; it must be left out unless source.kind is \"kubernetes\"",
    );
    refused(
        "[metrics]\nlisten = \"9102\"",
        "`metrics.listen` is \"9102\"; it must be ADDRESS:PORT such as 127.0.0.1:9102 or [::1]:9102",
    );
    refused(
        "[metrics]\nmax_series = -1",
        "`metrics.max_series` is -1; it must be 0 to 1000000",
    );
    refused(
        "[dns]\nlisten = [\"127.0.0.1:53\", \"53\"]",
        "`dns.listen[1]` is \"53\"; it must be ADDRESS:PORT such as 192.0.2.10:53 or [2001:db8::10]:53, each once",
    );
    for domain in ["", "a..b", "-a.b", "a_b"] {
        refused(
            &format!("[dns]\ncluster_domain = \"{domain}\""),
            &format!(
                "`dns.cluster_domain` is \"{domain}\"; it must be a domain such as cluster.local, at most 120 \
                 letters, digits, '-' and '.'"
            ),
        );
    }
    refused(
        "[dns]\nttl = 3601",
        "`dns.ttl` is 3601; it must be 0 to 3600",
    );
    assert_eq!(
        load_str("[dns]\ncluster_domain = \"Kube.Example.\"")
            .unwrap()
            .dns
            .cluster_domain,
        "kube.example"
    );
    refused(
        "[log]\nformat = \"xml\"",
        "`log.format` is \"xml\"; it must be \"text\" or \"json\"",
    );
    refused(
        "[log]\nlevel = \"loud\"",
        "`log.level` is \"loud\"; it must be \"info\", \"warn\", \"error\", \"debug\" or \"trace\"",
    );
    refused(
        "[status]\npage = \"public\"",
        "`status.page` is \"public\"; it must be \"local\", \"anywhere\" or \"off\"",
    );
}
