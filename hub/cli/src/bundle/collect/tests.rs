use std::{cell::RefCell, io::Read as _};

use super::*;

/// In every place where a secret may be.
const CANARY: &str = "Canary7f3kQ9xZ";

/// A cluster that puts the canary wherever it can: beside, inside and instead of everything.
struct Cluster {
    asked: RefCell<Vec<(String, Form)>>,
    down: Vec<&'static str>,
}

impl Cluster {
    fn new(down: &[&'static str]) -> Self {
        Self {
            asked: RefCell::default(),
            down: down.to_vec(),
        }
    }
}

fn last_applied() -> Value {
    json!({
        "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"stringData\":{{\"password\":\"{CANARY}\"}}}}"),
        "example.com/note": CANARY,
        "meridian.dev/revision": "7",
    })
}

fn pod_spec(container: &str) -> Value {
    json!({
        "nodeName": "host-1",
        "containers": [
            { "name": container, "image": "localhost/meridian-node:dev", "args": ["--password", CANARY], "command": [CANARY],
              "env": [
                { "name": "PASSWORD", "value": CANARY },
                { "name": "REC_NAME", "value": "rec" },
                { "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" }, "other": CANARY } },
              ],
              "livenessProbe": { "httpGet": { "path": "/livez", "port": 8080, "httpHeaders": [{ "name": "A", "value": CANARY }] }, "exec": { "command": [CANARY] } },
              "lifecycle": { "preStop": { "exec": { "command": [CANARY] } } } },
            { "name": "side", "image": "side:1", "args": [CANARY], "env": [{ "name": "TOKEN", "value": CANARY }] },
        ],
        "initContainers": [{ "name": "init", "image": "i", "command": [CANARY] }],
        "volumes": [{ "name": "v", "csi": { "volumeAttributes": { "key": CANARY } } }],
        "imagePullSecrets": [{ "name": CANARY }],
    })
}

fn item(plural: &str) -> Value {
    let mut spec = json!({ "username": CANARY, "license": CANARY, "tags": [{ "key": "k", "value": CANARY }], "nodes": 3 });
    let mut object = json!({
        "metadata": { "name": "rec-0", "namespace": "ns", "uid": "u", "annotations": last_applied(),
            "managedFields": [{ "fieldsV1": { "f:data": { ".": {}, "f:password": {} } } }] },
        "data": { "password": CANARY, "tls.key": CANARY },
        "stringData": { "token": CANARY },
        "regarding": { "name": "rec-0" },
        "note": format!("user default on >{CANARY}aaaa password={CANARY}"),
        "status": { "message": format!("Authorization: Bearer {CANARY}"), "license": CANARY, "podAnnotations": { "a": CANARY } },
    });
    match plural {
        "pods" => {
            spec = pod_spec("redis-enterprise-node");
            object["status"]["containerStatuses"] =
                json!([{ "name": "redis-enterprise-node", "restartCount": 2 }]);
        }
        "statefulsets" | "deployments" => {
            spec = json!({ "replicas": 3, "template": { "metadata": { "annotations": last_applied(), "labels": { "a": "b" } }, "spec": pod_spec("x") } });
        }
        "redisenterpriseclusters" => {
            for field in [
                "extraEnvVars",
                "redisEnterprisePodAnnotations",
                "sideContainersSpec",
                "podAnnotations",
                "sso",
                "backup",
            ] {
                spec[field] = json!({ "x": CANARY });
            }
            spec["servicesRiggerSpec"] = json!({ "databaseServiceType": "cluster_ip", "extraEnvVars": [{ "value": CANARY }] });
        }
        "redisenterprisedatabases" => {
            spec["rolesPermissions"] =
                json!([{ "type": "redis-enterprise", "role": "r", "acl": format!(">{CANARY}") }]);
            spec["modulesList"] = json!([{ "name": "m", "config": CANARY }]);
            spec["replicaSources"] = json!([{ "replicaSourceName": CANARY }]);
        }
        "services" => spec = json!({ "type": "ClusterIP", "loadBalancerClass": CANARY }),
        _ => {}
    }
    object["spec"] = spec;
    object
}

