//! The Debian package in a clean Debian 12: installed, at work on veth pairs, restarted and upgraded under load, purged;
//! the same in the container image; and the example configurations that come with it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ci::browse::Browsers;
use ci::gateway::run_here;
use ci::netns::{Namespace, finish};
use ci::process::Process;
use ci::topology::{CLIENT_V4, HTTP_NODE_PORT, OUTSIDE, Plan, Topology, url};
use ci::{curl, wait};

/// How long a program may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// Connections that are under way while things happen.
const CONNECTIONS: usize = 50;

#[test]
fn every_example_is_a_right_configuration_for_every_program() {
    let folder = root().join("ci/package/examples");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("examples").flatten() {
        let file = entry.path().display().to_string();
        for (program, arguments) in [
            ("portgate-dataplane", vec!["--check"]),
            ("portgate-controlplane", vec!["--check"]),
            ("portgate-hugepages", vec!["status"]),
        ] {
            // The group exists where the package is installed.
            let text = fs::read_to_string(&file).expect("an example");
            let draft = tempfile::NamedTempFile::new().expect("a file");
            fs::write(draft.path(), text.replace("\"portgate\"", "\"root\"")).expect("written");
            let path = draft.path().display().to_string();
            let all = [vec!["--config", &path], arguments].concat();
            let output = run_here(program, &all);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} on {file}: {said}");
        }
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples");
}

/// Run by `ci/run.sh test-package`, which makes the package and the clean Debian.
#[test]
#[ignore = "installs packages into a tree of its own, from the network: make test-package"]
fn the_package_installs_serves_restarts_upgrades_and_purges_without_a_trace() {
    let net = Topology::new(Plan::default());
    let tree = Tree::unpack(&net);
    tree.run("apt-get -qq update");
    let before = tree.inventory();

    tree.install(&named("PORTGATE_PACKAGE"));
    assert_eq!(
        tree.run("getent group portgate | cut -d: -f1"),
        "portgate\n"
    );
    tree.run("test -f /lib/systemd/system/portgate-dataplane.service");
    tree.run("portgate version && portgate-hugepages status");
    tree.configure(&net.configuration());

    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let mut gateway = Installed::start(&tree, &net.gateway);
    let page = url(OUTSIDE[0], HTTP_NODE_PORT);
    wait::until("the gateway serves", READY, || {
        curl::get(&net.client, &page).ok()
    });
    curl::expect(&net.client, &page, "pod-0\n");

    under_load(&net, |note| {
        note("restart of the data plane");
        gateway.restart_dataplane();
        note("restart of the control plane");
        gateway.restart_controlplane();
        note("upgrade");
        tree.install(&newer(&named("PORTGATE_PACKAGE"), net.directory()));
        gateway.restart_dataplane();
        gateway.restart_controlplane();
        note("end");
    });
    assert_eq!(
        tree.run("dpkg-query -Wf '${Version}' portgate").trim(),
        "99.0-1"
    );
    curl::expect(&net.client, &page, "pod-0\n");
    drop(gateway);

    tree.run("apt-get -qq -y purge portgate && apt-get -qq -y autoremove --purge");
    let left: Vec<_> = tree.inventory().difference(&before).cloned().collect();
    assert_eq!(left, Vec::<String>::new(), "left behind by the package");
}

/// Run by `ci/run.sh test-image`, which builds the image.
#[test]
#[ignore = "builds a container image, from the network: ci/run.sh test-image"]
fn the_image_holds_all_programs_and_serves() {
    let net = Topology::new(Plan::default());
    let tree = Tree::of(named("PORTGATE_IMAGE"), &net);
    for program in ["portgate-dataplane", "portgate-controlplane"] {
        tree.run(&format!("{program} --version"));
    }
    tree.run("portgate version && portgate-hugepages status");
    tree.configure(&net.configuration());

    let _server = net.start_nginx(0);
    net.apply(&[0]);
    let gateway = Installed::start(&tree, &net.gateway);
    for address in OUTSIDE {
        let page = url(address, HTTP_NODE_PORT);
        wait::until("the gateway serves", READY, || {
            curl::get(&net.client, &page).ok()
        });
        curl::expect(&net.client, &page, "pod-0\n");
    }
    drop(gateway);
}

