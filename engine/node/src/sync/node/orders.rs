//! The way of an order: proposed to PID 1, stored by it, run. What fails on the way, as on a full disk, is repeated until it
//! is done: nobody else would, because topologies are told once.

use std::collections::BTreeMap;

use tracing::{debug, error, info};

use super::{Inner, Node};
use crate::atomic_file::{self, FileError};
use crate::clock;
use crate::desired::{Access, DesiredState, Mutual};
use crate::pid1::{AskError, Verb, ask};
use crate::secret;
use crate::sync::alive::on_disk;
use crate::sync::topology::{NodeFacts, Topology, propose};

/// The newest orders.
#[derive(Debug, Default)]
pub(super) struct Orders {
    topologies: Vec<Topology>,
    access: BTreeMap<String, Access>,
    /// By what the nodes knew each other when the orders were last proposed; `None`: there are no orders yet.
    mutual: Option<Mutual>,
}

/// Why orders are not followed.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    /// Files of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// PID 1 gives no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// PID 1 could not follow.
    #[error("PID 1 does not follow them: {0}")]
    Supervisor(String),
}

impl Node {
    /// Runs what was followed before this process started.
    pub(in crate::sync) async fn resume(&self) {
        let _turn = self.orders.lock().await;
        self.look().await;
    }

    /// Looks again at what PID 1 runs, because shards stop some time after the order; and repeats orders that are not followed
    /// yet. Called about once a second.
    pub(in crate::sync) async fn refresh(&self) {
        let mut orders = self.orders.lock().await;
        let news = orders.mutual.as_ref().is_some_and(|known| {
            let newest = self.mutual(known);
            newest.is_some_and(|newest| newest != *known)
        });
        if self.owes() || news {
            self.attempt(&mut orders).await;
        }
        self.look().await;
    }

    /// Follows `topologies`, as far as PID 1 accepts them as orders; what cannot be done now is repeated by
    /// [`Self::refresh`].
    pub(in crate::sync) async fn follow(
        &self,
        topologies: Vec<Topology>,
        access: BTreeMap<String, Access>,
    ) {
        let mut orders = self.orders.lock().await;
        orders.topologies = topologies;
        orders.access = access;
        self.attempt(&mut orders).await;
    }

    fn owes(&self) -> bool {
        self.inner().owed.is_some()
    }

    /// Tries once; a line is written when the outcome turns.
    async fn attempt(&self, orders: &mut Orders) {
        let owed = self.propose(orders).await.err();
        let owed = owed.map(|error| crate::run::chain(&error));
        let before = std::mem::replace(&mut self.inner().owed, owed.clone());
        if before == owed {
            return;
        }
        match owed {
            Some(error) => error!(error, "orders are not followed yet; trying on"),
            None => info!("orders are followed again"),
        }
        self.edges.send_modify(|count| *count += 1);
    }

    async fn propose(&self, orders: &mut Orders) -> Result<(), OrderError> {
        let last = atomic_file::read_json::<DesiredState>(&self.layout.obeyed())?;
        let known = orders.mutual.take().or_else(|| {
            let (_, _, shard) = last.as_ref()?.shards().next()?;
            Some(shard.mutual.clone())
        });
        let known = known.unwrap_or_default();
        let mutual = self.mutual(&known).unwrap_or(known);
        orders.mutual = Some(mutual.clone());
        let facts = NodeFacts {
            node: &self.settings.node,
            bind: &self.settings.bind,
            access: &orders.access,
            mutual: &mutual,
            host: &*self.settings.host,
        };
        let (proposal, problems) = propose(&orders.topologies, &facts, &last.unwrap_or_default());
        self.set_problems(problems);
        on_disk(|| atomic_file::write_json(&self.layout.proposed(), &proposal))?;
        let owed = self.learn(Verb::Apply, Some(&orders.topologies)).await?;
        // Without this file a start without the Kubernetes API would not replicate.
        let followed = self.inner().followed.clone();
        if self.stored_topologies()? != followed {
            on_disk(|| atomic_file::write_json(&self.layout.topologies(), &followed))?;
        }
        owed.map_or(Ok(()), |why| Err(OrderError::Supervisor(why)))
    }

    /// By what the nodes know each other now; `None`: there are no other nodes, or this one cannot use what it read. Its own
    /// connections use it from then on.
    fn mutual(&self, known: &Mutual) -> Option<Mutual> {
        let internal = self.settings.internal.as_ref()?;
        let newest = known.next(&secret::internal(&internal.directory), clock::wall_ms());
        if newest.digest != known.digest
            && let Err(error) = internal.certificates.reload()
        {
            // Whoever looks after the certificates says so.
            debug!(
                error = crate::run::chain(&error),
                "the newest internal Secret is not used"
            );
            return None;
        }
        Some(newest)
    }

    fn stored_topologies(&self) -> Result<BTreeMap<String, Topology>, FileError> {
        Ok(atomic_file::read_json(&self.layout.topologies())?.unwrap_or_default())
    }

    async fn look(&self) {
        if let Err(error) = self.learn(Verb::Status, None).await {
            let error = crate::run::chain(&error);
            error!(error, "what PID 1 runs is unknown");
        }
    }

    /// Asks PID 1 what it obeys and makes that run; returns why it does not follow the newest proposal.
    async fn learn(
        &self,
        verb: Verb,
        topologies: Option<&[Topology]>,
    ) -> Result<Option<String>, OrderError> {
        let report = ask(&self.layout.supervisor_socket(), verb).await?;
        let obeyed = atomic_file::read_json::<DesiredState>(&self.layout.obeyed())?;
        let obeyed = obeyed.unwrap_or_default();
        let owed = report.owed.clone();
        let mut inner = self.inner();
        let changed = inner.report.as_ref() != Some(&report) || inner.obeyed != obeyed;
        let before = inner.followed.clone();
        inner.obeyed = obeyed;
        inner.report = Some(report);
        if let Some(topologies) = topologies {
            adopt(&mut inner, topologies);
        }
        if changed || before != inner.followed || inner.shards.is_empty() {
            self.reconcile(&mut inner);
            self.edges.send_modify(|count| *count += 1);
        }
        Ok(owed)
    }
}

/// Takes over the topologies that PID 1 obeys, and those of databases that are on other nodes (for routes).
fn adopt(inner: &mut Inner, topologies: &[Topology]) {
    let Inner {
        followed, obeyed, ..
    } = inner;
    for topology in topologies {
        let obeyed = obeyed.databases.get(&topology.name).is_none_or(|d| {
            d.topology_uid == topology.uid
                && d.epoch == topology.epoch()
                && d.generation == topology.generation
        });
        if obeyed {
            followed.insert(topology.name.clone(), topology.clone());
        }
    }
    followed.retain(|name, _| {
        obeyed.databases.contains_key(name) || topologies.iter().any(|t| t.name == *name)
    });
}

#[cfg(test)]
mod tests;
