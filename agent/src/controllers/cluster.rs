//! The controller of `RedisEnterpriseCluster` (REC): the pods that serve databases, and all they need.

mod apply;
mod build;
mod fetch;
mod internal;
mod status;
mod validate;

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Secret, Service},
};
use kube::{
    Api, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{reflector::ObjectRef, watcher},
};
use meridian_api::crds::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster, RedisEnterpriseDatabase,
};
use serde_json::{Value, json};
use thiserror::Error;

use self::{
    fetch::{FetchError, Password},
    status::Outcome,
};
use super::Context;
use crate::{
    clock,
    k8s::{
        apply::ApplyError,
        drive::{self, Driver, Failure},
        fault::Fault,
        finalizer,
        names::ClusterNames,
        own::{CLUSTER, Owner},
    },
};

/// Keeps a REC until its databases are gone (the product's name).
const FINALIZER: &str = "redbfinalizer.redisenterpriseclusters.app.redislabs.com";

/// Why a look at a REC failed.
#[derive(Debug, Error)]
pub(super) enum ClusterError {
    /// The world could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The spec cannot be used.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] ApplyError),
    /// The deletion waits.
    #[error("waits until these databases are deleted: {}", .0.join(", "))]
    Waits(Vec<String>),
}

impl Failure for ClusterError {
    fn fault(&self) -> Fault {
        match self {
            Self::Fetch(FetchError::Api(error)) | Self::Write(error) => error.fault(),
            Self::Fetch(FetchError::Randomness(_) | FetchError::Internal(_)) => Fault::Unavailable,
            Self::Invalid(_) => Fault::Invalid,
            Self::Waits(_) => Fault::Waiting,
        }
    }
}

struct Clusters {
    context: Context,
}

impl Driver for Clusters {
    type Kind = RedisEnterpriseCluster;
    type Error = ClusterError;
    const NAME: &'static str = "RedisEnterpriseCluster";

    async fn look(&self, rec: &RedisEnterpriseCluster) -> Result<Option<Duration>, ClusterError> {
        let objects = &self.context.objects;
        if rec.metadata.deletion_timestamp.is_some() {
            return self.remove(rec).await;
        }
        finalizer::hold(objects, rec, FINALIZER).await?;

        // No client from here …
        let cluster = match validate::validate(rec, &self.context.node_image) {
            Ok(cluster) => cluster,
            Err(problems) => {
                self.show(rec, &Outcome::Invalid(&problems)).await?;
                return Err(ClusterError::Invalid(problems));
            }
        };
        // … except that a password that exists is kept.
        let password = match fetch::password(objects, &cluster.name, &cluster.credentials).await? {
            Password::Theirs => None,
            Password::Ours(password) => Some(password),
        };
        let internal = fetch::internal(objects, &cluster, clock::now().0).await?;
        let built = build::build(&cluster, password.as_deref(), &internal);
        match apply::apply(objects, &cluster.name, built).await {
            Ok(applied) => {
                self.show(rec, &Outcome::Applied(&cluster, &applied))
                    .await?
            }
            Err(error) => {
                self.show(rec, &Outcome::Failed(&error)).await?;
                return Err(error.into());
            }
        }
        Ok(None)
    }

    fn unreadable() -> Value {
        json!({ "state": "Invalid" })
    }
}

impl Clusters {
    async fn show(
        &self,
        rec: &RedisEnterpriseCluster,
        outcome: &Outcome<'_>,
    ) -> Result<(), ApplyError> {
        let inert = super::inert::cluster(rec);
        let wanted = status::status(rec, outcome, &inert, &clock::now_text());
        self.context
            .objects
            .status(rec, rec.status.as_ref(), &wanted)
            .await
            .map(|_| ())
    }

    /// The last steps of a deletion: data Secrets by hand, the rest follows its owner. Volumes stay.
    async fn remove(&self, rec: &RedisEnterpriseCluster) -> Result<Option<Duration>, ClusterError> {
        let objects = &self.context.objects;
        let databases = fetch::databases(objects, rec).await?;
        self.show(rec, &Outcome::Deleting(&databases)).await?;
        if !databases.is_empty() {
            return Err(ClusterError::Waits(databases));
        }
        let name = rec.name_any();
        let owner = Owner::cluster(&name);
        let credentials = rec
            .spec
            .cluster_credential_secret_name
            .clone()
            .unwrap_or_else(|| name.clone());
        let names = ClusterNames(&name);
        for secret in [
            credentials,
            names.users(),
            names.peer_tls(),
            names.internal(),
        ] {
            objects.remove::<Secret>(&secret, &owner).await?;
        }
        finalizer::release(objects, rec, FINALIZER).await?;
        Ok(None)
    }
}

/// Runs the controller until the context stops.
pub(super) async fn run(context: Context) {
    let objects = context.objects.clone();
    let namespace = objects.namespace().to_owned();
    let controller = drive::controller::<RedisEnterpriseCluster>(&objects);
    let all = controller.store();
    let to_all = move |_| {
        all.state()
            .iter()
            .map(|rec| ObjectRef::from_obj(rec.as_ref()))
            .collect::<Vec<_>>()
    };
    let also = to_all.clone();
    let redbs: Api<DeserializeGuard<RedisEnterpriseDatabase>> = objects.api();
    let reaadbs: Api<DeserializeGuard<RedisEnterpriseActiveActiveDatabase>> = objects.api();
    let controller = controller
        .watches(
            objects.api::<StatefulSet>(),
            drive::ours(),
            drive::named_in_label(CLUSTER, &namespace),
        )
        .watches(
            objects.api::<Service>(),
            drive::ours(),
            drive::named_in_label(CLUSTER, &namespace),
        )
        .watches(
            objects.api::<Secret>(),
            drive::ours(),
            drive::named_in_label(CLUSTER, &namespace),
        )
        .watches(redbs, watcher::Config::default(), move |_| to_all(()))
        .watches(reaadbs, watcher::Config::default(), move |_| also(()));
    let (report, stop) = (context.report.clone(), context.stop.clone());
    drive::run(Clusters { context }, controller, objects, report, stop).await;
}
