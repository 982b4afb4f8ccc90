//! The short way of a failover. What the last complete look at a database found is kept, so that the endpoints follow a
//! primary that has confirmed with one round trip: the write of the slices. Nothing else is written on this way, and a
//! complete look follows it. Words of a topology from which nothing follows cost no request at all. Forgetting any of it
//! costs requests and nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{ResourceExt as _, core::DeserializeGuard, runtime::reflector::ObjectRef};
use meridian_api::crds::DatabaseTopology;

use tokio::time::Instant;

use super::{
    build::{self, Policy},
    endpoints::{self, Decision, Target},
    fetch,
    memo::hash_of,
};
use crate::k8s::{
    drive,
    names::{self, ClusterNames},
    touched::Touched,
};

/// Names a topology to its controller.
type Topology = ObjectRef<DeserializeGuard<DatabaseTopology>>;

/// What to do at once about a topology that says something new.
#[derive(Debug, PartialEq)]
pub(super) enum Way {
    /// Nothing: a complete look is needed.
    None,
    /// Nothing, because its primary has not confirmed yet; a complete look would find the same.
    Wait,
    /// Nothing but to say so: everything stands as the last complete look left it, which led clients there.
    Stands(Decision),
    /// Write slices over those that were found.
    Lead(Lead),
}

/// How clients are led to another pod.
#[derive(Debug, PartialEq)]
pub(super) struct Lead {
    /// Each slice as it shall be, and as it was found.
    pub(super) writes: Vec<(EndpointSlice, EndpointSlice)>,
    decision: Decision,
    /// The hash of all that stands then.
    stands: u64,
}

/// What was seen last.
#[derive(Debug, Default, Clone)]
pub(super) struct Shortcut(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    known: BTreeMap<String, Known>,
    /// Those to which clients can be led, by name.
    pods: BTreeMap<String, Target>,
    /// How often what is known of a database changed otherwise than by a complete look.
    changed: BTreeMap<String, u64>,
}

/// What the last complete look at a database found and made.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// What the user wishes.
    pub(super) policy: Policy,
    /// The slices that stood there.
    pub(super) slices: Vec<EndpointSlice>,
    /// Where they were led.
    pub(super) decision: Decision,
    /// The hash of what stands since: there are many databases, and it only has to be known again.
    pub(super) stands: u64,
    /// When.
    pub(super) at: Instant,
}

impl Known {
    /// Takes slices that were written over into what is known.
    pub(super) fn stand(&mut self, slices: Vec<EndpointSlice>) {
        for mut slice in slices {
            // Who wrote which field matters only where somebody else did: that is heard of, and left to a complete look.
            drive::lighten(&mut slice);
            let name = &slice.metadata.name;
            match self
                .slices
                .iter_mut()
                .find(|known| known.metadata.name == *name)
            {
                Some(known) => *known = slice,
                None => self.slices.push(slice),
            }
        }
    }

    fn leads_to(&self, pod: &str) -> bool {
        let decided = matches!(&self.decision, Decision::Lead(target) if target.pod == pod);
        let endpoints = self.slices.iter().flat_map(|slice| &slice.endpoints);
        let mut targets = endpoints
            .flatten()
            .filter_map(|one| one.target_ref.as_ref());
        decided || targets.any(|target| target.name.as_deref() == Some(pod))
    }
}

impl Seen {
    fn change(&mut self, database: &str) {
        let times = self.changed.entry(database.to_owned()).or_default();
        *times = times.wrapping_add(1);
    }
}

/// A complete look that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began(Option<u64>);

impl Shortcut {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod as a watch shows it.
    pub(super) fn saw(&self, pod: &Touched<Pod>) {
        let target = match pod {
            Touched::Is(pod) => endpoints::target(pod),
            Touched::Gone(_) => None,
        };
        let mut seen = self.lock();
        match target {
            Some(target) => drop(seen.pods.insert(pod.name(), target)),
            None => drop(seen.pods.remove(&pod.name())),
        }
    }

