use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::{Directory, load_dir, spawn};
use crate::index::Index;
use crate::model::{ClusterObject, ObjectKind, ObjectName};
use crate::source::{Change, SourceEvent};

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: test}}\n\
         spec:\n  clusterIP: {address}\n  ports: [{{port: 80}}]\n"
    )
}

fn write(directory: &TempDir, file: &str, text: &str) {
    // A new inode, so that two writes within the clock's resolution are told apart.
    let temporary = directory.path().join(".new");
    fs::write(&temporary, text).unwrap();
    fs::rename(&temporary, directory.path().join(file)).unwrap();
}

fn names(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::Apply(object) => format!("+{}", object.name()),
        Change::Delete(_, name) => format!("-{name}"),
    };
    changes.iter().map(name).collect()
}

#[test]
fn yaml_documents_json_objects_and_lists_are_read_in_one_go() {
    let directory = TempDir::new().unwrap();
    let two = format!(
        "# comment\n---\n{}---\n---\n{}",
        service("a", "10.0.0.1"),
        service("b", "10.0.0.2")
    );
    write(&directory, "two.yaml", &two);
    write(
        &directory,
        "list.json",
        r#"{"kind": "List", "apiVersion": "v1", "items": [
            {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}},
            {"kind": "List", "apiVersion": "v1", "items": [
                {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "c", "namespace": "test"}, "spec": {}}
            ]}
        ]}"#,
    );
    write(
        &directory,
        "raw.yml",
        "kind: ServiceList\napiVersion: v1\nitems:\n- metadata: {name: d}\n  spec: {}\n",
    );
    write(
        &directory,
        "other.yaml",
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n",
    );
    write(&directory, "notes.txt", "kind: Service");
    write(&directory, ".hidden.yaml", "kind: [");
    let report = load_dir(directory.path()).unwrap();
    assert_eq!(report.warnings, []);
    let found: Vec<String> = report
        .objects
        .iter()
        .map(|object| object.name().to_string())
        .collect();
    assert_eq!(found, ["default/d", "test/a", "test/b", "test/c", "n"]);
}

#[test]
fn services_of_other_api_groups_are_not_ours() {
    let directory = TempDir::new().unwrap();
    write(
        &directory,
        "knative.yaml",
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}\nspec: {}\n",
    );
    let report = load_dir(directory.path()).unwrap();
    assert!(report.objects.is_empty() && report.warnings.is_empty());
}

#[test]
fn a_broken_file_names_its_line_and_spoils_no_other() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &service("a", "10.0.0.1"));
    write(
        &directory,
        "b.yaml",
        "kind: Service\nmetadata:\n  name: b\n spec: x\n  y: [",
    );
    write(&directory, "c.json", "{\n\"kind\": \"Service\",\n oops");
    let report = load_dir(directory.path()).unwrap();
    assert_eq!(report.objects.len(), 1);
    let shown: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    let place =
        |file: &str, line: u32| format!("{}:{line}: is not", directory.path().join(file).display());
    assert!(shown[0].starts_with(&place("b.yaml", 4)), "{}", shown[0]);
    assert!(shown[1].starts_with(&place("c.json", 3)), "{}", shown[1]);
    assert!(shown.iter().all(|warning| !warning.contains('\n')));
}

#[test]
fn a_file_that_breaks_keeps_its_previous_content_and_a_deleted_one_takes_it_away() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &service("a", "10.0.0.1"));
    write(&directory, "b.yaml", &service("b", "10.0.0.2"));
    let mut read = Directory::new(directory.path());
    assert_eq!(names(&read.read().unwrap().changes), ["+test/a", "+test/b"]);
    assert_eq!(names(&read.read().unwrap().changes), [""; 0]);

    write(&directory, "a.yaml", "kind: [");
    let reading = read.read().unwrap();
    assert_eq!(names(&reading.changes), [""; 0]);
    assert!(
        reading.warnings[0]
            .message
            .contains("previous content stays")
    );
    assert_eq!(read.objects().len(), 2);
    assert_eq!(read.read().unwrap().warnings, [], "it is said once");

    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    assert_eq!(names(&read.read().unwrap().changes), ["-test/a"]);
}

