//! Deleting: what is confirmed leaves nothing behind, what is not confirmed touches no data.

use meridian_integration::stack::{Cluster, NAMESPACE, Stack};
use serde_json::Value;

use crate::support::{Database, database, database_of, deleted, gone, manifest, object, stack};

/// Kinds that an Active-Active database makes on a member.
const MADE: &[&str] = &["reaadb", "aai", "dbtopo", "service", "endpointslice"];

fn leftovers(cluster: &Cluster, name: &str) -> Vec<String> {
    let belongs = |object: &Value| {
        let found = object["metadata"]["name"].as_str().unwrap_or_default();
        found == name || found.starts_with(&format!("{name}-"))
    };
    let mut found = Vec::new();
    for kind in MADE {
        for object in cluster.list(kind).unwrap().iter().filter(|o| belongs(o)) {
            found.push(format!(
                "{}: {kind} {}",
                cluster.name, object["metadata"]["name"]
            ));
        }
    }
    found
}

/// A database whose first participant is looked for by its peers at a port of its own, behind the REC's load balancer.
async fn at_another_port(stack: &Stack, name: &str) -> Database {
    const PORT: u16 = 8443;
    let (first, other) = (&stack.clusters[0], &stack.clusters[1]);
    let participant = format!("    - name: {}\n", first.name);
    let ported = format!("{participant}      externalReplicationPort: {PORT}\n");
    let yaml = manifest(stack, name).replace(&participant, &ported);
    // It is up where all links are.
    let database = database_of(stack, name, &yaml).await.unwrap();
    let topology = other.get("dbtopo", name).unwrap().expect("it is up");
    let members = topology["spec"]["activeActive"]["members"].as_array();
    let endpoints = members.into_iter().flatten().filter_map(|member| {
        let endpoint = member["endpoint"].as_str()?;
        (member["name"] == first.name.as_str()).then(|| endpoint.to_owned())
    });
    let endpoints: Vec<String> = endpoints.collect();
    let ported = |endpoint: &String| endpoint.ends_with(&format!(":{PORT}"));
    assert!(
        endpoints.len() == 1 && endpoints.iter().all(ported),
        "{endpoints:?}"
    );
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_deletion_leaves_nothing_behind() {
    let stack = stack().await;
    let Database { name, regions } = at_another_port(stack, "shortlived").await;
    regions[0].run::<String>("SET last word").await.unwrap();
    let refused = stack
        .hub
        .cli(&["delete", "activeactivedatabase", &name])
        .unwrap();
    assert_ne!(
        refused.code, 0,
        "without a confirmation nothing is deleted: {}",
        refused.stdout
    );
    for cluster in &stack.clusters {
        assert!(
            cluster.get("reaadb", &name).unwrap().is_some(),
            "{}",
            cluster.name
        );
    }

    deleted(stack, &name).await.unwrap();
    for cluster in &stack.clusters {
        for kind in MADE {
            gone(cluster, kind, &name).await.unwrap();
        }
        assert_eq!(leftovers(cluster, &name), Vec::<String>::new());
        let users = cluster
            .get("secret", "rec-users")
            .unwrap()
            .expect("the REC's users");
        assert!(
            users["data"][&name].is_null(),
            "{}: its user is gone",
            cluster.name
        );
    }
    let list = stack.hub.get(&["get", "activeactivedatabase"]).unwrap();
    let left = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .any(|o| o["metadata"]["name"] == name.as_str());
    assert!(!left, "the hub has forgotten it: {list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_deletes_alone_keeps_its_data() {
    let stack = stack().await;
    let Database { name, regions } = database(stack, "stubborn").await.unwrap();
    regions[0].run::<String>("SET kept yes").await.unwrap();
    let cluster = &stack.clusters[0];
    let before = cluster.get("reaadb", &name).unwrap().expect("the REAADB");
    cluster
        .must(
            &["delete", "reaadb", &name, "--wait=false", "-n", NAMESPACE],
            "",
        )
        .unwrap();

    let waited = object(
        cluster,
        "reaadb",
        &name,
        "there again, or held by its finalizer with a reason",
        |now| {
            let recreated = now["metadata"]["uid"] != before["metadata"]["uid"];
            let held = !now["metadata"]["deletionTimestamp"].is_null()
                && now["status"].to_string().contains("hub");
            recreated || held
        },
    );
    waited.await.unwrap();
    assert_eq!(regions[0].run::<String>("GET kept").await.unwrap(), "yes");
    assert!(
        cluster.get("dbtopo", &name).unwrap().is_some(),
        "nothing of the data path is touched"
    );

    deleted(stack, &name).await.unwrap();
}
