//! Finalizers: an object of ours is not gone before what it stands for was dealt with.
//!
//! The list is written with the resource version it was read with, so another's finalizer is never lost.

use serde_json::json;

use super::apply::{ApplyError, Object, Objects};

/// Whether `object` carries `finalizer`.
pub fn holds<K: Object>(object: &K, finalizer: &str) -> bool {
    object
        .meta()
        .finalizers
        .iter()
        .flatten()
        .any(|held| held == finalizer)
}

/// Adds `finalizer` unless it is there.
///
/// # Errors
/// [`ApplyError::Api`]: somebody wrote in between, or the API server refused or could not be reached.
pub async fn hold<K: Object>(
    objects: &Objects,
    object: &K,
    finalizer: &str,
) -> Result<(), ApplyError> {
    if holds(object, finalizer) {
        return Ok(());
    }
    let mut all = object.meta().finalizers.clone().unwrap_or_default();
    all.push(finalizer.to_owned());
    write(objects, object, all).await
}

/// Takes `finalizer` away, which lets Kubernetes delete the object.
///
/// # Errors
/// [`ApplyError::Api`]: somebody wrote in between, or the API server refused or could not be reached.
pub async fn release<K: Object>(
    objects: &Objects,
    object: &K,
    finalizer: &str,
) -> Result<(), ApplyError> {
    if !holds(object, finalizer) {
        return Ok(());
    }
    let rest = object
        .meta()
        .finalizers
        .iter()
        .flatten()
        .filter(|held| *held != finalizer)
        .cloned()
        .collect();
    write(objects, object, rest).await
}

async fn write<K: Object>(
    objects: &Objects,
    object: &K,
    finalizers: Vec<String>,
) -> Result<(), ApplyError> {
    let version = object.meta().resource_version.clone();
    let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": version } });
    objects.merge(object, patch).await.map(|_| ())
}
