//! The controller of `RedisEnterpriseCluster` (REC): the pods that serve databases, and all they need.
//!
//! A look reads the world, decides by pure functions (`validate`, `version`, `racks`, `storage`, `recovery`, `rollout`,
//! `state`, `removal`), writes, and takes at most one step towards what is ordered. Nothing is remembered in the process.

mod act;
mod apply;
mod build;
mod bundle;
mod certificates;
mod fetch;
mod internal;
mod licence;
mod login;
mod observe;
mod overdue;
mod racks;
mod recovery;
mod removal;
mod rollout;
mod state;
mod status;
mod steps;
mod storage;
mod suspension;
mod validate;
mod version;
mod world;

pub(super) use suspension::suspended;

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod, Secret, Service},
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::ObjectMeta,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use meridian_api::{
    crds::{
        ActiveActiveInstance, DatabaseTopology, RedisEnterpriseActiveActiveDatabase,
        RedisEnterpriseCluster, RedisEnterpriseClusterStatus, RedisEnterpriseDatabase,
        cluster::ClusterState,
    },
    validate as api,
};
use serde_json::{Value, json};
use thiserror::Error;

use self::{
    fetch::FetchError,
    observe::Set,
    removal::{ABANDON, Removal},
    status::Outcome,
    validate::Cluster,
    version::Choice,
};
use super::Context;
use crate::{
    clock,
    k8s::{
        apply::ApplyError,
        calm,
        conditions::Finding,
        drive::{self, Driver, End, Failure, Wakes},
        fault::Fault,
        finalizer,
        names::ClusterNames,
        news,
        own::{
            BOOTSTRAPPED, CLUSTER, DATABASE, ENTRY_READY, FIELD_MANAGER, MANAGED_BY, Owner,
            Ownership,
        },
        retry,
        touched::{self, Touched},
    },
};

/// Keeps a REC until its databases are gone (the product's name).
const FINALIZER: &str = "redbfinalizer.redisenterpriseclusters.app.redislabs.com";

/// What is said of a REC without databases that goes.
const GOES: &str = "the objects of the cluster are being deleted; its volumes stay";
/// Topologies that change within this time of one another cost one look.
const CALM: Duration = Duration::from_millis(500);
/// Pause between two looks whether the databases of an unreadable REC are gone.
const DATABASES: Duration = Duration::from_secs(5);

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
    /// The way to the version that the spec names is not allowed.
    #[error("{0}")]
    Upgrade(String),
    /// Something that only a person can bring is missing.
    #[error("{0}")]
    Blocked(String),
    /// The deletion waits.
    #[error("{0}")]
    Waits(String),
}

impl Failure for ClusterError {
    fn fault(&self) -> Fault {
        match self {
            Self::Fetch(FetchError::Api(error)) | Self::Write(error) => error.fault(),
            Self::Fetch(
                FetchError::Randomness(_)
                | FetchError::Internal(_)
                | FetchError::Certificates(_)
                | FetchError::Interrupted,
            ) => Fault::Unavailable,
            Self::Invalid(_) | Self::Upgrade(_) => Fault::Invalid,
            Self::Blocked(_) => Fault::Refused,
            Self::Waits(_) => Fault::Waiting,
        }
    }
}

struct Clusters {
    context: Context,
    bundles: bundle::Bundles,
}

impl Driver for Clusters {
    type Kind = RedisEnterpriseCluster;
    type Error = ClusterError;
    const NAME: &'static str = "RedisEnterpriseCluster";
    const FINALIZER: Option<&'static str> = Some(FINALIZER);

    async fn look(&self, rec: &RedisEnterpriseCluster) -> Result<Option<Duration>, ClusterError> {
        let objects = &self.context.objects;
        if rec.metadata.deletion_timestamp.is_some() {
            return self.remove(rec).await;
        }
        finalizer::hold(objects, rec, FINALIZER).await?;

        let problems: Vec<String> = api::cluster(rec).iter().map(ToString::to_string).collect();
        if !problems.is_empty() {
            return self.invalid(rec, problems).await;
        }
        let world = world::read(objects, &rec.name_any()).await?;
        let chosen = suspension::choose(rec, world.running().as_ref(), &self.context.node_image);
        let choice = match chosen {
            Ok(choice) => choice,
            Err(refused) => {
                self.show(rec, &Outcome::InvalidUpgrade(&refused)).await?;
                return Err(ClusterError::Upgrade(refused.to_string()));
            }
        };
        let cluster = match checked(rec, &choice, world.seen().as_ref()) {
            Ok(cluster) => cluster,
            Err(problems) => return self.invalid(rec, problems).await,
        };
        overdue::hurry(objects, rec, &world.pods).await?;
        match choice.suspended {
            Some(why) => self.look_on(rec, &cluster, world, &why).await,
            None => self.make(rec, cluster, world).await,
        }
    }

