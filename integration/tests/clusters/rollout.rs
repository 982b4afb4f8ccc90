//! A change of the pods, under load, while the agent is killed in the middle.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use meridian_integration::{
    stack::{Cluster, Region},
    wait::{Look, until},
};

use super::support::{
    ROLLED_OUT, cluster, condition, database, events, gone, pods, running, state,
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

/// Writes numbered keys until `stop`; gives the ids that were acknowledged, and the longest time without one.
pub(super) async fn write(region: Region, stop: Arc<AtomicBool>) -> (Vec<u64>, Duration) {
    let mut acknowledged = Vec::new();
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let mut connection = None;
    for id in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if connection.is_none() {
            connection = region.connect().await.ok();
        }
        let Some(open) = &mut connection else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut set = redis::cmd("SET");
        set.arg(format!("id:{id}")).arg(id);
        match tokio::time::timeout(Duration::from_secs(2), set.query_async::<()>(open)).await {
            Ok(Ok(())) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                acknowledged.push(id);
            }
            Ok(Err(_)) | Err(_) => connection = None,
        }
    }
    (acknowledged, longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_pods_is_rolled_out_one_at_a_time_under_load_and_over_a_killed_agent() {
    let cluster = cluster().await;
    running(cluster, "roll", "").await.unwrap();
    let region = database(cluster, "roll", "roll-db").await.unwrap();
    let before = pods(cluster, "roll").unwrap();

    let (stop, stop_writing) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let writer = tokio::spawn(write(region.clone(), Arc::clone(&stop_writing)));
    let watcher = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move { watch(cluster, "roll", 3, &stop).await }
    });
    let started = Instant::now();
    let patch = r#"{"spec": {"podAnnotations": {"changed": "yes"}}}"#;
    cluster
        .must(&["patch", "rec", "roll", "--type=merge", "-p", patch], "")
        .unwrap();
    // In the middle: one pod is new, two are old.
    first_is_new(cluster, &before).await;
    let agents = "app.kubernetes.io/name=meridian-agent";
    cluster
        .must(&["delete", "pods", "-l", agents, "--grace-period=1"], "")
        .unwrap();

    rolled_out(cluster, &before).await;
    let took = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    let seen = watcher.await.unwrap().unwrap();
    stop_writing.store(true, Ordering::Relaxed);
    let (acknowledged, gap) = writer.await.unwrap();

    assert_eq!(seen.most_away, 1, "{seen:?}");
    assert!(
        seen.states
            .iter()
            .any(|word| word == "RunningRollingUpdate"),
        "{seen:?}"
    );
    let told = events(cluster, "roll", "DatabasesAway").unwrap();
    assert!(told.iter().any(|text| text.contains("roll-db")), "{told:?}");
    assert_eq!(
        lost(&region, &acknowledged).await,
        0,
        "of {} acknowledged writes",
        acknowledged.len()
    );
    println!(
        "rollout of 3 pods with the agents killed in the middle: {:.1} s, states {:?}, {} writes acknowledged, 0 lost, longest \
         time without one {:.1} s",
        took.as_secs_f64(),
        seen.states,
        acknowledged.len(),
        gap.as_secs_f64()
    );
    cluster
        .must(&["delete", "redb", "roll-db", "--timeout=60s"], "")
        .unwrap();
    gone(cluster, "roll").await.unwrap();
}

/// How many of the acknowledged ids are not there.
pub(super) async fn lost(region: &Region, acknowledged: &[u64]) -> usize {
    let mut connection = region.connect().await.unwrap();
    let mut lost = 0;
    for id in acknowledged {
        let found: Option<u64> = redis::cmd("GET")
            .arg(format!("id:{id}"))
            .query_async(&mut connection)
            .await
            .unwrap();
        lost += usize::from(found != Some(*id));
    }
    lost
}

async fn rolled_out(cluster: &Cluster, before: &BTreeMap<String, (String, bool)>) {
    until("all pods are new and serve", ROLLED_OUT, || async {
        let now = pods(cluster, "roll")?;
        let new = now
            .iter()
            .filter(|(name, (uid, ready))| {
                *ready && before.get(*name).is_some_and(|(old, _)| old != uid)
            })
            .count();
        let rec = cluster.get("rec", "roll")?.unwrap_or_default();
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
