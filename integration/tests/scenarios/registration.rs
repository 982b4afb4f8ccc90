//! Removing a cluster's registration touches nothing in that cluster, and the cluster may join again.

use std::time::Duration;

use meridian_integration::{
    demo::DATABASE,
    stack::{Cluster, Region, Stack},
};

use crate::{
    load::Writer,
    support::{SOON, database, deleted, fingerprint, gone, object, said_again, stack, times_said},
};

/// A database of one cluster alone.
const LOCAL: &str = "local-only";
/// Reason of the Event with which an agent says that it is no member any more.
const REMOVED: &str = "MembershipRemoved";
/// How long a cluster may take from new join material to Connected.
const JOINED: Duration = Duration::from_secs(90);

/// The last cluster, with a local database that holds a key and is under load.
struct Member {
    cluster: Cluster,
    region: Region,
    load: Writer,
}

impl Member {
    async fn make(stack: &Stack) -> Self {
        let cluster = stack.clusters.last().expect("clusters").clone();
        cluster
            .apply(&format!(
                "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\n\
                 metadata: {{name: {LOCAL}}}\nspec: {{memorySize: 100MB}}\n"
            ))
            .unwrap();
        active(&cluster).await;
        let password = cluster.must(
            &[
                "get",
                "secret",
                &format!("redb-{LOCAL}"),
                "-o",
                "go-template={{.data.password | base64decode}}",
            ],
            "",
        );
        let region = cluster.region(LOCAL, &password.unwrap(), SOON).await;
        let region = region.unwrap();
        meridian_integration::demo::answers(std::slice::from_ref(&region))
            .await
            .unwrap();
        region.run::<String>("SET kept yes").await.unwrap();
        let load = Writer::start(&region, "load").await.unwrap();
        Self {
            cluster,
            region,
            load,
        }
    }

    /// The database holds what was written and takes writes.
    async fn serves(&self) {
        self.load.progress(50).await.unwrap();
        let kept: String = self.region.run("GET kept").await.unwrap();
        assert_eq!(kept, "yes");
    }

    /// The agent is still the operator of this cluster: it carries out a change of the database.
    async fn is_operated(&self, memory: &str) {
        let patch = format!("{{\"spec\":{{\"memorySize\":\"{memory}\"}}}}");
        self.cluster
            .must(&["patch", "redb", LOCAL, "--type=merge", "-p", &patch], "")
            .unwrap();
        // As Valkey reads it: a MB is 2^20 bytes.
        let bytes = memory.trim_end_matches("MB").parse::<i64>().unwrap() << 20;
        let carried_out = |o: &serde_json::Value| o["spec"]["memoryBytes"] == bytes;
        object(&self.cluster, "dbtopo", LOCAL, memory, carried_out)
            .await
            .unwrap();
    }
}

async fn active(cluster: &Cluster) {
    object(cluster, "redb", LOCAL, "status active", |o| {
        o["status"]["status"] == "active"
    })
    .await
    .unwrap();
}

fn registered(stack: &Stack, name: &str) -> bool {
    let list = stack.hub.get(&["cluster", "list"]).unwrap();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.iter().any(|c| c["metadata"]["name"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_takes_part_in_a_database_is_not_removed_and_the_refusal_names_it() {
    let stack = stack().await;
    database(stack, DATABASE).await.unwrap();
    let before = fingerprint(stack);
    let name = &stack.clusters[0].name;
    let refused = stack
        .hub
        .cli(&["cluster", "remove", name, "--yes"])
        .unwrap();
    assert_eq!(refused.code, 4, "refused by the hub: {refused:?}");
    for part in [DATABASE, "meridian delete activeactivedatabase"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(registered(stack, name));
    assert_eq!(before, fingerprint(stack));
}

/// The databases over all clusters go first, and are made again at the end: the stack is left as it was found.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_cluster_keeps_its_databases_and_joins_again_with_a_new_token() {
    let stack = stack().await;
    database(stack, DATABASE).await.unwrap();
    deleted(stack, DATABASE).await.unwrap();
    let member = Member::make(stack).await;
    let name = member.cluster.name.clone();
    let before = fingerprint(stack);
    let identity = member.cluster.get("secret", "meridian-identity").unwrap();
    let identity = identity.expect("the agent's identity");

    let said = times_said(&member.cluster, REMOVED).unwrap();
    stack
        .hub
        .must(&["cluster", "remove", &name, "--yes"], "")
        .unwrap();
    assert!(!registered(stack, &name));
    said_again(&member.cluster, REMOVED, said).await.unwrap();
    member.serves().await;
    assert_eq!(before, fingerprint(stack), "nothing in the cluster changed");
    let kept = member.cluster.get("secret", "meridian-identity").unwrap();
    assert_eq!(
        identity["data"]["device.key"],
        kept.expect("the agent's identity")["data"]["device.key"]
    );
    member.is_operated("120MB").await;
    member.is_operated("100MB").await;
    assert!(
        !registered(stack, &name),
        "nothing brings it back but a token"
    );

    let material = stack.hub.must(&["token", "create", &name], "").unwrap();
    member.cluster.apply(&material).unwrap();
    stack.hub.connected(&name, JOINED).await.unwrap();
    member.serves().await;

    let log = member.load.finish().await.unwrap();
    assert_eq!(log.errors, Vec::<String>::new(), "clients noticed");
    member
        .cluster
        .must(&["delete", "redb", LOCAL, "--timeout=60s"], "")
        .unwrap();
    gone(&member.cluster, "dbtopo", LOCAL).await.unwrap();
    database(stack, DATABASE).await.unwrap();
}
