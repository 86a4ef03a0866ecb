//! The programs under test: found, configured, started in a namespace, asked for their counters.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::netns::{Namespace, finish};
use crate::process::Process;

/// How long a program may take to be ready on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// Environment variable that names the folder of the binaries.
const BINARIES: &str = "PORTGATE_BIN";

/// Path of one of the product's binaries: in `$PORTGATE_BIN`, else in the workspace's
/// `target/release`.
///
/// # Panics
/// If it is not there, saying how to build it.
pub fn binary(name: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"));
    let folder = match env::var_os(BINARIES) {
        Some(folder) => PathBuf::from(folder),
        None => workspace.join("target/release"),
    };
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `ci/run.sh build`, or name the folder of the binaries in {BINARIES}",
        path.display()
    );
    path
}

/// What `portgate counters --json` printed.
#[derive(Debug)]
pub struct Counters {
    shown: Value,
}

impl Counters {
    /// A total over all workers.
    ///
    /// # Panics
    /// If there is no such total.
    pub fn total(&self, name: &str) -> u64 {
        number(&self.shown["totals"], name)
    }

    /// Dropped frames by reason, those above zero.
    pub fn drops(&self) -> Vec<(String, u64)> {
        let drops = self.shown["drops"].as_object();
        let drops = drops.unwrap_or_else(|| panic!("no drops in {}", self.shown));
        let counted = drops
            .keys()
            .map(|name| (name.clone(), number(&self.shown["drops"], name)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Frames received by each worker.
    pub fn received_by_worker(&self) -> Vec<u64> {
        self.by_worker("received")
    }

    /// A total of each worker.
    ///
    /// # Panics
    /// If there is no such total.
    pub fn by_worker(&self, name: &str) -> Vec<u64> {
        let workers = self.shown["workers"].as_array();
        let workers = workers.unwrap_or_else(|| panic!("no workers in {}", self.shown));
        workers
            .iter()
            .map(|worker| number(&worker["totals"], name))
            .collect()
    }

    /// What came and is not yet known to have gone, of each worker and then of the main core: 0 at rest, unless frames are lost
    /// or counted twice.
    pub fn balances(&self) -> Vec<i64> {
        let workers = self.shown["workers"].as_array().into_iter().flatten();
        let balance = |block: &Value| {
            let sum = |names: &[&str]| -> u64 {
                let totals = &block["totals"];
                names.iter().map(|name| number(totals, name)).sum()
            };
            let came = sum(&["received", "originated", "taken_over", "unparked"]);
            let drops = block["drops"].as_object().into_iter().flatten();
            let drops: u64 = drops.filter_map(|(_, count)| count.as_u64()).sum();
            came.cast_signed() - (sum(&["sent", "handed_over", "parked"]) + drops).cast_signed()
        };
        workers.chain([&self.shown["main"]]).map(balance).collect()
    }
}

fn number(group: &Value, name: &str) -> u64 {
    group[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no count {name:?} in {group}"))
}

/// A running `portgate trace --json`.
#[derive(Debug)]
pub struct Trace {
    process: Process,
}

impl Trace {
    /// The frames told so far, as JSON; a last object tells how the trace ended.
    ///
    /// # Panics
    /// If a line is no JSON.
    pub fn told(&self) -> Vec<Value> {
        let text = self.process.output();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let read = |line: &str| {
            let value = serde_json::from_str(line);
            value.unwrap_or_else(|error| panic!("portgate trace: {error} in {line}"))
        };
        whole.map(read).collect()
    }

    /// Waits until what was told satisfies `enough`, and returns it.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let told = || Some(self.told()).filter(|told| enough(told));
        let deadline = std::time::Instant::now() + READY;
        loop {
            if let Some(told) = told() {
                return told;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "the trace shows no {what}: {:#?}",
                self.told()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the trace has ended by itself; returns the frames and how it ended.
    ///
    /// # Panics
    /// If it does not end, or fails.
    pub fn end(mut self) -> (Vec<Value>, Value) {
        let status = self.process.wait(READY);
        assert!(status.success(), "{status}: {}", self.process.log());
        let mut told = self.told();
        let end = told.pop().unwrap_or_default();
        assert!(end["ended"].is_string(), "{end}");
        (told, end)
    }
}

/// Both processes of a gateway in one namespace.
#[derive(Debug)]
pub struct Gateway<'a> {
    namespace: &'a Namespace,
    configuration: PathBuf,
    logs: PathBuf,
    /// The data plane.
    pub dataplane: Process,
    /// The control plane.
    pub controlplane: Process,
}

impl<'a> Gateway<'a> {
    /// Starts both processes with `configuration` (TOML) and waits until they say that they serve.
    ///
    /// # Panics
    /// If one of them does not become ready; what it said is in the message.
    pub fn start(namespace: &'a Namespace, configuration: &str, directory: &Path) -> Self {
        let file = directory.join("portgate.toml");
        fs::write(&file, configuration)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        let mut gateway = Self {
            namespace,
            dataplane: launch(namespace, "portgate-dataplane", &file, directory),
            controlplane: launch(namespace, "portgate-controlplane", &file, directory),
            configuration: file,
            logs: directory.to_owned(),
        };
        gateway
            .dataplane
            .wait_for_line("portgate-dataplane ready", READY);
        gateway
            .controlplane
            .wait_for_line("portgate-controlplane synced", READY);
        gateway
    }

    /// Starts a control plane in the place of one that has ended, and waits for nothing.
    pub fn launch_controlplane(&mut self) {
        self.controlplane = self.relaunch("portgate-controlplane");
    }

    /// Starts a control plane in the place of one that has ended; waits until it has synced.
    pub fn restart_controlplane(&mut self) {
        self.launch_controlplane();
        self.controlplane
            .wait_for_line("portgate-controlplane synced", READY);
    }

    /// Starts a data plane that takes over from the one that runs; waits until it serves and the other has
    /// ended. Returns the gap in ms that it printed.
    ///
    /// # Panics
    /// If either does not do as it should.
    pub fn upgrade_dataplane(&mut self) -> f64 {
        let mut new = self.successor(&self.configuration);
        let line = new.wait_for_line("portgate-dataplane took over: gap ", READY);
        new.wait_for_line("portgate-dataplane ready", READY);
        let mut old = std::mem::replace(&mut self.dataplane, new);
        let status = old.wait(READY);
        assert!(
            status.success(),
            "the old data plane ended with {status}: {}",
            old.log()
        );
        let gap = line
            .split_whitespace()
            .rev()
            .nth(1)
            .and_then(|gap| gap.parse().ok());
        gap.unwrap_or_else(|| panic!("no gap in {line:?}"))
    }

    /// Starts a data plane that is to take over, with this configuration, and waits for nothing.
    pub fn successor(&self, configuration: &Path) -> Process {
        let name = "portgate-dataplane";
        let mut command = self.namespace.command(binary(name));
        command.arg("--takeover").arg("--config").arg(configuration);
        Process::start(name, command, &self.new_logs())
    }

    /// Starts another control plane beside the one that runs, with an HTTP port of its own.
    pub fn second_controlplane(&self) -> Process {
        let name = "portgate-controlplane";
        let mut command = self.namespace.command(binary(name));
        command.arg("--config").arg(&self.configuration);
        command.env("PORTGATE__METRICS__LISTEN", "127.0.0.1:9103");
        Process::start(name, command, &self.new_logs())
    }

    /// Starts another control plane beside the one that runs, with a configuration of its own.
    pub fn controlplane_with(&self, configuration: &Path) -> Process {
        launch(
            self.namespace,
            "portgate-controlplane",
            configuration,
            &self.new_logs(),
        )
    }

    /// Starts a data plane in the place of one that has ended; waits until it forwards.
    pub fn restart_dataplane(&mut self) {
        self.dataplane = self.relaunch("portgate-dataplane");
        self.dataplane
            .wait_for_line("portgate-dataplane ready", READY);
    }

    /// Launches a program with logs of its own, so that the lines of its earlier life are not
    /// taken for new ones.
    fn relaunch(&self, name: &str) -> Process {
        launch(self.namespace, name, &self.configuration, &self.new_logs())
    }

    /// A new directory for logs.
    fn new_logs(&self) -> PathBuf {
        let logs = self.logs.join(format!("again-{}", crate::netns::unique()));
        fs::create_dir_all(&logs)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", logs.display()));
        logs
    }

    /// Runs the operator's command with `arguments`.
    pub fn portgate(&self, arguments: &[&str]) -> String {
        finish(&mut self.command(arguments))
    }

    /// Runs the operator's command with `--json` and reads what it prints.
    ///
    /// # Panics
    /// If it fails or prints anything but JSON.
    pub fn portgate_json(&self, arguments: &[&str]) -> Value {
        let text = finish(self.command(arguments).arg("--json"));
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("portgate {arguments:?} --json: {error} in {text}"))
    }

    /// Starts `portgate trace --json` with `arguments`; returns when frames are traced.
    pub fn trace(&self, arguments: &[&str]) -> Trace {
        let mut command = self.command(&["trace", "--json"]);
        command.args(arguments);
        let process = Process::start("portgate-trace", command, &self.new_logs());
        process.wait_for_log(&["portgate: tracing"], READY);
        Trace { process }
    }

    /// What `portgate counters` shows now.
    pub fn counters(&self) -> Counters {
        Counters {
            shown: self.portgate_json(&["counters"]),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(binary("portgate"));
        command
            .args(arguments)
            .arg("--config")
            .arg(&self.configuration);
        command
    }

    /// The configuration file.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }
}

/// Runs one of the product's binaries to its end in `namespace`: for wrong use. One that does not
/// end by itself is stopped, with status 124.
pub fn run(namespace: &Namespace, name: &str, arguments: &[&str]) -> Output {
    let mut command = namespace.command("timeout");
    command
        .args(["--kill-after=5", "15"])
        .arg(binary(name))
        .args(arguments);
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {name}: {error}"))
}

/// [`run`] in no namespace, for a command that opens no device.
pub fn run_here(name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(binary(name)).args(arguments).output();
    output.unwrap_or_else(|error| panic!("cannot run {name}: {error}"))
}

fn launch(namespace: &Namespace, name: &str, configuration: &Path, logs: &Path) -> Process {
    let mut command = namespace.command(binary(name));
    command.arg("--config").arg(configuration);
    Process::start(name, command, logs)
}
