//! Everything that a look at a REC reads, in one place, before anything is decided.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use meridian_api::crds::{
    ActiveActiveInstance, DatabaseTopology, RedisEnterpriseActiveActiveDatabase,
    RedisEnterpriseCluster, RedisEnterpriseDatabase,
};

use super::{
    certificates::{self, Before, Certificates, Given, Place},
    internal::{self, Internal, InternalError},
    login::{self, Administrator, ApiSecret},
    validate::{Cluster, Credentials as Wanted},
};
use crate::{
    controllers::{
        secrets::{NoRandomness, fresh_password, value},
        served_by,
    },
    k8s::{
        apply::{ApplyError, Objects},
        names::ClusterNames,
        own::{Owner, Ownership},
    },
};

/// Where the administrator's credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A Secret that a person made and named in the spec: used as it is, never written. What it lacks, if anything.
    Theirs(Result<Administrator, String>),
    /// In the Secret that we make: the password it has, or a fresh one.
    Ours(Administrator),
}

impl Credentials {
    /// Who may log in, if that is known.
    pub(super) fn administrator(&self) -> Option<&Administrator> {
        match self {
            Self::Theirs(read) => read.as_ref().ok(),
            Self::Ours(administrator) => Some(administrator),
        }
    }
}

/// Reads the administrator's credentials, or draws a password.
///
/// # Errors
/// The API server refused or could not be reached; or there is no randomness.
pub(super) async fn credentials(
    objects: &Objects,
    rec: &str,
    wanted: &Wanted,
) -> Result<Credentials, FetchError> {
    let existing = objects.get::<Secret>(&wanted.secret).await?;
    let ownership = Owner::cluster(rec).judge(existing.as_ref().map(|secret| &secret.metadata));
    if let Some(theirs) = &existing
        && wanted.named
        && matches!(ownership, Ownership::Foreign { .. })
    {
        return Ok(Credentials::Theirs(Administrator::read(theirs)));
    }
    let kept = existing
        .as_ref()
        .and_then(|secret| value(secret, "password"));
    let password = match kept.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()) {
        Some(kept) => kept,
        None => fresh_password()?,
    };
    Ok(Credentials::Ours(Administrator {
        username: wanted.username.clone(),
        password,
        origin: existing.as_ref().map(login::origin).unwrap_or_default(),
    }))
}

/// Decides what the nodes learn for their API.
///
/// # Errors
/// The API server refused or could not be reached; or there is no randomness.
pub(super) async fn api(
    objects: &Objects,
    cluster: &Cluster,
    administrator: Option<&Administrator>,
) -> Result<ApiSecret, FetchError> {
    let name = ClusterNames(&cluster.name).api();
    let before = objects.get::<Secret>(&name).await?;
    let (cluster, administrator) = (cluster.clone(), administrator.cloned());
    // Hashing a password takes a processor for a good part of a second.
    let decided = tokio::task::spawn_blocking(move || {
        login::decide(&cluster, before.as_ref(), administrator.as_ref())
    });
    Ok(decided.await.map_err(|_| FetchError::Interrupted)??)
}

/// Reads, makes or renews what the nodes of the REC trust each other by.
///
/// # Errors
/// The API server refused or could not be reached; or the material could not be made.
pub(super) async fn internal(
    objects: &Objects,
    cluster: &Cluster,
    now: jiff::Timestamp,
) -> Result<Internal, FetchError> {
    let secret = ClusterNames(&cluster.name).internal();
    let existing = objects.get::<Secret>(&secret).await?;
    let place = internal::Place {
        name: &cluster.name,
        namespace: &cluster.namespace,
    };
    let Some(existing) = existing else {
        return Ok(Internal::fresh(place, now)?);
    };
    let held = Internal::of(&existing);
    let taken_over = held.is_changing() && {
        let topologies = objects.list::<DatabaseTopology>("").await?;
        internal::is_taken_over(&topologies, &cluster.name, &held.digest())
    };
    let order = internal::order(&existing);
    let next = held.clone().next(place, order, taken_over, now)?;
    if next != held {
        let entries = next.data().keys().cloned().collect::<Vec<_>>().join(",");
        tracing::info!(
            secret,
            entries,
            "what the nodes trust each other by goes a step on"
        );
    }
    Ok(next)
}

