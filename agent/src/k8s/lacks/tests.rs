use std::collections::BTreeSet;

use super::*;
use crate::k8s::testing::{answer, objects};

/// What an API server publishes of our own definitions, without these fields of the spec of topologies.
fn published(without: &[&str]) -> BTreeMap<&'static str, Value> {
    let mut documents: BTreeMap<&str, Value> = DOCUMENTS
        .into_iter()
        .map(|name| (name, json!({"components": {"schemas": {}}})))
        .collect();
    for crd in all_crds().unwrap() {
        for version in &crd.spec.versions {
            let kind = &crd.spec.names.kind;
            let mut schema = json!(version.schema.as_ref().unwrap().open_api_v3_schema);
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": crd.spec.group, "kind": kind, "version": version.name}]);
            if crd.spec.group == "app.redislabs.com" {
                lacking::remove(&mut schema, "properties.status.properties.conditions");
            }
            if kind == "DatabaseTopology" {
                for field in without {
                    lacking::remove(&mut schema, &format!("properties.spec.properties.{field}"));
                }
            }
            let name = format!("apis/{}/{}", crd.spec.group, version.name);
            let document = documents.get_mut(name.as_str()).unwrap();
            document["components"]["schemas"][kind] = schema;
        }
    }
    documents
}

fn index(hash: &str) -> Value {
    let paths: BTreeMap<&str, Value> = DOCUMENTS
        .into_iter()
        .map(|name| {
            (
                name,
                json!({"serverRelativeURL": format!("/openapi/v3/{name}?hash={hash}")}),
            )
        })
        .collect();
    json!({ "paths": paths })
}

#[test]
fn what_an_older_definition_drops_is_named_with_the_next_step_and_conditions_are_told_elsewhere() {
    assert_eq!(compare(&published(&[])), BTreeMap::new());
    assert_eq!(
        compare(&BTreeMap::new()),
        BTreeMap::new(),
        "kinds that are not served"
    );
    let found = compare(&published(&["placement", "version"]));
    let lacks = Lacks::default();
    assert_eq!(lacks.text(), None);
    lacks.seen().fields = found;
    let text = lacks.text().unwrap();
    assert!(
        text.contains("DatabaseTopology does not keep spec.placement, spec.version:"),
        "{text}"
    );
    assert!(text.contains("Next: `meridian preflight`"), "{text}");
    let many = (0..20).map(|n| format!("spec.f{n}")).collect();
    lacks.seen().fields = BTreeMap::from([("A".to_owned(), many)]);
    assert!(
        lacks.text().unwrap().contains("spec.f7 and 12 more"),
        "{lacks}"
    );
}

#[tokio::test]
async fn documents_are_read_only_when_they_have_changed() {
    let (objects, server) = objects();
    let old = published(&["placement"]);
    let new = published(&[]);
    let mut answers = vec![(200, index("1"))];
    answers.extend(DOCUMENTS.map(|name| (200, old[name].clone())));
    answers.extend([(200, index("1")), (200, index("2"))]);
    answers.extend(DOCUMENTS.map(|name| (200, new[name].clone())));
    let asked = tokio::spawn(answer(server, answers));
    let client = objects.client();
    let (seen, found) = look(&client, None).await.unwrap().unwrap();
    assert_eq!(found["DatabaseTopology"], ["spec.placement"]);
    assert!(look(&client, Some(&seen)).await.unwrap().is_none());
    let (_, found) = look(&client, Some(&seen)).await.unwrap().unwrap();
    assert!(found.is_empty(), "{found:?}");
    drop((objects, client));
    let asked = asked.await.unwrap();
    let addresses: BTreeSet<String> = asked.into_iter().map(|(_, uri, _)| uri).collect();
    let expected = "/openapi/v3/apis/meridian.dev/v1alpha1";
    assert!(
        addresses.iter().any(|uri| uri.ends_with(expected)),
        "{addresses:?}"
    );
}
