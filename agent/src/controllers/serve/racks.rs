//! Whether a database that asks for copies in different racks has them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::crds::topology::DatabaseTopology;

use crate::{controllers::placement::Node, k8s::conditions::Finding};

/// Type of the condition.
const TYPE: &str = "RackAware";

/// What is said of the racks of a database that sets `rackAware`; nothing of one that does not.
#[must_use]
pub(crate) fn finding(
    rack_aware: Option<bool>,
    topology: &DatabaseTopology,
    nodes: &[Node],
) -> Option<Finding> {
    if rack_aware != Some(true) {
        return None;
    }
    let rec = &topology.spec.cluster;
    let racks: BTreeMap<&str, &str> = nodes
        .iter()
        .filter_map(|node| Some((node.pod.as_str(), node.rack.as_deref()?)))
        .collect();
    if racks.is_empty() {
        let text = format!(
            "no pod of the cluster `{rec}` has a rack: its copies are kept on different hosts, whatever racks those are in. Next: \
             label the hosts with their rack, and name the label in spec.rackAwarenessNodeLabel of the cluster"
        );
        return Some(Finding::no(TYPE, "NoRacks", text));
    }
    let bare = nodes.iter().map(|node| node.pod.as_str());
    let bare: Vec<&str> = bare.filter(|pod| !racks.contains_key(pod)).collect();
    if !bare.is_empty() {
        let text = format!(
            "of the pods {} no rack is known: a copy there may share its rack with another. Next: label their hosts with their rack",
            bare.join(", ")
        );
        return Some(Finding::no(TYPE, "RackUnknown", text));
    }
    let shards = topology.spec.shards.iter();
    let copies: Vec<&String> = shards
        .flat_map(|it| it.primary.iter().chain(&it.replicas))
        .collect();
    let told: BTreeSet<&str> = copies
        .iter()
        .filter_map(|pod| racks.get(pod.as_str()).copied())
        .collect();
    let list = told.iter().copied().collect::<Vec<_>>().join(", ");
    if told.len() < copies.len() {
        let text = format!(
            "copies share a rack ({list}) and are not moved apart by themselves: a copy that is placed anew takes another rack. \
             Next: add nodes in other racks, then make the pod of a replica anew on another host"
        );
        return Some(Finding::no(TYPE, "SharedRack", text));
    }
    Some(Finding::yes(
        TYPE,
        "Apart",
        format!("each copy is in a rack of its own: {list}"),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(rack_aware: Option<bool>, racks: [Option<&str>; 3]) -> Option<(&'static str, String)> {
        let topology: DatabaseTopology = serde_json::from_value(json!({
            "metadata": {"name": "db"},
            "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec", "epoch": 2,
                     "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": "disabled",
                     "replication": true, "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": ["rec-1"]}]},
        }))
        .unwrap();
        let nodes = racks.iter().enumerate().map(|(n, rack)| Node {
            pod: format!("rec-{n}"),
            ready: true,
            limit: None,
            host: None,
            rack: rack.map(str::to_owned),
        });
        let found = finding(rack_aware, &topology, &nodes.collect::<Vec<_>>())?;
        Some((found.reason, found.message))
    }

    #[test]
    fn a_database_that_asks_for_racks_is_told_what_is_missing_and_what_happens_instead() {
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(told(None, [None; 3]), None);
        assert_eq!(told(Some(false), [None; 3]), None);
        let cases = [
            ([None; 3], "NoRacks", "spec.rackAwarenessNodeLabel"),
            ([a, b, None], "RackUnknown", "rec-2"),
            ([a, a, b], "SharedRack", "(a)"),
            ([a, b, b], "Apart", "a, b"),
        ];
        for (racks, reason, text) in cases {
            let found = told(Some(true), racks).unwrap();
            assert!(found.0 == reason && found.1.contains(text), "{found:?}");
        }
    }
}
