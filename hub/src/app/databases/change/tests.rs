use super::*;
use crate::app::testing::{LAB_1, LAB_2, TestHub, database, rec, uid};
use crate::domain::cluster::Rec;
use crate::store::records::{OutcomeKind, StoredOutcome};
use crate::tasks::plan::Planning;
use crate::tasks::{Outcome, Task as _};

/// Members eu, with a second REC, and us; and a planned database over these participants.
async fn with_cart(participants: &[&str]) -> TestHub {
    let hub = TestHub::new().await;
    hub.member("eu", LAB_1).await;
    hub.member("us", LAB_2).await;
    let second = Rec {
        name: "rec-2".to_owned(),
        ..rec("eu")
    };
    let both = vec![rec("eu"), second];
    hub.app.inventory(uid(LAB_1), both).await.unwrap();
    let new = database("cart", participants);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
    plan(&hub).await;
    hub
}

async fn plan(hub: &TestHub) {
    let mut planning = Planning::new(std::sync::Arc::clone(&hub.app));
    while planning.activate().await.unwrap() == Outcome::Progressed {}
}

/// The remote cluster of the second REC of eu.
async fn second(hub: &TestHub) -> String {
    let remotes: Vec<Held<crate::domain::remote::Remote>> =
        records::list(hub.app.store().as_ref(), &keys::remotes())
            .await
            .unwrap()
            .value;
    let mut remotes = remotes.into_iter().map(|held| held.record);
    remotes.find(|one| one.rec == "rec-2").unwrap().name
}

async fn change(
    hub: &TestHub,
    participants: &[&str],
    confirmed: &str,
) -> Result<Held<Database>, AppError> {
    let manner = Manner::default();
    let changed = hub.app.change_database("cart", &manner, |_| {
        let mut new = database("cart", participants);
        let confirm = validate::CONFIRM_REMOVAL.to_owned();
        new.annotations.insert(confirm, confirmed.to_owned());
        Ok(new)
    });
    changed.await
}

fn refused(changed: Result<Held<Database>, AppError>) -> Vec<FieldError> {
    match changed {
        Err(AppError::Invalid { fields, .. }) => fields,
        other => panic!("{other:?}"),
    }
}

async fn obeys(hub: &TestHub, cluster: &str) {
    for held in hub.app.desired_of(uid(cluster)).await.unwrap().value {
        let outcome = StoredOutcome {
            revision: held.modified,
            result: OutcomeKind::Applied,
            code: String::new(),
            message: String::new(),
            as_of: hub.app.now(),
        };
        let object = held.record.object_id;
        let heard = hub.app.outcome(uid(cluster), object, outcome).await;
        heard.unwrap();
    }
}

#[tokio::test]
async fn a_change_that_leaves_nobody_who_has_the_data_is_refused() {
    let hub = with_cart(&["eu"]).await;
    let fields = refused(change(&hub, &["us"], "eu").await);
    assert_eq!(fields.len(), 1, "{fields:?}");
    assert_eq!(fields[0].field, "spec.participatingClusters");
    assert!(fields[0].remedy.contains("wait until they are active"));
    // Who was added, and was told nothing yet, has no data either.
    change(&hub, &["eu", "us"], "").await.unwrap();
    let fields = refused(change(&hub, &["us"], "eu").await);
    assert!(fields[0].found.contains("without eu"), "{fields:?}");
    plan(&hub).await;
    hub.read_along("cart", &[LAB_1, LAB_2]).await;
    change(&hub, &["us"], "eu").await.unwrap();
    plan(&hub).await;
    // Nor has who was taken out, comes again, and still deletes what it had.
    change(&hub, &["eu", "us"], "").await.unwrap();
    let fields = refused(change(&hub, &["eu"], "us").await);
    assert!(fields[0].found.contains("without us"), "{fields:?}");
}

#[tokio::test]
async fn another_rec_of_a_member_takes_part_only_after_the_instance_that_left_is_gone() {
    let hub = with_cart(&["eu", "us"]).await;
    hub.read_along("cart", &[LAB_1, LAB_2]).await;
    let second = second(&hub).await;
    let wanted = ["us", second.as_str()];
    let fields = refused(change(&hub, &wanted, "eu").await);
    assert_eq!(fields.len(), 1, "{fields:?}");
    assert_eq!(fields[0].field, "spec.participatingClusters[1].name");
    change(&hub, &["us"], "eu").await.unwrap();
    for _ in 0..2 {
        let fields = refused(change(&hub, &wanted, "").await);
        assert!(fields[0].remedy.contains("take eu out"), "{fields:?}");
        plan(&hub).await;
    }
    obeys(&hub, LAB_1).await;
    plan(&hub).await;
    let cart = change(&hub, &wanted, "").await.unwrap().record;
    assert!(cart.removals.is_empty(), "it is wanted there again");
}
