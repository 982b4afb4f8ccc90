//! What the watches have told so far. Pure: events in, "look again" out.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use meridian_api::crds::topology::DatabaseTopology;
use tracing::warn;

use crate::desired::Access;
use crate::sync::observed::Topologies;
use crate::sync::topology::Topology;
use crate::sync::users;

/// What an event meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing new.
    Nothing,
    /// Something changed.
    Changed,
    /// A watch failed.
    Failure {
        /// Which.
        what: &'static str,
        /// Why.
        message: String,
        /// For the first time since it worked.
        first: bool,
    },
}

/// Everything known. Until both watches have listed once, nothing is: an empty answer would be a lie.
#[derive(Debug)]
pub(super) struct Known {
    cluster: String,
    topologies: BTreeMap<String, Topology>,
    listing: BTreeMap<String, Topology>,
    /// The same with their reports, for people.
    shown: Topologies,
    listing_shown: Topologies,
    topologies_listed: bool,
    topologies_failing: bool,
    access: BTreeMap<String, Access>,
    secret_listed: bool,
    secret_failing: bool,
}

impl Known {
    pub(super) fn new(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            topologies: BTreeMap::new(),
            listing: BTreeMap::new(),
            shown: Topologies::new(),
            listing_shown: Topologies::new(),
            topologies_listed: false,
            topologies_failing: false,
            access: BTreeMap::new(),
            secret_listed: false,
            secret_failing: false,
        }
    }

    /// The whole picture, once there is one.
    pub(super) fn complete(&self) -> Option<(Vec<Topology>, BTreeMap<String, Access>)> {
        (self.topologies_listed && self.secret_listed).then(|| {
            (
                self.topologies.values().cloned().collect(),
                self.access.clone(),
            )
        })
    }

    /// The topologies with their reports, once all were listed.
    pub(super) fn shown(&self) -> Option<Topologies> {
        self.topologies_listed.then(|| self.shown.clone())
    }

    pub(super) fn topology(
        &mut self,
        event: watcher::Result<Event<DeserializeGuard<DatabaseTopology>>>,
    ) -> Seen {
        let event = match event {
            Ok(event) => event,
            Err(error) => return failure("DatabaseTopology", &error, &mut self.topologies_failing),
        };
        self.topologies_failing = false;
        match event {
            Event::Init => {
                self.listing.clear();
                self.listing_shown.clear();
                Seen::Nothing
            }
            Event::InitApply(object) => {
                if let Some(topology) = self.read(&object) {
                    let name = topology.name.clone();
                    if let Some(shown) = readable(object).or_else(|| self.shown.get(&name).cloned())
                    {
                        self.listing_shown.insert(name.clone(), shown);
                    }
                    self.listing.insert(name, topology);
                }
                Seen::Nothing
            }
            Event::InitDone => {
                self.topologies = std::mem::take(&mut self.listing);
                self.shown = std::mem::take(&mut self.listing_shown);
                self.topologies_listed = true;
                Seen::Changed
            }
            Event::Apply(object) => match self.read(&object) {
                Some(topology) => {
                    if let Some(shown) = readable(object) {
                        self.shown.insert(topology.name.clone(), shown);
                    }
                    let before = self
                        .topologies
                        .insert(topology.name.clone(), topology.clone());
                    // Every node's status comes back through this watch: only orders count.
                    if before.as_ref() == Some(&topology) {
                        Seen::Nothing
                    } else {
                        Seen::Changed
                    }
                }
                None => Seen::Nothing,
            },
            Event::Delete(object) => {
                self.shown.remove(&object.name_any());
                let gone = self.topologies.remove(&object.name_any());
                if gone.is_some() {
                    Seen::Changed
                } else {
                    Seen::Nothing
                }
            }
        }
    }

    /// `None`: not of this cluster, or unreadable. An unreadable one keeps what was known of it: it blinds nothing else.
    fn read(&self, object: &DeserializeGuard<DatabaseTopology>) -> Option<Topology> {
        match &object.0 {
            Ok(topology) if topology.spec.cluster == self.cluster => Some(reduced(topology)),
            Ok(_) => None,
            Err(invalid) => {
                warn!(database = object.name_any(), error = %invalid.error, "this topology is unreadable; its last order stays");
                self.topologies.get(&object.name_any()).cloned()
            }
        }
    }

    pub(super) fn secret(&mut self, event: watcher::Result<Event<Secret>>) -> Seen {
        let event = match event {
            Ok(event) => event,
            Err(error) => return failure("Secret", &error, &mut self.secret_failing),
        };
        self.secret_failing = false;
        match event {
            Event::Init => Seen::Nothing,
            Event::InitDone => {
                self.secret_listed = true;
                Seen::Changed
            }
            Event::InitApply(secret) | Event::Apply(secret) => {
                let after = access(&secret);
                if after == self.access {
                    return Seen::Nothing;
                }
                self.access = after;
                Seen::Changed
            }
            // A Secret that is gone says nothing about passwords: those in force stay.
            Event::Delete(_) => Seen::Nothing,
        }
    }
}

