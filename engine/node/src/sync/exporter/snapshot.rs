//! What one scrape is about: the node's view with what each shard says of itself at that moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::info::{Info, SECTIONS};
use crate::sync::node::{LinkRow, Measured, Node, NodeView, ShardView};

/// A shard that does not answer within this is shown as one that does not, and the others are shown in time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything that the page is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) cluster: String,
    pub(super) node: String,
    pub(super) shards: Vec<ShardSample>,
    pub(super) links: Vec<LinkSample>,
    /// Labels of the databases whose primary is here.
    pub(super) tags: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) refused: usize,
    pub(super) problems: usize,
    /// Starts, and hangs.
    pub(super) sync_starts: Option<(u64, u64)>,
}

/// One shard of one database.
#[derive(Clone, Debug)]
pub(super) struct ShardSample {
    pub(super) database: String,
    pub(super) epoch: u64,
    pub(super) view: ShardView,
    /// `None`: nothing of it is to run here.
    pub(super) process: Option<Process>,
    /// Milliseconds since the machine was started, the clock of permissions.
    pub(super) boot_ms: u64,
}

/// A shard's process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// `None`: it does not answer.
    pub(super) info: Option<Info>,
    pub(super) in_sync: Option<usize>,
    pub(super) starts: Option<u64>,
}

/// One link of one database.
#[derive(Clone, Debug)]
pub(super) struct LinkSample {
    pub(super) database: String,
    pub(super) row: LinkRow,
}

impl ShardSample {
    pub(super) fn info(&self) -> Option<&Info> {
        self.process.as_ref()?.info.as_ref()
    }

    /// A number of `INFO`.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.info()?.number(name)
    }

    pub(super) fn leads(&self) -> bool {
        self.view.role == "primary"
    }
}

/// Asks every shard at once.
pub(super) async fn take(node: &Node) -> Snapshot {
    let asked = join_all(node.measured().into_iter().map(ask)).await;
    let taken = of(
        node.view(),
        node.cluster_name().to_owned(),
        asked,
        node.sync_starts(),
        crate::clock::boot_ms(),
    );
    Snapshot {
        tags: node.tags(),
        ..taken
    }
}

/// The `INFO` of every shard as it prints it, for a person.
pub(super) async fn raw(node: &Arc<Node>) -> String {
    join_all(node.measured().into_iter().map(printed))
        .await
        .concat()
}

async fn printed(measured: Measured) -> String {
    let (text, name) = (info(&measured).await, &measured.database);
    let text = text.unwrap_or_else(|why| format!("# {why}\n"));
    format!("# database={name} shard={}\n{text}\n", measured.id)
}

async fn ask(measured: Measured) -> (Measured, Option<Info>) {
    let info = info(&measured).await.ok();
    (measured, info.as_deref().map(Info::parse))
}

async fn info(measured: &Measured) -> Result<String, String> {
    let shard = measured
        .shard
        .as_ref()
        .ok_or("the shard does not answer: see the node's log")?;
    match tokio::time::timeout(PATIENCE, shard.info(SECTIONS)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(crate::run::chain(&error)),
        Err(_elapsed) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn of(
    view: NodeView,
    cluster: String,
    asked: Vec<(Measured, Option<Info>)>,
    sync_starts: Option<(u64, u64)>,
    boot_ms: u64,
) -> Snapshot {
    let mut snapshot = Snapshot {
        cluster,
        node: view.node,
        refused: view.refusals.len(),
        problems: view.problems.len(),
        sync_starts,
        ..Snapshot::default()
    };
    for database in view.databases {
        for shard in database.shards {
            let process = asked
                .iter()
                .find(|(m, _)| m.database == database.name && m.id == shard.id)
                .map(|(measured, info)| Process {
                    info: info.clone(),
                    in_sync: measured.in_sync,
                    starts: measured.starts,
                });
            snapshot.shards.push(ShardSample {
                database: database.name.clone(),
                epoch: database.epoch,
                view: shard,
                process,
                boot_ms,
            });
        }
        let links = database.links.into_iter().map(|row| LinkSample {
            database: database.name.clone(),
            row,
        });
        snapshot.links.extend(links);
    }
    snapshot
}
