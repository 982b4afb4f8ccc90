//! Beside another operator's definitions, and before those of this release are installed, on a real API server: what it keeps,
//! drops, refuses and calls a conflict decides here, and nothing that is played could show it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers, too"
)]

#[path = "beside_vendor/server.rs"]
mod server;

use meridian_api::{
    crds::all_crds,
    installation::{SHARED, lacking},
};
use serde_json::{Value, json};
use server::{NAMESPACE, Server, root};

/// Our definitions as another operator would have installed those that it knows as well: no conditions, no rules and no labels of
/// ours, other words in descriptions.
fn theirs() -> Vec<Value> {
    let all = all_crds().unwrap().into_iter().map(|crd| json!(crd));
    let mut shared: Vec<Value> = all
        .filter(|crd| SHARED.contains(&crd["metadata"]["name"].as_str().unwrap()))
        .collect();
    for crd in &mut shared {
        crd["metadata"]["labels"] = json!({"app": "another-operator"});
        crd["metadata"]["annotations"] = json!({"another-operator/version": "8.0"});
        for version in crd["spec"]["versions"].as_array_mut().unwrap() {
            let schema = &mut version["schema"]["openAPIV3Schema"];
            schema["description"] = json!("as another operator describes it");
            lacking::remove(schema, "properties.status.properties.conditions");
            without_rules(schema);
        }
    }
    shared
}

