//! What the node writes into the status of each topology: its own entry of `members`, at once when something turned, otherwise
//! every few seconds.

use std::time::Duration;

use meridian_api::crds::topology::{LinkReport, LinkState, MemberReport, ShardReport, ShardRole};

use super::node::{DatabaseView, LinkRow, NodeView};

/// Numbers that only grow older are told this often.
pub(super) const REFRESH: Duration = Duration::from_secs(10);

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
            .map(|shard| ShardReport {
                ready: shard.ready,
                writable: shard.ready,
                clock: shard.clock.as_ref().map(ToString::to_string),
                ..ShardReport::new(
                    i32::try_from(shard.id).unwrap_or(i32::MAX),
                    ShardRole::from(shard.role),
                    i32::from(shard.port),
                )
            })
            .collect(),
        links: database.links.iter().map(link).collect(),
        as_of: view.as_of.clone(),
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

/// `true` if `now` says something else than `told`, not only newer numbers.
pub(super) fn is_edge(told: &MemberReport, now: &MemberReport) -> bool {
    blurred(told) != blurred(now)
}

fn blurred(report: &MemberReport) -> MemberReport {
    let mut report = report.clone();
    report.as_of.clear();
    for shard in &mut report.shards {
        shard.clock = None;
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
}
