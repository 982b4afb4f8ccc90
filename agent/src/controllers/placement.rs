//! Where a new shard goes. Pure: the same pods and shards give the same answer.
//!
//! Rule: of the nodes that are ready, have room, and share neither host nor rack with another copy of the shard, the one
//! with the fewest shards; then the one with the most free memory; then the lowest ordinal. A database that asks for dense
//! placement gets the one with the most shards, then the least memory that suffices. Racks do not count for one that does not
//! ask for them; hosts always do. Room is [`USABLE_PERCENT`] of the pod's memory limit minus what the shards placed
//! there may take: with cgroup v2 one process out of memory takes the whole container with it.

use std::fmt;

use meridian_api::crds::topology::Placement;

use crate::k8s::names::ordinal;

/// Share of a pod's memory limit that datasets may take; the rest is for buffers, forks and the processes themselves.
pub(super) const USABLE_PERCENT: i64 = 70;

/// A node that might take a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Name of the pod.
    pub pod: String,
    /// Whether the pod is ready.
    pub ready: bool,
    /// Memory limit of the pod in bytes; `None` if it has none.
    pub limit: Option<i64>,
    /// Name of the host; `None` while it has none.
    pub host: Option<String>,
    /// Rack of the host; `None` if the REC knows no racks.
    pub rack: Option<String>,
}

/// A shard that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// Name of the pod.
    pub pod: String,
    /// Memory that its dataset may take, in bytes.
    pub bytes: i64,
}

/// Why no node can take a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// No pod is ready.
    NotReady {
        /// How many pods exist.
        pods: usize,
    },
    /// Every ready pod shares host or rack with a copy that the shard has already.
    NoOther {
        /// The pods that hold the copies.
        holders: Vec<String>,
    },
    /// Every ready pod is too full.
    NoRoom {
        /// What the shard needs, in bytes.
        needed: i64,
        /// The most that any ready pod has left, in bytes.
        free: i64,
    },
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady { pods } => write!(f, "none of the cluster's {pods} pods is ready yet"),
            Self::NoOther { holders } => write!(
                f,
                "every ready pod is on the host or in the rack of {}: add a node elsewhere",
                holders.join(", ")
            ),
            Self::NoRoom { needed, free } => write!(
                f,
                "the database needs {needed} bytes on one node and the emptiest has {free} left of its \
                 {USABLE_PERCENT} %: lower memorySize, raise the cluster's memory limit or add nodes"
            ),
        }
    }
}

/// Chooses the node for a shard whose dataset may take `needed` bytes, and of which the pods `holders` have a copy each, as
/// `wish` says.
///
/// # Errors
/// [`NoPlace`]: no node can take it now.
pub(super) fn place<'a>(
    nodes: &'a [Node],
    placed: &[Placed],
    needed: i64,
    holders: &[&str],
    wish: Placement,
) -> Result<&'a str, NoPlace> {
    let ready: Vec<_> = nodes
        .iter()
        .filter(|node| node.ready)
        .map(|node| (node, free(node, placed)))
        .collect();
    if ready.is_empty() {
        return Err(NoPlace::NotReady { pods: nodes.len() });
    }
    let held: Vec<&Node> = nodes
        .iter()
        .filter(|node| holders.contains(&node.pod.as_str()))
        .collect();
    let apart = |node: &Node| {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        !holders.contains(&node.pod.as_str())
            && !held.iter().any(|held| {
                same(&held.host, &node.host) || (!wish.any_rack && same(&held.rack, &node.rack))
            })
    };
    let ready: Vec<_> = ready.into_iter().filter(|(node, _)| apart(node)).collect();
    if ready.is_empty() {
        let holders = holders.iter().map(|pod| (*pod).to_owned()).collect();
        return Err(NoPlace::NoOther { holders });
    }
    let shards = |node: &Node| placed.iter().filter(|shard| shard.pod == node.pod).count();
    let load = |(node, free): &(&Node, i64)| {
        let shards = i64::try_from(shards(node)).unwrap_or(i64::MAX);
        if wish.dense {
            (-shards, *free)
        } else {
            (shards, -free)
        }
    };
    ready
        .iter()
        .filter(|(_, free)| *free >= needed)
        .min_by_key(|found| (load(found), ordinal(&found.0.pod), &found.0.pod))
        .map(|(node, _)| node.pod.as_str())
        .ok_or_else(|| NoPlace::NoRoom {
            needed,
            free: ready.iter().map(|(_, free)| *free).max().unwrap_or(0),
        })
}