    fn unreadable() -> Value {
        json!({ "state": "Invalid" })
    }

    async fn end(&self, rec: &ObjectMeta) -> Result<End, ClusterError> {
        let left = match self.removal(rec).await? {
            Removal::Go => GOES.to_owned(),
            Removal::Abandon(text) => text,
            Removal::Wait(text) => {
                let finding = Finding::no("Ready", "DatabasesExist", text);
                return Ok(End::Waits(finding, DATABASES));
            }
        };
        self.remove_secrets(rec.name.as_deref().unwrap_or_default())
            .await?;
        Ok(End::Over(left))
    }
}

impl Clusters {
    async fn show(
        &self,
        rec: &RedisEnterpriseCluster,
        outcome: &Outcome<'_>,
    ) -> Result<(), ApplyError> {
        let standing = status::standing(rec, &self.context.lacks);
        let wanted = status::status(rec, outcome, &standing, &clock::now_text());
        let objects = &self.context.objects;
        let mut shown = rec.status.clone();
        if let Some(status) = &mut shown {
            // That one is the rigger's.
            status.conditions.retain(|one| one.type_ != ENTRY_READY);
        }
        let written = match objects.status(rec, shown.as_ref(), &wanted).await {
            Err(error) if act::does_not_fit(&error) => {
                act::merge_status(objects, rec, &wanted).await?;
                true
            }
            other => other?,
        };
        self.remember(rec, &wanted).await?;
        if written && wanted.state != rec.status.as_ref().and_then(|status| status.state.clone()) {
            self.tell(rec, &wanted).await;
        }
        Ok(())
    }

    /// Keeps on the REC itself that it has served: a definition of another operator drops the condition that says so.
    async fn remember(
        &self,
        rec: &RedisEnterpriseCluster,
        shown: &RedisEnterpriseClusterStatus,
    ) -> Result<(), ApplyError> {
        let known = status::is_marked(rec) || rec.metadata.deletion_timestamp.is_some();
        if known || !status::says_bootstrapped(shown) {
            return Ok(());
        }
        let patch = json!({ "metadata": { "annotations": { BOOTSTRAPPED: rec.uid() } } });
        self.context.objects.merge(rec, patch).await.map(|_| ())
    }

    /// An Event for each change of the state word. Refusals have Events of their own.
    async fn tell(&self, rec: &RedisEnterpriseCluster, shown: &RedisEnterpriseClusterStatus) {
        let word = shown.state.as_ref().map_or("", |state| state.as_str());
        let ready = shown
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        let generation = rec.metadata.generation.unwrap_or(0);
        let text = ready.map_or("", |condition| condition.message.as_str());
        let note = format!("generation {generation}: {text}");
        let about = rec.object_ref(&());
        let events = &self.context.report.events;
        match shown.state {
            Some(ClusterState::Invalid | ClusterState::Error) => false,
            Some(ClusterState::InvalidUpgrade) => events.warning(&about, word, &note).await,
            _ => events.normal(&about, word, &note).await,
        };
    }

    async fn invalid(
        &self,
        rec: &RedisEnterpriseCluster,
        problems: Vec<String>,
    ) -> Result<Option<Duration>, ClusterError> {
        self.show(rec, &Outcome::Invalid(&problems)).await?;
        Err(ClusterError::Invalid(problems))
    }

