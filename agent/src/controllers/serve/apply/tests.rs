use http::Method;
use meridian_api::crds::{
    RedisEnterpriseDatabase, shared::Persistence, topology::DatabaseReference,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::controllers::failover::Moves;
use crate::k8s::{
    drive::{Failure as _, Report},
    events::Events,
    fault::Fault,
    testing::{self, answer, objects},
};

const KIND: &str = "RedisEnterpriseDatabase";

fn wanted(namespace: &str) -> Wanted {
    Wanted {
        database: DatabaseReference {
            kind: KIND.to_owned(),
            namespace: namespace.to_owned(),
            name: "db".to_owned(),
            uid: "u1".to_owned(),
        },
        cluster: "rec".to_owned(),
        port: None,
        memory_bytes: 100,
        eviction_policy: "noeviction".to_owned(),
        persistence: Persistence::AofEverySecond,
        tls: None,
        replication: false,
        active_active: None,
    }
}

/// A topology of the REDB `ns/db`.
fn held() -> serde_json::Value {
    json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
        "metadata": {"name": "db", "uid": "T", "generation": 1, "resourceVersion": "41"},
        "spec": {"database": {"kind": KIND, "namespace": "ns", "name": "db", "uid": "U"}, "cluster": "rec",
                 "epoch": 1, "port": 10000, "memoryBytes": 100, "evictionPolicy": "noeviction",
                 "persistence": "aofEverySecond", "replication": false,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0"}]},
    })
}

fn list(items: &[serde_json::Value]) -> (u16, serde_json::Value) {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    (200, list)
}

#[tokio::test]
async fn nothing_is_written_for_a_database_whose_name_another_was_given_meanwhile() {
    let (objects, server) = objects();
    let report = Report {
        events: Events::new(objects.client(), "a"),
        metrics: std::sync::Arc::default(),
    };
    let context = Context::new(
        objects,
        report,
        String::new(),
        CancellationToken::new(),
        Moves::default(),
    );
    // The topology and the pods: as they stand once it is this database's turn.
    let answers = vec![(200, held()), list(&[])];
    let asked = tokio::spawn(answer(server, answers));
    let mut intruder = RedisEnterpriseDatabase::new("db", Default::default());
    intruder.metadata.namespace = Some("team-b".to_owned());
    let owner = Owner::database("rec", "team-b", "db");
    let credential = Credential::Ours {
        secret: "redb-db".to_owned(),
        password: b"of the intruder".to_vec(),
    };
    let before = World::default();
    let side = Local {
        owner: &owner,
        wanted: &wanted("team-b"),
        credential: &credential,
        access: &Access::default(),
        has_served: false,
    };
    let refused = local(&context, &intruder, &side, &before)
        .await
        .unwrap_err();
    drop(context);
    assert_eq!(refused.fault(), Fault::Foreign);
    assert!(refused.to_string().contains("`ns/db` has it"), "{refused}");
    let asked = asked.await.unwrap();
    assert!(
        asked.len() == 2 && asked.iter().all(|(method, ..)| method == Method::GET),
        "the password of the one that has the name stays: {asked:?}"
    );
}

#[test]
fn the_secret_of_a_database_is_golden_before_and_after_it_has_a_port() {
    let owner = Owner::database("rec", "ns", "db");
    let services = ["db".to_owned(), "db-headless".to_owned()];
    let before = secret(&owner, "ns", "redb-db", b"word", None, &[]);
    let after = secret(&owner, "ns", "redb-db", b"word", Some(12_000), &services);
    testing::golden("controllers/serve/golden/secret", &json!([before, after]));
}
