//! Active-Active databases: created, refused, shown, deleted.

use super::*;

#[tokio::test]
async fn a_database_is_created_listed_and_says_what_it_waits_for() {
    let web = Web::with_members().await;
    let (status, made) = web
        .call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    assert_eq!(status, 202, "{made}");
    assert_eq!(
        (
            &made["status"]["status"],
            &made["metadata"]["labels"]["team"]
        ),
        (&json!("pending"), &json!("a"))
    );
    web.plan().await;
    web.hub
        .app
        .presence(uid(LAB_1), Presence::Connected, 1)
        .await
        .unwrap();
    let (_, shown) = web.call("GET", SHOP, None).await;
    assert_eq!(
        (
            &shown["status"]["configVersion"],
            &shown["status"]["planNumber"]
        ),
        (&json!(1), &json!(1))
    );
    assert_eq!(shown["status"]["participants"][1]["instanceId"], 2);
    assert_eq!(
        shown["status"].get("replicationStatus"),
        None,
        "unknown is not healthy"
    );
    let conditions = shown["status"]["conditions"].as_array().unwrap();
    let message = |type_: &str| {
        conditions.iter().find(|one| one["type"] == type_).unwrap()["message"].clone()
    };
    assert_eq!(message("Planned"), "");
    assert_eq!(
        message("Delivered"),
        "lab-1: the member has not answered yet; lab-2: cluster lab-2 never opened a session"
    );
    let (status, problem) = web
        .call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    assert_eq!((status, &problem["kind"]), (409, &json!("conflict")));
}

#[tokio::test]
async fn a_database_over_unknown_clusters_is_refused_with_the_known_ones() {
    let web = Web::with_members().await;
    let (status, problem) = web
        .call("POST", DATABASES, Some(&database(&["lab-1", "lab-9"])))
        .await;
    assert_eq!(status, 422);
    let error = &problem["errors"][0];
    assert_eq!(
        (&error["field"], &error["found"]),
        (
            &json!("spec.participatingClusters[1].name"),
            &json!("\"lab-9\"")
        )
    );
    assert!(
        error["expected"].as_str().unwrap().contains("lab-1, lab-2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_database_that_breaks_the_rules_of_its_kind_is_refused_as_everywhere() {
    let web = Web::with_members().await;
    let mut wrong = database(&["lab-1", "lab-1"]);
    wrong["metadata"]["name"] = json!("Not A Name");
    let (status, problem) = web.call("POST", DATABASES, Some(&wrong)).await;
    assert_eq!(status, 422);
    let fields = fields(&problem);
    assert!(fields.contains(&"metadata.name".to_owned()), "{fields:?}");
    assert!(
        fields
            .iter()
            .any(|field| field.starts_with("spec.participatingClusters")),
        "{fields:?}"
    );
}

#[tokio::test]
async fn an_object_of_another_kind_is_refused() {
    let web = Web::with_members().await;
    let mut wrong = database(&["lab-1", "lab-2"]);
    (wrong["apiVersion"], wrong["kind"]) = (json!("apps/v1"), json!("Deployment"));
    let (status, problem) = web.call("POST", DATABASES, Some(&wrong)).await;
    assert_eq!(
        (status, fields(&problem)),
        (422, vec!["apiVersion".to_owned(), "kind".to_owned()])
    );
}

#[tokio::test]
async fn one_member_does_not_take_part_twice() {
    let web = Web::with_members().await;
    let recs = ["rec", "other"].map(|name| crate::domain::cluster::Rec {
        name: name.to_owned(),
        ..rec("lab-1")
    });
    web.hub
        .app
        .inventory(uid(LAB_1), recs.to_vec())
        .await
        .unwrap();
    let (status, problem) = web
        .call(
            "POST",
            DATABASES,
            Some(&database(&["lab-1", "lab-1-other"])),
        )
        .await;
    assert_eq!(
        (status, fields(&problem)),
        (422, vec!["spec.participatingClusters[1].name".to_owned()])
    );
}

#[tokio::test]
async fn a_database_is_deleted_only_with_its_name_as_confirmation() {
    let web = Web::with_members().await;
    web.call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    web.plan().await;
    for path in [SHOP.to_owned(), format!("{SHOP}?confirm=yes")] {
        let (status, problem) = web.call("DELETE", &path, None).await;
        assert_eq!(status, 409);
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("?confirm=shop"),
            "{problem}"
        );
    }
    web.plan().await;
    let told = web.hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
    assert!(
        told.iter().all(|held| !held.record.is_tombstone()),
        "nothing is deleted so far"
    );

    let (status, shown) = web
        .call("DELETE", &format!("{SHOP}?confirm=shop"), None)
        .await;
    assert_eq!(
        (status, &shown["status"]["status"]),
        (202, &json!("delete-pending"))
    );
    web.plan().await;
    let told = web.hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
    let approvals: Vec<_> = told
        .iter()
        .filter_map(|held| held.record.approval())
        .collect();
    assert_eq!(
        approvals,
        ["alice", "alice"],
        "the database and its instance, approved by the caller"
    );
}

#[tokio::test]
async fn what_no_member_would_take_is_refused_by_field_and_what_is_accepted_every_member_takes() {
    let web = Web::with_members().await;
    let labelled = |count: usize| {
        let mut wanted = database(&["lab-1", "lab-2"]);
        let labels = (0..count).map(|n| (format!("label-{n:05}"), json!("x".repeat(40))));
        wanted["metadata"]["labels"] = labels.collect::<serde_json::Map<_, _>>().into();
        wanted
    };
    let tried = format!("{DATABASES}?dryRun=All");
    let (mut fits, mut large) = (0_usize, 10_000_usize);
    let mut refusal = Value::Null;
    while large - fits > 1 {
        let middle = fits.midpoint(large);
        match web.call("POST", &tried, Some(&labelled(middle))).await {
            (200, _) => fits = middle,
            (422, problem) => (large, refusal) = (middle, problem),
            // Larger than any request may be.
            (413, _) => large = middle,
            (other, _) => panic!("{other}"),
        }
    }
    let field = &refusal["errors"][0];
    assert_eq!(field["field"], "metadata.labels", "{refusal}");
    let expected = field["expected"].as_str().unwrap();
    assert!(expected.contains("196608 bytes"), "{expected}");

    let (status, made) = web.call("POST", DATABASES, Some(&labelled(fits))).await;
    assert_eq!((status, &made["metadata"]["name"]), (202, &json!("shop")));
    web.plan().await;
    let desired = web.hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
    let sizes = desired.iter().filter_map(|held| match &held.record.action {
        crate::domain::desired::Action::Upsert { body } => Some(body.to_string().len()),
        crate::domain::desired::Action::Delete { .. } => None,
    });
    let largest = sizes.max().unwrap();
    assert!(largest <= LARGEST_BODY, "{largest}");
    assert!(
        largest > LARGEST_BODY - 2048,
        "no more is refused than has to be: {largest}"
    );
}
