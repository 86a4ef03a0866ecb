//! The DNS responder, asked by `dig` from outside the cluster.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ci::gateway::{self, Gateway};
use ci::netns::{Offloads, connect};
use ci::topology::{CLUSTER, HTTP, Plan, Topology, url};
use ci::{curl, wait};
use serde_json::{Value, json};

/// Where the responder is: an address of the host on a network of its own, which is no link of the gateway.
const SERVER: &str = "198.18.0.1";

const PATIENCE: Duration = Duration::from_secs(20);

const SETTINGS: &str = "[dns]\nlisten = [\"198.18.0.1:53\"]\nttl = 7\n";

/// A topology whose client also reaches the gateway's host.
fn topology() -> Topology {
    let net = Topology::new(Plan::default());
    connect(
        (&net.client, "manage"),
        (&net.gateway, "manage"),
        Offloads::Kernel,
    );
    net.client.ip("addr add 198.18.0.2/30 dev manage");
    net.gateway.ip(&format!("addr add {SERVER}/30 dev manage"));
    net
}

fn start(net: &Topology) -> Gateway<'_> {
    let text = net.configuration() + SETTINGS;
    Gateway::start(&net.gateway, &text, net.directory())
}

/// What dig prints for these arguments.
fn dig(net: &Topology, arguments: &[&str]) -> String {
    let mut command = net.client.command("dig");
    command
        .arg(format!("@{SERVER}"))
        .args(["+time=20", "+tries=1"])
        .args(arguments);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run dig (Debian's bind9-dnsutils): {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "dig {arguments:?}: {said}");
    said
}

/// The data of the answer, line by line, sorted.
fn short(net: &Topology, arguments: &[&str]) -> Vec<String> {
    let said = dig(net, &[&["+short"], arguments].concat());
    let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The code of the answer, and whether it is from an authority and says how long a denial is good.
fn code(net: &Topology, arguments: &[&str]) -> (String, bool, bool) {
    let said = dig(net, arguments);
    let code = said
        .split("status: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let flags = said
        .split("flags: ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let authority = flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "aa"));
    let code = code
        .unwrap_or_else(|| panic!("no status in {said}"))
        .to_owned();
    (code, authority, said.contains("\tSOA\t"))
}

fn headless(net: &Topology, name: &str, hosts: &[(IpAddr, Option<&str>)]) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]},
    });
    let endpoint = |(address, host): &(IpAddr, Option<&str>)| {
        let mut endpoint = json!({"addresses": [address], "conditions": {"ready": true}});
        if let Some(host) = host {
            endpoint["hostname"] = (*host).into();
        }
        endpoint
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("{name}-x"), "namespace": "default",
            // As the endpoint slice controller marks those of headless Services.
            "labels": {"kubernetes.io/service-name": name, "service.kubernetes.io/headless": ""},
        },
        "endpoints": hosts.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}],
    });
    write(net, &format!("{name}-service"), &service);
    write(net, &format!("{name}-slice"), &slice);
}

fn write(net: &Topology, name: &str, object: &Value) {
    net.manifests
        .write(&format!("{name}.json"), &object.to_string());
}

fn pod(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(100, 96, 2, last))
}

