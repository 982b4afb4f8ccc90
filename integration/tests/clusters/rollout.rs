//! A change of the pods, under load, while the agent is killed in the middle.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use meridian_integration::{
    stack::Cluster,
    wait::{Look, until},
};

use super::{
    load::{Load, start_all},
    support::{
        ROLLED_OUT, cluster, condition, database, events, gone, pods, replicated, running, state,
    },
    watched::Watched,
};

/// What a watcher of the pods has seen.
#[derive(Debug, Default)]
struct Seen {
    most_away: usize,
    states: Vec<String>,
}

/// Looks at pods and state until `stop`.
async fn watch(
    cluster: &Cluster,
    rec: &str,
    nodes: usize,
    stop: &AtomicBool,
) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let serving = pods(cluster, rec)?
            .values()
            .filter(|(_, ready)| *ready)
            .count();
        seen.most_away = seen.most_away.max(nodes.saturating_sub(serving));
        let found = cluster.get("rec", rec)?.unwrap_or_default();
        let word = state(&found).to_owned();
        if seen.states.last() != Some(&word) {
            seen.states.push(word);
        }
        tokio::task::yield_now().await;
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_pods_is_rolled_out_one_at_a_time_under_load_and_over_a_killed_agent() {
    let cluster = cluster().await;
    running(cluster, "roll", "").await.unwrap();
    let region = database(cluster, "roll", "roll-db").await.unwrap();
    let before = pods(cluster, "roll").unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let writer = Load::start(&region);
    let watcher = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move { watch(cluster, "roll", 3, &stop).await }
    });
    let started = Instant::now();
    change_the_pods(cluster, "roll");
    // In the middle: one pod is new, two are old.
    first_is_new(cluster, &before).await;
    let agents = "app.kubernetes.io/name=meridian-agent";
    cluster
        .must(&["delete", "pods", "-l", agents, "--grace-period=1"], "")
        .unwrap();

    rolled_out(cluster, "roll", &before).await;
    let took = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    let seen = watcher.await.unwrap().unwrap();
    let written = writer.finish().await;

    assert_eq!(seen.most_away, 1, "{seen:?}");
    assert!(
        seen.states
            .iter()
            .any(|word| word == "RunningRollingUpdate"),
        "{seen:?}"
    );
    let told = events(cluster, "roll", "DatabasesAway").unwrap();
    assert!(told.iter().any(|text| text.contains("roll-db")), "{told:?}");
    written.kept("a rollout over killed agents");
    println!(
        "rollout of 3 pods with the agents killed in the middle: {:.1} s, states {:?}, {written}",
        took.as_secs_f64(),
        seen.states,
    );
    cluster
        .must(&["delete", "redb", "roll-db", "--timeout=60s"], "")
        .unwrap();
    gone(cluster, "roll").await.unwrap();
}

/// A change of the pods' template.
fn change_the_pods(cluster: &Cluster, rec: &str) {
    let patch = r#"{"spec": {"podAnnotations": {"changed": "yes"}}}"#;
    cluster
        .must(&["patch", "rec", rec, "--type=merge", "-p", patch], "")
        .unwrap();
}

/// The primary of a database with a replica is led elsewhere before its pod goes: nothing is lost, and nobody waits longer
/// than for a planned move.
#[tokio::test(flavor = "multi_thread")]
async fn primaries_are_led_away_before_their_pod_goes() {
    let cluster = cluster().await;
    running(cluster, "shift", "").await.unwrap();
    let mut regions = BTreeMap::new();
    for name in ["shift-a", "shift-b"] {
        let region = replicated(cluster, "shift", name, "").await.unwrap();
        regions.insert(name.to_owned(), region);
    }
    let before = pods(cluster, "shift").unwrap();
    let watched = Watched::start(cluster, "shift", 3).await.unwrap();
    let writers = start_all(&regions);
    let started = Instant::now();
    change_the_pods(cluster, "shift");
    rolled_out(cluster, "shift", &before).await;
    let took = started.elapsed();
    let seen = watched.finish().unwrap();
    for (name, writer) in writers {
        let written = writer.finish().await;
        println!(
            "{name} in a rollout of {:.1} s: {} moves, {written}",
            took.as_secs_f64(),
            seen.moves(&name)
        );
        written.moved_at_most(&name);
    }
    assert_eq!(seen.deleted_under_a_primary(), Vec::<String>::new());
    assert_eq!((seen.fewest(), seen.went()), (2, 3), "{seen:?}");
    let moves: usize = regions.keys().map(|name| seen.moves(name)).sum();
    assert!(
        moves >= 2,
        "every pod went, so each primary moved: {seen:?}"
    );
    for name in regions.keys() {
        cluster
            .must(&["delete", "redb", name, "--timeout=60s"], "")
            .unwrap();
    }
    gone(cluster, "shift").await.unwrap();
}

async fn rolled_out(cluster: &Cluster, rec: &str, before: &BTreeMap<String, (String, bool)>) {
    until("all pods are new and serve", ROLLED_OUT, || async {
        let now = pods(cluster, rec)?;
        let new = now
            .iter()
            .filter(|(name, (uid, ready))| {
                *ready && before.get(*name).is_some_and(|(old, _)| old != uid)
            })
            .count();
        let rec = cluster.get("rec", rec)?.unwrap_or_default();
        let done =
            new == 3 && state(&rec) == "Running" && condition(&rec, "UpToDate").starts_with("True");
        Ok(if done {
            Look::Holds(())
        } else {
            Look::NotYet(condition(&rec, "UpToDate"))
        })
    })
    .await
    .map_err(|error| error.context(cluster.evidence()))
    .unwrap();
}

async fn first_is_new(cluster: &Cluster, before: &BTreeMap<String, (String, bool)>) {
    until("the first pod is made anew", ROLLED_OUT, || async {
        let changed = pods(cluster, "roll")?
            .iter()
            .filter(|(name, (uid, _))| before.get(*name).is_none_or(|(old, _)| old != uid))
            .count();
        Ok(if changed >= 1 {
            Look::Holds(())
        } else {
            Look::NotYet("none".into())
        })
    })
    .await
    .unwrap();
}
