//! What the node pods may do in the API: watch their databases, report about them, read hashes of passwords and the
//! certificates that they show.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
};

use super::owned;
use crate::{controllers::cluster::validate::Cluster, k8s::names::ClusterNames};

pub(super) fn service_account(cluster: &Cluster) -> Option<ServiceAccount> {
    let (name, ours) = &cluster.service_account;
    ours.then(|| ServiceAccount {
        metadata: owned(cluster, name.clone()),
        ..ServiceAccount::default()
    })
}

pub(super) fn role(cluster: &Cluster) -> Role {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let rule =
        |group: &str, resource: &str, verbs: &[&str], names: Option<Vec<String>>| PolicyRule {
            api_groups: Some(words(&[group])),
            resources: Some(words(&[resource])),
            verbs: words(verbs),
            resource_names: names,
            ..PolicyRule::default()
        };
    let names = ClusterNames(&cluster.name);
    Role {
        metadata: owned(cluster, names.main()),
        rules: Some(vec![
            rule(
                "meridian.dev",
                "databasetopologies",
                &["get", "list", "watch"],
                None,
            ),
            rule(
                "meridian.dev",
                "databasetopologies/status",
                &["patch"],
                None,
            ),
            rule(
                "",
                "secrets",
                &["get", "list", "watch"],
                Some(vec![names.users(), names.tls(), names.api()]),
            ),
        ]),
    }
}

pub(super) fn role_binding(cluster: &Cluster) -> RoleBinding {
    let name = ClusterNames(&cluster.name).main();
    RoleBinding {
        metadata: owned(cluster, name.clone()),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name,
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: cluster.service_account.0.clone(),
            namespace: Some(cluster.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
