//! What members report, and what the hub answers: above all, what may be deleted.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_object_that_the_hub_does_not_know_is_kept() {
    let world = World::new().await;
    world.want(1, upsert("a")).await;
    let (mut agent, _) = world.welcomed(None).await;
    agent.apply().await;
    agent.holds(vec![entry(1), entry(5)]).await;
    let confirm = agent.confirm().await;
    assert_eq!(
        (confirm.object_id, confirm.action),
        (id(5).to_string(), ConfirmAction::Keep.into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_prepared_then_confirmed_with_its_approval_and_revision() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let revision = world.want(1, tombstone("alice")).await;
    let item = agent.apply().await.items.remove(0);
    assert_eq!(
        (item.op(), item.tombstone.unwrap().revision),
        (ItemOp::Delete, revision.0)
    );
    agent
        .outcome(1, revision, OutcomeResult::Held, codes::NEEDS_CONFIRMATION)
        .await;
    let confirm = agent.confirm().await;
    assert_eq!(
        (
            confirm.action(),
            confirm.approval.as_str(),
            confirm.revision
        ),
        (ConfirmAction::Delete, "alice", revision.0)
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_tombstone_or_its_approval_a_deletion_is_never_confirmed() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let wanted = world.want(1, upsert("a")).await;
    agent.apply().await;
    let unapproved = world.want(2, tombstone("")).await;
    agent.apply().await;
    for (object, revision) in [(1, wanted), (2, unapproved), (3, Revision(1))] {
        agent
            .outcome(
                object,
                revision,
                OutcomeResult::Held,
                codes::NEEDS_CONFIRMATION,
            )
            .await;
        let confirm = agent.confirm().await;
        assert_eq!(confirm.action(), ConfirmAction::Keep, "object {object}");
        let wish = proto::LocalIntent {
            intent_id: "w".to_owned(),
            object_id: id(object).to_string(),
            op: proto::IntentOp::Delete.into(),
            ..proto::LocalIntent::default()
        };
        agent.say(FromAgent::LocalIntent(wish)).await;
        let confirm = agent.confirm().await;
        assert_eq!(
            (confirm.action(), confirm.intent_id.as_str()),
            (ConfirmAction::Keep, "w"),
            "object {object}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_members_report_is_stored_with_its_time() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let revision = world.want(1, upsert("a")).await;
    agent.apply().await;
    agent
        .outcome(1, revision, OutcomeResult::Nack, codes::FOREIGN_OBJECT)
        .await;
    let status = serde_json::to_vec(&RedisEnterpriseActiveActiveDatabaseStatus::default()).unwrap();
    agent
        .say(FromAgent::Status(proto::StatusDelta {
            object_id: id(1).to_string(),
            for_revision: revision.0,
            status: status.into(),
            ..proto::StatusDelta::default()
        }))
        .await;
    agent.say(FromAgent::Bye(proto::Bye::default())).await;
    agent.served.await.unwrap();
    let store = &world.hub.store;
    let outcome = records::get(store, &keys::outcome(uid(LAB_1), id(1)))
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(
        (outcome.code.as_str(), outcome.revision),
        (codes::FOREIGN_OBJECT, revision)
    );
    let seen = records::get(store, &keys::observed(uid(LAB_1), id(1)))
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(
        (seen.for_revision, seen.as_of),
        (revision, world.hub.app.now())
    );
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_cannot_be_is_refused_with_the_field() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let body = serde_json::json!({ "metadata": {}, "spec": { "participatingClusters": [{ "name": "lab-1" }, { "name": "nowhere" }] } });
    let wish = proto::LocalIntent {
        intent_id: "w".to_owned(),
        op: proto::IntentOp::Upsert.into(),
        kind: "RedisEnterpriseActiveActiveDatabase".to_owned(),
        name: "db".to_owned(),
        body: body.to_string().into_bytes().into(),
        ..proto::LocalIntent::default()
    };
    agent.say(FromAgent::LocalIntent(wish)).await;
    let confirm = agent.confirm().await;
    assert_eq!(confirm.action(), ConfirmAction::Refuse);
    assert!(
        confirm.message.contains("nowhere") && confirm.message.contains("lab-1"),
        "{}",
        confirm.message
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_member_did_not_say_to_be_done_is_told_again_in_its_next_session() {
    let world = World::new().await;
    let (mut agent, welcome) = world.welcomed(None).await;
    let done = world.want(1, upsert("a")).await;
    agent.apply().await;
    let silent = world.want(2, upsert("b")).await;
    agent.apply().await;
    agent.outcome(1, done, OutcomeResult::Applied, "").await;
    drop(agent);
    // As one says it that stored both, carried both out, and forgot what to tell when it ended.
    let head = welcome.head.unwrap();
    let last = Position {
        revision: silent,
        ..wire::position("head", &head).unwrap()
    };
    let (mut agent, _) = world.welcomed(Some(last)).await;
    let again = agent.apply().await.items;
    let again: Vec<_> = again.iter().map(|item| item.revision).collect();
    assert_eq!(again, [silent.0]);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_a_position_gets_only_what_changed_after_it() {
    let world = World::new().await;
    let first = world.want(1, upsert("a")).await;
    let (mut agent, _) = world.welcomed(None).await;
    agent.apply().await;
    agent.outcome(1, first, OutcomeResult::Applied, "").await;
    drop(agent);
    world.want(2, upsert("b")).await;
    let (mut agent, welcome) = world.welcomed(Some(position(&world.hub.app, first))).await;
    assert_eq!(welcome.mode(), SyncMode::Resume);
    let apply = agent.apply().await;
    assert_eq!(
        bodies(&apply),
        [("db-2".to_owned(), r#"{"spec":"b"}"#.to_owned())]
    );
    assert_eq!(apply.prev_revision, first.0);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_not_confirmed_before_the_member_has_prepared_it() {
    let world = World::new().await;
    let revision = world.want(1, tombstone("alice")).await;
    let (mut agent, _) = world.welcomed(None).await;
    let apply = agent.apply().await;
    agent.ack(&apply).await;
    // What it shows beside it is answered, and this is the first answer.
    agent.holds(vec![entry(1), entry(9)]).await;
    let keep = agent.confirm().await;
    assert_eq!(
        (keep.action(), keep.object_id),
        (ConfirmAction::Keep, id(9).to_string())
    );
    let needs = codes::NEEDS_CONFIRMATION;
    agent.outcome(1, revision, OutcomeResult::Held, needs).await;
    let confirm = agent.confirm().await;
    assert_eq!(
        (confirm.action(), confirm.revision),
        (ConfirmAction::Delete, revision.0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_not_confirmed_for_what_was_prepared_at_another_revision() {
    let world = World::new().await;
    let revision = world.want(1, tombstone("alice")).await;
    let (mut agent, _) = world.welcomed(None).await;
    let apply = agent.apply().await;
    agent.ack(&apply).await;
    let needs = codes::NEEDS_CONFIRMATION;
    let of_another_time = Revision(revision.0 + 50);
    agent
        .outcome(1, of_another_time, OutcomeResult::Held, needs)
        .await;
    agent.holds(vec![entry(9)]).await;
    let keep = agent.confirm().await;
    assert_eq!(keep.object_id, id(9).to_string(), "{keep:?}");
    agent.outcome(1, revision, OutcomeResult::Held, needs).await;
    let confirm = agent.confirm().await;
    assert_eq!(
        (confirm.action(), confirm.revision),
        (ConfirmAction::Delete, revision.0)
    );
}
