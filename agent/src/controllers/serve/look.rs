//! What a look at a database is like, the same for REDB and REAADB: how it fails, how it ends a deletion, what wakes it.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api,
    core::DeserializeGuard,
    runtime::{controller::Controller, reflector::ObjectRef, watcher},
};
use meridian_api::crds::{DatabaseTopology, RedisEnterpriseCluster};
use thiserror::Error;

use super::{ServeError, remove::Removal};
use crate::k8s::{
    apply::{ApplyError, Object, Objects},
    drive::{self, Failure},
    fault::Fault,
    finalizer, news,
};

/// Pause before the next look at a deletion in progress.
const DELETION: Duration = Duration::from_secs(1);

/// Why a look at a database failed.
#[derive(Debug, Error)]
pub(crate) enum LookError {
    /// The spec cannot be used.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// The local side could not be made true.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Something could not be read or written.
    #[error(transparent)]
    Api(#[from] ApplyError),
}

impl Failure for LookError {
    fn fault(&self) -> Fault {
        match self {
            Self::Invalid(_) => Fault::Invalid,
            Self::Serve(error) => error.fault(),
            Self::Api(error) => error.fault(),
        }
    }
}

/// Ends a look at a deletion: lets `database` go once nothing is left of it, and looks again soon until then.
///
/// # Errors
/// The step that was taken failed, or the finalizer could not be taken away.
pub(crate) async fn conclude<K: Object>(
    objects: &Objects,
    database: &K,
    held_by: &str,
    step: Result<Removal, ServeError>,
) -> Result<Option<Duration>, LookError> {
    if step? != Removal::Done {
        return Ok(Some(DELETION));
    }
    finalizer::release(objects, database, held_by).await?;
    Ok(None)
}

/// A controller of the databases of the kind `K` in `namespace`, woken by their topologies, Services and slices among
/// `objects`, and by any REC.
#[must_use]
pub(crate) fn controller<K>(objects: &Objects, namespace: &str) -> Controller<DeserializeGuard<K>>
where
    K: Object + Send + Sync,
{
    let controller = drive::controller::<K>(&objects.within(namespace));
    let all = controller.store();
    let recs: Api<DeserializeGuard<RedisEnterpriseCluster>> = objects.api();
    let topologies: Api<DeserializeGuard<DatabaseTopology>> = objects.api();
    controller
        .watches(
            topologies,
            watcher::Config::default(),
            news::of_topologies(namespace),
        )
        .watches(
            objects.api::<Service>(),
            drive::ours(),
            drive::database_in_labels(namespace),
        )
        .watches(
            objects.api::<EndpointSlice>(),
            drive::ours(),
            drive::database_in_labels(namespace),
        )
        .watches(recs, watcher::Config::default(), move |_| {
            all.state()
                .iter()
                .map(|database| ObjectRef::from_obj(database.as_ref()))
                .collect::<Vec<_>>()
        })
}
