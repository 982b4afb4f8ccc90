//! The agent's end of the link to the hub: enrolment, the session, what comes in, what goes out.
//!
//! Controllers and link meet only in the Kubernetes API: the link writes what the hub wants as custom resources
//! and reads their status; it never calls a controller. It runs on the leader, for as long as that leads.
//!
//! ```text
//!  Secret meridian-join ─► supervise ─ dial ─ enroll ─► session ◄─► hub
//!                                                        │   ▲
//!                    journal ◄─ applier ◄── orders ──────┘   │ newest of each
//!                                  │                       outbox
//!                                  ▼ server-side apply       ▲
//!                       RERC, instances, REAADB ──► observe ─┘        peers ─► Secrets <rec>-peer-tls
//! ```
//!
//! Pure: `backoff`, `join`, `identity`, `kinds`, `order`, `journal`, `freeze`, `settle`, `inventory`, `outbox`, `wishes`.
//! A clock is read in `run` alone. Nothing here is needed for databases to serve, fail over or replicate.

use std::{collections::BTreeMap, sync::Arc};

use kube::Client;
use meridian_api::link::proto;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    k8s::{apply::Objects, events::Events},
    metrics::{Certificate, Metrics},
};

pub mod applier;
pub mod backoff;
pub mod dial;
pub mod enroll;
pub mod freeze;
pub mod identity;
pub mod inventory;
pub mod join;
pub mod journal;
pub mod keep;
pub mod kinds;
pub mod member;
pub mod mirror;
pub mod observe;
pub mod order;
pub mod outbox;
pub mod peers;
pub mod session;
pub mod settle;
pub mod supervise;
pub mod wishes;

#[cfg(test)]
mod testing;

/// Commands that may wait for the applier.
const COMMANDS: usize = 32;

/// What the link is started with.
#[derive(Clone)]
pub struct LinkConfig {
    /// The API server.
    pub client: Client,
    /// The agent's namespace, the only one it acts in.
    pub namespace: String,
    /// Name of this replica, for Events.
    pub identity: String,
    /// Version of the agent, for people.
    pub version: String,
    /// How the hub is dialled where a proxy stands before it.
    pub proxy: dial::ProxySettings,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for LinkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkConfig")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Runs the link until `cancel`. Without join material it waits for it; without a hub it keeps what it was told. One that
/// ends by itself begins anew with what is stored.
pub async fn run(config: LinkConfig, cancel: CancellationToken) {
    let mut backoff = backoff::Backoff::default();
    let mut owed = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            (uid, store, journal) = start(&config) => {
                let parts = Parts::new(config.clone(), cancel.child_token());
                owed = parts.run(uid, store, journal, owed).await;
            }
        }
        let pause = backoff.next_delay(random());
        if cancel.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        tracing::warn!("the link begins anew with what is stored");
    }
}

/// Reads what must be known before anything else; tries until the API server gives it.
async fn start(config: &LinkConfig) -> (String, keep::SecretJournal, journal::Journal) {
    let mut backoff = backoff::Backoff::default();
    loop {
        let read = async {
            let uid = keep::kube_system_uid(config.client.clone()).await?;
            let (store, journal) =
                keep::SecretJournal::open(config.client.clone(), &config.namespace).await?;
            Ok::<_, keep::KeepError>((uid, store, journal))
        };
        match read.await {
            Ok(read) => return read,
            Err(error) => {
                tracing::warn!(%error, "the link cannot start yet; databases run");
                sleep(backoff.next_delay(random())).await;
            }
        }
    }
}

