//! Faults: cutting parts of the lab off from one another, and nodes that lose their power.

use futures::future::try_join_all;

use super::ending;
use super::error::{LabError, Result};
use super::layout::Layout;
use super::network::{self, CUT_CHAIN, run_inside};
use super::plan::{ClusterPlan, NodePlan};
use super::state::LabState;

/// One side of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Side {
    name: String,
    /// Where what comes from the other side is dropped.
    namespaces: Vec<String>,
    /// What this side's packets come from.
    sources: Vec<String>,
}

impl Side {
    /// `host`, a cluster (`lab-1`), a node (`lab-1-a`) or a control plane (`lab-1-control-plane`).
    ///
    /// A cluster cut off from the host keeps its control plane reachable, so that a test can still look.
    fn parse(state: &LabState, name: &str, other_is_host: bool) -> Result<Self> {
        let side = |namespaces, sources| Self {
            name: name.to_owned(),
            namespaces,
            sources,
        };
        if name == "host" {
            return Ok(side(Vec::new(), vec![state.plan.host_network()]));
        }
        let mut known = vec!["host".to_owned()];
        for (cluster, nodes) in state.plans()? {
            let control_plane = format!("{}-control-plane", cluster.name);
            if name == cluster.name {
                let control_plane = (!other_is_host).then(|| cluster.namespace());
                let namespaces = nodes
                    .into_iter()
                    .map(|node| node.namespace)
                    .chain(control_plane)
                    .collect();
                return Ok(side(namespaces, vec![cluster.network()]));
            }
            if name == control_plane {
                return Ok(side(
                    vec![cluster.namespace()],
                    vec![cluster.address().to_string()],
                ));
            }
            if let Some(node) = nodes.iter().find(|node| node.name == name) {
                return Ok(side(
                    vec![node.namespace.clone()],
                    vec![node.address.to_string(), node.pods.clone()],
                ));
            }
            known.extend([cluster.name, control_plane]);
            known.extend(nodes.into_iter().map(|node| node.name));
        }
        Err(LabError::Unknown {
            kind: "cluster, node or control plane",
            name: name.to_owned(),
            known: known.join(", "),
        })
    }
}

