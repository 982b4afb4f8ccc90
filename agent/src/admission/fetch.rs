//! What is around an object that is judged: read anew for each review, so that it is as true as the API server.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt as _, api::ListParams, core::DeserializeGuard};
use meridian_api::{
    crds::{
        DatabaseTopology, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster,
        RedisEnterpriseDatabase, RedisEnterpriseRemoteCluster, shared::ClusterReference,
    },
    validate::{self, Neighbour, Place, Surroundings},
    version::Bundle,
};

use super::{
    judge::{ACTIVE_ACTIVE, Around, DATABASE, REMOTE_CLUSTER},
    review::Request,
};
use crate::k8s::apply::{ApplyError, Object, Objects};

/// The Secrets of which one exists where an agent has joined a hub, or is about to.
const JOINED: [&str; 2] = ["meridian-identity", "meridian-join"];

/// Objects of one kind.
struct Found<K> {
    /// Those that can be read.
    readable: Vec<K>,
    /// Places of the others.
    unreadable: Vec<Place>,
}

/// Looks around for the request.
pub(super) async fn around(objects: &Objects, request: &Request) -> Result<Around, ApplyError> {
    match (request.kind.kind.as_str(), request.operation.as_str()) {
        (DATABASE | ACTIVE_ACTIVE, "CREATE" | "UPDATE") => Ok(Around {
            surroundings: surroundings(objects, request).await?,
            users: Vec::new(),
        }),
        (REMOTE_CLUSTER, "DELETE") => Ok(Around {
            surroundings: Surroundings::default(),
            users: users(objects, &request.name).await?,
        }),
        (_, _) => Ok(Around::default()),
    }
}

async fn surroundings(objects: &Objects, request: &Request) -> Result<Surroundings, ApplyError> {
    let (databases, active_active, topologies, clusters) = tokio::try_join!(
        list::<RedisEnterpriseDatabase>(objects),
        list::<RedisEnterpriseActiveActiveDatabase>(objects),
        list::<DatabaseTopology>(objects),
        list::<RedisEnterpriseCluster>(objects),
    )?;
    let ports = given_ports(&topologies.readable);
    let mut around = Surroundings {
        databases: neighbours(&databases, &active_active, &ports),
        gives_roles: clusters
            .readable
            .iter()
            .map(|rec| (rec.name_any(), rec.spec.gives_roles()))
            .collect(),
        bundles: clusters
            .readable
            .iter()
            .map(|rec| {
                let shown = rec
                    .status
                    .as_ref()
                    .map(|s| s.bundled_database_versions.as_slice());
                (rec.name_any(), Bundle::shown(shown.unwrap_or_default()))
            })
            .collect(),
        own_modules: clusters
            .readable
            .iter()
            .flat_map(|rec| &rec.spec.user_defined_modules)
            .map(|module| module.name.clone())
            .collect(),
        ..Surroundings::default()
    };
    if request.kind.kind == ACTIVE_ACTIVE {
        let remotes = list::<RedisEnterpriseRemoteCluster>(objects).await?;
        around.remote_clusters = remote_clusters(&remotes);
        let named: BTreeSet<String> = secrets_named(request).collect();
        around.secrets = existing(objects, named.iter().map(String::as_str)).await?;
        around.joined = !existing(objects, JOINED.into_iter()).await?.is_empty();
    }
    Ok(around)
}

/// Active-Active databases that list the remote cluster. One that cannot be read may list it.
async fn users(objects: &Objects, remote: &str) -> Result<Vec<Place>, ApplyError> {
    let found = list::<RedisEnterpriseActiveActiveDatabase>(objects).await?;
    let lists = |database: &&RedisEnterpriseActiveActiveDatabase| {
        let participants = &database.spec.participating_clusters;
        participants
            .iter()
            .any(|participant| participant.name == remote)
    };
    let users = found.readable.iter().filter(lists);
    Ok(users
        .map(|database| place(ACTIVE_ACTIVE, &database.metadata))
        .chain(found.unreadable)
        .collect())
}

async fn list<K: Object>(objects: &Objects) -> Result<Found<K>, ApplyError> {
    let listed = objects
        .api::<DeserializeGuard<K>>()
        .list(&ListParams::default())
        .await
        .map_err(|source| ApplyError::Api {
            verb: "list",
            kind: K::kind(&()).into_owned(),
            name: String::new(),
            source: Box::new(source),
        })?;
    let mut found = Found {
        readable: Vec::new(),
        unreadable: Vec::new(),
    };
    for guard in listed.items {
        match guard.0 {
            Ok(object) => found.readable.push(object),
            Err(invalid) => found
                .unreadable
                .push(place(&K::kind(&()), &invalid.metadata)),
        }
    }
    Ok(found)
}

