use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures::{StreamExt as _, stream};
use http::Response;
use kube::{
    client::Body,
    core::DeserializeGuard,
    runtime::{reflector, watcher},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    controllers::failover::Moves,
    k8s::{drive::Report, events::Events, own::ROLE_NODE, testing, touched::Touched},
};

const PLACE: &str = "/namespaces/ns/";

/// An API server that keeps objects by their path, and what it was asked as `METHOD plural`.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    asked: Vec<String>,
}

impl Server {
    fn put(&self, group: &str, plural: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let path = format!("{group}{PLACE}{plural}/{name}");
        self.0.lock().unwrap().objects.insert(path, object);
    }

    fn client(&self) -> crate::k8s::apply::Objects {
        let (objects, server) = testing::objects();
        let kept = self.clone();
        tokio::spawn(async move {
            let mut server = std::pin::pin!(server);
            while let Some((request, send)) = server.as_mut().next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, found) = kept.answer(parts.method.as_str(), parts.uri.path(), &body);
                let text = serde_json::to_vec(&found).unwrap();
                let response = Response::builder().status(code).body(Body::from(text));
                send.send_response(response.unwrap());
            }
        });
        objects
    }

    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut kept = self.0.lock().unwrap();
        let path = path.trim_end_matches("/status");
        let below = path.split_once(PLACE).unwrap().1;
        let plural = below.split('/').next().unwrap();
        let list = !below.contains('/') && method == "GET";
        let verb = if list { "LIST" } else { method };
        kept.asked.push(format!("{verb} {plural}"));
        let at = match body["metadata"]["name"]
            .as_str()
            .filter(|_| method == "POST")
        {
            Some(name) => format!("{path}/{name}"),
            None => path.to_owned(),
        };
        match method {
            "GET" if list => {
                let under = format!("{path}/");
                let found = kept.objects.iter().filter(|(at, _)| at.starts_with(&under));
                let items: Vec<_> = found.map(|(_, found)| found.clone()).collect();
                let list =
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
                (200, list)
            }
            "GET" => match kept.objects.get(&at) {
                Some(found) => (200, found.clone()),
                None => (
                    404,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": path}),
                ),
            },
            _ => {
                let kind = plural.to_owned();
                let found = kept.objects.entry(at).or_insert(json!({"kind": kind}));
                merge(found, body);
                found["metadata"]["uid"] = json!("u");
                (200, found.clone())
            }
        }
    }

    /// What was asked since this was called last, counted.
    fn asked(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for one in std::mem::take(&mut self.0.lock().unwrap().asked) {
            *counts.entry(one).or_default() += 1;
        }
        counts
    }

    fn databases(&self) -> Vec<RedisEnterpriseDatabase> {
        let kept = self.0.lock().unwrap();
        let under = format!("{REDBS}{PLACE}redisenterprisedatabases/");
        let found = kept.objects.iter().filter(|(at, _)| at.starts_with(&under));
        found
            .map(|(_, found)| serde_json::from_value(found.clone()).unwrap())
            .collect()
    }
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

const REDBS: &str = "/apis/app.redislabs.com/v1alpha1";

/// A REC with three nodes and `count` databases that nobody has looked at yet.
fn world(count: usize) -> (Databases, Server) {
    let server = Server::default();
    let rec = json!({"metadata": {"name": "rec", "uid": "u"}, "spec": {}});
    server.put("/apis/app.redislabs.com/v1", "redisenterpriseclusters", rec);
    let users = json!({"metadata": {"name": "rec-users", "uid": "u", "labels": Owner::cluster("rec").labels()}});
    server.put("/api/v1", "secrets", users);
    for n in 0..3 {
        let labels = json!({ROLE_NODE.0: ROLE_NODE.1});
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let pod = json!({"metadata": {"name": format!("rec-{n}"), "labels": labels}, "spec": {"containers": []},
                         "status": {"conditions": ready}});
        server.put("/api/v1", "pods", pod);
    }
    for n in 0..count {
        let redb = json!({"metadata": {"name": format!("db-{n}"), "namespace": "ns", "uid": "u", "generation": 1},
                          "spec": {"redisEnterpriseCluster": {"name": "rec"}}});
        server.put(REDBS, "redisenterprisedatabases", redb);
    }
    let objects = server.client();
    let report = Report {
        events: Events::new(objects.client(), "a"),
        metrics: Arc::default(),
    };
    let (image, stop) = (String::new(), CancellationToken::new());
    let context = Context::new(objects, report, image, stop, Moves::default());
    (Databases { context }, server)
}