/// Runs `course` while connections ask and are answered all the time; none may be lost.
fn under_load(net: &Topology, course: impl FnOnce(&dyn Fn(&str))) {
    let to = SocketAddr::new(OUTSIDE[0], HTTP_NODE_PORT);
    net.try_tcp_often();
    let mut browsers =
        Browsers::open(&net.client, &CLIENT_V4[..1], to, CONNECTIONS).expect("connections");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let rounds = scope.spawn(|| {
            let mut number = 0;
            // Relaxed: the flag stands alone.
            while !stop.load(Ordering::Relaxed) {
                browsers.round(number)?;
                number += 1;
            }
            Ok::<_, String>(number)
        });
        course(&|what| println!("under load: {what}"));
        stop.store(true, Ordering::Relaxed);
        let rounds = rounds.join().expect("the load ends in order");
        let rounds = rounds.unwrap_or_else(|lost| panic!("lost under load: {lost}"));
        assert!(rounds > 5, "only {rounds} rounds");
        println!("{CONNECTIONS} connections, {rounds} rounds, none lost");
    });
}

/// A Debian in a folder.
struct Tree {
    root: PathBuf,
    /// Folder that stands for /dev/shm in it.
    memory: PathBuf,
    manifests: PathBuf,
}

impl Tree {
    fn unpack(net: &Topology) -> Self {
        let root = net.directory().join("debian");
        fs::create_dir(&root).expect("a folder");
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(&root)
            .arg("-xf")
            .arg(named("PORTGATE_DEBIAN"));
        finish(tar.arg("--exclude=./dev/*"));
        fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")).expect("resolv.conf");
        Self::of(root, net)
    }

    /// The tree in this folder.
    fn of(root: PathBuf, net: &Topology) -> Self {
        fs::create_dir_all(root.join("srv/manifests")).expect("a folder");
        let memory = net.region_file().parent().expect("a folder").to_owned();
        Self {
            root,
            memory,
            manifests: net.manifests.path().to_owned(),
        }
    }

    /// Runs a script in the tree, with the network of this machine.
    fn run(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        self.enter(&mut command, script);
        finish(&mut command)
    }

    /// Lets `command`, a shell, go into the tree and become what `script` ends with. What it mounts goes with it.
    fn enter(&self, command: &mut Command, script: &str) {
        let root = self.root.display();
        let way = format!(
            "mount -t proc proc {root}/proc && mount -t sysfs -o ro sysfs {root}/sys && \
             mount --rbind /dev {root}/dev && mount --bind {} {root}/dev/shm && \
             mount --bind {} {root}/srv/manifests && \
             exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
             chroot {root} sh -e -c '{}'",
            self.memory.display(),
            self.manifests.display(),
            script.replace('\'', "'\\''")
        );
        command.args(["-c", "exec unshare -m sh -c \"$0\"", &way]);
    }

    fn install(&self, package: &Path) {
        fs::copy(package, self.root.join("portgate.deb")).expect("the package");
        self.run("apt-get -qq -y --no-install-recommends install /portgate.deb >/dev/null && rm /portgate.deb");
    }

    /// Writes the topology's configuration as it is in here.
    fn configure(&self, configuration: &str) {
        let lines = configuration
            .lines()
            .map(|line| match line.split_once(" = ") {
                Some(("path", path)) if path.contains("manifests") => {
                    "path = \"/srv/manifests\"".to_owned()
                }
                Some(("path", _)) => {
                    "path = \"/dev/shm/portgate/region\"\ngroup = \"portgate\"".to_owned()
                }
                _ => line.to_owned(),
            });
        let text = lines.collect::<Vec<_>>().join("\n");
        fs::write(self.root.join("etc/portgate/portgate.toml"), text).expect("the configuration");
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.manifests, readable).expect("manifests can be read");
    }

    /// Everything that a package could leave: files, users, groups.
    fn inventory(&self) -> BTreeSet<String> {
        let files = self.run(
            "find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/dev/*' -not -path '/var/cache/*' \
             -not -path '/var/log/*' -not -path '/var/lib/apt/*' -not -path '/var/lib/dpkg/*' -not -path '/tmp/*' \
             -not -name '*-' -not -path '/etc/ld.so.cache' -not -path '/srv/*'; \
             find /dev/shm -mindepth 1; cut -d: -f1 /etc/passwd /etc/group; \
             dpkg-query -Wf '${Package}\\n'; ls /var/lib/dpkg/info | grep portgate || true",
        );
        files.lines().map(str::to_owned).collect()
    }
}

