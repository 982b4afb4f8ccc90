//! Writes the local side of a database: its Secret, its entry among the users, its topology.
//!
//! Order: the password before the topology, so that no shard ever starts without its access list; and what is to be
//! remembered before the topology that it is about, so that a crash in between never loses a place.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt as _, api::ObjectMeta};
use meridian_api::crds::DatabaseTopology;
use serde_json::json;

use super::{
    ServeError,
    fetch::{self, Credential, World},
};
use crate::{
    controllers::{
        Context,
        secrets::{password_hash, value},
        topology::{self, Change, Memory, Wanted},
    },
    k8s::{
        apply::{ApplyError, Object, Objects},
        names::ClusterNames,
        own::{MEMORY, Owner, Ownership},
    },
};

/// The Secret of a database that we write. Pure.
#[must_use]
pub(crate) fn secret(
    owner: &Owner,
    namespace: &str,
    name: &str,
    password: &[u8],
    port: Option<i32>,
    services: &[String],
) -> Secret {
    let mut data = BTreeMap::from([("password".to_owned(), ByteString(password.to_vec()))]);
    if let Some(port) = port {
        data.insert("port".to_owned(), ByteString(port.to_string().into_bytes()));
        data.insert(
            "service_names".to_owned(),
            ByteString(services.join(",").into_bytes()),
        );
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(owner.labels()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Writes the database's Secret if it is ours.
///
/// # Errors
/// The name is taken, or the API server refused or could not be reached.
pub(crate) async fn password(
    objects: &Objects,
    owner: &Owner,
    credential: &Credential,
    world: &World,
) -> Result<(), ApplyError> {
    let Credential::Ours {
        secret: name,
        password,
    } = credential
    else {
        return Ok(());
    };
    let port = world
        .topology
        .existing
        .as_ref()
        .map(|topology| topology.spec.port);
    let services: Vec<String> = world
        .services
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect();
    let wanted = secret(owner, objects.namespace(), name, password, port, &services);
    objects.ensure(&wanted, owner).await.map(|_| ())
}

/// Makes the entry of `database` in the users Secret of the REC say `password`; `None` removes it.
///
/// # Errors
/// [`ServeError::NoUsers`]: the REC's controller has not made the Secret yet.
pub(crate) async fn users_entry(
    objects: &Objects,
    rec: &str,
    database: &str,
    password: Option<&[u8]>,
) -> Result<(), ServeError> {
    let name = ClusterNames(rec).users();
    let found = objects.get::<Secret>(&name).await?;
    let Ownership::Ours { .. } =
        Owner::cluster(rec).judge(found.as_ref().map(|secret| &secret.metadata))
    else {
        return if password.is_none() {
            Ok(())
        } else {
            Err(ServeError::NoUsers(name))
        };
    };
    let Some(found) = found else {
        return Err(ServeError::NoUsers(name));
    };
    let wanted = password.map(password_hash);
    if value(&found, database) == wanted.as_deref().map(str::as_bytes) {
        return Ok(());
    }
    let entry = wanted.map(|hash| ByteString(hash.into_bytes()));
    objects
        .merge(&found, json!({ "data": { database: entry } }))
        .await?;
    Ok(())
}

/// Makes the topology of `database` say what is wanted, and returns it as it stands then.
///
/// # Errors
/// There is nothing that may be written now, or the API server refused or could not be reached.
pub(crate) async fn topology<K: Object>(
    context: &Context,
    database: &K,
    wanted: &Wanted,
    world: &World,
    has_served: bool,
) -> Result<DatabaseTopology, ServeError> {
    let objects = &context.objects;
    let mut found = world.topology.clone();
    found.has_served = has_served;
    if found.existing.is_some() {
        return write(objects, database, topology::decide(wanted, &found)?).await;
    }
    // Places and ports are chosen one at a time, from what stands in the API now.
    let alone = context.allocation.lock().await;
    let world = fetch::world(
        objects,
        &wanted.cluster,
        &wanted.database.name,
        database.meta(),
    )
    .await?;
    let found = topology::Found {
        has_served,
        ..world.topology
    };
    let written = write(objects, database, topology::decide(wanted, &found)?).await;
    drop(alone);
    written
}

async fn write<K: Object>(
    objects: &Objects,
    database: &K,
    change: Change,
) -> Result<DatabaseTopology, ServeError> {
    match change {
        Change::Keep(topology) => {
            remember(objects, database, Memory::of(&topology.spec)).await?;
            Ok(*topology)
        }
        Change::Swap(topology) => {
            remember(objects, database, Memory::of(&topology.spec)).await?;
            Ok(objects.swap(topology.as_ref()).await?)
        }
        Change::Create {
            topology,
            memory,
            rebuilt,
        } => {
            if rebuilt {
                let (name, epoch, primary) = (database.name_any(), memory.epoch, &memory.primary);
                tracing::warn!(
                    name,
                    epoch,
                    primary,
                    "a lost DatabaseTopology is built again where the data is"
                );
            }
            remember(objects, database, Some(memory)).await?;
            Ok(objects.create(topology.as_ref()).await?)
        }
    }
}

/// Writes on the database object where its primary is.
///
/// # Errors
/// The API server refused or could not be reached, or the object was replaced.
pub(crate) async fn remember<K: Object>(
    objects: &Objects,
    database: &K,
    memory: Option<Memory>,
) -> Result<(), ApplyError> {
    if memory.is_none() || Memory::read(database.meta()) == memory {
        return Ok(());
    }
    let text = serde_json::to_string(&memory).map_err(|source| ApplyError::Encode {
        kind: K::kind(&()).into_owned(),
        name: database.name_any(),
        source,
    })?;
    let patch = json!({ "metadata": { "annotations": { MEMORY: text } } });
    objects.merge(database, patch).await.map(|_| ())
}
