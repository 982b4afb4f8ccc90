//! A store that went back in time, or was lost.

use super::*;
use crate::app::audit::Trail;
use crate::domain::lineage::Memory;

/// A hub whose store was put back to a moment before its member obeyed `position`.
async fn put_back() -> (World, Position) {
    let world = World::new().await;
    let old = world.hub.store.snapshot();
    let revision = world.want(1, upsert("a")).await;
    let position = position(&world.hub.app, revision);
    (World::over(world.hub.restarted_with(old).await), position)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_in_time_is_only_observed() {
    let (world, position) = put_back().await;
    world.want(2, tombstone("alice")).await;
    let (mut agent, welcome) = world.welcomed(Some(position)).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
    assert!(welcome.reason.contains("older copy"), "{}", welcome.reason);
    assert!(
        matches!(agent.hear().await, Frame::DigestAsk(_)),
        "the inventory is asked for"
    );
    agent.holds(vec![entry(1), entry(2)]).await;
    for _ in 0..2 {
        assert_eq!(
            agent.confirm().await.action(),
            ConfirmAction::Keep,
            "not even a tombstone deletes"
        );
    }
    world.want(3, upsert("b")).await;
    // Only heartbeats follow.
    for _ in 0..2 {
        let frame = agent.hear().await;
        assert!(matches!(frame, Frame::Beat(_)), "{frame:?}");
        agent.say(FromAgent::Beat(proto::Beat::default())).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_under_the_same_authority_is_only_observed_and_deletes_nothing() {
    let world = World::new().await;
    let lost = World::over(
        world
            .hub
            .restarted_with(crate::store::memory::MemoryStore::new())
            .await,
    );
    let revision = world.want(1, upsert("a")).await;
    let (mut agent, welcome) = lost
        .welcomed(Some(position(&world.hub.app, revision)))
        .await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
    assert!(matches!(agent.hear().await, Frame::DigestAsk(_)));
    agent.holds(vec![entry(1)]).await;
    assert_eq!(agent.confirm().await.action(), ConfirmAction::Keep);
    let refused = lost
        .hub
        .app
        .create_database(&database("db", &["lab-1", "lab-2"]), &Manner::default())
        .await;
    assert!(
        matches!(refused, Err(AppError::Observing(_))),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_of_the_same_term_is_only_observed() {
    let world = World::new().await;
    let mut claimed = position(&world.hub.app, Revision(1));
    claimed.incarnation = Incarnation(claimed.incarnation.0 ^ 1);
    let (_agent, welcome) = world.welcomed(Some(claimed)).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
}

/// A member that obeyed `last`, which the hub's store holds, and was welcomed after that by a hub which the store knows
/// nothing of any more.
async fn welcomed_in_between() -> (World, proto::Hello) {
    let world = World::new().await;
    let revision = world.want(1, upsert("a")).await;
    let last = position(&world.hub.app, revision);
    let older = world.hub.store.snapshot();
    let between = world.hub.restarted_with(world.hub.store.snapshot()).await;
    let seen = position(&between.app, revision);
    let hello = proto::Hello {
        seen: Some(on_the_wire(seen)),
        ..hello(LAB_1, Some(last))
    };
    (World::over(world.hub.restarted_with(older).await), hello)
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_never_had_the_term_that_a_member_followed_is_only_observed() {
    let (world, hello) = welcomed_in_between().await;
    let seen = wire::memory(&hello).unwrap().seen.unwrap();
    let (mut agent, welcome) = world.greeted(hello.clone()).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
    assert!(welcome.reason.contains("welcomed"), "{}", welcome.reason);
    agent.hear().await;
    let adopted = world.hub.app.adopt("alice", &Trail::default()).await;
    assert!(adopted.unwrap().reign.term > seen.term);
    assert_eq!(agent.bye().await.code, codes::NOT_LEADER);

    // What was accepted once raises no doubt again, and the member is told to follow.
    let (mut agent, welcome) = world.greeted(hello).await;
    assert_eq!(welcome.mode(), SyncMode::Full);
    assert_eq!(agent.confirm().await.action(), ConfirmAction::Adopt);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_of_the_terms_it_followed_is_judged_by_what_it_obeyed() {
    let (world, hello) = welcomed_in_between().await;
    let older = proto::Hello {
        seen: None,
        ..hello
    };
    let (_agent, welcome) = world.greeted(older).await;
    assert_eq!(welcome.mode(), SyncMode::Resume);
}

#[tokio::test(start_paused = true)]
async fn a_person_lets_the_hub_go_on_above_everything_that_was_reported() {
    let (world, claimed) = put_back().await;
    let (mut agent, _) = world.welcomed(Some(claimed)).await;
    agent.hear().await;
    agent.holds(vec![entry(1)]).await;
    agent.confirm().await;
    let before = world.hub.app.reign();
    world
        .hub
        .app
        .adopt("alice", &Trail::default())
        .await
        .unwrap();
    assert_eq!(agent.bye().await.code, codes::NOT_LEADER);
    let after = world.hub.app.reign();
    assert!(after.term > before.term && after.term > claimed.term);
    let counters = records::get(&world.hub.store, &keys::counters())
        .await
        .unwrap()
        .unwrap()
        .record;
    assert_eq!(
        (
            counters.instance_id_floor,
            counters.config_version_floor,
            counters.plan_number.0
        ),
        (7, 9, 30)
    );

    // The member is told that it may follow, gets everything, and only then is an ordinary member again.
    world.want(2, upsert("b")).await;
    let (mut agent, welcome) = world.welcomed(Some(claimed)).await;
    assert_eq!(welcome.mode(), SyncMode::Full);
    let confirm = agent.confirm().await;
    assert_eq!(
        (
            confirm.action(),
            confirm.approval.as_str(),
            confirm.object_id.as_str()
        ),
        (ConfirmAction::Adopt, "alice", "")
    );
    let head = Position {
        revision: Revision(welcome.head.unwrap().revision),
        ..position(&world.hub.app, Revision(0))
    };
    let (mut agent, welcome) = world.welcomed(Some(head)).await;
    assert_eq!(
        welcome.mode(),
        SyncMode::Full,
        "the session ended before it had everything"
    );
    agent.confirm().await;
    let apply = agent.apply().await;
    agent.ack(&apply).await;
    agent.say(FromAgent::Bye(proto::Bye::default())).await;
    agent.served.await.unwrap();
    let (_agent, welcome) = world.welcomed(Some(head)).await;
    assert_eq!(welcome.mode(), SyncMode::Resume);
}

/// A Hello with an outcome that is not durable on the hub yet, of a revision that the hub knows under another content.
async fn welcomed_with_an_outcome(world: &World, last: Option<Position>) -> (Agent, SyncMode) {
    let outcome = proto::Outcome {
        object_id: id(1).to_string(),
        revision: 1,
        result: OutcomeResult::Applied.into(),
        ..proto::Outcome::default()
    };
    let mut agent = world.connect(LAB_1);
    agent
        .say(FromAgent::Hello(proto::Hello {
            pending_outcomes: vec![outcome],
            ..hello(LAB_1, last)
        }))
        .await;
    let welcome = agent.welcome().await;
    // What follows Welcome comes after the outcomes were looked at.
    agent.hear().await;
    (agent, welcome.mode())
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_taken_of_members_that_follow_this_line_only() {
    let stored = async |world: &World| {
        let outcomes = records::list(&world.hub.store, &keys::outcomes()).await;
        outcomes.unwrap().value.len()
    };
    let (world, claimed) = put_back().await;
    world.want(1, upsert("b")).await;
    let (agent, mode) = welcomed_with_an_outcome(&world, Some(claimed)).await;
    assert_eq!((mode, stored(&world).await), (SyncMode::Observe, 0));
    agent
        .outcome(1, Revision(1), OutcomeResult::Applied, "")
        .await;
    agent.say(FromAgent::Bye(proto::Bye::default())).await;
    agent.served.await.unwrap();
    assert_eq!(stored(&world).await, 0);

    world
        .hub
        .app
        .adopt("alice", &Trail::default())
        .await
        .unwrap();
    world.want(2, upsert("b")).await;
    let (agent, mode) = welcomed_with_an_outcome(&world, Some(claimed)).await;
    assert_eq!((mode, stored(&world).await), (SyncMode::Full, 0));
    drop(agent);

    let world = World::new().await;
    let revision = world.want(1, upsert("a")).await;
    let last = position(&world.hub.app, revision);
    let (_agent, mode) = welcomed_with_an_outcome(&world, Some(last)).await;
    assert_eq!((mode, stored(&world).await), (SyncMode::Resume, 1));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_hub_resumes_its_members() {
    let world = World::new().await;
    let revision = world.want(1, upsert("a")).await;
    let position = position(&world.hub.app, revision);
    let world = World::over(world.hub.restarted_with(world.hub.store.clone()).await);
    let (_agent, welcome) = world.welcomed(Some(position)).await;
    assert_eq!(welcome.mode(), SyncMode::Resume);
    assert_eq!(world.desired_count().await, 1);
}

#[tokio::test(start_paused = true)]
async fn one_members_doubt_holds_back_every_session() {
    let world = World::new().await;
    world.hub.member("lab-2", LAB_2).await;
    let (mut first, welcome) = world.welcomed(None).await;
    assert_eq!(welcome.mode(), SyncMode::Full);
    let revision = world.want(1, tombstone("alice")).await;
    first.apply().await;
    let mut stray = position(&world.hub.app, Revision(1));
    stray.incarnation = Incarnation(stray.incarnation.0 ^ 1);
    let mut second = world.connect(LAB_2);
    second
        .say(FromAgent::Hello(hello(LAB_2, Some(stray))))
        .await;
    assert_eq!(second.welcome().await.mode(), SyncMode::Observe);
    assert_eq!(first.bye().await.code, codes::NOT_LEADER);
    let (mut first, welcome) = world.welcomed(None).await;
    assert_eq!(welcome.mode(), SyncMode::Observe);
    assert!(matches!(first.hear().await, Frame::DigestAsk(_)));
    // A deletion that was prepared before is neither confirmed nor called off.
    first
        .outcome(1, revision, OutcomeResult::Held, codes::NEEDS_CONFIRMATION)
        .await;
    let frame = first.hear().await;
    assert!(matches!(frame, Frame::Beat(_)), "{frame:?}");
    assert!(
        world.sessions.connected().contains(&uid(LAB_2)),
        "the doubting session itself goes on"
    );
}

#[tokio::test(start_paused = true)]
async fn a_doubt_that_is_raised_while_a_member_is_welcomed_ends_its_session() {
    let world = World::new().await;
    world.want(1, upsert("a")).await;
    let context = world.context();
    let speaker = identity::speaker(&context, uid(LAB_1));
    let (mut agent, outgoing) = Agent::with_room(context, speaker, 2);
    let no_room = [(); 2].map(|()| outgoing.clone().try_reserve_owned().unwrap());
    drop(outgoing);
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    while world.sessions.connected().is_empty() {
        tokio::task::yield_now().await;
    }
    let raised =
        world
            .hub
            .app
            .raise_doubt(Txn::new(), uid(LAB_2), "r".to_owned(), Memory::default());
    raised.await.unwrap();
    drop(no_room);
    assert_eq!(agent.welcome().await.mode(), SyncMode::Full);
    assert_eq!(agent.bye().await.code, codes::NOT_LEADER);
}
