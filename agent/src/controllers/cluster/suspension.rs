//! Whether changes of a REC and of its databases wait because agent and cluster are of different releases.
//!
//! Decided anew at each look from what runs, never from a status: a definition of another operator drops the condition
//! `Suspended`, and nothing would wait any more.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;
use meridian_api::crds::RedisEnterpriseCluster;

use super::{
    observe::Set,
    version::{self, Choice, Own, Refused, Running},
    world,
};
use crate::{
    controllers::Context,
    k8s::{
        apply::{ApplyError, Objects},
        names::ClusterNames,
        own::{Owner, Ownership},
    },
};

/// Chooses what the nodes of `rec` run under an agent that was installed with `node_image`.
///
/// # Errors
/// [`Refused`]: the way from what runs to what the spec asks for is not allowed.
pub(super) fn choose(
    rec: &RedisEnterpriseCluster,
    running: Option<&Running>,
    node_image: &str,
) -> Result<Choice, Refused> {
    let own = Own::new(node_image, env!("CARGO_PKG_VERSION"));
    let follow = rec
        .spec
        .upgrade_spec
        .as_ref()
        .is_some_and(|upgrade| upgrade.auto_upgrade_redis_enterprise);
    let image = rec.spec.redis_enterprise_image_spec.as_ref();
    version::choose(image, follow, running, &own)
}

/// Why changes of the databases of `rec` wait, if they do.
///
/// # Errors
/// What runs could not be read.
pub(in crate::controllers) async fn suspended(
    context: &Context,
    rec: &RedisEnterpriseCluster,
) -> Result<Option<String>, ApplyError> {
    let running = running(&context.objects, &rec.name_any()).await?;
    Ok(waits(rec, running.as_ref(), &context.node_image))
}

/// What the nodes of the REC `name` run: by their StatefulSet, and only without it by all that is there.
async fn running(objects: &Objects, name: &str) -> Result<Option<Running>, ApplyError> {
    let set = objects
        .get::<StatefulSet>(&ClusterNames(name).main())
        .await?;
    let owner = Owner::cluster(name);
    let ours = set.filter(|set| matches!(owner.judge(Some(&set.metadata)), Ownership::Ours { .. }));
    match ours.as_ref().and_then(|set| Set::of(set).running) {
        Some(running) => Ok(Some(running)),
        None => Ok(world::read(objects, name).await?.running()),
    }
}

fn waits(
    rec: &RedisEnterpriseCluster,
    running: Option<&Running>,
    node_image: &str,
) -> Option<String> {
    match choose(rec, running, node_image) {
        Ok(choice) => choice.suspended,
        Err(refused) => {
            let own = Own::new(node_image, env!("CARGO_PKG_VERSION"));
            let text = format!("{refused}. Until then changes of its databases wait");
            own.differs(running?).then_some(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A REC as it is read under a definition that keeps no conditions.
    fn pruned(spec: &Value) -> RedisEnterpriseCluster {
        let meta = json!({"name": "rec", "namespace": "ns", "uid": "u"});
        let status = json!({"state": "Running", "specStatus": "Valid"});
        serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).unwrap()
    }

    fn runs(tag: &str) -> Running {
        Running {
            image: format!("node:{tag}"),
            release: None,
        }
    }

    #[test]
    fn databases_wait_by_what_runs_and_not_by_what_the_status_says() {
        let tag = |tag: &str| json!({"redisEnterpriseImageSpec": {"versionTag": tag}});
        let follow = json!({"upgradeSpec": {"autoUpgradeRedisEnterprise": true}});
        // (spec, what runs, whether changes wait), under an agent of 2.0.0
        let cases = [
            (json!({}), Some("2.0.0"), false),
            (json!({}), Some("2.0.0-4"), false),
            (json!({}), Some("1.9.0"), true),
            (json!({}), Some("2.1.0"), true),
            (json!({}), None, false),
            (tag("1.9.0"), Some("1.9.0"), true),
            // The upgrade was asked for and is on its way.
            (tag("2.0.0"), Some("1.9.0"), false),
            (follow, Some("1.9.0"), false),
            // A version that cannot be had: what runs decides.
            (tag("9.9.9"), Some("1.9.0"), true),
            (tag("9.9.9"), Some("2.0.0"), false),
        ];
        for (spec, running, expected) in cases {
            let running = running.map(runs);
            let found = waits(&pruned(&spec), running.as_ref(), "node:2.0.0");
            assert_eq!(found.is_some(), expected, "{spec} {running:?}: {found:?}");
        }
    }
}