    /// The last steps of a deletion: data Secrets by hand, the rest follows its owner. Volumes stay.
    async fn remove(&self, rec: &RedisEnterpriseCluster) -> Result<Option<Duration>, ClusterError> {
        let objects = &self.context.objects;
        let about = rec.object_ref(&());
        let events = &self.context.report.events;
        match self.removal(&rec.metadata).await? {
            Removal::Go => {
                self.show(rec, &Outcome::Deleting("Deleting", GOES)).await?;
            }
            Removal::Abandon(text) => {
                self.show(rec, &Outcome::Deleting("DatabasesAbandoned", &text))
                    .await?;
                events.warning(&about, "DatabasesAbandoned", &text).await;
            }
            Removal::Wait(text) => {
                self.show(rec, &Outcome::Deleting("DatabasesExist", &text))
                    .await?;
                events.warning(&about, "DatabasesExist", &text).await;
                return Err(ClusterError::Waits(text));
            }
        }
        self.remove_secrets(&rec.name_any()).await?;
        finalizer::release(objects, rec, FINALIZER).await?;
        Ok(None)
    }

    async fn removal(&self, rec: &ObjectMeta) -> Result<Removal, ApplyError> {
        let name = rec.name.as_deref().unwrap_or_default();
        let databases = fetch::databases(&self.context.objects, name).await?;
        let word = rec.annotations.as_ref().and_then(|all| all.get(ABANDON));
        Ok(removal::decide(name, &databases, word.map(String::as_str)))
    }

    /// Removes the Secrets that were made for the REC `name` itself: they have no owner that would take them along.
    async fn remove_secrets(&self, name: &str) -> Result<(), ApplyError> {
        let objects = &self.context.objects;
        let owner = Owner::cluster(name);
        for secret in objects.list::<Secret>(&owner.selector()).await? {
            objects.remove::<Secret>(&secret.name_any(), &owner).await?;
        }
        Ok(())
    }
}

/// A checked REC that fits to what stands already.
fn checked(
    rec: &RedisEnterpriseCluster,
    choice: &Choice,
    set: Option<&Set>,
) -> Result<Cluster, Vec<String>> {
    let cluster = validate::validate(rec, choice)?;
    match set {
        Some(set) => validate::fit(cluster, rec, set),
        None => Ok(cluster),
    }
}

/// Whether a REC is made of this Secret: it is one of its own, or the spec names it.
fn uses_secret(guard: &DeserializeGuard<RedisEnterpriseCluster>, secret: &Secret) -> bool {
    let name = secret.name_any();
    let owner = Owner::cluster(&guard.name_any());
    if matches!(owner.judge(Some(&secret.metadata)), Ownership::Ours { .. }) {
        return true;
    }
    names_secret(guard, &name)
}

/// Whether a REC lacks the Secret of this name, which is gone.
fn lacks_secret(guard: &DeserializeGuard<RedisEnterpriseCluster>, name: &str) -> bool {
    // Of its own ones nothing but the name is left, which begins with that of the REC.
    name.starts_with(&guard.name_any()) || names_secret(guard, name)
}

fn names_secret(guard: &DeserializeGuard<RedisEnterpriseCluster>, name: &str) -> bool {
    guard.0.as_ref().is_ok_and(|rec| {
        let spec = &rec.spec;
        let alone = [
            &spec.cluster_credential_secret_name,
            &spec.license_secret_name,
        ];
        certificates::names(spec.certificates.as_ref(), name)
            || alone.iter().any(|named| named.as_deref() == Some(name))
    })
}

/// The RECs that wait for the end of their databases: of what a REC is made, no database is a part.
fn waiting(
    all: Store<DeserializeGuard<RedisEnterpriseCluster>>,
) -> impl Fn() -> Vec<ObjectRef<DeserializeGuard<RedisEnterpriseCluster>>> {
    move || {
        let all = all.state();
        let going = all
            .iter()
            .filter(|rec| rec.meta().deletion_timestamp.is_some());
        going.map(|rec| ObjectRef::from_obj(rec.as_ref())).collect()
    }
}

/// Names the REC of an Active-Active database, whose peers may look for it at a port of its own.
fn found_by_peers(
    namespace: String,
) -> impl Fn(
    DeserializeGuard<ActiveActiveInstance>,
) -> Option<ObjectRef<DeserializeGuard<RedisEnterpriseCluster>>> {
    move |guard| {
        let instance = guard.0.ok()?;
        Some(ObjectRef::new(&instance.spec.cluster).within(&namespace))
    }
}

