//! What members hear of frozen deletions.

use super::*;
use crate::domain::breaker::Scope;

/// A member with four databases, of which three are being deleted and the fourth is about to be.
async fn three_deleted() -> (World, Agent) {
    let world = World::new().await;
    for n in 1..=4 {
        world.want(n, upsert("a")).await;
    }
    let (mut agent, _) = world.welcomed(None).await;
    let all = agent.apply().await;
    agent.ack(&all).await;
    for n in 1..=3 {
        world.want(n, tombstone("alice")).await;
        let apply = agent.apply().await;
        assert_eq!(apply.items[0].op(), ItemOp::Delete);
        agent.ack(&apply).await;
    }
    (world, agent)
}

impl Agent {
    async fn freeze(&mut self) -> proto::Freeze {
        let frame = self.hear_more().await;
        let Frame::Freeze(freeze) = frame else {
            panic!("no Freeze: {frame:?}")
        };
        freeze
    }

    /// What the hub said before the next heartbeat, which is long after everything else.
    async fn hear_until_beat(&mut self) -> Vec<Frame> {
        let mut heard = Vec::new();
        loop {
            let frame = self.hear().await;
            if matches!(frame, Frame::Beat(_)) {
                return heard;
            }
            heard.push(frame);
        }
    }
}

fn ids(objects: std::ops::RangeInclusive<u8>) -> Vec<String> {
    objects.map(|n| id(n).to_string()).collect()
}

async fn release(world: &World) {
    let app = &world.hub.app;
    let list = app.freezes().await.unwrap().remove(0).list;
    let manner = Manner::default();
    app.release_freeze(&list, "bob", &manner).await.unwrap();
    world.sessions.reconsider(Scope::Fleet);
}

#[tokio::test(start_paused = true)]
async fn one_deletion_too_many_is_not_sent_and_those_before_it_are_stopped() {
    let (world, mut agent) = three_deleted().await;
    let fourth = world.want(4, tombstone("alice")).await;
    assert_eq!(agent.hear_until_beat().await, []);
    world.sessions.reconsider(Scope::Fleet);
    let freeze = agent.freeze().await;
    assert_eq!((freeze.object_ids, freeze.on), (ids(1..=4), true));
    assert!(
        freeze.reason.contains("meridian hub release"),
        "{}",
        freeze.reason
    );
    let first = world.hub.app.desired_of(uid(LAB_1)).await.unwrap().value[0].modified;
    agent
        .outcome(1, first, OutcomeResult::Held, codes::NEEDS_CONFIRMATION)
        .await;
    assert_eq!(agent.hear_until_beat().await, [], "no confirmation");
    release(&world).await;
    let thaw = agent.freeze().await;
    assert_eq!((thaw.object_ids, thaw.on), (ids(1..=4), false));
    let apply = agent.apply().await;
    assert_eq!(
        apply.items[0].tombstone.as_ref().unwrap().revision,
        fourth.0
    );
    agent
        .outcome(1, first, OutcomeResult::Held, codes::NEEDS_CONFIRMATION)
        .await;
    assert_eq!(agent.confirm().await.action(), ConfirmAction::Delete);
}

#[tokio::test(start_paused = true)]
async fn whoever_deletes_on_the_member_what_is_frozen_is_told_why_it_stays() {
    let (world, mut agent) = three_deleted().await;
    world.want(4, tombstone("alice")).await;
    agent.hear_until_beat().await;
    let wish = proto::LocalIntent {
        intent_id: "w".to_owned(),
        object_id: id(1).to_string(),
        op: proto::IntentOp::Delete.into(),
        ..proto::LocalIntent::default()
    };
    agent.say(FromAgent::LocalIntent(wish)).await;
    let told = agent.confirm().await;
    // KEEP would call off the deletion that is prepared already.
    assert_eq!(told.action(), ConfirmAction::Refuse);
    assert!(told.message.contains("frozen"), "{}", told.message);
    agent.holds(vec![entry(1)]).await;
    assert_eq!(agent.hear_until_beat().await, []);
}

#[tokio::test(start_paused = true)]
async fn of_many_deletions_at_once_none_is_sent_and_other_orders_are() {
    let world = World::new().await;
    for n in 1..=8 {
        world.want(n, upsert("a")).await;
    }
    for n in 1..=4 {
        world.want(n, tombstone("alice")).await;
    }
    let (mut agent, welcome) = world.welcomed(None).await;
    assert_eq!(welcome.freeze, None);
    let apply = agent.apply().await;
    assert!(apply.items.iter().all(|item| item.op() == ItemOp::Upsert));
    assert_eq!(apply.items.len(), 4);
    let upto = apply.upto.clone().unwrap();
    agent.ack(&apply).await;
    for (n, item) in (5..=8).zip(&apply.items) {
        let revision = Revision(item.revision);
        agent.outcome(n, revision, OutcomeResult::Applied, "").await;
    }
    agent.say(FromAgent::Bye(proto::Bye::default())).await;
    agent.served.await.unwrap();
    // It is complete up to the deletions that it was not told, and still gets them when they are released.
    let last = position(&world.hub.app, Revision(upto.revision));
    let (mut agent, welcome) = world.welcomed(Some(last)).await;
    let freeze = welcome.freeze.unwrap();
    assert_eq!((freeze.object_ids, freeze.on), (ids(1..=4), true));
    assert_eq!(agent.hear_until_beat().await, []);
    release(&world).await;
    assert!(!agent.freeze().await.on);
    let apply = agent.apply().await;
    assert!(apply.items.iter().all(|item| item.op() == ItemOp::Delete));
    assert_eq!(apply.items.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn deletions_that_are_released_while_the_member_is_away_are_sent_when_it_comes_back() {
    let (world, mut agent) = three_deleted().await;
    let fourth = world.want(4, tombstone("alice")).await;
    agent.hear_until_beat().await;
    agent.say(FromAgent::Bye(proto::Bye::default())).await;
    agent.served.await.unwrap();
    release(&world).await;
    let last = position(&world.hub.app, fourth);
    let (mut agent, welcome) = world.welcomed(Some(last)).await;
    assert_eq!(welcome.freeze, None);
    assert_eq!(agent.apply().await.items.len(), 4);
}
