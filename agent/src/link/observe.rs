//! Looks at this cluster and tells the hub: cluster resources (REC), what the hub ordered and how it fares, and what
//! people wish. One task owns what was seen; watches only feed it.

use std::collections::BTreeMap;

use futures::{Stream, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};
use meridian_api::{
    crds::topology::{DatabaseTopologyStatus, MemberReport, ShardRole},
    link::proto,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    applier::Command,
    identity::Trust,
    inventory::{self, Names},
    kinds::Kind,
    mirror::{Change, follow},
    outbox::Outbox,
    peers::PeerState,
    settle::{mark_of, object_id_of},
    wishes,
};
use crate::k8s::{
    drive,
    events::Events,
    own::{DATABASE, FIELD_MANAGER, MANAGED_BY},
    retry,
};

/// Changes that may wait for the observer. Watches stop reading while it is full.
const WAITING: usize = 64;
/// Plurals of what is followed besides.
const RECS: &str = "redisenterpriseclusters";
const TOPOLOGIES: &str = "databasetopologies";
/// Kinds of the hub that are followed. Its Secrets are not: their loss shows in the next Hello.
const FOLLOWED: [Kind; 3] = [Kind::RemoteCluster, Kind::Instance, Kind::Database];

/// What a watch saw.
#[derive(Debug)]
pub enum Seen {
    /// An object of a kind that the hub writes.
    Ordered(Kind, Change<DynamicObject>),
    /// A cluster resource (REC).
    Rec(Change<DynamicObject>),
    /// A Service.
    Service(Box<Change<Service>>),
    /// A `DatabaseTopology`.
    Topology(Change<DynamicObject>),
}

/// What the observer needs.
#[derive(Debug)]
pub struct Observer {
    /// Where reports go.
    pub outbox: Outbox,
    /// To the applier.
    pub applier: mpsc::Sender<Command>,
    /// This cluster's names, once it is a member.
    pub names: watch::Receiver<Option<(Names, Trust)>>,
    /// The peer certificates, by REC.
    pub peer_states: watch::Receiver<BTreeMap<String, PeerState>>,
    /// Gets the RECs with their suffixes.
    pub recs: watch::Sender<Vec<DynamicObject>>,
    /// Answers of the hub to wishes.
    pub answers: mpsc::Receiver<proto::Confirm>,
    /// For refusals.
    pub events: Events,
    /// The wall clock in milliseconds since 1970.
    pub wall_ms: fn() -> i64,
    /// Random numbers in `[0, 1)`.
    pub random: fn() -> f64,
}

#[derive(Debug, Default)]
struct State {
    recs: BTreeMap<String, DynamicObject>,
    services: BTreeMap<String, Service>,
    topologies: BTreeMap<String, DynamicObject>,
    databases: BTreeMap<String, DynamicObject>,
    listed: (bool, bool),
    asked: BTreeMap<String, String>,
}

