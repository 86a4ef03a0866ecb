//! The Dockerfile and the Helm chart: by their linters, and what the chart renders by kubectl and a real API server.
//!
//! `ci/run.sh test-chart` provides the programs and runs these tests; without them they are ignored.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ci::cluster::Cluster;
use ci::gateway::binary;
use ci::netns::finish;
use serde_json::Value;

/// Names the folder that `ci/package/linters.sh` has filled.
const LINTERS: &str = "PORTGATE_LINTERS";

/// Name of the release that is rendered.
const RELEASE: &str = "edge-1";

/// Both kinds of gateway, and the kind of workload that each becomes.
const MODES: [(&str, &str); 2] = [("node", "DaemonSet"), ("edge", "Deployment")];

#[test]
#[ignore = "needs hadolint: make test-chart"]
fn hadolint_finds_nothing_in_the_dockerfile_and_something_in_a_worse_one() {
    let file = root().join("ci/package/Dockerfile");
    finish(linter("hadolint").arg(&file));

    let worse = tempfile::NamedTempFile::new().expect("a file");
    let text = fs::read_to_string(&file).expect("the Dockerfile");
    let text = text.replace("bookworm-slim", "latest");
    fs::write(worse.path(), text).expect("written");
    let output = linter("hadolint").arg(worse.path()).output();
    let output = output.expect("hadolint runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && said.contains("DL3007"),
        "{said}"
    );
}

#[test]
#[ignore = "needs helm: make test-chart"]
fn helm_finds_nothing_in_the_chart_whatever_its_mode_and_refuses_another() {
    for (mode, _) in MODES {
        let set = format!("mode={mode}");
        finish(
            linter("helm")
                .args(["lint", "--strict", "--set", &set])
                .arg(chart()),
        );
    }
    // To lint, a chart that refuses its values is no fault of the chart.
    let mut other = linter("helm");
    other.args(["template", RELEASE, "--set", "mode=both"]);
    other.arg(chart());
    let output = other.output().expect("helm runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("it must be node or edge"),
        "{said}"
    );
}

#[test]
#[ignore = "needs helm and the programs of Kubernetes: make test-chart"]
fn what_the_chart_renders_is_taken_by_kubectl_and_an_api_server_and_its_configuration_by_the_programs()
 {
    let cluster = Cluster::start();
    for (mode, kind) in MODES {
        let rendered = render(&["--set", &format!("mode={mode}")]);
        let taken = cluster.validate(&rendered);
        let taken = taken.unwrap_or_else(|said| panic!("{mode}: {said}"));
        let objects = objects(&taken);
        let kinds: Vec<_> = objects
            .iter()
            .filter_map(|object| object["kind"].as_str())
            .collect();
        let expected = [
            "ServiceAccount",
            "ConfigMap",
            "ClusterRole",
            "ClusterRoleBinding",
            kind,
        ];
        assert_eq!(kinds, expected, "{mode}");
        // Nothing that was rendered is unknown to the server and left out by it.
        let workload = &objects[4]["spec"]["template"]["spec"];
        assert_eq!(workload["hostNetwork"], true, "{workload}");
        let limits = &workload["containers"][0]["resources"]["limits"];
        assert_eq!(limits["hugepages-2Mi"], "256Mi", "{workload}");
        is_right(objects[1]["data"]["portgate.toml"].as_str(), mode);
    }
    // Without huge pages none are asked for.
    let rendered = render(&["--set", "hugePages=false"]);
    assert!(!rendered.contains("hugepages-2Mi"), "{rendered}");
    cluster.validate(&rendered).expect("valid");
    // A server that takes anything would show nothing.
    let said = cluster.validate(&rendered.replace("hostNetwork:", "hostNetwrok:"));
    let said = said.expect_err("an unknown field was taken");
    assert!(said.contains("hostNetwrok"), "{said}");
    let said = cluster.validate(&rendered.replace("mountPath: /dev/vfio", "mountPath: ''"));
    let said = said.expect_err("a mount without a path was taken");
    assert!(said.contains("mountPath"), "{said}");
}

/// The configuration in the chart's ConfigMap, by every program that reads it.
fn is_right(configuration: Option<&str>, mode: &str) {
    let text = configuration.unwrap_or_else(|| panic!("{mode}: no portgate.toml"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("written");
    for program in ["portgate-dataplane", "portgate-controlplane"] {
        let mut command = Command::new(binary(program));
        // The node's name comes with the pod, from its environment.
        command.env("PORTGATE__GATEWAY__NODE_NAME", "node-1");
        command.arg("--config").arg(file.path()).arg("--check");
        finish(&mut command);
    }
}

fn render(arguments: &[&str]) -> String {
    finish(
        linter("helm")
            .args(["template", RELEASE])
            .arg(chart())
            .args(arguments),
    )
}

/// Objects of a list, or of one object after the other.
fn objects(text: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    list["items"].as_array().expect("a list").clone()
}

fn linter(name: &str) -> Command {
    let folder = std::env::var_os(LINTERS).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| panic!("{LINTERS} is not set: run `make test-chart`"));
    Command::new(folder.join(name))
}

fn chart() -> PathBuf {
    root().join("ci/package/helm/portgate")
}

fn root() -> PathBuf {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR"));
    ci.parent().expect("a workspace").to_owned()
}