    /// Something of the database changed that the next complete look will find.
    pub(super) fn forget(&self, database: &str) {
        let mut seen = self.lock();
        seen.known.remove(database);
        seen.change(database);
    }

    /// Clients were led to another pod by these slices. What is known goes on from there; a complete look that had begun
    /// before knows less.
    pub(super) fn led(&self, database: &str, lead: Lead, slices: Vec<EndpointSlice>) {
        let mut seen = self.lock();
        seen.change(database);
        if let Some(known) = seen.known.get_mut(database) {
            known.decision = lead.decision;
            known.stands = lead.stands;
            known.stand(slices);
        }
    }

    /// Passes on whom `mapper` names, and forgets what is known of each.
    pub(super) fn forgotten_by<Other, Refs, Mapper>(
        &self,
        mapper: Mapper,
    ) -> impl Fn(Other) -> Vec<Topology> + use<Other, Refs, Mapper>
    where
        Mapper: Fn(Other) -> Refs,
        Refs: IntoIterator<Item = Topology>,
    {
        let shortcut = self.clone();
        move |other| {
            let named: Vec<_> = mapper(other).into_iter().collect();
            named.iter().for_each(|one| shortcut.forget(&one.name));
            named
        }
    }

    /// A complete look at a database begins.
    pub(super) fn begin(&self, database: &str) -> Began {
        Began(self.lock().changed.get(database).copied())
    }

    /// What the look that began found. If something of the database changed meanwhile nothing is known any more: the look may
    /// have written over what was led elsewhere since.
    pub(super) fn remember(&self, began: Began, database: &str, mut known: Known) {
        known.slices.iter_mut().for_each(drive::lighten);
        let mut seen = self.lock();
        if seen.changed.get(database).copied() == began.0 {
            seen.known.insert(database.to_owned(), known);
        } else {
            seen.known.remove(database);
        }
    }

    /// Whether clients of the topology are led to this pod, or will be.
    pub(super) fn concerns(&self, topology: &DatabaseTopology, pod: &str) -> bool {
        let mut shards = topology.spec.shards.iter();
        let is_entered =
            || topology.spec.entry_port.is_some() && is_of(pod, &topology.spec.cluster);
        let leads = shards.any(|shard| shard.primary.as_deref() == Some(pod)) || is_entered();
        let seen = self.lock();
        let known = seen.known.get(&topology.name_any());
        leads || known.is_some_and(|known| known.leads_to(pod))
    }

    /// What to do at once; `home` is the namespace of which every change is seen.
    pub(super) fn way(&self, topology: &DatabaseTopology, home: &str) -> Way {
        let seen = self.lock();
        let Some(known) = seen.known.get(&topology.name_any()) else {
            return Way::None;
        };
        let pods: Vec<Target> = seen.pods.values().cloned().collect();
        let decision = endpoints::decide(topology, &pods, known.slices.first());
        let target = match &decision {
            Decision::Lead(target) => target,
            Decision::Keep { .. } => return Way::Wait,
            Decision::Nowhere { .. } => return Way::None,
        };
        let memory = fetch::memory(topology, &known.slices, &decision);
        let lead = Some(Some(target));
        let entries = endpoints::entries(topology, &pods);
        let (policy, memory) = (&known.policy, memory.as_deref());
        let built = build::build(&topology.spec, policy, lead, &entries, memory);
        if decision == known.decision {
            let fresh = known.at.elapsed() < drive::REST;
            let all_seen = topology.spec.database.namespace == home;
            let stands = fresh && all_seen && hash_of(&built) == known.stands;
            return if stands {
                Way::Stands(decision)
            } else {
                Way::None
            };
        }
        let stands = hash_of(&built);
        let slices = built.into_iter().filter_map(|one| one.slice);
        let over = slices.map(|slice| {
            let named = |found: &&EndpointSlice| found.metadata.name == slice.metadata.name;
            let found = known.slices.iter().find(named)?.clone();
            Some((slice, found))
        });
        let Some(writes) = over.collect::<Option<Vec<_>>>() else {
            return Way::None;
        };
        Way::Lead(Lead {
            writes,
            decision,
            stands,
        })
    }
}

