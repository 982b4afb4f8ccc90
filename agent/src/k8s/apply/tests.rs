use http::Method;
use k8s_openapi::api::core::v1::Service;

use super::*;
use crate::k8s::testing::{answer, objects};

fn service(labels: &std::collections::BTreeMap<String, String>) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "db", "labels": labels}})).unwrap()
}

fn found(labels: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
           "metadata": {"name": "db", "uid": "u1", "labels": labels}})
}

fn not_found() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"})
}

#[tokio::test]
async fn an_object_of_another_manager_is_read_and_never_written() {
    let (objects, server) = objects();
    let owner = Owner::database("rec", "ns", "db");
    let asked = tokio::spawn(answer(
        server,
        vec![(200, found(&json!({"app.kubernetes.io/managed-by": "Helm"})))],
    ));
    let refused = objects
        .ensure(&service(&owner.labels()), &owner)
        .await
        .unwrap_err();
    assert_eq!(refused.fault(), Fault::Foreign);
    assert!(
        refused
            .to_string()
            .contains("Service `db` exists and is not ours (held by `Helm`)"),
        "{refused}"
    );
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!(asked.len(), 1, "only the read may happen: {asked:?}");
    assert_eq!(asked[0].0, Method::GET);
}

#[tokio::test]
async fn an_object_of_another_manager_is_not_deleted_either() {
    let (objects, server) = objects();
    let asked = tokio::spawn(answer(server, vec![(200, found(&json!({})))]));
    assert!(
        !objects
            .remove::<Service>("db", &Owner::database("rec", "ns", "db"))
            .await
            .unwrap()
    );
    drop(objects);
    assert_eq!(asked.await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_absent_object_is_created_without_force() {
    let (objects, server) = objects();
    let owner = Owner::database("rec", "ns", "db");
    let desired = service(&owner.labels());
    let asked = tokio::spawn(answer(
        server,
        vec![
            (404, not_found()),
            (201, serde_json::to_value(&desired).unwrap()),
        ],
    ));
    objects.ensure(&desired, &owner).await.unwrap();
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[1].0, Method::PATCH);
    assert!(
        asked[1].1.contains("fieldManager=meridian-agent") && !asked[1].1.contains("force=true"),
        "{}",
        asked[1].1
    );
}

#[tokio::test]
async fn an_object_of_ours_is_applied_over_with_the_uid_that_was_judged() {
    let (objects, server) = objects();
    let owner = Owner::database("rec", "ns", "db");
    let desired = service(&owner.labels());
    let answers = vec![
        (200, found(&json!(owner.labels()))),
        (200, serde_json::to_value(&desired).unwrap()),
    ];
    let asked = tokio::spawn(answer(server, answers));
    objects.ensure(&desired, &owner).await.unwrap();
    drop(objects);
    let asked = asked.await.unwrap();
    assert!(asked[1].1.contains("force=true"), "{}", asked[1].1);
    assert_eq!(asked[1].2["metadata"]["uid"], "u1");
}

#[tokio::test]
async fn a_deletion_names_the_uid_that_was_judged() {
    let (objects, server) = objects();
    let owner = Owner::database("rec", "ns", "db");
    let answers = vec![
        (200, found(&json!(owner.labels()))),
        (200, json!({"kind": "Status", "status": "Success"})),
    ];
    let asked = tokio::spawn(answer(server, answers));
    assert!(objects.remove::<Service>("db", &owner).await.unwrap());
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!(asked[1].0, Method::DELETE);
    assert_eq!(asked[1].2["preconditions"]["uid"], "u1");
}

#[tokio::test]
async fn an_equal_status_costs_no_request() {
    let (objects, server) = objects();
    let asked = tokio::spawn(answer(server, Vec::new()));
    let same = json!({"loadBalancer": {}});
    let written = objects
        .status(
            &service(&Owner::cluster("rec").labels()),
            Some(&same),
            &same,
        )
        .await
        .unwrap();
    drop(objects);
    assert!(!written && asked.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_status_that_was_overtaken_is_written_although_the_kept_object_still_shows_it() {
    let (objects, server) = objects();
    let object = json!({"metadata": {"name": "db", "uid": "u1"}});
    let kept: Service = serde_json::from_value(object.clone()).unwrap();
    let asked = tokio::spawn(answer(server, vec![(200, object.clone()), (200, object)]));
    let (well, unwell) = (json!({"status": "active"}), json!({"status": "recovery"}));
    let elsewhere = objects.within("ns");
    let told = |objects: Objects, wanted: Value| {
        let (kept, well) = (kept.clone(), well.clone());
        async move { objects.status(&kept, Some(&well), &wanted).await.unwrap() }
    };
    assert!(!told(objects.clone(), well.clone()).await, "it stands");
    assert!(told(objects.clone(), unwell).await);
    assert!(
        told(elsewhere, well.clone()).await,
        "the watch has not shown the last one yet"
    );
    assert!(
        !told(objects.clone(), well.clone()).await,
        "it stands again"
    );
    drop(objects);
    let asked = asked.await.unwrap();
    assert_eq!(asked[1].2["status"]["status"], "active");
}
