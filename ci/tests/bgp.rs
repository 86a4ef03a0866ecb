//! The host's own programs on a link of the gateway: BIRD speaks BGP through it, while the gateway forwards.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ci::gateway::{Gateway, binary};
use ci::netns::{Namespace, finish};
use ci::process::Process;
use ci::topology::{
    CLIENT_V4, CLUSTER, ECHO_NODE_PORT, HTTP, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url,
};
use ci::{bulk, curl, wait};
use serde_json::Value;

/// The tap that the data plane makes.
const HOST: &str = "host0";

/// How long a session may take to come up.
const UP: Duration = Duration::from_secs(40);

/// Longer than the hold time below: a session of which nothing was heard would be gone.
const LOADED: Duration = Duration::from_secs(12);

/// Bytes of each transfer.
const BULK_BYTES: u64 = 64 << 20;

/// Where a flood comes from, on the clients' own network.
const FLOOD: &str = "203.0.113.128/25";

/// BIRD in a namespace.
struct Bird {
    process: Process,
    socket: PathBuf,
}

impl Bird {
    fn start(namespace: &Namespace, name: &str, configuration: &str, directory: &Path) -> Self {
        let (file, socket) = (
            directory.join(format!("{name}.conf")),
            directory.join(format!("{name}.ctl")),
        );
        fs::write(&file, configuration).expect("the configuration of bird");
        let mut command = namespace.command("/usr/sbin/bird");
        command
            .arg("-f")
            .arg("-c")
            .arg(&file)
            .arg("-s")
            .arg(&socket);
        command.arg("-P").arg(directory.join(format!("{name}.pid")));
        Self {
            process: Process::start(name, command, directory),
            socket,
        }
    }