/// Decides which certificates the REC shows, by our Secret and those that the spec names. `shown` is the generation in the
/// REC's status.
///
/// # Errors
/// The API server refused or could not be reached; or a certificate could not be made.
pub(super) async fn certificates(
    objects: &Objects,
    cluster: &Cluster,
    shown: Option<i64>,
    now: jiff::Timestamp,
) -> Result<Certificates, FetchError> {
    let ours = ClusterNames(&cluster.name).tls();
    let ours = objects.get::<Secret>(&ours).await?;
    let mut given = BTreeMap::new();
    for (role, secret) in &cluster.certificates {
        let found = objects.get::<Secret>(secret).await?;
        let secret = secret.clone();
        given.insert(*role, Given { secret, found });
    }
    let mut idle = BTreeMap::new();
    for (what, secret) in &cluster.idle_certificates {
        let found = objects.get::<Secret>(secret).await?;
        let secret = secret.clone();
        idle.insert(*what, Given { secret, found });
    }
    let outside = cluster.outside.as_ref();
    let place = Place {
        name: &cluster.name,
        namespace: &cluster.namespace,
        api_host: outside.map(|(host, _)| host.as_str()),
        database_suffix: outside.map(|(_, suffix)| suffix.as_str()),
    };
    let before = Before {
        ours: ours.as_ref(),
        given: &given,
        idle: &idle,
        shown,
    };
    certificates::decide(&place, &before, now).map_err(FetchError::Certificates)
}

/// Ports at which peers look for the Active-Active databases of the REC `name`.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn peer_ports(objects: &Objects, name: &str) -> Result<BTreeSet<u16>, ApplyError> {
    let instances = objects.list::<ActiveActiveInstance>("").await?;
    Ok(ports_of(&instances, name))
}

/// The ports of this cluster's own endpoints: a participant's `externalReplicationPort`, or the usual one.
fn ports_of(instances: &[ActiveActiveInstance], rec: &str) -> BTreeSet<u16> {
    let here = instances.iter().filter(|one| one.spec.cluster == rec);
    let own = here.flat_map(|one| {
        let members = one.spec.members.iter();
        members.filter(|member| member.instance_id == one.spec.instance_id)
    });
    own.filter_map(|member| member.endpoint.rsplit_once(':')?.1.parse().ok())
        .collect()
}

/// The databases that the REC `name` serves, as `kind/name`: while there are any, it cannot go.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn databases(objects: &Objects, name: &str) -> Result<Vec<String>, ApplyError> {
    let only = objects.names::<RedisEnterpriseCluster>().await?.len() == 1;
    let mut all = Vec::new();
    let mut unread = BTreeSet::new();
    let own = objects.list::<RedisEnterpriseDatabase>("").await?;
    for found in objects.names::<RedisEnterpriseDatabase>().await? {
        match own.iter().find(|database| database.name_any() == found) {
            Some(redb) => {
                if served_by(redb.spec.redis_enterprise_cluster.as_ref(), name, only) {
                    all.push(format!("redb/{found}"));
                }
            }
            None => drop(unread.insert(format!("redb/{found}"))),
        }
    }
    let own = objects
        .list::<RedisEnterpriseActiveActiveDatabase>("")
        .await?;
    for found in objects
        .names::<RedisEnterpriseActiveActiveDatabase>()
        .await?
    {
        match own.iter().find(|database| database.name_any() == found) {
            Some(reaadb) => {
                if served_by(reaadb.spec.redis_enterprise_cluster.as_ref(), name, only) {
                    all.push(format!("reaadb/{found}"));
                }
            }
            None => drop(unread.insert(format!("reaadb/{found}"))),
        }
    }
    // Those of other namespaces, and those that cannot be read, are known by what they were given.
    for topology in objects.list::<DatabaseTopology>("").await? {
        let of = &topology.spec.database;
        if topology.spec.cluster != name {
            continue;
        }
        if of.namespace != objects.namespace() {
            all.push(format!("redb/{}/{}", of.namespace, of.name));
            continue;
        }
        let word = if of.kind == "RedisEnterpriseDatabase" {
            "redb"
        } else {
            "reaadb"
        };
        all.extend(unread.take(&format!("{word}/{}", of.name)));
    }
    Ok(all)
}