fn free(node: &Node, placed: &[Placed]) -> i64 {
    let Some(limit) = node.limit else {
        return i64::MAX;
    };
    let taken: i64 = placed
        .iter()
        .filter(|shard| shard.pod == node.pod)
        .map(|shard| shard.bytes)
        .sum();
    (limit / 100)
        .saturating_mul(USABLE_PERCENT)
        .saturating_sub(taken)
        .max(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(pod: &str, ready: bool, limit: i64) -> Node {
        Node {
            pod: pod.to_owned(),
            ready,
            limit: Some(limit),
            host: Some(format!("host-of-{pod}")),
            rack: None,
        }
    }

    fn shard(pod: &str, bytes: i64) -> Placed {
        Placed {
            pod: pod.to_owned(),
            bytes,
        }
    }

    #[test]
    fn the_table_of_choices() {
        let three = [
            node("r-0", true, 1000),
            node("r-1", true, 1000),
            node("r-2", true, 1000),
        ];
        type Case = (
            &'static str,
            Vec<Node>,
            Vec<Placed>,
            Result<&'static str, NoPlace>,
        );
        let cases: [Case; 7] = [
            (
                "all empty: the lowest ordinal",
                three.to_vec(),
                vec![],
                Ok("r-0"),
            ),
            (
                "fewest shards",
                three.to_vec(),
                vec![shard("r-0", 1), shard("r-1", 1)],
                Ok("r-2"),
            ),
            (
                "same number: most free",
                three.to_vec(),
                vec![shard("r-0", 300), shard("r-1", 100), shard("r-2", 300)],
                Ok("r-1"),
            ),
            (
                "a full node is passed over",
                three.to_vec(),
                vec![
                    shard("r-0", 650),
                    shard("r-1", 1),
                    shard("r-1", 1),
                    shard("r-2", 1),
                    shard("r-2", 1),
                ],
                Ok("r-1"),
            ),
            (
                "an unready node is passed over",
                vec![node("r-0", false, 1000), node("r-1", true, 1000)],
                vec![shard("r-1", 10)],
                Ok("r-1"),
            ),
            (
                "nobody is ready",
                vec![node("r-0", false, 1000)],
                vec![],
                Err(NoPlace::NotReady { pods: 1 }),
            ),
            (
                "no room",
                vec![node("r-0", true, 1000)],
                vec![shard("r-0", 650)],
                Err(NoPlace::NoRoom {
                    needed: 100,
                    free: 50,
                }),
            ),
        ];
        for (name, nodes, placed, expected) in cases {
            let found = place(&nodes, &placed, 100, &[], Placement::default());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn ordinals_are_compared_as_numbers() {
        assert_eq!(
            place(
                &[node("r-10", true, 1000), node("r-9", true, 1000)],
                &[],
                100,
                &[],
                Placement::default()
            ),
            Ok("r-9")
        );
    }

    #[test]
    fn a_pod_without_a_limit_takes_anything() {
        let nodes = [Node {
            pod: "r-0".to_owned(),
            ready: true,
            limit: None,
            host: None,
            rack: None,
        }];
        assert_eq!(
            place(
                &nodes,
                &[shard("r-0", i64::MAX)],
                i64::MAX,
                &[],
                Placement::default()
            ),
            Ok("r-0")
        );
    }

    #[test]
    fn a_copy_is_placed_on_another_host_and_in_another_rack() {
        let at = |pod: &str, host: &str, rack: Option<&str>| Node {
            host: Some(host.to_owned()),
            rack: rack.map(str::to_owned),
            ..node(pod, true, 1000)
        };
        let chosen = |nodes: &[Node]| {
            place(nodes, &[], 100, &["r-0"], Placement::default()).map(str::to_owned)
        };
        let no_other = || {
            let holders = vec!["r-0".to_owned()];
            Err(NoPlace::NoOther { holders })
        };
        let primary = at("r-0", "a", Some("one"));
        let cases = [
            ("nobody else", vec![], no_other()),
            (
                "the same host",
                vec![at("r-1", "a", Some("two"))],
                no_other(),
            ),
            (
                "the same rack",
                vec![at("r-1", "b", Some("one"))],
                no_other(),
            ),
            (
                "another host, another rack",
                vec![at("r-1", "b", Some("one")), at("r-2", "c", Some("two"))],
                Ok("r-2".to_owned()),
            ),
            (
                "a rack that nobody knows is no reason",
                vec![at("r-1", "b", None)],
                Ok("r-1".to_owned()),
            ),
        ];
        for (name, others, expected) in cases {
            let nodes: Vec<Node> = std::iter::once(primary.clone()).chain(others).collect();
            assert_eq!(chosen(&nodes), expected, "{name}");
        }
    }

    const DENSE: Placement = Placement {
        dense: true,
        any_rack: false,
    };

    #[test]
    fn a_dense_database_fills_the_node_that_carries_most_and_a_sparse_one_takes_that_which_carries_least()
     {
        let three = [
            node("r-0", true, 1000),
            node("r-1", true, 1000),
            node("r-2", true, 1000),
        ];
        let two_on_one = [shard("r-0", 1), shard("r-1", 1), shard("r-1", 1)];
        let sparse = Placement::default();
        // (what is placed, who holds a copy, dense, sparse)
        let cases = [
            (vec![], vec![], "r-0", "r-0"),
            (two_on_one.to_vec(), vec![], "r-1", "r-2"),
            // As many shards: the fuller one, as long as it has room.
            (
                vec![shard("r-0", 100), shard("r-1", 300), shard("r-2", 200)],
                vec![],
                "r-1",
                "r-0",
            ),
            (
                vec![shard("r-0", 1), shard("r-1", 350), shard("r-1", 349)],
                vec![],
                "r-0",
                "r-2",
            ),
            // Never beside a copy of its own, however much that node carries.
            (two_on_one.to_vec(), vec!["r-1"], "r-0", "r-2"),
        ];
        for (placed, holders, dense, loose) in cases {
            for (wish, expected) in [(DENSE, dense), (sparse, loose)] {
                let found = place(&three, &placed, 100, &holders, wish);
                assert_eq!(found, Ok(expected), "{wish:?} {placed:?} {holders:?}");
            }
        }
    }

    #[test]
    fn copies_of_a_database_that_is_not_rack_aware_may_share_a_rack_and_never_a_host() {
        let at = |pod: &str, host: &str| Node {
            host: Some(host.to_owned()),
            rack: Some("one".to_owned()),
            ..node(pod, true, 1000)
        };
        let nodes = [at("r-0", "a"), at("r-1", "a"), at("r-2", "b")];
        let chosen = |any_rack| {
            let wish = Placement {
                dense: true,
                any_rack,
            };
            place(&nodes, &[], 100, &["r-0"], wish)
        };
        assert_eq!(chosen(true), Ok("r-2"));
        assert!(matches!(chosen(false), Err(NoPlace::NoOther { .. })));
    }

    proptest! {
        #[test]
        fn a_chosen_node_is_ready_and_stays_within_its_share(
            nodes in prop::collection::vec((any::<bool>(), 1_i64..10_000), 0..6),
            shards in prop::collection::vec((0_usize..6, 1_i64..2_000), 0..20),
            needed in 1_i64..3_000,
            (dense, any_rack) in any::<(bool, bool)>(),
        ) {
            let wish = Placement { dense, any_rack };
            let nodes: Vec<Node> = nodes.iter().enumerate().map(|(i, (ready, limit))| node(&format!("r-{i}"), *ready, *limit)).collect();
            let placed: Vec<Placed> = shards.iter().map(|(i, bytes)| shard(&format!("r-{i}"), *bytes)).collect();
            if let Ok(pod) = place(&nodes, &placed, needed, &[], wish) {
                let chosen = nodes.iter().find(|node| node.pod == pod).unwrap();
                let taken: i64 = placed.iter().filter(|shard| shard.pod == pod).map(|shard| shard.bytes).sum();
                prop_assert!(chosen.ready);
                prop_assert!(taken + needed <= chosen.limit.unwrap() * USABLE_PERCENT / 100);
            }
        }
    }
}
