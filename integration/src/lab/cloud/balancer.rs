//! Addresses for Services of type LoadBalancer. Each Service gets one of its cluster's own on the lab's network, held
//! by a node that passes the same health check that a cloud's balancer makes; it moves when that node fails.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::lab::command::run;
use crate::lab::error::{LabError, Result, kubernetes};
use crate::lab::network;
use crate::lab::plan::{ClusterPlan, NodePlan};
use crate::lab::wait::http_ok;

/// Failed checks in a row before a node counts as unfit.
const FAILURES: u32 = 2;
/// Where kube-proxy tells whether a node may get traffic.
const PROXY_HEALTH_PORT: u16 = 10256;

/// What decides about a Service's address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    namespace: String,
    name: String,
    /// The port that tells whether a node may get this Service's traffic.
    health_port: u16,
    /// The address in its status.
    published: Option<Ipv4Addr>,
}

/// A Service's address and the node that holds it, if any is fit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    address: Ipv4Addr,
    node: Option<usize>,
}

/// Gives out the addresses of one cluster.
pub(super) struct Balancer {
    client: Client,
    cluster: ClusterPlan,
    nodes: Vec<NodePlan>,
    /// Failed checks in a row, by node and health port.
    failures: BTreeMap<(usize, u16), u32>,
}

impl Balancer {
    pub(super) fn new(client: Client, cluster: ClusterPlan, nodes: Vec<NodePlan>) -> Self {
        Self {
            client,
            cluster,
            nodes,
            failures: BTreeMap::new(),
        }
    }

    /// Asks every node for its health, once for each port that a Service wants asked.
    pub(super) async fn probe(&mut self, services: &[Arc<Service>]) {
        let ports = services
            .iter()
            .filter_map(|service| wish(service))
            .map(|wish| wish.health_port);
        let ports: BTreeSet<u16> = ports.chain([PROXY_HEALTH_PORT]).collect();
        let questions: Vec<(usize, u16)> = (0..self.nodes.len())
            .flat_map(|node| ports.iter().map(move |port| (node, *port)))
            .collect();
        let answers = join_all(questions.iter().map(|(node, port)| {
            let address = format!("{}:{port}", self.nodes[*node].address);
            async move {
                let answer =
                    tokio::time::timeout(Duration::from_secs(1), http_ok(&address, "/healthz"))
                        .await;
                matches!(answer, Ok(Ok(())))
            }
        }))
        .await;
        let before = std::mem::take(&mut self.failures);
        for (question, healthy) in questions.into_iter().zip(answers) {
            let count = if healthy {
                0
            } else {
                before
                    .get(&question)
                    .copied()
                    .unwrap_or(FAILURES)
                    .saturating_add(1)
            };
            self.failures.insert(question, count);
        }
    }

    /// Brings addresses on nodes and in statuses to what the Services call for; returns what failed.
    pub(super) async fn reconcile(&self, services: &[Arc<Service>]) -> Vec<LabError> {
        let mut errors = Vec::new();
        let wishes: Vec<Wish> = services
            .iter()
            .filter_map(|service| wish(service))
            .collect();
        let held = match self.held().await {
            Ok(held) => held,
            Err(error) => return vec![error],
        };
        let fit = |node: usize, port: u16| {
            self.failures
                .get(&(node, port))
                .is_some_and(|count| *count < FAILURES)
        };
        let pool: Vec<Ipv4Addr> = self.cluster.balancers().collect();
        let grants = grant(&wishes, &pool, &held, self.nodes.len(), fit);
        if let Err(error) = self.place(&grants, &held).await {
            errors.push(error);
        }
        for (wish, granted) in wishes.iter().zip(&grants) {
            let published = match granted {
                Some(granted) => self.publish(wish, granted.address).await,
                None => Err(LabError::Machine {
                    what: format!(
                        "Service {}/{} in {}",
                        wish.namespace, wish.name, self.cluster.name
                    ),
                    found: format!(
                        "all {} addresses for load balancers are given out",
                        pool.len()
                    ),
                    next: "delete Services of type LoadBalancer that nobody needs".to_owned(),
                }),
            };
            errors.extend(published.err());
        }
        errors
    }

    /// Which node holds which address now, as the nodes themselves say.
    async fn held(&self) -> Result<BTreeMap<Ipv4Addr, BTreeSet<usize>>> {
        let mut held = BTreeMap::<Ipv4Addr, BTreeSet<usize>>::new();
        for (index, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| network::namespace_exists(&node.namespace))
        {
            let listing = run(
                "ip",
                &[
                    "-n",
                    &node.namespace,
                    "-o",
                    "-4",
                    "addr",
                    "show",
                    "dev",
                    "eth0",
                ],
            )
            .await?;
            for address in single_addresses(&listing) {
                held.entry(address).or_default().insert(index);
            }
        }
        Ok(held)
    }

