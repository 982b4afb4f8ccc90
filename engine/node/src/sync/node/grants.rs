//! What this node obeys, as its own primaries and those of others see it.

use std::collections::BTreeSet;

use super::{Inner, Node};
use crate::clock;
use crate::desired::{
    DesiredDatabase, DesiredShard, Replication, Role as DesiredRole, ShardName, way_out,
};
use crate::permission::grant::{self, Obeyed};
use crate::permission::{Duty, Millis, Role};
use crate::sync::internal::Grants;
use crate::sync::proto::nodes::{GrantReply, GrantRequest};
use crate::sync::roles::Assigned;

/// What the driver of a shard must know; `None` for a shard in which no other node has a part.
pub(super) fn assigned(
    database: &DesiredDatabase,
    shard: &DesiredShard,
    stopping: bool,
) -> Option<Assigned> {
    let replication = shard.replication.as_ref()?;
    let role = match &shard.role {
        DesiredRole::Primary => Role::Lead,
        DesiredRole::Replica { host } => Role::Follow(host.clone()),
    };
    Some(Assigned {
        duty: Duty {
            uid: database.topology_uid.clone(),
            epoch: database.epoch,
            fence: database.fence.as_ref().map(|fence| fence.epoch),
            role,
            in_sync: replication.in_sync.clone(),
            joining: replication.joining.clone(),
            copies: others(replication),
            as_is: replication.as_is,
            keeps: shard.persistence.appends(),
        },
        generation: database.generation,
        port: shard.replication_port(),
        by_tls: shard.encrypted_replication_port().is_some(),
        out: way_out(shard.port),
        stopping,
    })
}

/// Everybody but the primary who has a part, without this node itself.
fn others(replication: &Replication) -> BTreeSet<String> {
    let mut all = copies(replication);
    all.remove(&replication.me);
    all
}

fn copies(replication: &Replication) -> BTreeSet<String> {
    let all = [
        &replication.replicas,
        &replication.in_sync,
        &replication.joining,
    ];
    all.into_iter().flatten().cloned().collect()
}

fn obeyed(database: &DesiredDatabase, shard: u32, apart_ms: Millis) -> Option<Obeyed> {
    let replication = database.shards.get(&shard)?.replication.as_ref()?;
    Some(Obeyed {
        uid: database.topology_uid.clone(),
        epoch: database.epoch,
        fence: database.fence.as_ref().map(|fence| fence.epoch),
        primary: replication.primary.clone(),
        copies: copies(replication),
        apart_ms,
    })
}

/// For how long this node's copy has not followed. Without a driver nobody knows of one.
fn apart_ms(inner: &Inner, database: &str, shard: u32) -> Millis {
    let running = inner.shards.get(&ShardName::new(database, shard));
    let role = running.and_then(|running| running.role());
    let Some(role) = role.filter(|role| role.order.is_some()) else {
        return Millis::MAX;
    };
    let since = role.view.apart_since;
    since.map_or(0, |since| clock::boot_ms().saturating_sub(since))
}

impl Grants for Node {
    /// From what PID 1 has on disk: a promise outlives this process.
    fn grant(&self, request: &GrantRequest) -> GrantReply {
        let GrantRequest {
            database,
            topology_uid,
            shard,
            epoch,
            primary,
            requester,
        } = request;
        if primary != requester {
            return GrantReply {
                reason: format!("{requester} asks for {primary}: only a primary asks, for itself"),
                ..GrantReply::default()
            };
        }
        let inner = self.inner();
        let known = inner
            .obeyed
            .databases
            .get(database)
            .and_then(|known| obeyed(known, *shard, apart_ms(&inner, database, *shard)));
        let asked = grant::Request {
            uid: topology_uid.clone(),
            epoch: *epoch,
            requester: requester.clone(),
        };
        let denial = grant::decide(&self.settings.node, known.as_ref(), &asked).err();
        let same = known.filter(|known| known.uid == *topology_uid);
        GrantReply {
            granted: denial.is_none(),
            fenced_epoch: same.as_ref().and_then(|k| k.fence).unwrap_or(0),
            epoch: same.map_or(0, |known| known.epoch),
            reason: denial.map(|d| d.to_string()).unwrap_or_default(),
        }
    }
}
