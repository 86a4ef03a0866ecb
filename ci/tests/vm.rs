//! A gateway in a virtual machine that owns its NICs, installed as `docs/install.md` says.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use ci::book::blocks::{Block, Place, blocks};
use ci::book::{root, text};
use ci::topology::{
    CLIENT_V4, CLIENT_V6, CLUSTER, ECHO, ECHO_NODE_PORT, HTTP, HTTP_NODE_PORT, OUTSIDE, Plan,
    Topology, url,
};
use ci::vm::{Image, Machine, Model};
use ci::{curl, dial, wait};
use serde_json::Value;

/// The page that is followed.
const PAGE: &str = "docs/install.md";

/// Where the page begins to take everything away again.
const AWAY: &str = "## Taking it away again";

/// Where the page begins with what depends on the NICs.
const CONFIGURATION: &str = "## The configuration";

/// Environment variable with the models to try, by their names; unset = all.
const MODELS: &str = "PORTGATE_VM_MODELS";

/// How long a change may take to be seen.
const SEEN: Duration = Duration::from_secs(20);

/// Run by `ci/run.sh test-vm`, which makes the package and the guest.
#[test]
#[ignore = "boots a virtual machine: make test-vm"]
fn a_vm_that_owns_its_nics_serves_on_virtio_e1000e_and_vmxnet3() {
    let image = Image::from_environment();
    let wanted = std::env::var(MODELS).unwrap_or_default();
    let models = Model::ALL.into_iter();
    let models: Vec<_> = models
        .filter(|model| wanted.is_empty() || wanted.contains(model.name()))
        .collect();
    assert!(
        !models.is_empty(),
        "{MODELS} is {wanted:?}: no model of that name"
    );
    let net = Topology::new(Plan::default());
    let _servers = [0, 1].map(|index| net.start_nginx(index));
    let _echoes = [0, 1].map(|index| net.start_echo(index));
    let (started, mut rows) = (Instant::now(), Vec::new());
    let machine = Machine::boot(&image, &net.gateway, net.directory());
    println!("login after {:?}", machine.boot);
    for (at, model) in models.iter().enumerate() {
        let (is_first, is_last) = (at == 0, at + 1 == models.len());
        rows.push(serve(&net, &machine, *model, is_first, is_last));
        // Of what was done so far, should the next one fail.
        leave_record(&machine, &rows, started.elapsed());
    }
}

/// What the record has of one model.
struct Row {
    model: Model,
    /// From the first command of the page (of its part on the configuration, but for the first model) to the first answer
    /// through the gateway.
    installed: Duration,
    restart: Duration,
    whole: Duration,
    drivers: String,
    /// Received and sent, in the region since it was made: that of all models so far.
    frames: [u64; 2],
    faults: usize,
}

/// Follows the page, to the letter and in full with the first model, from its part on the configuration on with others; the
/// package is taken away with the last.
fn serve(
    net: &Topology,
    machine: &Machine<'_>,
    model: Model,
    is_first: bool,
    is_last: bool,
) -> Row {
    let started = Instant::now();
    let faults_before = dmar_faults(machine);
    machine.plug(model);
    forget_neighbours(net);

    let page = text(PAGE);
    let (install, away) = page.split_once(AWAY).expect("the page has both parts");
    let part = match install.split_once(CONFIGURATION) {
        Some((_, part)) if !is_first => part,
        _ => install,
    };
    follow(net, machine, model, part);
    let installed = started.elapsed();
    let name = model.name();
    println!("{name}: serves {installed:?} after the first command");

    refuses_the_nic_of_the_operator(machine);
    net.apply(&[0]);
    publish(net, machine);
    serves_http(net, "pod-0\n");
    answers_udp(net, "pod-0");

    net.apply(&[1]);
    publish(net, machine);
    serves_http(net, "pod-1\n");
    answers_udp(net, "pod-1");

    if model.tells_of_the_cable() {
        shows_a_pulled_cable_and_goes_on_with_it_back(net, machine, model);
    }
    let restart = keeps_connections_over_a_restart(net, machine);
    serves_http(net, "pod-1\n");

    let (drivers, frames) = links(machine);
    let faults = dmar_faults(machine) - faults_before;
    if is_last {
        follow(net, machine, model, away);
        leaves_nothing(machine);
    } else {
        let is_kept = |line: &&str| !line.starts_with("apt-get");
        let lines: Vec<_> = away.lines().filter(is_kept).collect();
        follow(net, machine, model, &lines.join("\n"));
        machine.run("rm /etc/portgate/manifests/*");
    }
    gives_the_nics_back(machine, model);
    let whole = started.elapsed();
    println!("{name}: done after {whole:?}");
    Row {
        model,
        installed,
        restart,
        whole,
        drivers,
        frames,
        faults,
    }
}

