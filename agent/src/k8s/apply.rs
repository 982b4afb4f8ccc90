//! Writing objects: every write first looks at what is there, asks [`Owner::judge`], and changes only what is ours.
//!
//! Objects are written by server-side apply under one field manager, so fields that others own stay theirs. A write to
//! an existing object carries the uid that was judged: an object that was replaced in between answers with a conflict.
//! A creation does not force, so an object that somebody else created in between answers with a conflict as well.

mod status;

use std::{collections::BTreeSet, fmt::Debug};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{
        DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
        PropagationPolicy,
    },
    core::{DeserializeGuard, PartialObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thiserror::Error;

use super::{
    events::Events,
    fault::Fault,
    own::{FIELD_MANAGER, Owner, Ownership},
    pruned::Pruned,
    theirs,
    told::Told,
};

/// A kind that the agent writes: namespaced, known at compile time.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
{
}

/// Why a read or write did not happen.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The name is taken by an object that is not ours. Nothing was changed.
    #[error(
        "{kind} `{name}` exists and is not ours (held by {holder}); nothing was changed. Delete or rename it, or \
         choose another name for this object"
    )]
    Foreign {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Who holds it.
        holder: String,
    },
    /// The name is taken by an object that the agent made for another database or cluster. Nothing was changed.
    #[error(
        "{kind} `{name}` exists and belongs to {holder}; nothing was changed. Choose another name for this object, or \
         delete {holder}"
    )]
    Taken {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// To whom it belongs.
        holder: String,
    },
    /// The API server refused or could not be reached.
    #[error("{verb} {kind} `{name}`: {source}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Its name, or the selector of a list.
        name: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// An object has no JSON form: a defect of the agent.
    #[error("write {kind} `{name}` as JSON")]
    Encode {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What serde said.
        source: serde_json::Error,
    },
}

impl ApplyError {
    /// The class of this error.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Foreign { .. } | Self::Taken { .. } => Fault::Foreign,
            Self::Api { source, .. } => Fault::of(source),
            Self::Encode { .. } => Fault::Invalid,
        }
    }

    fn api<K: Resource<DynamicType = ()>>(
        verb: &'static str,
        name: &str,
        source: kube::Error,
    ) -> Self {
        Self::Api {
            verb,
            kind: K::kind(&()).into_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        }
    }
}

/// Reads and writes the objects of one namespace. A change of an object that was read is made where that object is.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    namespace: String,
    told: Told,
    pruned: Pruned,
}

