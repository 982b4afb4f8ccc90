//! Which words of a topology are news. Nodes repeat their report every few seconds with newer times, lags and clocks;
//! nothing that a controller does follows from those, so they wake nobody.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _, core::DeserializeGuard, runtime::reflector::ObjectRef};
use meridian_api::crds::DatabaseTopology;
use tokio::time::Instant;

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

/// What was heard last of each topology.
#[derive(Debug, Default)]
struct Heard(Mutex<BTreeMap<String, (u64, u64)>>);

impl Heard {
    /// A repeated report has newer times and nothing else new. An event whose times are the old ones as well is not of a
    /// node: the topology was deleted, or the watch began anew.
    fn is_news(&self, topology: &DatabaseTopology) -> bool {
        let (said, spoken) = (said(topology), spoken(topology));
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.insert(topology.name_any(), (said, spoken));
        before.is_none_or(|(known, at)| known != said || at == spoken)
    }
}

/// Maps a topology that says something new to its database of kind `K`, if that is in `namespace`.
pub fn of_topologies<K>(
    namespace: &str,
) -> impl Fn(DeserializeGuard<DatabaseTopology>) -> Option<ObjectRef<K>> + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let (namespace, heard) = (namespace.to_owned(), Heard::default());
    move |guard| {
        // One that cannot be read may be about the database of its name.
        let news = guard.0.as_ref().map_or(true, |now| {
            now.spec.database.namespace == namespace && heard.is_news(now)
        });
        news.then(|| ObjectRef::new(&guard.name_any()).within(&namespace))
    }
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
mod tests {
    use serde_json::json;

    use super::*;

    const REST: Duration = Duration::from_secs(300);

    fn topology(as_of: &str, lag_ms: i64, state: &str) -> DatabaseTopology {
        let link = json!({"instanceId": 2, "name": "two", "state": state, "lagMs": lag_ms, "since": "0", "asOf": as_of});
        let shard = json!({"id": 1, "role": "primary", "ready": true, "writable": true, "port": 10000, "clock": as_of});
        let member = json!({"node": "rec-0", "topologyUid": "u", "epoch": 1, "generation": 1, "asOf": as_of,
                            "shards": [shard], "links": [link]});
        let spec = json!({
            "database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
            "cluster": "rec", "epoch": 1, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
            "persistence": "disabled", "replication": false, "shards": [],
        });
        serde_json::from_value(json!({
            "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
            "metadata": {"name": "db", "resourceVersion": as_of},
            "spec": spec, "status": {"members": [member], "conditions": []},
        }))
        .unwrap()
    }

    #[test]
    fn a_repeated_report_is_no_news_and_a_turned_link_is() {
        let heard = Heard::default();
        assert!(heard.is_news(&topology("1", 0, "up")));
        assert!(!heard.is_news(&topology("2", 7, "up")));
        assert!(heard.is_news(&topology("3", 7, "down")));
        assert!(!heard.is_news(&topology("4", 9, "down")));
    }

    #[test]
    fn a_deleted_topology_is_news_although_it_says_what_it_said() {
        let heard = Heard::default();
        assert!(heard.is_news(&topology("1", 0, "up")));
        let mut deleted = topology("1", 0, "up");
        deleted.metadata.resource_version = Some("9".to_owned());
        assert!(heard.is_news(&deleted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_topology_is_looked_at_again_when_it_says_something_new_or_has_rested() {
        let gate = Gate::default();
        gate.leave(gate.enter(&topology("1", 0, "up")).unwrap(), REST);
        tokio::time::advance(REST / 3).await;
        assert_eq!(
            gate.enter(&topology("2", 7, "up")).unwrap_err(),
            REST - REST / 3
        );
        assert!(gate.enter(&topology("2", 7, "down")).is_ok());
        tokio::time::advance(REST).await;
        assert!(gate.enter(&topology("2", 7, "up")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_failed_or_was_overtaken_is_due_again() {
        let gate = Gate::default();
        let again = topology("2", 0, "up");
        drop(gate.enter(&topology("1", 0, "up")).unwrap());
        assert!(gate.enter(&again).is_ok(), "the first one failed");
        let wakes = gate.opened_by(|()| Some(ObjectRef::new("db")));
        let look = gate.enter(&again).unwrap();
        assert_eq!(wakes(()).len(), 1);
        gate.leave(look, REST);
        let look = gate.enter(&again);
        gate.leave(look.expect("a pod changed during the look before"), REST);
        assert!(gate.enter(&again).is_err());
        wakes(());
        assert!(gate.enter(&again).is_ok());
    }
}