/// The gateway's NICs are others now, with addresses of their own.
fn forget_neighbours(net: &Topology) {
    for namespace in [&net.client, net.pod(0), net.pod(1)] {
        namespace.ip("neigh flush all");
    }
}

/// Types the commands of a page, each where it belongs, and writes the NICs' addresses into the configuration where the page
/// says so.
fn follow(net: &Topology, machine: &Machine<'_>, model: Model, page: &str) {
    let blocks = commands(page);
    assert!(!blocks.is_empty(), "no commands in {page:?}");
    for block in blocks {
        let started = Instant::now();
        match block.place {
            Place::Gateway => machine.run(&block.text),
            Place::Operator => machine.run_beside(&block.text, &root()),
            Place::Client => {
                let mut shell = net.client.command("sh");
                shell.args(["-e", "-c", &block.text]);
                ci::netns::finish(&mut shell)
            }
        };
        let first = block.text.lines().next().unwrap_or_default();
        println!("{:>8.1?} {first}", started.elapsed());
        if first.starts_with("cp ") {
            write_addresses(machine, model);
        }
    }
}

fn commands(page: &str) -> Vec<Block> {
    let blocks = blocks(page).unwrap_or_else(|why| panic!("{PAGE}, {why}"));
    blocks.into_iter().filter(Block::has_commands).collect()
}

fn write_addresses(machine: &Machine<'_>, model: Model) {
    for (example, own) in Model::ALL[0].addresses().iter().zip(model.addresses()) {
        machine.run(&format!(
            "sed -i 's/pci:{example}/pci:{own}/' /etc/portgate/portgate.toml"
        ));
    }
}

fn refuses_the_nic_of_the_operator(machine: &Machine<'_>) {
    let said = machine.try_run("portgate-hugepages bind 0000:00:08.0");
    let said = said.expect_err("the NIC by which the guest is reached was taken");
    assert!(
        said.starts_with("2 ") && said.contains("default route"),
        "{said}"
    );
}

/// Puts the topology's manifests on the guest.
fn publish(net: &Topology, machine: &Machine<'_>) {
    let entries = fs::read_dir(net.manifests.path()).expect("manifests");
    let files = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_whole = name.ends_with(".json");
        let text = || fs::read_to_string(entry.path()).expect("a manifest");
        is_whole.then(|| (format!("/etc/portgate/manifests/{name}"), text()))
    });
    machine.put(&files.collect::<Vec<_>>());
}

/// NodePort and ClusterIP, both families. The first may take until a change is seen.
fn serves_http(net: &Topology, answer: &str) {
    let first = url(OUTSIDE[0], HTTP_NODE_PORT);
    wait::until(&format!("{first} answers {answer:?}"), SEEN, || {
        curl::get(&net.client, &first)
            .ok()
            .filter(|said| said == answer)
    });
    for (addresses, port) in [(OUTSIDE, HTTP_NODE_PORT), (CLUSTER, HTTP)] {
        for address in addresses {
            curl::expect(&net.client, &url(address, port), answer);
        }
    }
    for address in CLUSTER {
        curl::expect(net.pod(0), &url(address, HTTP), answer);
    }
}