    async fn place(
        &self,
        grants: &[Option<Grant>],
        held: &BTreeMap<Ipv4Addr, BTreeSet<usize>>,
    ) -> Result<()> {
        let wanted: BTreeMap<Ipv4Addr, usize> = grants
            .iter()
            .flatten()
            .filter_map(|grant| Some((grant.address, grant.node?)))
            .collect();
        for (address, nodes) in held {
            for node in nodes
                .iter()
                .filter(|node| wanted.get(address) != Some(node))
            {
                let namespace = &self.nodes[*node].namespace;
                run(
                    "ip",
                    &[
                        "-n",
                        namespace,
                        "addr",
                        "del",
                        &format!("{address}/32"),
                        "dev",
                        "eth0",
                    ],
                )
                .await?;
            }
        }
        for (address, node) in wanted {
            if held
                .get(&address)
                .is_some_and(|nodes| nodes.contains(&node))
            {
                continue;
            }
            let namespace = &self.nodes[node].namespace;
            run(
                "ip",
                &[
                    "-n",
                    namespace,
                    "addr",
                    "add",
                    &format!("{address}/32"),
                    "dev",
                    "eth0",
                ],
            )
            .await?;
            self.forget_neighbour(address).await?;
        }
        Ok(())
    }

    /// Makes everybody in the lab ask anew who has this address.
    async fn forget_neighbour(&self, address: Ipv4Addr) -> Result<()> {
        let address = address.to_string();
        run("ip", &["neigh", "flush", "to", &address]).await?;
        for name in network::leftovers(self.cluster.lab())
            .iter()
            .filter(|name| network::namespace_exists(name))
        {
            run("ip", &["-n", name, "neigh", "flush", "to", &address]).await?;
        }
        Ok(())
    }

    async fn publish(&self, wish: &Wish, address: Ipv4Addr) -> Result<()> {
        if wish.published == Some(address) {
            return Ok(());
        }
        let services: Api<Service> = Api::namespaced(self.client.clone(), &wish.namespace);
        let status =
            json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}});
        match services
            .patch_status(&wish.name, &PatchParams::default(), &Patch::Merge(status))
            .await
        {
            // Deleted meanwhile: the watch will say so.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(kubernetes(
                &self.cluster.name,
                format!(
                    "publish address {address} of Service {}/{}",
                    wish.namespace, wish.name
                ),
            )),
        }
    }
}

/// What a Service wants of the balancer; `None` if it wants nothing.
fn wish(service: &Service) -> Option<Wish> {
    let spec = service.spec.as_ref()?;
    let ours = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.is_none()
        && service.metadata.deletion_timestamp.is_none();
    if !ours {
        return None;
    }
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let local_port = spec
        .health_check_node_port
        .filter(|_| local)
        .and_then(|port| u16::try_from(port).ok());
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()
        .and_then(|status| status.ingress.as_ref());
    let published = ingress
        .and_then(|list| list.first())
        .and_then(|first| first.ip.as_ref()?.parse().ok());
    Some(Wish {
        namespace: service.namespace()?,
        name: service.name_any(),
        health_port: local_port
            .filter(|port| *port != 0)
            .unwrap_or(PROXY_HEALTH_PORT),
        published,
    })
}

/// Gives each wish its published address, else the first free one; and a fit node: the one that holds the address
/// already, else the one with the fewest. `None` where no address is left.
fn grant(
    wishes: &[Wish],
    pool: &[Ipv4Addr],
    held: &BTreeMap<Ipv4Addr, BTreeSet<usize>>,
    nodes: usize,
    fit: impl Fn(usize, u16) -> bool,
) -> Vec<Option<Grant>> {
    let mut taken = BTreeSet::new();
    let kept: Vec<Option<Ipv4Addr>> = wishes
        .iter()
        .map(|wish| {
            wish.published
                .filter(|address| pool.contains(address) && taken.insert(*address))
        })
        .collect();
    let mut load = vec![0_usize; nodes];
    let mut grants = Vec::new();
    for (wish, kept) in wishes.iter().zip(kept) {
        let Some(address) = kept.or_else(|| {
            pool.iter()
                .copied()
                .find(|address| !taken.contains(address))
        }) else {
            grants.push(None);
            continue;
        };
        taken.insert(address);
        let fit_nodes = || (0..nodes).filter(|node| fit(*node, wish.health_port));
        let holder =
            fit_nodes().find(|node| held.get(&address).is_some_and(|nodes| nodes.contains(node)));
        let node = holder.or_else(|| fit_nodes().min_by_key(|node| load[*node]));
        if let Some(node) = node {
            load[node] += 1;
        }
        grants.push(Some(Grant { address, node }));
    }
    grants
}

/// The addresses with a /32 in what `ip -o addr show` prints.
fn single_addresses(listing: &str) -> Vec<Ipv4Addr> {
    listing
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_suffix("/32")?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;
