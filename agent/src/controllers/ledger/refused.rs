//! Databases that were refused because of what others have. One that gives something back wakes those whom that may help, and
//! nobody else: where many are refused, each of them looks again only once enough was given back for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    ResourceExt as _,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use meridian_api::crds::{DatabaseTopology, topology::DatabaseReference};

use crate::{
    controllers::{
        placement::NoPlace,
        topology::{Given, TopologyError},
    },
    k8s::{apply::Object, touched::Touched},
};

/// Who was refused. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::controllers) struct Refused(Arc<Mutex<BTreeMap<Key, Waits>>>);

/// Kind, namespace and name.
type Key = (String, String, String);

#[derive(Debug)]
struct Waits {
    cluster: String,
    want: Want,
}

/// What a database waits for others to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controllers) enum Want {
    /// Whatever it is: what was refused is not known yet.
    Anything,
    /// This port.
    Port(i32),
    /// Some port.
    AnyPort,
    /// So many bytes, of which not all need be on one node.
    Room(i64),
}

impl Want {
    /// What helps one that was refused for this; `None`: nothing that others give back.
    #[must_use]
    pub(in crate::controllers) fn of(error: &TopologyError) -> Option<Self> {
        match error {
            TopologyError::PortTaken { port, .. } => Some(Self::Port(*port)),
            TopologyError::NoPort => Some(Self::AnyPort),
            TopologyError::NoPlace(NoPlace::NoRoom { needed, free }) => {
                Some(Self::Room(needed.saturating_sub(*free)))
            }
            // Pods or the cluster wake it, or the end of the one that has its name.
            TopologyError::NoPlace(NoPlace::NotReady { .. } | NoPlace::NoOther { .. })
            | TopologyError::NameTaken { .. }
            | TopologyError::Version(_)
            | TopologyError::NoVersions
            | TopologyError::Lost => None,
        }
    }

    /// Takes what was given back; tells whether that may be enough.
    fn takes(&mut self, back: &Back) -> bool {
        match self {
            Self::Anything => true,
            Self::Port(port) => back.port == Some(*port),
            Self::AnyPort => back.port.is_some(),
            Self::Room(missing) => {
                *missing = missing.saturating_sub(back.bytes);
                *missing <= 0
            }
        }
    }
}

/// What a database has no more.
#[derive(Debug, PartialEq, Eq)]
struct Back {
    cluster: String,
    port: Option<i32>,
    /// The most that any one node got back, bytes.
    bytes: i64,
}

impl Back {
    /// What one has no more that had `before` and has `now`; `None`: nothing.
    fn between(before: Given, now: Option<&Given>) -> Option<Self> {
        let now = now.filter(|now| now.cluster == before.cluster);
        let left = now.is_none_or(|now| before.pods.iter().any(|pod| !now.pods.contains(pod)));
        let bytes = match now {
            Some(now) if !left => before.memory_bytes.saturating_sub(now.memory_bytes),
            Some(_) | None => before.memory_bytes,
        };
        let port = now.is_none_or(|now| now.port != before.port);
        let back = Self {
            port: port.then_some(before.port),
            bytes: bytes.max(0),
            cluster: before.cluster,
        };
        (back.port.is_some() || back.bytes > 0).then_some(back)
    }
}

impl Refused {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Waits>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `database` waits for in the REC `cluster`: to be said before what others have is read, and again once that is known.
    pub(in crate::controllers) fn waits(
        &self,
        database: &DatabaseReference,
        cluster: &str,
        want: Option<Want>,
    ) {
        let DatabaseReference {
            kind,
            namespace,
            name,
            uid: _,
        } = database.clone();
        let (key, cluster) = ((kind, namespace, name), cluster.to_owned());
        let mut all = self.lock();
        match want {
            Some(want) => drop(all.insert(key, Waits { cluster, want })),
            None => drop(all.remove(&key)),
        }
    }

    /// Names those databases of the kind `K` in `namespace`, `all` of which are in the store, whom a change of a topology may help.
    pub(in crate::controllers) fn helped_by<K: Object>(
        &self,
        namespace: &str,
        all: Store<DeserializeGuard<K>>,
    ) -> impl Fn(&Touched<DeserializeGuard<DatabaseTopology>>) -> Vec<ObjectRef<DeserializeGuard<K>>>
    + use<K> {
        let (refused, namespace) = (self.clone(), namespace.to_owned());
        let given: Mutex<BTreeMap<String, Given>> = Mutex::default();
        move |touched| {
            let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
            let back = match touched {
                Touched::Is(guard) => guard.0.as_ref().ok().and_then(|topology| {
                    let now = Given::of(topology);
                    let before = given.insert(topology.name_any(), now.clone())?;
                    Back::between(before, Some(&now))
                }),
                Touched::Gone(name) => given
                    .remove(name)
                    .and_then(|before| Back::between(before, None)),
            };
            drop(given);
            back.map(|back| refused.helped(&back, &namespace, &all))
                .unwrap_or_default()
        }
    }

