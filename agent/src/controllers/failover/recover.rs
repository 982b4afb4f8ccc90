//! When no process is left that has everything: may the primary go on with what its files hold? Pure.
//!
//! It may by itself in three cases. The database keeps nothing on disk, no copy is left in any memory, and no other led later:
//! nothing more can be lost, the database begins anew empty, and an Event says so. Or nobody was in the set, and every copy has ended: the files of
//! the primary, which led alone, are the newest. Or primary and copies tell how much of one and the same stream
//! their files have, the primary is the one that led in this very epoch, and no copy has more than a failover may lose anyway.
//! Files that cannot be compared are a person's business: an older file must not replace a newer one unseen.

use meridian_api::crds::shared::Persistence;
use meridian_api::crds::topology::{
    FollowingState, HeldReport, JOIN_LAG_BYTES, ShardAssignment, ShardReport, ShardRole,
};

use super::{
    decide::{HOPELESS_MS, Step, View},
    watch::{Fact, acting},
};

/// The primary goes on by itself; `None`: that may lose something that another has.
pub(super) fn goes_on(view: &View<'_>, shard: &ShardAssignment, primary: &str) -> Option<Step> {
    let own = acting(view.topology, primary, &ShardRole::Primary)?;
    if !own.ready || own.wants_failover.is_none() || own.offset.is_some() || !view.is_alive(primary)
    {
        return None;
    }
    // With nobody in the set, whoever has a part may have more; but not what ended outside of it.
    let spec = &view.topology.spec;
    let forgets = spec.persistence == Persistence::Disabled && spec.active_active.is_none();
    let others: Vec<&String> = if shard.in_sync.is_empty() {
        let runs = |pod: &&String| !has_ended(view, pod, forgets);
        shard.replicas.iter().filter(runs).collect()
    } else {
        shard.in_sync.iter().collect()
    };
    let copies: Option<Vec<&ShardReport>> = others
        .into_iter()
        .map(|pod| from_files(view, pod))
        .collect();
    let copies = copies?;
    if forgets {
        // One that led later may be the old primary, whose process never ended: it had begun to take over a copy.
        if copies.iter().any(|copy| copy.served > own.served) {
            return None;
        }
        return Some(Step::Reinstate {
            why: format!(
                "every process that held the data has ended and the database keeps nothing on disk: all of it is lost, and \
                 `{primary}` begins anew"
            ),
            all_lost: true,
        });
    }
    if own.served != Some(spec.epoch) {
        return None;
    }
    if copies.is_empty() {
        return Some(Step::Reinstate {
            why: format!(
                "no process is left that held the data; `{primary}`, which led alone, goes on with what its files have, and \
                 what was written since they were saved is lost"
            ),
            all_lost: false,
        });
    }
    let has = own.held.as_ref()?;
    let most = copies
        .iter()
        .map(|copy| comparable(has, copy.held.as_ref()))
        .collect::<Option<Vec<i64>>>()?;
    let missing = most.into_iter().max().unwrap_or(0) - has.offset;
    (missing < JOIN_LAG_BYTES).then(|| Step::Reinstate {
        why: format!(
            "every process that held the data has ended; the files of `{primary}`, which led, had everything up to byte {} on \
             disk, and no copy is certain to have more than {} bytes beyond",
            has.offset,
            missing.max(0)
        ),
        all_lost: false,
    })
}

/// Whether the pod's processes have ended, and with them all that was only in their memory. One that has files is given time to
/// come back with them.
fn has_ended(view: &View<'_>, pod: &str, forgets: bool) -> bool {
    let away = view.watch.lasted(pod, Fact::Away, view.now).unwrap_or(0);
    let ended = view.pods.get(pod).is_none_or(|facts| facts.stopped);
    ended && (forgets || away >= HOPELESS_MS)
}

/// The report of a pod whose process began from its files and has taken over nothing since.
fn from_files<'a>(view: &'a View<'_>, pod: &str) -> Option<&'a ShardReport> {
    let own = acting(view.topology, pod, &ShardRole::Replica)?;
    let idle = own.ready && own.offset.is_none() && own.following == Some(FollowingState::Down);
    (idle && view.is_alive(pod)).then_some(own)
}

/// How far `other` is in the stream of `has`.
fn comparable(has: &HeldReport, other: Option<&HeldReport>) -> Option<i64> {
    let other = other.filter(|other| other.stream == has.stream)?;
    Some(other.offset)
}
