use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use super::*;

/// A cluster that answers these paths, and nothing else.
struct Played(BTreeMap<String, Value>);

impl Source for Played {
    async fn get(&self, path: &str, _form: Form) -> Result<String, String> {
        let found = self.0.get(path).ok_or("403 forbidden")?;
        Ok(found.to_string())
    }
}

fn definition(name: &str, ours: bool) -> Value {
    let labels = if ours {
        json!({"app.kubernetes.io/part-of": "meridian"})
    } else {
        json!({"app": "redis-enterprise"})
    };
    let schema =
        json!({"openAPIV3Schema": {"properties": {"status": {"properties": {"state": {}}}}}});
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"versions": [{"served": true, "schema": schema}]}})
}

/// A cluster with these definitions, operators in these namespaces, and webhook configurations.
fn played(definitions: &[(&str, bool)], operators: &[&str], webhooks: Value) -> Played {
    let all: Vec<Value> = definitions
        .iter()
        .map(|(name, ours)| definition(name, *ours))
        .collect();
    let mut paths: BTreeMap<String, Value> = all
        .iter()
        .map(|one| {
            let name = one["metadata"]["name"].as_str().unwrap();
            (format!("{DEFINITIONS}/{name}"), one.clone())
        })
        .collect();
    let operators: Vec<Value> = operators
        .iter()
        .map(|namespace| json!({"metadata": {"namespace": namespace}}))
        .collect();
    paths.insert(DEFINITIONS.to_owned(), json!({"items": all}));
    let path = format!("{DEPLOYMENTS}{VENDOR_OPERATOR}");
    paths.insert(path, json!({"items": operators}));
    paths.insert(WEBHOOKS.to_owned(), json!({"items": webhooks}));
    Played(paths)
}

async fn said(cluster: &Played, beside_vendor: bool) -> Result<String, String> {
    let found = look(cluster, "redis").await;
    verdict(&found, "redis", Some("eu-1"), beside_vendor).map_err(|error| error.to_string())
}

const REC: &str = "redisenterpriseclusters.app.redislabs.com";

#[tokio::test]
async fn an_empty_cluster_and_one_of_ours_get_all_definitions() {
    let command = |force: &str| {
        format!(
            "kubectl --context eu-1 apply --server-side --field-manager=meridian{force} -f deploy/crds\n"
        )
    };
    for (present, force) in [(&[][..], ""), (&[(REC, true)], " --force-conflicts")] {
        let cluster = played(present, &[], json!([]));
        for beside in [false, true] {
            assert_eq!(said(&cluster, beside).await.unwrap(), command(force));
        }
    }
}

#[tokio::test]
async fn an_api_server_that_has_nothing_says_so_without_a_list() {
    let mut cluster = played(&[], &[], json!([]));
    let nothing = json!({"kind": "PartialObjectMetadataList", "items": null});
    for path in [
        DEFINITIONS.to_owned(),
        format!("{DEPLOYMENTS}{VENDOR_OPERATOR}"),
    ] {
        cluster.0.insert(path, nothing.clone());
    }
    assert!(said(&cluster, false).await.is_ok());
    cluster.0.insert(
        DEFINITIONS.to_owned(),
        json!({"kind": "Status", "code": 500}),
    );
    let refused = said(&cluster, false).await.unwrap_err();
    assert!(refused.contains("the answer is no list"), "{refused}");
}

#[tokio::test]
async fn where_definitions_cannot_be_read_none_that_may_be_anothers_is_applied() {
    let mut cluster = played(&[(REC, true)], &[], json!([]));
    cluster.0.remove(&format!("{DEFINITIONS}/{REC}"));
    assert!(said(&cluster, false).await.is_err());
    let next = said(&cluster, true).await.unwrap();
    let command = next.lines().last().unwrap();
    let ours = "--field-manager=meridian -f deploy/crds/meridian.dev.activeactiveinstances.yaml -f \
                deploy/crds/meridian.dev.databasetopologies.yaml";
    assert!(command.ends_with(ours), "{next}");
}

#[tokio::test]
async fn definitions_of_another_operator_are_refused_and_left_out_where_that_is_wanted() {
    let all: Vec<(&str, bool)> = SHARED.into_iter().map(|name| (name, false)).collect();
    let cluster = played(&all, &["vendor"], json!([]));
    let refused = said(&cluster, false).await.unwrap_err();
    for name in SHARED {
        assert!(refused.contains(name), "{refused}");
    }
    assert!(
        refused.contains("namespace vendor") && refused.contains("--beside-vendor"),
        "{refused}"
    );
    let next = said(&cluster, true).await.unwrap();
    let command = next.lines().last().unwrap();
    assert!(!command.contains("app.redislabs.com"), "{next}");
    for file in [
        "meridian.dev.activeactiveinstances",
        "meridian.dev.databasetopologies",
    ] {
        assert!(
            command.contains(&format!("-f deploy/crds/{file}.yaml")),
            "{next}"
        );
    }
}

#[tokio::test]
async fn what_keeps_both_from_living_together_is_refused_whatever_was_said() {
    let operator = played(&[], &["redis"], json!([]));
    let webhook = json!([{"metadata": {"name": "redis-enterprise-admission"},
                          "webhooks": [{"name": "redisenterprise.admission.redislabs"}]}]);
    let webhook = played(&[], &["vendor"], webhook);
    for (cluster, expected) in [(operator, "own namespace"), (webhook, "namespaceSelector")] {
        for beside in [false, true] {
            let refused = said(&cluster, beside).await.unwrap_err();
            assert!(
                refused.contains("Next: ") || refused.contains(expected),
                "{refused}"
            );
        }
    }
}

#[tokio::test]
async fn what_may_not_be_read_is_not_taken_for_absent() {
    let mut cluster = played(&[], &[], json!([]));
    cluster.0.remove(WEBHOOKS);
    let refused = said(&cluster, false).await.unwrap_err();
    assert!(
        refused.contains("webhook configurations could not be read: 403"),
        "{refused}"
    );
    assert!(said(&cluster, true).await.is_ok());
}

#[test]
fn every_file_that_is_named_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    for name in SHARED.into_iter().chain(OWN) {
        let path = file(name);
        let path = path.trim_start_matches(" -f ");
        assert!(root.join(path).exists(), "{path}");
    }
}