    fn helped<K: Object>(
        &self,
        back: &Back,
        namespace: &str,
        all: &Store<DeserializeGuard<K>>,
    ) -> Vec<ObjectRef<DeserializeGuard<K>>> {
        let (own, mut helped) = (K::kind(&()), Vec::new());
        self.lock().retain(|(kind, at, name), waits| {
            if *kind != own || at != namespace {
                return true;
            }
            let database = ObjectRef::new(name).within(namespace);
            if all.get(&database).is_none() {
                return false;
            }
            let stays = waits.cluster != back.cluster || !waits.want.takes(back);
            if !stays {
                helped.push(database);
            }
            stays
        });
        helped
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};
    use meridian_api::crds::RedisEnterpriseDatabase;
    use serde_json::json;

    use super::*;

    type Topology = DeserializeGuard<DatabaseTopology>;

    fn topology(
        name: &str,
        cluster: &str,
        port: i32,
        bytes: i64,
        pods: &[&str],
    ) -> Touched<Topology> {
        Touched::Is(
            serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": name, "uid": "u"},
                         "cluster": cluster, "epoch": 1, "port": port, "memoryBytes": bytes, "evictionPolicy": "noeviction",
                         "persistence": "disabled", "replication": true,
                         "shards": [{"id": 0, "slots": "0-16383", "primary": pods[0], "replicas": &pods[1..]}]},
            }))
            .unwrap(),
        )
    }

    fn database(name: &str) -> DatabaseReference {
        DatabaseReference {
            kind: "RedisEnterpriseDatabase".to_owned(),
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            uid: "u".to_owned(),
        }
    }

    /// Whom a change wakes of the databases `names`, all of which exist.
    fn wakes(
        refused: &Refused,
        names: &[String],
    ) -> impl Fn(Touched<Topology>) -> Vec<String> + use<> {
        let (store, mut writer) = reflector::store();
        for name in names {
            let redb: DeserializeGuard<RedisEnterpriseDatabase> = serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {}}),
            )
            .unwrap();
            writer.apply_watcher_event(&watcher::Event::Apply(redb));
        }
        let helped = refused.helped_by("ns", store);
        move |touched| {
            let helped = helped(&touched);
            helped.into_iter().map(|one| one.name).collect()
        }
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    fn gone(name: &str) -> Touched<Topology> {
        Touched::Gone(name.to_owned())
    }

    #[test]
    fn one_that_was_refused_is_woken_by_what_it_waits_for_and_by_nothing_else() {
        let refused = Refused::default();
        let all = names(&["port", "some-port", "room", "any", "elsewhere"]);
        let woken = wakes(&refused, &all);
        refused.waits(&database("port"), "rec", Some(Want::Port(10_000)));
        refused.waits(&database("some-port"), "rec", Some(Want::AnyPort));
        refused.waits(&database("room"), "rec", Some(Want::Room(100)));
        refused.waits(&database("any"), "rec", Some(Want::Anything));
        refused.waits(&database("elsewhere"), "other", Some(Want::Anything));
        refused.waits(&database("deleted"), "rec", Some(Want::Anything));
        let none: [&str; 0] = [];
        assert_eq!(woken(topology("a", "rec", 10_000, 300, &["rec-0"])), none);
        let grown = topology("a", "rec", 10_000, 400, &["rec-0", "rec-1"]);
        assert_eq!(woken(grown), none, "it took more");
        let smaller = topology("a", "rec", 10_000, 310, &["rec-0", "rec-1"]);
        assert_eq!(woken(smaller), ["any"], "90 bytes on each node");
        let alone = topology("a", "rec", 10_000, 310, &["rec-1"]);
        assert_eq!(woken(alone), ["room"], "310 bytes on one node");
        assert_eq!(woken(topology("b", "rec", 10_001, 1, &["rec-0"])), none);
        assert_eq!(woken(gone("b")), ["some-port"]);
        assert_eq!(woken(gone("a")), ["port"]);
        assert_eq!(woken(gone("a")), none, "it was gone before");
        assert_eq!(
            refused.lock().len(),
            1,
            "one that is gone waits for nothing"
        );
    }

    /// A look at each of many whenever one of many goes would be their square.
    #[test]
    fn many_that_find_no_room_are_woken_once_there_may_be_enough() {
        let all: Vec<String> = (0..200).map(|n| format!("db-{n}")).collect();
        let refused = Refused::default();
        let woken = wakes(&refused, &all);
        for name in &all {
            refused.waits(&database(name), "rec", Some(Want::Room(1000)));
        }
        let count: Vec<usize> = (0..200)
            .map(|n| {
                let name = format!("a-{n}");
                let small = topology(&name, "rec", 10_000 + n, 10, &["rec-0"]);
                woken(small).len() + woken(gone(&name)).len()
            })
            .collect();
        assert_eq!(count.iter().sum::<usize>(), 200);
        assert_eq!(
            count[99], 200,
            "the hundredth may be enough for one of them"
        );
    }

    #[test]
    fn what_was_refused_says_what_helps() {
        let no_room = NoPlace::NoRoom {
            needed: 100,
            free: 70,
        };
        let cases = [
            (TopologyError::NoPort, Some(Want::AnyPort)),
            (TopologyError::NoPlace(no_room), Some(Want::Room(30))),
            (TopologyError::NoPlace(NoPlace::NotReady { pods: 1 }), None),
            (TopologyError::Lost, None),
        ];
        for (error, expected) in cases {
            assert_eq!(Want::of(&error), expected, "{error}");
        }
    }
}
