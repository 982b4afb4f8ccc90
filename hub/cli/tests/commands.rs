//! The built command line against a hub that answers over real TLS.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers, too"
)]

use std::fs;

use serde_json::{Value, json};

#[path = "commands/access.rs"]
mod access;
#[path = "commands/backup.rs"]
mod backup;
#[path = "commands/debug.rs"]
mod debug;
#[path = "fixture/hub.rs"]
mod fixture;
#[path = "commands/lost.rs"]
mod lost;
#[path = "commands/watch.rs"]
mod watch;

use fixture::{Hub, TOKEN};

const DATABASE: &str = "/api/v1/activeactivedatabases/cart";
const YAML: &str = "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseActiveActiveDatabase\n\
                    metadata: {name: cart}\nspec: {participatingClusters: [{name: eu-1}]}\n";

fn problem(status: u16, detail: &str) -> Value {
    json!({ "type": "about:blank", "title": "t", "status": status, "detail": detail })
}

fn stored(version: &str, participant: &str) -> Value {
    json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseActiveActiveDatabase",
        "metadata": { "name": "cart", "resourceVersion": version },
        "spec": { "participatingClusters": [{ "name": participant }] }, "status": { "status": "active" },
    })
}

fn lines(hub: &Hub) -> Vec<String> {
    hub.asked().into_iter().map(|asked| asked.line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_asked_for_with_the_bearer_token_and_shown_in_each_form() {
    let hub = Hub::start().await;
    let list = json!({ "items": [{ "metadata": { "name": "eu-1" }, "status": { "state": "Connected" } }] });
    hub.answers("GET /api/v1/clusters", 200, list.clone());

    let ran = hub.run(&["cluster", "list"], "").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let cells: Vec<_> = ran
        .stdout
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(cells, ["eu-1", "Connected", "-", "-", "never", "-", "-"]);
    assert_eq!(hub.asked()[0].authorization, format!("Bearer {TOKEN}"));

    let ran = hub.run(&["get", "clusters", "-o", "json"], "").await;
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), list);
    let ran = hub.run(&["get", "clusters", "-o", "yaml"], "").await;
    assert_eq!(serde_saphyr::from_str::<Value>(&ran.stdout).unwrap(), list);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_exit_code_and_its_reason_on_standard_error() {
    for (status, code) in [
        (404, 3),
        (409, 4),
        (401, 4),
        (403, 4),
        (422, 4),
        (503, 5),
        (500, 1),
    ] {
        let hub = Hub::start().await;
        hub.answers(
            &format!("GET {DATABASE}"),
            status,
            problem(status, "the reason"),
        );
        let ran = hub.run(&["get", "reaadb", "cart"], "").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        assert!(ran.stderr.contains("the reason"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_not_there_or_has_another_root_is_unreachable() {
    let hub = Hub::start().await;
    let ran = hub
        .run_with(
            &["cluster", "list"],
            "",
            &[("MERIDIAN_HUB", "https://127.0.0.1:1")],
        )
        .await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("https://127.0.0.1:1"), "{ran:?}");

    let other = Hub::start().await;
    let root = other.folder().join("ca.crt");
    let ran = hub
        .run_with(
            &["cluster", "list"],
            "",
            &[("MERIDIAN_CA_FILE", root.to_str().unwrap())],
        )
        .await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(
        lines(&hub),
        Vec::<String>::new(),
        "the token must not reach a hub of another root"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_puts_the_secret_alone_on_standard_output() {
    let hub = Hub::start().await;
    let join =
        json!({ "hub": ["h:8444"], "caPem": "PEM", "token": "secret-token", "name": "eu-1" });
    let answer = json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "Token", "metadata": { "name": "id" },
        "spec": { "clusterName": "eu-1", "ttlSeconds": 3600 },
        "status": { "expiresAt": "2026-01-01T00:00:00Z", "join": join },
    });
    hub.answers("POST /api/v1/tokens", 201, answer);
    let ran = hub
        .run(&["token", "create", "eu-1", "--ttl", "1h"], "")
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let secret: Value = serde_saphyr::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&secret["kind"], &secret["stringData"]["token"]),
        (&json!("Secret"), &json!("secret-token"))
    );
    assert!(!ran.stderr.contains("secret-token"), "{ran:?}");
    assert_eq!(
        hub.asked()[0].body["spec"],
        json!({ "clusterName": "eu-1", "ttlSeconds": 3600, "requireApproval": false })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_creates_what_is_absent_leaves_what_is_equal_and_changes_what_differs() {
    let hub = Hub::start().await;
    let get = format!("GET {DATABASE}");
    hub.answers(&get, 404, problem(404, "none"))
        .answers(&get, 200, stored("7", "eu-1"))
        .answers(&get, 200, stored("8", "us-1"))
        .answers(
            "POST /api/v1/activeactivedatabases",
            202,
            stored("7", "eu-1"),
        )
        .answers(&format!("PUT {DATABASE}"), 200, stored("9", "eu-1"));
    let file = hub.folder().join("database.yaml");
    fs::write(&file, format!("{YAML}status: {{status: active}}\n")).unwrap();
    for expected in ["created", "unchanged", "configured"] {
        let ran = hub.run(&["apply", "-f", file.to_str().unwrap()], "").await;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, &*format!("activeactivedatabase/cart {expected}\n")),
            "{ran:?}"
        );
    }
    let asked = hub.asked();
    let methods: Vec<_> = asked
        .iter()
        .map(|asked| asked.line.split(' ').next().unwrap())
        .collect();
    assert_eq!(methods, ["GET", "POST", "GET", "GET", "PUT"]);
    assert_eq!(asked[1].body.get("status"), None);
    assert_eq!(asked[4].body["metadata"]["resourceVersion"], "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_tried_is_sent_as_such() {
    let hub = Hub::start().await;
    let get = format!("GET {DATABASE}");
    let (create, replace) = (
        "POST /api/v1/activeactivedatabases?dryRun=All",
        format!("PUT {DATABASE}?dryRun=All"),
    );
    hub.answers(&get, 404, problem(404, "none"))
        .answers(&get, 200, stored("8", "us-1"))
        .answers(create, 200, stored("7", "eu-1"))
        .answers(&replace, 422, problem(422, "not so"));
    let apply = ["apply", "-f", "-", "--dry-run"];
    let ran = hub.run(&apply, YAML).await;
    assert_eq!(ran.stdout, "activeactivedatabase/cart created (dry run)\n");
    let ran = hub.run(&apply, YAML).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(lines(&hub), [&*get, create, &*get, &*replace]);
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_sends_nothing_if_one_document_is_wrong_and_no_secret_ever() {
    let hub = Hub::start().await;
    let wrong = format!(
        "{YAML}---\n{}",
        YAML.replace("participatingClusters:", "participants:")
    );
    let ran = hub.run(&["apply", "-f", "-"], &wrong).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("document 2"), "{ran:?}");

    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n";
    let ran = hub.run(&["apply", "-f", "-"], secret).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("secret/s was not sent"), "{ran:?}");
    assert_eq!(lines(&hub), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_confirmed_and_waits_until_the_database_is_gone() {
    let hub = Hub::start().await;
    let ran = hub.run(&["delete", "reaadb", "cart"], "cart\n").await;
    assert_eq!(ran.code, 2, "nobody can be asked on a pipe: {ran:?}");
    assert_eq!(lines(&hub), Vec::<String>::new());

    let delete = format!("DELETE {DATABASE}?confirm=cart");
    let get = format!("GET {DATABASE}");
    hub.answers(&delete, 202, stored("7", "eu-1"))
        .answers(&get, 200, stored("7", "eu-1"))
        .answers(&get, 404, problem(404, "gone"));
    let ran = hub
        .run(&["delete", "reaadb", "cart", "--yes", "--wait"], "")
        .await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "activeactivedatabase/cart deleted\n"),
        "{ran:?}"
    );
    assert_eq!(lines(&hub), [delete.as_str(), get.as_str(), get.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_does_not_end_is_reported_and_not_taken_for_done() {
    let hub = Hub::start().await;
    hub.answers(
        &format!("DELETE {DATABASE}?confirm=cart"),
        202,
        stored("7", "eu-1"),
    )
    .answers(&format!("GET {DATABASE}"), 200, stored("7", "eu-1"));
    let ran = hub
        .run(
            &[
                "delete",
                "reaadb",
                "cart",
                "--yes",
                "--wait",
                "--timeout",
                "1s",
            ],
            "",
        )
        .await;
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("still being deleted"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_adopted_only_on_a_clear_word() {
    let hub = Hub::start().await;
    let observes = json!({ "mode": "observes", "doubts": [{ "raisedBy": "eu-1", "reason": "r" }] });
    hub.answers("GET /api/v1/hub", 200, observes).answers(
        "POST /api/v1/hub/adopt",
        200,
        json!({ "mode": "decides", "doubts": [] }),
    );

    let ran = hub.run(&["hub", "adopt"], "").await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("--yes"), "{ran:?}");
    assert_eq!(lines(&hub), ["GET /api/v1/hub"], "nothing was adopted");

    let ran = hub.run(&["hub", "adopt", "--yes"], "").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("decides"), "{ran:?}");
    assert_eq!(lines(&hub).last().unwrap(), "POST /api/v1/hub/adopt");
}