#[test]
fn clients_outside_find_services_by_name_and_reach_them() {
    let net = topology();
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    let balanced = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "balanced", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "clusterIP": "100.68.9.9", "clusterIPs": ["100.68.9.9"],
                 "ports": [{"name": "http", "port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.80"}]}},
    });
    write(&net, "balanced", &balanced);
    let external = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "outside", "namespace": "shop"},
        "spec": {"type": "ExternalName", "externalName": "db.example.com"},
    });
    write(&net, "external", &external);
    headless(&net, "db", &[(pod(2), Some("db-0")), (pod(6), None)]);
    let _gateway = start(&net);

    let web = "mynginx.default.svc.cluster.local";
    for (arguments, expected) in [
        (&[web, "A"][..], &[CLUSTER[0].to_string()][..]),
        (&[web, "AAAA"], &[CLUSTER[1].to_string()]),
        (&[web, "A", "+tcp"], &[CLUSTER[0].to_string()]),
        (
            &[&format!("_tcp-80._tcp.{web}"), "SRV"],
            &[format!("0 100 80 {web}.")],
        ),
        (
            &[&format!("_udp-7._udp.{web}"), "SRV"],
            &[format!("0 100 7 {web}.")],
        ),
        (&["-x", &CLUSTER[0].to_string()], &[format!("{web}.")]),
        (&["-x", &CLUSTER[1].to_string()], &[format!("{web}.")]),
        (
            &["balanced.shop.svc.cluster.local", "A"],
            &["100.68.9.9".to_owned()],
        ),
        (
            &["outside.shop.svc.cluster.local", "A"],
            &["db.example.com.".to_owned()],
        ),
        (
            &["outside.shop.svc.cluster.local", "CNAME"],
            &["db.example.com.".to_owned()],
        ),
        (
            &["db.default.svc.cluster.local", "A"],
            &[pod(2).to_string(), pod(6).to_string()],
        ),
        (
            &["db-0.db.default.svc.cluster.local", "A"],
            &[pod(2).to_string()],
        ),
        (
            &["100-96-2-6.db.default.svc.cluster.local", "A"],
            &[pod(6).to_string()],
        ),
        (
            &["_sql._tcp.db.default.svc.cluster.local", "SRV"],
            &[
                "0 100 5432 100-96-2-6.db.default.svc.cluster.local.".to_owned(),
                "0 100 5432 db-0.db.default.svc.cluster.local.".to_owned(),
            ],
        ),
        (
            &["-x", &pod(2).to_string()],
            &["db-0.db.default.svc.cluster.local.".to_owned()],
        ),
        (
            &["dns-version.cluster.local", "TXT"],
            &["\"1.1.0\"".to_owned()],
        ),
    ] {
        assert_eq!(short(&net, arguments), expected, "{arguments:?}");
    }
    let said = dig(&net, &[web, "A", "+noall", "+answer"]);
    let fields: Vec<_> = said.split_whitespace().collect();
    assert_eq!(fields[1..4], ["7", "IN", "A"], "dns.ttl: {said}");

    // The name leads where it says: to the Service, through the gateway.
    let address: IpAddr = short(&net, &[web, "A"])[0].parse().expect("an address");
    curl::expect(&net.client, &url(address, HTTP), "pod-0\n");
}

