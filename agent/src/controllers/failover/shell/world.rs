//! What the watches brought: topologies, pods and StatefulSets of the namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    hash::Hash,
    sync::Arc,
};

use futures::StreamExt as _;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher,
    },
};
use meridian_api::crds::DatabaseTopology;
use meridian_api::validate::NODE_CONTAINER;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    controllers::{
        failover::{growth, watch::PodFacts},
        placement::{self, Node},
        serve::fetch,
        topology::{Given, replica_place},
    },
    k8s::{
        apply::Objects,
        drive,
        names::makes,
        own::{CLUSTER, REPLACE_AFTER, ROLE_NODE},
        retry,
    },
};

/// The objects, as the watches know them.
pub(super) struct World {
    topologies: Store<DeserializeGuard<DatabaseTopology>>,
    pods: Store<Pod>,
    sets: Store<StatefulSet>,
    changed: Arc<Notify>,
}

/// Name under which PID 1 speaks of the one shard of `database`.
pub(super) fn probed_as(database: &str) -> String {
    format!("{database}-0")
}

/// What `pods` and the StatefulSet that makes them say. Without a StatefulSet every pod is expected: what cannot be read
/// moves no data.
pub(super) fn facts<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    set: Option<&StatefulSet>,
) -> BTreeMap<String, PodFacts> {
    let one = |pod: &Pod| {
        let name = pod.name_any();
        let facts = PodFacts {
            going: pod.metadata.deletion_timestamp.is_some(),
            stopped: is_stopped(pod),
            expected: set.is_none_or(|set| makes(set, &name)),
        };
        (name, facts)
    };
    pods.into_iter().map(one).collect()
}

/// How long a replica's pod may be away, as the REC says on its StatefulSet, milliseconds.
pub(super) fn replace_ms(set: Option<&StatefulSet>) -> u64 {
    let seconds = set.and_then(|set| set.annotations().get(REPLACE_AFTER)?.parse::<u64>().ok());
    seconds.map_or(growth::REPLACE_MS, |seconds| seconds.saturating_mul(1_000))
}

/// Whether the kubelet says that the node's container ended and does not run again yet; other containers of the pod, which
/// users may add, say nothing about a shard.
fn is_stopped(pod: &Pod) -> bool {
    let all = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let container = all
        .into_iter()
        .flatten()
        .find(|container| container.name == NODE_CONTAINER);
    let state = container.and_then(|container| container.state.as_ref());
    let last = container.and_then(|container| container.last_state.as_ref());
    let ended = state.is_some_and(|state| state.terminated.is_some());
    let waits = state.is_some_and(|state| state.waiting.is_some());
    ended || (waits && last.is_some_and(|last| last.terminated.is_some()))
}

impl World {
    /// Starts the watches; `stop` ends them.
    pub(super) fn watch(objects: &Objects, stop: &CancellationToken) -> Self {
        let changed = Arc::new(Notify::new());
        let nodes = watcher::Config::default().labels(&format!("{}={}", ROLE_NODE.0, ROLE_NODE.1));
        Self {
            topologies: store(objects.api(), watcher::Config::default(), &changed, stop),
            pods: store(objects.api(), nodes, &changed, stop),
            sets: store(objects.api(), drive::ours(), &changed, stop),
            changed,
        }
    }

    /// Waits until a watch brought something.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Every topology; some may be unreadable. Shared and not copied: they are looked at many times a second.
    pub(super) fn topologies(&self) -> Vec<Arc<DeserializeGuard<DatabaseTopology>>> {
        self.topologies.state()
    }

    /// The pods, by name.
    pub(super) fn pods(&self) -> BTreeMap<String, Arc<Pod>> {
        let state = self.pods.state();
        state.into_iter().map(|pod| (pod.name_any(), pod)).collect()
    }

