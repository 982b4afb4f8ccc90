//! Names and addresses of a lab, as pure functions of its id, so that labs with different ids never meet.
//!
//! A lab has one bridge with the network `10.(77+id).0.0/16`. Cluster `c` lives in `10.(77+id).c.0/24`: `.2` is its
//! control plane, `.10` onwards its nodes, `.100`–`.250` its load balancers. Services have `10.(120+c).0.0/16` and
//! pods `10.(170+c).0.0/16`; neither leaves its cluster, so two labs may use the same.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::error::{LabError, Result};

/// Highest id of a lab.
pub(crate) const MAX_ID: u8 = 40;
/// Most clusters of one lab.
pub(crate) const MAX_CLUSTERS: u8 = 40;
/// Most nodes of one cluster (they are named by letters).
pub(crate) const MAX_NODES: u8 = 26;

/// What tells one lab from another on the same machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabPlan {
    /// 0 to [`MAX_ID`]; everything on the machine that belongs to the lab is named after it.
    pub id: u8,
    /// What the names of clusters begin with: `lab` makes `lab-1`, `lab-2`, …
    pub prefix: String,
}

/// One cluster's names and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPlan {
    lab: LabPlan,
    /// 1 to [`MAX_CLUSTERS`].
    pub index: u8,
    /// `lab-1`
    pub name: String,
}

/// One node's names and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// 0 to [`MAX_NODES`] - 1.
    pub index: u8,
    /// `lab-1-a`: the name of the Node object.
    pub name: String,
    /// Network namespace, host side of its link, and cgroup.
    pub namespace: String,
    /// Its address on the lab's bridge.
    pub address: Ipv4Addr,
    /// The network of its pods, in CIDR form.
    pub pods: String,
    /// The gateway of that network.
    pub pod_gateway: Ipv4Addr,
}

impl LabPlan {
    /// A plan for these, or the argument that is out of range.
    pub fn new(id: u8, prefix: &str) -> Result<Self> {
        if id > MAX_ID {
            return Err(argument("id", id, format!("0 to {MAX_ID}")));
        }
        let well_formed = prefix.starts_with(|c: char| c.is_ascii_lowercase())
            && prefix
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && prefix.len() <= 20
            && !prefix.ends_with('-');
        if !well_formed {
            let expected = "a letter, then letters, digits and dashes, all small, 20 at most, no dash at the end";
            return Err(argument("name prefix", prefix, expected.to_owned()));
        }
        Ok(Self {
            id,
            prefix: prefix.to_owned(),
        })
    }

    /// The prefix that a lab has unless told otherwise: `lab`, `lab1`, `lab2`, …
    #[must_use]
    pub fn default_prefix(id: u8) -> String {
        if id == 0 {
            "lab".to_owned()
        } else {
            format!("lab{id}")
        }
    }

    /// Name of the bridge; names of links, namespaces and cgroups begin with it.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("mlab{}", self.id)
    }

    /// The machine's own address in the lab: what pods use to reach programs on the machine.
    #[must_use]
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77 + self.id, 0, 1)
    }

    /// Network of the machine's own address only.
    #[must_use]
    pub fn host_network(&self) -> String {
        format!("10.{}.0.0/24", 77 + self.id)
    }

    /// The whole network of the lab.
    #[must_use]
    pub fn network(&self) -> String {
        format!("10.{}.0.0/16", 77 + self.id)
    }

    /// The plan of the cluster with this index, from 1.
    pub fn cluster(&self, index: u8) -> Result<ClusterPlan> {
        if index == 0 || index > MAX_CLUSTERS {
            return Err(argument(
                "number of clusters",
                index,
                format!("1 to {MAX_CLUSTERS}"),
            ));
        }
        Ok(ClusterPlan {
            lab: self.clone(),
            index,
            name: format!("{}-{index}", self.prefix),
        })
    }
}

