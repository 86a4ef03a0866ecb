use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use tempfile::TempDir;

use super::*;
use crate::JournalError;
use crate::layout::LINK_LINES;
use crate::message::{Message, Reason, Reply};
use crate::object::{Network, NetworkRole, Object, Prefix};
use crate::{Digest, codec};

fn geometry() -> Geometry {
    Geometry::new(2, 2, 1024, 1024)
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portgate/region");
    (folder, path)
}

fn create(path: &Path) -> Region {
    Region::create(path, &geometry()).unwrap().0
}

fn network(last: u8) -> Object {
    Object::Network(Network {
        role: NetworkRole::Own,
        prefix: Prefix {
            address: [10, 0, 0, last].into(),
            length: 32,
        },
    })
}

#[test]
fn the_three_roles_share_one_memory() {
    let (_folder, path) = folder();
    let (data, origin) = Region::create(&path, &geometry()).unwrap();
    assert_eq!(origin, Origin::Fresh);
    let control = Region::attach(&path).unwrap();
    let observer = Region::observe(&path).unwrap();

    let message = Message::Put(network(1));
    let mut records = Vec::new();
    codec::encode(&message, &mut records);
    let waiting = || observer.ring_fill().unwrap().map(|ring| ring.waiting);
    assert_eq!(control.commands_producer().unwrap().push_all(&records), 1);
    assert_eq!(waiting(), [1, 0]);
    let record = data.commands_consumer().unwrap().pop().unwrap().unwrap();
    assert_eq!(codec::Assembler::new().push(&record), Ok(Some(message)));

    assert_eq!(waiting(), [0, 0], "the record was taken");
    let reply = Reply::Replay {
        reason: Reason::Started,
    };
    data.replies_producer()
        .unwrap()
        .push_all(&[codec::encode_reply(&reply)]);
    let record = control.replies_consumer().unwrap().pop().unwrap().unwrap();
    assert_eq!(codec::decode_reply(&record), Ok(reply));

    data.flow_entries(Family::V6)[5].0[3].store(7, Ordering::Relaxed);
    data.worker_counters(1)[63].0[7].store(8, Ordering::Relaxed);
    assert_eq!(
        observer.flow_entries(Family::V6)[5].0[3].load(Ordering::Relaxed),
        7
    );
    assert_eq!(
        observer.worker_counters(1)[63].0[7].load(Ordering::Relaxed),
        8
    );
    assert_eq!(observer.seeds(), data.seeds());

    assert_eq!(observer.data_plane().boot, data.boot());
    assert_eq!(observer.control_plane().pid, std::process::id());
    let state = State {
        generation: 3,
        digest: Digest::from_words([1, 2]),
    };
    control.report(state);
    assert_eq!(observer.wanted(), Some(state));
    assert_eq!(observer.installed(), Some(State::default()));
}

#[test]
fn the_group_may_write_the_control_file_alone_and_others_may_nothing() {
    let (_folder, path) = folder();
    let control = file::control_path(&path);
    let folder = path.parent().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let check = || {
        assert_eq!(mode(&path), 0o640);
        assert_eq!(mode(&control), 0o660);
        assert_eq!(mode(folder), 0o750);
        assert_eq!(mode(&path.with_extension("lock")), 0o600);
    };
    drop(create(&path));
    check();
    let names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !names.iter().any(|name| name.ends_with(".new")),
        "{names:?}"
    );
    // A region that is taken over is put right.
    for path in [&path, &control] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    assert_eq!(
        Region::create(&path, &geometry()).unwrap().1,
        Origin::TakenOver
    );
    check();
}