/// Runs the controller until the context stops.
pub(super) async fn run(context: Context) {
    let objects = context.objects.clone();
    let namespace = objects.namespace().to_owned();
    let controller = drive::controller_woken_by::<RedisEnterpriseCluster>(&objects, Wakes::Asked);
    let (going, also) = (waiting(controller.store()), waiting(controller.store()));
    let (secrets_of, marks) = (controller.store(), news::of_marks());
    // One look takes in all the databases that came or went in a moment.
    let topologies = watcher(
        objects.api::<DeserializeGuard<DatabaseTopology>>(),
        watcher::Config::default(),
    );
    let topologies = calm::calm(
        topologies.backoff(retry::alone()).touched_objects(),
        news::of_orders(),
        CALM,
    );
    let redbs: Api<DeserializeGuard<RedisEnterpriseDatabase>> = objects.api();
    let reaadbs: Api<DeserializeGuard<RedisEnterpriseActiveActiveDatabase>> = objects.api();
    let (of_service, home) = (
        drive::named_in_label(CLUSTER, &namespace),
        namespace.clone(),
    );
    let of_secret = move |secret: Touched<Secret>| {
        let news = marks(&secret);
        let recs = secrets_of.state();
        let uses = recs.iter().filter(|rec| match &secret {
            Touched::Is(secret) => {
                // Its data are the databases' to write.
                let users = ClusterNames(&rec.name_any()).users() == secret.name_any();
                (news || !users) && uses_secret(rec, secret)
            }
            Touched::Gone(name) => lacks_secret(rec, name),
        });
        uses.map(|rec| ObjectRef::from_obj(rec.as_ref()))
            .collect::<Vec<_>>()
    };
    let any = watcher::Config::default();
    let controller = touched::wakes(controller, objects.api(), any, of_secret)
        .watches(
            objects.api::<StatefulSet>(),
            drive::ours(),
            drive::named_in_label(CLUSTER, &namespace),
        )
        .watches(
            objects.api::<Service>(),
            drive::ours().labels(&format!("{MANAGED_BY}={FIELD_MANAGER},!{DATABASE}")),
            of_service,
        )
        .watches(
            objects.api::<Pod>(),
            drive::ours(),
            drive::named_in_label(CLUSTER, &namespace),
        )
        .watches(
            objects.api::<PersistentVolumeClaim>(),
            drive::ours(),
            drive::named_in_label(CLUSTER, &namespace),
        )
        .watches_stream(topologies, move |guard| {
            let topology = guard.0.ok()?;
            Some(ObjectRef::new(&topology.spec.cluster).within(&home))
        })
        .watches(
            objects.api::<DeserializeGuard<ActiveActiveInstance>>(),
            watcher::Config::default(),
            found_by_peers(namespace),
        )
        .watches(redbs, watcher::Config::default(), move |_| going())
        .watches(reaadbs, watcher::Config::default(), move |_| also());
    let (report, stop) = (context.report.clone(), context.stop.clone());
    drive::run(Clusters::new(context), controller, objects, report, stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_woken_by_its_own_secrets_and_by_those_that_its_spec_names() {
        let rec: DeserializeGuard<RedisEnterpriseCluster> = serde_json::from_value(json!({
            "metadata": {"name": "rec", "namespace": "ns"},
            "spec": {
                "certificates": {"apiCertificateSecretName": "api-cert"}, "clusterCredentialSecretName": "admin",
                "licenseSecretName": "licence",
            },
        }))
        .unwrap();
        let secret = |name: &str, owner: Option<Owner>| -> Secret {
            let labels = owner.map(|owner| owner.labels());
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
        };
        let cases = [
            (secret("api-cert", None), true),
            (secret("admin", None), true),
            (secret("licence", None), true),
            (secret("rec-tls", Some(Owner::cluster("rec"))), true),
            (secret("rec-tls", None), false),
            (secret("other", Some(Owner::cluster("other"))), false),
            (
                secret("redb-db", Some(Owner::database("rec", "ns", "db"))),
                false,
            ),
        ];
        for (secret, expected) in cases {
            assert_eq!(
                uses_secret(&rec, &secret),
                expected,
                "{}",
                secret.name_any()
            );
        }
        for (gone, expected) in [
            ("rec", true),
            ("rec-tls", true),
            ("admin", true),
            ("redb-db", false),
        ] {
            assert_eq!(lacks_secret(&rec, gone), expected, "{gone}");
        }
    }
}
