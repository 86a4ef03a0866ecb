//! A guest from its boot to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::image::{BOOT, Image};
use super::login::Login;
use super::model::{Board, Model, SPARE_TAP};
use super::qemu;
use crate::netns::Namespace;
use crate::process::Process;

/// A running guest; killed on drop.
#[derive(Debug)]
pub struct Machine<'a> {
    namespace: &'a Namespace,
    board: Board,
    qemu: Process,
    console: PathBuf,
    monitor: PathBuf,
    login: Login,
    /// The connection that all commands use.
    connection: Option<Process>,
    /// Whether the CPU is a real one (KVM) or emulated.
    pub accelerated: bool,
    /// From the start of QEMU to the first login.
    pub boot: Duration,
}

impl<'a> Machine<'a> {
    /// Boots the guest in the namespace `gateway` of a topology, with the NICs of the board, of which none has a
    /// cable in it yet; returns when one can log in.
    ///
    /// # Panics
    /// If it does not come up; what it said is in the message.
    pub fn boot(image: &Image, board: Board, namespace: &'a Namespace, directory: &Path) -> Self {
        qemu::wire(namespace, board);
        let accelerated = qemu::has_kvm();
        let (console, monitor) = (directory.join("console.log"), directory.join("monitor"));
        let mut command = namespace.command("qemu-system-x86_64");
        command.args(qemu::arguments(
            image,
            board,
            accelerated,
            &console,
            &monitor,
        ));
        let started = Instant::now();
        let mut machine = Self {
            namespace,
            board,
            qemu: Process::start("qemu", command, directory),
            console,
            monitor,
            login: Login::new(image, directory),
            connection: None,
            accelerated,
            boot: Duration::ZERO,
        };
        machine.wait_for_login(started);
        machine.boot = started.elapsed();
        machine.connection = Some(machine.login.keep_open(namespace, directory));
        machine
    }

    /// Joins the NICs of this model to the topology's devices `outside` and `pods`, and those of the others to nothing.
    pub fn plug(&self, model: Model) {
        qemu::plug(self.namespace, self.board, model);
    }

    /// Longest packet, in bytes, that passes the cables of a model.
    pub fn set_cables_mtu(&self, model: Model, mtu: u16) {
        for tap in model.taps() {
            self.namespace.ip(&format!("link set {tap} mtu {mtu}"));
        }
    }

    /// Pulls the cable out of the model's NIC to the clients, or puts it back; the switch at its other end sees it, too, and
    /// forgets what was there.
    ///
    /// # Panics
    /// If QEMU does not do it.
    pub fn set_cable(&self, model: Model, up: bool) {
        let [outside, _] = model.taps();
        self.set_cable_of(&outside, up);
    }

    /// The same with the spare NIC.
    ///
    /// # Panics
    /// If QEMU does not do it.
    pub fn set_spare_cable(&self, up: bool) {
        self.set_cable_of(SPARE_TAP, up);
    }

    fn set_cable_of(&self, tap: &str, up: bool) {
        qemu::set_link(&self.monitor, tap, up)
            .unwrap_or_else(|said| panic!("set_link {tap} {up}: {said}"));
        let way = if up { "up" } else { "down" };
        self.namespace.ip(&format!("link set {tap} {way}"));
    }

    /// Takes the NIC to the clients out of its slot, as soon as the guest lets it go.
    ///
    /// # Panics
    /// If QEMU does not take the command.
    pub fn unplug(&self, model: Model) {
        let [outside, _] = model.taps();
        qemu::unplug(&self.monitor, &format!("nic-{outside}"))
            .unwrap_or_else(|said| panic!("device_del {outside}: {said}"));
    }

    /// Puts the NIC to the clients back into its slot.
    ///
    /// # Panics
    /// If QEMU does not do it.
    pub fn plug_in(&self, model: Model) {
        let [outside, _] = model.devices();
        qemu::plug_in(&self.monitor, &outside)
            .unwrap_or_else(|said| panic!("device_add {outside}: {said}"));
    }

    /// Runs a script on the guest as root; standard output, or what went wrong.
    ///
    /// # Errors
    /// Exit code and standard error, if the script fails.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        self.login.run(self.namespace, script)
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
        let done = self.login.run_beside(self.namespace, script, folder);
        done.unwrap_or_else(|said| panic!("beside the guest:\n{script}\nfailed: {said}"))
    }

    /// Puts files on the guest, by path and content.
    ///
    /// # Panics
    /// If that fails.
    pub fn put(&self, files: &[(String, String)]) {
        // Complete under another name first: a watched folder must not show half a file.
        let one = |(path, text): &(String, String)| {
            format!("cat > {path}.new <<'END-OF-FILE'\n{text}\nEND-OF-FILE\nmv {path}.new {path}\n")
        };
        self.run(&files.iter().map(one).collect::<String>());
    }

    /// CPU time that QEMU has used so far: the guest's, and that of emulating its devices.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn cpu(&self) -> Duration {
        let file = format!("/proc/{}/stat", self.qemu.id());
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        // After the name in brackets, utime and stime are fields 14 and 15 of proc(5), in ticks of 10 ms.
        let (_, fields) = text.rsplit_once(')').expect("a name in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
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

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