impl Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Objects {
    /// Objects of `namespace` through `client`.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            told: Told::default(),
            pruned: Pruned::default(),
        }
    }

    /// The same objects; what the installed definitions keep out of a status is told by `events`.
    #[must_use]
    pub fn telling(self, events: Events) -> Self {
        let pruned = Pruned::new(events);
        Self { pruned, ..self }
    }

    /// The objects of another namespace, through the same client.
    #[must_use]
    pub fn within(&self, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..self.clone()
        }
    }

    fn where_it_is<K: Object>(&self, target: &K) -> Api<K> {
        let namespace = target.meta().namespace.as_deref();
        Api::namespaced(self.client.clone(), namespace.unwrap_or(&self.namespace))
    }

    /// The client itself.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The typed API of one kind in this namespace.
    #[must_use]
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The newest state of one object, or `None` where it does not exist.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: the API server refused or could not be reached, or the object cannot be read as `K`.
    pub async fn get<K: Object>(&self, name: &str) -> Result<Option<K>, ApplyError> {
        self.api::<K>()
            .get_opt(name)
            .await
            .map_err(|source| ApplyError::api::<K>("get", name, source))
    }

    /// Every readable object of the kind that matches `selector` (empty: all). Unreadable ones are left out: they are
    /// reported where their own kind is reconciled, and must not blind the others.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: the API server refused or could not be reached.
    pub async fn list<K: Object>(&self, selector: &str) -> Result<Vec<K>, ApplyError> {
        let found = self
            .api::<DeserializeGuard<K>>()
            .list(&ListParams::default().labels(selector))
            .await
            .map_err(|source| ApplyError::api::<K>("list", selector, source))?;
        Ok(found
            .items
            .into_iter()
            .filter_map(|guard| guard.0.ok())
            .collect())
    }

    /// Names of all objects of the kind, readable or not.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: the API server refused or could not be reached.
    pub async fn names<K: Object>(&self) -> Result<BTreeSet<String>, ApplyError> {
        let found = self.api::<K>().list_metadata(&ListParams::default()).await;
        let found = found.map_err(|source| ApplyError::api::<K>("list", "", source))?;
        Ok(found
            .items
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect())
    }

    /// What exists under `name`, judged for `owner`.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: the API server refused or could not be reached.
    pub async fn ownership<K: Object>(
        &self,
        name: &str,
        owner: &Owner,
    ) -> Result<Ownership, ApplyError> {
        Ok(owner.judge(self.metadata::<K>(name).await?.as_ref()))
    }

    async fn metadata<K: Object>(&self, name: &str) -> Result<Option<ObjectMeta>, ApplyError> {
        let existing: Option<PartialObjectMeta<K>> =
            self.api::<K>()
                .get_metadata_opt(name)
                .await
                .map_err(|source| ApplyError::api::<K>("get", name, source))?;
        Ok(existing.map(|object| object.metadata))
    }

    /// Makes `desired` true: creates it, or applies it over the object of ours that exists. Annotations and labels that
    /// somebody else has set there stay.
    ///
    /// # Errors
    /// [`ApplyError::Foreign`]: the name is taken; nothing was changed. [`ApplyError::Api`]: refused or not reached.
    pub async fn ensure<K: Object>(&self, desired: &K, owner: &Owner) -> Result<K, ApplyError> {
        let existing = self.metadata::<K>(&desired.name_any()).await?;
        self.apply(desired, existing.as_ref(), owner).await
    }

    /// As [`Objects::ensure`], for a caller who has just read what exists: an object of ours that was read is not read
    /// again, and one that was replaced since answers with a conflict.
    ///
    /// # Errors
    /// As [`Objects::ensure`].
    pub async fn ensure_over<K: Object>(
        &self,
        desired: &K,
        existing: Option<&K>,
        owner: &Owner,
    ) -> Result<K, ApplyError> {
        let existing = existing.map(Resource::meta);
        match owner.judge(existing) {
            Ownership::Ours { uid: Some(_) } => self.apply(desired, existing, owner).await,
            Ownership::Absent | Ownership::Ours { .. } | Ownership::Foreign { .. } => {
                self.ensure(desired, owner).await
            }
        }
    }

    async fn apply<K: Object>(
        &self,
        desired: &K,
        existing: Option<&ObjectMeta>,
        owner: &Owner,
    ) -> Result<K, ApplyError> {
        let name = desired.name_any();
        let mut body = encode(desired)?;
        let params = match owner.judge(existing) {
            Ownership::Foreign { holder, ours } => return Err(foreign::<K>(&name, holder, ours)),
            Ownership::Absent => PatchParams::apply(FIELD_MANAGER),
            Ownership::Ours { uid } => {
                theirs::leave(&mut body["metadata"], existing);
                body["metadata"]["uid"] = json!(uid);
                PatchParams::apply(FIELD_MANAGER).force()
            }
        };
        self.api::<K>()
            .patch(&name, &params, &Patch::Apply(&body))
            .await
            .map_err(|source| ApplyError::api::<K>("apply", &name, source))
    }

    /// Refuses a name that is taken by an object that is not ours, without writing anything.
    ///
    /// # Errors
    /// [`ApplyError::Foreign`]: it is taken. [`ApplyError::Api`]: refused or not reached.
    pub async fn refuse_foreign<K: Object>(
        &self,
        desired: &K,
        owner: &Owner,
    ) -> Result<(), ApplyError> {
        let name = desired.name_any();
        match self.ownership::<K>(&name, owner).await? {
            Ownership::Foreign { holder, ours } => Err(foreign::<K>(&name, holder, ours)),
            Ownership::Absent | Ownership::Ours { .. } => Ok(()),
        }
    }

    /// Creates `desired`, which must not exist yet.
    ///
    /// # Errors
    /// [`ApplyError::Api`] with [`Fault::Conflict`]: it exists. Otherwise: refused or not reached.
    pub async fn create<K: Object>(&self, desired: &K) -> Result<K, ApplyError> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let name = desired.name_any();
        let created = self.where_it_is(desired).create(&params, desired).await;
        created.map_err(|source| ApplyError::api::<K>("create", &name, source))
    }

    /// Replaces an object by compare-and-swap: `desired` carries the `resourceVersion` it was computed from.
    ///
    /// # Errors
    /// [`ApplyError::Api`] with [`Fault::Conflict`]: somebody wrote in between. Otherwise: refused or not reached.
    pub async fn swap<K: Object>(&self, desired: &K) -> Result<K, ApplyError> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let name = desired.name_any();
        let replaced = self
            .where_it_is(desired)
            .replace(&name, &params, desired)
            .await;
        replaced.map_err(|source| ApplyError::api::<K>("replace", &name, source))
    }

    /// Merges `patch` into the object that `meta` describes, if it still has `meta`'s uid.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: refused or not reached; [`Fault::Conflict`] if the object was replaced.
    pub async fn merge<K: Object>(&self, target: &K, mut patch: Value) -> Result<K, ApplyError> {
        patch["metadata"]["uid"] = json!(target.meta().uid);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = target.name_any();
        let merged = self
            .where_it_is(target)
            .patch(&name, &params, &Patch::Merge(&patch))
            .await;
        merged.map_err(|source| ApplyError::api::<K>("patch", &name, source))
    }

    /// Deletes the object if it is ours; tells whether there was anything to delete. A foreign object stays.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: refused or not reached.
    pub async fn remove<K: Object>(&self, name: &str, owner: &Owner) -> Result<bool, ApplyError> {
        let Ownership::Ours { uid } = self.ownership::<K>(name, owner).await? else {
            return Ok(false);
        };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match self.api::<K>().delete(name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
            Err(source) => Err(ApplyError::api::<K>("delete", name, source)),
        }
    }

    /// Deletes the very object that was read, whoever made it: only for kinds of our own group.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: refused or not reached; [`Fault::Conflict`] if the object was replaced.
    pub async fn delete_exactly<K: Object>(&self, target: &K) -> Result<(), ApplyError> {
        let preconditions = Some(Preconditions {
            uid: target.uid(),
            resource_version: None,
        });
        let name = target.name_any();
        match self
            .where_it_is(target)
            .delete(
                &name,
                &DeleteParams {
                    preconditions,
                    ..DeleteParams::default()
                },
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(ApplyError::api::<K>("delete", &name, source)),
        }
    }
}

fn encode<K: Object>(object: &K) -> Result<Value, ApplyError> {
    encode_as(object, object)
}

/// `part` of `object`, or what belongs to it, as JSON.
fn encode_as<K: Object>(object: &K, part: &impl Serialize) -> Result<Value, ApplyError> {
    serde_json::to_value(part).map_err(|source| ApplyError::Encode {
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        source,
    })
}

fn foreign<K: Object>(name: &str, holder: String, ours: bool) -> ApplyError {
    let (kind, name) = (K::kind(&()).into_owned(), name.to_owned());
    if ours {
        ApplyError::Taken { kind, name, holder }
    } else {
        ApplyError::Foreign { kind, name, holder }
    }
}

#[cfg(test)]
mod tests;