#[test]
fn files_and_folder_are_given_to_the_group_that_is_asked_for() {
    const GROUP: u32 = 4321;
    if !rustix::process::geteuid().is_root() {
        return; // only root may give files to any group
    }
    let (_folder, path) = folder();
    drop(create(&path));
    let (_region, origin) = Region::create_for(&path, &geometry(), Some(GROUP)).unwrap();
    assert_eq!(origin, Origin::TakenOver);
    let control = file::control_path(&path);
    for path in [&path, &control, path.parent().unwrap()] {
        assert_eq!(
            fs::metadata(path).unwrap().gid(),
            GROUP,
            "{}",
            path.display()
        );
    }
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return; // only root may give files away
    }
    let (_folder, path) = folder();
    drop(create(&path));
    for foreign in [path.as_path(), path.parent().unwrap()] {
        std::os::unix::fs::chown(foreign, Some(4321), None).unwrap();
        let error = Region::create(&path, &geometry()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("belongs to user 4321") && said.contains(&*foreign.to_string_lossy()),
            "{said}"
        );
        std::os::unix::fs::chown(foreign, Some(0), None).unwrap();
    }
    // A control file of somebody else's is not refused but replaced: it holds nothing of value.
    let control = file::control_path(&path);
    std::os::unix::fs::chown(&control, Some(4321), None).unwrap();
    drop(create(&path));
    assert_eq!(fs::metadata(&control).unwrap().uid(), 0);
}

#[test]
fn a_control_file_cut_short_is_noticed_survived_and_made_anew() {
    let (_folder, path) = folder();
    let data = create(&path);
    let old = Region::attach(&path).unwrap();
    let message = Message::Put(network(1));
    let mut records = Vec::new();
    codec::encode(&message, &mut records);
    old.commands_producer().unwrap().push_all(&records);
    let mut commands = data.commands_consumer().unwrap();

    let control = fs::OpenOptions::new()
        .write(true)
        .open(file::control_path(&path))
        .unwrap();
    assert!(!data.control_is_lost());
    control.set_len(0).unwrap();
    assert_eq!(commands.pop(), Ok(None), "the tail reads as zero");
    assert!(data.control_is_lost());
    assert!(data.wanted().is_some_and(|state| state.generation == 0));
    assert!(old.renew_control().is_err(), "it is the data plane's");

    data.renew_control().unwrap();
    assert!(!data.control_is_lost() && data.is_current() && !old.is_current());
    let new = Region::attach(&path).unwrap();
    let mut commands = data.commands_consumer().unwrap();
    commands.clear();
    assert_eq!(new.commands_producer().unwrap().push_all(&records), 1);
    assert!(commands.pop().unwrap().is_some());
}

#[test]
fn a_control_file_with_another_head_or_too_short_is_noticed() {
    let (_folder, path) = folder();
    let data = create(&path);
    let control = file::control_path(&path);
    let open = || fs::OpenOptions::new().write(true).open(&control).unwrap();
    let changes: [fn(&fs::File); 3] = [
        |file| file.write_all_at(&[1], 0).unwrap(),
        |file| file.write_all_at(&[1; 8], 16).unwrap(),
        |file| file.set_len(1 << 20).unwrap(),
    ];
    for change in changes {
        change(&open());
        assert!(data.control_is_lost() && Region::attach(&path).is_err());
        Region::observe(&path).unwrap();
        data.renew_control().unwrap();
        assert!(!data.control_is_lost());
        Region::attach(&path).unwrap();
    }
}

#[test]
fn a_strange_control_file_gives_way_to_a_new_one_and_a_sound_one_stays() {
    let (_folder, path) = folder();
    drop(create(&path));
    let control = file::control_path(&path);
    let inode = || fs::metadata(&control).unwrap().ino();
    let before = inode();
    drop(create(&path));
    assert_eq!(inode(), before);

    let changes: [fn(&Path); 4] = [
        |path| fs::write(path, "Dear diary").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            // All of the identity: one byte of a random number may be what is written.
            file.write_all_at(&[1; 8], 16).unwrap();
        },
        |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        },
    ];
    for change in changes {
        change(&control);
        assert!(Region::attach(&path).is_err());
        let (region, origin) = Region::create(&path, &geometry()).unwrap();
        assert_eq!(origin, Origin::TakenOver, "the data file is whole");
        assert!(region.is_current());
        Region::attach(&path).unwrap();
    }
}

