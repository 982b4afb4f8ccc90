//! What the API server showed of a topology while a fault was played.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use kube::Api;
use meridian_api::crds::DatabaseTopology;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::now;
use super::judge::Reign;
use super::site::Newest;
use crate::stack::Cluster;

/// Pause between two looks: no primary stays for less.
const LOOK: Duration = Duration::from_millis(100);
/// How long an answer may take; an API server that is away says nothing.
const ANSWER: Duration = Duration::from_secs(1);

/// Looks at a topology all the time. Looks and does not watch, because a store that goes back in time breaks watches.
#[derive(Debug)]
pub(crate) struct History {
    stop: CancellationToken,
    task: JoinHandle<Vec<Reign>>,
}

impl History {
    /// Every epoch that is seen counts for `newest`.
    pub(crate) fn start(topologies: Api<DatabaseTopology>, name: &str, newest: Newest) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(look(topologies, name.to_owned(), newest, stop.clone()));
        Self { stop, task }
    }

    /// Who was primary, in the order in which it was seen; each change once.
    pub(crate) async fn finish(self) -> Result<Vec<Reign>> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

async fn look(
    topologies: Api<DatabaseTopology>,
    name: String,
    newest: Newest,
    stop: CancellationToken,
) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let Ok(Ok(topology)) = tokio::time::timeout(ANSWER, topologies.get(&name)).await else {
            continue;
        };
        let shard = topology.spec.shards.first();
        let Some(pod) = shard.and_then(|shard| shard.primary.clone()) else {
            continue;
        };
        let epoch = topology.spec.epoch;
        // An older one is a reign that the store tells again.
        let _is_newest = newest.is(epoch);
        let same = |last: &Reign| last.epoch == epoch && last.pod == pod;
        if !reigns.last().is_some_and(same) {
            reigns.push(Reign {
                seen: now(),
                epoch,
                pod,
            });
        }
    }
    reigns
}

/// The Events about an object: what they say, and how often it was said.
pub(crate) fn events(cluster: &Cluster, name: &str) -> Result<BTreeMap<String, i64>> {
    let all = cluster.list("events.v1.events.k8s.io")?;
    let about = all
        .iter()
        .filter(|event| event["regarding"]["name"] == name);
    let mut said = BTreeMap::new();
    for event in about {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = format!("{}: {}", text(&event["reason"]), text(&event["note"]));
        let count = event["series"]["count"].as_i64().unwrap_or(1);
        *said.entry(line).or_default() += count;
    }
    Ok(said)
}

/// What was said since `before`.
pub(crate) fn said_since(
    before: &BTreeMap<String, i64>,
    after: BTreeMap<String, i64>,
) -> Vec<String> {
    let new = after
        .into_iter()
        .filter(|(line, count)| before.get(line).is_none_or(|known| known < count));
    new.map(|(line, _)| line).collect()
}