fn answers_udp(net: &Topology, pod: &str) {
    let targets = [
        (CLIENT_V4[0], OUTSIDE[0], ECHO_NODE_PORT),
        (CLIENT_V6[0], OUTSIDE[1], ECHO_NODE_PORT),
        (CLIENT_V4[0], CLUSTER[0], ECHO),
        (CLIENT_V6[0], CLUSTER[1], ECHO),
    ];
    for (from, to, port) in targets {
        let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, port));
        let socket = dial::udp(&net.client, from, to, Duration::from_secs(2)).expect("a socket");
        let answer =
            dial::ask(&socket, b"hello").unwrap_or_else(|error| panic!("UDP to {to}: {error}"));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with(pod) && answer.ends_with("hello"),
            "{to}: {answer:?}"
        );
    }
}

/// `portgate links` says so while the cable to the clients is out, and everything goes on when it is back.
fn shows_a_pulled_cable_and_goes_on_with_it_back(
    net: &Topology,
    machine: &Machine<'_>,
    model: Model,
) {
    for up in [false, true] {
        machine.set_cable(model, up);
        wait::until(&format!("the link outside is up: {up}"), SEEN, || {
            let shown = all_links(machine);
            let outside = shown.iter().find(|link| link["name"] == "outside");
            let outside = outside.unwrap_or_else(|| panic!("no link outside in {shown:?}"));
            (outside["up"] == up).then_some(())
        });
    }
    serves_http(net, "pod-1\n");
}

/// Connections that were open before `systemctl restart` go on after it; how long they stood still.
fn keeps_connections_over_a_restart(net: &Topology, machine: &Machine<'_>) -> Duration {
    net.try_tcp_often();
    let targets = [
        (OUTSIDE[0], ECHO_NODE_PORT),
        (OUTSIDE[1], ECHO_NODE_PORT),
        (CLUSTER[0], ECHO),
    ];
    let mut connections: Vec<_> = targets
        .iter()
        .map(|(to, port)| {
            let to = SocketAddr::new(*to, *port);
            let stream = dial::tcp(&net.client, None, to, Duration::from_secs(30));
            stream.unwrap_or_else(|error| panic!("TCP to {to}: {error}"))
        })
        .collect();
    let mut round = |number: u8| {
        for stream in &mut connections {
            stream.write_all(&[number; 100]).expect("sent");
        }
        for stream in &mut connections {
            let mut answer = [0; 100];
            stream
                .read_exact(&mut answer)
                .expect("an answer on an open connection");
            assert_eq!(answer, [number; 100]);
        }
    };
    round(1);
    let started = Instant::now();
    machine.run("systemctl restart portgate-dataplane");
    round(2);
    started.elapsed()
}

fn json(machine: &Machine<'_>, command: &str) -> Value {
    let text = machine.run(command);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error} in {text}"))
}

fn all_links(machine: &Machine<'_>) -> Vec<Value> {
    let shown = json(machine, "portgate links --json");
    let links = shown.as_array().or(shown["links"].as_array());
    links.unwrap_or_else(|| panic!("no links: {shown}")).clone()
}

/// Drivers of the links, and what passed them.
fn links(machine: &Machine<'_>) -> (String, [u64; 2]) {
    let links = all_links(machine);
    let drivers: Vec<_> = links
        .iter()
        .map(|link| link["driver"].as_str().unwrap_or("?").to_owned())
        .collect();
    assert!(
        drivers
            .iter()
            .all(|driver| !driver.is_empty() && driver != "?"),
        "{links:?}"
    );
    let counters = json(machine, "portgate counters --json");
    let total = |name: &str| counters["totals"][name].as_u64().expect("a total");
    let frames = ["received", "sent"].map(total);
    assert!(frames.iter().all(|count| *count > 100), "{counters}");
    (drivers.join(", "), frames)
}