#[test]
fn each_plane_runs_once() {
    let (_folder, path) = folder();
    let data = create(&path);
    let control = Region::attach(&path).unwrap();
    let own = std::process::id();
    let again = Region::create(&path, &geometry()).unwrap_err();
    assert!(
        matches!(again, RegionError::InUse { role: Role::DataPlane, pid: Some(pid), .. } if pid == own),
        "{again}"
    );
    let again = Region::attach(&path).unwrap_err();
    assert_eq!(
        again.to_string(),
        format!(
            "the region {} is in use by another control plane (process {own})",
            path.display()
        )
    );
    // A slab outlives the region and keeps its lock: its holder still writes there.
    let slab = data.affinity();
    drop(data);
    assert!(matches!(
        Region::create(&path, &geometry()),
        Err(RegionError::InUse { .. })
    ));
    drop(slab);
    drop(control);
    create(&path);
    Region::attach(&path).unwrap();
}

#[test]
fn a_restarted_data_plane_goes_on_with_the_content() {
    let (_folder, path) = folder();
    let first = create(&path);
    let (id, boot) = (*first.identity(), first.boot());
    let mut records = Vec::new();
    codec::encode_object(&network(1), &mut records);
    let mut journal = first.journal().unwrap();
    journal.append(&records).unwrap();
    journal.commit().unwrap();
    drop((first, journal));

    let control = Region::attach(&path).unwrap();
    let (second, origin) = Region::create(&path, &geometry()).unwrap();
    assert_eq!(origin, Origin::TakenOver);
    assert_eq!(*second.identity(), id);
    assert_ne!(second.boot(), boot);
    assert_eq!(second.journal().unwrap().read_all(), Ok(records));
    assert!(control.is_current());
    assert_eq!(control.data_plane().boot, second.boot());
}

#[test]
fn another_geometry_replaces_the_region_and_the_control_plane_notices() {
    let (_folder, path) = folder();
    drop(create(&path));
    let control = Region::attach(&path).unwrap();
    let larger = Geometry::new(3, 2, 1024, 1024);
    let (data, origin) = Region::create(&path, &larger).unwrap();
    assert_eq!(origin, Origin::Replaced(Flaw::OtherGeometry));
    assert!(!control.is_current());
    assert!(data.is_current());
    // The old memory is dead but whole, and the new region is free for a control plane.
    assert_eq!(control.affinity()[0].0[0].load(Ordering::Relaxed), 0);
    let control = Region::attach(&path).unwrap();
    assert!(control.is_current());
    assert_eq!(control.geometry().workers, 3);
    fs::remove_file(&path).unwrap();
    assert!(!control.is_current());
}

type Change = fn(&fs::File);

/// A region whose file was changed, and what the control plane says of it.
fn changed(change: Change) -> (tempfile::TempDir, PathBuf, RegionError) {
    let (folder, path) = folder();
    drop(create(&path));
    change(&fs::OpenOptions::new().write(true).open(&path).unwrap());
    let error = Region::attach(&path).unwrap_err();
    assert!(Region::observe(&path).is_err());
    (folder, path, error)
}

#[test]
fn a_flawed_region_is_refused_by_the_control_plane_and_replaced_by_the_data_plane() {
    let cases: [(Change, &str); 3] = [
        (|file| file.set_len(4096).unwrap(), "should have"),
        (
            |file| file.write_all_at(&[9], 8).unwrap(),
            "version 9, this program speaks version 2",
        ),
        (
            |file| file.write_all_at(&[9], 16).unwrap(),
            "its layout has the digest",
        ),
    ];
    for (change, words) in cases {
        let (_folder, path, error) = changed(change);
        assert!(error.to_string().contains(words), "{error}");
        let (region, origin) = Region::create(&path, &geometry()).unwrap();
        assert!(region.is_current());
        assert!(
            matches!(origin, Origin::Replaced(_)) && origin.to_string().contains(words),
            "{origin}"
        );
    }
}

