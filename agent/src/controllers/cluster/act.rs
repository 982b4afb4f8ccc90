//! What is done to pods, claims and the StatefulSet besides applying what was built. Every deletion names the uid of what
//! was judged, so an object that was replaced in between is left alone.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Resource,
    api::{DeleteParams, EvictParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use meridian_api::crds::{RedisEnterpriseCluster, RedisEnterpriseClusterStatus};
use serde_json::json;

use crate::k8s::{
    apply::{ApplyError, Objects},
    fault::Fault,
    own::FIELD_MANAGER,
};

/// How a request to make a pod anew ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Eviction {
    /// The pod goes.
    Granted,
    /// The disruption budget does not allow it now: what the API server said.
    Refused(String),
}

/// Evicts the pod, if it still has this uid. An eviction rather than a deletion: Kubernetes counts it against the
/// disruption budget together with everybody else's, so a host that is drained at the same time never makes it two.
///
/// # Errors
/// The API server refused for another reason, or could not be reached.
pub(super) async fn evict(objects: &Objects, pod: &str, uid: &str) -> Result<Eviction, ApplyError> {
    let params = EvictParams {
        delete_options: Some(DeleteParams {
            preconditions: Some(uid_is(uid)),
            ..DeleteParams::default()
        }),
        ..EvictParams::default()
    };
    match objects.api::<Pod>().evict(pod, &params).await {
        Ok(_) => Ok(Eviction::Granted),
        Err(kube::Error::Api(status)) if status.code == 429 => {
            Ok(Eviction::Refused(status.message.clone()))
        }
        Err(source) => gone::<Pod>("evict", pod, source).map(|()| Eviction::Granted),
    }
}

/// Deletes a pod that does not serve, with its own grace period.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn delete_pod(objects: &Objects, pod: &str, uid: &str) -> Result<(), ApplyError> {
    let params = DeleteParams {
        preconditions: Some(uid_is(uid)),
        ..DeleteParams::default()
    };
    match objects.api::<Pod>().delete(pod, &params).await {
        Ok(_) => Ok(()),
        Err(source) => gone::<Pod>("delete", pod, source),
    }
}

/// Sets an annotation of a pod, or takes it away.
///
/// # Errors
/// The API server refused or could not be reached, or the pod was replaced.
pub(super) async fn annotate(
    objects: &Objects,
    pod: &Pod,
    key: &str,
    value: Option<&str>,
) -> Result<(), ApplyError> {
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    objects.merge(pod, patch).await.map(|_| ())
}

/// Raises what a claim asks for.
///
/// # Errors
/// The API server refused (such as for a storage class whose volumes cannot grow) or could not be reached.
pub(super) async fn raise(
    objects: &Objects,
    claim: &PersistentVolumeClaim,
    size: &str,
) -> Result<(), ApplyError> {
    let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
    objects.merge(claim, patch).await.map(|_| ())
}

/// Deletes the StatefulSet and leaves its pods running.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn orphan(objects: &Objects, set: &StatefulSet) -> Result<(), ApplyError> {
    let name = set.metadata.name.clone().unwrap_or_default();
    let params = DeleteParams {
        preconditions: Some(uid_is(&set.metadata.uid.clone().unwrap_or_default())),
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    match objects.api::<StatefulSet>().delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(source) => gone::<StatefulSet>("delete", &name, source),
    }
}

/// Whether the API server cannot apply anything to an object, because what is stored does not have the form of the newer
/// version: the older one let it in. Apply needs the form, a merge does not.
pub(super) fn does_not_fit(error: &ApplyError) -> bool {
    let ApplyError::Api { source, .. } = error else {
        return false;
    };
    matches!(source.as_ref(), kube::Error::Api(status)
        if status.code == 500 && status.message.contains("smd typed"))
}

/// Writes the status of a REC that [`does_not_fit`].
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn merge_status(
    objects: &Objects,
    rec: &RedisEnterpriseCluster,
    wanted: &RedisEnterpriseClusterStatus,
) -> Result<(), ApplyError> {
    let name = rec.metadata.name.clone().unwrap_or_default();
    let patch = json!({ "metadata": { "uid": rec.metadata.uid }, "status": wanted });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api = objects.api::<RedisEnterpriseCluster>();
    let written = api
        .patch_status(&name, &params, &Patch::Merge(&patch))
        .await;
    written.map(|_| ()).map_err(|source| ApplyError::Api {
        verb: "write status of",
        kind: "RedisEnterpriseCluster".to_owned(),
        name,
        source: Box::new(source),
    })
}

fn uid_is(uid: &str) -> Preconditions {
    Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    }
}

/// An object that is gone, or another by now, is what was wanted.
fn gone<K: Resource<DynamicType = ()>>(
    verb: &'static str,
    name: &str,
    source: kube::Error,
) -> Result<(), ApplyError> {
    if let kube::Error::Api(status) = &source
        && (status.is_not_found() || Fault::of(&source) == Fault::Conflict)
    {
        return Ok(());
    }
    Err(ApplyError::Api {
        verb,
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_a_stored_form_that_cannot_be_applied_to_is_merged() {
        let error = |code, message: &str| ApplyError::Api {
            verb: "write status of",
            kind: "RedisEnterpriseCluster".to_owned(),
            name: "old".to_owned(),
            source: Box::new(kube::Error::Api(
                Status {
                    code,
                    message: message.to_owned(),
                    ..Status::default()
                }
                .boxed(),
            )),
        };
        let text = "failed to create manager for existing fields: failed to convert new object (m/old) to smd typed: \
                    .spec.redisEnterpriseAdditionalPodSpecAttributes.tolerations: expected list";
        let cases = [
            (500, text, true),
            (500, "etcd is away", false),
            (409, text, false),
        ];
        for (code, message, expected) in cases {
            assert_eq!(
                does_not_fit(&error(code, message)),
                expected,
                "{code} {message}"
            );
        }
    }
}
