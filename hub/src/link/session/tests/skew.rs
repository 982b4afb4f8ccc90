//! Members whose clock, or whose release, is another than the hub's.

use super::*;
use crate::app::members::Agent as Version;

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

fn able(kinds: &[&str]) -> proto::Hello {
    let features = kinds.iter().map(|kind| format!("kind/{kind}"));
    proto::Hello {
        agent_version: "0.9".to_owned(),
        features: features.chain(["zstd".to_owned()]).collect(),
        ..hello(LAB_1, None)
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_does_not_know_is_not_sent_and_shown_until_it_is_upgraded() {
    let world = World::new().await;
    let mut newer = desired(2, upsert("new"));
    newer.kind = "ActiveActiveInstance".to_owned();
    let kind = desired(1, upsert("old")).kind;
    world.want(1, upsert("old")).await;
    let key = keys::desired(uid(LAB_1), id(2));
    let txn = Txn::new().put_record(&key, &newer).unwrap();
    let revision = world.hub.app.commit(txn).await.unwrap();

    let (mut agent, _) = world.greeted(able(&[&kind])).await;
    let sent = agent.apply().await;
    assert_eq!(bodies(&sent).len(), 1, "{sent:?}");
    assert_eq!(sent.items[0].object_id, id(1).to_string());
    agent.ack(&sent).await;
    let noted = keys::outcome(uid(LAB_1), id(2));
    let noted = records::get(world.hub.app.store().as_ref(), &noted).await;
    let noted = noted.unwrap().unwrap().record;
    assert_eq!(
        (noted.revision, noted.code.as_str()),
        (revision, codes::AGENT_TOO_OLD)
    );
    assert!(
        noted.message.contains("ActiveActiveInstance") && noted.message.contains("upgrade"),
        "{noted:?}"
    );
    let too_old = async || {
        let view = world.hub.app.member_view("lab-1").await.unwrap();
        view.unwrap().cluster.record.too_old.clone()
    };
    let why = too_old().await.unwrap();
    assert!(
        why.why
            .contains("agent 0.9 cannot apply RedisEnterpriseRemoteCluster, ActiveActiveInstance"),
        "{why:?}"
    );
    drop(agent);

    // The next release knows it, and is told although its position is beyond.
    let position = position(
        &world.hub.app,
        sent.upto.map(|upto| Revision(upto.revision)).unwrap(),
    );
    let upgraded = proto::Hello {
        features: KINDS
            .iter()
            .chain([&kind.as_str()])
            .map(|kind| format!("kind/{kind}"))
            .collect(),
        ..hello(LAB_1, Some(position))
    };
    let (mut agent, _) = world.greeted(upgraded).await;
    let sent = agent.apply().await;
    assert!(
        sent.items
            .iter()
            .any(|item| item.object_id == id(2).to_string()),
        "{sent:?}"
    );
    assert_eq!(too_old().await, None);
}

#[tokio::test]
async fn an_agent_that_is_not_let_in_for_its_protocol_is_shown_with_the_moment() {
    let world = World::new().await;
    let app = &world.hub.app;
    let note = async |lacking: Option<&str>| {
        let version = Version {
            version: "0.1",
            lacking,
        };
        app.note_too_old(uid(LAB_1), version).await.unwrap();
        app.member_view("lab-1")
            .await
            .unwrap()
            .unwrap()
            .cluster
            .record
            .too_old
            .clone()
    };
    let first = note(Some("its agent is not let in")).await.unwrap();
    world.hub.clock.advance(jiff::SignedDuration::from_secs(5));
    let second = note(Some("its agent is still not let in")).await.unwrap();
    assert_eq!(first.since, second.since);
    assert_ne!(first.why, second.why);
    assert_eq!(note(None).await, None);
}
