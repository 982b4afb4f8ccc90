//! The Services of one database and their EndpointSlices. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::api::ObjectMeta;
use meridian_api::crds::topology::DatabaseTopologySpec;

use super::endpoints::Target;
use crate::k8s::{
    names::ClusterNames,
    own::{MEMORY, NAME_TAKEN, NAME_TOO_LONG, Owner},
};

/// Name of the one port.
const PORT_NAME: &str = "redis";
/// Label by which Kubernetes ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that keeps Kubernetes' own controllers away from a slice.
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// How clients reach a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// A virtual address inside the cluster.
    ClusterIp,
    /// A DNS name that answers with the pod's address.
    Headless,
    /// An address outside the cluster.
    LoadBalancer,
}

impl Reach {
    /// Reads `servicesRiggerSpec.databaseServiceType`: words with commas; unknown words are returned as the error.
    ///
    /// # Errors
    /// The first word that is none of `cluster_ip`, `headless`, `load_balancer`.
    pub(super) fn parse(list: &str) -> Result<BTreeSet<Self>, String> {
        let words = list
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        words
            .map(|word| match word {
                "cluster_ip" => Ok(Self::ClusterIp),
                "headless" => Ok(Self::Headless),
                "load_balancer" => Ok(Self::LoadBalancer),
                other => Err(other.to_owned()),
            })
            .collect()
    }

    /// What is made where the field is left out.
    #[must_use]
    pub(super) fn default_set() -> BTreeSet<Self> {
        BTreeSet::from([Self::ClusterIp, Self::Headless])
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::ClusterIp => "",
            Self::Headless => "-headless",
            Self::LoadBalancer => "-load-balancer",
        }
    }
}

/// What the cluster and the database ask of the Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// Services to make.
    pub reach: BTreeSet<Reach>,
    /// Services are called after the port (`redis-<port>`) instead of the database.
    pub name_by_port: bool,
    /// Port of the Services; the database's own where absent. Headless ones always have the database's own.
    pub service_port: Option<i32>,
    /// Annotations of every Service.
    pub annotations: BTreeMap<String, String>,
    /// Labels beside ours; ours win.
    pub labels: BTreeMap<String, String>,
}

/// Longest name of a Service.
const LONGEST_NAME: usize = 63;

/// Why a Service cannot be made under its name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameProblem {
    /// It is one of the cluster's own.
    #[error(
        "Service `{name}` belongs to cluster `{cluster}`, so nothing was made under that name for database `{database}`. \
         Choose another name for the database, or set spec.servicesRiggerSpec.serviceNaming of the cluster to redis-port"
    )]
    Reserved {
        /// The name.
        name: String,
        /// The REC.
        cluster: String,
        /// The database that asks for it.
        database: String,
    },
    /// Kubernetes allows no name of this length.
    #[error(
        "Service `{name}` cannot be made: its name has {} characters, expected at most {LONGEST_NAME}. Choose a shorter \
         name for the database, take this type out of spec.servicesRiggerSpec.databaseServiceType of the cluster, or set \
         its serviceNaming to redis-port",
        name.len()
    )]
    TooLong {
        /// The name.
        name: String,
    },
}

impl NameProblem {
    /// Reason of the condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Reserved { .. } => NAME_TAKEN,
            Self::TooLong { .. } => NAME_TOO_LONG,
        }
    }
}

