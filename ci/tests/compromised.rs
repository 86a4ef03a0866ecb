//! A control plane that has been taken over by somebody: what it can write, it fills with rubbish.
//!
//! The vandal is this test, started again as an ordinary user in the region's group, so that it can do
//! just what a control plane could. It writes random words, random and mutated records, random
//! positions, updates without an end, whole valid updates that take every service away, and cuts the file
//! short. Meanwhile connections through the gateway must not notice.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ci::crowd::Crowd;
use ci::process::Process;
use ci::random::Random;
use ci::topology::{CLIENT_V4, ECHO_NODE_PORT, OUTSIDE, Plan, Topology};
use hugepages::codec;
use hugepages::layout::Section;
use hugepages::object::{
    Backend, BackendSet, Network, NetworkRole, Object, OnEndpointGone, Prefix, Protocol, Service,
    service_key,
};
use hugepages::{Digest, Message, Record, Region};

const REGION: &str = "COMPROMISED_TEST_REGION";
const SEED: &str = "COMPROMISED_TEST_SEED";
const MILLIS: &str = "COMPROMISED_TEST_MILLIS";

/// Group of the region, and the user that the vandal is; neither has to have a name.
const GROUP: u32 = 4711;
const USER: u32 = 65_534;

/// How long the vandal is at work.
const WORK: Duration = Duration::from_secs(8);

#[test]
fn a_compromised_control_plane_neither_crashes_the_data_plane_nor_disturbs_its_flows() {
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let configuration = with_group(&net);
    let mut gateway = ci::gateway::Gateway::start(&net.gateway, &configuration, net.directory());
    let to = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
    let mut crowd = Crowd::open(&net.client, &CLIENT_V4, to, 40).expect("all open");
    crowd.exchange(0).expect("every line comes back");

    gateway.controlplane.kill9();
    let mut vandal = start_vandal(&net, &net.region_file());
    let mut rounds = 0;
    while vandal.is_running() {
        rounds += 1;
        crowd.exchange(rounds).expect("no flow breaks");
        assert!(gateway.dataplane.is_running(), "the data plane has ended");
    }
    let said = vandal.output();
    assert!(said.contains("vandal done"), "{said}{}", vandal.log());
    assert!(rounds > 10, "{rounds} rounds of traffic prove nothing");

    let counters = gateway.counters();
    for name in ["bad_records", "bad_rings", "updates_refused"] {
        assert!(counters.total(name) > 0, "{name} is 0: {said}");
    }
    let lines = gateway.dataplane.log().lines().count();
    assert!(lines < 200, "the vandal filled the log with {lines} lines");

    // Whoever comes next finds a region in order.
    gateway.restart_controlplane();
    crowd.exchange(rounds + 1).expect("no flow breaks");
    let mut more = Crowd::open(&net.client, &CLIENT_V4, to, 5).expect("new connections are served");
    more.exchange(0).expect("every line comes back");
    // And so does a data plane.
    gateway.dataplane.kill9();
    gateway.restart_dataplane();
    crowd.exchange(rounds + 2).expect("every flow survives");
}

#[test]
fn a_control_plane_without_privileges_serves_and_others_see_nothing() {
    let net = Topology::new(Plan::default());
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let configuration = with_group(&net);
    let mut gateway = ci::gateway::Gateway::start(&net.gateway, &configuration, net.directory());
    gateway.controlplane.kill9();

    open_to_all(net.directory());
    let run_as = |user: u32, group: u32, program: &str| {
        let copy = net.directory().join(program);
        fs::copy(ci::gateway::binary(program), &copy).expect("the program is copied");
        let mut command = net.gateway.command("setpriv");
        command.args(identity(user, group)).arg(copy);
        command.arg("--config").arg(gateway.configuration());
        command
    };
    let command = run_as(USER, GROUP, "portgate-controlplane");
    let mut unprivileged = Process::start("unprivileged", command, net.directory());
    unprivileged.wait_for_line("portgate-controlplane synced", Duration::from_secs(30));
    assert!(
        !unprivileged.log().contains("running as root"),
        "{}",
        unprivileged.log()
    );
    let to = SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
    Crowd::open(&net.client, &CLIENT_V4, to, 5).expect("served");

    // An operator of the group may look; others may not.
    let mut look = run_as(USER - 1, GROUP, "portgate");
    let seen = look.arg("services").output().expect("the command runs");
    assert!(
        seen.status.success(),
        "{}",
        String::from_utf8_lossy(&seen.stderr)
    );
    let mut look = run_as(USER - 1, USER - 1, "portgate");
    let seen = look.arg("services").output().expect("the command runs");
    assert!(!seen.status.success(), "anybody can read the region");
}

