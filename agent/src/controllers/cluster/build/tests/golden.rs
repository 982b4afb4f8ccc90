//! Everything that is made for a REC, whole, as committed files.

use serde_json::{Value, json};

use super::*;
use crate::k8s::testing::{golden, without_secrets};

fn objects(built: &Desired<Built>) -> Vec<Value> {
    let Desired {
        service_account,
        role,
        role_binding,
        credentials,
        users,
        internal,
        certificates,
        api,
        services,
        disruption_budget,
        network_policy,
        stateful_set,
        stage: PhantomData,
    } = built;
    let mut all: Vec<Value> = service_account.iter().map(without_secrets).collect();
    all.extend([without_secrets(role), without_secrets(role_binding)]);
    all.extend(credentials.iter().map(without_secrets));
    all.extend([users, internal, certificates, api].map(without_secrets));
    all.extend(services.iter().map(without_secrets));
    all.push(without_secrets(disruption_budget));
    all.extend(network_policy.iter().map(without_secrets));
    all.push(without_secrets(stateful_set));
    all
}

#[test]
fn a_minimal_cluster_is_golden() {
    let found = json!(objects(&minimal()));
    golden("controllers/cluster/build/golden/minimal", &found);
}

#[test]
fn a_cluster_of_five_with_volumes_racks_and_extras_is_golden() {
    let found = json!(objects(&built(json!({
        "nodes": 5,
        "clusterCredentialSecretName": "admin",
        "persistentSpec": {"enabled": true, "storageClassName": "fast", "volumeSize": "20Gi"},
        "redisEnterpriseNodeResources": {
            "limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "2", "memory": "8Gi"},
        },
        "rackAwarenessNodeLabel": "topology.kubernetes.io/zone",
        "uiServiceType": "LoadBalancer",
        "services": {"servicesAnnotations": {"team": "data"}},
        "extraLabels": {"cost": "42"},
        "podAnnotations": {"scrape": "no"},
        "nodeSelector": {"pool": "databases"},
        "podTolerations": [{"key": "databases", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "high",
        "pullSecrets": [{"name": "registry"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["one"]}],
        "sideContainersSpec": [{"name": "side", "image": "side:1"}],
        "volumes": [{"name": "extra", "emptyDir": {}}],
        "redisEnterpriseVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "redisEnterpriseAdditionalPodSpecAttributes": {"dnsPolicy": "ClusterFirst"},
    }))));
    golden("controllers/cluster/build/golden/full", &found);
}
