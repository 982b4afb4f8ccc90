//! Members whose clock is another than the hub's.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_clock_of_a_member_is_measured_by_its_heartbeats() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let app = Arc::clone(&world.hub.app);
    for (ahead_ms, warned) in [(60_000, true), (-60_000, true), (100, false)] {
        let Frame::Beat(beat) = agent.hear().await else {
            panic!("no Beat")
        };
        let wall_ms = app.now().as_millisecond() + ahead_ms;
        agent
            .say(FromAgent::Beat(proto::Beat {
                mono_ms: 1,
                wall_ms,
                echo_mono_ms: beat.mono_ms,
                ..proto::Beat::default()
            }))
            .await;
        // The next heartbeat of the hub comes after it has heard this one.
        agent.hear().await;
        let measured = app.clock_of(uid(LAB_1)).unwrap();
        assert_eq!(measured.skew.ahead_ms, ahead_ms);
        assert_eq!(measured.warned_since.is_some(), warned, "{ahead_ms}");
        assert_eq!(app.skewed_members(), usize::from(warned));
        let view = app.member_view("lab-1").await.unwrap().unwrap();
        assert_eq!(view.clock, Some(measured));
    }
}
