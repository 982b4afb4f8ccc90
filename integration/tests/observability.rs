//! Dashboards, alerts and monitors against the metrics that the code has: every expression can be read, names only metrics and
//! labels that exist, and every alert says what to do.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a file that cannot be read fails its test"
)]

#[path = "observability/promql.rs"]
mod promql;

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use meridian_hub::metrics::{Limited, Metrics, Moment, TaskResult};
use promql::{Query, parse};
use serde_json::Value;

/// Labels that Prometheus itself puts on what it reads, with its operator or without.
const TARGET: &[&str] = &[
    "namespace",
    "pod",
    "service",
    "container",
    "endpoint",
    "job",
    "instance",
];
/// Metrics that Prometheus makes itself.
const ITS_OWN: &[&str] = &["up"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/observability")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).expect(file)
}

fn yaml(file: &str) -> Vec<Value> {
    let text = read(file);
    let documents = text.split("\n---\n");
    documents
        .map(|document| serde_saphyr::from_str(document).expect(file))
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn alerts() -> Vec<Value> {
    let rules = yaml("rules.yaml");
    let groups = list(&rules[0]["groups"]).iter();
    groups
        .flat_map(|group| list(&group["rules"]).to_vec())
        .collect()
}

fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(folder().join("dashboards")).unwrap();
    let mut all: Vec<_> = files
        .map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            let board = serde_json::from_str(&read(&format!("dashboards/{name}"))).expect(&name);
            (name, board)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What a hub answers at `/metrics` in which everything has happened once.
fn page_of_a_hub() -> String {
    let metrics = Metrics::default();
    metrics.task("plan", TaskResult::Settled, Duration::from_millis(1));
    metrics.request(200);
    metrics.limited(Limited::Token);
    metrics.server_certificate_ends(1_000);
    metrics.server_certificate_renewed(true);
    metrics.deliveries().observe(0.1);
    metrics.print(Moment::default()).unwrap()
}

/// Names and labels of the samples of a page.
fn samples(page: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).unwrap();
        names.insert(line[..end].to_owned());
        let inside = line[end..].strip_prefix('{').unwrap_or_default();
        let inside = inside.split('}').next().unwrap_or_default();
        let pairs = inside.split(',').filter_map(|pair| pair.split_once('='));
        labels.extend(pairs.map(|(label, _)| label.to_owned()));
    }
    (names, labels)
}

/// The metrics of nodes, agents and hubs.
fn metrics() -> BTreeSet<String> {
    let nodes = meridian_node::sync::exporter::families();
    let nodes = nodes.iter().map(|family| family.name.to_owned());
    let agents = meridian_agent::metrics::NAMES.iter();
    let own = ITS_OWN.iter().map(|name| (*name).to_owned());
    nodes
        .chain(agents.map(|name| (*name).to_owned()))
        .chain(samples(&page_of_a_hub()).0)
        .chain(own)
        .collect()
}

fn labels() -> BTreeSet<String> {
    let ours = meridian_node::sync::exporter::LABELS.iter();
    let agents = meridian_agent::metrics::LABELS.iter();
    let all = ours.chain(agents).chain(TARGET);
    all.map(|label| (*label).to_owned())
        .chain(samples(&page_of_a_hub()).1)
        .collect()
}

/// What is wrong with an expression.
fn faults(expression: &str) -> Vec<String> {
    let Query {
        names,
        labels: used,
    } = match parse(expression) {
        Ok(query) => query,
        Err(error) => return vec![error],
    };
    let (metrics, labels) = (metrics(), labels());
    let known = |name: &String| {
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| name.strip_suffix(part));
        metrics.contains(name)
            || base.is_some_and(|base| base.ends_with("_seconds") && metrics.contains(base))
    };
    let unknown = names.iter().filter(|name| !known(name));
    let strange = used.iter().filter(|label| !labels.contains(label.as_str()));
    unknown
        .map(|name| format!("no code has the metric {name}"))
        .chain(strange.map(|label| format!("no metric has the label {label}")))
        .collect()
}

/// An expression of a dashboard as Prometheus sees it.
fn filled(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "1m")
        .replace("\"$", "\"")
}

#[test]
fn alerts_read_metrics_that_exist() {
    for alert in alerts() {
        let faults = faults(text(&alert["expr"]));
        assert!(faults.is_empty(), "{}: {faults:?}", alert["alert"]);
    }
}

#[test]
fn every_alert_has_a_severity_and_says_what_happened_and_what_to_do() {
    let mut names = BTreeSet::new();
    let all = alerts();
    assert!(all.len() > 20, "{}", all.len());
    for alert in all {
        let name = text(&alert["alert"]).to_owned();
        assert!(
            name.starts_with("Meridian") && names.insert(name.clone()),
            "{name}"
        );
        let severity = text(&alert["labels"]["severity"]);
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        let said = |key: &str| text(&alert["annotations"][key]).to_owned();
        assert!(!said("summary").is_empty(), "{name}");
        assert!(said("description").ends_with('.'), "{name}");
        // A next step is a sentence, and names something to look at or to change.
        let runbook = said("runbook");
        assert!(
            runbook.len() > 60 && runbook.ends_with('.'),
            "{name}: {runbook:?}"
        );
        assert!(!text(&alert["for"]).is_empty(), "{name}");
    }
}

