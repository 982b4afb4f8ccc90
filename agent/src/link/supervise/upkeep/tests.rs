//! Months of a certificate's life in virtual time: the wall clock follows the paused clock of the runtime.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};

use super::*;
use crate::link::testing::Authority;

/// 2026-01-01, when the certificates of the test authority begin.
const BEGIN: i64 = 1_767_225_600_000;
const DAY: Duration = Duration::from_secs(86_400);

thread_local! {
    static START: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
}

/// The wall clock of the test: `at` now, and then as the runtime's clock goes.
fn begin_at(at: i64) {
    START.set(Some((Instant::now(), at)));
}

fn wall_ms() -> i64 {
    let (start, at) = START.get().expect("the test set its clock");
    at + i64::try_from(start.elapsed().as_millis()).unwrap()
}

#[derive(Default)]
struct Seen {
    asked: Vec<(i64, RenewRequest)>,
    connected: Vec<Option<String>>,
    kept: Vec<Identity>,
    notes: Vec<String>,
    over: usize,
    /// So many calls of each fail first.
    renewals_fail: usize,
    connections_fail: usize,
    writes_fail: usize,
    answers_for: Option<String>,
}

#[derive(Clone)]
struct World(Arc<Mutex<Seen>>, Arc<Authority>);

fn fails(left: &mut usize) -> Result<(), String> {
    if *left == 0 {
        return Ok(());
    }
    *left -= 1;
    Err("no answer".to_owned())
}

impl Hub for World {
    type Connection = Option<String>;

    async fn renew(&self, request: RenewRequest) -> Result<proto::EnrollResult, String> {
        let mut seen = self.0.lock().unwrap();
        seen.asked.push((wall_ms(), request.clone()));
        fails(&mut seen.renewals_fail)?;
        let mut result = self.1.result(&request.csr_der);
        if let Some(other) = &seen.answers_for {
            other.clone_into(&mut result.cluster_uid);
        }
        Ok(result)
    }

    async fn connect(&self, identity: &Identity) -> Result<Option<String>, String> {
        let mut seen = self.0.lock().unwrap();
        let chain = identity
            .membership
            .as_ref()
            .map(|known| known.chain_pem.clone());
        seen.connected.push(chain.clone());
        fails(&mut seen.connections_fail)?;
        Ok(chain)
    }
}

impl Store for World {
    async fn keep(&mut self, identity: &Identity) -> Result<(), String> {
        let mut seen = self.0.lock().unwrap();
        fails(&mut seen.writes_fail)?;
        seen.kept.push(identity.clone());
        Ok(())
    }
}

impl Listener for World {
    fn changed(&self, _: &Identity) {}

    async fn failing(&self, note: &str) {
        self.0.lock().unwrap().notes.push(note.to_owned());
    }

    fn over(&self) {
        self.0.lock().unwrap().over += 1;
    }
}

/// A member whose certificate lives from 2026-01-01 for a year, at `at`.
fn upkeep(at: i64, seen: Seen) -> (Upkeep<World, World, World>, World) {
    begin_at(at);
    let authority = Authority::new();
    let mut identity = Identity::generate().unwrap();
    let result = authority.result(&identity.request().unwrap());
    identity.accept(&result, "joined").unwrap();
    let world = World(Arc::new(Mutex::new(seen)), Arc::new(authority));
    let upkeep = Upkeep {
        hub: world.clone(),
        store: world.clone(),
        listener: world.clone(),
        identity,
        trust: watch::channel(None).1,
        observing: watch::channel(None).1,
        early: None,
        cluster_uid: "u1".to_owned(),
        wall_ms,
        random: || 0.5,
        held_since: None,
    };
    (upkeep, world)
}

