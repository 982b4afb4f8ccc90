//! The child's centre: proposes to PID 1 what topologies mean, and runs what PID 1 accepted.

mod database;
mod grants;
mod measured;
mod orders;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::control::{Answers, Question};
use super::endpoint::{SharedTable, Table};
use super::forward::{self, Entries};
use super::pauses::Pauses;
use super::settings::Settings;
use super::topology::{Problem, Topology, membership, routes};
use crate::atomic_file::{self, FileError};
use crate::desired::{DesiredState, ShardName};
use crate::layout::Layout;
use crate::pid1::Report;
use database::Database;
pub(super) use database::{Cluster, LinkRow};
pub(super) use measured::Measured;
use orders::Orders;
pub(super) use view::{DatabaseView, NodeView, Pace, ShardView};

/// The child's state.
pub(super) struct Node {
    layout: Layout,
    settings: Settings,
    tasks: TaskTracker,
    stop: CancellationToken,
    pauses: Pauses,
    /// The other nodes; `None`: there are none.
    cluster: Option<Cluster>,
    table: SharedTable,
    /// Counts changes that deserve to be told at once.
    edges: watch::Sender<u64>,
    inner: Mutex<Inner>,
    /// By what clients enter whose primary is elsewhere.
    entries: Mutex<Entries>,
    /// Proposals go to PID 1 one after the other.
    orders: tokio::sync::Mutex<Orders>,
}

#[derive(Default)]
struct Inner {
    /// The topologies that PID 1 follows, by database.
    followed: BTreeMap<String, Topology>,
    shards: BTreeMap<ShardName, Database>,
    obeyed: DesiredState,
    report: Option<Report>,
    problems: Vec<Problem>,
    /// Why the newest orders are not followed yet.
    owed: Option<String>,
}

impl Node {
    pub(super) fn new(
        layout: Layout,
        settings: Settings,
        cluster: Option<Cluster>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, FileError> {
        let pauses = Pauses::load(&layout.paused())?;
        let followed = atomic_file::read_json(&layout.topologies())?.unwrap_or_default();
        let entries = Entries::new(&settings.node, &settings.bind, tasks.clone(), stop.clone());
        Ok(Arc::new(Self {
            layout,
            settings,
            cluster,
            tasks,
            stop,
            entries: Mutex::new(entries),
            pauses,
            table: Arc::new(ArcSwap::default()),
            edges: watch::channel(0).0,
            inner: Mutex::new(Inner {
                followed,
                ..Inner::default()
            }),
            orders: tokio::sync::Mutex::default(),
        }))
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn table(&self) -> SharedTable {
        Arc::clone(&self.table)
    }

    pub(super) fn edges(&self) -> watch::Receiver<u64> {
        self.edges.subscribe()
    }

    /// What is to be told of the entries of this node.
    pub(super) fn entries(&self) -> watch::Receiver<forward::Told> {
        let entries = self.entries.lock();
        entries.unwrap_or_else(PoisonError::into_inner).told()
    }

    /// Makes the entries of this node those that the topologies ask for.
    fn enter(&self, inner: &Inner) {
        let followed = inner.followed.values();
        let wanted = forward::wanted(followed, &*self.settings.host);
        let entries = self.entries.lock();
        entries
            .unwrap_or_else(PoisonError::into_inner)
            .follow(wanted);
    }

    fn set_problems(&self, problems: Vec<Problem>) {
        let mut inner = self.inner();
        for problem in problems.iter().filter(|p| !inner.problems.contains(p)) {
            warn!(database = problem.database, "{}", problem.message);
        }
        inner.problems = problems;
    }

    fn reconcile(&self, inner: &mut Inner) {
        self.enter(inner);
        let stopping = inner.report.as_ref().is_some_and(|r| r.stopping);
        let wanted: BTreeMap<ShardName, _> = inner
            .obeyed
            .databases
            .iter()
            .flat_map(|(name, database)| {
                database
                    .shards
                    .iter()
                    .map(move |(id, shard)| (name, *id, database, shard))
            })
            .map(|(name, id, database, shard)| {
                let assigned = grants::assigned(database, shard, stopping);
                let wanted = (name.clone(), id, shard.clone(), assigned);
                (ShardName::new(name, id), wanted)
            })
            .collect();
        inner.shards.retain(|name, _| {
            let keep = wanted.contains_key(name);
            if !keep {
                info!(shard = %name, "is not served here any more");
            }
            keep
        });
        let mut table = Table {
            routes: routes(inner.followed.values(), &self.settings.node),
            ..Table::default()
        };
        for (name, (database, id, desired, assigned)) in wanted {
            let membership = match inner
                .followed
                .get(&database)
                .map(|t| membership(t, &self.settings.node))
            {
                Some(Ok(membership)) => membership.filter(|m| m.shard == name),
                Some(Err(message)) => {
                    warn!(database, "{message}");
                    None
                }
                None => None,
            };
            let wanted = database::Wanted {
                database,
                id,
                desired,
                membership,
                assigned,
            };
            let running = inner.shards.entry(name.clone()).or_insert_with(|| {
                Database::start(
                    self.layout.shard(name.as_str()),
                    &self.layout,
                    &wanted,
                    &self.tasks,
                    &self.stop,
                )
            });
            if let Some(cluster) = &self.cluster {
                running.admit(&wanted.desired, cluster);
                running.drive(wanted.assigned.clone(), cluster, &self.edges);
            }
            running.become_like(wanted, &self.pauses, &self.settings.security, &self.edges);
            if let Some(source) = running.source() {
                table.sources.insert(source.membership.guid.clone(), source);
            }
        }
        self.table.store(Arc::new(table));
    }

    /// Everything there is to see.
    pub(super) fn view(&self) -> NodeView {
        let inner = self.inner();
        view::of(&self.settings, &inner)
    }

    /// The links that a question means.
    fn links(&self, peer: Option<u32>) -> Result<Vec<(String, u32)>, String> {
        let inner = self.inner();
        let all: Vec<(String, u32)> = inner
            .shards
            .values()
            .flat_map(|d| d.peers().map(|p| (d.name().to_owned(), p)))
            .collect();
        let meant: Vec<_> = all
            .iter()
            .filter(|(_, p)| peer.is_none_or(|wanted| wanted == *p))
            .cloned()
            .collect();
        if meant.is_empty() {
            let known: Vec<String> = all.iter().map(|(_, p)| p.to_string()).collect();
            let asked = peer.map_or("any peer".to_owned(), |p| format!("peer {p}"));
            return Err(format!(
                "there is no {asked}; this node has the peers [{}]",
                known.join(", ")
            ));
        }
        Ok(meant)
    }

    fn pause(&self, peer: Option<u32>, pause: bool) -> Result<(), String> {
        let links = self.links(peer)?;
        self.pauses
            .set(&links, pause)
            .map_err(|e| crate::run::chain(&e))?;
        for database in self.inner().shards.values() {
            database.apply_pauses(&self.pauses);
        }
        Ok(())
    }
}

impl Answers for Node {
    fn answer(&self, question: &Question) -> Result<serde_json::Value, String> {
        match question {
            Question::Status => {}
            Question::Pause { peer } => self.pause(*peer, true)?,
            Question::Resume { peer } => self.pause(*peer, false)?,
        }
        serde_json::to_value(self.view()).map_err(|e| e.to_string())
    }
}
