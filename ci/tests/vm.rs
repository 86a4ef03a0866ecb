//! A gateway in a virtual machine that owns its NICs, installed as `docs/install.md` says.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ci::topology::{
    CLIENT_V4, CLIENT_V6, CLUSTER, ECHO, ECHO_NODE_PORT, HTTP, HTTP_NODE_PORT, OUTSIDE, Plan,
    Topology, url,
};
use ci::vm::{Image, Machine, Model, Place, blocks};
use ci::{curl, dial, wait};
use serde_json::Value;

/// Where the page begins to take everything away again.
const AWAY: &str = "## Taking it away again";

/// Environment variable with the models to try, by their names; unset = all.
const MODELS: &str = "PORTGATE_VM_MODELS";

/// How long a change may take to be seen.
const SEEN: Duration = Duration::from_secs(20);

/// Run by `ci/run.sh test-vm`, which makes the package and the guest.
#[test]
#[ignore = "boots a virtual machine for each model of NIC: make test-vm"]
fn a_vm_that_owns_its_nics_serves_on_virtio_e1000e_and_vmxnet3() {
    let image = Image::from_environment();
    let wanted = std::env::var(MODELS).unwrap_or_default();
    let models = [Model::Virtio, Model::E1000e, Model::Vmxnet3].into_iter();
    let models = models.filter(|model| wanted.is_empty() || wanted.contains(model.name()));
    let (started, mut rows) = (Instant::now(), Vec::new());
    for model in models {
        rows.push(serve(&image, model));
        // Of what was done so far, should the next one fail.
        leave_record(&rows, started.elapsed());
    }
    assert!(
        !rows.is_empty(),
        "{MODELS} is {wanted:?}: no model of that name"
    );
}

/// What the record has of one guest.
struct Row {
    model: Model,
    accelerated: bool,
    boot: Duration,
    /// From the first command of the page to the first answer through the gateway.
    installed: Duration,
    restart: Duration,
    drivers: String,
    packets: String,
    faults: usize,
}

fn serve(image: &Image, model: Model) -> Row {
    let net = Topology::new(Plan::default());
    let _servers = [0, 1].map(|index| net.start_nginx(index));
    let _echoes = [0, 1].map(|index| net.start_echo(index));
    let machine = Machine::boot(image, model, &net.gateway, net.directory());
    println!("{}: login after {:?}", model.name(), machine.boot);

    let started = Instant::now();
    let page = fs::read_to_string(root().join("docs/install.md")).expect("docs/install.md");
    let (install, away) = page.split_once(AWAY).expect("the page has both parts");
    follow(&net, &machine, install);
    let installed = started.elapsed();
    println!(
        "{}: serves {installed:?} after the first command",
        model.name()
    );

    refuses_the_nic_of_the_operator(&machine);
    net.apply(&[0]);
    publish(&net, &machine);
    serves_http(&net, "pod-0\n");
    answers_udp(&net, "pod-0");

    net.apply(&[1]);
    publish(&net, &machine);
    serves_http(&net, "pod-1\n");
    answers_udp(&net, "pod-1");

    let restart = keeps_connections_over_a_restart(&net, &machine);
    serves_http(&net, "pod-1\n");

    let (drivers, packets) = links(&machine);
    let faults = dmar_faults(&machine);
    follow(&net, &machine, away);
    gives_the_nics_back(&machine, model);
    Row {
        model,
        accelerated: machine.accelerated,
        boot: machine.boot,
        installed,
        restart,
        drivers,
        packets,
        faults,
    }
}

/// Types the commands of a page, each where it belongs.
fn follow(net: &Topology, machine: &Machine<'_>, page: &str) {
    let blocks = blocks(page);
    assert!(!blocks.is_empty(), "no commands in {page:?}");
    for block in blocks {
        match block.place {
            Place::Gateway => machine.run(&block.script),
            Place::Operator => machine.run_beside(&block.script, &root()),
            Place::Client => {
                let mut shell = net.client.command("sh");
                shell.args(["-e", "-c", &block.script]);
                ci::netns::finish(&mut shell)
            }
        };
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
    for entry in fs::read_dir(net.manifests.path())
        .expect("manifests")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            let text = fs::read_to_string(entry.path()).expect("a manifest");
            machine.put(&format!("/etc/portgate/manifests/{name}"), &text);
        }
    }
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

