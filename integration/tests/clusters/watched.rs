//! What the API server said of a REC's pods and of its databases' topologies, change by change. Nothing is polled: between
//! two looks a pod that carries a primary could be deleted, and a second one beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::watcher::{self, Event},
};
use meridian_api::crds::DatabaseTopology;
use meridian_integration::{
    lab::Lab,
    stack::{Cluster, NAMESPACE},
};
use tokio::task::JoinHandle;

/// A client of the API of its own.
pub(crate) async fn client(cluster: &Cluster) -> Result<kube::Client> {
    let named = Lab::of_kubeconfigs(std::iter::once(Path::new(&cluster.kubeconfig)))?;
    let first = named
        .clusters()
        .first()
        .context("a kubeconfig without a cluster")?;
    Ok(first.client().await?)
}

/// Versions of a cluster's store: the pods and topologies of one cluster are counted together.
type Version = u64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Primary {
    since: Version,
    pod: Option<String>,
}

/// Everything that was told since the start.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Pods that serve: ready, and not going.
    serving: BTreeSet<String>,
    /// The lowest number of them, once all served.
    fewest: Option<usize>,
    /// When the deletion of each pod was ordered: name, uid, version.
    going: Vec<(String, String, Version)>,
    /// The primaries of each database, in their order.
    primaries: BTreeMap<String, Vec<Primary>>,
    /// How often a watch began anew: what happened meanwhile was not told.
    begun: usize,
}

impl Seen {
    fn pod(&mut self, pod: &Pod, there: bool, nodes: usize) {
        let name = pod.name_any();
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter());
        let ready = conditions
            .flatten()
            .any(|one| one.type_ == "Ready" && one.status == "True");
        let goes = pod.metadata.deletion_timestamp.is_some() || !there;
        if goes {
            let uid = pod.uid().unwrap_or_default();
            if !self.going.iter().any(|(_, known, _)| *known == uid) {
                self.going
                    .push((name.clone(), uid, version(pod.resource_version())));
            }
        }
        if ready && !goes {
            self.serving.insert(name);
        } else {
            self.serving.remove(&name);
        }
        if self.fewest.is_some() || self.serving.len() == nodes {
            let fewest = self.fewest.unwrap_or(nodes);
            self.fewest = Some(fewest.min(self.serving.len()));
        }
    }

    fn topology(&mut self, topology: &DatabaseTopology) {
        let shard = topology.spec.shards.first();
        let pod = shard.and_then(|shard| shard.primary.clone());
        let all = self.primaries.entry(topology.name_any()).or_default();
        if all.last().is_none_or(|last| last.pod != pod) {
            let since = version(topology.resource_version());
            all.push(Primary { since, pod });
        }
    }

    /// The lowest number of pods that served at one time, since all did.
    pub(crate) fn fewest(&self) -> usize {
        self.fewest.unwrap_or_default()
    }

    /// How many pods went.
    pub(crate) fn went(&self) -> usize {
        self.going.len()
    }

    /// How often this database's primary moved.
    pub(crate) fn moves(&self, database: &str) -> usize {
        let all = self.primaries.get(database);
        all.map_or(0, |all| all.len().saturating_sub(1))
    }

    /// Deletions that were ordered of a pod while it carried the primary of a database that could have moved.
    pub(crate) fn deleted_under_a_primary(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (pod, _uid, at) in &self.going {
            for (database, primaries) in &self.primaries {
                let then = primaries.iter().rfind(|primary| primary.since <= *at);
                if then.is_some_and(|then| then.pod.as_ref() == Some(pod)) {
                    found.push(format!(
                        "{pod} was deleted at {at} with the primary of {database}"
                    ));
                }
            }
        }
        found
    }
}

fn version(text: Option<String>) -> Version {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Two watches that run.
pub(crate) struct Watched {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

impl Watched {
    /// Watches the pods of a REC of so many nodes, and the topologies of its databases.
    pub(crate) async fn start(cluster: &Cluster, rec: &str, nodes: usize) -> Result<Self> {
        let client = client(cluster).await?;
        let seen = Arc::<Mutex<Seen>>::default();
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let of_rec = watcher::Config::default()
            .labels(&format!("redis.io/cluster={rec},redis.io/role=node"));
        let topologies: Api<DatabaseTopology> = Api::namespaced(client, NAMESPACE);
        let (of_pods, of_topologies) = (Arc::clone(&seen), Arc::clone(&seen));
        let rec = rec.to_owned();
        let tasks = [
            tokio::spawn(async move {
                let mut told = watcher::watcher(pods, of_rec).boxed();
                while let Ok(Some(event)) = told.try_next().await {
                    let mut seen = of_pods.lock().unwrap_or_else(PoisonError::into_inner);
                    match event {
                        Event::Init => seen.begun += 1,
                        Event::InitApply(pod) | Event::Apply(pod) => seen.pod(&pod, true, nodes),
                        Event::Delete(pod) => seen.pod(&pod, false, nodes),
                        Event::InitDone => {}
                    }
                }
            }),
            tokio::spawn(async move {
                let mut told = watcher::watcher(topologies, watcher::Config::default()).boxed();
                while let Ok(Some(event)) = told.try_next().await {
                    let mut seen = of_topologies.lock().unwrap_or_else(PoisonError::into_inner);
                    match event {
                        Event::Init => seen.begun += 1,
                        Event::InitApply(one) | Event::Apply(one) if one.spec.cluster == rec => {
                            seen.topology(&one);
                        }
                        Event::InitApply(_)
                        | Event::Apply(_)
                        | Event::Delete(_)
                        | Event::InitDone => {}
                    }
                }
            }),
        ];
        let both = || async {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(seen.fewest.is_some() && !seen.primaries.is_empty())
        };
        let soon = super::support::SOON;
        meridian_integration::wait::until_true("pods and topologies are watched", soon, both)
            .await?;
        Ok(Self { seen, tasks })
    }

    /// Ends the watches.
    ///
    /// # Errors
    /// If one ended or began anew meanwhile: it may have missed what matters.
    pub(crate) fn finish(self) -> Result<Seen> {
        let ended = self.tasks.iter().any(JoinHandle::is_finished);
        self.tasks.iter().for_each(JoinHandle::abort);
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        anyhow::ensure!(!ended && seen.begun == 2, "a watch was cut: {seen:?}");
        Ok(seen)
    }
}
