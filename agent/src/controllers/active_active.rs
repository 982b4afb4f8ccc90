//! The controller of `RedisEnterpriseActiveActiveDatabase` (REAADB): this cluster's instance of it.
//!
//! The hub decides that there is an instance and who its members are (`ActiveActiveInstance`, written by the link);
//! this controller makes it true here and keeps it true with the hub away. It deletes data only with the hub's
//! confirmation on the object.

mod build;
mod status;

use std::time::Duration;

use kube::{Api, ResourceExt as _, api::ObjectMeta, core::DeserializeGuard, runtime::watcher};
use meridian_api::{
    crds::{
        ActiveActiveInstance, ActiveActiveInstanceStatus, DatabaseTopology,
        RedisEnterpriseActiveActiveDatabase,
    },
    validate as api,
};

use self::status::{Outcome, Seen};
use super::{
    Context, inert,
    serve::{
        ServeError, access,
        apply::{self, Local},
        clients, fetch,
        look::{self, LookError},
        remove::{self, Removal},
        settings::{self, Policy, Settings},
    },
    topology::is_of,
};
use crate::{
    clock,
    k8s::{
        apply::ApplyError,
        drive::{self, Driver, End, REST, Wakes},
        finalizer,
        own::{Owner, is_deletion_approved},
    },
};

/// Keeps a REAADB until its deletion is confirmed and everything made for it is gone.
const FINALIZER: &str = "meridian.dev/confirmed-deletion";
struct ActiveActive {
    context: Context,
}

impl Driver for ActiveActive {
    type Kind = RedisEnterpriseActiveActiveDatabase;
    type Error = LookError;
    const NAME: &'static str = "RedisEnterpriseActiveActiveDatabase";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);

    async fn look(
        &self,
        reaadb: &RedisEnterpriseActiveActiveDatabase,
    ) -> Result<Option<Duration>, LookError> {
        let objects = &self.context.objects;
        let instance = objects
            .get::<ActiveActiveInstance>(&reaadb.name_any())
            .await?;
        let going = reaadb.metadata.deletion_timestamp.is_some();
        if going && self.may_go(reaadb, instance.as_ref()).await? {
            return self.remove(reaadb, instance).await;
        }
        // A deletion that the hub has not confirmed changes nothing here: the instance goes on and says what to do.
        if !going {
            finalizer::hold(objects, reaadb, FINALIZER).await?;
        }
        let settings = match validate(reaadb) {
            Ok(settings) => settings,
            Err(problems) => {
                self.show(reaadb, instance.as_ref(), &Outcome::Invalid(&problems))
                    .await?;
                return Err(LookError::Invalid(problems));
            }
        };
        let Some(instance) = instance else {
            let seen = self.look_around(reaadb).await?;
            self.show(reaadb, None, &Outcome::NoInstance(seen.as_ref()))
                .await?;
            return Ok(None);
        };
        match self.serve(reaadb, &instance, &settings).await {
            Ok(seen) => {
                self.acknowledge(&instance, &seen).await?;
                self.show(reaadb, Some(&instance), &Outcome::Written(&seen))
                    .await?;
            }
            Err(error) => {
                self.show(reaadb, Some(&instance), &Outcome::Failed(&error))
                    .await?;
                return Err(error.into());
            }
        }
        Ok(None)
    }

    async fn end(&self, reaadb: &ObjectMeta) -> Result<End, LookError> {
        let objects = &self.context.objects;
        let name = reaadb.name.as_deref().unwrap_or_default();
        let instance = objects.get::<ActiveActiveInstance>(name).await?;
        let topology = self.own_topology(reaadb).await?;
        let stands = instance.is_some() || topology.is_some();
        if stands && !is_deletion_approved(reaadb) {
            return Ok(End::Waits(status::unconfirmed(), REST));
        }
        let told = instance.as_ref().map(|told| told.spec.cluster.clone());
        let rec = match remove::made_by(objects, build::KIND, reaadb).await? {
            Some(rec) => Some(rec),
            None => told,
        };
        if let Some(instance) = &instance {
            objects.delete_exactly(instance).await?;
        }
        look::ended(match rec {
            Some(rec) => remove::step(objects, &rec, build::KIND, reaadb).await,
            None => Ok(Removal::Done),
        })
    }
}

fn validate(reaadb: &RedisEnterpriseActiveActiveDatabase) -> Result<Settings, Vec<String>> {
    let problems: Vec<String> = api::active_active_database(reaadb)
        .iter()
        .map(ToString::to_string)
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    settings::read(
        &reaadb
            .spec
            .global_configurations
            .clone()
            .unwrap_or_default(),
        &reaadb.name_any(),
    )
}

impl ActiveActive {
    /// Fetch, build, apply.
    async fn serve(
        &self,
        reaadb: &RedisEnterpriseActiveActiveDatabase,
        instance: &ActiveActiveInstance,
        settings: &Settings,
    ) -> Result<Seen, ServeError> {
        let objects = &self.context.objects;
        let (rec, name) = (&instance.spec.cluster, reaadb.name_any());
        let owner = Owner::database(rec, objects.namespace(), &name);
        let mut world = fetch::world(objects, rec, &name, &reaadb.metadata).await?;
        // A named Secret is the same in every cluster: it is brought here, never invented here.
        let credential = fetch::credential(objects, &owner, &settings.password, false).await?;

        let policy = Policy::of(objects.get(rec).await?.as_ref());
        let existing = world.topology.existing.as_ref();
        let wanted = build::topology(reaadb, instance, settings, &policy, existing);

        let mut access = access::access(
            &self.context,
            reaadb,
            rec,
            &credential,
            &settings.roles,
            &policy,
        )
        .await?;
        access.entry.certificates =
            clients::certificates(objects, &settings.client_certificates).await?;
        let local = Local {
            owner: &owner,
            wanted: &wanted,
            credential: &credential,
            access: &access,
            has_served: status::was_active(reaadb),
        };
        let topology = apply::local(&self.context, reaadb, &local, &world).await?;
        world.access = Some(access);
        Ok(Seen { topology, world })
    }