fn without_rules(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What must not change of an object.
fn identity(object: &Value) -> Value {
    let meta = &object["metadata"];
    json!([
        meta["uid"],
        meta["resourceVersion"],
        meta["managedFields"],
        object["spec"],
        object["data"]
    ])
}

fn definitions(server: &Server) -> Vec<Value> {
    SHARED
        .into_iter()
        .map(|name| identity(&server.get("crd", name)))
        .collect()
}

fn created(server: &Server, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    server.must(
        &["create", "--field-manager=another-operator", "-f", "-"],
        &list,
    );
}

fn applied(server: &Server, yaml: &str) {
    server.must(&["apply", "-f", "-"], yaml);
}

fn says(text: &str, expected: &str) {
    assert!(text.contains(expected), "expected {expected:?} in:\n{text}");
}

/// Waits until the API server serves every definition that it has.
async fn all_served(server: &Server) {
    let served = "wait --for=condition=Established --timeout=1s crd --all";
    let words: Vec<&str> = served.split(' ').collect();
    server
        .until("every definition is served", || {
            server.kubectl(&words, "").code == 0
        })
        .await;
}

fn install_agent(server: &Server) {
    let bundle = root().join("deploy/bundle/agent.yaml");
    server.must(&["apply", "-f", bundle.to_str().unwrap()], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_another_operator_everything_of_it_stays_and_what_is_ours_is_served_and_told() {
    let server = Server::start().await;
    let free = server.preflight(&[]);
    assert_eq!(free.code, 0, "{}", free.stderr);
    created(&server, &theirs());
    all_served(&server).await;
    let before = definitions(&server);
    definitions_are_never_overwritten(&server, &free.stdout);
    assert_eq!(definitions(&server), before, "not a byte of theirs");

    install_agent(&server);
    let foreign = foreign_objects(&server);
    let agent = server.agent("localhost/meridian-node:dev");
    names_that_are_taken_stay_with_their_owner(&server, &foreign).await;
    databases_are_served_under_their_definitions(&server).await;
    says(&agent.readyz(), "[+] definitions");
    drop(agent);
    databases_wait_for_another_release(&server).await;
    assert_eq!(definitions(&server), before, "not a byte of theirs");
}

/// `free` is what preflight said while there was nothing.
fn definitions_are_never_overwritten(server: &Server, free: &str) {
    let refused = server.preflight(&[]);
    assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
    for name in SHARED {
        says(
            &refused.stderr,
            &format!("the definition {name} is not ours; it keeps no status.conditions"),
        );
    }
    says(&refused.stderr, "--beside-vendor");

    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let documented = readme
        .lines()
        .find(|line| line.contains("-f deploy/crds "))
        .unwrap();
    let documented = documented
        .split('#')
        .next()
        .unwrap()
        .replace(" --context eu-1", "");
    assert_eq!(
        documented.trim(),
        free.trim(),
        "the README shows what preflight prints"
    );
    for line in [free, &documented] {
        let out = server.line(line);
        assert_ne!(out.code, 0, "{}", out.stdout);
        for name in SHARED {
            says(
                &out.stderr,
                "\"another-operator\" using apiextensions.k8s.io/v1",
            );
            assert!(!out.stdout.contains(name), "{} was written", name);
        }
    }
    let beside = server.preflight(&["--beside-vendor"]);
    assert_eq!(beside.code, 0, "{}", beside.stderr);
    let command = beside.stdout.lines().last().unwrap();
    let out = server.line(command);
    assert_eq!(out.code, 0, "{command}: {}", out.stderr);
    let after = server.preflight(&[]);
    assert_eq!(after.code, 4, "theirs are still not ours");
    let again = server.preflight(&["--beside-vendor"]);
    assert_eq!(server.line(again.stdout.lines().last().unwrap()).code, 0);
}

/// A StatefulSet, a Service and a Secret of another operator, named as ours would be for the REC `taken`.
fn foreign_objects(server: &Server) -> Vec<(&'static str, Value)> {
    let meta = json!({"name": "taken", "namespace": NAMESPACE, "labels": {"app": "another-operator", "redis.io/cluster": "taken"}});
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "theirs"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let objects = [
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta,
               "spec": {"serviceName": "taken", "selector": selector, "template": pod}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": {"a": "b"}, "ports": [{"port": 9443}]}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"password": "theirs"}}),
    ];
    created(server, &objects);
    ["statefulset", "service", "secret"]
        .map(|kind| (kind, identity(&server.get(kind, "taken"))))
        .to_vec()
}

async fn names_that_are_taken_stay_with_their_owner(server: &Server, foreign: &[(&str, Value)]) {
    applied(
        server,
        "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {name: taken}\nspec: {nodes: 3}\n",
    );
    server
        .until("that a name is taken is shown and told", || {
            let state = &server.get("rec", "taken")["status"]["state"];
            *state == "Error" && !server.notes("ForeignObject", "taken").is_empty()
        })
        .await;
    let told = server.notes("ForeignObject", "taken");
    says(&told.concat(), "`taken` exists and is not ours");
    let shown = server.get("rec", "taken");
    assert!(
        shown["status"]["conditions"].is_null(),
        "their definition keeps none: {shown}"
    );
    server
        .until("what its conditions would say is told", || {
            server
                .notes("ConditionsNotKept", "taken")
                .concat()
                .contains("ForeignObject")
        })
        .await;
    for (kind, before) in foreign {
        assert_eq!(
            identity(&server.get(kind, "taken")),
            *before,
            "{kind} `taken` was touched"
        );
    }
    server.must(&["delete", "rec", "taken", "--wait=false"], "");
    server
        .until("the REC is let go", || server.get("rec", "taken").is_null())
        .await;
    for (kind, before) in foreign {
        assert_eq!(
            identity(&server.get(kind, "taken")),
            *before,
            "{kind} `taken` was touched by the deletion"
        );
    }
}

async fn databases_are_served_under_their_definitions(server: &Server) {
    applied(
        server,
        "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {name: own}\nspec: {nodes: 3}\n",
    );
    server
        .until("the cluster has its StatefulSet and its words", || {
            let rec = server.get("rec", "own");
            !server.get("statefulset", "own").is_null() && rec["status"]["specStatus"] == "Valid"
        })
        .await;
    play_pods(server);
    applied(
        server,
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\nmetadata: {name: db}\n\
         spec: {memorySize: 100MB, redisEnterpriseCluster: {name: own}}\n",
    );
    server
        .until(
            "the database has its topology, and is not served yet",
            || {
                let word = &server.get("redb", "db")["status"]["status"];
                *word == "pending" && !server.get("databasetopology", "db").is_null()
            },
        )
        .await;
    server
        .until("what its conditions would say is told", || {
            let told = server.notes("ConditionsNotKept", "db");
            told.concat().contains("Ready is False (NotReported)")
        })
        .await;
    play_report(server);
    server
        .until("the database is active and has its Service", || {
            let status = server.get("redb", "db")["status"].clone();
            let word = status["status"] == "active" && status["databaseUID"].is_string();
            word && !server.get("service", "db").is_null()
        })
        .await;
}

/// What the node of the primary says once it serves.
fn play_report(server: &Server) {
    let topology = server.get("databasetopology", "db");
    let (meta, primary) = (
        &topology["metadata"],
        &topology["spec"]["shards"][0]["primary"],
    );
    let shard = json!({"id": 0, "role": "primary", "ready": true, "writable": true, "port": topology["spec"]["port"]});
    let report = json!({"status": {"members": [{
        "node": primary, "topologyUid": meta["uid"], "epoch": topology["spec"]["epoch"], "generation": meta["generation"],
        "asOf": jiff::Timestamp::now().to_string(), "shards": [shard],
    }]}});
    let words = "patch databasetopology db --subresource=status --type=merge -p";
    let mut words: Vec<&str> = words.split(' ').collect();
    let report = report.to_string();
    words.push(&report);
    server.must(&words, "");
}

/// The pods that nobody makes here, as they would be once they serve.
fn play_pods(server: &Server) {
    let template = server.get("statefulset", "own")["spec"]["template"].clone();
    for n in 0..3 {
        let mut pod = template.clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(format!("own-{n}"));
        for container in pod["spec"]["containers"].as_array_mut().unwrap() {
            // No StatefulSet controller makes the claims.
            container["volumeMounts"] = json!([]);
        }
        pod["spec"]["nodeName"] = json!(format!("host-{n}"));
        server.must(&["create", "-f", "-"], &pod.to_string());
        let address = format!("10.0.0.{}", n + 1);
        let ready = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]}});
        let name = format!("own-{n}");
        let args = [
            "patch",
            "pod",
            &name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &ready.to_string(),
        ];
        server.must(&args, "");
    }
}