/// Both processes, run from the tree as their units run them.
struct Installed<'a> {
    tree: &'a Tree,
    namespace: &'a Namespace,
    dataplane: Process,
    controlplane: Process,
    logs: tempfile::TempDir,
}

impl<'a> Installed<'a> {
    fn start(tree: &'a Tree, namespace: &'a Namespace) -> Self {
        let logs = tempfile::tempdir().expect("a folder");
        Self {
            tree,
            namespace,
            dataplane: dataplane(tree, namespace, logs.path()),
            controlplane: controlplane(tree, namespace, logs.path()),
            logs,
        }
    }

    /// As `systemctl restart`.
    fn restart_dataplane(&mut self) {
        let status = self.dataplane.stop();
        assert!(status.success(), "the data plane ended with {status}");
        self.dataplane = dataplane(self.tree, self.namespace, &self.new_logs());
    }

    fn restart_controlplane(&mut self) {
        self.controlplane.stop();
        self.controlplane = controlplane(self.tree, self.namespace, &self.new_logs());
    }

    fn new_logs(&self) -> PathBuf {
        let folder = self.logs.path().join(ci::netns::unique().to_string());
        fs::create_dir(&folder).expect("a folder");
        folder
    }
}

fn dataplane(tree: &Tree, namespace: &Namespace, logs: &Path) -> Process {
    let exec = unit_exec(tree, "portgate-dataplane");
    let mut process = launch(
        tree,
        namespace,
        "portgate-dataplane",
        &format!("exec {exec}"),
        logs,
    );
    process.wait_for_line("portgate-dataplane ready", READY);
    process
}

fn controlplane(tree: &Tree, namespace: &Namespace, logs: &Path) -> Process {
    let exec = unit_exec(tree, "portgate-controlplane");
    let script = format!("exec setpriv --reuid=portgate --regid=portgate --clear-groups {exec}");
    let mut process = launch(tree, namespace, "portgate-controlplane", &script, logs);
    process.wait_for_line("portgate-controlplane synced", READY);
    process
}

fn launch(tree: &Tree, namespace: &Namespace, name: &str, script: &str, logs: &Path) -> Process {
    let mut command = namespace.command("sh");
    tree.enter(&mut command, script);
    Process::start(name, command, logs)
}

/// What the unit runs.
fn unit_exec(tree: &Tree, unit: &str) -> String {
    let file = tree.root.join(format!("lib/systemd/system/{unit}.service"));
    let text =
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    line.expect("a unit runs something").to_owned()
}

/// The same package with a higher version.
fn newer(package: &Path, folder: &Path) -> PathBuf {
    let (open, file) = (folder.join("newer"), folder.join("newer.deb"));
    let mut unpack = Command::new("dpkg-deb");
    finish(unpack.arg("-R").arg(package).arg(&open));
    let control = open.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("control");
    let lines = text.lines().map(|line| match line.starts_with("Version:") {
        true => "Version: 99.0-1",
        false => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    fs::write(&control, text).expect("control");
    let mut pack = Command::new("dpkg-deb");
    finish(
        pack.args(["--root-owner-group", "-Znone", "-b"])
            .arg(&open)
            .arg(&file),
    );
    file
}

fn named(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable).map(PathBuf::from);
    value.unwrap_or_else(|| {
        panic!("{variable} is not set: run `ci/run.sh test-package`, or test-image")
    })
}

fn root() -> PathBuf {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR"));
    ci.parent().expect("a workspace").to_owned()
}