/// The configuration with the region given to [`GROUP`].
fn with_group(net: &Topology) -> String {
    let group = format!("[region]\ngroup = \"{GROUP}\"");
    net.configuration().replace("[region]", &group)
}

/// `setpriv`'s arguments for this user with this group alone.
fn identity(user: u32, group: u32) -> [String; 3] {
    [
        format!("--reuid={user}"),
        format!("--regid={group}"),
        "--clear-groups".to_owned(),
    ]
}

fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("permissions are set");
}

fn start_vandal(net: &Topology, region: &Path) -> Process {
    open_to_all(net.directory());
    // The test's own program may lie where an ordinary user cannot reach it.
    let copy = net.directory().join("vandal");
    let own = std::env::current_exe().expect("the test's program");
    fs::copy(own, &copy).expect("the program is copied");
    let mut command = Command::new("setpriv");
    command
        .args(identity(USER, GROUP))
        .arg(copy)
        .args(["vandal", "--exact", "--nocapture"])
        .env(REGION, region)
        .env(SEED, std::env::var(SEED).unwrap_or_else(|_| "1".into()))
        .env(MILLIS, WORK.as_millis().to_string());
    Process::start("vandal", command, net.directory())
}

/// Not a test by itself: what the vandal does.
#[test]
fn vandal() {
    let Ok(path) = std::env::var(REGION) else {
        return;
    };
    let number = |name: &str| -> u64 {
        let text = std::env::var(name).expect("set by the test");
        text.parse().expect("a number")
    };
    let path = Path::new(&path);
    check_rights(path);
    let end = Instant::now() + Duration::from_millis(number(MILLIS));
    let mut random = Random::new(number(SEED));
    let mut done = [0; STEPS.len()];
    while Instant::now() < end {
        // The data plane replaces the file when it was cut short.
        let Some(mut file) = Control::open(path) else {
            continue;
        };
        for _ in 0..100 {
            let step = random.below(STEPS.len() as u64) as usize;
            STEPS[step](&mut file, &mut random);
            done[step] += 1;
        }
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
    }
    println!("vandal done: {done:?}");
    assert!(done.iter().all(|times| *times > 0), "{done:?}");
}

/// Everything but the control file is closed to a member of the group.
fn check_rights(path: &Path) {
    let write = |path: &Path| OpenOptions::new().write(true).open(path);
    let folder = path.parent().expect("a folder");
    assert!(write(path).is_err(), "the data file can be written");
    assert!(
        write(&path.with_extension("lock")).is_err(),
        "the lock can be opened"
    );
    assert!(
        File::create(folder.join("x")).is_err(),
        "the folder can be written"
    );
    assert!(fs::remove_file(path).is_err(), "the region can be removed");
    let control = path.with_extension("control");
    assert!(
        fs::rename(&control, folder.join("y")).is_err(),
        "it can be renamed"
    );
    assert!(write(&control).is_ok(), "a control plane could not work");
}

type Step = fn(&mut Control, &mut Random);

const STEPS: [Step; 9] = [
    random_word,
    random_header_word,
    random_records,
    mutated_update,
    valid_update,
    random_tail,
    random_head,
    endless_update,
    cut_short,
];

/// The control file, written as only its owner should.
struct Control {
    file: File,
    len: u64,
    commands: u64,
    slots: u64,
    replies_reader: u64,
}

impl Control {
    fn open(path: &Path) -> Option<Self> {
        let region = Region::observe(path).ok()?;
        let layout = region.layout();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.with_extension("control"))
            .ok()?;
        Some(Self {
            file,
            len: layout.control_total() as u64,
            commands: layout.offset(Section::Commands) as u64,
            slots: region.geometry().command_records.into(),
            replies_reader: layout.offset(Section::RepliesReader) as u64,
        })
    }

    fn set(&self, offset: u64, word: u64) {
        // In a file cut short this makes a hole, which is as good as any other rubbish.
        let _ = self.file.write_all_at(&word.to_ne_bytes(), offset);
    }

    fn tail(&self) -> u64 {
        let mut bytes = [0; 8];
        let _ = self.file.read_exact_at(&mut bytes, self.commands);
        u64::from_ne_bytes(bytes)
    }

    /// Sends records as a control plane would, whether there is room or not.
    fn send(&self, records: &[Record]) {
        let mut tail = self.tail();
        for record in records {
            let slot = self.commands + 64 + 128 * (tail % self.slots);
            for (at, word) in record.to_words().into_iter().enumerate() {
                self.set(slot + 8 * at as u64, word);
            }
            tail = tail.wrapping_add(1);
        }
        self.set(self.commands, tail);
    }
}

