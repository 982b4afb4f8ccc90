//! How a session ends for good, and what it asks of an agent that comes back.

use super::*;

impl Agent {
    async fn drain(&mut self) -> proto::Drain {
        let frame = self.hear_more().await;
        let Frame::Drain(drain) = frame else {
            panic!("no Drain: {frame:?}")
        };
        drain
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_is_asked_to_come_back_within_what_a_restart_of_the_hub_may_cost() {
    let (_agent, welcome) = World::new().await.welcomed(None).await;
    let reconnect = welcome.reconnect.unwrap();
    let (spread, cap) = (reconnect.spread_ms, reconnect.cap_ms);
    assert!(
        0 < spread && spread <= cap,
        "spread {spread} ms, cap {cap} ms"
    );
    assert!(
        cap <= 30_000,
        "members are back after 30 s; the longest wait is {cap} ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_registration_is_removed_is_told_when_and_what_to_do() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    world
        .hub
        .app
        .remove_cluster("lab-1", &Manner::default())
        .await
        .unwrap();
    world.sessions.revoke(uid(LAB_1));
    let bye = agent.bye().await;
    assert_eq!(bye.code, codes::REVOKED);
    for part in ["\"lab-1\" was removed at", "join again with a token"] {
        assert!(bye.message.contains(part), "{}", bye.message);
    }
    agent.served.await.unwrap();
}

/// Fills the way to the member, who reads nothing, until a report that it sent waits for a place there.
pub(super) async fn deaf(world: &World) -> Agent {
    let (agent, _) = world.welcomed(None).await;
    // Each page is answered, because the hub knows no such object.
    for n in 1..=40 {
        agent.holds(vec![entry(n)]).await;
    }
    while agent.from_hub.len() < OUTGOING {
        tokio::task::yield_now().await;
    }
    agent
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_hub_whatever_it_waits_for() {
    let world = World::new().await;
    let deaf = deaf(&world).await;
    let begun = Instant::now();
    world.stop.cancel();
    deaf.served.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(world.sessions.connected().is_empty());
    let member = world.hub.app.member_views().await.unwrap().value.remove(0);
    assert!(!member.is_connected(), "its end was written down");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_hub_lets_no_session_in() {
    let world = World::new().await;
    world.stop.cancel();
    let mut agent = world.connect(LAB_1);
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    assert_eq!(agent.drain().await.addresses, ["hub:8444"]);
    agent.served.await.unwrap();
    assert!(world.sessions.connected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_cut_off_is_gone_at_once() {
    let world = World::new().await;
    let deaf = deaf(&world).await;
    let begun = Instant::now();
    world.cut.cancel();
    deaf.served.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(world.sessions.connected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stopping_hub_says_goodbye() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    world.stop.cancel();
    let drain = agent.drain().await;
    assert_eq!(drain.addresses, ["hub:8444"]);
    assert!(!drain.reason.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_member_of_a_hub_that_stops_comes_back_in_a_slot_of_its_own() {
    let world = World::new().await;
    world.hub.member("lab-2", LAB_2).await;
    let (one, _) = world.welcomed(None).await;
    let mut two = world.connect(LAB_2);
    two.say(FromAgent::Hello(hello(LAB_2, None))).await;
    two.welcome().await;
    world.stop.cancel();
    let mut slots = Vec::new();
    for mut agent in [one, two] {
        slots.push(agent.drain().await.slot_ms);
    }
    slots.sort_unstable();
    assert!(slots[0] < slots[1], "{slots:?}");
}

#[tokio::test(start_paused = true)]
async fn the_spread_follows_the_number_of_members_and_not_of_those_who_are_back() {
    let world = World::new().await;
    world.sessions.expect(1000);
    let (_agent, welcome) = world.welcomed(None).await;
    assert_eq!(welcome.reconnect.unwrap().spread_ms, 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_finds_too_many_before_it_is_told_when_to_come_again() {
    let world = World::new().await;
    let places: Vec<_> = std::iter::from_fn(|| world.sessions.place().ok()).collect();
    assert_eq!(places.len(), crate::domain::comeback::AT_ONCE);
    // Whoever says no Hello takes no place and is not sent away either.
    let _silent = world.connect(LAB_1);
    let mut agent = world.connect(LAB_1);
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    let busy = agent.from_hub.recv().await.unwrap().unwrap_err();
    assert_eq!(busy.code(), tonic::Code::ResourceExhausted);
    let after = busy.metadata().get("grpc-retry-pushback-ms").unwrap();
    let after: u64 = after.to_str().unwrap().parse().unwrap();
    assert!((250..=2250).contains(&after), "{after}");
    drop(places);
    let (_agent, _welcome) = world.welcomed(None).await;
    let places: Vec<_> = std::iter::from_fn(|| world.sessions.place().ok()).collect();
    assert_eq!(
        places.len(),
        crate::domain::comeback::AT_ONCE,
        "a Welcome gives its place back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_removed_member_is_refused_and_its_objects_stay_untold() {
    let world = World::new().await;
    world
        .hub
        .app
        .remove_cluster("lab-1", &Manner::default())
        .await
        .unwrap();
    let mut agent = world.connect(LAB_1);
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    assert_eq!(agent.bye().await.code, codes::REVOKED);
}

#[tokio::test(start_paused = true)]
async fn a_superseded_session_sends_nothing_more_whatever_it_waits_for() {
    let world = World::new().await;
    let mut old = deaf(&world).await;
    let (_new, _) = world.welcomed(None).await;
    let mut heard = 0;
    while let Some(frame) = old.from_hub.recv().await {
        let frame = frame.unwrap().frame.unwrap();
        heard += usize::from(!matches!(frame, Frame::Bye(_)));
    }
    assert_eq!(heard, OUTGOING, "nothing but what was on its way already");
}
