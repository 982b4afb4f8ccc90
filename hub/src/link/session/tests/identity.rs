//! Who may open a session and keep it.

use jiff::SignedDuration;
use uuid::Uuid;

use super::*;
use crate::app::denials::Deny;
use crate::domain::trust::Step;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tasks::driver::{Triggers, drive};
use crate::tasks::liveness::Liveness;

/// With the first certificate of the cluster.
pub(super) fn speaker(context: &Context, cluster: ClusterUid) -> Speaker {
    Speaker {
        cluster,
        root: context.app.ca().fingerprint(),
        serial: Serial::of(&[1]),
        ends_at: context.app.now() + crate::ca::AGENT_LIFE,
    }
}

impl Agent {
    pub(super) fn of(context: Context, cluster: ClusterUid) -> Self {
        let speaker = speaker(&context, cluster);
        Self::speaking(context, speaker)
    }
}

impl World {
    /// Watches for revocations, as a hub that leads does.
    fn watching(&self) {
        let liveness = Liveness {
            app: Arc::clone(&self.hub.app),
            sessions: self.sessions.clone(),
            started: Instant::now(),
            grace: Timing::default().idle,
        };
        let triggers = Triggers {
            every: Timing::default().beat,
            prefixes: Liveness::prefixes(),
            awaited: Vec::new(),
        };
        let store: Arc<dyn Store> = Arc::clone(self.hub.app.store());
        let work = drive(
            liveness,
            triggers,
            store,
            Arc::<Metrics>::default(),
            self.stop.clone(),
        );
        tokio::spawn(work);
    }

    fn speaker(&self, serial: u8) -> Speaker {
        Speaker {
            cluster: uid(LAB_1),
            root: String::new(),
            serial: Serial::of(&[serial]),
            ends_at: self.hub.app.now() + crate::ca::AGENT_LIFE,
        }
    }

    async fn deny(&self, what: Deny) {
        let manner = Manner::default();
        let denied = self
            .hub
            .app
            .deny("lab-1", &what, ("admin", "lost"), &manner);
        denied.await.unwrap();
    }

