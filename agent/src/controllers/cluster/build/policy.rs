//! Who may reach the pods of a REC, where the REC asks for it: exactly the ports that are served, and those inside the
//! cluster only for those who need them. What pods may reach is not restricted: regions and backups are anywhere.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{network, owned, pods};
use crate::{
    controllers::{
        cluster::validate::Cluster,
        topology::{ENTRY, PORTS},
    },
    k8s::{names::ClusterNames, own::FIELD_MANAGER},
};

/// How far above its client port replicas enter a database that they follow by TLS.
const REPLICAS: i32 = 10_000;

/// The policy of the pods, if the REC asks for one.
///
/// Kubelets reach the probes without being named: traffic from a pod's own host is let through by every network that
/// enforces policies.
pub(super) fn policy(cluster: &Cluster) -> Option<NetworkPolicy> {
    if !cluster.network_policy {
        return None;
    }
    let anywhere = [network::SYNC, network::METRICS, network::API, network::UI].map(port);
    let clients = NetworkPolicyPort {
        end_port: Some(*PORTS.end()),
        ..port(*PORTS.start())
    };
    let by_every_node = NetworkPolicyPort {
        end_port: Some(*PORTS.end() + ENTRY),
        ..port(*PORTS.start() + ENTRY)
    };
    let replicas = NetworkPolicyPort {
        end_port: Some(*PORTS.end() + REPLICAS),
        ..port(*PORTS.start() + REPLICAS)
    };
    let agent = LabelSelector {
        match_labels: Some(
            [("app.kubernetes.io/name", FIELD_MANAGER)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..LabelSelector::default()
    };
    let siblings = LabelSelector {
        match_labels: Some(pods::selector(cluster)),
        ..LabelSelector::default()
    };
    Some(NetworkPolicy {
        metadata: owned(cluster, ClusterNames(&cluster.name).main()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(siblings.clone()),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule([clients, by_every_node].into_iter().chain(anywhere), &[]),
                rule([port(network::INTERNAL), replicas], &[&siblings]),
                // Nodes ask each other what they run, for the API and the status page.
                rule([port(network::PROBES)], &[&agent, &siblings]),
            ]),
            egress: None,
        }),
    })
}

/// Lets pods with any of these sets of labels, in the REC's namespace, reach the ports; none: anybody.
fn rule(
    ports: impl IntoIterator<Item = NetworkPolicyPort>,
    from: &[&LabelSelector],
) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        ports: Some(ports.into_iter().collect()),
        from: (!from.is_empty()).then(|| from.iter().map(|labels| peer(labels)).collect()),
    }
}

fn peer(labels: &LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(labels.clone()),
        ..NetworkPolicyPeer::default()
    }
}

fn port(number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