async fn databases_wait_for_another_release(server: &Server) {
    let asked =
        |server: &Server| server.get("databasetopology", "db")["spec"]["memoryBytes"].clone();
    let (set, bytes) = (server.get("statefulset", "own"), asked(server));
    let agent = server.agent("localhost/meridian-node:99.0.0");
    server
        .until("the newer agent says that changes wait", || {
            !server.notes("Suspended", "own").is_empty()
        })
        .await;
    let rec = server.get("rec", "own");
    assert!(
        rec["status"]["conditions"].is_null(),
        "no condition could say it: {rec}"
    );
    server.must(
        &[
            "patch",
            "redb",
            "db",
            "--type=merge",
            "-p",
            r#"{"spec": {"memorySize": "200MB"}}"#,
        ],
        "",
    );
    server
        .until("the database says what it waits for", || {
            server
                .notes("ConditionsNotKept", "db")
                .concat()
                .contains("release")
        })
        .await;
    assert_eq!(asked(server), bytes, "its nodes are told nothing");
    let now = server.get("statefulset", "own");
    assert_eq!(now["spec"], set["spec"], "its pods stay as they are");
    drop(agent);
}

/// Installs our definitions as an older release would have had them: without some fields.
async fn install_older_definitions(server: &Server) {
    let mut all: Vec<Value> = all_crds()
        .unwrap()
        .into_iter()
        .map(|crd| json!(crd))
        .collect();
    for crd in &mut all {
        for version in crd["spec"]["versions"].as_array_mut().unwrap() {
            let schema = &mut version["schema"]["openAPIV3Schema"];
            lacking::remove(schema, "properties.spec.properties.placement");
            lacking::remove(schema, "properties.spec.properties.shardsPlacement");
            lacking::remove(
                schema,
                "properties.status.properties.bundledDatabaseVersions",
            );
            lacking::remove(schema, "properties.status.properties.modules");
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string();
    let apply = [
        "apply",
        "--server-side",
        "--field-manager=meridian",
        "-f",
        "-",
    ];
    server.must(&apply, &list);
    all_served(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_newer_than_the_definitions_says_which_fields_are_lost_and_what_to_do() {
    let server = Server::start().await;
    install_older_definitions(&server).await;
    install_agent(&server);
    let agent = server.agent("localhost/meridian-node:dev");
    applied(
        &server,
        "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {name: own}\nspec: {nodes: 3}\n",
    );
    let condition = || {
        let rec = server.get("rec", "own");
        let all = rec["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = all.into_iter().find(|one| one["type"] == "FieldsKept");
        found.map(|one| format!("{} {}", one["status"], one["message"]))
    };
    server
        .until("the cluster has a condition about fields", || {
            condition().is_some()
        })
        .await;
    let text = condition().unwrap();
    for expected in [
        "\"False\"",
        "DatabaseTopology does not keep spec.placement",
        "RedisEnterpriseDatabase does not keep spec.shardsPlacement",
        "RedisEnterpriseCluster does not keep status.bundledDatabaseVersions, status.modules",
        "Next: `meridian preflight`",
    ] {
        says(&text, expected);
    }
    says(
        &agent.readyz(),
        "[+] fields: the installed definition of DatabaseTopology does not keep spec.placement",
    );
    let rec = server.get("rec", "own");
    assert_eq!(
        rec["status"]["specStatus"], "Valid",
        "what is kept is shown: {rec}"
    );

    let next = server.preflight(&[]);
    assert_eq!(next.code, 0, "{}", next.stderr);
    let out = server.line(&next.stdout);
    assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
    drop(agent);
    let agent = server.agent("localhost/meridian-node:dev");
    server
        .until("the condition goes with its cause", || {
            condition().is_none()
        })
        .await;
    says(&agent.readyz(), "[+] fields: the definitions keep all");
}