    fn ask(&self, question: &str) -> String {
        let mut command = Command::new("/usr/sbin/birdc");
        command
            .arg("-s")
            .arg(&self.socket)
            .args(question.split(' '));
        let output = command.output().expect("birdc can be run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn wait_for_session(&mut self) {
        wait::until("the session is established", UP, || {
            assert!(
                self.process.is_running(),
                "bird ended: {}",
                self.process.log()
            );
            let shown = self.ask("show protocols peer");
            shown.contains("Established").then_some(())
        });
    }

    /// How often the session has come up so far.
    fn sessions(&self) -> usize {
        let log = self.process.log();
        log.lines()
            .filter(|line| line.contains("State changed to up"))
            .count()
    }
}

/// The side of the gateway (AS 65000) or of the router outside (AS 65001), and the network that it announces.
fn configuration(own: &str, number: u32, peer: &str, peers: u32, announced: &str) -> String {
    format!(
        "log stderr all;\nrouter id {own};\nprotocol device {{ scan time 1; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol static {{ ipv4; route {announced} blackhole; }}\n\
         protocol bgp peer {{ debug {{ states }}; local {own} as {number}; neighbor {peer} as {peers};\n\
         hold time 9; keepalive time 2; connect retry time 1; connect delay time 1; error wait time 1, 2;\n\
         ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
    )
}

fn routes(namespace: &Namespace) -> String {
    namespace.ip("route show")
}

#[test]
fn bgp_over_the_gateways_own_link_comes_up_stays_up_under_load_and_leads_to_services() {
    let net = Topology::new(Plan::default());
    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let text = net.configuration().replace(
        "device = \"af_packet:outside\"\n",
        &format!("device = \"af_packet:outside\"\nkernel_interface = \"{HOST}\"\n"),
    );
    let mut gateway = Gateway::start(&net.gateway, &text, net.directory());
    net.gateway.add_address(HOST, OUTSIDE[0], 24);
    net.gateway.ip(&format!("link set {HOST} up"));
    // The kernel sees what AF_PACKET sees, and would take what is for its address on the tap (docs/limits.md).
    let rule = "table netdev portgate { chain in { type filter hook ingress device \"outside\" priority -500; \
                policy drop; }; }";
    finish(net.gateway.command("nft").arg(rule));
    // Only what is learned leads to the services.
    net.client.ip("route del default");
    let page = url(CLUSTER[0], HTTP);
    assert!(
        curl::get(&net.client, &page).is_err(),
        "there is a way already"
    );

    let (own, peer) = (OUTSIDE[0].to_string(), CLIENT_V4[0].to_string());
    let inner = configuration(&own, 65_000, &peer, 65_001, "100.68.0.0/16");
    let outer = configuration(&peer, 65_001, &own, 65_000, "198.18.7.0/24");
    let mut inner = Bird::start(&net.gateway, "inner", &inner, net.directory());
    let mut outer = Bird::start(&net.client, "outer", &outer, net.directory());
    inner.wait_for_session();
    outer.wait_for_session();
    wait::until("both have learned", UP, || {
        let (far, near) = (routes(&net.client), routes(&net.gateway));
        (far.contains("100.68.0.0/16 via 203.0.113.10")
            && near.contains("198.18.7.0/24 via 203.0.113.50"))
        .then_some(())
    });
    curl::expect(&net.client, &page, "pod-0\n");

    stays_up_under_load(&net, &mut [&mut inner, &mut outer]);
    stays_up_under_a_flood(&net, &gateway, &mut [&mut inner, &mut outer]);
    let counters = gateway.counters();
    assert!(counters.total("handed_over") > 20, "{counters:?}");

    // Without a data plane the interface has no carrier; its address, and what listens there, stay.
    gateway.dataplane.stop();
    gateway.restart_dataplane();
    inner.wait_for_session();
    wait::until("the route is learned again", UP, || {
        curl::get(&net.client, &page).ok()
    });
    finish(net.gateway.command("ip").args(["link", "del", HOST]));
}

/// Small datagrams for a service, as many as a core can send, for longer than the hold time. What the gateway has no time
/// for is lost before anybody looks at it, BGP's segments among it: TCP sends those again.
fn stays_up_under_a_flood(net: &Topology, gateway: &Gateway<'_>, birds: &mut [&mut Bird]) {
    let before: Vec<_> = birds.iter().map(|bird| bird.sessions()).collect();
    let _echoes = net.start_echo(0);
    let received = || gateway.counters().total("received");
    let already = received();
    let seconds = LOADED.as_secs().to_string();
    let to = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT).to_string();
    let via = OUTSIDE[0].to_string();
    let mut flood = net.client.command(binary("perf"));
    flood.args(["gen", "--polite", "--json", "--device", "af_packet:eth0"]);
    flood.args(["--clients", FLOOD, "--address", FLOOD, "--flows", "100"]);
    flood.args(["--via", &via, "--to", &to, "--seconds", &seconds]);
    let record = finish(&mut flood);
    let record: Value = serde_json::from_str(&record).expect("a record");
    let sent = record["frames"]["sent"]["data"].as_u64().expect("a count");
    let received = received() - already;
    println!("{sent} datagrams in {seconds} s, the gateway received {received} frames");
    assert!(sent > 10_000 && received > 10_000, "no flood: {record}");
    none_was_lost(birds, &before);
}

/// Bulk traffic in both directions, as much as there is room for, for longer than the hold time.
fn stays_up_under_load(net: &Topology, birds: &mut [&mut Bird]) {
    let before: Vec<_> = birds.iter().map(|bird| bird.sessions()).collect();
    let _bulk = bulk::serve(net.pod(1), HTTP);
    net.apply(&[1]);
    let to = SocketAddr::new(OUTSIDE[0], HTTP_NODE_PORT);
    wait::until("the bulk server serves", UP, || {
        bulk::download(&net.client, to, 1000).ok()
    });
    let end = Instant::now() + LOADED;
    let mut rounds = 0;
    while Instant::now() < end {
        bulk::download(&net.client, to, BULK_BYTES).expect("a download");
        bulk::upload(&net.client, to, BULK_BYTES).expect("an upload");
        rounds += 1;
    }
    println!("{rounds} times {BULK_BYTES} bytes each way");
    net.apply(&[0]);
    none_was_lost(birds, &before);
}

/// No session ended and came up again meanwhile.
fn none_was_lost(birds: &mut [&mut Bird], before: &[usize]) {
    for (bird, before) in birds.iter_mut().zip(before) {
        bird.wait_for_session();
        assert_eq!(
            bird.sessions(),
            *before,
            "the session was lost: {}",
            bird.process.log()
        );
    }
}
