//! What a look at a database is like, the same for REDB and REAADB: how it fails, how it ends a deletion, what wakes it.

use std::time::Duration;

use k8s_openapi::api::{
    core::v1::{ConfigMap, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        controller::Controller,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use meridian_api::{
    crds::{DatabaseTopology, RedisEnterpriseCluster, RedisEnterpriseDatabaseSpec},
    validate::secrets_named,
};
use thiserror::Error;

use super::{
    ServeError,
    remove::{self, Removal},
};
use crate::{
    controllers::{Context, topology::Memory},
    k8s::{
        apply::{ApplyError, Object, Objects},
        drive::{self, End, Failure, Wakes},
        fault::Fault,
        finalizer,
        names::{ClusterNames, DatabaseNames},
        news,
        own::{DATABASE, ROLE, ROLE_NODE},
        touched::{self, Touched},
    },
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

/// What a step towards the end of a database that cannot be read means for it.
///
/// # Errors
/// The step that was taken failed.
pub(crate) fn ended(step: Result<Removal, ServeError>) -> Result<End, LookError> {
    let step = step?;
    if step == Removal::Done {
        let left = "no shard of it runs any more; its files stay on the volumes of the nodes";
        return Ok(End::Over(left.to_owned()));
    }
    Ok(End::Waits(remove::finding(&Ok(step)), DELETION))
}

/// Adds to a controller what says who may log in: the Secrets that the database names or that were made for it, Secrets with a
/// role, and access lists. `objects` are those of the REC's namespace, `own` those of the databases'; `spec` finds the settings.
#[must_use]
pub(crate) fn woken_by_access<K>(
    controller: Controller<DeserializeGuard<K>>,
    objects: &Objects,
    own: &Objects,
    spec: fn(&K) -> Option<&RedisEnterpriseDatabaseSpec>,
) -> Controller<DeserializeGuard<K>>
where
    K: Object + Send + Sync,
{
    let (all, also) = (controller.store(), controller.store());
    let has_roles =
        move |database: &K| spec(database).is_some_and(|spec| !spec.roles_permissions.is_empty());
    let by_secret = move |secret: Secret| {
        woken(&all, |database: &K| {
            let labels = secret.labels();
            let (name, own) = (secret.name_any(), database.name_any());
            let named = |spec: &RedisEnterpriseDatabaseSpec| {
                secrets_named("", spec)
                    .iter()
                    .any(|(_, used)| *used == name)
            };
            labels.get(DATABASE) == Some(&own)
                || DatabaseNames(&own).secret() == name
                || spec(database).is_some_and(named)
                || (labels.contains_key(ROLE) && has_roles(database))
        })
    };
    let by_list = move |map: ConfigMap| {
        let meant = ClusterNames("").acls();
        woken(&also, |database: &K| {
            map.name_any().ends_with(&meant) && has_roles(database)
        })
    };
    let mut controller = controller
        .watches(own.api::<Secret>(), watcher::Config::default(), by_secret)
        .watches(
            objects.api::<ConfigMap>(),
            watcher::Config::default(),
            by_list,
        );
    if own.namespace() != objects.namespace() {
        let all = controller.store();
        let by_role = move |_: Secret| woken(&all, has_roles);
        let roles = watcher::Config::default().labels(ROLE);
        controller = controller.watches(objects.api::<Secret>(), roles, by_role);
    }
    controller
}

fn woken<K: Object>(
    all: &Store<DeserializeGuard<K>>,
    meant: impl Fn(&K) -> bool,
) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    let databases = all.state();
    let meant = databases
        .iter()
        .filter(|guard| guard.0.as_ref().is_ok_and(&meant));
    meant
        .map(|guard| ObjectRef::from_obj(guard.as_ref()))
        .collect()
}

/// The databases whose data the pod holds, and those of which it is not known who does.
fn held_by<K: Object>(
    all: &Store<DeserializeGuard<K>>,
    pod: &str,
) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    woken(all, |database| {
        Memory::read(database.meta()).is_none_or(|memory| memory.primary == pod)
    })
}

/// A controller of the databases of the kind `K` in `namespace`, woken by their topologies, Services and slices among the
/// objects of the REC's namespace, by the pods that hold their data, by what is asked of any REC, and by other databases that
/// give back what it was refused for.
#[must_use]
pub(crate) fn controller<K>(
    context: &Context,
    namespace: &str,
    wakes: Wakes,
) -> Controller<DeserializeGuard<K>>
where
    K: Object + Send + Sync,
{
    let objects = &context.objects;
    let controller = drive::controller_woken_by::<K>(&objects.within(namespace), wakes);
    let (all, concerns) = (controller.store(), news::of_clusters());
    let (kept, changed) = (controller.store(), news::of_pods());
    let refused = &context.ledger.refused;
    let helped = refused.helped_by(namespace, controller.store());
    let own = news::of_topologies(namespace);
    let nodes = watcher::Config::default().labels(&format!("{}={}", ROLE_NODE.0, ROLE_NODE.1));
    let recs: Api<DeserializeGuard<RedisEnterpriseCluster>> = objects.api();
    let topologies: Api<DeserializeGuard<DatabaseTopology>> = objects.api();
    let of_topology = move |touched| {
        let mut woken = helped(&touched);
        woken.extend(own(&touched));
        woken
    };
    let of_pod = move |pod: Touched<Pod>| match changed(&pod) {
        true => held_by(&kept, &pod.name()),
        false => Vec::new(),
    };
    let of_rec = move |rec| match concerns(&rec) {
        true => woken(&all, |_| true),
        false => Vec::new(),
    };
    let any = watcher::Config::default;
    let controller = touched::wakes(controller, topologies, any(), of_topology);
    let controller = touched::wakes(controller, objects.api(), nodes, of_pod);
    touched::wakes(controller, recs, any(), of_rec)
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
}

#[cfg(test)]
mod tests {
    use meridian_api::crds::RedisEnterpriseDatabase;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_wakes_the_databases_that_it_holds_and_those_of_an_unknown_place() {
        let (store, mut writer) = kube::runtime::reflector::store();
        for (name, primary) in [("a", Some("rec-0")), ("b", Some("rec-1")), ("c", None)] {
            let memory =
                primary.map(|pod| json!({"epoch": 1, "primary": pod, "port": 1}).to_string());
            let annotations = memory.map(|memory| json!({crate::k8s::own::MEMORY: memory}));
            let metadata = json!({"name": name, "namespace": "ns", "annotations": annotations});
            let redb: DeserializeGuard<RedisEnterpriseDatabase> =
                serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap();
            writer.apply_watcher_event(&watcher::Event::Apply(redb));
        }
        let mut woken: Vec<String> = held_by(&store, "rec-0")
            .into_iter()
            .map(|one| one.name)
            .collect();
        woken.sort();
        assert_eq!(woken, ["a", "c"]);
    }
}
