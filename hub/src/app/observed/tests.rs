//! Over a store that counts its revisions: what members say again and again writes nothing, whatever moves with time, and after a
//! start as well.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::app::reports::Report;
use crate::app::testing::{LAB_1, TestHub, uid};
use crate::domain::desired::{Action, Desired};
use crate::store::records::{self, TxnExt as _};
use crate::store::{Txn, keys};

fn id(n: u8) -> ObjectId {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
        .parse()
        .unwrap()
}

async fn told(hub: &TestHub, n: u8) -> Revision {
    let desired = Desired {
        object_id: id(n),
        api_version: "v1".to_owned(),
        kind: "Thing".to_owned(),
        namespace: "db".to_owned(),
        name: format!("thing-{n}"),
        data_bearing: false,
        after: Vec::new(),
        trace: None,
        plan_number: Default::default(),
        action: Action::Upsert { body: Value::Null },
    };
    let key = keys::desired(uid(LAB_1), id(n));
    let txn = Txn::new().put_record(&key, &desired).unwrap();
    hub.app.commit(txn).await.unwrap()
}

/// What a member says at one moment of one object.
#[derive(Clone, Copy, Debug)]
struct Saying {
    object: u8,
    /// What it means.
    phase: u8,
    link_up: bool,
    /// What moves with time.
    lag_ms: Option<u64>,
    second: i64,
}

impl Saying {
    fn observation(self) -> StoredObservation {
        let at = Timestamp::from_second(self.second).unwrap();
        StoredObservation {
            for_revision: Revision(1),
            status: json!({
                "status": format!("phase-{}", self.phase),
                "conditions": [{ "type": "Ready", "lastTransitionTime": at.to_string() }],
                "lastUpdated": at.to_string(),
            }),
            links: vec![LinkReport {
                instance_id: 7,
                from: "eu".to_owned(),
                state: if self.link_up { "up" } else { "down" }.to_owned(),
                last_error: String::new(),
                lag_ms: self.lag_ms,
                since: at,
            }],
            as_of: at,
        }
    }

    fn report(self) -> (ObjectId, Report) {
        (id(self.object), Report::Observation(self.observation()))
    }
}

async fn head(hub: &TestHub) -> Revision {
    hub.app.store().list(Vec::new()).await.unwrap().revision
}

async fn say(hub: &TestHub, sayings: &[Saying]) {
    let reports: Vec<_> = sayings.iter().map(|it| it.report()).collect();
    hub.app.report(uid(LAB_1), &reports).await.unwrap();
}

async fn seen(hub: &TestHub, n: u8) -> Observation {
    let key = keys::observed(uid(LAB_1), id(n));
    let stored = records::get(hub.app.store().as_ref(), &key).await.unwrap();
    let stored = stored.unwrap().record;
    hub.app.observations.latest(uid(LAB_1), id(n), &stored)
}

/// Lags below the first step.
fn unmoved(objects: u8) -> impl Strategy<Value = Vec<Saying>> {
    let one = (0..objects, prop::option::of(0..1_000_u64), 0..1_000_000_i64);
    let one = one.prop_map(|(object, lag_ms, second)| Saying {
        object,
        phase: 0,
        link_up: true,
        lag_ms,
        second,
    });
    prop::collection::vec(one, 1..200)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_does_not_move_is_stored_once_and_never_again_not_even_after_a_start(
        sayings in unmoved(4), pieces in 1..40_usize,
    ) {
        run(async {
            let hub = TestHub::new().await;
            for n in 0..4 {
                told(&hub, n).await;
                let first = Saying { object: n, phase: 0, link_up: true, lag_ms: None, second: 0 };
                say(&hub, &[first]).await;
            }
            let stored = head(&hub).await;
            for together in sayings.chunks(pieces) {
                say(&hub, together).await;
            }
            prop_assert_eq!(head(&hub).await, stored);
            let counts = hub.app.observations();
            prop_assert_eq!((counts.heard, counts.stored), (sayings.len() as u64 + 4, 4));

            let again = hub.restarted_with(hub.store.clone()).await;
            let stored = head(&again).await;
            for together in sayings.chunks(pieces) {
                say(&again, together).await;
            }
            prop_assert_eq!(head(&again).await, stored);
            prop_assert_eq!(again.app.observations().stored, 0);
            for (n, last) in (0..4).filter_map(|n| Some((n, sayings.iter().rfind(|it| it.object == n)?))) {
                let shown = seen(&again, n).await;
                prop_assert!(shown.heard);
                prop_assert_eq!(shown.links[0].lag_ms, last.lag_ms);
                prop_assert_eq!(shown.as_of, last.observation().as_of);
            }
            Ok(())
        })?;
    }

    #[test]
    fn whatever_is_said_the_store_has_the_newest_meaning(
        mut sayings in unmoved(2), edges in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<bool>()), 0..8),
        pieces in 1..40_usize,
    ) {
        for (at, phase, link_up) in edges {
            let at = at.index(sayings.len());
            (sayings[at].phase, sayings[at].link_up) = (phase, link_up);
        }
        run(async {
            let hub = TestHub::new().await;
            for n in 0..2 {
                told(&hub, n).await;
            }
            for together in sayings.chunks(pieces) {
                say(&hub, together).await;
            }
            for (n, last) in (0..2).filter_map(|n| Some((n, sayings.iter().rfind(|it| it.object == n)?))) {
                let shown = seen(&hub, n).await;
                prop_assert_eq!(&shown.status["status"], &last.observation().status["status"]);
                prop_assert_eq!(&shown.links[0].state, &last.observation().links[0].state);
                prop_assert_eq!(shown.links[0].lag_ms, last.lag_ms);
            }
            Ok(())
        })?;
    }
}