/// The tasks of the link.
struct Parts {
    config: LinkConfig,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Parts {
    fn new(config: LinkConfig, cancel: CancellationToken) -> Self {
        Self {
            config,
            cancel,
            tasks: JoinSet::new(),
        }
    }

    async fn run(
        mut self,
        uid: String,
        store: keep::SecretJournal,
        journal: journal::Journal,
        owed: Vec<order::Order>,
    ) -> Vec<order::Order> {
        let outbox = outbox::Outbox::default();
        let (applier, applied) = applier::Applier::new(applier::Setup {
            member: Arc::new(member::Cluster::new(
                self.config.client.clone(),
                &self.config.namespace,
            )),
            store,
            journal,
            owed,
            namespace: self.config.namespace.clone(),
            outbox: outbox.clone(),
            random,
        });
        let (commands, received) = mpsc::channel(COMMANDS);
        let (send, owed) = oneshot::channel();
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            let left = applier.run(received, cancel).await;
            drop(send.send(left));
        });
        let (answers, answered) = mpsc::channel(COMMANDS);
        let (trust, trusted) = watch::channel(None);
        let context = session::Context {
            kube_system_uid: uid,
            instance_id: uuid::Uuid::new_v4().to_string(),
            agent_version: self.config.version.clone(),
            outbox,
            applier: commands,
            applied,
            trust,
            answers,
            clocks: watch::channel(None).0,
            observing: watch::channel(None).0,
            wall_ms,
            random,
            namespace: self.config.namespace.clone(),
        };
        self.start_around(context, answered, trusted);
        self.finish().await;
        owed.await.unwrap_or_default()
    }

    /// Starts what feeds the outbox, what keeps certificates, and what holds the sessions.
    fn start_around(
        &mut self,
        context: session::Context,
        answers: mpsc::Receiver<proto::Confirm>,
        trust: watch::Receiver<Option<proto::TrustBundle>>,
    ) {
        let LinkConfig {
            client,
            namespace,
            identity,
            metrics,
            proxy,
            ..
        } = self.config.clone();
        let events = Events::new(client.clone(), &identity);
        let (membership, member_of) = watch::channel(None);
        let (hub, connected) = watch::channel(None);
        let (recs, recs_seen) = watch::channel(Vec::new());
        let (states, peer_states) = watch::channel(BTreeMap::new());
        let (join, joining) = watch::channel(None);
        let seen = observe::watches(&client, &namespace, &mut self.tasks, &self.cancel);
        let shown = show(Arc::clone(&metrics), connected.clone(), peer_states.clone());
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            cancel.run_until_cancelled_owned(shown).await;
        });
        let observer = observe::Observer {
            outbox: context.outbox.clone(),
            applier: context.applier.clone(),
            names: member_of.clone(),
            peer_states,
            recs,
            answers,
            events: events.clone(),
            wall_ms,
            random,
        };
        self.tasks.spawn(observer.run(seen, self.cancel.clone()));
        let peers = peers::Peers {
            objects: Objects::new(client.clone(), &namespace),
            recs: recs_seen,
            membership: member_of,
            hub: connected,
            states,
            events: events.clone(),
            wall_ms,
            random,
            failures: 0,
            issued: BTreeMap::new(),
            early: BTreeMap::new(),
        };
        self.tasks.spawn(peers.run(self.cancel.clone()));
        let watching =
            supervise::watch_join(client.clone(), namespace.clone(), join, self.cancel.clone());
        self.tasks.spawn(watching);
        let supervisor = supervise::Supervisor {
            client,
            namespace,
            join: joining,
            context,
            trust,
            membership,
            hub,
            proxy,
            events,
            metrics,
            expired: false,
            failed: false,
            held_since: None,
            next: None,
            drained_to: Vec::new(),
        };
        self.tasks.spawn(supervisor.run(self.cancel.clone()));
    }

    /// Waits for all tasks. One that ends before it is asked to takes the others with it: half a link would lie.
    async fn finish(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the link failed");
            }
            if !self.cancel.is_cancelled() {
                tracing::error!("a part of the link ended; the others end with it");
                self.cancel.cancel();
            }
        }
    }
}

/// Keeps the metrics equal to what the link knows, until nobody knows anything any more.
async fn show(
    metrics: Arc<Metrics>,
    mut hub: watch::Receiver<Option<Channel>>,
    mut peers: watch::Receiver<BTreeMap<String, peers::PeerState>>,
) {
    loop {
        metrics.hub_connected(hub.borrow_and_update().is_some());
        let first = peers
            .borrow_and_update()
            .values()
            .map(|peer| peer.ends_ms)
            .min();
        metrics.certificate(Certificate::Peer, first);
        let changed = tokio::select! {
            changed = hub.changed() => changed,
            changed = peers.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

fn random() -> f64 {
    rand::random()
}

fn wall_ms() -> i64 {
    crate::clock::now().0.as_millisecond()
}
