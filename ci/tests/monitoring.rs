//! Metrics of a running gateway, and the dashboard and alert rules that are made for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use ci::gateway::Gateway;
use ci::netns::Namespace;
use ci::topology::{
    CLUSTER, ECHO_NODE_PORT, HTTP, HTTP_NODE_PORT, INSIDE, OUTSIDE, Plan, Topology, url,
};
use ci::{curl, dial, wait};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than a data plane may be silent, and than counted flows may be old.
const LONG: Duration = Duration::from_secs(25);

/// What `/metrics` says: value by series.
type Series = BTreeMap<String, f64>;

/// Labels of the HTTP port of the Service of the tests.
const WEB: &str = "namespace=\"default\",service=\"mynginx\",port=\"tcp-80\",protocol=\"tcp\"";

fn scrape(namespace: &Namespace) -> Series {
    let text = curl::get(namespace, "http://127.0.0.1:9102/metrics").expect("metrics");
    assert!(text.ends_with("# EOF\n"), "cut short: {text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    samples
        .map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line:?}")))
        .collect()
}

fn value(series: &Series, name: &str) -> f64 {
    let found = series.get(name);
    *found.unwrap_or_else(|| panic!("no {name} among {:?}", series.keys()))
}

#[test]
fn metrics_tell_what_the_command_tells() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    let _echo = net.start_echo(0);
    net.apply(&[0]);
    let mut gateway = net.start_gateway();
    for address in OUTSIDE {
        curl::expect(&net.client, &url(address, HTTP_NODE_PORT), "pod-0\n");
    }
    curl::expect(&net.client, &url(CLUSTER[0], HTTP), "pod-0\n");
    let to = std::net::SocketAddr::new(OUTSIDE[0], ECHO_NODE_PORT);
    let _open = dial::tcp(&net.client, None, to, PATIENCE).expect("an open connection");

    expect_the_same_counters(&net, &gateway);
    let shown = wait::until("the flows are counted", LONG, || {
        let shown = scrape(&net.gateway);
        let echo = WEB.replace("tcp-80", "tcp-7");
        (value(&shown, &format!("portgate_service_open_flows{{{echo}}}")) == 1.0).then_some(shown)
    });
    let [pod, pod6] = net.pod_addresses(0);
    for (name, expected) in [
        ("portgate_dataplane_up".to_owned(), 1.0),
        ("portgate_state_as_wanted".to_owned(), 1.0),
        (format!("portgate_service_flows_total{{{WEB}}}"), 3.0),
        (format!("portgate_service_endpoints{{{WEB}}}"), 2.0),
        (
            format!("portgate_endpoint_open_flows{{{WEB},endpoint=\"{pod}:80\"}}"),
            2.0,
        ),
        (
            format!("portgate_endpoint_open_flows{{{WEB},endpoint=\"[{pod6}]:80\"}}"),
            1.0,
        ),
        // NodePorts and the echo connection are masqueraded, the ClusterIP's client is, too.
        (
            format!("portgate_snat_ports_in_use{{address=\"{}\"}}", INSIDE[0]),
            3.0,
        ),
        (
            "portgate_flow_table_capacity{family=\"ipv4\"}".to_owned(),
            65_536.0,
        ),
    ] {
        assert_eq!(value(&shown, &name), expected, "{name}");
    }
    // The kernel tells of a new device a moment late.
    wait::until("the link is said to be up", PATIENCE, || {
        let up = "portgate_link_up{link=\"outside\"}";
        (value(&scrape(&net.gateway), up) == 1.0).then_some(())
    });
    let commits = value(&shown, "portgate_controlplane_commit_seconds_count");
    assert!(commits >= 1.0);

    gateway.dataplane.kill9();
    wait::until("the data plane is said to be down", LONG, || {
        let shown = scrape(&net.gateway);
        (value(&shown, "portgate_dataplane_up") == 0.0).then_some(())
    });
}

/// Every counter of the region, in metrics and as the command shows it.
fn expect_the_same_counters(net: &Topology, gateway: &Gateway<'_>) {
    // Neighbours may still be talking: look until nothing has changed in between.
    wait::until("metrics and command agree", PATIENCE, || {
        let before = gateway.portgate_json(&["counters"]);
        let services = gateway.portgate_json(&["services"]);
        let shown = scrape(&net.gateway);
        let after = gateway.portgate_json(&["counters"]);
        if before["totals"] != after["totals"] {
            return None;
        }
        for (reason, count) in before["drops"].as_object().expect("drops by reason") {
            let series = format!("portgate_drops_total{{reason=\"{reason}\"}}");
            assert_eq!(Some(value(&shown, &series)), count.as_f64(), "{series}");
        }
        for (name, count) in before["totals"].as_object().expect("totals") {
            let of_all = ["0", "main"].map(|worker| {
                value(
                    &shown,
                    &format!("portgate_worker_{name}_total{{worker=\"{worker}\"}}"),
                )
            });
            assert_eq!(Some(of_all.iter().sum()), count.as_f64(), "{name}");
        }
        for link in before["links"].as_array().expect("links") {
            for (name, count) in link.as_object().expect("a link") {
                let Some(count) = count.as_f64() else {
                    continue;
                };
                let link = link["name"].as_str().expect("a name");
                let series = format!("portgate_link_{name}_total{{link=\"{link}\"}}");
                assert_eq!(value(&shown, &series), count, "{series}");
            }
        }
        for service in services["services"].as_array().expect("services") {
            expect_service(service, &shown);
        }
        Some(())
    });
}