/// The rules that make `to` deaf for `from`: namespace, and arguments after the chain's name.
fn rules(from: &Side, to: &Side) -> Vec<(String, Vec<String>)> {
    let comment = format!("{} to {}", from.name, to.name);
    let rule = |source: &String| {
        [
            "-s",
            source,
            "-j",
            "DROP",
            "-m",
            "comment",
            "--comment",
            &comment,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    to.namespaces
        .iter()
        .flat_map(|namespace| {
            from.sources
                .iter()
                .map(|source| (namespace.clone(), rule(source)))
        })
        .collect()
}

fn both_sides(state: &LabState, a: &str, b: &str) -> Result<(Side, Side)> {
    if a == b {
        return Err(LabError::Argument {
            field: "partition",
            found: format!("{a} and {b}"),
            expected: "two different sides".to_owned(),
        });
    }
    Ok((
        Side::parse(state, a, b == "host")?,
        Side::parse(state, b, a == "host")?,
    ))
}

/// Drops, without a word, what `from` sends to `to`; with `both_ways` also what `to` sends to `from`.
pub(crate) async fn cut(state: &LabState, from: &str, to: &str, both_ways: bool) -> Result<()> {
    let (from, to) = both_sides(state, from, to)?;
    let mut rules_to_add = rules(&from, &to);
    if both_ways {
        rules_to_add.extend(rules(&to, &from));
    }
    if rules_to_add.is_empty() {
        return Err(LabError::Argument {
            field: "partition",
            found: format!("{} to {} one way", from.name, to.name),
            expected: "a side that the lab owns as the receiver: the host drops nothing".to_owned(),
        });
    }
    let additions = rules_to_add.iter().map(|(namespace, rule)| async move {
        if change(namespace, "-C", rule).await.is_err() {
            change(namespace, "-A", rule).await?;
        }
        Ok::<_, LabError>(())
    });
    try_join_all(additions).await.map(drop)
}

/// Takes back what [`cut`] did between these two, both ways.
pub(crate) async fn mend(state: &LabState, a: &str, b: &str) -> Result<()> {
    let (a, b) = both_sides(state, a, b)?;
    let removals =
        rules(&a, &b)
            .into_iter()
            .chain(rules(&b, &a))
            .map(|(namespace, rule)| async move {
                while change(&namespace, "-C", &rule).await.is_ok() {
                    change(&namespace, "-D", &rule).await?;
                }
                Ok::<_, LabError>(())
            });
    try_join_all(removals).await.map(drop)
}

/// Takes back every cut of the lab.
pub(crate) async fn mend_all(state: &LabState) -> Result<()> {
    let namespaces = all_namespaces(state)?;
    let flushes = namespaces
        .iter()
        .filter(|namespace| network::namespace_exists(namespace))
        .map(|namespace| run_inside(namespace, &["iptables", "-w", "-t", "raw", "-F", CUT_CHAIN]));
    try_join_all(flushes).await.map(drop)
}

/// The cuts there are, each as `A to B`.
pub(crate) async fn cuts(state: &LabState) -> Result<Vec<String>> {
    let namespaces = all_namespaces(state)?;
    let listings = namespaces
        .iter()
        .filter(|namespace| network::namespace_exists(namespace))
        .map(|namespace| run_inside(namespace, &["iptables", "-w", "-t", "raw", "-S", CUT_CHAIN]));
    let mut cuts: Vec<String> = try_join_all(listings)
        .await?
        .iter()
        .flat_map(|listing| comments(listing))
        .collect();
    cuts.sort();
    cuts.dedup();
    Ok(cuts)
}

/// What the comments in a listing of `iptables -S` say.
fn comments(listing: &str) -> Vec<String> {
    let comment = |line: &str| {
        line.split("--comment \"")
            .nth(1)?
            .split('"')
            .next()
            .map(str::to_owned)
    };
    listing.lines().filter_map(comment).collect()
}

async fn change(namespace: &str, what: &str, rule: &[String]) -> Result<String> {
    let mut arguments = vec!["iptables", "-w", "-t", "raw", what, CUT_CHAIN];
    arguments.extend(rule.iter().map(String::as_str));
    run_inside(namespace, &arguments).await
}

fn all_namespaces(state: &LabState) -> Result<Vec<String>> {
    let of = |(cluster, nodes): (ClusterPlan, Vec<NodePlan>)| {
        nodes
            .into_iter()
            .map(|node| node.namespace)
            .chain([cluster.namespace()])
            .collect::<Vec<_>>()
    };
    Ok(state.plans()?.into_iter().flat_map(of).collect())
}

/// Takes a node's power away: every process of it ends at once, and its link goes dead.
pub(crate) async fn kill_node(
    layout: &Layout,
    cluster: &ClusterPlan,
    node: &NodePlan,
) -> Result<()> {
    network::set_link(&node.namespace, false).await?;
    ending::kill_namespace(&node.namespace).await?;
    network::remove_pod_links(&node.namespace).await?;
    super::files::remove(
        &layout
            .node(&cluster.name, &node.name)
            .join("supervisor.json"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lab::plan::LabPlan;

    fn lab() -> LabState {
        LabState {
            plan: LabPlan::new(0, "lab").unwrap(),
            clusters: BTreeMap::from([(1, 2), (2, 1)]),
        }
    }

    #[test]
    fn two_clusters_drop_each_others_packets_everywhere() {
        let (a, b) = both_sides(&lab(), "lab-1", "lab-2").unwrap();
        let namespaces: Vec<String> = rules(&b, &a)
            .into_iter()
            .map(|(namespace, _)| namespace)
            .collect();
        assert_eq!(namespaces, ["mlab0-1a", "mlab0-1b", "mlab0-1cp"]);
        assert!(
            rules(&a, &b)
                .iter()
                .all(|(_, rule)| rule[1] == "10.77.1.0/24")
        );
    }

    #[test]
    fn a_cluster_cut_off_from_the_host_still_shows_its_control_plane() {
        let (cluster, host) = both_sides(&lab(), "lab-1", "host").unwrap();
        let namespaces: Vec<String> = rules(&host, &cluster)
            .into_iter()
            .map(|(namespace, _)| namespace)
            .collect();
        assert_eq!(namespaces, ["mlab0-1a", "mlab0-1b"]);
        assert_eq!(rules(&cluster, &host), [], "the host itself drops nothing");
    }

    #[test]
    fn a_node_is_cut_off_with_its_pods() {
        let (node, control_plane) = both_sides(&lab(), "lab-1-b", "lab-1-control-plane").unwrap();
        let sources: Vec<String> = rules(&node, &control_plane)
            .into_iter()
            .map(|(_, rule)| rule[1].clone())
            .collect();
        assert_eq!(sources, ["10.77.1.11", "10.171.1.0/24"]);
    }

    #[test]
    fn a_side_that_is_not_there_names_those_there_are() {
        let error = both_sides(&lab(), "lab-1", "lab-3")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`lab-3`") && error.contains("lab-2-control-plane"),
            "{error}"
        );
        assert!(both_sides(&lab(), "lab-1", "lab-1").is_err());
    }

    #[test]
    fn cuts_are_read_from_the_rules_themselves() {
        let listing = "-N LAB-CUT\n-A LAB-CUT -s 10.77.2.0/24 -m comment --comment \"lab-2 to lab-1\" -j DROP\n";
        assert_eq!(comments(listing), ["lab-2 to lab-1"]);
    }
}