/// What the IOMMU caught: frames that a NIC wrote where it must not.
fn dmar_faults(machine: &Machine<'_>) -> usize {
    let log = machine.run("dmesg");
    let faults = |line: &&str| line.contains("DMAR") && line.contains("fault");
    log.lines().filter(faults).count()
}

fn gives_the_nics_back(machine: &Machine<'_>, model: Model) {
    for address in model.addresses() {
        let driver = machine.run(&format!(
            "basename $(readlink /sys/bus/pci/devices/{address}/driver)"
        ));
        assert_eq!(driver.trim(), model.kernel_driver(), "{address}");
    }
}

fn leaves_nothing(machine: &Machine<'_>) {
    let left = machine.run(
        "cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages; \
         ls -d /etc/portgate /run/portgate /dev/shm/portgate /usr/bin/portgate* 2>/dev/null || true; \
         getent passwd portgate || true; getent group portgate || true",
    );
    assert_eq!(left, "0\n", "something was left behind");
}

fn leave_record(machine: &Machine<'_>, rows: &[Row], whole: Duration) {
    let say = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let commit = say("git", &["rev-parse", "--short=7", "HEAD"]);
    let day = say("date", &["-u", "+%F"]);
    let kind = if machine.accelerated {
        "KVM"
    } else {
        "software emulation"
    };
    let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
    let mut page = format!(
        "# Gateway in a VM: {day}, commit {commit}\n\n\
         QEMU with {kind}, two CPUs, emulated IOMMU with interrupt remapping, NICs bound to vfio-pci by \
         portgate-hugepages. With the first model everything was done by the commands of docs/install.md, with the others \
         what begins with the configuration. Served and checked with each: NodePort and ClusterIP over HTTP and UDP, \
         IPv4 and IPv6, a change of endpoints, a restart of the data plane under open connections, and the way back; \
         with virtio-net, a pulled cable, too (QEMU tells the drivers of the others nothing about it).\n\n\
         | NIC | driver | first command to first answer (s) | longest pause by a restart (s) | in all (s) | frames | \
         DMA faults |\n|---|---|---:|---:|---:|---|---:|\n"
    );
    let mut before = [0, 0];
    for row in rows {
        let [received, sent] = [0, 1].map(|at| row.frames[at] - before[at]);
        before = row.frames;
        // Writing into a String cannot fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {received} in, {sent} out | {} |",
            row.model.name(),
            row.drivers,
            seconds(row.installed),
            seconds(row.restart),
            seconds(row.whole),
            row.faults
        );
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        page,
        "\nBoot to login took {} s, the whole {} s, in which QEMU used {} s of CPU. This machine has {} CPUs; its load \
         was {load} (1, 5, 15 minutes).",
        seconds(machine.boot),
        seconds(whole),
        seconds(machine.cpu()),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    let file = root().join(format!("ci/records/{day}-{commit}-vm.md"));
    fs::write(&file, &page)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    println!("{page}\nrecord: {}", file.display());
}

/// The page is checked in the ordinary run, too: its addresses are those of the topology.
#[test]
fn the_page_on_installation_has_commands_for_every_place_and_the_addresses_of_the_test() {
    let page = text(PAGE);
    let (install, away) = page.split_once(AWAY).expect("the page has both parts");
    let places: Vec<_> = commands(install).iter().map(|block| block.place).collect();
    for place in [Place::Operator, Place::Gateway, Place::Client] {
        assert!(places.contains(&place), "no commands for {place:?}");
    }
    assert!(!commands(away).is_empty());
    let example =
        fs::read_to_string(root().join("ci/package/examples/edge.toml")).expect("the example");
    for address in OUTSIDE.iter().map(IpAddr::to_string) {
        assert!(
            example.contains(&format!("\"{address}/")),
            "{address} is not in edge.toml"
        );
    }
}