#[test]
fn what_is_missing_empty_or_none_of_its_business_has_its_own_code() {
    let net = topology();
    net.apply(&[0]);
    let _gateway = start(&net);
    let web = "mynginx.default.svc.cluster.local";
    for (arguments, expected) in [
        (
            &["nobody.default.svc.cluster.local", "A"][..],
            ("NXDOMAIN", true, true),
        ),
        (
            &["nobody.nowhere.svc.cluster.local", "A"],
            ("NXDOMAIN", true, true),
        ),
        (&[web, "MX"], ("NOERROR", true, true)),
        (&["default.svc.cluster.local", "A"], ("NOERROR", true, true)),
        (&["example.com", "A"], ("REFUSED", false, false)),
        (&["-x", "192.0.2.1"], ("REFUSED", false, false)),
        (&[web, "A", "-c", "CH"], ("REFUSED", false, false)),
        (&[web, "A", "+opcode=update"], ("NOTIMP", false, false)),
        (
            &[web, "A", "+edns=5", "+noednsneg"],
            ("BADVERS", false, false),
        ),
    ] {
        let (code, authority, start) = code(&net, arguments);
        assert_eq!((code.as_str(), authority, start), expected, "{arguments:?}");
    }
    let transfer = dig(&net, &["cluster.local", "AXFR"]);
    assert!(transfer.contains("Transfer failed"), "{transfer}");
    let metrics = curl::get(&net.gateway, "http://127.0.0.1:9102/metrics").expect("metrics");
    for series in [
        "{code=\"NXDOMAIN\"} 2",
        "{code=\"NOERROR\"} 2",
        "{code=\"NOTIMP\"} 1",
    ] {
        let line = format!("portgate_controlplane_dns_answers_total{series}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[test]
fn an_answer_too_large_for_a_datagram_is_fetched_over_tcp() {
    let net = topology();
    let hosts: Vec<_> = (1..=200).map(|last| (pod(last), None)).collect();
    net.apply(&[0]);
    headless(&net, "many", &hosts);
    let _gateway = start(&net);
    let name = "many.default.svc.cluster.local";
    let cut = dig(&net, &[name, "A", "+ignore"]);
    let flags = cut
        .split("flags: ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    assert!(flags.is_some_and(|flags| flags.contains("tc")), "{cut}");
    let size = cut.split("MSG SIZE  rcvd: ").nth(1).expect("a size").trim();
    assert!(size.parse::<u32>().is_ok_and(|size| size <= 1_232), "{cut}");
    assert_eq!(
        short(&net, &[name, "A"]).len(),
        200,
        "dig asks again over TCP"
    );
    let old = dig(&net, &[name, "A", "+noedns", "+ignore"]);
    let size = old.split("MSG SIZE  rcvd: ").nth(1).expect("a size").trim();
    assert!(size.parse::<u32>().is_ok_and(|size| size <= 512), "{old}");
}

#[test]
fn names_follow_the_manifests_and_other_domains_can_be_served() {
    let net = topology();
    net.apply(&[0]);
    let settings =
        SETTINGS.to_owned() + "cluster_domain = \"kube.example\"\nprefer = \"load_balancer\"\n";
    let text = net.configuration() + &settings;
    let _gateway = Gateway::start(&net.gateway, &text, net.directory());
    let name = "late.default.svc.kube.example";
    assert_eq!(code(&net, &[name, "A"]).0, "NXDOMAIN");
    let late = |address: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "late", "namespace": "default"},
            "spec": {"type": "LoadBalancer", "clusterIP": "100.68.9.9", "clusterIPs": ["100.68.9.9"],
                     "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
        })
    };
    for address in ["203.0.113.80", "203.0.113.81"] {
        write(&net, "late", &late(address));
        wait::until("the name leads to the address", PATIENCE, || {
            (short(&net, &[name, "A"]) == [address]).then_some(())
        });
    }
    fs::remove_file(net.manifests.path().join("late.json")).expect("removed");
    wait::until("the name is gone", PATIENCE, || {
        (code(&net, &[name, "A"]).0 == "NXDOMAIN").then_some(())
    });
    assert_eq!(
        code(&net, &["mynginx.default.svc.cluster.local", "A"]).0,
        "REFUSED"
    );
}

#[test]
fn settings_that_cannot_be_are_named() {
    let net = topology();
    net.apply(&[0]);
    let file = net.directory().join("wrong.toml");
    let path = file.to_string_lossy();
    for (wrong, words) in [
        ("listen = [\"53\"]", ["dns.listen[0]", "ADDRESS:PORT"]),
        ("cluster_domain = \"a..b\"", ["dns.cluster_domain", "a..b"]),
        ("ttl = 100000", ["dns.ttl", "100000"]),
        ("prefer = \"pods\"", ["dns.prefer", "load_balancer"]),
    ] {
        fs::write(&file, format!("{}[dns]\n{wrong}\n", net.configuration())).expect("written");
        let arguments = ["--config", &path, "--check"];
        let output = gateway::run(&net.gateway, "portgate-controlplane", &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {said}");
        for word in words {
            assert!(said.contains(word), "{word} in {said}");
        }
    }
    let text = net.configuration() + "[dns]\nlisten = [\"198.18.9.9:53\"]\n";
    fs::write(&file, text).expect("written");
    let output = gateway::run(&net.gateway, "portgate-controlplane", &["--config", &path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("dns.listen[0] is 198.18.9.9:53"), "{said}");
}