fn days(at: i64) -> i64 {
    (at - BEGIN) / 86_400_000
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_between_half_and_two_thirds_of_its_life_and_the_stream_moves_to_it()
 {
    let (upkeep, world) = upkeep(BEGIN, Seen::default());
    let old = upkeep.identity.clone();
    let connection = upkeep.run().await;
    let seen = world.0.lock().unwrap();
    let [(at, request)] = seen.asked.as_slice() else {
        panic!("{} requests", seen.asked.len())
    };
    assert!((182..=241).contains(&days(*at)), "after {} days", days(*at));
    let [kept] = seen.kept.as_slice() else {
        panic!("kept {} times", seen.kept.len())
    };
    assert_ne!(kept.session_key_pem(), old.session_key_pem());
    assert_eq!(
        connection,
        kept.membership
            .as_ref()
            .map(|known| known.chain_pem.clone())
    );
    assert_eq!(
        request.device_public_key.as_ref(),
        old.device_public_key().unwrap()
    );
    assert_eq!(seen.over, 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_told_with_what_is_left_and_tried_again_ever_more_slowly() {
    let failing = Seen {
        renewals_fail: 12,
        ..Seen::default()
    };
    let (upkeep, world) = upkeep(BEGIN, failing);
    upkeep.run().await.unwrap();
    let seen = world.0.lock().unwrap();
    assert_eq!((seen.asked.len(), seen.notes.len()), (13, 12));
    let pauses: Vec<_> = seen
        .asked
        .windows(2)
        .map(|two| two[1].0 - two[0].0)
        .collect();
    assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
    assert!(
        pauses[0] < 15_000 && *pauses.last().unwrap() >= 300_000,
        "{pauses:?}"
    );
    for part in ["days left", "no answer", "tried again in", "device key"] {
        assert!(seen.notes[0].contains(part), "{}", seen.notes[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_moves_only_when_a_connection_with_the_new_certificate_stands() {
    let failing = Seen {
        connections_fail: 3,
        ..Seen::default()
    };
    let (upkeep, world) = upkeep(BEGIN, failing);
    upkeep.run().await.unwrap();
    let seen = world.0.lock().unwrap();
    assert_eq!(seen.asked.len(), 1, "it is not renewed again for that");
    assert_eq!((seen.connected.len(), seen.notes.len()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_could_not_be_stored_is_not_used() {
    let failing = Seen {
        writes_fail: 1,
        ..Seen::default()
    };
    let (upkeep, world) = upkeep(BEGIN, failing);
    let connection = upkeep.run().await;
    let seen = world.0.lock().unwrap();
    assert_eq!((seen.asked.len(), seen.kept.len()), (2, 1));
    let kept = seen.kept[0]
        .membership
        .as_ref()
        .map(|known| known.chain_pem.clone());
    assert_eq!(connection, kept);
}

#[tokio::test(start_paused = true)]
async fn with_a_clock_that_is_years_ahead_a_new_certificate_is_not_renewed_at_once() {
    let (mut upkeep, world) = upkeep(BEGIN + 3 * 365 * 86_400_000, Seen::default());
    upkeep.held_since = Some(Instant::now());
    let begun = Instant::now();
    upkeep.run().await.unwrap();
    assert!(begun.elapsed() >= DAY * 18, "{:?}", begun.elapsed());
    assert_eq!(world.0.lock().unwrap().asked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_has_long_been_due_is_renewed_at_once() {
    let (upkeep, world) = upkeep(BEGIN + 300 * 86_400_000, Seen::default());
    let begun = Instant::now();
    upkeep.run().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(world.0.lock().unwrap().asked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_another_cluster_is_not_used() {
    let lying = Seen {
        answers_for: Some("u2".to_owned()),
        ..Seen::default()
    };
    let (upkeep, world) = upkeep(BEGIN + 300 * 86_400_000, lying);
    tokio::time::timeout(DAY, upkeep.run()).await.unwrap_err();
    let seen = world.0.lock().unwrap();
    assert!(seen.kept.is_empty());
    assert!(
        seen.notes[0].contains("answered for cluster u2, expected u1"),
        "{}",
        seen.notes[0]
    );
}

/// What an open session hears.
fn told(upkeep: &mut Upkeep<World, World, World>) -> watch::Sender<Option<proto::TrustBundle>> {
    let (tell, trust) = watch::channel(None);
    upkeep.trust = trust;
    tell
}

#[tokio::test(start_paused = true)]
async fn roots_of_a_higher_version_are_stored_and_replayed_ones_are_not() {
    let (mut upkeep, world) = upkeep(BEGIN, Seen::default());
    let (tell, next) = (told(&mut upkeep), Authority::new());
    let both = world.1.bundle_with(&next, 2);
    let telling = async {
        for bundle in [&both, &world.1.bundle(1), &next.bundle(2)] {
            tokio::task::yield_now().await;
            tell.send_replace(Some(bundle.clone()));
            sleep(DAY).await;
        }
    };
    tokio::select! {
        _ = upkeep.run() => panic!("nothing is due"),
        () = telling => {}
    }
    let seen = world.0.lock().unwrap();
    let kept = seen
        .kept
        .iter()
        .map(|it| it.membership.clone().unwrap().trust);
    assert_eq!(kept.collect::<Vec<_>>(), [Trust::of(&both).unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_a_root_that_goes_is_renewed_within_a_minute() {
    let (mut upkeep, world) = upkeep(BEGIN, Seen::default());
    let (tell, next) = (told(&mut upkeep), Authority::new());
    let signing = next.bundle_with(&world.1, 2);
    let begun = Instant::now();
    let telling = async {
        tokio::task::yield_now().await;
        tell.send_replace(Some(signing));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        connection = upkeep.run() => drop(connection),
        () = telling => {}
    }
    assert_eq!(begun.elapsed(), EARLY / 2, "at the moment that was drawn");
    assert_eq!(world.0.lock().unwrap().asked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_by_a_hub_that_is_only_observed_brings_no_roots() {
    let (mut upkeep, world) = upkeep(BEGIN + 300 * 86_400_000, Seen::default());
    upkeep.observing = watch::channel(Some("a test".to_owned())).1;
    let known = upkeep.identity.membership.clone().unwrap().trust;
    let mut lower = known.clone();
    lower.version = 0;
    upkeep.identity.membership.as_mut().unwrap().trust = lower.clone();
    upkeep.run().await.unwrap();
    let kept = world.0.lock().unwrap().kept[0].membership.clone().unwrap();
    assert_eq!(kept.trust, lower);
}