    /// Pods that hold a shard which others follow, or follow one.
    pub(super) fn holders(&self) -> BTreeSet<String> {
        let all = self.topologies();
        let shards = readable(&all).flat_map(|topology| &topology.spec.shards);
        shards
            .filter(|shard| !shard.replicas.is_empty())
            .flat_map(|shard| shard.primary.iter().chain(&shard.replicas))
            .cloned()
            .collect()
    }

    /// What is known about the pods of the REC `rec`.
    pub(super) fn facts(&self, rec: &str) -> BTreeMap<String, PodFacts> {
        let set = self.set_of(rec);
        facts(self.pods_of(rec).iter().map(AsRef::as_ref), set.as_deref())
    }

    /// How long a replica's pod of the REC `rec` may be away, milliseconds.
    pub(super) fn replace_ms(&self, rec: &str) -> u64 {
        replace_ms(self.set_of(rec).as_deref())
    }

    fn set_of(&self, rec: &str) -> Option<Arc<StatefulSet>> {
        let mut sets = self.sets.state().into_iter();
        sets.find(|set| set.name_any() == rec)
    }

    fn pods_of(&self, rec: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.state();
        pods.retain(|pod| pod.labels().get(CLUSTER).is_some_and(|name| name == rec));
        pods
    }

    /// A pod that has room for a replica of `topology`, if one is missing; `facts` are those of its REC.
    pub(super) fn spare(
        &self,
        topology: &DatabaseTopology,
        facts: &BTreeMap<String, PodFacts>,
    ) -> Option<String> {
        let shard = topology.spec.shards.first()?;
        let missing = shard.replicas.is_empty()
            || shard
                .replicas
                .iter()
                .any(|pod| facts.get(pod).is_none_or(|facts| !facts.expected));
        if !topology.spec.replication || !missing {
            return None;
        }
        let nodes: Vec<Node> = self
            .pods_of(&topology.spec.cluster)
            .iter()
            .map(|pod| fetch::node(pod))
            .collect();
        let all: Vec<Given> = readable(&self.topologies()).map(Given::of).collect();
        replica_place(topology, &all, &nodes).ok()
    }
}

/// Those that can be read.
pub(super) fn readable(
    all: &[Arc<DeserializeGuard<DatabaseTopology>>],
) -> impl Iterator<Item = &DatabaseTopology> {
    all.iter().filter_map(|guard| guard.0.as_ref().ok())
}

fn store<K>(
    api: Api<K>,
    config: watcher::Config,
    changed: &Arc<Notify>,
    stop: &CancellationToken,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (reader, writer) = reflector::store();
    let stream = watcher(api, config)
        .backoff(retry::alone())
        .modify(drive::lighten)
        .reflect(writer);
    let (changed, stop) = (Arc::clone(changed), stop.clone());
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream.take_until(stop.cancelled_owned()));
        while let Some(event) = stream.next().await {
            if let Err(error) = event {
                tracing::debug!(%error, "a watch of the failover broke and begins again");
            }
            changed.notify_one();
        }
    });
    reader
}

/// Where a replica may go, judged on what was read: `pods` are the REC's.
pub(super) fn place(
    topology: &DatabaseTopology,
    all: &[Given],
    pods: &[Pod],
) -> Result<String, placement::NoPlace> {
    let nodes: Vec<Node> = pods.iter().map(fetch::node).collect();
    replica_place(topology, all, &nodes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_long_a_replicas_pod_may_be_away_is_what_the_cluster_says_on_its_stateful_set() {
        let set = |text: &str| -> StatefulSet {
            serde_json::from_value(json!({"metadata": {"annotations": {REPLACE_AFTER: text}}}))
                .unwrap()
        };
        assert_eq!(replace_ms(Some(&set("1800"))), 1_800_000);
        assert_eq!(replace_ms(Some(&set("0"))), 0);
        for unsaid in [None, Some(&StatefulSet::default()), Some(&set("soon"))] {
            assert_eq!(replace_ms(unsaid), 1_800_000);
        }
    }
}
