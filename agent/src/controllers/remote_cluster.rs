//! The controller of `RedisEnterpriseRemoteCluster` (RERC): whether it can be used, and whether it is this cluster's
//! own. Nothing is made for it: between Meridian clusters the hub tells members how to reach each other.

use std::time::Duration;

use kube::{
    Api, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use meridian_api::{
    crds::{
        ActiveActiveInstance, RedisEnterpriseCluster, RedisEnterpriseRemoteCluster,
        RedisEnterpriseRemoteClusterStatus, SpecStatus, remote_cluster::RemoteClusterStatus,
    },
    validate as api,
};
use serde_json::{Value, json};
use thiserror::Error;

use super::{Context, inert};
use crate::{
    clock,
    k8s::{
        apply::ApplyError,
        conditions::{Finding, conditions},
        drive::{self, Driver, Failure},
        fault::Fault,
        news, touched,
    },
};

/// Why a look at a RERC failed.
#[derive(Debug, Error)]
pub(super) enum RemoteClusterError {
    /// The spec cannot be used.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// Something could not be read or written.
    #[error(transparent)]
    Api(#[from] ApplyError),
}

impl Failure for RemoteClusterError {
    fn fault(&self) -> Fault {
        match self {
            Self::Invalid(_) => Fault::Invalid,
            Self::Api(error) => error.fault(),
        }
    }
}

struct RemoteClusters {
    context: Context,
}

impl Driver for RemoteClusters {
    type Kind = RedisEnterpriseRemoteCluster;
    type Error = RemoteClusterError;
    const NAME: &'static str = "RedisEnterpriseRemoteCluster";

    async fn look(
        &self,
        rerc: &RedisEnterpriseRemoteCluster,
    ) -> Result<Option<Duration>, RemoteClusterError> {
        let objects = &self.context.objects;
        let recs = objects.list::<RedisEnterpriseCluster>("").await?;
        let instances = objects.list::<ActiveActiveInstance>("").await?;
        let problems: Vec<String> = api::remote_cluster(rerc)
            .iter()
            .map(ToString::to_string)
            .collect();
        let local = is_local(rerc, &recs, &instances);
        let wanted = status(rerc, local, &problems, &clock::now_text());
        objects.status(rerc, rerc.status.as_ref(), &wanted).await?;
        if problems.is_empty() {
            Ok(None)
        } else {
            Err(RemoteClusterError::Invalid(problems))
        }
    }

    fn unreadable() -> Value {
        json!({ "status": "Error" })
    }
}

/// Whether `rerc` names a REC of this cluster. Clusters may have RECs of the same name and namespace; where the hub has
/// told which member of a database this cluster is, that decides.
fn is_local(
    rerc: &RedisEnterpriseRemoteCluster,
    recs: &[RedisEnterpriseCluster],
    instances: &[ActiveActiveInstance],
) -> bool {
    let name = rerc.name_any();
    let told = instances.iter().find_map(|instance| tells(instance, &name));
    told.unwrap_or_else(|| {
        let spec = &rerc.spec;
        recs.iter().any(|rec| {
            let ingress = rec.spec.ingress_or_route_spec.as_ref();
            let same_host = ingress.is_none_or(|ingress| ingress.api_fqdn_url == spec.api_fqdn_url);
            rec.name_any() == spec.rec_name
                && rec.namespace().as_ref() == Some(&spec.rec_namespace)
                && same_host
        })
    })
}

/// Whether this cluster takes part under the name of that RERC, if the instance knows it.
fn tells(instance: &ActiveActiveInstance, rerc: &str) -> Option<bool> {
    let members = &instance.spec.members;
    let member = members.iter().find(|member| member.name == rerc)?;
    Some(member.instance_id == instance.spec.instance_id)
}

/// Whether an instance tells of `rerc` what that does not show. Every database of this cluster has an instance that names the
/// same RERCs: what they all say alike wakes none.
fn is_news(instance: &ActiveActiveInstance, rerc: &RedisEnterpriseRemoteCluster) -> bool {
    let shown = rerc.status.as_ref().and_then(|status| status.local);
    tells(instance, &rerc.name_any()).is_some_and(|told| Some(told) != shown)
}

fn status(
    rerc: &RedisEnterpriseRemoteCluster,
    local: bool,
    problems: &[String],
    now: &str,
) -> RedisEnterpriseRemoteClusterStatus {
    let before = rerc.status.clone().unwrap_or_default();
    let valid = problems.is_empty();
    let ready = if valid {
        Finding::yes(
            "Ready",
            "Accepted",
            "may take part; links show in the Active-Active databases that use it",
        )
    } else {
        Finding::no("Ready", "Invalid", problems.join("; "))
    };
    let findings = [ready, inert::finding(&inert::remote_cluster(rerc))];
    RedisEnterpriseRemoteClusterStatus {
        local: Some(local),
        spec_status: Some(if valid {
            SpecStatus::Valid
        } else {
            SpecStatus::Invalid
        }),
        status: Some(if valid {
            RemoteClusterStatus::Active
        } else {
            RemoteClusterStatus::Error
        }),
        observed_generation: rerc.metadata.generation,
        conditions: conditions(&before.conditions, &findings, rerc.metadata.generation, now),
        ..before
    }
}

type Known = Store<DeserializeGuard<RedisEnterpriseRemoteCluster>>;
type Named = ObjectRef<DeserializeGuard<RedisEnterpriseRemoteCluster>>;

fn all_of(store: &Known) -> Vec<Named> {
    let all = store.state();
    all.iter()
        .map(|one| ObjectRef::from_obj(one.as_ref()))
        .collect()
}

fn told_by(instance: &DeserializeGuard<ActiveActiveInstance>, store: &Known) -> Vec<Named> {
    // What cannot be read says nothing.
    let Ok(instance) = &instance.0 else {
        return Vec::new();
    };
    let all = store.state();
    let read = all
        .iter()
        .filter_map(|one| Some((one, one.0.as_ref().ok()?)));
    read.filter(|(_, rerc)| is_news(instance, rerc))
        .map(|(one, _)| ObjectRef::from_obj(one.as_ref()))
        .collect()
}

/// Runs the controller until the context stops.
pub(super) async fn run(context: Context) {
    let objects = context.objects.clone();
    let controller = drive::controller::<RedisEnterpriseRemoteCluster>(&objects);
    let (by_rec, by_instance) = (controller.store(), controller.store());
    let concerns = news::of_clusters();
    let recs: Api<DeserializeGuard<RedisEnterpriseCluster>> = objects.api();
    let instances: Api<DeserializeGuard<ActiveActiveInstance>> = objects.api();
    let of_rec = move |rec| match concerns(&rec) {
        true => all_of(&by_rec),
        false => Vec::new(),
    };
    let controller = touched::wakes(controller, recs, watcher::Config::default(), of_rec).watches(
        instances,
        watcher::Config::default(),
        move |instance| told_by(&instance, &by_instance),
    );
    let (report, stop) = (context.report.clone(), context.stop.clone());
    drive::run(
        RemoteClusters { context },
        controller,
        objects,
        report,
        stop,
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rerc(name: &str) -> RedisEnterpriseRemoteCluster {
        serde_json::from_value(json!({"metadata": {"name": name, "generation": 1},
            "spec": {"recName": "rec", "recNamespace": "ns", "apiFqdnUrl": "api.example.com"}}))
        .unwrap()
    }

    fn rec(name: &str, namespace: &str, host: Option<&str>) -> RedisEnterpriseCluster {
        let entry = host
            .map(|host| json!({"apiFqdnUrl": host, "dbFqdnSuffix": ".db", "method": "ingress"}));
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"ingressOrRouteSpec": entry}})).unwrap()
    }

    #[test]
    fn a_remote_cluster_is_local_if_name_namespace_and_entry_are_those_of_a_rec_here() {
        let cases = [
            (vec![], false),
            (vec![rec("rec", "ns", None)], true),
            (vec![rec("rec", "other", None)], false),
            (vec![rec("rec", "ns", Some("api.example.com"))], true),
            (vec![rec("rec", "ns", Some("api.elsewhere.com"))], false),
        ];
        for (recs, expected) in cases {
            assert_eq!(is_local(&rerc("eu"), &recs, &[]), expected, "{recs:?}");
        }
    }

    #[test]
    fn what_the_hub_told_decides_between_recs_of_the_same_name() {
        let member =
            |id: i64, name: &str| json!({"instanceId": id, "name": name, "clusterUid": "c"});
        let instance: ActiveActiveInstance = serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {
            "guid": "g", "objectId": "o", "instanceId": 1, "configVersion": 1, "planNumber": 1, "hubTerm": 1,
            "storeId": "s", "database": {"namespace": "ns", "name": "db"}, "cluster": "rec",
            "members": [member(1, "eu"), member(2, "us")]}}))
        .unwrap();
        let recs = [rec("rec", "ns", None)];
        assert!(is_local(
            &rerc("eu"),
            &recs,
            std::slice::from_ref(&instance)
        ));
        assert!(!is_local(
            &rerc("us"),
            &recs,
            std::slice::from_ref(&instance)
        ));

        let shown = |name: &str, local: bool| {
            let mut rerc = rerc(name);
            rerc.status = Some(RedisEnterpriseRemoteClusterStatus {
                local: Some(local),
                ..Default::default()
            });
            rerc
        };
        let cases = [
            (rerc("eu"), true),
            (shown("eu", true), false),
            (shown("eu", false), true),
            (shown("us", false), false),
            (shown("us", true), true),
            (rerc("elsewhere"), false),
        ];
        for (rerc, news) in cases {
            assert_eq!(is_news(&instance, &rerc), news, "{rerc:?}");
        }
    }

    #[test]
    fn an_invalid_spec_is_an_error_with_its_reason() {
        let shown = status(
            &rerc("eu"),
            true,
            &["spec.recName: wrong".to_owned()],
            "now",
        );
        assert_eq!(
            (shown.status, shown.spec_status, shown.local),
            (
                Some(RemoteClusterStatus::Error),
                Some(SpecStatus::Invalid),
                Some(true)
            )
        );
        assert!(
            shown
                .conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.message.contains("spec.recName"))
        );
    }
}
