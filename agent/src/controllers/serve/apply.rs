//! Writes the local side of a database: its Secret, its entry among the users, its topology.
//!
//! Order: the password before the topology, so that no shard ever starts without its access list; and what is to be
//! remembered before the topology that it is about, so that a crash in between never loses a place.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{ResourceExt as _, api::ObjectMeta};
use meridian_api::{access::Entry, crds::DatabaseTopology};
use serde_json::json;

use super::{
    ServeError,
    access::Access,
    fetch::{self, Credential, World},
};
use crate::{
    controllers::{
        Context,
        ledger::{Claim, Want},
        secrets::value,
        topology::{self, Change, Memory, Wanted},
    },
    k8s::{
        apply::{ApplyError, Object, Objects},
        fault::Fault,
        names::{ClusterNames, DatabaseNames},
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
async fn password(
    objects: &Objects,
    owner: &Owner,
    credential: &Credential,
    world: &World,
) -> Result<(), ApplyError> {
    let (name, password) = match credential {
        Credential::Ours { secret, password } => (secret, password),
        Credential::Theirs { .. } => return Ok(()),
        Credential::NoUser => {
            let name = DatabaseNames(
                owner
                    .database
                    .as_ref()
                    .map_or("", |database| database.name.as_str()),
            )
            .secret();
            return objects.remove::<Secret>(&name, owner).await.map(drop);
        }
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
    let found = objects.get::<Secret>(name).await?;
    if found.as_ref().is_some_and(|found| says(found, &wanted)) {
        return Ok(());
    }
    let written = objects.ensure_over(&wanted, found.as_ref(), owner).await;
    written.map(|_| ())
}

/// Whether the Secret says what is wanted: then it is not written again.
fn says(found: &Secret, wanted: &Secret) -> bool {
    let mut labels = wanted.labels().iter();
    found.data == wanted.data
        && found.type_ == wanted.type_
        && labels.all(|(key, value)| found.labels().get(key) == Some(value))
}

/// Makes the keys of `database` in the users Secret of the REC say `entry`; `None` removes them.
///
/// # Errors
/// [`ServeError::NoUsers`]: the REC's controller has not made the Secret yet.
pub(super) async fn users_entry(
    objects: &Objects,
    rec: &str,
    database: &str,
    entry: Option<&Entry>,
) -> Result<(), ServeError> {
    let name = ClusterNames(rec).users();
    let found = objects.get::<Secret>(&name).await?;
    let Ownership::Ours { .. } =
        Owner::cluster(rec).judge(found.as_ref().map(|secret| &secret.metadata))
    else {
        return if entry.is_none() {
            Ok(())
        } else {
            Err(ServeError::NoUsers(name))
        };
    };
    let Some(found) = found else {
        return Err(ServeError::NoUsers(name));
    };
    let wanted = [
        (database.to_owned(), entry.map(|e| e.login.clone())),
        (
            Entry::users_key(database),
            entry
                .map(|e| e.users.clone())
                .filter(|users| !users.is_empty()),
        ),
        (
            Entry::certificates_key(database),
            entry
                .map(|e| e.certificates.clone())
                .filter(|certificates| !certificates.is_empty()),
        ),
    ];
    let is_there = |(key, text): &(String, Option<String>)| {
        value(&found, key) == text.as_deref().map(str::as_bytes)
    };
    if wanted.iter().all(is_there) {
        return Ok(());
    }
    // In one write: nobody ever sees the users of one moment beside the password of another.
    let bytes = wanted.map(|(key, text)| (key, text.map(|text| ByteString(text.into_bytes()))));
    let data = BTreeMap::from(bytes);
    objects.merge(&found, json!({ "data": data })).await?;
    Ok(())
}

/// What is to be written for a database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local<'a> {
    /// Whose objects these are.
    pub owner: &'a Owner,
    /// What its topology is to say.
    pub wanted: &'a Wanted,
    /// Its password.
    pub credential: &'a Credential,
    /// Who may log in.
    pub access: &'a Access,
    /// Whether its status says that it has been served before.
    pub has_served: bool,
}

/// Writes the local side of `database`, and returns its topology as it stands then. Nothing is written for one that is
/// refused: not even a password, which would be another's from then on where that has its name, or gets it.
///
/// # Errors
/// There is nothing that may be written now, or the API server refused or could not be reached.
pub(crate) async fn local<K: Object>(
    context: &Context,
    database: &K,
    local: &Local<'_>,
    world: &World,
) -> Result<DatabaseTopology, ServeError> {
    let objects = &context.objects;
    let found = topology::Found {
        has_served: local.has_served,
        ..world.topology.clone()
    };
    let named = &local.wanted.database;
    let own = |existing| topology::is_of(existing, &named.kind, &named.namespace);
    if found.existing.as_ref().is_some_and(own) {
        let change = topology::decide(local.wanted, &found)?;
        return everything(objects, database, local, world, change).await;
    }
    let (change, world, claim) = choose(context, local, world, found).await?;
    let written = everything(objects, database, local, &world, change).await;
    drop(claim);
    written
}

type Chosen = (Change, World, Option<Claim>);

/// Chooses name, place and port of a database that has no topology. They are given out one at a time, from what stands in
/// the API now and what is being written; to write them takes longer, and nobody waits for that.
async fn choose(
    context: &Context,
    local: &Local<'_>,
    world: &World,
    before: topology::Found,
) -> Result<Chosen, ServeError> {
    let objects = &context.objects;
    let Wanted {
        cluster,
        database: named,
        ..
    } = local.wanted;
    let turn = context.ledger.turn().await;
    let refused = &context.ledger.refused;
    // Before anything is read: what is given back later wakes it.
    refused.waits(named, cluster, Some(Want::Anything));
    let (existing, nodes) = tokio::try_join!(
        objects.get::<DatabaseTopology>(&named.name),
        fetch::nodes(objects, cluster)
    )?;
    let mut found = topology::Found {
        existing,
        nodes,
        ..before
    };
    let mut known = false;
    if found.existing.is_none() {
        (found.others, known) = turn.others(objects, cluster, &named.name).await?;
    }
    let mut change = topology::decide(local.wanted, &found);
    if change.is_err() && known {
        // What is refused is refused by what stands there now.
        turn.forget();
        (found.others, _) = turn.others(objects, cluster, &named.name).await?;
        change = topology::decide(local.wanted, &found);
    }
    refused.waits(named, cluster, change.as_ref().err().and_then(Want::of));
    let change = change?;
    let claim = match &change {
        Change::Create { topology, .. } => Some(turn.claim(named, topology)?),
        Change::Keep(_) | Change::Swap(_) => None,
    };
    let world = World {
        topology: found,
        ..world.clone()
    };
    Ok((change, world, claim))
}

async fn everything<K: Object>(
    objects: &Objects,
    database: &K,
    local: &Local<'_>,
    world: &World,
    change: Change,
) -> Result<DatabaseTopology, ServeError> {
    let Local {
        owner,
        wanted,
        credential,
        access,
        has_served: _,
    } = *local;
    let named = &wanted.database;
    password(&objects.within(&named.namespace), owner, credential, world).await?;
    let entry = Some(&access.entry);
    users_entry(objects, &wanted.cluster, &named.name, entry).await?;
    write(objects, database, change).await
}

async fn write<K: Object>(
    objects: &Objects,
    database: &K,
    change: Change,
) -> Result<DatabaseTopology, ServeError> {
    match change {
        Change::Keep(topology) => {
            let standing = Memory::standing(&topology);
            remember(objects, database, standing, Memory::instead_of).await?;
            Ok(*topology)
        }
        Change::Swap(topology) => {
            remember(
                objects,
                database,
                Memory::ordered(&topology),
                Memory::beside,
            )
            .await?;
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
            remember(objects, database, Some(memory), Memory::instead_of).await?;
            Ok(objects.create(topology.as_ref()).await?)
        }
    }
}

/// How often a memory is judged again where somebody writes to the database all the time.
const ATTEMPTS: usize = 4;

/// Writes on the database object where its primary is, if `over` says so of what stands there. `database` may be an older
/// state of the object: what was judged is what is written over.
///
/// # Errors
/// The API server refused or could not be reached, or the object was replaced.
pub(crate) async fn remember<K: Object>(
    objects: &Objects,
    database: &K,
    memory: Option<Memory>,
    over: fn(Memory, Option<&Memory>) -> Option<Memory>,
) -> Result<(), ApplyError> {
    let Some(memory) = memory else {
        return Ok(());
    };
    let mut found = database.clone();
    for attempt in 1.. {
        let known = Memory::read(found.meta());
        let Some(wanted) = over(memory.clone(), known.as_ref()) else {
            return Ok(());
        };
        let written = put(objects, &found, &wanted).await;
        let Err(error) = written else { return Ok(()) };
        if error.fault() != Fault::Conflict || attempt >= ATTEMPTS {
            return Err(error);
        }
        let namespace = database.namespace().unwrap_or_default();
        let own = objects.within(&namespace);
        found = match own.get::<K>(&database.name_any()).await? {
            Some(newer) if newer.uid() == database.uid() => newer,
            Some(_) | None => return Err(error),
        };
    }
    Ok(())
}

/// Writes `memory` over the very state of the database that was read.
async fn put<K: Object>(
    objects: &Objects,
    database: &K,
    memory: &Memory,
) -> Result<(), ApplyError> {
    let text = serde_json::to_string(memory).map_err(|source| ApplyError::Encode {
        kind: K::kind(&()).into_owned(),
        name: database.name_any(),
        source,
    })?;
    let version = database.resource_version();
    let patch =
        json!({ "metadata": { "annotations": { MEMORY: text }, "resourceVersion": version } });
    objects.merge(database, patch).await.map(|_| ())
}

#[cfg(test)]
mod tests;
