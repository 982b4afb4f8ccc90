//! What the node writes into the status of each topology: its own entry of `members`, at once when something turned; numbers that
//! only moved are told when somebody waits for them, and seldom otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_api::crds::topology::{
    FollowingState, HeldReport, LEAVE_LAG_BYTES, LinkReport, LinkState, MemberReport,
    ReplicaReport, ShardReport, ShardRole,
};
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::authority::{Authority, AuthorityError};
use super::node::{DatabaseView, LinkRow, Node, NodeView, Pace, ShardView};
use crate::clock;

/// Numbers for which nobody waits are told this often.
const REFRESH: Duration = Duration::from_secs(10);

/// Bytes by which a stream must have moved for that: what may be written without a word. Little beside the distance at which
/// a member may still be promoted.
const STEP: u64 = 64 * 1024;

/// While somebody joins or is being promoted.
const REFRESH_MOVING: Duration = Duration::from_secs(5);

/// While a primary waits, without taking writes, until its successor has everything.
const REFRESH_HAND_OVER: Duration = Duration::from_millis(200);

/// How often PID 1 is asked what it runs, so that the end of a shard is told soon.
const LOOK: Duration = Duration::from_secs(1);

/// A report that takes longer is made anew.
const PATIENCE: Duration = Duration::from_secs(10);

type Told = BTreeMap<String, (MemberReport, Instant)>;

/// Reports for ever.
pub(super) async fn run(node: Arc<Node>, authority: Arc<dyn Authority>) {
    // An API server that does not answer must not delay what PID 1 is asked and told.
    tokio::join!(look(&node), tell(&node, authority));
}

async fn look(node: &Node) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        node.refresh().await;
    }
}

async fn tell(node: &Node, authority: Arc<dyn Authority>) {
    let mut told = Told::new();
    let mut edges = node.edges();
    let mut numbers = tokio::time::interval(REFRESH_HAND_OVER);
    numbers.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = numbers.tick() => {}
            // The sender lives as long as the node.
            _changed = edges.changed() => {}
        }
        let view = node.view();
        told.retain(|name, _| view.databases.iter().any(|d| d.name == *name));
        for database in &view.databases {
            let now = member(&view, database);
            let due = told.get(&database.name).is_none_or(|(before, at)| {
                is_due(
                    before,
                    &now,
                    database.pace,
                    clock::now().duration_since(*at),
                )
            });
            if !due {
                continue;
            }
            let written = write(&*authority, &database.name, &now).await;
            if written.is_ok() {
                told.insert(database.name.clone(), (now, clock::now()));
            } else if let Err(AuthorityError::Away(error)) = &written
                && !failing
            {
                warn!(
                    database = database.name,
                    error, "the status was not written; trying on"
                );
            }
            failing = matches!(written, Err(AuthorityError::Away(_)));
        }
    }
}

async fn write(
    authority: &dyn Authority,
    database: &str,
    member: &MemberReport,
) -> Result<(), AuthorityError> {
    tokio::time::timeout(PATIENCE, authority.report(database, member))
        .await
        .unwrap_or_else(|_elapsed| {
            let seconds = PATIENCE.as_secs();
            Err(AuthorityError::Away(format!(
                "no answer within {seconds} s"
            )))
        })
}

/// The node's entry in the status of `database`.
pub(super) fn member(view: &NodeView, database: &DatabaseView) -> MemberReport {
    MemberReport {
        node: view.node.clone(),
        topology_uid: database.topology_uid.clone(),
        epoch: signed(database.epoch),
        generation: signed(database.generation),
        shards: database
            .shards
            .iter()
            .map(|own| shard(own, view.owed.as_ref()))
            .collect(),
        links: database.links.iter().map(link).collect(),
        refused: database.refused.clone(),
        peer_files: view.peer_files.clone(),
        as_of: view.as_of.clone(),
    }
}

fn shard(shard: &ShardView, owed: Option<&String>) -> ShardReport {
    let replication = &shard.replication;
    let replica = |(node, (online, behind)): (&String, &(bool, u64))| ReplicaReport {
        node: node.clone(),
        online: *online,
        lag_bytes: signed(*behind),
    };
    ShardReport {
        ready: shard.ready,
        writable: shard.writable,
        clock: shard.clock.as_ref().map(ToString::to_string),
        counts: replication.counts.iter().cloned().collect(),
        replicas: replication.replicas.iter().map(replica).collect(),
        following: replication.following.map(FollowingState::from),
        offset: replication.offset.map(signed),
        fenced: replication.fenced.map(signed),
        wants_failover: replication.wants_failover.clone(),
        served: replication.served.map(signed),
        held: replication.held.as_ref().map(held),
        problem: shard
            .error
            .clone()
            .or_else(|| owed.map(|why| format!("the newest orders are not followed yet: {why}"))),
        version: shard.version.clone(),
        access: shard.access.clone(),
        internal: shard.internal.clone(),
        ..ShardReport::new(
            i32::try_from(shard.id).unwrap_or(i32::MAX),
            ShardRole::from(shard.role),
            i32::from(shard.port),
        )
    }
}

fn held((stream, offset): &(String, u64)) -> HeldReport {
    HeldReport {
        stream: stream.clone(),
        offset: signed(*offset),
    }
}

