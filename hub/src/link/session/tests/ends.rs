//! How a session ends for good, and what it asks of an agent that comes back.

use super::*;

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
    world.hub.app.remove_cluster("lab-1").await.unwrap();
    world.sessions.remove(uid(LAB_1));
    let bye = agent.bye().await;
    assert_eq!(bye.code, codes::REVOKED);
    for part in ["\"lab-1\" was removed at", "join again with a token"] {
        assert!(bye.message.contains(part), "{}", bye.message);
    }
    agent.served.await.unwrap();
}
