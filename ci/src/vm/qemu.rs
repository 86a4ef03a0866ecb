//! How QEMU is started, what its NICs are joined to, and its monitor.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::image::Image;
use super::login::{OPERATOR, pipe};
use super::model::{Board, Model, SPARE_TAP};
use crate::netns::Namespace;

/// Memory of the guest in MiB, of which 256 are to be huge pages.
const MEMORY: u32 = 1536;

/// The host's CPU without what some hosts of hosts do not let a guest set.
const KVM_CPU: &str = "host,-arch-capabilities";

/// Whether this machine can run a guest on its own CPU. A device file alone does not say so: in a VM without nested
/// virtualisation there may be one behind which a guest never gets beyond its first instructions.
pub(super) fn has_kvm() -> bool {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_flag = |flag| cpu.split_whitespace().any(|word| word == flag);
    if !has_flag("vmx") && !has_flag("svm") {
        return false;
    }
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-accel",
        "kvm",
        "-cpu",
        KVM_CPU,
        "-nodefaults",
        "-display",
        "none",
        "-S",
    ]);
    command.args(["-monitor", "stdio"]);
    pipe(&mut command, "quit\n").status.success()
}

/// The two devices of the gateway's namespace, and the bridge in front of each.
const DEVICES: [(&str, &str); 2] = [("outside", "br-outside"), ("pods", "br-pods")];

/// Bridges at the topology's devices, the taps of every model, in no bridge yet, and a tap for the operator.
pub(super) fn wire(namespace: &Namespace, board: Board) {
    for (device, bridge) in DEVICES {
        namespace.ip(&format!("link add {bridge} type bridge mcast_snooping 0"));
        namespace.ip(&format!("link set {device} master {bridge}"));
        namespace.ip(&format!("link set {device} up"));
        namespace.ip(&format!("link set {bridge} up"));
    }
    for model in board.models() {
        let several = if model.queues() > 1 {
            " multi_queue"
        } else {
            ""
        };
        let spare = model.spare().map(|_| SPARE_TAP.to_owned());
        for tap in model.taps().into_iter().chain(spare) {
            namespace.ip(&format!("tuntap add {tap} mode tap vnet_hdr{several}"));
            namespace.ip(&format!("link set {tap} up"));
        }
        if model.spare().is_some() {
            let [(_, bridge), _] = DEVICES;
            namespace.ip(&format!("link set {SPARE_TAP} master {bridge}"));
        }
    }
    namespace.ip("tuntap add operator mode tap vnet_hdr");
    namespace.ip(&format!("address add {OPERATOR} dev operator"));
    namespace.ip("link set operator up");
}

/// Plugs the cables of the topology into the NICs of one model, out of those of any other.
pub(super) fn plug(namespace: &Namespace, board: Board, model: Model) {
    for other in board.models() {
        for (tap, (_, bridge)) in other.taps().iter().zip(DEVICES) {
            let place = if *other == model {
                format!("master {bridge}")
            } else {
                "nomaster".to_owned()
            };
            namespace.ip(&format!("link set {tap} {place}"));
        }
    }
}