/// Whether a pod of this name is one of the REC's.
fn is_of(pod: &str, cluster: &str) -> bool {
    let number = names::ordinal(pod).and_then(|number| i32::try_from(number).ok());
    number.is_some_and(|number| ClusterNames(cluster).pod(number) == pod)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rigger::build::Reach;

    fn pod(name: &str, address: &str) -> Pod {
        let metadata = json!({"name": name, "uid": format!("u-{name}")});
        serde_json::from_value(
            json!({"metadata": metadata, "spec": {"containers": []}, "status": {"podIP": address}}),
        )
        .unwrap()
    }

    /// A topology of epoch 2 whose primary is `rec-1`, which has confirmed `epoch`.
    fn topology(epoch: i64) -> DatabaseTopology {
        let database =
            json!({"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"});
        let shard =
            json!({"id": 0, "role": "primary", "ready": true, "writable": true, "port": 10000});
        let member = json!({"node": "rec-1", "topologyUid": "T", "epoch": epoch, "generation": 1, "asOf": "t", "shards": [shard]});
        let spec = json!({
            "database": database, "cluster": "rec", "epoch": 2, "port": 10000, "memoryBytes": 1,
            "evictionPolicy": "noeviction", "persistence": "disabled", "replication": true,
            "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-1"}],
        });
        serde_json::from_value(json!({"metadata": {"name": "db", "uid": "T"}, "spec": spec, "status": {"members": [member]}}))
            .unwrap()
    }

    fn policy() -> Policy {
        Policy {
            reach: [Reach::ClusterIp].into(),
            name_by_port: false,
            service_port: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    fn slice(name: &str, address: &str) -> EndpointSlice {
        let endpoints: Value = json!([{"addresses": [address]}]);
        let metadata = json!({"name": name, "uid": "S", "managedFields": [{"manager": "m"}]});
        serde_json::from_value(
            json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints}),
        )
        .unwrap()
    }

    /// A shortcut after a look that led to `rec-0` and found these slices.
    fn known(slices: Vec<EndpointSlice>) -> Shortcut {
        let shortcut = Shortcut::default();
        shortcut.saw(&Touched::Is(pod("rec-0", "10.0.0.1")));
        shortcut.saw(&Touched::Is(pod("rec-1", "10.0.0.2")));
        shortcut.remember(shortcut.begin("db"), "db", found("rec-0", slices));
        shortcut
    }

    fn found(leads_to: &str, slices: Vec<EndpointSlice>) -> Known {
        let target = Target {
            open: true,
            ..endpoints::target(&pod(leads_to, "10.0.0.2")).unwrap()
        };
        let decision = Decision::Lead(target.clone());
        let memory = fetch::memory(&topology(2), &slices, &decision);
        let built = build::build(
            &topology(2).spec,
            &policy(),
            Some(Some(&target)),
            &[],
            memory.as_deref(),
        );
        Known {
            policy: policy(),
            slices,
            decision,
            stands: hash_of(&built),
            at: Instant::now(),
        }
    }

    fn ours() -> Vec<EndpointSlice> {
        vec![slice("db-meridian", "10.0.0.1")]
    }

    #[tokio::test]
    async fn a_primary_that_confirmed_is_followed_at_once_and_one_that_did_not_is_waited_for() {
        let shortcut = known(ours());
        assert_eq!(shortcut.way(&topology(1), "ns"), Way::Wait);
        let Way::Lead(lead) = shortcut.way(&topology(2), "ns") else {
            panic!("the slice leads to another pod");
        };
        let [(wanted, found)] = lead.writes.as_slice() else {
            panic!("{:?}", lead.writes);
        };
        let endpoint = &wanted.endpoints.as_ref().unwrap()[0];
        assert_eq!(endpoint.addresses, ["10.0.0.2"]);
        assert_eq!(found.metadata.uid.as_deref(), Some("S"));
        assert_eq!(found.metadata.managed_fields, None, "it is kept light");
    }

    #[tokio::test]
    async fn a_pod_wakes_the_databases_whose_clients_are_led_to_it_and_no_others() {
        let shortcut = Shortcut::default();
        let woken = |shortcut: &Shortcut| {
            ["rec-0", "rec-1", "rec-2"].map(|pod| shortcut.concerns(&topology(1), pod))
        };
        assert_eq!(woken(&shortcut), [false, true, false], "the primary");
        shortcut.remember(shortcut.begin("db"), "db", found("rec-0", ours()));
        assert_eq!(woken(&shortcut), [true, true, false], "the one before");
        let mut slice = slice("db-meridian", "10.0.0.3");
        let target = json!({"kind": "Pod", "name": "rec-2"});
        let endpoints = slice.endpoints.as_mut().unwrap();
        endpoints[0].target_ref = serde_json::from_value(target).unwrap();
        shortcut.remember(shortcut.begin("db"), "db", found("rec-1", vec![slice]));
        assert_eq!(woken(&shortcut), [false, true, true], "what was found");
        let mut entered = topology(1);
        entered.spec.entry_port = Some(30_000);
        assert!(
            Shortcut::default().concerns(&entered, "rec-2"),
            "any of its nodes"
        );
        assert!(!Shortcut::default().concerns(&entered, "other-2"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_costs_nothing_until_it_has_rested() {
        let shortcut = known(ours());
        shortcut.remember(shortcut.begin("db"), "db", found("rec-1", ours()));
        let stands = shortcut.way(&topology(2), "ns");
        assert!(matches!(stands, Way::Stands(_)), "{stands:?}");
        assert_eq!(
            shortcut.way(&topology(2), "home"),
            Way::None,
            "a change of what the user wishes there would not be seen"
        );
        let mut moved = topology(2);
        moved.spec.port = 10_001;
        assert_eq!(shortcut.way(&moved, "ns"), Way::None, "its Services change");
        tokio::time::advance(drive::REST).await;
        assert_eq!(shortcut.way(&topology(2), "ns"), Way::None);
    }

    #[tokio::test]
    async fn without_all_that_is_needed_a_complete_look_is_taken() {
        let at_once = |shortcut: &Shortcut| shortcut.way(&topology(2), "ns");
        assert_eq!(at_once(&Shortcut::default()), Way::None, "nothing is known");
        let shortcut = known(ours());
        shortcut.forget("db");
        assert_eq!(at_once(&shortcut), Way::None, "it changed");
        let began = shortcut.begin("db");
        shortcut.forget("db");
        shortcut.remember(began, "db", found("rec-0", ours()));
        assert_eq!(at_once(&shortcut), Way::None, "overtaken by a change");
        let began = shortcut.begin("db");
        shortcut.forget("another");
        shortcut.remember(began, "db", found("rec-0", ours()));
        assert_ne!(at_once(&shortcut), Way::None, "another database changed");
        let began = shortcut.begin("db");
        let Way::Lead(lead) = known(ours()).way(&topology(2), "ns") else {
            panic!("the slice leads to another pod");
        };
        shortcut.led("db", lead, vec![slice("db-meridian", "10.0.0.2")]);
        let stands = |way: &Way| matches!(way, Way::Stands(_));
        assert!(stands(&at_once(&shortcut)), "it was led there");
        shortcut.remember(began, "db", found("rec-0", ours()));
        assert_eq!(
            at_once(&shortcut),
            Way::None,
            "a look that knew less may have written over it"
        );
        let other = known(vec![slice("other-meridian", "10.0.0.1")]);
        assert_eq!(at_once(&other), Way::None, "a slice is missing");
        let mut going = pod("rec-1", "10.0.0.2");
        let time = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        going.metadata.deletion_timestamp = Some(time);
        let shortcut = known(ours());
        shortcut.saw(&Touched::Is(going));
        assert_eq!(at_once(&shortcut), Way::None, "its pod is going");
        let shortcut = known(ours());
        shortcut.saw(&Touched::Gone("rec-1".to_owned()));
        assert_eq!(at_once(&shortcut), Way::None, "its pod is gone");
    }
}