fn place(kind: &str, meta: &kube::api::ObjectMeta) -> Place {
    Place {
        kind: kind.to_owned(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

/// Ports that databases were given, with the RECs that serve them.
fn given_ports(topologies: &[DatabaseTopology]) -> BTreeMap<Place, (String, i64)> {
    topologies
        .iter()
        .map(|topology| {
            let of = &topology.spec.database;
            let place = Place {
                kind: of.kind.clone(),
                namespace: of.namespace.clone(),
                name: of.name.clone(),
            };
            let serves = (topology.spec.cluster.clone(), i64::from(topology.spec.port));
            (place, serves)
        })
        .collect()
}

fn neighbours(
    databases: &Found<RedisEnterpriseDatabase>,
    active_active: &Found<RedisEnterpriseActiveActiveDatabase>,
    given: &BTreeMap<Place, (String, i64)>,
) -> Vec<Neighbour> {
    let neighbour = |place: Place, named: Option<&ClusterReference>, asked: Option<i64>| {
        let served = given.get(&place);
        let named = named.map(|cluster| cluster.name.clone());
        let cluster = served.map(|(cluster, _)| cluster.clone()).or(named);
        let ports = served.map(|(_, port)| *port).into_iter().chain(asked);
        Neighbour {
            cluster: cluster.filter(|name| !name.is_empty()),
            ports: ports.collect(),
            place,
        }
    };
    let mut all = Vec::new();
    for database in &databases.readable {
        let spec = &database.spec;
        all.push(neighbour(
            place(DATABASE, &database.metadata),
            spec.redis_enterprise_cluster.as_ref(),
            spec.database_port,
        ));
    }
    for database in &active_active.readable {
        let spec = &database.spec;
        let settings = spec.global_configurations.as_ref();
        all.push(neighbour(
            place(ACTIVE_ACTIVE, &database.metadata),
            spec.redis_enterprise_cluster.as_ref(),
            settings.and_then(|settings| settings.database_port),
        ));
    }
    // Those of other namespaces are known by what they were given.
    let listed: BTreeSet<Place> = all.iter().map(|other| other.place.clone()).collect();
    let elsewhere = given.keys().filter(|place| !listed.contains(*place));
    all.extend(elsewhere.map(|place| neighbour(place.clone(), None, None)));
    // What cannot be read has a name all the same.
    let unreadable = databases.unreadable.iter().chain(&active_active.unreadable);
    all.extend(unreadable.map(|place| neighbour(place.clone(), None, None)));
    all
}

fn remote_clusters(found: &Found<RedisEnterpriseRemoteCluster>) -> BTreeMap<String, bool> {
    let local = |remote: &RedisEnterpriseRemoteCluster| {
        let status = remote.status.as_ref();
        status.and_then(|status| status.local).unwrap_or(false)
    };
    let readable = found.readable.iter();
    let unreadable = found.unreadable.iter();
    readable
        .map(|remote| (remote.name_any(), local(remote)))
        .chain(unreadable.map(|place| (place.name.clone(), false)))
        .collect()
}

/// Names of the Secrets that the object names; none if it cannot be read, which is refused anyway.
fn secrets_named(request: &Request) -> impl Iterator<Item = String> {
    let object: Option<RedisEnterpriseActiveActiveDatabase> =
        serde_json::from_value(request.object.clone()).ok();
    let settings = object.and_then(|object| object.spec.global_configurations);
    let named = settings.map(|settings| validate::secrets_named("", &settings));
    named.unwrap_or_default().into_iter().map(|(_, name)| name)
}

async fn existing(
    objects: &Objects,
    names: impl Iterator<Item = &str>,
) -> Result<BTreeSet<String>, ApplyError> {
    let mut exist = BTreeSet::new();
    for name in names {
        let found = objects.api::<Secret>().get_metadata_opt(name).await;
        let found = found.map_err(|source| ApplyError::Api {
            verb: "get",
            kind: "Secret".to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        if found.is_some() {
            exist.insert(name.to_owned());
        }
    }
    Ok(exist)
}