/// The command line. The console goes to one file, the monitor is at a socket.
pub(super) fn arguments(
    image: &Image,
    board: Board,
    accelerated: bool,
    console: &Path,
    monitor: &Path,
) -> Vec<String> {
    let shown = |name: &str| image.file(name).display().to_string();
    let (accel, cpu) = if accelerated {
        ("kvm", KVM_CPU)
    } else {
        ("tcg,thread=multi", "max")
    };
    let nodes = match board {
        Board::Plain => String::new(),
        Board::TwoNodes => two_nodes(),
    };
    let fixed = format!(
        "-accel {accel} -cpu {cpu} -smp 2 -m {MEMORY} -nodefaults -no-user-config -display none -no-reboot \
         -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on {nodes}"
    );
    let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    add("-serial", format!("file:{}", console.display()));
    add(
        "-qmp",
        format!("unix:{},server=on,wait=off", monitor.display()),
    );
    add("-kernel", shown("kernel"));
    add("-initrd", shown("initrd"));
    // Panics end QEMU. With an emulated CPU the clock would else be one that costs an exit a look.
    // And the kernel's check that the timer ticks fails on a busy host.
    let words = "root=/dev/vda rw console=ttyS0 panic=-1 intel_iommu=on tsc=reliable no_timer_check mitigations=off";
    add("-append", words.to_owned());
    // What the guest writes is thrown away, so nothing needs to reach a disk.
    let disk = format!(
        "if=none,id=disk,format=raw,snapshot=on,cache=unsafe,file={}",
        shown("disk.img")
    );
    add("-drive", disk);
    add("-device", "virtio-blk-pci,drive=disk".to_owned());
    let tap = |name: &str, queues: usize| {
        let several = if queues > 1 {
            format!(",queues={queues}")
        } else {
            String::new()
        };
        format!("tap,id={name},ifname={name},script=no,downscript=no{several}")
    };
    for model in board.models() {
        for (name, device) in model.taps().iter().zip(model.devices()) {
            add("-netdev", tap(name, model.queues()));
            add("-device", device);
        }
        if let Some(device) = model.spare() {
            add("-netdev", tap(SPARE_TAP, model.queues()));
            add("-device", device);
        }
    }
    add("-netdev", tap("operator", 1));
    add(
        "-device",
        "virtio-net-pci,netdev=operator,mac=52:54:00:00:00:01,addr=0x08".to_owned(),
    );
    add("-device", "virtio-rng-pci".to_owned());
    arguments
}

/// Half of CPUs and memory on each of two NUMA nodes, and three slots out of which devices can be pulled.
fn two_nodes() -> String {
    let half = MEMORY / 2;
    let node = |number: u32| {
        format!(
            "-object memory-backend-ram,id=memory{number},size={half}M \
             -numa node,nodeid={number},cpus={number},memdev=memory{number} "
        )
    };
    let slot = |number: u32| {
        let at = 0x18 + number;
        format!(
            "-device pcie-root-port,id=port{number},addr={at:#x},chassis={number},slot={number} "
        )
    };
    [node(0), node(1), slot(0), slot(1), slot(2)].concat()
}

/// Pulls the cable out of a NIC (the network of this name), or puts it back.
pub(super) fn set_link(monitor: &Path, network: &str, up: bool) -> Result<(), String> {
    let arguments = json!({"name": network, "up": up});
    execute(monitor, "set_link", &arguments)?;
    Ok(())
}

/// Asks the guest to let a NIC go, by its name.
pub(super) fn unplug(monitor: &Path, name: &str) -> Result<(), String> {
    execute(monitor, "device_del", &json!({"id": name}))?;
    Ok(())
}

/// Puts a NIC in, by the words of the command line.
pub(super) fn plug_in(monitor: &Path, device: &str) -> Result<(), String> {
    let line = format!("device_add {device}");
    let arguments = json!({"command-line": line});
    match execute(monitor, "human-monitor-command", &arguments)?.as_str() {
        None | Some("") => Ok(()),
        Some(said) => Err(said.to_owned()),
    }
}

/// Has QEMU do something by its monitor (QMP); what it returns.
fn execute(monitor: &Path, command: &str, arguments: &Value) -> Result<Value, String> {
    let words = |error: std::io::Error| format!("{}: {error}", monitor.display());
    let mut stream = UnixStream::connect(monitor).map_err(words)?;
    let mut answers = BufReader::new(stream.try_clone().map_err(words)?).lines();
    let commands = [
        json!({"execute": "qmp_capabilities"}),
        json!({"execute": command, "arguments": arguments}),
    ];
    let mut returned = Value::Null;
    for command in commands {
        writeln!(stream, "{command}").map_err(words)?;
        // A greeting and events may come between.
        loop {
            let line = answers.next().ok_or("QEMU hung up")?.map_err(words)?;
            let answer: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            if !answer["error"].is_null() {
                return Err(line);
            }
            if !answer["return"].is_null() {
                returned = answer["return"].clone();
                break;
            }
        }
    }
    Ok(returned)
}