/// As two writers do within one step of the file system's clock.
#[test]
fn a_change_that_leaves_time_and_length_as_they_were_is_seen() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.yaml");
    let mut directory = Directory::new(folder.path());
    fs::write(&path, service("a", "10.0.0.1")).unwrap();
    let changed = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(names(&directory.read().unwrap().changes), ["+test/a"]);
    fs::write(&path, service("a", "10.0.0.2")).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(changed).unwrap();
    assert_eq!(names(&directory.read().unwrap().changes), ["+test/a"]);
    let Some(ClusterObject::Service(service)) = directory.objects().into_iter().next() else {
        panic!("a service")
    };
    assert!(format!("{service:?}").contains("10.0.0.2"), "{service:?}");
}

#[test]
fn what_is_wrong_is_said_once_however_often_the_file_is_read() {
    let folder = TempDir::new().unwrap();
    write(&folder, "broken.yaml", "kind: [");
    let mut directory = Directory::new(folder.path());
    let warnings: Vec<_> = (0..3)
        .map(|_| directory.read().unwrap().warnings.len())
        .collect();
    assert_eq!(warnings, [1, 0, 0]);
}

#[test]
fn of_an_object_in_two_files_the_last_file_counts_until_it_is_gone() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &service("web", "10.0.0.1"));
    write(&directory, "b.yaml", &service("web", "10.0.0.2"));
    let mut read = Directory::new(directory.path());
    let reading = read.read().unwrap();
    assert_eq!(reading.warnings.len(), 1);
    assert!(
        reading.warnings[0]
            .to_string()
            .contains("b.yaml: the last one counts")
    );
    let address = |change: &Change| match change {
        Change::Apply(ClusterObject::Service(service)) => service.cluster_ips[0].to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(address(&reading.changes[0]), "10.0.0.2");
    fs::remove_file(directory.path().join("b.yaml")).unwrap();
    assert_eq!(address(&read.read().unwrap().changes[0]), "10.0.0.1");
}

#[test]
fn a_missing_directory_is_an_error_in_one_sentence() {
    let error = load_dir(Path::new("/nonexistent/manifests")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/nonexistent/manifests") && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn large_yaml_files_are_read() {
    let directory = TempDir::new().unwrap();
    let mut text = String::new();
    for number in 0..3000 {
        text.push_str("---\n");
        text.push_str(&service(
            &format!("s{number}"),
            &format!("10.1.{}.{}", number / 256, number % 256),
        ));
    }
    write(&directory, "large.yaml", &text);
    let report = load_dir(directory.path()).unwrap();
    assert_eq!((report.objects.len(), report.warnings.len()), (3000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_a_watched_directory_arrive_soon() {
    let directory = TempDir::new().unwrap();
    write(&directory, "a.yaml", &service("a", "10.0.0.1"));
    let (sender, mut events) = tokio::sync::mpsc::channel(16);
    spawn(directory.path(), sender).unwrap();
    let mut index = Index::new();
    let soon = Duration::from_secs(10);
    let mut replaced = 0;
    while replaced < 3 {
        if let Some(SourceEvent::Replace(kind, objects)) = events.recv().await {
            index.replace(kind, objects);
            replaced += 1;
        }
    }
    assert_eq!(index.count(ObjectKind::Service), 1);
    write(&directory, "b.yaml", &service("b", "10.0.0.2"));
    let changed = tokio::time::timeout(soon, async {
        loop {
            if let Some(SourceEvent::Changes(changes)) = events.recv().await {
                return changes;
            }
        }
    });
    assert_eq!(names(&changed.await.unwrap()), ["+test/b"]);
    let name = ObjectName::new("test", "a");
    assert!(index.service(&name).is_some());
}