/// Why the world could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApplyError),
    /// The random generator.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// What the nodes trust each other by.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// The agent stops.
    #[error("the agent stops while it hashes a password")]
    Interrupted,
    /// What the nodes show to people and clients.
    #[error("make a self-signed certificate of the cluster")]
    Certificates(#[source] rcgen::Error),
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::testing::{answer, objects};

    fn list(items: &[Value]) -> (u16, Value) {
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
        (200, list)
    }

    #[test]
    fn peers_find_the_databases_of_a_cluster_at_the_ports_of_its_own_participants() {
        let instance = |cluster: &str, own: i64, endpoints: [&str; 2]| -> ActiveActiveInstance {
            let members = endpoints.iter().zip(1..).map(|(endpoint, id)| {
                json!({"instanceId": id, "name": "r", "clusterUid": "u", "endpoint": endpoint})
            });
            serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {
                "guid": "g", "objectId": "o", "instanceId": own, "configVersion": 1, "planNumber": 1, "hubTerm": 1,
                "storeId": "s", "database": {"namespace": "ns", "name": "db"}, "cluster": cluster,
                "members": members.collect::<Vec<_>>()}}))
            .unwrap()
        };
        let all = [
            instance("rec", 1, ["10.0.0.1:9443", "10.0.0.2:7443"]),
            instance("rec", 2, ["10.0.0.2:443", "[fd00::1]:8443"]),
            instance("rec", 1, ["", "10.0.0.2:7443"]),
            instance("other", 1, ["10.0.0.3:6443", ""]),
        ];
        assert_eq!(ports_of(&all, "rec"), BTreeSet::from([8443, 9443]));
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_read_keeps_its_cluster_as_well() {
        let named = |name: &str| json!({"metadata": {"name": name}});
        let redb = |name: &str, spec: Value| {
            json!({"apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseDatabase",
                   "metadata": {"name": name}, "spec": spec})
        };
        let topology = |name: &str, namespace: &str, cluster: &str| {
            json!({"metadata": {"name": name}, "spec": {
                "database": {"kind": "RedisEnterpriseDatabase", "namespace": namespace, "name": name, "uid": "u"},
                "cluster": cluster, "epoch": 1, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                "persistence": "disabled", "replication": false, "shards": []}})
        };
        let (objects, server) = objects();
        let asked = tokio::spawn(answer(
            server,
            vec![
                list(&[named("rec"), named("other")]),
                list(&[
                    redb("a", json!({"redisEnterpriseCluster": {"name": "rec"}})),
                    redb("broken", json!({"memorySize": 5})),
                    redb("elsewhere", json!({"memorySize": 5})),
                ]),
                list(&[named("a"), named("broken"), named("elsewhere")]),
                list(&[]),
                list(&[]),
                list(&[
                    topology("a", "ns", "rec"),
                    topology("broken", "ns", "rec"),
                    topology("elsewhere", "ns", "other"),
                    topology("gone", "ns", "rec"),
                    topology("c", "team", "rec"),
                ]),
            ],
        ));
        let found = databases(&objects, "rec").await.unwrap();
        drop(objects);
        assert_eq!(found, ["redb/a", "redb/broken", "redb/team/c"]);
        assert_eq!(asked.await.unwrap().len(), 6);
    }
}