fn links(machine: &Machine<'_>) -> (String, String) {
    let json = |command: &str| -> Value {
        let text = machine.run(command);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error} in {text}"))
    };
    let links = json("portgate links --json");
    let links = links
        .as_array()
        .or(links["links"].as_array())
        .expect("links")
        .clone();
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
    let counters = json("portgate counters --json");
    let total = |name: &str| counters["totals"][name].as_u64().expect("a total");
    let (received, sent) = (total("received"), total("sent"));
    assert!(received > 100 && sent > 100, "{counters}");
    (drivers.join(", "), format!("{received} in, {sent} out"))
}

/// What the IOMMU caught: frames that a NIC wrote where it must not.
fn dmar_faults(machine: &Machine<'_>) -> usize {
    let log = machine.run("dmesg");
    let faults = |line: &&str| line.contains("DMAR") && line.contains("fault");
    log.lines().filter(faults).count()
}

fn gives_the_nics_back(machine: &Machine<'_>, model: Model) {
    for address in ["0000:00:10.0", "0000:00:11.0"] {
        let driver = machine.run(&format!(
            "basename $(readlink /sys/bus/pci/devices/{address}/driver)"
        ));
        assert_eq!(driver.trim(), model.kernel_driver(), "{address}");
    }
    let left = machine.run(
        "cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages; \
         ls -d /etc/portgate /run/portgate /dev/shm/portgate /usr/bin/portgate* 2>/dev/null || true; \
         getent passwd portgate || true; getent group portgate || true",
    );
    assert_eq!(left, "0\n", "something was left behind");
}

fn leave_record(rows: &[Row], whole: Duration) {
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
    let kind = if rows.iter().all(|row| row.accelerated) {
        "KVM"
    } else {
        "software emulation"
    };
    let mut page = format!(
        "# Gateway in a VM: {day}, commit {commit}\n\n\
         QEMU with {kind}, two CPUs, emulated IOMMU with interrupt remapping, NICs bound to vfio-pci by \
         portgate-hugepages. Everything was installed by the commands of docs/install.md. Served and checked with \
         each model: NodePort and ClusterIP over HTTP and UDP, IPv4 and IPv6, a change of endpoints, a restart of \
         the data plane under open connections, and the way back.\n\n\
         | NIC | driver | boot to login (s) | first command to first answer (s) | longest pause by a restart (s) | \
         frames | DMA faults |\n|---|---|---:|---:|---:|---|---:|\n"
    );
    for row in rows {
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        // Writing into a String cannot fail.
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.model.name(),
            row.drivers,
            seconds(row.boot),
            seconds(row.installed),
            seconds(row.restart),
            row.packets,
            row.faults
        );
    }
    let _ = writeln!(page, "\nThe whole took {:.0} s.", whole.as_secs_f64());
    let file = root().join(format!("ci/records/{day}-{commit}-vm.md"));
    fs::write(&file, &page)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    println!("{page}\nrecord: {}", file.display());
}

fn root() -> std::path::PathBuf {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR"));
    ci.parent().expect("a workspace").to_owned()
}

/// The page is checked in the ordinary run, too: its addresses are those of the topology.
#[test]
fn the_page_on_installation_has_commands_for_every_place_and_the_addresses_of_the_test() {
    let page = fs::read_to_string(root().join("docs/install.md")).expect("docs/install.md");
    let (install, away) = page.split_once(AWAY).expect("the page has both parts");
    let places: Vec<_> = blocks(install).iter().map(|block| block.place).collect();
    for place in [Place::Operator, Place::Gateway, Place::Client] {
        assert!(places.contains(&place), "no commands for {place:?}");
    }
    assert!(!blocks(away).is_empty());
    let example =
        fs::read_to_string(root().join("ci/package/examples/edge.toml")).expect("the example");
    for address in OUTSIDE.iter().map(IpAddr::to_string) {
        assert!(
            example.contains(&format!("\"{address}/")),
            "{address} is not in edge.toml"
        );
    }
}
