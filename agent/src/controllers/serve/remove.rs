//! The last step of a confirmed deletion: the shards are stopped, then everything that was made for a database goes,
//! except its files on the volume.
//!
//! The order is what makes it safe to interrupt: first an order to run nothing, then the wait for every node's word, then
//! the topology, then what led to it. Each step finds in the API how far the one before it came.

use std::collections::BTreeMap;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, Secret, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{Resource, ResourceExt as _, api::ObjectMeta};
use meridian_api::crds::DatabaseTopology;

use super::{
    ServeError,
    apply::users_entry,
    stop::{self, Stop},
};
use crate::{
    controllers::topology::{Memory, is_of},
    k8s::{
        apply::{ApplyError, Object, Objects},
        conditions::Finding,
        drive::Failure as _,
        names::makes,
        own::{CLUSTER, Owner, made_for},
    },
};

/// How far a removal has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The shards are being stopped; by node, what is waited for. Empty: the order has just been written.
    Stopping(BTreeMap<String, String>),
    /// No shard runs; what was made is being deleted.
    Removing,
    /// Nothing is left: only now the database object may go.
    Done,
}

/// Takes the next step towards the end of `database`, which is of kind `kind` and is served by `rec`.
///
/// # Errors
/// The API server refused or could not be reached, or somebody wrote in between.
pub(crate) async fn step(
    objects: &Objects,
    rec: &str,
    kind: &str,
    database: &ObjectMeta,
) -> Result<Removal, ServeError> {
    let name = database.name.clone().unwrap_or_default();
    let namespace = database.namespace.as_deref().unwrap_or_default();
    let owner = Owner::database(rec, namespace, &name);
    let own = objects.within(namespace);
    let topology = objects.get::<DatabaseTopology>(&name).await?;
    if let Some(topology) = &topology {
        if !is_of(topology, kind, namespace) {
            // The name was taken when this database came: nothing was ever made for it.
            return Ok(Removal::Done);
        }
        if let Some(stopping) = stopping(objects, topology, &owner, database).await? {
            return Ok(Removal::Stopping(stopping));
        }
        objects.delete_exactly(topology).await?;
    }
    let mut any = all_of::<Service>(objects, &owner).await?;
    any |= all_of::<EndpointSlice>(objects, &owner).await?;
    any |= all_of::<Secret>(&own, &owner).await?;
    if namespace != objects.namespace() {
        any |= all_of::<Service>(&own, &owner).await?;
    }
    // The entry under the name is that of whoever was given a place under it.
    if topology.is_some() || Memory::read(database).is_some() {
        users_entry(objects, rec, &name, None).await?;
    }
    Ok(if topology.is_some() || any {
        Removal::Removing
    } else {
        Removal::Done
    })
}

/// The REC that served `database`, which is of kind `kind`, by what is left of what was made for it. `None`: nothing is.
///
/// # Errors
/// The API server refused or could not be reached.
pub(crate) async fn made_by(
    objects: &Objects,
    kind: &str,
    database: &ObjectMeta,
) -> Result<Option<String>, ApplyError> {
    let name = database.name.as_deref().unwrap_or_default();
    let namespace = database.namespace.as_deref().unwrap_or_default();
    if let Some(topology) = objects.get::<DatabaseTopology>(name).await? {
        let own = is_of(&topology, kind, namespace);
        return Ok(own.then_some(topology.spec.cluster));
    }
    let made = made_for(namespace, name);
    let own = objects.within(namespace);
    for found in [
        clusters::<Service>(objects, &made).await?,
        clusters::<EndpointSlice>(objects, &made).await?,
        clusters::<Secret>(&own, &made).await?,
        clusters::<Service>(&own, &made).await?,
    ] {
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The REC that one of the objects that `selector` finds was made for.
async fn clusters<K: Object>(
    objects: &Objects,
    selector: &str,
) -> Result<Option<String>, ApplyError> {
    let found = objects.list::<K>(selector).await?;
    Ok(found
        .iter()
        .find_map(|object| object.labels().get(CLUSTER).cloned()))
}

/// What the person sees of a step.
#[must_use]
pub(crate) fn finding(step: &Result<Removal, ServeError>) -> Finding {
    match step {
        Ok(Removal::Stopping(nodes)) => {
            let mut text =
                "the shards are being stopped; until they are, nothing is removed".to_owned();
            if !nodes.is_empty() {
                let list: Vec<_> = nodes
                    .iter()
                    .map(|(node, what)| format!("`{node}` {what}"))
                    .collect();
                text = format!(
                    "{text}. Waits for: {}. If a pod is away, bring it back",
                    list.join("; ")
                );
            }
            Finding::no("Ready", "StoppingShards", text)
        }
        Ok(Removal::Removing | Removal::Done) => Finding::no(
            "Ready",
            "Deleting",
            "no shard runs any more; what was made for the database is being removed; its volume stays",
        ),
        Err(error) => {
            let text = format!("the deletion is held up and tried again: {error}");
            Finding::no("Ready", error.fault().reason(), text)
        }
    }
}

/// Orders the shards to stop and looks who has not; `None`: none runs any more.
async fn stopping(
    objects: &Objects,
    topology: &DatabaseTopology,
    owner: &Owner,
    database: &ObjectMeta,
) -> Result<Option<BTreeMap<String, String>>, ApplyError> {
    let slices = objects.list::<EndpointSlice>(&owner.selector()).await?;
    let remembered: Vec<Memory> = std::iter::once(database)
        .chain(slices.iter().map(|slice| &slice.metadata))
        .filter_map(Memory::read)
        .collect();
    let mut open = match stop::decide(topology, &remembered) {
        Stop::Stopped => return Ok(None),
        Stop::Order(order) => {
            objects.swap(order.as_ref()).await?;
            return Ok(Some(BTreeMap::new()));
        }
        Stop::Wait(open) => open,
    };
    let names: Vec<String> = open.keys().cloned().collect();
    for pod in names {
        if is_gone(objects, &topology.spec.cluster, &pod).await? {
            open.remove(&pod);
        }
    }
    Ok(Some(open).filter(|open| !open.is_empty()))
}

/// Whether the pod is gone for good. One that its StatefulSet makes again would start its shards from its volume without
/// asking anybody, so it must hear the order first.
async fn is_gone(objects: &Objects, rec: &str, pod: &str) -> Result<bool, ApplyError> {
    if objects.get::<Pod>(pod).await?.is_some() {
        return Ok(false);
    }
    let set = objects.get::<StatefulSet>(rec).await?;
    Ok(!set.is_some_and(|set| makes(&set, pod)))
}

/// Removes every object of the kind that is the owner's; tells whether there was any.
async fn all_of<K>(objects: &Objects, owner: &Owner) -> Result<bool, ApplyError>
where
    K: Object + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let mut any = false;
    for object in objects.list::<K>(&owner.selector()).await? {
        any |= objects.remove::<K>(&object.name_any(), owner).await?;
    }
    Ok(any)
}

#[cfg(test)]
mod tests;
