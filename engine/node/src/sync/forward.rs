//! The entry to a database on every node: takes clients on a port of its own and passes them on to the primary, wherever that is.
//! Bytes are passed as they come, TLS included, so who a client is remains the shard's to check, and nothing is acknowledged here.
//!
//! Whom the topology names is whom a client is passed to. When it names another, or nobody for sure, connections end at once, so that
//! no client waits for an answer that nobody will give: it connects anew, and is passed on as soon as there is a primary again.

mod pass;
mod tell;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meridian_api::crds::topology::EntryReport;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::topology::Topology;
pub(super) use tell::run as tell;

/// Connections of clients that a node passes on at once, at most: as many as one shard takes.
const MOST: usize = 10_000;

/// Open files that are left to everything else in this process.
const RESERVE: u64 = 512;

/// To whom clients are passed. Another epoch is another primary, or the same one after others may have led.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Goal {
    epoch: u64,
    host: String,
    port: u16,
}

/// What an entry should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    uid: String,
    port: u16,
    /// `None`: nobody takes writes for sure.
    to: Option<Goal>,
}

/// The entries that `topologies` ask every node for, by database; `host` makes the host of a node of its name.
pub(super) fn wanted<'a>(
    topologies: impl Iterator<Item = &'a Topology>,
    host: &dyn Fn(&str) -> String,
) -> BTreeMap<String, Wanted> {
    let one = |topology: &Topology| {
        let spec = &topology.spec;
        let port = u16::try_from(spec.entry_port?).ok()?;
        // One that is stopped everywhere has no entry.
        let shard = spec.shards.first()?;
        let fenced = spec
            .fence
            .as_ref()
            .is_some_and(|fence| fence.epoch > spec.epoch);
        let to = shard
            .primary
            .as_ref()
            .filter(|_| !fenced)
            .and_then(|primary| {
                Some(Goal {
                    epoch: topology.epoch(),
                    host: host(primary),
                    port: u16::try_from(spec.port).ok()?,
                })
            });
        let wanted = Wanted {
            uid: topology.uid.clone(),
            port,
            to,
        };
        Some((topology.name.clone(), wanted))
    };
    topologies.filter_map(one).collect()
}

/// What this node says of each entry that it is asked for; `None`: it does not listen yet.
pub(super) type Told = BTreeMap<String, Option<EntryReport>>;

struct Running {
    uid: String,
    port: u16,
    to: watch::Sender<Option<Goal>>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The entries of this node.
pub(super) struct Entries {
    node: String,
    bind: Option<IpAddr>,
    places: Arc<Semaphore>,
    told: watch::Sender<Told>,
    running: BTreeMap<String, Running>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Entries {
    /// None yet. `node` is the name of this node, `bind` the address on which its shards listen.
    pub(super) fn new(node: &str, bind: &str, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            node: node.to_owned(),
            bind: bind.parse().ok(),
            places: Arc::new(Semaphore::new(places())),
            told: watch::channel(Told::new()).0,
            running: BTreeMap::new(),
            tasks,
            stop,
        }
    }

    /// What is to be told of them, newest first and last.
    pub(super) fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// Opens, shuts and turns entries until they are as `wanted`.
    pub(super) fn follow(&mut self, wanted: BTreeMap<String, Wanted>) {
        let Some(bind) = self.bind else { return };
        let told = &self.told;
        self.running.retain(|name, running| {
            let same = |wanted: &Wanted| (&wanted.uid, wanted.port) == (&running.uid, running.port);
            let keep = wanted.get(name).is_some_and(same);
            if !keep {
                info!(database = name, "takes no clients for its primary any more");
                told.send_modify(|told| drop(told.remove(name)));
            }
            keep
        });
        for (name, Wanted { uid, port, to }) in wanted {
            if let Some(running) = self.running.get(&name) {
                running.to.send_if_modified(|known| {
                    let turned = *known != to;
                    *known = to;
                    turned
                });
                continue;
            }
            let (to, goal) = watch::channel(to);
            let stop = self.stop.child_token();
            self.told
                .send_modify(|told| drop(told.insert(name.clone(), None)));
            let entry = pass::Entry {
                database: name.clone(),
                address: SocketAddr::new(bind, port),
                goal,
                places: Arc::clone(&self.places),
                told: self.told.clone(),
                report: EntryReport {
                    node: self.node.clone(),
                    topology_uid: uid.clone(),
                    port: i32::from(port),
                },
            };
            self.tasks.spawn(pass::serve(entry, stop.clone()));
            let running = Running {
                uid,
                port,
                to,
                stop,
            };
            self.running.insert(name, running);
        }
    }
}

/// How many clients this process may pass on at once: each takes two open files.
fn places() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(RESERVE) / 2).map_or(MOST, |places| places.min(MOST))
}

#[cfg(test)]
mod tests;
