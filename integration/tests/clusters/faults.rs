//! Every fault that the primary of a database with a replica can meet, once each under load. Two judges: the ids of
//! acknowledged writes, and clients that stand in every pod and see who else acknowledges. Figures are the bench's affair.

use std::time::Duration;

use meridian_integration::{
    failover::{Cause, Loss, Outcome, Site, Waits, play, told_as_counted},
    lab::{Lab, LabConfig},
};
use tokio::sync::{Mutex, OnceCell};

use super::support::cluster;

static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();

async fn site() -> &'static Mutex<Site> {
    SITE.get_or_init(|| async {
        Lab::refuse_others("playing faults on hosts, their network and the control plane")
            .expect("a lab of our own");
        let cluster = cluster().await.clone();
        let config = LabConfig::from_environment().expect("a configuration");
        let lab = Lab::attach(&config)
            .expect("a lab")
            .expect("a lab that is up");
        let site = Site::prepare(lab, cluster).await;
        Mutex::new(site.expect("a database with a replica"))
    })
    .await
}

/// `FULL=1` keeps the API server away for ten minutes, and puts the store back by ten.
fn waits() -> Waits {
    match std::env::var("FULL").as_deref() {
        Ok("1") => Waits::FULL,
        Ok(_) | Err(_) => Waits::SHORT,
    }
}

/// Plays a cause, and asserts what holds for every one.
#[expect(clippy::print_stdout, reason = "the figures of a test that passes")]
async fn plays(name: &str) -> Outcome {
    let cause = Cause::named(name).expect("a cause of this name");
    let mut site = site().await.lock().await;
    let run = format!("{name}-{}", std::process::id());
    let outcome = play(&site, cause, &run, &waits()).await.unwrap();
    let found = &outcome.judgement;
    println!(
        "{name}: {} writes acknowledged, {} lost, {} ms without one, taken over after {:?} ms, EXEC {}, {:?}",
        found.acknowledged,
        found.lost.len(),
        found.gap_ms,
        found.took_over_ms,
        outcome.transaction,
        outcome.events
    );
    if outcome.stuck.is_some() {
        // The next fault needs a database that is well.
        site.remake_database().await.unwrap();
    }
    assert_eq!(
        outcome.stuck, None,
        "{name}: the database does not come back"
    );
    assert!(
        found.doubles.is_empty(),
        "two primaries acknowledged: {:?}",
        found.doubles
    );
    assert!(
        found.tail_only,
        "more than the last writes are lost: {:?}",
        found.lost
    );
    let kept = found.lost.is_empty();
    assert!(
        cause.loss == Loss::Tail || kept,
        "acknowledged and lost: {:?}",
        found.lost
    );
    if let Some(bar) = cause.bar {
        let gap = Duration::from_millis(found.gap_ms);
        assert!(
            gap <= bar,
            "{name}: nobody could write for {gap:?}, promised is {bar:?}"
        );
    }
    told_as_counted(cause, &outcome).unwrap();
    let moved = found.took_over_ms.is_some();
    assert!(
        moved || !cause.moves,
        "nobody took over: {:?}",
        outcome.reigns
    );
    outcome
}

/// Nobody noticed: the longest time without a write is not that of a failover.
fn unnoticed(outcome: &Outcome) {
    let gap = Duration::from_millis(outcome.judgement.gap_ms);
    assert!(
        outcome.reigns.len() == 1 && gap < Duration::from_secs(3),
        "{gap:?}, {:?}",
        outcome.reigns
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_move_loses_nothing() {
    plays("planned-move").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_hands_over_and_loses_nothing() {
    plays("pod-deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_every_node_in_turn_loses_nothing() {
    plays("drain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_by_force_is_replaced() {
    plays("pod-force-deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_first_process_is_killed_is_replaced() {
    plays("pod-killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_valkey_is_replaced() {
    plays("valkey-killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_power_is_replaced() {
    plays("node-off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_power_is_replaced_although_it_carried_the_leader() {
    plays("node-off-leader").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valkey_that_was_stopped_acknowledges_nothing_when_it_wakes_up() {
    let outcome = plays("valkey-stopped").await;
    assert!(
        outcome.transaction.starts_with("refused"),
        "{}",
        outcome.transaction
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_first_process_costs_no_acknowledged_write() {
    plays("pid1-stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_stopped_acknowledges_nothing_when_it_wakes_up() {
    let outcome = plays("pod-stopped").await;
    assert!(
        outcome.transaction.starts_with("refused"),
        "{}",
        outcome.transaction
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reaches_nobody_stops_acknowledging_before_another_begins() {
    let outcome = plays("node-cut-off").await;
    assert!(
        outcome.transaction.starts_with("refused"),
        "{}",
        outcome.transaction
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reaches_nobody_is_replaced_although_it_carried_the_leader() {
    plays("node-cut-off-leader").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reaches_its_replica_needs_no_api_server() {
    plays("node-without-api").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_the_api_server_is_away() {
    unnoticed(&plays("api-away").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_back_in_time_costs_nothing() {
    plays("store-restored").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_without_memory_is_replaced() {
    plays("out-of-memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_on_a_full_disk_is_replaced_and_follows_once_there_is_room() {
    plays("disk-full").await;
}
