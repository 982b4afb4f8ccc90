//! Stops every shard of a database before its topology goes. Pure.
//!
//! A node takes a missing topology for *unknown* and keeps its shards running. Only an order ends them: a topology of a
//! higher epoch without shards, which every node confirms in its report once PID 1 runs nothing of the database any more.
//! Everything that is needed to go on after an interruption stands in the topology itself.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::crds::topology::{
    DatabaseTopology, DatabaseTopologySpec, MemberReport, ShardRole,
};

use crate::controllers::topology::Memory;

/// What to do about the shards.
#[derive(Debug, PartialEq)]
pub(crate) enum Stop {
    /// Replace the topology by this one.
    Order(Box<DatabaseTopology>),
    /// These nodes have not confirmed that they run nothing of it: by name, what was found.
    Wait(BTreeMap<String, String>),
    /// Every node that ever had a place has confirmed.
    Stopped,
}

/// Decides for `topology`; `remembered` are places that its database or its EndpointSlices remember.
#[must_use]
pub(crate) fn decide(topology: &DatabaseTopology, remembered: &[Memory]) -> Stop {
    let spec = &topology.spec;
    let members = topology
        .status
        .as_ref()
        .map_or(&[][..], |status| status.members.as_slice());
    let newest = members
        .iter()
        .map(MemberReport::highest_epoch)
        .chain(remembered.iter().map(Memory::highest))
        .chain(spec.fence.iter().map(|fence| fence.epoch))
        .fold(spec.epoch, i64::max);
    let unheard = members.iter().any(|member| would_refuse(topology, member));
    if !spec.shards.is_empty() || newest > spec.epoch || unheard {
        return Stop::Order(Box::new(DatabaseTopology {
            spec: DatabaseTopologySpec {
                epoch: newest + 1,
                fence: None,
                shards: Vec::new(),
                ..spec.clone()
            },
            ..topology.clone()
        }));
    }
    let names: BTreeSet<&str> = members
        .iter()
        .map(|member| member.node.as_str())
        .chain(remembered.iter().map(|memory| memory.primary.as_str()))
        .collect();
    let open: BTreeMap<String, String> = names
        .into_iter()
        .filter_map(|name| {
            let report = members.iter().find(|member| member.node == name);
            Some((name.to_owned(), missing(topology, report)?))
        })
        .collect();
    if open.is_empty() {
        Stop::Stopped
    } else {
        Stop::Wait(open)
    }
}

/// Whether the node takes the present topology for an old one: it obeys another object of no lower epoch, or a later
/// generation of this one (the API server was set back).
fn would_refuse(topology: &DatabaseTopology, member: &MemberReport) -> bool {
    let meta = &topology.metadata;
    if meta.uid.as_deref() != Some(member.topology_uid.as_str()) {
        return member.highest_epoch() >= topology.spec.epoch;
    }
    let generation = meta.generation.unwrap_or(0);
    (member.epoch, member.generation) > (topology.spec.epoch, generation)
}

