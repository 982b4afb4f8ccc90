//! Clusters that go, in order and for good.

use super::*;

const LOSE: &str = "POST /api/v1/clusters/eu-1/lose";

fn lost() -> Value {
    json!({ "name": "eu-1", "declaredAt": "2026-01-01T00:00:00Z", "declaredBy": "alice", "databases": ["cart"],
            "residue": [{ "namespace": "redis", "kind": "ActiveActiveInstance", "name": "cart", "holds": "orders",
                          "remove": "kubectl -n redis delete activeactiveinstance cart" }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cluster_is_shown_before_it_is_given_up_and_listed_afterwards() {
    let hub = Hub::start().await;
    hub.answers(&format!("{LOSE}?dryRun=All"), 200, lost());
    hub.answers(&format!("{LOSE}?confirm=eu-1"), 200, lost());
    hub.answers(
        "GET /api/v1/lostclusters",
        200,
        json!({ "items": [lost()] }),
    );

    let tried = hub
        .run(&["cluster", "remove", "eu-1", "--lost", "--dry-run"], "")
        .await;
    assert_eq!(tried.code, 0, "{tried:?}");
    assert!(
        tried
            .stdout
            .starts_with("cluster/eu-1 would be declared lost\n"),
        "{tried:?}"
    );
    assert!(
        tried
            .stdout
            .contains("kubectl -n redis delete activeactiveinstance cart"),
        "{tried:?}"
    );
    assert_eq!(lines(&hub), [format!("{LOSE}?dryRun=All")]);

    let unasked = hub.run(&["cluster", "remove", "eu-1", "--lost"], "").await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(
        unasked.stderr.contains("cannot be taken back"),
        "{unasked:?}"
    );
    assert!(
        lines(&hub).iter().all(|line| !line.contains("confirm")),
        "nothing was done"
    );

    let done = hub
        .run(&["cluster", "remove", "eu-1", "--lost", "--yes"], "")
        .await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stdout.contains("by alice") && done.stdout.contains("cart"),
        "{done:?}"
    );
    let listed = hub.run(&["cluster", "lost"], "").await;
    assert_eq!(listed.stdout, done.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_waits_as_long_as_it_was_asked_to_and_says_for_what() {
    let hub = Hub::start().await;
    let path = "DELETE /api/v1/clusters/eu-1?confirm=eu-1";
    hub.answers(
        path,
        409,
        problem(409, "it has not confirmed that cart is gone"),
    );
    let waits = [
        "cluster",
        "remove",
        "eu-1",
        "--yes",
        "--wait",
        "--timeout",
        "1s",
    ];
    let ran = hub.run(&waits, "").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(
        ran.stderr
            .matches("it has not confirmed that cart is gone")
            .count(),
        2,
        "{ran:?}"
    );
    assert!(lines(&hub).len() > 1, "it tried again");
    let ran = hub.run(&["cluster", "remove", "eu-1", "--yes"], "").await;
    assert_eq!(ran.code, 4, "{ran:?}");
}