/// Refuses the name of a Service that may not exist.
pub(super) fn check_name(name: &str, topology: &DatabaseTopologySpec) -> Result<(), NameProblem> {
    let cluster = &topology.cluster;
    if ClusterNames(cluster)
        .services()
        .iter()
        .any(|own| own == name)
    {
        return Err(NameProblem::Reserved {
            name: name.to_owned(),
            cluster: cluster.clone(),
            database: topology.database.name.clone(),
        });
    }
    if name.len() > LONGEST_NAME {
        return Err(NameProblem::TooLong {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// A Service and its slice.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Built {
    /// Without a selector.
    pub service: Service,
    /// `None`: leave the slice as it is.
    pub slice: Option<EndpointSlice>,
}

/// The endpoint to write: `None` leaves the slices as they are, `Some(None)` leads nowhere.
pub(super) type Lead<'a> = Option<Option<&'a Target>>;

/// Where a Service leads.
#[derive(Clone, Copy)]
struct Way<'a> {
    port: i32,
    targets: &'a [Target],
}

/// All Services of a database. `entries` are the pods by which every node's clients enter, if any: they pass clients on by the
/// topology, so a name that is an address of its own leads to the primary all the same, whose port is the database's.
/// `memory` is the text of the annotation that says where the database stood last.
#[must_use]
pub(super) fn build(
    topology: &DatabaseTopologySpec,
    policy: &Policy,
    lead: Lead<'_>,
    entries: &[Target],
    memory: Option<&str>,
) -> Vec<Built> {
    let owner = Owner::of(topology);
    let base = if policy.name_by_port {
        format!("redis-{}", topology.port)
    } else {
        topology.database.name.clone()
    };
    let one = |reach: &Reach| {
        let name = format!("{base}{}", reach.suffix());
        let slice = lead.map(|primary| {
            let way = way(topology, *reach, primary, entries);
            slice(&name, &owner, way, memory)
        });
        Built {
            service: service(&name, *reach, &owner, topology, policy),
            slice,
        }
    };
    policy.reach.iter().map(one).collect()
}

fn way<'a>(
    topology: &DatabaseTopologySpec,
    reach: Reach,
    primary: Option<&'a Target>,
    entries: &'a [Target],
) -> Way<'a> {
    let Some(primary) = primary else {
        return Way {
            port: topology.port,
            targets: &[],
        };
    };
    match (topology.entry_port, reach) {
        (Some(port), Reach::ClusterIp | Reach::LoadBalancer) if !entries.is_empty() => Way {
            port,
            targets: entries,
        },
        _ => Way {
            port: topology.port,
            targets: std::slice::from_ref(primary),
        },
    }
}

fn service(
    name: &str,
    reach: Reach,
    owner: &Owner,
    topology: &DatabaseTopologySpec,
    policy: &Policy,
) -> Service {
    let mut labels = policy.labels.clone();
    labels.extend(owner.labels());
    let port = match reach {
        Reach::Headless => topology.port,
        Reach::ClusterIp | Reach::LoadBalancer => policy.service_port.unwrap_or(topology.port),
    };
    Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            annotations: (!policy.annotations.is_empty()).then(|| policy.annotations.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some(
                if reach == Reach::LoadBalancer {
                    "LoadBalancer"
                } else {
                    "ClusterIP"
                }
                .to_owned(),
            ),
            cluster_ip: (reach == Reach::Headless).then(|| "None".to_owned()),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(topology.port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Name of the slice of a Service. One address family for now: that of the pod network.
#[must_use]
pub(super) fn slice_name(service: &str) -> String {
    format!("{service}-meridian")
}

fn slice(
    service: &str,
    owner: &Owner,
    Way { port, targets }: Way<'_>,
    memory: Option<&str>,
) -> EndpointSlice {
    let mut labels = owner.labels();
    labels.insert(SERVICE_NAME.to_owned(), service.to_owned());
    labels.insert(SLICE_MANAGED_BY.to_owned(), "meridian-agent".to_owned());
    let is_v6 = |target: &Target| target.address.contains(':');
    let v6 = targets.first().is_some_and(is_v6);
    let same = targets.iter().filter(|target| is_v6(target) == v6);
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(slice_name(service)),
            labels: Some(labels),
            annotations: memory
                .map(|memory| BTreeMap::from([(MEMORY.to_owned(), memory.to_owned())])),
            ..ObjectMeta::default()
        },
        address_type: if v6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: Some(same.map(endpoint).collect()),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: Some(port),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

fn endpoint(target: &Target) -> Endpoint {
    Endpoint {
        addresses: vec![target.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        node_name: target.host.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(target.pod.clone()),
            uid: target.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests;
