//! Reads what stands around a REC: StatefulSet, pods, shards, claims and hosts.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Node as Host, PersistentVolumeClaim, Pod},
};
use kube::{Api, ResourceExt as _, api::ListParams};
use meridian_api::crds::DatabaseTopology;

use super::{
    build::STORAGE,
    observe::{self, Claim, Node, Set, Shard},
    version::Running,
};
use crate::k8s::{
    apply::{ApplyError, Objects},
    names::ClusterNames,
    own::{Owner, Ownership, ROLE_NODE},
};

/// The world around a REC.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// Its StatefulSet, unless that is another's.
    pub set: Option<StatefulSet>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// The same, reduced.
    pub nodes: Vec<Node>,
    /// The shards of its databases, once [`shards`] has read them.
    pub shards: Vec<Shard>,
    /// The claims of its pods, also of those that are not there now.
    pub claims: Vec<(PersistentVolumeClaim, Claim)>,
}

impl World {
    /// The StatefulSet, reduced.
    pub(super) fn seen(&self) -> Option<Set> {
        self.set.as_ref().map(Set::of)
    }

    /// What runs: the template of the StatefulSet or, where that is gone, what a pod runs.
    pub(super) fn running(&self) -> Option<Running> {
        let of_pod = || {
            let image = self.nodes.iter().find_map(|node| node.image.clone())?;
            Some(Running {
                image,
                release: None,
            })
        };
        self.seen().and_then(|set| set.running).or_else(of_pod)
    }

    /// The claims of the first `nodes` pods.
    pub(super) fn claims_of(&self, nodes: i32) -> Vec<Claim> {
        let nodes = u32::try_from(nodes).unwrap_or(0);
        self.claims
            .iter()
            .filter(|(_, claim)| crate::k8s::names::ordinal(&claim.name).is_some_and(|n| n < nodes))
            .map(|(_, claim)| claim.clone())
            .collect()
    }
}

/// Reads the world around the REC `name`, but for the shards.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn read(objects: &Objects, name: &str) -> Result<World, ApplyError> {
    let owner = Owner::cluster(name);
    let set = objects
        .get::<StatefulSet>(&ClusterNames(name).main())
        .await?;
    let set = set.filter(|set| matches!(owner.judge(Some(&set.metadata)), Ownership::Ours { .. }));
    // With the label that says they are ours: another operator gives its pods the same names and other labels.
    let selector = format!("{},{}={}", owner.selector(), ROLE_NODE.0, ROLE_NODE.1);
    let pods = objects.list::<Pod>(&selector).await?;
    let mut nodes: Vec<Node> = pods.iter().filter_map(Node::of).collect();
    nodes.sort_by_key(|node| node.ordinal);
    let prefix = format!("{STORAGE}-{name}-");
    let claims = objects.list::<PersistentVolumeClaim>("").await?;
    let claims = claims
        .into_iter()
        .filter(|claim| {
            let name = claim.name_any();
            name.strip_prefix(&prefix)
                .is_some_and(|number| number.parse::<u32>().is_ok())
        })
        .map(|claim| {
            let ours = matches!(owner.judge(Some(&claim.metadata)), Ownership::Ours { .. });
            let seen = Claim::of(&claim, ours);
            (claim, seen)
        })
        .collect();
    Ok(World {
        set,
        pods,
        nodes,
        shards: Vec::new(),
        claims,
    })
}

/// Reads the shards of the databases of the REC `name`: with many databases that is more than everything else together.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn shards(objects: &Objects, name: &str) -> Result<Vec<Shard>, ApplyError> {
    let topologies = objects.list::<DatabaseTopology>("").await?;
    let own = topologies
        .iter()
        .filter(|topology| topology.spec.cluster == name);
    Ok(own.flat_map(observe::shards).collect())
}

/// The hosts of the Kubernetes cluster: the only thing outside the namespace, read only for racks.
///
/// # Errors
/// The API server refused (the right is given by `deploy/bundle/racks.yaml`) or could not be reached.
pub(super) async fn hosts(objects: &Objects) -> Result<Vec<Host>, ApplyError> {
    let api: Api<Host> = Api::all(objects.api::<Pod>().into_client());
    let found = api.list(&ListParams::default()).await;
    found
        .map(|list| list.items)
        .map_err(|source| ApplyError::Api {
            verb: "list",
            kind: "Node".to_owned(),
            name: String::new(),
            source: Box::new(source),
        })
}