fn readable(object: DeserializeGuard<DatabaseTopology>) -> Option<Arc<DatabaseTopology>> {
    object.0.ok().map(Arc::new)
}

/// What a node needs of an object.
pub(super) fn reduced(topology: &DatabaseTopology) -> Topology {
    Topology {
        name: topology.name_any(),
        uid: topology.uid().unwrap_or_default(),
        generation: topology
            .metadata
            .generation
            .and_then(|g| u64::try_from(g).ok())
            .unwrap_or(0),
        spec: topology.spec.clone(),
    }
}

fn failure(what: &'static str, error: &watcher::Error, failing: &mut bool) -> Seen {
    let first = !std::mem::replace(failing, true);
    Seen::Failure {
        what,
        message: crate::run::chain(error),
        first,
    }
}

fn access(secret: &Secret) -> BTreeMap<String, Access> {
    let text =
        |value: &k8s_openapi::ByteString| String::from_utf8_lossy(&value.0).trim().to_owned();
    let pairs = secret.data.iter().flatten();
    users::read(
        &pairs
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: serde_json::Value) -> DeserializeGuard<DatabaseTopology> {
        serde_json::from_value(text).unwrap()
    }

    fn topology(name: &str, cluster: &str, epoch: i64) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
            "metadata": {"name": name, "namespace": "ns", "uid": "u", "generation": epoch},
            "spec": {
                "database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": name, "uid": "d"},
                "cluster": cluster, "epoch": epoch, "port": 12000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                "persistence": "disabled", "replication": false, "shards": [],
            },
        })
    }

    fn secret(key: &str, value: &str) -> Secret {
        let value = k8s_openapi::ByteString(value.as_bytes().to_vec());
        Secret {
            data: Some([(key.to_owned(), value)].into()),
            ..Secret::default()
        }
    }

    #[test]
    fn nothing_is_known_until_both_lists_are_complete() {
        let mut known = Known::new("rec");
        assert_eq!(known.topology(Ok(Event::Init)), Seen::Nothing);
        known.topology(Ok(Event::InitApply(object(topology("db", "rec", 1)))));
        known.topology(Ok(Event::InitApply(object(topology(
            "foreign", "other", 1,
        )))));
        assert_eq!(known.topology(Ok(Event::InitDone)), Seen::Changed);
        assert_eq!(known.complete(), None);
        known.secret(Ok(Event::InitDone));
        let (topologies, _) = known.complete().unwrap();
        assert_eq!(
            topologies
                .iter()
                .map(|t| t.name.as_str())
                .collect::<Vec<_>>(),
            ["db"]
        );
    }

    #[test]
    fn an_unreadable_topology_keeps_its_last_order_and_hides_no_other() {
        let mut known = Known::new("rec");
        for name in ["bad", "good"] {
            known.topology(Ok(Event::Apply(object(topology(name, "rec", 1)))));
        }
        let broken = serde_json::json!({
            "apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
            "metadata": {"name": "bad", "namespace": "ns", "uid": "u", "generation": 2}, "spec": {"cluster": "rec", "epoch": "x"},
        });
        assert_eq!(
            known.topology(Ok(Event::Apply(object(broken.clone())))),
            Seen::Nothing
        );
        assert_eq!(known.topologies["bad"].generation, 1);
        known.topology(Ok(Event::Init));
        known.topology(Ok(Event::InitApply(object(broken))));
        known.topology(Ok(Event::InitApply(object(topology("good", "rec", 5)))));
        known.topology(Ok(Event::InitDone));
        assert_eq!(
            (
                known.topologies["bad"].generation,
                known.topologies["good"].generation
            ),
            (1, 5)
        );
    }

    #[test]
    fn a_status_that_comes_back_is_no_order() {
        let mut known = Known::new("rec");
        let mut text = topology("db", "rec", 1);
        assert_eq!(
            known.topology(Ok(Event::Apply(object(text.clone())))),
            Seen::Changed
        );
        text["status"] = serde_json::json!({"members": []});
        assert_eq!(
            known.topology(Ok(Event::Apply(object(text)))),
            Seen::Nothing
        );
    }

    #[test]
    fn a_deleted_secret_changes_no_password() {
        let mut known = Known::new("rec");
        assert_eq!(
            known.secret(Ok(Event::Apply(secret("db", "")))),
            Seen::Changed
        );
        assert_eq!(
            known.secret(Ok(Event::Delete(secret("db", "")))),
            Seen::Nothing
        );
        assert!(known.access.contains_key("db"));
    }
}