#[test]
fn a_file_that_is_no_region_is_refused_by_both_and_left_alone() {
    let cases: [(Change, &str); 3] = [
        (
            |file| file.set_len(100).unwrap(),
            "it has 100 bytes, too few for a region",
        ),
        (
            |file| file.set_len(0).unwrap(),
            "it has 0 bytes, too few for a region",
        ),
        (
            |file| file.write_all_at(b"x", 0).unwrap(),
            "it is no region",
        ),
    ];
    for (change, words) in cases {
        let (_folder, path, error) = changed(change);
        let before = fs::read(&path).unwrap();
        let refused = Region::create(&path, &geometry()).unwrap_err();
        for error in [error, refused] {
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn attaching_before_the_data_plane_is_not_found() {
    let (_folder, path) = folder();
    let error = Region::attach(&path).unwrap_err();
    assert!(
        matches!(&error, RegionError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound),
        "{error}"
    );
}

#[test]
fn a_left_over_half_made_region_is_in_nobody_s_way() {
    let (_folder, path) = folder();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.with_extension("new"), "half").unwrap();
    assert_eq!(Region::create(&path, &geometry()).unwrap().1, Origin::Fresh);
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let (folder, path) = folder();
    drop(create(&path));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(Region::attach(&link), Err(RegionError::Io { .. })));
}

#[test]
fn what_belongs_to_another_role_is_refused() {
    let (_folder, path) = folder();
    let data = create(&path);
    let control = Region::attach(&path).unwrap();
    let observer = Region::observe(&path).unwrap();
    assert_eq!(
        data.commands_producer().unwrap_err().to_string(),
        "the data plane may not write commands"
    );
    assert!(data.replies_consumer().is_err() && control.replies_producer().is_err());
    assert!(control.commands_consumer().is_err() && observer.commands_consumer().is_err());
    let mut journal = observer.journal().unwrap();
    assert_eq!(journal.commit(), Err(JournalError::ReadOnly));
    // Without effect, and without a store to the read-only mapping.
    observer.beat();
    observer.report(State::default());
}

#[test]
fn workers_and_links_beyond_the_geometry_have_no_lines() {
    let (_folder, path) = folder();
    let region = create(&path);
    assert_eq!(region.worker_counters(0).len(), crate::layout::WORKER_LINES);
    assert_eq!(region.worker_counters(2).len(), 0);
    assert_eq!(region.link(1).len(), LINK_LINES);
    assert_eq!(region.link(2).len(), 0);
    assert_eq!(region.service_keys().len() * 8, 1024);
    assert_eq!(region.endpoint_index().len(), 1 + 1024);
    assert_eq!(region.endpoint_keys().len(), 4 * 1024);
    assert_eq!(region.service_counters(1).len(), 3 * 1024);
    assert_eq!(region.flow_buckets(Family::V4).len() * 16, 4096);
    assert_eq!(region.flow_entries(Family::V4).len(), 4096);
    assert_eq!(region.flow_entries(Family::V6).len(), 8192);
}

#[test]
fn impossible_wishes_name_their_rule() {
    let (_folder, path) = folder();
    let none = Geometry {
        workers: 0,
        ..geometry()
    };
    let error = Region::create(&path, &none).unwrap_err();
    assert_eq!(error.to_string(), "a region must have 1 to 64 workers");
    let huge = Geometry::new(64, 2, 1 << 26, 1 << 26);
    let wanted = Layout::new(&huge).unwrap().total() as u64;
    match Region::create(&path, &huge) {
        Err(RegionError::NoSpace {
            wanted: named,
            available,
            ..
        }) => {
            assert!(named == wanted && available < wanted);
        }
        Ok((region, _)) => assert_eq!(region.layout().total() as u64, wanted),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_beat_moves_the_clock_of_the_own_side() {
    let (_folder, path) = folder();
    let data = create(&path);
    let before = data.data_plane().heartbeat;
    assert!(before > 0 && before <= monotonic_nanos());
    std::thread::sleep(std::time::Duration::from_millis(2));
    data.beat();
    assert!(data.data_plane().heartbeat > before);
    assert_eq!(data.control_plane().heartbeat, 0);
}
