//! Objects of kinds that a cluster may not have (Routes, Gateways): which of them it serves, and writing them by the same
//! rules as everything else.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::{
    Api, ResourceExt as _,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions,
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    apply::{ApplyError, Objects},
    own::{FIELD_MANAGER, Owner, Ownership},
    theirs,
};

/// How long a kind that was found is taken for granted.
const FOUND: Duration = Duration::from_secs(300);
/// How long a kind that was missing is not asked for again.
const MISSING: Duration = Duration::from_secs(15);

/// A namespaced kind that somebody else's software may bring.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionalKind {
    /// API group.
    pub group: &'static str,
    /// Versions in which the agent can write it, the best first.
    pub versions: &'static [&'static str],
    /// Kind.
    pub kind: &'static str,
    /// Plural.
    pub plural: &'static str,
}

impl OptionalKind {
    /// Name of the CRD that defines it.
    #[must_use]
    pub fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// Which kinds the cluster serves, remembered for a while.
#[derive(Debug, Default)]
pub struct Discovery(Mutex<BTreeMap<String, (Option<&'static str>, Instant)>>);

impl Discovery {
    /// How to address `kind`, or `None` while the cluster does not serve it.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: the API server could not be asked.
    pub async fn find(
        &self,
        objects: &Objects,
        kind: &OptionalKind,
    ) -> Result<Option<ApiResource>, ApplyError> {
        let key = kind.definition();
        let known = self.lock().get(&key).copied();
        let fresh = known
            .filter(|(version, at)| at.elapsed() < if version.is_some() { FOUND } else { MISSING });
        let version = match fresh {
            Some((version, _)) => version,
            None => {
                let found = served(objects, kind).await?;
                self.lock().insert(key, (found, Instant::now()));
                found
            }
        };
        Ok(version.map(|version| ApiResource {
            group: kind.group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{}/{version}", kind.group),
            kind: kind.kind.to_owned(),
            plural: kind.plural.to_owned(),
        }))
    }

    /// Forgets what is known of `kind`: the API server has just said otherwise.
    pub fn forget(&self, kind: &OptionalKind) {
        self.lock().remove(&kind.definition());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Option<&'static str>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn served(
    objects: &Objects,
    kind: &OptionalKind,
) -> Result<Option<&'static str>, ApplyError> {
    for &version in kind.versions {
        let group = format!("{}/{version}", kind.group);
        match objects.client().list_api_group_resources(&group).await {
            Ok(list) if list.resources.iter().any(|one| one.name == kind.plural) => {
                return Ok(Some(version));
            }
            Ok(_) => {}
            // A group that is not served is answered without a reason.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => return Err(failed("discover", kind.kind, &group, source)),
        }
    }
    Ok(None)
}

fn failed(verb: &'static str, kind: &str, name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Api {
        verb,
        kind: kind.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}

/// Whether the API server does not know the object, or its kind.
#[must_use]
pub fn is_absent(error: &ApplyError) -> bool {
    let ApplyError::Api { source, .. } = error else {
        return false;
    };
    matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404)
}

impl Objects {
    fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), self.namespace(), resource)
    }

    /// Every object of the kind that matches `selector`.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: refused or not reached.
    pub async fn list_dynamic(
        &self,
        resource: &ApiResource,
        selector: &str,
    ) -> Result<Vec<DynamicObject>, ApplyError> {
        let params = ListParams::default().labels(selector);
        let found = self.dynamic(resource).list(&params).await;
        found
            .map(|list| list.items)
            .map_err(|source| failed("list", &resource.kind, selector, source))
    }

    /// Makes `body` true, as [`Objects::ensure`] does for kinds that are known at compile time.
    ///
    /// # Errors
    /// [`ApplyError::Foreign`], [`ApplyError::Taken`]: the name is taken; nothing was changed. [`ApplyError::Api`]: refused
    /// or not reached.
    pub async fn ensure_dynamic(
        &self,
        resource: &ApiResource,
        name: &str,
        mut body: Value,
        owner: &Owner,
    ) -> Result<(), ApplyError> {
        let api = self.dynamic(resource);
        let existing = api
            .get_metadata_opt(name)
            .await
            .map_err(|source| failed("get", &resource.kind, name, source))?;
        let existing = existing.map(|found| found.metadata);
        let params = match owner.judge(existing.as_ref()) {
            Ownership::Foreign { holder, ours } => {
                let (kind, name) = (resource.kind.clone(), name.to_owned());
                return Err(if ours {
                    ApplyError::Taken { kind, name, holder }
                } else {
                    ApplyError::Foreign { kind, name, holder }
                });
            }
            Ownership::Absent => PatchParams::apply(FIELD_MANAGER),
            Ownership::Ours { uid } => {
                theirs::leave(&mut body["metadata"], existing.as_ref());
                body["metadata"]["uid"] = json!(uid);
                PatchParams::apply(FIELD_MANAGER).force()
            }
        };
        let applied = api.patch(name, &params, &Patch::Apply(&body)).await;
        applied
            .map(|_| ())
            .map_err(|source| failed("apply", &resource.kind, name, source))
    }

    /// Deletes the very object that was read.
    ///
    /// # Errors
    /// [`ApplyError::Api`]: refused or not reached.
    pub async fn remove_dynamic(
        &self,
        resource: &ApiResource,
        target: &DynamicObject,
    ) -> Result<(), ApplyError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: target.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let name = target.name_any();
        match self.dynamic(resource).delete(&name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(failed("delete", &resource.kind, &name, source)),
        }
    }
}
