//! The controller of `RedisEnterpriseDatabase` (REDB): a database of one cluster, which may stand in another namespace.

mod build;
mod consumer;
mod status;

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::{ResourceExt as _, api::ObjectMeta};
use meridian_api::{
    crds::{DatabaseTopology, RedisEnterpriseDatabase, shared::ClusterReference},
    validate as api,
};

use tokio_util::sync::CancellationToken;

use self::status::Outcome;
use super::{
    Context, cluster, inert,
    serve::{
        ServeError, access,
        apply::{self, Local},
        clients, fetch,
        look::{self, LookError},
        remove::{self, Removal},
        settings::{self, Policy, Settings},
    },
};
use crate::{
    clock,
    k8s::{
        apply::ApplyError,
        drive::{self, Driver, End, Wakes},
        finalizer,
        own::Owner,
    },
};

/// Keeps a REDB until everything made for it is gone (the product's name).
pub(super) const FINALIZER: &str = "finalizer.redisenterprisedatabases.app.redislabs.com";
struct Databases {
    context: Context,
}

impl Driver for Databases {
    type Kind = RedisEnterpriseDatabase;
    type Error = LookError;
    const NAME: &'static str = "RedisEnterpriseDatabase";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);

    async fn look(&self, redb: &RedisEnterpriseDatabase) -> Result<Option<Duration>, LookError> {
        let objects = &self.context.objects;
        if redb.metadata.deletion_timestamp.is_some() {
            return self.remove(redb).await;
        }
        finalizer::hold(objects, redb, FINALIZER).await?;
        let settings = match validate(redb) {
            Ok(settings) => settings,
            Err(problems) => {
                self.show(redb, &Outcome::Invalid(&problems)).await?;
                return Err(LookError::Invalid(problems));
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

    async fn end(&self, redb: &ObjectMeta) -> Result<End, LookError> {
        let objects = &self.context.objects;
        let step = match remove::made_by(objects, build::KIND, redb).await? {
            Some(rec) => remove::step(objects, &rec, build::KIND, redb).await,
            None => Ok(Removal::Done),
        };
        look::ended(step)
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
        let rec = fetch::cluster(objects, chosen(redb).as_ref()).await?;
        if let Some(why) = cluster::suspended(&self.context, &rec).await? {
            return Err(ServeError::Suspended(why));
        }
        let policy = Policy::of(Some(&rec));
        let rec = rec.name_any();
        let namespace = redb.namespace().unwrap_or_default();
        let owner = Owner::database(&rec, &namespace, &redb.name_any());
        let own = objects.within(&namespace);
        let mut world = fetch::world(objects, &rec, &redb.name_any(), &redb.metadata).await?;
        let credential = fetch::credential(&own, &owner, &settings.password, true).await?;
        let mut access = access::access(
            &self.context,
            redb,
            &rec,
            &credential,
            &settings.roles,
            &policy,
        )
        .await?;
        access.entry.certificates =
            clients::certificates(&own, &settings.client_certificates).await?;

        let wanted = build::topology(redb, &rec, settings, &policy);

        let local = Local {
            owner: &owner,
            wanted: &wanted,
            credential: &credential,
            access: &access,
            has_served: redb
                .status
                .as_ref()
                .is_some_and(|status| status.database_uid.is_some()),
        };
        let topology = apply::local(&self.context, redb, &local, &world).await?;
        consumer::name(objects, &own, &owner, &redb.name_any(), &world.services).await?;
        world.access = Some(access);
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

    async fn remove(&self, redb: &RedisEnterpriseDatabase) -> Result<Option<Duration>, LookError> {
        let objects = &self.context.objects;
        let step = match self.served_by(redb).await? {
            Some(rec) => remove::step(objects, &rec, build::KIND, &redb.metadata).await,
            None => Ok(Removal::Done),
        };
        if !matches!(step, Ok(Removal::Done)) {
            let told = remove::finding(&step);
            self.show(redb, &Outcome::Deleting(&told)).await?;
        }
        look::conclude(objects, redb, FINALIZER, step).await
    }

    /// The REC that served a database, even if it is gone by now. `None`: nothing was ever made, or nothing is left.
    async fn served_by(
        &self,
        redb: &RedisEnterpriseDatabase,
    ) -> Result<Option<String>, ApplyError> {
        if let Some(chosen) = chosen(redb) {
            return Ok(Some(chosen.name));
        }
        remove::made_by(&self.context.objects, build::KIND, &redb.metadata).await
    }
}

/// Runs the controller of the databases in `namespace` until `stop`.
pub(super) async fn run(context: Context, namespace: &str, stop: CancellationToken) {
    let own = context.objects.within(namespace);
    let controller = look::controller::<RedisEnterpriseDatabase>(&context, namespace, Wakes::Asked);
    let mut controller =
        look::woken_by_access(controller, &context.objects, &own, |redb| Some(&redb.spec));
    if namespace != context.objects.namespace() {
        let names = drive::database_in_labels(namespace);
        controller = controller.watches(own.api::<Service>(), drive::ours(), names);
    }
    let report = context.report.clone();
    drive::run(Databases { context }, controller, own, report, stop).await;
}

#[cfg(test)]
mod tests;