/// What is missing in the confirmation of a node; `None`: nothing.
fn missing(topology: &DatabaseTopology, report: Option<&MemberReport>) -> Option<String> {
    let ordered = topology.spec.epoch;
    let Some(report) = report else {
        return Some(format!(
            "held the data and has not reported that it obeys epoch {ordered}"
        ));
    };
    let same = topology.metadata.uid.as_deref() == Some(report.topology_uid.as_str());
    if !same || report.epoch < ordered || Some(report.generation) < topology.metadata.generation {
        return Some(format!(
            "obeys epoch {} and has not reported that it obeys epoch {ordered}",
            report.epoch
        ));
    }
    let still = report
        .shards
        .iter()
        .find(|shard| shard.role != ShardRole::Stopped)?;
    Some(format!("is stopping shard {}", still.id))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn topology(epoch: i64, shards: &Value, members: &Value) -> DatabaseTopology {
        let fence = shards.as_array().is_some_and(|all| !all.is_empty());
        let fence = fence.then(|| json!({"epoch": epoch + 1, "candidate": "rec-2"}));
        serde_json::from_value(json!({
            "metadata": {"name": "db", "uid": "T", "generation": 3, "resourceVersion": "9"},
            "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec",
                     "epoch": epoch, "fence": fence, "port": 10000,
                     "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": "disabled", "replication": false,
                     "shards": shards},
            "status": {"members": members},
        }))
        .unwrap()
    }

    fn member(node: &str, uid: &str, epoch: i64, generation: i64, roles: &[&str]) -> Value {
        let shard = |(id, role): (usize, &&str)| json!({"id": id, "role": role, "ready": false, "writable": false, "port": 0});
        let shards: Vec<_> = roles.iter().enumerate().map(shard).collect();
        json!({"node": node, "topologyUid": uid, "epoch": epoch, "generation": generation, "asOf": "t", "shards": shards})
    }

    /// A node that obeys a fence.
    fn fenced(node: &str, epoch: i64, fence: i64) -> Value {
        let mut member = member(node, "T", epoch, 3, &["replica"]);
        member["shards"][0]["fenced"] = json!(fence);
        member
    }

    fn serving() -> Value {
        json!([{"id": 0, "slots": "0-16383", "primary": "rec-0"}])
    }

    fn memory(epoch: i64, primary: &str) -> Memory {
        Memory {
            epoch,
            primary: primary.to_owned(),
            port: 10_000,
            ..Memory::default()
        }
    }

    #[test]
    fn shards_are_stopped_by_a_topology_without_any_whose_epoch_is_above_every_known_one() {
        let cases = [
            // The fence that stands is one above.
            (json!([]), vec![], 6),
            (json!([member("rec-0", "T", 4, 3, &["primary"])]), vec![], 6),
            (json!([fenced("rec-0", 4, 7)]), vec![], 8),
            (
                json!([member("rec-0", "OLD", 9, 1, &["primary"])]),
                vec![],
                10,
            ),
            (json!([]), vec![memory(7, "rec-0")], 8),
            (
                json!([]),
                vec![Memory {
                    fence: Some(8),
                    ..memory(7, "rec-0")
                }],
                9,
            ),
        ];
        for (members, remembered, epoch) in cases {
            let Stop::Order(order) = decide(&topology(4, &serving(), &members), &remembered) else {
                panic!("expected an order for {members}");
            };
            assert_eq!((order.spec.epoch, order.spec.shards.len()), (epoch, 0));
            assert_eq!(order.spec.fence, None);
            assert_eq!(
                order.metadata.resource_version.as_deref(),
                Some("9"),
                "compare-and-swap"
            );
        }
    }

    #[test]
    fn the_order_is_raised_again_for_a_node_that_would_take_it_for_an_old_one() {
        for ahead in [
            member("rec-0", "OLD", 5, 1, &["primary"]),
            member("rec-0", "T", 5, 4, &["primary"]),
            member("rec-0", "T", 6, 1, &["primary"]),
        ] {
            let decided = decide(&topology(5, &json!([]), &json!([ahead])), &[]);
            assert!(
                matches!(&decided, Stop::Order(order) if order.spec.epoch > 5),
                "{ahead}: {decided:?}"
            );
        }
    }

    #[test]
    fn a_node_counts_as_stopped_only_with_its_own_word_about_this_order() {
        let cases = [
            ("nothing runs", member("rec-0", "T", 5, 3, &[]), true),
            ("stopped", member("rec-0", "T", 5, 3, &["stopped"]), true),
            (
                "still stopping",
                member("rec-0", "T", 5, 3, &["primary"]),
                false,
            ),
            ("older epoch", member("rec-0", "T", 4, 2, &[]), false),
            ("older generation", member("rec-0", "T", 5, 2, &[]), false),
            ("another topology", member("rec-0", "OLD", 4, 9, &[]), false),
        ];
        for (case, report, stopped) in cases {
            let decided = decide(&topology(5, &json!([]), &json!([report])), &[]);
            assert_eq!(decided == Stop::Stopped, stopped, "{case}: {decided:?}");
            assert_eq!(matches!(decided, Stop::Wait(_)), !stopped, "{case}");
        }
    }

    #[test]
    fn every_node_that_reported_or_is_remembered_is_waited_for() {
        let members = json!([
            member("rec-0", "T", 5, 3, &[]),
            member("rec-1", "T", 5, 3, &["primary"])
        ]);
        let decided = decide(&topology(5, &json!([]), &members), &[memory(4, "rec-2")]);
        let Stop::Wait(open) = decided else {
            panic!("{decided:?}");
        };
        assert_eq!(open.keys().collect::<Vec<_>>(), ["rec-1", "rec-2"]);
        assert!(open["rec-1"].contains("is stopping shard 0"), "{open:?}");
        assert!(open["rec-2"].contains("has not reported"), "{open:?}");
    }

    #[test]
    fn a_database_that_never_had_a_place_has_nothing_to_wait_for() {
        assert_eq!(
            decide(&topology(5, &json!([]), &json!([])), &[]),
            Stop::Stopped
        );
    }
}