impl Source for Cluster {
    async fn get(&self, path: &str, form: Form) -> Result<String, String> {
        self.asked.borrow_mut().push((path.to_owned(), form));
        if self.down.iter().any(|down| path.contains(down)) {
            return Err(format!("403 forbidden: token={CANARY}"));
        }
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        let plural = path.rsplit('/').next().unwrap_or_default();
        if path == "/version" {
            return Ok("{\"gitVersion\":\"v1\"}".to_owned());
        }
        if path.ends_with("/log") {
            return Ok(format!(
                "started\npassword={CANARY}\n-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\nend\n"
            ));
        }
        if path.contains("/proxy/") {
            return Ok(format!("used_memory:5\nrequirepass:{CANARY}\n"));
        }
        let kind = if form == Form::Metadata {
            "PartialObjectMetadataList"
        } else {
            "List"
        };
        Ok(json!({ "kind": kind, "metadata": {}, "items": [item(plural)] }).to_string())
    }
}

async fn collected(cluster: &Cluster, all: bool) -> (Collected, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar.gz");
    let archive = Archive::create(&path, "b", Timestamp::UNIX_EPOCH).unwrap();
    let scope = Scope {
        namespace: "ns".to_owned(),
        all,
        since: Some(Duration::from_secs(60)),
    };
    let collector = Collector::new(cluster, scope, archive, &|_| {});
    let collected = collector.run(Timestamp::UNIX_EPOCH).await.unwrap();
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap();
    (collected, String::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn a_secret_put_everywhere_is_in_no_byte_of_the_bundle() {
    for all in [false, true] {
        let cluster = Cluster::new(&[]);
        let (collected, bundle) = collected(&cluster, all).await;
        let at = bundle
            .find(CANARY)
            .map(|at| &bundle[at.saturating_sub(200)..at + 20]);
        assert_eq!(at, None);
        assert_eq!(collected.missing, 0);
        for wanted in [
            "\"nodes\": 3",
            "\"replicas\": 3",
            "rec-0",
            "started",
            "used_memory:5",
            "\"meridian.dev/revision\": \"7\"",
            "previous.log",
            "\"password\"\n",
            "\"value\": \"rec\"",
        ] {
            assert!(
                bundle.contains(wanted),
                "no {wanted:?}: {}",
                &bundle[..3000]
            );
        }
    }
}

#[tokio::test]
async fn values_of_secrets_are_never_asked_for() {
    let cluster = Cluster::new(&[]);
    collected(&cluster, true).await;
    let asked = cluster.asked.borrow();
    let about_secrets: Vec<_> = asked
        .iter()
        .filter(|(path, _)| path.contains("/secrets") || path.contains("/configmaps"))
        .collect();
    assert_eq!(about_secrets.len(), 2);
    assert!(
        about_secrets
            .iter()
            .all(|(_, form)| *form == Form::Metadata),
        "{about_secrets:?}"
    );
}

#[tokio::test]
async fn an_api_server_that_sends_values_though_metadata_was_wanted_is_not_believed() {
    struct Deaf(Cluster);
    impl Source for Deaf {
        async fn get(&self, path: &str, _: Form) -> Result<String, String> {
            self.0.get(path, Form::Whole).await
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar.gz");
    let archive = Archive::create(&path, "b", Timestamp::UNIX_EPOCH).unwrap();
    let scope = Scope {
        namespace: "ns".to_owned(),
        all: false,
        since: None,
    };
    let deaf = Deaf(Cluster::new(&[]));
    let collected = Collector::new(&deaf, scope, archive, &|_| {})
        .run(Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    assert_eq!(collected.missing, 3, "secrets, configmaps, definitions");
}

#[tokio::test]
async fn what_cannot_be_read_is_named_with_its_reason_and_the_rest_is_there() {
    let cluster = Cluster::new(&["/nodes", "/proxy/info"]);
    let (collected, bundle) = collected(&cluster, false).await;
    assert_eq!(collected.missing, 2);
    assert!(
        bundle.contains("\"what\": \"nodes\"") && bundle.contains("403 forbidden"),
        "reason"
    );
    assert!(bundle.contains("\"what\": \"pods/rec-0/info.txt\""));
    assert!(!bundle.contains(CANARY));
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_gives_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar.gz");
    let archive = Archive::create(&path, "b", Timestamp::UNIX_EPOCH).unwrap();
    let scope = Scope {
        namespace: "ns".to_owned(),
        all: false,
        since: None,
    };
    let cluster = Cluster::new(&["/version"]);
    let ended = Collector::new(&cluster, scope, archive, &|_| {})
        .run(Timestamp::UNIX_EPOCH)
        .await;
    assert!(matches!(ended, Err(CliError::Cluster(_))), "{ended:?}");
    assert!(!path.exists());
}
