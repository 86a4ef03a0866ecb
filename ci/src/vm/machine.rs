//! QEMU, its taps, and the way in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::netns::Namespace;
use crate::process::Process;

/// Environment variable that names the folder of the guest; `ci/run.sh test-vm` sets it.
const IMAGE: &str = "PORTGATE_VM";

/// How long a guest may take to boot in software emulation.
const BOOT: Duration = Duration::from_secs(300);

/// Address of the guest, and of whoever operates it.
const GUEST: &str = "192.0.2.2";
const OPERATOR: &str = "192.0.2.1/24";

/// Memory of the guest in MiB, of which 256 are to be huge pages.
const MEMORY: u32 = 1536;

/// The host's CPU without what some hosts of hosts do not let a guest set.
const KVM_CPU: &str = "host,-arch-capabilities";

/// The guest's files, as `ci/vm/build.sh` makes them.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// The guest that `PORTGATE_VM` names.
    ///
    /// # Panics
    /// If it is not named, saying how to have it made.
    pub fn from_environment() -> Self {
        let folder = std::env::var_os(IMAGE).map(PathBuf::from);
        let folder = folder.unwrap_or_else(|| panic!("{IMAGE} is not set: run `make test-vm`"));
        assert!(
            folder.join("disk.img").is_file(),
            "there is no guest in {}: run `make test-vm`",
            folder.display()
        );
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Model of the two NICs that the gateway is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// virtio-net, modern, behind the IOMMU.
    Virtio,
    /// Intel 82574L.
    E1000e,
    /// VMware's.
    Vmxnet3,
}

impl Model {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// The driver that Linux has for it.
    pub fn kernel_driver(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-pci",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    fn device(self) -> &'static str {
        match self {
            // Without the first the device goes past the IOMMU.
            Self::Virtio => "virtio-net-pci,iommu_platform=on,disable-legacy=on",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }
}

/// A running guest; killed on drop.
#[derive(Debug)]
pub struct Machine<'a> {
    namespace: &'a Namespace,
    qemu: Process,
    console: PathBuf,
    tools: PathBuf,
    /// Whether the CPU is a real one (KVM) or emulated.
    pub accelerated: bool,
    /// From the start of QEMU to the first login.
    pub boot: Duration,
}

impl<'a> Machine<'a> {
    /// Boots the guest in the namespace `gateway` of a topology, with NICs of this model on its devices `outside` and
    /// `pods`; returns when one can log in.
    ///
    /// # Panics
    /// If it does not come up; what it said is in the message.
    pub fn boot(image: &Image, model: Model, namespace: &'a Namespace, directory: &Path) -> Self {
        wire(namespace);
        let accelerated = has_kvm();
        let console = directory.join("console.log");
        let mut command = namespace.command("qemu-system-x86_64");
        command.args(arguments(image, model, accelerated, &console));
        let started = Instant::now();
        let mut machine = Self {
            namespace,
            qemu: Process::start("qemu", command, directory),
            console,
            tools: tools(image, directory),
            accelerated,
            boot: Duration::ZERO,
        };
        machine.wait_for_login(started);
        machine.boot = started.elapsed();
        machine
    }