fn expect_service(service: &Value, shown: &Series) {
    let text = |key: &str| service[key].as_str().expect("text");
    let (namespace, name) = text("service").split_once('/').expect("namespace/name");
    let labels = format!(
        "namespace=\"{namespace}\",service=\"{name}\",port=\"{}\",protocol=\"{}\"",
        text("port_name"),
        text("protocol")
    );
    for (name, count) in service["counters"].as_object().expect("counters") {
        let series = format!("portgate_service_{name}_total{{{labels}}}");
        assert_eq!(Some(value(shown, &series)), count.as_f64(), "{series}");
    }
}

#[test]
fn a_bound_on_series_holds_and_what_it_leaves_out_is_told() {
    let net = Topology::new(Plan::default());
    net.apply(&[0]);
    let text = net
        .configuration()
        .replace("[metrics]", "[metrics]\nmax_series = 2");
    let _gateway = Gateway::start(&net.gateway, &text, net.directory());
    let shown = scrape(&net.gateway);
    let frames = shown.keys();
    let frames = frames.filter(|name| name.starts_with("portgate_service_frames_total{"));
    assert_eq!(frames.count(), 2, "{:?}", shown.keys());
    let left_out = "portgate_metrics_series_left_out{family=\"portgate_service_frames\"}";
    assert_eq!(value(&shown, left_out), 1.0);
}

#[test]
fn every_metric_that_dashboard_and_rules_name_exists() {
    let net = Topology::new(Plan::default());
    let _nginx = net.start_nginx(0);
    net.apply(&[0]);
    let _gateway = net.start_gateway();
    curl::expect(&net.client, &url(OUTSIDE[0], HTTP_NODE_PORT), "pod-0\n");
    let text = curl::get(&net.gateway, "http://127.0.0.1:9102/metrics").expect("metrics");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut known = BTreeSet::new();
    for (name, kind) in types.filter_map(|line| line.split_once(' ')) {
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        known.extend(ends.iter().map(|end| format!("{name}{end}")));
    }
    let mut named = BTreeSet::new();
    for (what, expression) in dashboard().into_iter().chain(rules()) {
        expect_balanced(&expression);
        let metrics = metrics_in(&expression);
        assert!(!metrics.is_empty(), "{what} names no metric: {expression}");
        for metric in metrics {
            assert!(known.contains(&metric), "{what}: there is no {metric}");
            named.insert(metric);
        }
    }
    assert!(named.len() > 40, "only {named:?}");
    // Those whose name is in the page are there, too.
    for metric in known
        .iter()
        .filter(|name| name.starts_with("portgate_service_"))
    {
        let page = page("README.md");
        let short = metric.trim_start_matches("portgate_");
        assert!(
            page.contains(&format!("`{short}`")),
            "{short} is not explained"
        );
    }
}

#[test]
fn every_rule_has_what_a_person_needs_and_is_on_the_page() {
    let page = page("README.md");
    for rule in rule_objects() {
        let name = rule["alert"].as_str().expect("a name");
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not on the page"
        );
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(
            ["info", "warning", "critical"].contains(&severity),
            "{name}: {severity}"
        );
        for text in ["summary", "description"] {
            let said = rule["annotations"][text].as_str().unwrap_or_default();
            assert!(said.len() > 20, "{name} has no {text}");
            assert_eq!(
                said.matches("{{").count(),
                said.matches("}}").count(),
                "{name}"
            );
        }
        if let Some(period) = rule.get("for") {
            let text = period.as_str().expect("a duration");
            let number = text.trim_end_matches(['s', 'm']);
            assert!(number.parse::<u32>().is_ok(), "{name}: for {text}");
        }
    }
}

#[test]
fn metrics_are_found_in_expressions() {
    let text = "sum by (le) (rate(portgate_x_total{reason=\"portgate\"}[5m])) > kubeproxy_y";
    let expected = ["kubeproxy_y", "portgate_x_total"].map(str::to_owned);
    assert_eq!(metrics_in(text), BTreeSet::from(expected));
}

fn page(name: &str) -> String {
    let ci = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = ci.join("../docs/monitoring").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every query of the dashboard, with the title of its panel.
fn dashboard() -> Vec<(String, String)> {
    let board: Value = serde_json::from_str(&page("dashboard.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut found = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title}: its id is another's"
        );
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().expect("queries") {
            let expression = target["expr"].as_str().expect("an expression");
            found.push((format!("panel {title}"), expression.to_owned()));
        }
    }
    assert!(found.len() > 30, "only {} queries", found.len());
    found
}

/// Every expression of the rules, with the name of its alert.
fn rules() -> Vec<(String, String)> {
    let expression = |rule: &Value| {
        let name = rule["alert"].as_str().expect("a name");
        let text = rule["expr"].as_str().expect("an expression");
        (format!("alert {name}"), text.to_owned())
    };
    rule_objects().iter().map(expression).collect()
}

fn rule_objects() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&page("alerts.yml")).expect("YAML");
    let groups = file["groups"].as_array().expect("groups");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone());
    let rules: Vec<_> = rules.collect();
    assert!(rules.len() > 15, "only {} rules", rules.len());
    rules
}

/// Names of metrics in a query: what is quoted is a label's value.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let unquoted: String = expression
        .split('"')
        .step_by(2)
        .collect::<Vec<_>>()
        .join(" ");
    let words = unquoted.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let ours = |word: &&str| word.starts_with("portgate_") || word.starts_with("kubeproxy_");
    words.filter(ours).map(str::to_owned).collect()
}

fn expect_balanced(expression: &str) {
    let mut open = Vec::new();
    for char in expression.split('"').step_by(2).flat_map(str::chars) {
        match char {
            '(' | '[' | '{' => open.push(char),
            ')' => assert_eq!(open.pop(), Some('('), "{expression}"),
            ']' => assert_eq!(open.pop(), Some('['), "{expression}"),
            '}' => assert_eq!(open.pop(), Some('{'), "{expression}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{expression}");
}