#[test]
fn templates_of_alerts_name_labels_that_their_expression_keeps() {
    for alert in alerts() {
        let query = parse(text(&alert["expr"])).unwrap();
        let annotations = alert["annotations"].to_string();
        for part in annotations.split("$labels.").skip(1) {
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let label = &part[..end.unwrap_or(part.len())];
            assert!(labels().contains(label), "{}: {label}", alert["alert"]);
            let expression = text(&alert["expr"]);
            if expression.contains(" by (") {
                assert!(
                    query.labels.contains(label),
                    "{}: {label} is summed away",
                    alert["alert"]
                );
            }
        }
    }
}

#[test]
fn both_files_of_rules_say_the_same() {
    let (plain, object) = (yaml("rules.yaml"), yaml("prometheusrule.yaml"));
    assert_eq!(object[0]["kind"], "PrometheusRule");
    assert_eq!(plain[0]["groups"], object[0]["spec"]["groups"]);
}

#[test]
fn dashboards_read_metrics_that_exist() {
    let all = dashboards();
    assert_eq!(all.len(), 5);
    for (file, board) in all {
        let panels = list(&board["panels"]);
        let queries = panels.iter().flat_map(|panel| list(&panel["targets"]));
        let mut count = 0;
        for target in queries {
            count += 1;
            let expression = filled(text(&target["expr"]));
            let faults = faults(&expression);
            assert!(faults.is_empty(), "{file}: {expression}: {faults:?}");
        }
        assert!(count > 5, "{file} shows {count} expressions");
        for variable in list(&board["templating"]["list"]) {
            let query = text(&variable["query"]);
            let Some(inside) = query.strip_prefix("label_values(") else {
                assert_eq!(variable["type"], "datasource", "{file}: {query}");
                continue;
            };
            let (selector, label) = inside.trim_end_matches(')').rsplit_once(", ").unwrap();
            let faults = faults(&filled(selector));
            assert!(
                faults.is_empty() && labels().contains(label),
                "{file}: {query}: {faults:?}"
            );
        }
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    for (file, board) in dashboards() {
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&board["panels"]) {
            assert!(
                ids.insert(panel["id"].as_u64()),
                "{file}: {}",
                panel["title"]
            );
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(x < 24 && cells.insert((x, y)), "{file}: {}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn monitors_choose_what_the_agent_makes() {
    let monitors = yaml("monitors.yaml");
    let (nodes, agents) = (&monitors[0], &monitors[1]);
    assert_eq!(
        nodes["spec"]["selector"]["matchLabels"]["redis.io/service"],
        "prom-metrics"
    );
    assert_eq!(nodes["spec"]["endpoints"][0]["port"], "prometheus");
    assert_eq!(nodes["spec"]["endpoints"][0]["path"], "/metrics");
    let bundle = fs::read_to_string(folder().join("../bundle/agent.yaml")).unwrap();
    let deployment = bundle
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let deployment = deployment
        .into_iter()
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    let template = &deployment["spec"]["template"];
    let wanted = agents["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    for (key, value) in wanted {
        assert_eq!(&template["metadata"]["labels"][key], value);
    }
    let hubs = &monitors[2];
    let bundle = fs::read_to_string(folder().join("../bundle/hub.yaml")).unwrap();
    let (labels, port) = (
        &hubs["spec"]["selector"]["matchLabels"],
        &hubs["spec"]["podMetricsEndpoints"][0]["port"],
    );
    for (key, value) in labels.as_object().unwrap() {
        assert!(bundle.contains(&format!("{key}: {}", text(value))));
    }
    assert!(bundle.contains(&format!("{{name: {}, containerPort: 8443}}", text(port))));
    let port = &agents["spec"]["podMetricsEndpoints"][0]["port"];
    let ports = list(&template["spec"]["containers"][0]["ports"]);
    assert!(ports.iter().any(|found| found["name"] == *port), "{port}");
}

#[test]
fn every_metric_of_a_hub_is_shown_by_a_dashboard_or_watched_by_an_alert() {
    let boards = dashboards().into_iter().map(|(_, board)| board.to_string());
    let shown = boards.collect::<String>() + &read("rules.yaml");
    let (names, _) = samples(&page_of_a_hub());
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let base = ["_sum", "_count", "_bucket"]
            .iter()
            .find_map(|part| name.strip_suffix(part));
        let base = base.unwrap_or(&name);
        assert!(shown.contains(base), "{base} is in no file");
    }
}

#[test]
fn a_wrong_name_label_or_expression_is_found() {
    for (expression, wanted) in [
        ("redis_server_down == 0", "redis_server_down"),
        ("sum by (bdb) (redis_server_up)", "bdb"),
        ("redis_server_up{bdb=\"1\"}", "bdb"),
        ("rate(redis_server_up)", "range"),
        ("sum(redis_server_up", ")"),
        ("meridian_shard_ready_bucket", "meridian_shard_ready_bucket"),
    ] {
        let faults = faults(expression);
        assert!(
            faults.iter().any(|f| f.contains(wanted)),
            "{expression}: {faults:?}"
        );
    }
}
