//! A member that a person declared lost for good, and what it may still hold: nobody waits for it, so nobody cleans up
//! there. Who meets its remains finds here what they are and how they go.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cluster::Rec;
use super::desired::Desired;

/// The declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// Who declared it.
    pub by: String,
    /// Since when it had no session; absent if it never had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since: Option<Timestamp>,
    /// Names that its remote clusters had.
    pub remotes: BTreeSet<String>,
    /// Databases that go on without it, by name.
    pub databases: BTreeSet<String>,
    /// What may still be there.
    pub residue: Vec<Residue>,
}

/// Something that may be left on a member that nobody waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Residue {
    /// Namespace there.
    pub namespace: String,
    /// Kind of what is left; several with commas between them.
    pub kind: String,
    /// Name, or what its names begin with.
    pub name: String,
    /// What it holds.
    pub holds: String,
    /// How it is removed there, once the agent is gone.
    pub remove: String,
}

/// Label of everything that an agent made for a database.
const DATABASE: &str = "meridian.dev/database";
/// Label of everything that an agent made for a REC.
const CLUSTER: &str = "redis.io/cluster";

/// What may be left of these objects of a member, and of the RECs that carry them, in the order in which it can be removed.
#[must_use]
pub fn residue<'a>(told: impl Iterator<Item = &'a Desired>, recs: &[Rec]) -> Vec<Residue> {
    let mut left = Vec::new();
    let mut namespaces = BTreeSet::new();
    for desired in told {
        let Desired {
            kind,
            namespace,
            name,
            data_bearing,
            ..
        } = desired;
        namespaces.insert(namespace.as_str());
        let resource = resource(kind);
        left.push(Residue {
            namespace: namespace.clone(),
            kind: kind.clone(),
            name: name.clone(),
            holds: held_by(kind).to_owned(),
            remove: format!(
                "kubectl -n {namespace} patch {resource} {name} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'; \
                 kubectl -n {namespace} delete {resource} {name} --ignore-not-found"
            ),
        });
        // The instance stands for the database: one of the two is always told with the other.
        if *data_bearing && resource == INSTANCES {
            left.push(Residue {
                namespace: namespace.clone(),
                kind: "DatabaseTopology, Secret, Service, EndpointSlice".to_owned(),
                name: name.clone(),
                holds: "the place, the password and the addresses of the database".to_owned(),
                remove: format!(
                    "kubectl -n {namespace} delete databasetopology {name} --ignore-not-found; \
                     kubectl -n {namespace} delete secret,service,endpointslice -l {DATABASE}={name}"
                ),
            });
        }
    }
    for Rec {
        namespace, name, ..
    } in recs
    {
        namespaces.insert(namespace.as_str());
        left.push(Residue {
            namespace: namespace.clone(),
            kind: "PersistentVolumeClaim".to_owned(),
            name: format!("redis-enterprise-storage-{name}-"),
            holds: format!("the data of every database of REC {name}, those of that cluster alone too"),
            remove: format!(
                "kubectl -n {namespace} delete rec {name}; kubectl -n {namespace} get pvc -o name | \
                 grep /redis-enterprise-storage-{name}- | xargs kubectl -n {namespace} delete"
            ),
        });
        left.push(Residue {
            namespace: namespace.clone(),
            kind: "Secret".to_owned(),
            name: name.clone(),
            holds: "passwords and certificates of the REC; no peer believes the certificates for a database without it"
                .to_owned(),
            remove: format!("kubectl -n {namespace} delete secret -l {CLUSTER}={name}"),
        });
    }
    left.sort();
    let agents = namespaces.into_iter().map(agent_in);
    agents.chain(left).collect()
}

/// The agent of a namespace: as long as it runs, it makes what is deleted anew.
fn agent_in(namespace: &str) -> Residue {
    Residue {
        namespace: namespace.to_owned(),
        kind: "Deployment, Secret".to_owned(),
        name: "meridian-".to_owned(),
        holds: "the agent with its device key and join material, which open nothing any more; it goes before all else"
            .to_owned(),
        remove: format!(
            "kubectl delete validatingwebhookconfiguration redis-enterprise-admission-{namespace} --ignore-not-found; \
             kubectl -n {namespace} delete deployment meridian-agent --ignore-not-found; \
             kubectl -n {namespace} delete secret meridian-identity meridian-join --ignore-not-found"
        ),
    }
}

const INSTANCES: &str = "activeactiveinstance";

/// The kind as kubectl takes it.
fn resource(kind: &str) -> &'static str {
    match kind {
        "ActiveActiveInstance" => INSTANCES,
        "RedisEnterpriseRemoteCluster" => "rerc",
        _ => "reaadb",
    }
}

fn held_by(kind: &str) -> &'static str {
    match resource(kind) {
        INSTANCES => "what the hub told the cluster about the database",
        "rerc" => "the address of another region",
        _ => "the database as it was wanted",
    }
}

#[cfg(test)]
mod tests;
