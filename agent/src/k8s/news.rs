//! Which words of an object are news. Nodes repeat their report every few seconds with newer times, lags and clocks, and
//! every look at a cluster may write into its status; nothing that others do follows from those, so they wake nobody. With
//! many databases that is what keeps one from waking all the others.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Pod, Secret},
};
use kube::{
    Resource, ResourceExt as _, api::ObjectMeta, core::DeserializeGuard,
    runtime::reflector::ObjectRef,
};
use meridian_api::crds::{DatabaseTopology, RedisEnterpriseCluster};
use tokio::time::Instant;

use super::touched::Touched;

/// Names a topology to its controller.
type Topology = ObjectRef<DeserializeGuard<DatabaseTopology>>;

/// What a topology says without what only grows older, as a hash.
fn said(topology: &DatabaseTopology) -> u64 {
    let mut topology = topology.clone();
    topology.metadata.resource_version = None;
    topology.metadata.managed_fields = None;
    for member in topology.status.iter_mut().flat_map(|s| &mut s.members) {
        member.as_of.clear();
        for shard in &mut member.shards {
            shard.clock = None;
            // A stream grows even while nobody writes; how far it is concerns failovers alone, which watch for themselves.
            shard.offset = shard.offset.map(|_| 0);
            for replica in &mut shard.replicas {
                replica.lag_bytes = 0;
            }
        }
        for link in &mut member.links {
            link.as_of.clear();
            link.lag_ms = None;
        }
    }
    hash(&topology)
}

/// When its nodes spoke, as a hash.
fn spoken(topology: &DatabaseTopology) -> u64 {
    let members = topology.status.iter().flat_map(|s| &s.members);
    hash(&members.map(|m| &m.as_of).collect::<Vec<_>>())
}

fn hash(value: &impl serde::Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    // What cannot be written as JSON hashes as nothing, and so never hides behind another.
    serde_json::to_string(value).ok().hash(&mut hasher);
    hasher.finish()
}

/// What was heard last of each object of one kind.
#[derive(Debug, Default)]
struct Heard(Mutex<BTreeMap<String, (u64, u64)>>);

impl Heard {
    /// Whether `name` says something new. `rest` is what it says besides, of which nothing follows: where that is new alone,
    /// there is no news. An event that repeats both is no change of the object: it was deleted, or the watch began anew.
    fn is_news(&self, name: String, said: u64, rest: u64) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.insert(name, (said, rest));
        before.is_none_or(|(known, besides)| known != said || besides == rest)
    }

    /// Whether a change is news: `says` of an object that is there, and always of one that is gone, which is forgotten.
    fn of<K>(&self, touched: &Touched<K>, says: impl FnOnce(&K) -> bool) -> bool {
        match touched {
            Touched::Is(object) => says(object),
            Touched::Gone(name) => {
                let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                heard.remove(name);
                true
            }
        }
    }
}

/// Maps a topology that says something new, or that is gone, to the database of its name of kind `K`, if that may be in
/// `namespace`: another one of the name may have been refused for it.
pub fn of_topologies<K>(
    namespace: &str,
) -> impl Fn(&Touched<DeserializeGuard<DatabaseTopology>>) -> Option<ObjectRef<K>> + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let (namespace, heard) = (namespace.to_owned(), Heard::default());
    move |touched| {
        // One that cannot be read may be about the database of its name.
        let news = heard.of(touched, |guard| {
            guard.0.as_ref().map_or(true, |now| {
                now.spec.database.namespace == namespace
                    && heard.is_news(now.name_any(), said(now), spoken(now))
            })
        });
        news.then(|| ObjectRef::new(&touched.name()).within(&namespace))
    }
}

/// Names the REC of a topology whose spec is new or that is gone. Reports of the nodes, which come with every write of a
/// client, say nothing about the pods.
pub fn of_orders() -> impl Fn(&DeserializeGuard<DatabaseTopology>) -> Option<String> {
    let heard = Heard::default();
    move |guard| {
        let topology = guard.0.as_ref().ok()?;
        let meta = &topology.metadata;
        let said = hash(&(&meta.uid, &meta.generation));
        let rest = hash(&(&topology.status, &meta.annotations, &meta.labels));
        let news = heard.is_news(topology.name_any(), said, rest);
        news.then(|| topology.spec.cluster.clone())
    }
}

/// What is asked of an object, as a hash: everything but its status and what the API server keeps about writes.
#[must_use]
pub fn asked(meta: &ObjectMeta) -> u64 {
    let going = meta.deletion_timestamp.is_some();
    hash(&(
        (&meta.uid, &meta.generation, going),
        (&meta.finalizers, &meta.annotations, &meta.labels),
    ))
}

