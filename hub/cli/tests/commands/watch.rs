//! What changes, printed as it comes.

use serde_json::{Value, json};

use super::{Hub, lines, problem};

fn event(id: Option<u64>, what: &str, object: &Value) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let told = json!({ "type": what, "object": object });
    format!("{id}data: {told}\n\n")
}

fn cluster(name: &str, state: &str) -> Value {
    json!({ "kind": "Cluster", "metadata": { "name": name }, "status": { "state": state } })
}

/// A watch that breaks off twice and then may be read no more.
fn told(hub: &Hub, path: &str) {
    let end = json!({ "metadata": { "resourceVersion": "7" } });
    let first = [
        event(None, "ADDED", &cluster("eu-1", "Never")),
        event(None, "ADDED", &cluster("a-longer-name", "Connected")),
        event(Some(7), "BOOKMARK", &end),
        ": nothing new\n\n".to_owned(),
        event(None, "MODIFIED", &cluster("eu-1", "Connected")),
        event(Some(9), "DELETED", &cluster("a-longer-name", "Connected")),
    ];
    let watch = format!("GET /api/v1/{path}?watch=true");
    hub.answers_bytes(&watch, 200, first.concat().into_bytes());
    let resumed = format!("{watch}&resourceVersion=9");
    hub.answers(&resumed, 503, problem(503, "nobody leads"));
    let more = event(Some(12), "ADDED", &cluster("us-1", "Never"));
    hub.answers_bytes(&resumed, 200, more.into_bytes());
    let again = format!("{watch}&resourceVersion=12");
    hub.answers(&again, 401, problem(401, "the token is gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_rows_goes_on_where_it_broke_off_and_ends_when_it_may_read_no_more() {
    let hub = Hub::start().await;
    told(&hub, "clusters");
    let ran = hub.run(&["get", "clusters", "--watch"], "").await;
    assert_eq!(ran.code, 4, "{ran:?}");
    let cells: Vec<Vec<_>> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    let expected = [
        ["NAME", "STATE"],
        ["eu-1", "Never"],
        ["a-longer-name", "Connected"],
        ["eu-1", "Connected"],
        ["cluster/a-longer-name", "deleted"],
        ["us-1", "Never"],
    ];
    assert_eq!(cells, expected);
    let state = |line: usize| ran.stdout.lines().nth(line).unwrap().find("Never");
    assert_eq!(state(1), state(5), "the columns stand below one another");
    for said in ["nobody leads", "the token is gone"] {
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    let asked = lines(&hub);
    let asked: Vec<_> = asked
        .iter()
        .map(|line| line.rsplit_once("watch=true").unwrap().1)
        .collect();
    let from = ["", "9", "9", "12"].map(|at| match at {
        "" => String::new(),
        at => format!("&resourceVersion={at}"),
    });
    assert_eq!(asked, from);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_json_each_line_is_what_happened() {
    let hub = Hub::start().await;
    told(&hub, "clusters/eu-1");
    let ran = hub
        .run(&["get", "cluster", "eu-1", "-w", "-o", "json"], "")
        .await;
    let told = ran.stdout.lines().map(|line| {
        let told: Value = serde_json::from_str(line).unwrap();
        told["type"].as_str().unwrap().to_owned()
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, ["ADDED", "ADDED", "MODIFIED", "DELETED", "ADDED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_place_in_history_is_gone_begins_anew() {
    let hub = Hub::start().await;
    let watch = "GET /api/v1/clusters?watch=true";
    let end = json!({ "metadata": { "resourceVersion": "7" } });
    let first = event(Some(7), "BOOKMARK", &end);
    hub.answers_bytes(watch, 200, first.into_bytes());
    hub.answers(watch, 401, problem(401, "enough"));
    let resumed = format!("{watch}&resourceVersion=7");
    hub.answers(&resumed, 410, problem(410, "not kept"));
    let ran = hub.run(&["get", "clusters", "--watch"], "").await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(lines(&hub), [watch, &resumed, watch]);
    for said in [
        "There is no such cluster yet",
        "not kept",
        "begins anew",
        "enough",
    ] {
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
}
