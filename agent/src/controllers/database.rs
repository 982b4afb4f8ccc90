//! The controller of `RedisEnterpriseDatabase` (REDB): a database of one cluster.

mod build;
mod status;

use std::time::Duration;

use k8s_openapi::api::{core::v1::Secret, core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, ResourceExt as _, core::DeserializeGuard, runtime::reflector::ObjectRef, runtime::watcher,
};
use meridian_api::{
    crds::{
        DatabaseTopology, RedisEnterpriseCluster, RedisEnterpriseDatabase, shared::ClusterReference,
    },
    validate as api,
};
use thiserror::Error;

use self::status::Outcome;
use super::{
    Context, inert,
    serve::{
        ServeError, apply, fetch,
        remove::{self, Removal},
        settings::{self, Settings},
    },
};
use crate::{
    clock,
    k8s::{
        apply::ApplyError,
        drive::{self, Driver, Failure},
        fault::Fault,
        finalizer, news,
        own::{DATABASE, Owner},
    },
};

/// Keeps a REDB until everything made for it is gone (the product's name).
const FINALIZER: &str = "finalizer.redisenterprisedatabases.app.redislabs.com";
/// Pause before the next look at a deletion in progress.
const DELETION: Duration = Duration::from_secs(1);

/// Why a look at a REDB failed.
#[derive(Debug, Error)]
pub(super) enum DatabaseError {
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

impl Failure for DatabaseError {
    fn fault(&self) -> Fault {
        match self {
            Self::Invalid(_) => Fault::Invalid,
            Self::Serve(error) => error.fault(),
            Self::Api(error) => error.fault(),
        }
    }
}

struct Databases {
    context: Context,
}

impl Driver for Databases {
    type Kind = RedisEnterpriseDatabase;
    type Error = DatabaseError;
    const NAME: &'static str = "RedisEnterpriseDatabase";

    async fn look(
        &self,
        redb: &RedisEnterpriseDatabase,
    ) -> Result<Option<Duration>, DatabaseError> {
        let objects = &self.context.objects;
        if redb.metadata.deletion_timestamp.is_some() {
            return self.remove(redb).await;
        }
        finalizer::hold(objects, redb, FINALIZER).await?;
        let settings = match validate(redb) {
            Ok(settings) => settings,
            Err(problems) => {
                self.show(redb, &Outcome::Invalid(&problems)).await?;
                return Err(DatabaseError::Invalid(problems));
            }
        };
        match self.serve(redb, &settings).await {
            Ok((topology, world)) => {
                self.show(redb, &Outcome::Written(&topology, &world))
                    .await?
            }
            Err(error) => {
                self.show(redb, &Outcome::Failed(&error)).await?;
                return Err(error.into());
            }
        }
        Ok(None)
    }
}

fn validate(redb: &RedisEnterpriseDatabase) -> Result<Settings, Vec<String>> {
    let problems: Vec<String> = api::database(redb)
        .iter()
        .map(ToString::to_string)
        .collect();
    if problems.is_empty() {
        settings::read(&redb.spec, &redb.name_any())
    } else {
        Err(problems)
    }
}

/// The REC that the spec names, or that serves the database already: another REC that appears later changes nothing.
fn chosen(redb: &RedisEnterpriseDatabase) -> Option<ClusterReference> {
    let named = redb
        .spec
        .redis_enterprise_cluster
        .clone()
        .filter(|named| !named.name.is_empty());
    let shown = || {
        Some(ClusterReference {
            name: redb.status.as_ref()?.redis_enterprise_cluster.clone()?,
        })
    };
    named.or_else(shown)
}

impl Databases {
    /// Fetch, build, apply.
    async fn serve(
        &self,
        redb: &RedisEnterpriseDatabase,
        settings: &Settings,
    ) -> Result<(DatabaseTopology, fetch::World), ServeError> {
        let objects = &self.context.objects;
        let rec = fetch::cluster(objects, chosen(redb).as_ref())
            .await?
            .name_any();
        let owner = Owner::database(&rec, &redb.name_any());
        let world = fetch::world(objects, &rec, &redb.name_any(), &redb.metadata).await?;
        let credential = fetch::credential(objects, &owner, &settings.password, true).await?;

        let wanted = build::topology(redb, &rec, settings);

        apply::password(objects, &owner, &credential, &world).await?;
        apply::users_entry(objects, &rec, &redb.name_any(), credential.password()).await?;
        let has_served = redb
            .status
            .as_ref()
            .is_some_and(|status| status.database_uid.is_some());
        let topology = apply::topology(&self.context, redb, &wanted, &world, has_served).await?;
        Ok((topology, world))
    }

    async fn show(
        &self,
        redb: &RedisEnterpriseDatabase,
        outcome: &Outcome<'_>,
    ) -> Result<(), ApplyError> {
        let inert = inert::database(redb);
        let wanted = status::status(redb, outcome, &inert, &clock::now_text());
        self.context
            .objects
            .status(redb, redb.status.as_ref(), &wanted)
            .await
            .map(|_| ())
    }

    async fn remove(
        &self,
        redb: &RedisEnterpriseDatabase,
    ) -> Result<Option<Duration>, DatabaseError> {
        let objects = &self.context.objects;
        let step = match self.served_by(redb).await? {
            Some(rec) => remove::step(objects, &rec, build::KIND, &redb.metadata).await,
            None => Ok(Removal::Done),
        };
        if matches!(step, Ok(Removal::Done)) {
            finalizer::release(objects, redb, FINALIZER).await?;
            return Ok(None);
        }
        let told = remove::finding(&step);
        self.show(redb, &Outcome::Deleting(&told)).await?;
        step?;
        Ok(Some(DELETION))
    }

    /// The REC that served a database, even if it is gone by now. `None`: nothing was ever made.
    async fn served_by(
        &self,
        redb: &RedisEnterpriseDatabase,
    ) -> Result<Option<String>, ApplyError> {
        if let Some(chosen) = chosen(redb) {
            return Ok(Some(chosen.name));
        }
        let topology = self
            .context
            .objects
            .get::<DatabaseTopology>(&redb.name_any())
            .await?;
        Ok(topology.map(|topology| topology.spec.cluster))
    }
}

/// Runs the controller until the context stops.
pub(super) async fn run(context: Context) {
    let objects = context.objects.clone();
    let namespace = objects.namespace().to_owned();
    let controller = drive::controller::<RedisEnterpriseDatabase>(&objects);
    let all = controller.store();
    let recs: Api<DeserializeGuard<RedisEnterpriseCluster>> = objects.api();
    let topologies: Api<DeserializeGuard<DatabaseTopology>> = objects.api();
    let controller = controller
        .watches(
            topologies,
            watcher::Config::default(),
            news::of_topologies(&namespace),
        )
        .watches(
            objects.api::<Secret>(),
            drive::ours(),
            drive::named_in_label(DATABASE, &namespace),
        )
        .watches(
            objects.api::<Service>(),
            drive::ours(),
            drive::named_in_label(DATABASE, &namespace),
        )
        .watches(
            objects.api::<EndpointSlice>(),
            drive::ours(),
            drive::named_in_label(DATABASE, &namespace),
        )
        .watches(recs, watcher::Config::default(), move |_| {
            all.state()
                .iter()
                .map(|redb| ObjectRef::from_obj(redb.as_ref()))
                .collect::<Vec<_>>()
        });
    let (report, stop) = (context.report.clone(), context.stop.clone());
    drive::run(Databases { context }, controller, objects, report, stop).await;
}
