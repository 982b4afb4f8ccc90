//! The tasks over a store in memory: from intent to what members are told, and back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_api::ids::ClusterUid;
use tokio::time::{Instant, advance};
use tokio_util::sync::CancellationToken;

use super::liveness::Liveness;
use super::plan::Planning;
use super::{Outcome, Task as _, deliver};
use crate::app::testing::{LAB_1, LAB_2, TestHub, database, uid};
use crate::app::writes::Manner;
use crate::domain::cluster::Presence;
use crate::domain::denial::{Serial, Speaker};
use crate::link::sessions::Sessions;
use crate::store::memory::MemoryStore;
use crate::store::records::{OutcomeKind, StoredOutcome};

async fn hub() -> TestHub {
    let hub = TestHub::new().await;
    hub.member("lab-1", LAB_1).await;
    hub.member("lab-2", LAB_2).await;
    hub
}

/// Plans until nothing is left to plan.
async fn plan(hub: &TestHub) {
    let mut planning = Planning::new(Arc::clone(&hub.app));
    while planning.activate().await.unwrap() == Outcome::Progressed {}
}

/// The member carries out everything that it is told.
async fn obey(hub: &TestHub, cluster: ClusterUid) {
    for held in hub.app.desired_of(cluster).await.unwrap().value {
        let outcome = StoredOutcome {
            revision: held.modified,
            result: OutcomeKind::Applied,
            code: String::new(),
            message: String::new(),
            as_of: hub.app.now(),
        };
        hub.app
            .outcome(cluster, held.record.object_id, outcome)
            .await
            .unwrap();
    }
}

fn speaker(cluster: &str) -> Speaker {
    Speaker {
        cluster: uid(cluster),
        root: String::new(),
        serial: Serial::of(&[1]),
        ends_at: jiff::Timestamp::MAX,
    }
}

#[tokio::test]
async fn a_created_database_reaches_the_sessions_of_its_participants() {
    let hub = hub().await;
    let (sessions, stop) = (Sessions::default(), CancellationToken::new());
    let store = Arc::clone(hub.app.store());
    let delivery = tokio::spawn(deliver::run(store, sessions.clone(), stop.clone()));
    let seats = [LAB_1, LAB_2].map(|cluster| {
        sessions
            .take_seat(speaker(cluster), 1, hub.app.now())
            .unwrap()
    });
    hub.app
        .create_database(&database("shop", &["lab-1", "lab-2"]), &Manner::default())
        .await
        .unwrap();
    plan(&hub).await;
    for (seat, cluster) in seats.iter().zip([LAB_1, LAB_2]) {
        let told = hub.app.desired_of(uid(cluster)).await.unwrap().value;
        let told: BTreeSet<_> = told.iter().map(|held| held.record.object_id).collect();
        let mut marked = BTreeSet::new();
        while marked != told {
            marked.extend(seat.outbox.take(64).await.0.objects);
        }
        assert_eq!(
            told.len(),
            4,
            "the database, its instance, and two remote clusters"
        );
    }
    stop.cancel();
    delivery.await.unwrap();
}

#[tokio::test]
async fn a_confirmed_deletion_is_over_when_every_member_has_said_so() {
    let hub = hub().await;
    hub.app
        .create_database(&database("shop", &["lab-1", "lab-2"]), &Manner::default())
        .await
        .unwrap();
    plan(&hub).await;
    hub.app
        .delete_database("shop", Some("shop"), "alice", &Manner::default())
        .await
        .unwrap();
    plan(&hub).await;
    obey(&hub, uid(LAB_1)).await;
    plan(&hub).await;
    hub.app.database("shop").await.unwrap();
    obey(&hub, uid(LAB_2)).await;
    // The remote clusters go after the database that needed them.
    plan(&hub).await;
    obey(&hub, uid(LAB_1)).await;
    obey(&hub, uid(LAB_2)).await;
    plan(&hub).await;
    hub.app.database("shop").await.unwrap_err();
    for cluster in [LAB_1, LAB_2] {
        assert!(
            hub.app
                .desired_of(uid(cluster))
                .await
                .unwrap()
                .value
                .is_empty()
        );
    }
    hub.app
        .create_database(&database("shop", &["lab-1", "lab-2"]), &Manner::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hub_that_observes_plans_nothing() {
    let lost = hub().await.restarted_with(MemoryStore::new()).await;
    let mut planning = Planning::new(Arc::clone(&lost.app));
    assert_eq!(planning.activate().await.unwrap(), Outcome::HeldBack);
}

#[tokio::test]
async fn a_plan_that_exceeds_one_transaction_is_carried_out_whole() {
    let hub = TestHub::new().await;
    let clusters: Vec<_> = (0..30_u8)
        .map(|n| {
            (
                format!("lab-{n}"),
                format!("{n:02x}000000-0000-4000-8000-000000000001"),
            )
        })
        .collect();
    for (name, cluster) in &clusters {
        hub.member(name, cluster).await;
    }
    let names: Vec<_> = clusters.iter().map(|(name, _)| name.as_str()).collect();
    hub.app
        .create_database(&database("shop", &names), &Manner::default())
        .await
        .unwrap();
    plan(&hub).await;
    for (_, cluster) in &clusters {
        assert_eq!(
            hub.app.desired_of(uid(cluster)).await.unwrap().value.len(),
            32
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_come_back_after_a_restart_is_called_unreachable() {
    let hub = hub().await;
    for cluster in [LAB_1, LAB_2] {
        hub.app
            .presence(uid(cluster), Presence::Connected, 1)
            .await
            .unwrap();
    }
    let sessions = Sessions::default();
    let _back = sessions
        .take_seat(speaker(LAB_2), 2, hub.app.now())
        .unwrap();
    let (app, started, grace) = (
        Arc::clone(&hub.app),
        Instant::now(),
        Duration::from_secs(30),
    );
    let mut liveness = Liveness {
        app,
        sessions,
        started,
        grace,
    };
    let connected = async || {
        let views = hub.app.member_views().await.unwrap().value;
        views
            .iter()
            .map(|view| view.is_connected())
            .collect::<Vec<_>>()
    };
    liveness.activate().await.unwrap();
    assert_eq!(connected().await, [true, true], "it may still come back");
    advance(grace).await;
    liveness.activate().await.unwrap();
    assert_eq!(connected().await, [false, true]);
}

#[tokio::test]
async fn a_removed_registration_ends_its_session() {
    let hub = hub().await;
    let sessions = Sessions::default();
    let seat = sessions
        .take_seat(speaker(LAB_1), 1, hub.app.now())
        .unwrap();
    let (app, started, grace) = (Arc::clone(&hub.app), Instant::now(), Duration::ZERO);
    let mut liveness = Liveness {
        app,
        sessions,
        started,
        grace,
    };
    liveness.activate().await.unwrap();
    assert!(!seat.revoked.is_cancelled());
    hub.app
        .remove_cluster("lab-1", &Manner::default())
        .await
        .unwrap();
    liveness.activate().await.unwrap();
    assert!(seat.revoked.is_cancelled());
}