    async fn is_connected(&self) -> bool {
        self.hub.app.member_views().await.unwrap().value[0].is_connected()
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_the_certificate_that_opened_it_and_says_so() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    world.hub.clock.advance(crate::ca::AGENT_LIFE);
    let begun = Instant::now();
    let bye = agent.bye().await;
    assert_eq!(bye.code, codes::CERTIFICATE);
    assert!(
        bye.message.contains("the hub's clock says"),
        "{}",
        bye.message
    );
    assert!(begun.elapsed() <= Timing::default().beat.mul_f64(1.2));
    agent.served.await.unwrap();
    assert!(!world.is_connected().await);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_the_open_session_within_a_second_and_the_next_is_not_let_in() {
    for (what, code) in [
        (Deny::Cluster, codes::REVOKED),
        (Deny::Unknown(Serial::of(&[1])), codes::CERTIFICATE),
    ] {
        let world = World::new().await;
        world.watching();
        let (mut agent, _) = world.welcomed(None).await;
        let begun = Instant::now();
        world.deny(what).await;
        assert_eq!(agent.bye().await.code, code);
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        agent.served.await.unwrap();
        assert!(!world.is_connected().await);
        let mut again = world.connect(LAB_1);
        again.say(FromAgent::Hello(hello(LAB_1, None))).await;
        assert_eq!(again.bye().await.code, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_a_session_whose_agent_reads_nothing_within_a_second() {
    let world = World::new().await;
    world.watching();
    let deaf = ends::deaf(&world).await;
    let begun = Instant::now();
    world.deny(Deny::Cluster).await;
    deaf.served.await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn another_certificate_of_the_member_is_not_denied_with_the_first() {
    let world = World::new().await;
    world.watching();
    world.deny(Deny::Unknown(Serial::of(&[1]))).await;
    let mut agent = Agent::speaking(world.context(), world.speaker(2));
    agent.say(FromAgent::Hello(hello(LAB_1, None))).await;
    agent.welcome().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_moves_to_another_connection_is_never_called_unreachable() {
    let world = World::new().await;
    let (agent, _) = world.welcomed(None).await;
    agent
        .say(FromAgent::Bye(proto::Bye {
            code: codes::RECONNECT.to_owned(),
            message: String::new(),
        }))
        .await;
    agent.served.await.unwrap();
    assert!(world.is_connected().await);
    let (_agent, _) = world.welcomed(None).await;
    assert!(world.is_connected().await);
}

/// Opens sessions of two instances in turn until one is not let in, and then says which it was and why.
async fn alternate(world: &World, pause: SignedDuration) -> Option<(usize, proto::Bye)> {
    let mut open = Vec::new();
    for turn in 0..10 {
        let instance = Uuid::from_u128(1 + turn % 2);
        let mut agent = world.connect(LAB_1);
        let hello = proto::Hello {
            instance_id: instance.to_string(),
            ..hello(LAB_1, None)
        };
        agent.say(FromAgent::Hello(hello)).await;
        let frame = agent.hear_more().await;
        if let Frame::Bye(bye) = frame {
            return Some((open.len(), bye));
        }
        assert!(matches!(frame, Frame::Welcome(_)), "{frame:?}");
        open.push(agent);
        world.hub.clock.advance(pause);
    }
    None
}

#[tokio::test(start_paused = true)]
async fn two_devices_with_one_identity_are_both_put_in_quarantine() {
    let world = World::new().await;
    world.watching();
    let (sessions, bye) = alternate(&world, SignedDuration::from_secs(5))
        .await
        .unwrap();
    assert_eq!((sessions, bye.code.as_str()), (7, codes::QUARANTINED));
    let mut other = world.connect(LAB_1);
    other.say(FromAgent::Hello(hello(LAB_1, None))).await;
    assert_eq!(other.bye().await.code, codes::QUARANTINED);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(world.sessions.connected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn replicas_that_hand_over_once_in_a_while_are_not() {
    let world = World::new().await;
    assert_eq!(alternate(&world, SignedDuration::from_mins(5)).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_instance_id_that_is_none_is_refused_by_field() {
    let world = World::new().await;
    for instance_id in ["", "i1", "77777777-3b5e-4a3e-9d57-0d9a3c1f1e11x"] {
        let mut agent = world.connect(LAB_1);
        let hello = proto::Hello {
            instance_id: instance_id.to_owned(),
            ..hello(LAB_1, None)
        };
        agent.say(FromAgent::Hello(hello)).await;
        let bye = agent.bye().await;
        assert_eq!(bye.code, codes::PROTOCOL_ERROR, "{instance_id:?}");
        assert!(bye.message.contains("hello.instance_id"), "{}", bye.message);
    }
}

async fn reported(world: &World, cluster: &str) -> usize {
    let store = world.hub.app.store();
    let kinds = [
        keys::outcomes_of(uid(cluster)).text(),
        keys::observed_of(uid(cluster)).text(),
    ]
    .map(str::to_owned);
    let kept = store.list(kinds.to_vec()).await.unwrap().value;
    kept.into_iter().flatten().count()
}

/// A question and its answer prove that what was said before was dealt with.
async fn settle(agent: &mut Agent) {
    agent.holds(vec![entry(99)]).await;
    agent.confirm().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_member_says_of_objects_that_it_was_never_told_is_kept_nowhere() {
    let world = World::new().await;
    world.hub.member("lab-2", LAB_2).await;
    let told = world.want(1, upsert("x")).await;
    let (mut agent, _) = world.welcomed(None).await;
    let apply = agent.apply().await;
    agent.ack(&apply).await;
    // An object of nobody, and a revision of its own object that does not exist yet.
    agent.outcome(7, told, OutcomeResult::Applied, "").await;
    agent
        .outcome(1, Revision(told.0 + 1), OutcomeResult::Applied, "")
        .await;
    agent
        .say(FromAgent::Status(proto::StatusDelta {
            object_id: id(7).to_string(),
            for_revision: told.0,
            status: b"{}".to_vec().into(),
            ..proto::StatusDelta::default()
        }))
        .await;
    settle(&mut agent).await;
    assert_eq!(
        (reported(&world, LAB_1).await, reported(&world, LAB_2).await),
        (0, 0)
    );
    agent.outcome(1, told, OutcomeResult::Applied, "").await;
    settle(&mut agent).await;
    assert_eq!(
        (reported(&world, LAB_1).await, reported(&world, LAB_2).await),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_no_version_but_a_flood_is_refused_by_field() {
    let world = World::new().await;
    let mut agent = world.connect(LAB_1);
    let hello = proto::Hello {
        agent_version: "1".repeat(129),
        ..hello(LAB_1, None)
    };
    agent.say(FromAgent::Hello(hello)).await;
    let bye = agent.bye().await;
    assert!(
        bye.message.contains("hello.agent_version"),
        "{}",
        bye.message
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_hears_of_other_roots_and_ends_when_that_of_its_certificate_goes() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let (ca, now) = (world.hub.app.ca(), world.hub.app.now());
    let old = ca.fingerprint();
    let root = ca.newcomer(now, false).unwrap().unwrap();
    for (step, version) in [(Step::Rotate(root), 2), (Step::Advance, 3)] {
        ca.put_in_force(ca.bundle().after(&step, now).unwrap())
            .unwrap();
        let frame = agent.hear_more().await;
        let Frame::Trust(bundle) = frame else {
            panic!("no roots: {frame:?}")
        };
        assert_eq!((bundle.version, bundle.roots.len()), (version, 2));
    }
    // Who opens a session meanwhile hears of them, too: Hello does not say which roots it has.
    let speaker = Speaker {
        root: old,
        ..world.speaker(2)
    };
    let mut newer = Agent::speaking(world.context(), speaker);
    newer.say(FromAgent::Hello(hello(LAB_1, None))).await;
    newer.welcome().await;
    let frame = newer.hear_more().await;
    assert!(matches!(frame, Frame::Trust(_)), "{frame:?}");
    ca.put_in_force(ca.bundle().after(&Step::Advance, now).unwrap())
        .unwrap();
    let bye = newer.bye().await;
    assert_eq!(bye.code, codes::CERTIFICATE);
    assert!(bye.message.contains("trusted no more"), "{}", bye.message);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_holds_older_roots_is_told_again_and_a_wrong_digest_is_no_report() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    let (ca, now) = (world.hub.app.ca(), world.hub.app.now());
    let root = ca.newcomer(now, false).unwrap().unwrap();
    ca.put_in_force(ca.bundle().after(&Step::Rotate(root), now).unwrap())
        .unwrap();
    assert!(matches!(agent.hear_more().await, Frame::Trust(_)));
    let report = |version: u64, digest: Vec<u8>| {
        FromAgent::Recs(proto::RecInventory {
            trust_version: version,
            trust_digest: digest.into(),
            ..proto::RecInventory::default()
        })
    };
    agent.say(report(1, vec![0; 32])).await;
    assert!(matches!(agent.hear_more().await, Frame::Trust(_)));
    agent.say(report(2, vec![0; 31])).await;
    let bye = agent.bye().await;
    assert_eq!(bye.code, codes::PROTOCOL_ERROR);
    assert!(bye.message.contains("trust_digest"), "{}", bye.message);
}
