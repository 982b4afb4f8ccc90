//! What people do: they join clusters, make, change and delete databases on the hub, let it go on when it only observes, and
//! meddle with kubectl on a member. What the hub refuses is no fault; it is written into the trace.

use std::fmt::Display;

use jiff::SignedDuration;
use meridian_agent::link::kinds::Kind;
use meridian_api::{
    crds::active_active::{ParticipatingCluster, RedisEnterpriseActiveActiveDatabaseSpec},
    link::enroll::{Purpose, Transcript, transcript},
};
use meridian_hub::{
    app::{AppError, audit::Trail, databases::NewDatabase, enroll::Finish, writes::Manner},
    domain::cluster::DeviceKey,
    store::{keys, records},
};
use serde_json::json;

use super::{agent::Member, dice::Dice, hub::Hub, judge::Judge, trace::Trace};

/// Names of databases: few, so that they are used again.
const NAMES: [&str; 4] = ["orders", "carts", "users", "flags"];

/// Somebody who administers everything.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
}

impl Person {
    fn tell<T>(&self, deed: impl Display, done: Result<T, AppError>) -> Option<T> {
        let result = match &done {
            Ok(_) => "done",
            Err(AppError::Store(_)) => "the store failed",
            Err(AppError::Observing(_)) => "refused: observing",
            Err(_) => "refused",
        };
        self.trace.note("person", format_args!("{deed}: {result}"));
        done.ok()
    }

    /// Joins a member that never was one.
    pub(crate) async fn joins(&self, hub: &Hub, member: &Member) {
        let Member { name, identity, .. } = member;
        let (app, manner) = (&hub.app, Manner::default());
        let life = SignedDuration::from_hours(1);
        let material = app
            .create_join_token(name, life, false, &manner)
            .await
            .unwrap();
        let device = identity.device_public_key().unwrap();
        let opened = app.begin_enrolment(DeviceKey::new(&device).unwrap(), member.cluster);
        let csr = identity.request().unwrap();
        let signed = transcript(&Transcript {
            purpose: Purpose::Finish,
            challenge_id: &opened.id,
            nonce: &opened.nonce,
            device_public_key: &device,
            kube_system_uid: &member.cluster.to_string(),
            cluster_name: name,
            credential: material.token.as_bytes(),
            csr_der: &csr,
        });
        let finish = Finish {
            challenge_id: &opened.id,
            token: material.token.as_str(),
            cluster_name: name,
            signature: &identity.sign(&signed).unwrap(),
            csr: &csr,
            agent_version: "1",
            address: "10.0.0.7",
        };
        app.finish_enrolment(finish).await.unwrap();
        self.trace.note("person", format_args!("joined {name}"));
    }