    /// What stands there without an instance: an instance that was deleted by hand stops nothing.
    async fn look_around(
        &self,
        reaadb: &RedisEnterpriseActiveActiveDatabase,
    ) -> Result<Option<Seen>, ApplyError> {
        let objects = &self.context.objects;
        let name = reaadb.name_any();
        let Some(topology) = self.own_topology(&reaadb.metadata).await? else {
            return Ok(None);
        };
        let world = fetch::world(objects, &topology.spec.cluster, &name, &reaadb.metadata).await?;
        Ok(Some(Seen { topology, world }))
    }

    /// Tells the hub, through the instance's status, which membership the shards have taken over.
    async fn acknowledge(
        &self,
        instance: &ActiveActiveInstance,
        seen: &Seen,
    ) -> Result<(), ApplyError> {
        let before = instance.status.clone().unwrap_or_default();
        let observed = status::acknowledged(&seen.topology).or(before.observed_config_version);
        let wanted = ActiveActiveInstanceStatus {
            observed_config_version: observed,
            observed_generation: instance.metadata.generation,
            ..before
        };
        self.context
            .objects
            .status(instance, instance.status.as_ref(), &wanted)
            .await
            .map(|_| ())
    }

    async fn show(
        &self,
        reaadb: &RedisEnterpriseActiveActiveDatabase,
        instance: Option<&ActiveActiveInstance>,
        outcome: &Outcome<'_>,
    ) -> Result<(), ApplyError> {
        let inert = inert::active_active(reaadb);
        let wanted = status::status(reaadb, instance, outcome, &inert, &clock::now_text());
        self.context
            .objects
            .status(reaadb, reaadb.status.as_ref(), &wanted)
            .await
            .map(|_| ())
    }

    /// Whether the deletion is confirmed by the hub, or nothing was ever made here.
    async fn may_go(
        &self,
        reaadb: &RedisEnterpriseActiveActiveDatabase,
        instance: Option<&ActiveActiveInstance>,
    ) -> Result<bool, ApplyError> {
        if is_deletion_approved(&reaadb.metadata) {
            return Ok(true);
        }
        let nothing = instance.is_none() && !status::was_active(reaadb);
        Ok(nothing && self.own_topology(&reaadb.metadata).await?.is_none())
    }

    async fn own_topology(
        &self,
        reaadb: &ObjectMeta,
    ) -> Result<Option<DatabaseTopology>, ApplyError> {
        let name = reaadb.name.as_deref().unwrap_or_default();
        let namespace = reaadb.namespace.as_deref().unwrap_or_default();
        let found = self.context.objects.get::<DatabaseTopology>(name).await?;
        Ok(found.filter(|topology| is_of(topology, build::KIND, namespace)))
    }

    /// Removes everything that was made for it, then lets it go.
    async fn remove(
        &self,
        reaadb: &RedisEnterpriseActiveActiveDatabase,
        instance: Option<ActiveActiveInstance>,
    ) -> Result<Option<Duration>, LookError> {
        let objects = &self.context.objects;
        let topology = self.own_topology(&reaadb.metadata).await?;
        let shown = reaadb
            .status
            .as_ref()
            .and_then(|status| status.redis_enterprise_cluster.clone());
        let rec = topology
            .map(|t| t.spec.cluster)
            .or(instance.as_ref().map(|i| i.spec.cluster.clone()))
            .or(shown);
        if let Some(instance) = &instance {
            objects.delete_exactly(instance).await?;
        }
        let step = match rec {
            Some(rec) => remove::step(objects, &rec, build::KIND, &reaadb.metadata).await,
            None => Ok(Removal::Done),
        };
        if !matches!(step, Ok(Removal::Done)) {
            let told = remove::finding(&step);
            self.show(reaadb, instance.as_ref(), &Outcome::Deleting(&told))
                .await?;
        }
        look::conclude(objects, reaadb, FINALIZER, step).await
    }
}

/// Runs the controller until the context stops.
pub(super) async fn run(context: Context) {
    let objects = context.objects.clone();
    let controller = look::controller::<RedisEnterpriseActiveActiveDatabase>(
        &context,
        objects.namespace(),
        Wakes::All,
    );
    let instances: Api<DeserializeGuard<ActiveActiveInstance>> = objects.api();
    let controller = controller.watches(
        instances,
        watcher::Config::default(),
        drive::same_name(objects.namespace()),
    );
    let controller = look::woken_by_access(controller, &objects, &objects, |reaadb| {
        reaadb.spec.global_configurations.as_ref()
    });
    let (report, stop) = (context.report.clone(), context.stop.clone());
    drive::run(ActiveActive { context }, controller, objects, report, stop).await;
}