/// Looks at every database, as many at a time as the controller does; what that asked of the API server.
async fn look_at_all(databases: &Databases, server: &Server) -> BTreeMap<String, usize> {
    let all = server.databases();
    stream::iter(&all)
        .for_each_concurrent(8, async |redb| {
            databases.look(redb).await.unwrap();
        })
        .await;
    server.asked()
}

/// A list of topologies is as long as there are databases: a list for each makes their square.
#[tokio::test(start_paused = true)]
async fn what_a_database_costs_does_not_grow_with_the_databases_that_are_made_beside_it() {
    let mut first = None;
    for count in [10, 50, 200] {
        let (databases, server) = world(count);
        let mut created = look_at_all(&databases, &server).await;
        assert_eq!(
            created.remove("LIST databasetopologies"),
            Some(1),
            "{count}"
        );
        assert_eq!(created.get("POST databasetopologies"), Some(&count));
        let each: BTreeMap<String, f64> = created
            .into_iter()
            .map(|(what, times)| (what, times as f64 / count as f64))
            .collect();
        let before = first.get_or_insert_with(|| each.clone());
        assert_eq!(each, *before, "of each of {count}");
        // The port of the new topology goes into the Secret.
        look_at_all(&databases, &server).await;
        let rest = look_at_all(&databases, &server).await;
        let written = rest
            .keys()
            .any(|what| !what.starts_with("GET ") && !what.starts_with("LIST "));
        assert!(
            !written,
            "nothing changed and something is written: {rest:?}"
        );
        let each = rest.values().sum::<usize>() / count;
        assert!(
            each <= 12,
            "{each} requests of each look of {count}: {rest:?}"
        );
        assert_eq!(rest.get("LIST databasetopologies"), None);
        let mut ports: Vec<i32> = server
            .0
            .lock()
            .unwrap()
            .objects
            .iter()
            .filter(|(at, _)| at.contains("/databasetopologies/"))
            .map(|(_, found)| serde_json::from_value(found["spec"]["port"].clone()).unwrap())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count, "a port was given twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_whose_port_another_has_is_woken_when_that_one_goes() {
    let (databases, server) = world(0);
    let (store, mut writer) = reflector::store();
    for name in ["a", "b"] {
        let redb = json!({"metadata": {"name": name, "namespace": "ns", "uid": "u", "generation": 1},
                          "spec": {"redisEnterpriseCluster": {"name": "rec"}, "databasePort": 12_000}});
        server.put(REDBS, "redisenterprisedatabases", redb.clone());
        let redb: DeserializeGuard<RedisEnterpriseDatabase> = serde_json::from_value(redb).unwrap();
        writer.apply_watcher_event(&watcher::Event::Apply(redb));
    }
    let refused = &databases.context.ledger.refused;
    let helped = refused.helped_by::<RedisEnterpriseDatabase>("ns", store);
    let woken = |touched| helped(&touched).into_iter().map(|one| one.name).collect();
    let [first, second] = server.databases().try_into().unwrap();
    databases.look(&first).await.unwrap();
    let taken = databases.look(&second).await.unwrap_err();
    assert!(
        taken.to_string().contains("port of database `a`"),
        "{taken}"
    );

    let path = format!("/apis/meridian.dev/v1alpha1{PLACE}databasetopologies/a");
    let topology = server.0.lock().unwrap().objects.remove(&path).unwrap();
    let topology = serde_json::from_value(topology).unwrap();
    let nobody: Vec<String> = woken(Touched::Is(topology));
    assert!(nobody.is_empty(), "{nobody:?}");
    let woken: Vec<String> = woken(Touched::Gone("a".to_owned()));
    assert_eq!(woken, ["b"]);
    databases.look(&second).await.unwrap();
}

#[test]
fn a_database_is_served_by_the_cluster_that_it_names_and_stays_there() {
    let told = |spec: Value, status: Value| {
        let redb = json!({"metadata": {"name": "db"}, "spec": spec, "status": status});
        let redb: RedisEnterpriseDatabase = serde_json::from_value(redb).unwrap();
        chosen(&redb).map(|cluster| cluster.name)
    };
    let named = json!({"redisEnterpriseCluster": {"name": "a"}});
    let shown = json!({"redisEnterpriseCluster": "b"});
    assert_eq!(told(named.clone(), json!({})).as_deref(), Some("a"));
    assert_eq!(told(named, shown.clone()).as_deref(), Some("a"));
    assert_eq!(
        told(json!({}), shown).as_deref(),
        Some("b"),
        "another cluster that appears changes nothing"
    );
    assert_eq!(told(json!({}), json!({})), None);
}