/// Starts the watches of `namespace`; what they see comes out of the channel.
pub fn watches(
    client: &Client,
    namespace: &str,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> mpsc::Receiver<Seen> {
    let (send, seen) = mpsc::channel(WAITING);
    for kind in FOLLOWED {
        let send = send.clone();
        let api = Api::namespaced_with(client.clone(), namespace, &kind.resource());
        spawn_dynamic(api, kind.to_string(), tasks, cancel, send, move |change| {
            Seen::Ordered(kind, change)
        });
    }
    let recs = resource("app.redislabs.com", "v1", "RedisEnterpriseCluster", RECS);
    let api = Api::namespaced_with(client.clone(), namespace, &recs);
    spawn_dynamic(api, recs.kind, tasks, cancel, send.clone(), Seen::Rec);
    let topologies = resource("meridian.dev", "v1alpha1", "DatabaseTopology", TOPOLOGIES);
    let api = Api::namespaced_with(client.clone(), namespace, &topologies);
    let (sender, cancelled) = (send.clone(), cancel.clone());
    tasks.spawn(async move {
        let events = light(api, watcher::Config::default())
            .try_filter(|event| std::future::ready(is_of_active_active(event)));
        follow(&topologies.kind, events, &cancelled, sender, Seen::Topology).await;
    });
    let (api, cancel) = (
        Api::<Service>::namespaced(client.clone(), namespace),
        cancel.clone(),
    );
    tasks.spawn(async move {
        // Those of the RECs themselves: of databases there are many.
        let ours = format!("{MANAGED_BY}={FIELD_MANAGER},!{DATABASE}");
        let events = light(api, watcher::Config::default().labels(&ours));
        follow("Service", events, &cancel, send, |change| {
            Seen::Service(Box::new(change))
        })
        .await;
    });
    seen
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// A watch of objects that are kept without the API server's notes on who wrote which field.
fn light<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(api, config)
        .backoff(retry::alone())
        .modify(drive::lighten)
}

/// Whether an event is about the topology of a database of the hub. The others, of which there may be many, say nothing to it.
fn is_of_active_active(event: &watcher::Event<DynamicObject>) -> bool {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    match event {
        Apply(topology) | Delete(topology) | InitApply(topology) => {
            topology.data["spec"]["database"]["kind"] == Kind::Database.kind()
        }
        Init | InitDone => true,
    }
}

fn spawn_dynamic(
    api: Api<DynamicObject>,
    what: String,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
    send: mpsc::Sender<Seen>,
    wrap: impl Fn(Change<DynamicObject>) -> Seen + Send + 'static,
) {
    let cancel = cancel.clone();
    tasks.spawn(async move {
        let events = watcher(api, watcher::Config::default()).backoff(retry::alone());
        follow(&what, events, &cancel, send, wrap).await;
    });
}

impl Observer {
    /// Works until `cancel`.
    pub async fn run(mut self, mut seen: mpsc::Receiver<Seen>, cancel: CancellationToken) {
        let mut state = State::default();
        loop {
            // What is seldom comes first, so that many changes do not keep it waiting.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Some(answer) = self.answers.recv() => self.answer(&answer).await,
                Ok(()) = self.names.changed() => self.tell_recs(&state),
                Ok(()) = self.peer_states.changed() => self.tell_recs(&state),
                change = seen.recv() => match change {
                    Some(change) => self.see(&mut state, change).await,
                    None => return,
                },
            }
        }
    }

    async fn see(&self, state: &mut State, seen: Seen) {
        match seen {
            Seen::Ordered(kind, change) => self.see_ordered(state, kind, change).await,
            Seen::Rec(change) => {
                state.listed.0 |= remember(&mut state.recs, change);
                let recs = state.recs.values().cloned().collect();
                if state.listed.0 {
                    self.recs.send_replace(recs);
                }
                self.tell_recs(state);
            }
            Seen::Service(change) => {
                state.listed.1 |= remember(&mut state.services, *change);
                self.tell_recs(state);
            }
            Seen::Topology(change) => {
                let name = match &change {
                    Change::There(object) | Change::Gone(object) => Some(object.name_any()),
                    Change::Complete => None,
                };
                remember(&mut state.topologies, change);
                if let Some(database) = name.and_then(|name| state.databases.get(&name)) {
                    self.report(state, database);
                }
                // Its nodes say what they have read of their peer certificates.
                self.tell_recs(state);
            }
        }
    }

    async fn see_ordered(&self, state: &mut State, kind: Kind, change: Change<DynamicObject>) {
        let (object, gone) = match change {
            Change::There(object) => (object, false),
            Change::Gone(object) => (object, true),
            Change::Complete => return,
        };
        if gone {
            state.asked.remove(&object.uid().unwrap_or_default());
        } else if let Some(wish) = wishes::wish(kind, &object) {
            // Once per wish and process: an answer stands until the object changes.
            let known = state
                .asked
                .insert(wish.kube_uid.clone(), wish.intent_id.clone());
            if known.as_ref() != Some(&wish.intent_id) {
                self.outbox.intent(wish);
            }
        }
        if kind == Kind::Database {
            let change = if gone {
                Change::Gone(object.clone())
            } else {
                Change::There(object.clone())
            };
            remember(&mut state.databases, change);
        }
        let Some(id) = object_id_of(&object) else {
            return;
        };
        if gone {
            self.outbox.forget_status(&id.to_string());
        } else {
            self.report(state, &object);
        }
        // The applier outlives the observer only while both stop.
        let _stopped = self
            .applier
            .send(Command::Seen {
                kind,
                object: Box::new(object),
                gone,
            })
            .await;
    }

    /// Tells the status of an object of the hub; for a database with its row of the link matrix.
    fn report(&self, state: &State, object: &DynamicObject) {
        let Some(id) = object_id_of(object) else {
            return;
        };
        let Some(status) = object.data.get("status") else {
            return;
        };
        let is_database = object
            .types
            .as_ref()
            .is_none_or(|types| types.kind == Kind::Database.kind());
        let topology = is_database
            .then(|| state.topologies.get(&object.name_any()))
            .flatten();
        let now = Instant::now();
        let delta = proto::StatusDelta {
            object_id: id.to_string(),
            for_revision: mark_of(object).unwrap_or_default().revision.0,
            observed_generation: object.metadata.generation.unwrap_or(0),
            status: status.to_string().into(),
            links: topology.map(links).unwrap_or_default(),
            as_of_wall_ms: (self.wall_ms)(),
            kube_uid: object.uid().unwrap_or_default(),
            ..proto::StatusDelta::default()
        };
        self.outbox.status(delta, now, (self.random)());
    }

    /// Tells the RECs, once everything that belongs to them was listed: a part must not look like the whole.
    fn tell_recs(&self, state: &State) {
        let names = self.names.borrow();
        let (Some((names, trust)), (true, true)) = (names.as_ref(), state.listed) else {
            return;
        };
        let peers = self.peer_states.borrow();
        let recs = state.recs.values().map(|rec| {
            let name = rec.name_any();
            let sync = state.services.get(&format!("{name}-sync"));
            let nodes = read_by_nodes(state, &name);
            inventory::rec(rec, sync, names, peers.get(&name), &nodes)
        });
        self.outbox.recs(recs.collect(), trust, (self.wall_ms)());
    }

    async fn answer(&self, answer: &proto::Confirm) {
        let Some(wish) = self.outbox.answered(&answer.intent_id) else {
            return;
        };
        let (reason, note, warning) = wishes::verdict(answer, &wish);
        let about = ObjectReference {
            api_version: Some(Kind::Database.api_version().to_owned()),
            kind: Some(wish.kind.clone()),
            namespace: Some(wish.namespace.clone()),
            name: Some(wish.name.clone()),
            uid: Some(wish.kube_uid.clone()),
            ..ObjectReference::default()
        };
        if warning {
            tracing::warn!(
                object = wish.name,
                reason,
                note,
                "the hub answered a local wish"
            );
            self.events.warning(&about, reason, &note).await;
        } else {
            tracing::info!(
                object = wish.name,
                reason,
                note,
                "the hub answered a local wish"
            );
            self.events.normal(&about, reason, &note).await;
        }
    }
}

