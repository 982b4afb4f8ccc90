//! What must hold after everything that happens.

use super::{data::Content, node::Node, seen::MOST_LOST, world::World};

impl World {
    /// At most one shard acknowledges writes, and whoever begins to has what the others have.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        let writable = self.writable();
        if writable.len() > 1 {
            let names: Vec<_> = writable.iter().map(|at| self.nodes[*at].name).collect();
            return Err(format!(
                "{names:?} acknowledge writes at once: {:?}",
                self.api.topology.spec
            ));
        }
        writable.first().map_or(Ok(()), |at| self.leads(*at))
    }

    /// Whoever begins to take writes must have what the others have.
    fn leads(&mut self, at: usize) -> Result<(), String> {
        let name = self.nodes[at].name;
        let Some(shard) = &self.nodes[at].shard else {
            return Ok(());
        };
        let (life, epoch, content) = (shard.life, shard.leads_in(), shard.content);
        if self.led.replace((at, life, epoch)) == Some((at, life, epoch)) {
            return Ok(());
        }
        let others: Vec<_> = self
            .others(at)
            .map(|node| {
                let has = node.shard.as_ref().map_or(node.disk, |shard| shard.content);
                (node.name.to_owned(), has)
            })
            .collect();
        let as_is = self.api.topology.spec.shards[0]
            .as_is
            .map(i64::unsigned_abs);
        if as_is != Some(epoch) {
            self.replaces_none(at, epoch, content)?;
        }
        self.settled
            .lead(&self.history, name, epoch, content, &others)
    }

    /// A copy that is whole and alive is replaced by no other that has far less, in the set or not.
    fn replaces_none(&self, at: usize, epoch: u64, content: Content) -> Result<(), String> {
        let forgiven = self.settled.forgiven.is_some_and(|from| epoch >= from);
        let has = |content| self.history.count(content);
        let kept = self.history.common(self.acknowledged, content);
        if has(self.acknowledged) <= has(kept) + MOST_LOST {
            // A copy with more is of before: a person has let a shard lead as it is since, and clients have written to that.
            return Ok(());
        }
        for node in self.others(at) {
            let whole = node.shard.as_ref().filter(|shard| shard.whole);
            let more = whole.map_or(0, |shard| has(shard.content));
            if more > has(content) + MOST_LOST && !forgiven {
                return Err(format!(
                    "`{}` leads in epoch {epoch} with {} writes, and a whole copy on `{}` has {more}",
                    self.nodes[at].name,
                    has(content),
                    node.name
                ));
            }
        }
        Ok(())
    }

    fn others(&self, at: usize) -> impl Iterator<Item = &Node> {
        let all = self.nodes.iter().enumerate();
        all.filter(move |(other, _)| *other != at)
            .map(|(_, node)| node)
    }

    /// Nodes whose shard would acknowledge a write now.
    pub(super) fn writable(&self) -> Vec<usize> {
        let can = |node: &Node| {
            let clock = node.clock(self.now);
            node.shard
                .as_ref()
                .is_some_and(|shard| shard.writable(clock))
        };
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| can(node))
            .map(|(at, _)| at)
            .collect()
    }
}
