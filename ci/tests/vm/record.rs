//! What a run leaves in `ci/records`.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use ci::book::root;
use ci::vm::Machine;

use crate::nodes::Seen;
use crate::plain::Row;

/// A run so far.
pub struct Record {
    started: Instant,
    accelerated: bool,
    /// From the start of each machine to the first login.
    boots: Vec<Duration>,
    cpu: Duration,
    rows: Vec<Row>,
    nodes: Option<Seen>,
}

impl Record {
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            accelerated: false,
            boots: Vec::new(),
            cpu: Duration::ZERO,
            rows: Vec::new(),
            nodes: None,
        }
    }

    pub fn boot(&mut self, machine: &Machine<'_>) {
        self.boots.push(machine.boot);
        self.accelerated = machine.accelerated;
    }

    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn nodes(&mut self, seen: Seen) {
        self.nodes = Some(seen);
    }

    /// Of a machine that has done its work.
    pub fn cpu(&mut self, machine: &Machine<'_>) {
        self.cpu += machine.cpu();
    }

    /// Writes the file, named after day and commit.
    pub fn leave(&self) {
        let commit = say("git", &["rev-parse", "--short=7", "HEAD"]);
        let day = say("date", &["-u", "+%F"]);
        let kind = if self.accelerated {
            "KVM"
        } else {
            "software emulation"
        };
        let mut page = format!(
            "# Gateway in a VM: {day}, commit {commit}\n\n\
             QEMU with {kind}, two CPUs, emulated IOMMU with interrupt remapping, NICs bound to vfio-pci by \
             portgate-hugepages.\n\n"
        );
        if !self.rows.is_empty() {
            page += &self.models();
        }
        if let Some(seen) = &self.nodes {
            page += &several_queues(seen);
        }
        page += &self.times();
        let file = root().join(format!("ci/records/{day}-{commit}-vm.md"));
        fs::write(&file, &page)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        println!("{page}\nrecord: {}", file.display());
    }

    fn models(&self) -> String {
        let mut page = "With the first model everything was done by the commands of docs/install.md, with the others \
             what begins with the configuration. Served and checked with each: NodePort and ClusterIP over HTTP and UDP, \
             IPv4 and IPv6, a change of endpoints, a restart of the data plane under open connections and with an MTU of \
             9,000, packets of that length over UDP and TCP, and the way back; \
             with virtio-net, a pulled cable, too (QEMU tells the drivers of the others nothing about it).\n\n\
             | NIC | driver | first command to first answer (s) | longest pause by a restart (s) | in all (s) | frames | \
             longest packet (bytes) | DMA faults |\n|---|---|---:|---:|---:|---|---:|---:|\n"
            .to_owned();
        let mut before = [0, 0];
        for row in &self.rows {
            let [received, sent] = [0, 1].map(|at| row.frames[at] - before[at]);
            before = row.frames;
            // Writing into a String cannot fail.
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} | {received} in, {sent} out | {} | {} |",
                row.model.name(),
                row.drivers,
                seconds(row.installed),
                seconds(row.restart),
                seconds(row.whole),
                row.longest,
                row.faults
            );
        }
        page
    }

    fn times(&self) -> String {
        let boots: Vec<_> = self.boots.iter().map(|boot| seconds(*boot)).collect();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
        format!(
            "\nBoot to login took {} s, the whole {} s, in which QEMU used {} s of CPU. This machine has {} CPUs; its load \
             was {load} (1, 5, 15 minutes).\n",
            boots.join(" and "),
            seconds(self.started.elapsed()),
            seconds(self.cpu),
            std::thread::available_parallelism().map_or(0, usize::from),
        )
    }
}

fn several_queues(seen: &Seen) -> String {
    let [far, near] = seen.pages;
    let shares = |counts: [u64; 2]| format!("{} and {}", counts[0], counts[1]);
    format!(
        "\n## {}, two NUMA nodes\n\n\
         * The kernel was told that the NICs are on the second node. With its worker there the data plane has {near} huge pages there and {far} on the other; with another \
         worker on the other node it warns of that one.\n\
         * Two workers, two queues of each NIC: of 64 flows from a client they received {} frames (RSS of the NIC), of 64 \
         from a pod {} (spread by the host's tap).\n\
         * A NIC that takes packets of at most 2,000 bytes is refused with `mtu = 9000`.\n\
         * Pulled out of its slot, a NIC was let go after {} s; the other link went on. From \
         its return, by `bind` and a restart, to the first answer took {} s.\n\
         * A bond of two NICs served on {} s after the first of them had lost its cable, was shown as down without both, and \
         served again with the first one's back.\n\
         * DMA faults: {}.\n",
        seen.model.name(),
        shares(seen.outside),
        shares(seen.pods),
        seconds(seen.let_go),
        seconds(seen.back),
        seconds(seen.failover),
        seen.faults
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

fn say(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
