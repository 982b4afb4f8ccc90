//! What happens in the same moment as a removal, and removals that no single transaction holds.

use meridian_api::ids::ObjectId;

use super::*;
use crate::app::databases::names_members;
use crate::domain::cluster::Rec;
use crate::domain::desired::Action;
use crate::store::StoreError;

fn is_overtaken<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    match result {
        Err(StoreError::Conflict { .. }) => true,
        other => panic!("{other:?}"),
    }
}

/// The transaction that would declare a member lost, as it stands now.
async fn declaration(hub: &TestHub) -> Txn {
    let leaver = hub.app.leaver("us").await.unwrap();
    assert!(leaver.away().is_some());
    let removed = hub.app.lost(&leaver, "alice").await.unwrap();
    leaver.removed(&removed).unwrap()
}

#[tokio::test]
async fn a_session_that_opens_while_its_member_is_declared_lost_makes_that_void_or_is_refused() {
    let hub = hub().await;
    let admit = || hub.app.admit(uid(LAB_2), AGENT, Memory::default());
    // Its agent's version is written down with the first one.
    admit().await.unwrap();
    let before = declaration(&hub).await;
    let (admission, _) = admit().await.unwrap();
    assert!(is_overtaken(hub.app.commit(before).await), "it was let in");
    let before = declaration(&hub).await;
    let connects = |epoch| hub.app.presence(uid(LAB_2), Presence::Connected, epoch);
    connects(admission.epoch).await.unwrap();
    assert!(
        is_overtaken(hub.app.commit(before).await),
        "it is connected"
    );
    let away = Presence::Unreachable;
    let left = hub.app.presence(uid(LAB_2), away, admission.epoch).await;
    left.unwrap();
    let (admission, _) = admit().await.unwrap();
    lose(&hub).await.unwrap();
    let refused = connects(admission.epoch).await;
    assert!(matches!(refused, Err(AppError::Refused(_))), "{refused:?}");
    let presence = keys::presence(uid(LAB_2));
    let left = records::get(hub.app.store().as_ref(), &presence).await;
    assert!(left.unwrap().is_none(), "nothing of it is written any more");
}

#[tokio::test]
async fn a_database_that_names_a_member_in_the_moment_of_its_removal_makes_that_void_or_is_refused()
{
    let hub = hub().await;
    let store = hub.app.store().as_ref();
    let before = declaration(&hub).await;
    let new = database("cart", &["eu", "us"]);
    let made = hub.app.create_database(&new, &Manner::default()).await;
    made.unwrap();
    assert!(is_overtaken(hub.app.commit(before).await), "it is created");
    let before = declaration(&hub).await;
    let manner = Manner::default();
    let changed = hub.app.change_database("cart", &manner, |_| {
        let mut new = database("cart", &["eu", "us"]);
        new.labels.insert("tier".to_owned(), "1".to_owned());
        Ok(new)
    });
    changed.await.unwrap();
    assert!(is_overtaken(hub.app.commit(before).await), "it is changed");
    let departures = records::get(store, &keys::departures()).await.unwrap();
    lose(&hub).await.unwrap();
    let names = names_members(departures.as_ref()).unwrap();
    assert!(
        is_overtaken(hub.app.commit(names).await),
        "who it named has gone"
    );
}

/// Objects that a member is told, as many as of that many databases.
async fn told_much(hub: &TestHub, databases: u32) {
    let told = hub.app.desired_of(uid(LAB_2)).await.unwrap().value;
    let like = told
        .iter()
        .find(|held| held.record.kind == "ActiveActiveInstance");
    let like = &like.unwrap().record;
    for n in 0..databases {
        let text = format!("{n:08x}-0000-4000-8000-000000000001");
        let object: ObjectId = text.parse().unwrap();
        let desired = Desired {
            object_id: object,
            name: format!("one-of-very-many-databases-{n}"),
            action: Action::Delete {
                approval: "alice".to_owned(),
                reason: String::new(),
            },
            ..like.clone()
        };
        let key = keys::desired(uid(LAB_2), object);
        let txn = Txn::new().put_record(&key, &desired).unwrap();
        hub.app.commit(txn).await.unwrap();
    }
}

#[tokio::test]
async fn a_member_with_more_databases_than_a_transaction_holds_is_lost_whole_or_not_at_all() {
    let hub = with_cart().await;
    told_much(&hub, 2000).await;
    // A crash between the parts and the declaration leaves a member.
    let leaver = hub.app.leaver("us").await.unwrap();
    let removed = hub.app.lost(&leaver, "bob").await.unwrap();
    let stored = hub.app.store_residue(&removed).await.unwrap();
    assert!(stored.lost.unwrap().parts > 2);
    hub.app.member(uid(LAB_2)).await.unwrap();
    assert!(hub.app.lost_clusters().await.unwrap().is_empty());
    let residue = lose(&hub).await.unwrap().lost.unwrap().residue;
    assert!(residue.len() > 4000, "{}", residue.len());
    let listed = hub.app.lost_clusters().await.unwrap();
    let lost = listed[0].lost.as_ref().unwrap();
    assert_eq!((lost.by.as_str(), &lost.residue), ("alice", &residue));
    let (_, records) = hub.app.audit_records(u64::MAX, 100).await.unwrap();
    let told = records.iter().find(|it| it.event.verb == "lose").unwrap();
    assert!(
        told.event
            .left
            .last()
            .unwrap()
            .ends_with("meridian cluster lost")
    );
    // It joins again, and nothing of the declaration stays.
    hub.app
        .release("us", "alice", &Manner::default())
        .await
        .unwrap();
    hub.member("us", LAB_2).await;
    let prefixes = vec![keys::all_residues().text().to_owned()];
    let left = hub.app.store().list(prefixes).await.unwrap().value;
    assert!(left.iter().all(Vec::is_empty));
}

#[tokio::test]
async fn a_member_with_more_remote_clusters_than_a_transaction_holds_leaves_none() {
    let hub = with_cart().await;
    let one = |n| Rec {
        name: format!("rec-{n}"),
        ..rec("us")
    };
    let many: Vec<_> = (0..70).map(one).collect();
    for recs in (0..=many.len())
        .step_by(10)
        .map(|upto| many[..upto].to_vec())
    {
        hub.app.inventory(uid(LAB_2), recs).await.unwrap();
    }
    lose(&hub).await.unwrap();
    plan(&hub).await;
    let remotes = hub.app.remote_views().await.unwrap().value;
    assert!(
        remotes
            .iter()
            .all(|one| one.remote.record.cluster == uid(LAB_1))
    );
    assert!(!remotes.is_empty());
}
