//! What is true of a lab now: taken from processes, namespaces and API servers, not from what was once written down.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{Api, ListParams};
use serde::Serialize;

use super::error::Result;
use super::layout::Layout;
use super::plan::{ClusterPlan, NodePlan};
use super::process::{ProcessRecord, RunningProcess, running_in};
use super::state::LabState;
use super::unit::Restarts;
use super::{client, fault, unit};

/// A lab as it is now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabStatus {
    /// The lab's id.
    pub id: u8,
    /// Address under which pods reach programs on this machine.
    pub host_address: String,
    /// Whether the process that gives out addresses and volumes runs.
    pub cloud_running: bool,
    /// Cuts between parts, each as `A to B`.
    pub cuts: Vec<String>,
    /// Its clusters.
    pub clusters: Vec<ClusterStatus>,
}

/// One cluster as it is now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Kubeconfig of its administrator.
    pub kubeconfig: String,
    /// Why its API server does not answer; empty if it does.
    pub error: String,
    /// The control plane's processes.
    pub control_plane: UnitStatus,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Addresses of Services, by `namespace/name`.
    pub load_balancers: BTreeMap<String, String>,
    /// Resident memory of all its processes (not of its pods), in bytes.
    pub resident: u64,
}

/// One node as it is now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// `Ready`, `NotReady`, `Unknown` (says the API server), `Off` (has no power), or `Missing`.
    pub state: String,
    /// Its processes.
    #[serde(flatten)]
    pub unit: UnitStatus,
}

/// What runs together in one network namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// Network namespace on this machine.
    pub namespace: String,
    /// Whether its supervisor lives.
    pub running: bool,
    /// How often each of its processes had to be started again.
    pub restarts: Restarts,
    /// What runs in its namespace.
    pub processes: Vec<RunningProcess>,
}

/// Looks at a lab.
pub(crate) async fn of_lab(layout: &Layout, state: &LabState) -> Result<LabStatus> {
    let clusters = state.plans()?;
    let clusters = join_all(
        clusters
            .iter()
            .map(|(cluster, nodes)| of_cluster(layout, cluster, nodes)),
    )
    .await;
    Ok(LabStatus {
        id: state.plan.id,
        host_address: state.plan.host().to_string(),
        cloud_running: ProcessRecord::read(&layout.cloud().join("process.json"))?
            .is_some_and(|record| record.is_alive()),
        cuts: fault::cuts(state).await?,
        clusters: clusters.into_iter().collect::<Result<_>>()?,
    })
}

async fn of_cluster(
    layout: &Layout,
    cluster: &ClusterPlan,
    nodes: &[NodePlan],
) -> Result<ClusterStatus> {
    let (seen, load_balancers, error) = match ask(layout, cluster).await {
        Ok((seen, balancers)) => (seen, balancers, String::new()),
        Err(error) => (BTreeMap::new(), BTreeMap::new(), error),
    };
    let control_plane = of_unit(&cluster.namespace(), &layout.control_plane(&cluster.name))?;
    let mut statuses = Vec::new();
    for node in nodes {
        let unit = of_unit(&node.namespace, &layout.node(&cluster.name, &node.name))?;
        let reported = seen.get(&node.name).map_or("Missing", String::as_str);
        let state = if unit.running { reported } else { "Off" }.to_owned();
        statuses.push(NodeStatus {
            name: node.name.clone(),
            address: node.address.to_string(),
            state,
            unit,
        });
    }
    let processes = statuses
        .iter()
        .flat_map(|node| &node.unit.processes)
        .chain(&control_plane.processes);
    let resident = processes.map(|process| process.resident).sum();
    Ok(ClusterStatus {
        name: cluster.name.clone(),
        kubeconfig: layout.kubeconfig(&cluster.name).display().to_string(),
        error,
        control_plane,
        nodes: statuses,
        load_balancers,
        resident,
    })
}

fn of_unit(namespace: &str, folder: &std::path::Path) -> Result<UnitStatus> {
    Ok(UnitStatus {
        namespace: namespace.to_owned(),
        running: unit::running(folder)?.is_some(),
        restarts: unit::restarts(folder)?,
        processes: running_in(namespace),
    })
}

/// Nodes by name with their state, and addresses of Services.
type Seen = (BTreeMap<String, String>, BTreeMap<String, String>);

async fn ask(layout: &Layout, cluster: &ClusterPlan) -> std::result::Result<Seen, String> {
    let answer = async {
        let client = client::of_kubeconfig(&layout.kubeconfig(&cluster.name))
            .await
            .map_err(|error| error.to_string())?;
        let all = ListParams::default();
        let nodes = Api::<Node>::all(client.clone())
            .list(&all)
            .await
            .map_err(|error| error.to_string())?;
        let services = Api::<Service>::all(client)
            .list(&all)
            .await
            .map_err(|error| error.to_string())?;
        let nodes = nodes.items.iter().filter_map(node_state).collect();
        Ok((
            nodes,
            services.items.iter().filter_map(balancer_address).collect(),
        ))
    };
    tokio::time::timeout(std::time::Duration::from_secs(3), answer)
        .await
        .unwrap_or_else(|_| Err("the API server does not answer within 3 s".to_owned()))
}

fn node_state(node: &Node) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    let state = match ready.status.as_str() {
        "True" => "Ready",
        "False" => "NotReady",
        _ => "Unknown",
    };
    Some((node.metadata.name.clone()?, state.to_owned()))
}

fn balancer_address(service: &Service) -> Option<(String, String)> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?;
    let name = format!(
        "{}/{}",
        service.metadata.namespace.as_ref()?,
        service.metadata.name.as_ref()?
    );
    Some((name, ingress.first()?.ip.clone()?))
}
