//! A member that a person declared lost for good, and what it may still hold: nobody waits for it, so nobody cleans up
//! there. Who meets its remains finds here what they are and how they go.

use std::collections::BTreeSet;

use jiff::Timestamp;
use meridian_api::identity::RecName;
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
    /// What may still be there: all of it, or as much as one record holds.
    pub residue: Vec<Residue>,
    /// In how many parts of their own the rest of it lies.
    #[serde(default, skip_serializing_if = "is_none")]
    pub parts: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_none(parts: &u32) -> bool {
    *parts == 0
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
/// What `kubectl patch` is told to take all finalizers away.
const NO_FINALIZERS: &str = r#"--type=merge -p '{"metadata":{"finalizers":null}}'"#;

/// What may be left of these objects of a member, and of the RECs that carry them, in the order in which it can be removed. What
/// has a name that Kubernetes gives to nothing is nowhere, and stands in no command.
#[must_use]
pub fn residue<'a>(told: impl Iterator<Item = &'a Desired>, recs: &[Rec]) -> Vec<Residue> {
    let mut left = Vec::new();
    let mut namespaces = BTreeSet::new();
    for desired in told.filter(|desired| can_exist(&desired.namespace, &desired.name)) {
        namespaces.insert(desired.namespace.as_str());
        left.extend(of_told(desired));
    }
    for rec in recs
        .iter()
        .filter(|rec| can_exist(&rec.namespace, &rec.name))
    {
        namespaces.insert(rec.namespace.as_str());
        left.extend(of_rec(rec));
    }
    left.sort();
    let left = left.into_iter().map(|(_, one)| one);
    namespaces.into_iter().map(agent_in).chain(left).collect()
}

/// What is removed before what. A database goes before what serves it, and a volume only when no pod holds it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Database,
    Instance,
    Parts,
    RemoteCluster,
    Cluster,
    Volumes,
    Secrets,
}

/// Names as Kubernetes takes them, which say to a shell nothing but themselves.
fn can_exist(namespace: &str, name: &str) -> bool {
    RecName::new(namespace, name).is_ok()
}

/// Takes away the finalizers, which nobody else releases once the agent is gone, and then the object.
fn let_go(namespace: &str, resource: &str, name: &str) -> String {
    format!(
        "kubectl -n {namespace} patch {resource} {name} {NO_FINALIZERS}; \
         kubectl -n {namespace} delete {resource} {name} --ignore-not-found"
    )
}

fn of_told(desired: &Desired) -> Vec<(Step, Residue)> {
    let Desired {
        kind,
        namespace,
        name,
        data_bearing,
        ..
    } = desired;
    let resource = resource(kind);
    let step = match resource {
        INSTANCES => Step::Instance,
        "rerc" => Step::RemoteCluster,
        _ => Step::Database,
    };
    let object = Residue {
        namespace: namespace.clone(),
        kind: kind.clone(),
        name: name.clone(),
        holds: held_by(kind).to_owned(),
        remove: let_go(namespace, resource, name),
    };
    let mut left = vec![(step, object)];
    // The instance stands for the database: one of the two is always told with the other.
    if *data_bearing && resource == INSTANCES {
        let parts = Residue {
            namespace: namespace.clone(),
            kind: "DatabaseTopology, Secret, Service, EndpointSlice".to_owned(),
            name: name.clone(),
            holds: "the place, the password and the addresses of the database".to_owned(),
            remove: format!(
                "kubectl -n {namespace} delete databasetopology {name} --ignore-not-found; \
                 kubectl -n {namespace} delete secret,service,endpointslice -l {DATABASE}={name}"
            ),
        };
        left.push((Step::Parts, parts));
    }
    left
}

fn of_rec(rec: &Rec) -> [(Step, Residue); 3] {
    let Rec {
        namespace, name, ..
    } = rec;
    let cluster = Residue {
        namespace: namespace.clone(),
        kind: "RedisEnterpriseDatabase, RedisEnterpriseCluster".to_owned(),
        name: name.clone(),
        holds: "the REC and every database of its namespace, those of that cluster alone too"
            .to_owned(),
        remove: format!(
            "kubectl -n {namespace} get redb -o name | xargs -r -I@ kubectl -n {namespace} patch @ {NO_FINALIZERS}; \
             kubectl -n {namespace} delete redb --all; {}",
            let_go(namespace, "rec", name)
        ),
    };
    // The name of another REC may begin with this one: what follows is the pod's ordinal and nothing else.
    let pattern = name.replace('.', "[.]");
    let volumes = Residue {
        namespace: namespace.clone(),
        kind: "PersistentVolumeClaim".to_owned(),
        name: format!("redis-enterprise-storage-{name}-"),
        holds: format!("the data of every database of REC {name}, those of that cluster alone too"),
        remove: format!(
            "kubectl -n {namespace} get pvc -o name | grep -E '/redis-enterprise-storage-{pattern}-[0-9]+$' | \
             xargs -r kubectl -n {namespace} delete"
        ),
    };
    let secrets = Residue {
        namespace: namespace.clone(),
        kind: "Secret".to_owned(),
        name: name.clone(),
        holds:
            "passwords and certificates of the REC; no peer believes the certificates for a database without it"
                .to_owned(),
        remove: format!("kubectl -n {namespace} delete secret -l {CLUSTER}={name}"),
    };
    [
        (Step::Cluster, cluster),
        (Step::Volumes, volumes),
        (Step::Secrets, secrets),
    ]
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