impl ClusterPlan {
    /// Network namespace and cgroup of the control plane.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("{}-{}cp", self.lab.bridge(), self.index)
    }

    /// Address of the control plane: API server and cluster DNS.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.at(2)
    }

    /// Everything of this cluster that others see: nodes, control plane, load balancers.
    #[must_use]
    pub fn network(&self) -> String {
        format!("10.{}.{}.0/24", 77 + self.lab.id, self.index)
    }

    /// Network of the Services' addresses.
    #[must_use]
    pub fn services(&self) -> String {
        format!("10.{}.0.0/16", 120 + self.index)
    }

    /// First address of the Services' network, which is the API server's.
    #[must_use]
    pub fn api_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 120 + self.index, 0, 1)
    }

    /// The Service address of the cluster DNS.
    #[must_use]
    pub fn dns_service(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 120 + self.index, 0, 10)
    }

    /// Network of all pods of the cluster.
    #[must_use]
    pub fn pods(&self) -> String {
        format!("10.{}.0.0/16", 170 + self.index)
    }

    /// The addresses that load balancers of this cluster may have.
    pub fn balancers(&self) -> impl Iterator<Item = Ipv4Addr> {
        let plan = self.clone();
        (100..=250).map(move |last| plan.at(last))
    }

    /// The lab this cluster belongs to.
    #[must_use]
    pub fn lab(&self) -> &LabPlan {
        &self.lab
    }

    /// The plan of the node with this index, from 0.
    pub fn node(&self, index: u8) -> Result<NodePlan> {
        if index >= MAX_NODES {
            return Err(argument(
                "number of nodes",
                index,
                format!("1 to {MAX_NODES}"),
            ));
        }
        let letter = char::from(b'a' + index);
        Ok(NodePlan {
            index,
            name: format!("{}-{letter}", self.name),
            namespace: format!("{}-{}{letter}", self.lab.bridge(), self.index),
            address: self.at(10 + index),
            pods: format!("10.{}.{index}.0/24", 170 + self.index),
            pod_gateway: Ipv4Addr::new(10, 170 + self.index, index, 1),
        })
    }

    /// The plans of the first `count` nodes.
    pub fn nodes(&self, count: u8) -> Result<Vec<NodePlan>> {
        (0..count).map(|index| self.node(index)).collect()
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77 + self.lab.id, self.index, last)
    }
}

fn argument(field: &'static str, found: impl ToString, expected: String) -> LabError {
    LabError::Argument {
        field,
        found: found.to_string(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_labs_clusters_or_nodes_share_a_name_or_an_address() {
        let (mut names, mut addresses, mut namespaces) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for id in 0..=MAX_ID {
            let lab = LabPlan::new(id, &LabPlan::default_prefix(id)).unwrap();
            assert!(addresses.insert(lab.host()));
            for c in 1..=MAX_CLUSTERS {
                let cluster = lab.cluster(c).unwrap();
                assert!(
                    addresses.insert(cluster.address()) && namespaces.insert(cluster.namespace())
                );
                assert!(names.insert(cluster.name.clone()));
                for node in cluster.nodes(MAX_NODES).unwrap() {
                    assert!(addresses.insert(node.address) && namespaces.insert(node.namespace));
                    assert!(names.insert(node.name));
                }
                for address in cluster.balancers() {
                    assert!(addresses.insert(address), "{address} is given twice");
                }
            }
        }
    }

    #[test]
    fn networks_of_links_services_and_pods_never_overlap() {
        let top = LabPlan::new(MAX_ID, "x").unwrap();
        let last = top.cluster(MAX_CLUSTERS).unwrap();
        assert!(
            top.host().octets()[1] < 121,
            "links end below the first Service network"
        );
        assert!(
            last.api_service().octets()[1] < 171,
            "Services end below the first pod network"
        );
        assert_eq!(last.pods(), "10.210.0.0/16");
    }

    #[test]
    fn interface_names_fit_into_the_kernels_fifteen_characters() {
        let cluster = LabPlan::new(MAX_ID, "x")
            .unwrap()
            .cluster(MAX_CLUSTERS)
            .unwrap();
        assert!(cluster.namespace().len() <= 15);
        assert!(cluster.node(MAX_NODES - 1).unwrap().namespace.len() <= 15);
    }

    #[test]
    fn an_id_or_a_prefix_out_of_range_is_refused_by_name() {
        assert!(
            LabPlan::new(MAX_ID + 1, "lab")
                .unwrap_err()
                .to_string()
                .contains("id is 41")
        );
        for prefix in ["", "1lab", "Lab", "lab-", "l_b", "a-name-of-more-than-20"] {
            assert!(LabPlan::new(0, prefix).is_err(), "{prefix:?} was taken");
        }
    }
}