const FIRST: Saying = Saying {
    object: 0,
    phase: 0,
    link_up: true,
    lag_ms: Some(3),
    second: 1_000,
};

#[tokio::test]
async fn whatever_a_person_must_know_is_stored() {
    let hub = TestHub::new().await;
    told(&hub, 0).await;
    say(&hub, &[FIRST]).await;
    for edge in [
        Saying { phase: 1, ..FIRST },
        Saying {
            link_up: false,
            ..FIRST
        },
        FIRST,
        Saying {
            lag_ms: Some(20_000),
            ..FIRST
        },
    ] {
        let before = head(&hub).await;
        say(&hub, &[edge]).await;
        assert_eq!(head(&hub).await.0, before.0 + 1, "{edge:?}");
        say(&hub, &[edge]).await;
        assert_eq!(head(&hub).await.0, before.0 + 1, "again {edge:?}");
    }
}

#[tokio::test]
async fn after_a_start_the_edge_is_shown_as_unheard_and_its_lag_as_unknown_until_the_member_speaks()
{
    let hub = TestHub::new().await;
    told(&hub, 0).await;
    say(&hub, &[FIRST]).await;
    let later = Saying {
        lag_ms: Some(9),
        second: 5_000,
        ..FIRST
    };
    say(&hub, &[later]).await;
    let shown = seen(&hub, 0).await;
    assert_eq!((shown.heard, shown.links[0].lag_ms), (true, Some(9)));
    assert_eq!(shown.as_of, later.observation().as_of);

    let again = hub.restarted_with(hub.store.clone()).await;
    let shown = seen(&again, 0).await;
    assert_eq!((shown.heard, shown.links[0].lag_ms), (false, None));
    assert_eq!(shown.as_of, FIRST.observation().as_of);
    say(&again, &[later]).await;
    assert!(seen(&again, 0).await.heard);
    again.app.hear_anew(uid(LAB_1));
    assert!(!seen(&again, 0).await.heard, "a new session says it again");
}

#[tokio::test]
async fn what_is_gone_costs_no_memory_and_is_asked_of_the_store_when_it_is_there_again() {
    let hub = TestHub::new().await;
    told(&hub, 0).await;
    say(&hub, &[FIRST]).await;
    hub.app.forget_observed(uid(LAB_1), [id(0)].into_iter());
    assert!(hub.app.observations.lock()[&uid(LAB_1)].is_empty());
    let key = keys::observed(uid(LAB_1), id(0));
    hub.app.commit(Txn::new().delete(key.text())).await.unwrap();
    say(&hub, &[FIRST]).await;
    assert!(seen(&hub, 0).await.heard);
}

#[tokio::test]
async fn what_a_member_says_is_not_heard_in_what_was_stored_before_it() {
    let hub = TestHub::new().await;
    told(&hub, 0).await;
    say(&hub, &[FIRST]).await;
    let again = hub.restarted_with(hub.store.clone()).await;
    let other = Saying { phase: 1, ..FIRST }.observation();
    let observations = &again.app.observations;
    observations.begin(uid(LAB_1), id(0), &other);
    assert!(!seen(&again, 0).await.heard, "it said something else");
    observations.begin(uid(LAB_1), id(0), &FIRST.observation());
    assert!(seen(&again, 0).await.heard, "it said what is stored");
    say(&again, &[FIRST]).await;
    observations.begin(uid(LAB_1), id(0), &other);
    assert!(seen(&again, 0).await.heard, "it had said so before");
}