/// Tells of each change of a REC whether databases and what leads to them are concerned: what is asked of the REC is new, or
/// whether its changes are suspended, or what its nodes bring. Its counts, words and certificates change with every database and pod, and concern
/// the REC alone.
pub fn of_clusters() -> impl Fn(&Touched<DeserializeGuard<RedisEnterpriseCluster>>) -> bool {
    let heard = Heard::default();
    let says = |heard: &Heard, guard: &DeserializeGuard<RedisEnterpriseCluster>| {
        let status = guard.0.as_ref().ok().and_then(|rec| rec.status.as_ref());
        let mut conditions = status.iter().flat_map(|status| &status.conditions);
        let suspended = conditions
            .find(|condition| condition.type_ == "Suspended")
            .map(|condition| (&condition.status, &condition.message));
        let bundled = status.map(|status| &status.bundled_database_versions);
        let said = hash(&(asked(guard.meta()), suspended, bundled));
        heard.is_news(guard.name_any(), said, hash(&status))
    };
    move |touched| heard.of(touched, |guard| says(&heard, guard))
}

/// Tells of each change of a pod whether it can be reached in another way than before: its address, readiness, place, labels
/// or end. What else the kubelet and people write there concerns nobody who leads clients to it.
pub fn of_pods() -> impl Fn(&Touched<Pod>) -> bool {
    let heard = Heard::default();
    let says = |heard: &Heard, pod: &Pod| {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions.map(|all| {
            let mut all = all.iter().filter(|condition| condition.type_ == "Ready");
            all.any(|condition| condition.status == "True")
        });
        let address = status.map(|status| (&status.pod_ip, &status.pod_ips));
        let host = pod.spec.as_ref().map(|spec| &spec.node_name);
        let (meta, grace) = (
            asked(&pod.metadata),
            pod.metadata.deletion_grace_period_seconds,
        );
        let said = hash(&(meta, grace, ready, address, host));
        heard.is_news(pod.name_any(), said, hash(&status))
    };
    move |touched| heard.of(touched, |pod| says(&heard, pod))
}

/// Tells of each change of a Secret whether another Secret stands there, or other people's marks on it, rather than other data.
pub fn of_marks() -> impl Fn(&Touched<Secret>) -> bool {
    let heard = Heard::default();
    let says = |heard: &Heard, secret: &Secret| {
        let said = hash(&(asked(&secret.metadata), &secret.type_));
        heard.is_news(secret.name_any(), said, hash(&secret.data))
    };
    move |touched| heard.of(touched, |secret| says(&heard, secret))
}

/// Spares the controller of topologies themselves the looks at one that says nothing new. What else wakes it goes
/// through [`Gate::opened_by`].
#[derive(Debug, Default, Clone)]
pub struct Gate(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// What each topology said when it was looked at, and how long it may rest since.
    looked: BTreeMap<String, (u64, Instant)>,
    /// Rises whenever something else than a topology changed.
    opened: u64,
}

/// A look that has begun.
#[derive(Debug)]
pub struct Look {
    name: String,
    said: u64,
    opened: u64,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look that is due: at something new, or when it has rested. Otherwise how long it has time.
    ///
    /// # Errors
    /// The time that is left, if no look is due.
    pub fn enter(&self, topology: &DatabaseTopology) -> Result<Look, Duration> {
        let (name, said) = (topology.name_any(), said(topology));
        let seen = self.lock();
        if let Some((known, until)) = seen.looked.get(&name)
            && *known == said
        {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(left);
            }
        }
        let opened = seen.opened;
        Ok(Look { name, said, opened })
    }

    /// The look made everything true, and the topology may rest. It counts unless something else changed meanwhile.
    pub fn leave(&self, look: Look, rest: Duration) {
        let mut seen = self.lock();
        if seen.opened == look.opened {
            let until = Instant::now() + rest;
            seen.looked.insert(look.name, (look.said, until));
        }
    }

    /// Makes a look due at whatever `mapper` names.
    pub fn opened_by<Other, Refs, Mapper>(
        &self,
        mapper: Mapper,
    ) -> impl Fn(Other) -> Vec<Topology> + use<Other, Refs, Mapper>
    where
        Mapper: Fn(Other) -> Refs,
        Refs: IntoIterator<Item = Topology>,
    {
        let gate = self.clone();
        move |other| {
            let refs: Vec<_> = mapper(other).into_iter().collect();
            let mut seen = gate.lock();
            for named in &refs {
                seen.looked.remove(&named.name);
                seen.opened = seen.opened.wrapping_add(1);
            }
            refs
        }
    }
}

#[cfg(test)]
mod tests;