fn link(row: &LinkRow) -> LinkReport {
    LinkReport {
        instance_id: i64::from(row.instance_id),
        name: row.name.clone(),
        state: LinkState::from(row.status.state.as_str()),
        last_error: row.status.last_error.clone(),
        lag_ms: row.status.lag_ms.map(signed),
        since: row.status.since.clone(),
        as_of: row.status.as_of.clone(),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `true` if `now` deserves to be told `since` after `told` was.
fn is_due(told: &MemberReport, now: &MemberReport, pace: Pace, since: Duration) -> bool {
    let refresh = match pace {
        Pace::Idle => REFRESH,
        Pace::Moving => REFRESH_MOVING,
        Pace::HandOver => REFRESH_HAND_OVER,
    };
    let news = match pace {
        Pace::Idle => undated(&near(told, now)) != undated(now),
        Pace::Moving | Pace::HandOver => undated(told) != undated(now),
    };
    // Links carry the time at which they were looked at; without any, a report that says the same again says nothing.
    let news = news || !now.links.is_empty();
    is_edge(told, now) || (news && since >= refresh)
}

/// `told`, with the positions of `now` where they are near: the stream of a database in which nobody writes grows by the
/// heartbeats of replication, and an API server should not hear of those.
fn near(told: &MemberReport, now: &MemberReport) -> MemberReport {
    let mut told = told.clone();
    let apart = |told: i64, now: i64| told.abs_diff(now) >= STEP;
    for (told, now) in told.shards.iter_mut().zip(&now.shards) {
        if let (Some(before), Some(after)) = (told.offset, now.offset)
            && !apart(before, after)
        {
            told.offset = now.offset;
        }
        for (told, now) in told.replicas.iter_mut().zip(&now.replicas) {
            if told.node == now.node && !apart(told.lag_bytes, now.lag_bytes) {
                told.lag_bytes = now.lag_bytes;
            }
        }
    }
    told
}

/// `true` if `now` says something else than `told`, not only newer numbers.
fn is_edge(told: &MemberReport, now: &MemberReport) -> bool {
    blurred(told) != blurred(now)
}

fn undated(report: &MemberReport) -> MemberReport {
    let mut report = report.clone();
    report.as_of.clear();
    report
}

fn blurred(report: &MemberReport) -> MemberReport {
    let mut report = undated(report);
    for shard in &mut report.shards {
        shard.clock = None;
        // That it holds a whole copy now lets it join the in-sync set, and is told at once.
        shard.offset = shard.offset.map(|_| 0);
        for replica in &mut shard.replicas {
            // That a member falls too far behind, and that it has caught up, is told at once.
            replica.lag_bytes = i64::from(replica.lag_bytes >= LEAVE_LAG_BYTES);
        }
    }
    for link in &mut report.links {
        link.as_of.clear();
        link.lag_ms = None;
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> MemberReport {
        MemberReport {
            node: "n".to_owned(),
            shards: vec![ShardReport {
                ready: true,
                writable: true,
                clock: Some("{}".to_owned()),
                ..ShardReport::new(1, ShardRole::Primary, 1)
            }],
            ..MemberReport::default()
        }
    }

    #[test]
    fn older_numbers_are_no_edge_and_a_turn_is() {
        let mut newer = report();
        newer.as_of = "later".to_owned();
        newer.shards[0].clock = Some("{\"1\":2}".to_owned());
        assert!(!is_edge(&report(), &newer));
        newer.shards[0].ready = false;
        assert!(is_edge(&report(), &newer));
        assert!(is_edge(
            &report(),
            &MemberReport {
                epoch: 2,
                ..report()
            }
        ));
    }

    #[test]
    fn a_copy_that_became_whole_is_told_at_once_and_one_that_grew_is_not() {
        let at = |offset| {
            let mut told = report();
            told.shards[0].offset = offset;
            told
        };
        let soon = Duration::from_millis(1);
        assert!(is_due(&at(None), &at(Some(5)), Pace::Moving, soon));
        assert!(!is_due(&at(Some(5)), &at(Some(9)), Pace::Moving, soon));
    }

    #[test]
    fn a_stream_that_grows_by_heartbeats_is_told_only_to_who_waits_for_it() {
        let at = |offset: u64, lag: u64| {
            let mut told = report();
            told.shards[0].offset = Some(signed(offset));
            told.shards[0].replicas.push(ReplicaReport {
                node: "m".to_owned(),
                online: true,
                lag_bytes: signed(lag),
            });
            told
        };
        let long = Duration::from_secs(3600);
        let told = |now: &MemberReport, pace| is_due(&at(100, 0), now, pace, long);
        for near in [at(114, 0), at(100, 14), at(99 + STEP, STEP - 1)] {
            assert!(!told(&near, Pace::Idle));
            assert!(told(&near, Pace::Moving) && told(&near, Pace::HandOver));
        }
        for far in [at(100 + STEP, 0), at(100, STEP)] {
            assert!(told(&far, Pace::Idle));
        }
    }

    #[test]
    fn numbers_are_told_when_somebody_waits_for_them() {
        let mut moved = report();
        moved.as_of = "later".to_owned();
        let ms = Duration::from_millis;
        assert!(
            !is_due(&report(), &moved, Pace::HandOver, ms(60_000)),
            "only the date"
        );
        let mut before = report();
        let far = Some(signed(4 + STEP));
        (before.shards[0].offset, moved.shards[0].offset) = (Some(4), far);
        // (pace, since, told?)
        let cases = [
            (Pace::Idle, 9_999, false),
            (Pace::Idle, 10_000, true),
            (Pace::Moving, 4_999, false),
            (Pace::Moving, 5_000, true),
            (Pace::HandOver, 199, false),
            (Pace::HandOver, 200, true),
        ];
        for (pace, since, told) in cases {
            assert_eq!(
                is_due(&before, &moved, pace, ms(since)),
                told,
                "{pace:?} {since}"
            );
        }
        moved.shards[0].fenced = Some(4);
        assert!(
            is_due(&before, &moved, Pace::Idle, ms(0)),
            "a turn is told at once"
        );
    }
}