fn random_word(control: &mut Control, random: &mut Random) {
    let used = control.replies_reader + 64;
    control.set(random.below(used / 8) * 8, random.number());
}

fn random_header_word(control: &mut Control, random: &mut Random) {
    let word = random.number() >> random.below(64);
    control.set(random.below(48) * 8, word);
}

fn random_records(control: &mut Control, random: &mut Random) {
    let records: Vec<_> = (0..random.below(20))
        .map(|_| Record::from_words(std::array::from_fn(|_| random.number())))
        .collect();
    control.send(&records);
}

fn mutated_update(control: &mut Control, random: &mut Random) {
    let records = update(random).into_iter().map(|record| {
        let mut words = record.to_words();
        for _ in 0..random.below(3) {
            let at = random.below(words.len() as u64) as usize;
            words[at] ^= 1 << random.below(64);
        }
        Record::from_words(words)
    });
    let records: Vec<_> = records.collect();
    control.send(&records);
}

fn valid_update(control: &mut Control, random: &mut Random) {
    control.send(&update(random));
}

fn random_tail(control: &mut Control, random: &mut Random) {
    let step = random.number() >> random.below(64);
    control.set(control.commands, control.tail().wrapping_add(step));
}

fn random_head(control: &mut Control, random: &mut Random) {
    control.set(control.replies_reader, random.number() >> random.below(64));
}

fn endless_update(control: &mut Control, random: &mut Random) {
    let mut records = Vec::new();
    if random.below(3) == 0 {
        let (boot, generation, full) = (random.number(), random.number(), true);
        codec::encode(
            &Message::Begin {
                boot,
                generation,
                full,
            },
            &mut records,
        );
    }
    for object in objects(random) {
        codec::encode(&Message::Put(object), &mut records);
    }
    control.send(&records);
}

fn cut_short(control: &mut Control, random: &mut Random) {
    // Now and then: each makes the data plane begin anew with another file.
    if random.below(50) == 0 {
        let _ = control.file.set_len(random.below(control.len));
        std::thread::sleep(Duration::from_micros(random.below(1_000)));
        let _ = control.file.set_len(control.len);
    }
}

/// A whole update with the right digest: what a control plane has the right to send, though it takes
/// every service away.
fn update(random: &mut Random) -> Vec<Record> {
    let objects = objects(random);
    let (boot, generation, full) = (random.number(), random.number(), true);
    let digest: Digest = objects.iter().collect();
    let changes = objects.len() as u64;
    let mut records = Vec::new();
    codec::encode(
        &Message::Begin {
            boot,
            generation,
            full,
        },
        &mut records,
    );
    for object in objects {
        codec::encode(&Message::Put(object), &mut records);
    }
    let commit = Message::Commit {
        boot,
        generation,
        changes,
        digest,
    };
    codec::encode(&commit, &mut records);
    records
}

fn objects(random: &mut Random) -> Vec<Object> {
    let mut objects = Vec::new();
    for number in 0..random.below(6) {
        let members = (0..=random.below(40)).map(|member| Backend {
            address: [192, 0, 2, member as u8].into(),
            port: 1 + random.below(60_000) as u16,
        });
        let set = BackendSet::new(members.collect());
        let name = format!("default/rubbish-{number}");
        objects.push(Object::Service(Service {
            key: service_key(&name, "", Protocol::Tcp),
            name,
            port_name: String::new(),
            protocol: Protocol::Tcp,
            serving: set.key,
            on_endpoint_gone: OnEndpointGone::Keep,
        }));
        objects.push(Object::BackendSet(set));
        objects.push(Object::Network(Network {
            role: NetworkRole::Own,
            prefix: Prefix {
                address: [192, 0, 2, 100 + number as u8].into(),
                length: 32,
            },
        }));
    }
    // One of each id: a set that two services share is one object.
    objects.sort_by_key(Object::id);
    objects.dedup_by_key(|object| object.id());
    objects
}
