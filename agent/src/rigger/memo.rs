//! What the rigger remembers between two looks, so that the one that follows a failover costs two round trips: reading,
//! and writing the slices. Forgetting any of it costs requests and nothing else.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use meridian_api::crds::DatabaseTopology;
use serde::Serialize;
use tokio::time::Instant;

use crate::k8s::apply::Object;

/// How long a primary may take to confirm before people are told that the Services wait for it.
const CONFIRMS: Duration = Duration::from_secs(2);

/// What was written last: by kind and name, its hash and the version that it became.
#[derive(Debug, Default, Clone)]
pub(super) struct Written(Arc<Mutex<Last>>);

/// By kind and name, hash and version.
type Last = BTreeMap<(String, String), (u64, String)>;

impl Written {
    /// Whether the same was written last and nobody changed the object since.
    pub(super) fn stands<K: Object>(&self, desired: &K, found: Option<&K>) -> bool {
        let Some(version) = found.and_then(|found| found.meta().resource_version.clone()) else {
            return false;
        };
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = written.get(&key(desired));
        last.is_some_and(|(hash, became)| *hash == hash_of(desired) && *became == version)
    }

    /// Whether the object is what a write of ours made of it: nobody changed it since, and a watch that shows it tells
    /// nothing new.
    pub(super) fn made<K: Object>(&self, shown: &K) -> bool {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = written.get(&key(shown));
        last.is_some_and(|(_, became)| shown.meta().resource_version.as_ref() == Some(became))
    }

    /// Remembers that `desired` became `now`.
    pub(super) fn remember<K: Object>(&self, desired: &K, now: &K) {
        let version = now.meta().resource_version.clone().unwrap_or_default();
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(key(desired), (hash_of(desired), version));
    }
}

fn key<K: Object>(object: &K) -> (String, String) {
    (K::kind(&()).into_owned(), object.name_any())
}

/// A hash of what is written.
pub(super) fn hash_of(what: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(what).ok().hash(&mut hasher);
    hasher.finish()
}

/// Since when a topology's epoch waits to be confirmed.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Mutex<BTreeMap<String, (i64, Instant)>>);

impl Unconfirmed {
    /// How much longer to wait before saying so; `None`: it is time.
    pub(super) fn wait(&self, topology: &DatabaseTopology) -> Option<Duration> {
        let (name, epoch) = (topology.name_any(), topology.spec.epoch);
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, began) = since.entry(name).or_insert_with(|| (epoch, Instant::now()));
        if *of != epoch {
            (*of, *began) = (epoch, Instant::now());
        }
        let left = CONFIRMS.saturating_sub(began.elapsed());
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    fn service(version: &str, port: i32) -> Service {
        let metadata = json!({"name": "db", "resourceVersion": version});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"ports": [{"port": port}]}}))
            .unwrap()
    }

    #[test]
    fn only_what_is_wanted_and_found_as_it_was_written_is_not_written_again() {
        let written = Written::default();
        assert!(
            !written.stands(&service("", 1), Some(&service("5", 1))),
            "nothing was written yet"
        );
        written.remember(&service("", 1), &service("5", 1));
        assert!(written.stands(&service("", 1), Some(&service("5", 1))));
        assert!(
            !written.stands(&service("", 2), Some(&service("5", 1))),
            "another wish"
        );
        assert!(
            !written.stands(&service("", 1), Some(&service("6", 1))),
            "changed by somebody"
        );
        assert!(!written.stands(&service("", 1), None), "gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_primary_that_does_not_confirm_is_told_after_a_while_and_anew_for_each_epoch() {
        let topology = |epoch: i64| -> DatabaseTopology {
            let database = json!({"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"});
            let spec = json!({
                "database": database, "cluster": "rec", "epoch": epoch, "port": 10000, "memoryBytes": 1,
                "evictionPolicy": "noeviction", "persistence": "disabled", "replication": false, "shards": [],
            });
            serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).unwrap()
        };
        let unconfirmed = Unconfirmed::default();
        assert_eq!(unconfirmed.wait(&topology(1)), Some(CONFIRMS));
        tokio::time::advance(CONFIRMS).await;
        assert_eq!(unconfirmed.wait(&topology(1)), None);
        assert_eq!(unconfirmed.wait(&topology(2)), Some(CONFIRMS));
    }
}