    /// Runs a script on the guest as root; standard output, or what went wrong.
    ///
    /// # Errors
    /// Exit code and standard error, if the script fails.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        let mut command = self.namespace.command(self.tools.join("ssh"));
        command.args(["gateway", "sh", "-e"]);
        said(&pipe(&mut command, script))
    }

    /// [`try_run`](Self::try_run) of what must not fail.
    ///
    /// # Panics
    /// With the script and what it said.
    pub fn run(&self, script: &str) -> String {
        self.try_run(script)
            .unwrap_or_else(|said| panic!("on the guest:\n{script}\nfailed: {said}"))
    }

    /// Runs a script on the operator's side, in `folder`; there, the guest is known to ssh and scp as `gateway`.
    ///
    /// # Panics
    /// With the script and what it said, if it fails.
    pub fn run_beside(&self, script: &str, folder: &Path) -> String {
        let mut command = self.namespace.command("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.tools.display()));
        command.arg("-e").current_dir(folder);
        said(&pipe(&mut command, script))
            .unwrap_or_else(|said| panic!("beside the guest:\n{script}\nfailed: {said}"))
    }

    /// Puts a file on the guest.
    ///
    /// # Panics
    /// If that fails.
    pub fn put(&self, path: &str, text: &str) {
        // Complete under another name first: a watched folder must not show half a file.
        let script = format!(
            "cat > {path}.new <<'END-OF-FILE'\n{text}\nEND-OF-FILE\nmv {path}.new {path}\n"
        );
        self.run(&script);
    }

    /// What the guest said on its console so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    fn wait_for_login(&mut self, started: Instant) {
        loop {
            let said = match self.try_run("true") {
                Ok(_) => return,
                Err(said) => said,
            };
            let ended = !self.qemu.is_running();
            assert!(
                !ended && started.elapsed() < BOOT,
                "no login to the guest: {said}; QEMU {}: {}; console:\n{}",
                if ended { "ended" } else { "runs" },
                self.qemu.log(),
                tail(&self.console(), 40)
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Keeps what the guest knows about its trouble, and says where.
    fn keep_log(&self) {
        let journal =
            self.try_run("journalctl -b --no-pager; portgate-hugepages status; dmesg | tail -50");
        let journal = journal.unwrap_or_else(|said| format!("no journal: {said}"));
        let name = format!("portgate-vm-{}.log", std::process::id());
        let file = std::env::temp_dir().join(name);
        let text = format!("{}\n--- journal ---\n{journal}\n", self.console());
        match fs::write(&file, text) {
            Ok(()) => eprintln!("--- the guest's log is kept in {} ---", file.display()),
            Err(error) => eprintln!("--- the guest's log cannot be kept: {error} ---"),
        }
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep_log();
        }
        self.qemu.kill9();
    }
}

/// Whether this machine can run a guest on its own CPU. A device file alone does not say so: in a VM without nested
/// virtualisation there may be one behind which a guest never gets beyond its first instructions.
fn has_kvm() -> bool {
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

/// Bridges between the topology's devices and the taps, and a tap for the operator.
fn wire(namespace: &Namespace) {
    for (tap, device) in [("tap0", "outside"), ("tap1", "pods")] {
        let bridge = format!("br-{device}");
        namespace.ip(&format!("tuntap add {tap} mode tap vnet_hdr"));
        namespace.ip(&format!("link add {bridge} type bridge mcast_snooping 0"));
        for port in [tap, device] {
            namespace.ip(&format!("link set {port} master {bridge}"));
            namespace.ip(&format!("link set {port} up"));
        }
        namespace.ip(&format!("link set {bridge} up"));
    }
    namespace.ip("tuntap add tap2 mode tap vnet_hdr");
    namespace.ip(&format!("address add {OPERATOR} dev tap2"));
    namespace.ip("link set tap2 up");
}

fn arguments(image: &Image, model: Model, accelerated: bool, console: &Path) -> Vec<String> {
    let shown = |name: &str| image.file(name).display().to_string();
    let (accel, cpu) = if accelerated {
        ("kvm", KVM_CPU)
    } else {
        ("tcg,thread=multi", "max")
    };
    let fixed = format!(
        "-accel {accel} -cpu {cpu} -smp 2 -m {MEMORY} -nodefaults -no-user-config -display none -no-reboot \
         -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on"
    );
    let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    add("-serial", format!("file:{}", console.display()));
    add("-kernel", shown("kernel"));
    add("-initrd", shown("initrd"));
    // Panics end QEMU. With an emulated CPU the clock would else be one that costs an exit a look.
    let words =
        "root=/dev/vda rw console=ttyS0 panic=-1 intel_iommu=on tsc=reliable mitigations=off";
    add("-append", words.to_owned());
    let disk = format!(
        "if=none,id=disk,format=raw,snapshot=on,file={}",
        shown("disk.img")
    );
    add("-drive", disk);
    add("-device", "virtio-blk-pci,drive=disk".to_owned());
    for (number, address) in [(0, "0x10"), (1, "0x11")] {
        add(
            "-netdev",
            format!("tap,id=n{number},ifname=tap{number},script=no,downscript=no"),
        );
        let mac = format!("52:54:00:00:01:0{number}");
        add(
            "-device",
            format!(
                "{},netdev=n{number},mac={mac},addr={address}",
                model.device()
            ),
        );
    }
    add(
        "-netdev",
        "tap,id=n2,ifname=tap2,script=no,downscript=no".to_owned(),
    );
    add(
        "-device",
        "virtio-net-pci,netdev=n2,mac=52:54:00:00:00:01,addr=0x08".to_owned(),
    );
    add("-device", "virtio-rng-pci".to_owned());
    arguments
}

/// `ssh` and `scp` that know the guest as `gateway`, in a folder for the search path.
fn tools(image: &Image, directory: &Path) -> PathBuf {
    let folder = directory.join("tools");
    // ssh refuses keys that others may read, whatever the cache has become.
    let key = directory.join("key");
    let config = directory.join("ssh_config");
    let text = format!(
        "Host gateway\n HostName {GUEST}\n User root\n IdentityFile {}\n IdentitiesOnly yes\n \
         StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n ConnectTimeout 5\n \
         BatchMode yes\n",
        key.display()
    );
    let write = || -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(&folder)?;
        fs::copy(image.file("key"), &key)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        fs::write(&config, text)?;
        for name in ["ssh", "scp"] {
            let tool = folder.join(name);
            let script = format!(
                "#!/bin/sh\nexec /usr/bin/{name} -F {} \"$@\"\n",
                config.display()
            );
            fs::write(&tool, script)?;
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    };
    write().unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
    folder
}

/// Runs a command with `script` on its standard input.
fn pipe(command: &mut Command, script: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    // Whoever ends before it has read all has said why.
    let _ = child
        .stdin
        .take()
        .map(|mut input| input.write_all(script.as_bytes()));
    child
        .wait_with_output()
        .unwrap_or_else(|error| panic!("cannot wait for {shown}: {error}"))
}

fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    Err(format!(
        "{} {}{}",
        output.status.code().unwrap_or(-1),
        out,
        error.trim()
    ))
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