/// Takes a change into a map by name. Tells whether it completed the first list.
fn remember<K: Resource>(known: &mut BTreeMap<String, K>, change: Change<K>) -> bool {
    match change {
        Change::There(object) => {
            known.insert(object.name_any(), object);
            false
        }
        Change::Gone(object) => {
            known.remove(&object.name_any());
            false
        }
        Change::Complete => true,
    }
}

/// What each node that has a shard of a database of the hub in this REC says to have read of its peer certificate.
fn read_by_nodes<'a>(state: &'a State, rec: &str) -> Vec<Option<&'a str>> {
    let topologies = state.topologies.values();
    let of_rec = topologies.filter(|topology| topology.data["spec"]["cluster"] == rec);
    let mut read = Vec::new();
    for topology in of_rec {
        let members = topology.data["status"]["members"].as_array();
        let says = |node: &str| {
            let mut members = members.into_iter().flatten();
            members.find(|member| member["node"] == node)?["peerFiles"].as_str()
        };
        let shards = topology.data["spec"]["shards"].as_array();
        for shard in shards.into_iter().flatten() {
            let others = ["replicas", "joining"].map(|list| shard[list].as_array());
            let others = others.into_iter().flatten().flatten();
            let nodes = [&shard["primary"]].into_iter().chain(others);
            read.extend(nodes.filter_map(|node| node.as_str()).map(says));
        }
    }
    read
}

/// This cluster's row of the link matrix: the links of the node that holds the primary.
fn links(topology: &DynamicObject) -> Vec<proto::LinkRow> {
    let parsed: Option<DatabaseTopologyStatus> = topology
        .data
        .get("status")
        .and_then(|status| serde_json::from_value(status.clone()).ok());
    let Some(status) = parsed else {
        return Vec::new();
    };
    let leads = |member: &&MemberReport| {
        member
            .shards
            .iter()
            .any(|shard| shard.role == ShardRole::Primary)
    };
    let rows = status
        .members
        .iter()
        .filter(leads)
        .flat_map(|member| &member.links);
    let millis = |text: &str| {
        text.parse()
            .map_or(0, |at: jiff::Timestamp| at.as_millisecond())
    };
    let rows = rows.map(|link| proto::LinkRow {
        instance_id: u32::try_from(link.instance_id).unwrap_or(0),
        name: link.name.clone(),
        state: link.state.to_string(),
        last_error: link.last_error.clone().unwrap_or_default(),
        lag_ms: link.lag_ms.and_then(|lag| u64::try_from(lag).ok()),
        since_ms: millis(&link.since),
        as_of_ms: millis(&link.as_of),
    });
    rows.collect()
}

#[cfg(test)]
mod tests;