    fn a_name(&self) -> &'static str {
        self.dice.pick(&NAMES).unwrap()
    }

    /// The name of a database that exists, if there is one.
    async fn a_database(&self, hub: &Hub) -> String {
        let all = records::list(hub.volume.memory(), &keys::databases())
            .await
            .unwrap();
        let standing = all
            .value
            .iter()
            .filter(|held| held.record.deletion.is_none());
        let names: Vec<_> = standing.map(|held| held.record.name.clone()).collect();
        let name = self.dice.pick(&names).cloned();
        name.unwrap_or_else(|| self.a_name().to_owned())
    }

    /// Names of the remote clusters that databases may lie on.
    async fn remotes(&self, hub: &Hub) -> Vec<String> {
        let remotes = records::list(hub.volume.memory(), &keys::remotes())
            .await
            .unwrap();
        let names = remotes.value.into_iter().map(|held| held.record.name);
        names.filter(|name| !name.starts_with("idle")).collect()
    }

    async fn some_remotes(&self, hub: &Hub) -> Vec<String> {
        let mut remotes = self.remotes(hub).await;
        while remotes.len() > 2 && self.dice.in_thousand(300) {
            let gone = self.dice.in_range(0..remotes.len() as u64);
            remotes.remove(usize::try_from(gone).unwrap());
        }
        remotes
    }

    pub(crate) async fn creates(&self, hub: &Hub) {
        self.creates_as(hub, self.a_name(), &Manner::default())
            .await;
    }

    pub(crate) async fn creates_as(&self, hub: &Hub, name: &str, manner: &Manner) {
        let remotes = self.some_remotes(hub).await;
        let participating_clusters = remotes.into_iter().map(|name| ParticipatingCluster {
            name,
            ..ParticipatingCluster::default()
        });
        let new = NewDatabase {
            name: name.to_owned(),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            annotations: Default::default(),
            spec: RedisEnterpriseActiveActiveDatabaseSpec {
                participating_clusters: participating_clusters.collect(),
                ..RedisEnterpriseActiveActiveDatabaseSpec::default()
            },
        };
        let made = hub.app.create_database(&new, manner).await;
        self.tell(format_args!("creates {}", new.name), made);
    }

    pub(crate) async fn changes(&self, hub: &Hub) {
        let (name, team) = (
            self.a_database(hub).await,
            format!("t{}", self.dice.in_range(0..1000)),
        );
        let manner = Manner::default();
        let changed = hub.app.change_database(&name, &manner, |held| {
            let spec = serde_json::from_value(held.record.spec.clone());
            Ok(NewDatabase {
                name: name.clone(),
                labels: [("team".to_owned(), team.clone())].into(),
                annotations: Default::default(),
                spec: spec.expect("a stored spec is one"),
            })
        });
        let changed = changed.await;
        self.tell(format_args!("changes {name}"), changed);
    }

    pub(crate) async fn deletes(&self, hub: &Hub) {
        let (name, manner) = (self.a_database(hub).await, Manner::default());
        let deleted = hub
            .app
            .delete_database(&name, Some(&name), "alice", &manner)
            .await;
        self.tell(format_args!("deletes {name}"), deleted);
    }

    /// A script that goes wrong: every database there may be is made, and then each is deleted by its name.
    pub(crate) async fn deletes_all(&self, hub: &Hub) {
        let manner = Manner::default();
        for name in NAMES {
            self.creates_as(hub, name, &manner).await;
        }
        for name in NAMES {
            let deleted = hub
                .app
                .delete_database(name, Some(name), "script", &manner)
                .await;
            self.tell(format_args!("deletes {name}, as all"), deleted);
        }
    }

    pub(crate) async fn removes(&self, hub: &Hub, member: &Member) {
        let removed = hub
            .app
            .remove_cluster(&member.name, &Manner::default())
            .await;
        self.tell(format_args!("removes {}", member.name), removed);
    }

    /// Gives a member up, which the hub refuses while it has a session.
    pub(crate) async fn loses(&self, hub: &Hub, member: &Member) {
        let (name, manner) = (member.name.as_str(), Manner::default());
        let lost = hub.app.lose_cluster(name, (Some(name), "alice"), &manner);
        self.tell(format_args!("loses {name}"), lost.await);
    }

    /// Looks whether the hub only observes, and lets it go on.
    pub(crate) async fn adopts(&self, hub: &Hub) {
        if matches!(hub.app.doubts().await, Ok(doubts) if !doubts.is_empty()) {
            let adopted = hub.app.adopt("alice", &Trail::default()).await;
            self.tell("adopts", adopted);
        }
    }

    /// Looks at deletions in bulk that the hub holds back, and lets them go. The judge hears before which objects are in the lists.
    pub(crate) async fn thaws(&self, hub: &Hub, judge: &Judge) {
        let Ok(freezes) = hub.app.freezes().await else {
            return;
        };
        let all = freezes.iter().flat_map(|freeze| &freeze.deletions);
        judge.thawed(all.map(|held| held.desired.object_id).collect());
        for freeze in freezes {
            let manner = Manner::default();
            let released = hub.app.release_freeze(&freeze.list, "alice", &manner).await;
            self.tell(format_args!("thaws {}", freeze.scope), released);
        }
    }

    /// Lets members in again that the hub took for copies.
    pub(crate) async fn releases(&self, hub: &Hub, members: &[Member]) {
        for member in members {
            let key = keys::denied_cluster(member.cluster);
            let denied = records::get(hub.volume.memory(), &key).await.unwrap();
            if let Some(denied) = denied {
                let name = denied.record.name;
                let released = hub.app.release(&name, "alice", &Manner::default()).await;
                self.tell(format_args!("releases {}", member.name), released);
            }
        }
    }

    /// Writes a database with kubectl on the member, to which the hub says yes or no.
    pub(crate) async fn proposes(&self, hub: &Hub, member: &Member) {
        let name = self.a_name();
        let there = member.kubernetes.objects();
        if there.contains_key(&(Kind::Database, name.to_owned())) {
            return;
        }
        let participants = self.some_remotes(hub).await;
        let participants: Vec<_> = participants
            .iter()
            .map(|name| json!({"name": name}))
            .collect();
        let spec = json!({"participatingClusters": participants});
        member
            .kubernetes
            .edited_by_hand(Kind::Database, name, |object| object["spec"] = spec);
    }

    /// Does on the member, with kubectl, what the hub is to put right.
    pub(crate) fn meddles(&self, member: &Member) {
        let kubernetes = &member.kubernetes;
        let there: Vec<_> = kubernetes.objects().into_keys().collect();
        let Some((kind, name)) = self.dice.pick(&there) else {
            return;
        };
        match self.dice.in_range(0..3) {
            0 => kubernetes.lost_by_hand(*kind, name),
            1 => kubernetes.edited_by_hand(*kind, name, |object| {
                object["spec"]["configVersion"] = json!(77);
                object["spec"]["recName"] = json!("by-hand");
            }),
            _ if *kind == Kind::Database => kubernetes.edited_by_hand(*kind, name, |object| {
                object["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
            }),
            _ => {}
        }
    }

    /// Takes away by force what waits for a confirmation that never comes.
    pub(crate) fn cleans_up(&self, member: &Member) {
        for ((kind, name), object) in member.kubernetes.objects() {
            if object["metadata"]["deletionTimestamp"].is_string() {
                member.kubernetes.lost_by_hand(kind, &name);
            }
        }
    }
}
