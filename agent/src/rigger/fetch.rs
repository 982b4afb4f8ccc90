//! Everything that the rigger reads about one database, and the user's wishes about its Services.

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::ResourceExt as _;
use meridian_api::crds::{
    DatabaseTopology, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster,
    RedisEnterpriseClusterSpec, RedisEnterpriseDatabase,
    cluster::{ServiceNaming, ServicePortPolicy},
};
use serde_json::json;

use super::{
    build::{Policy, Reach},
    endpoints::Decision,
};
use crate::k8s::{
    apply::{ApplyError, Objects},
    fault::Fault,
    own::{CLUSTER, MEMORY, Owner, ROLE_NODE},
};

/// Port of Services under the policy `RedisDefaultPort`.
const DEFAULT_PORT: i32 = 6379;

/// The world around one topology.
#[derive(Debug)]
pub(super) struct World {
    /// What the user wishes.
    pub(super) policy: Policy,
    /// The REC's pods.
    pub(super) pods: Vec<Pod>,
    /// The database's Services that we made.
    pub(super) services: Vec<Service>,
    /// Their slices.
    pub(super) slices: Vec<EndpointSlice>,
}

/// Reads the world; `None` while the database or its REC is going: then its controller cleans up.
///
/// A topology whose database object is gone (its finalizer was taken away by force) is still served by the nodes, so it
/// keeps its Services, and they follow it.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn fetch(
    objects: &Objects,
    topology: &DatabaseTopology,
) -> Result<Option<World>, ApplyError> {
    let spec = &topology.spec;
    let selector = Owner::of(spec).selector();
    let pods = format!("{CLUSTER}={},{}={}", spec.cluster, ROLE_NODE.0, ROLE_NODE.1);
    let (rec, wished, pods, services, slices) = tokio::try_join!(
        objects.get::<RedisEnterpriseCluster>(&spec.cluster),
        wished(objects, topology),
        objects.list(&pods),
        objects.list(&selector),
        objects.list(&selector),
    )?;
    let (Some(rec), Some(wished)) = (rec, wished) else {
        return Ok(None);
    };
    Ok(Some(World {
        policy: policy(&rec.spec, wished.0),
        pods,
        services,
        slices,
    }))
}

/// The port that the database asks for, if it is not going.
struct Wished(Option<i64>);

async fn wished(
    objects: &Objects,
    topology: &DatabaseTopology,
) -> Result<Option<Wished>, ApplyError> {
    let database = &topology.spec.database;
    if database.kind == "RedisEnterpriseDatabase" {
        let own = objects.within(&database.namespace);
        let redb = match own.get::<RedisEnterpriseDatabase>(&database.name).await {
            // Its clients are led to it, even where nothing of its namespace may be read any more.
            Err(error) if error.fault() == Fault::Refused => None,
            found => found?,
        };
        if let Some(redb) = redb {
            let stays = redb.metadata.deletion_timestamp.is_none();
            return Ok(stays.then_some(Wished(redb.spec.database_service_port)));
        }
    } else {
        // An Active-Active database serves until the hub confirms its deletion, whoever deleted it here.
        let reaadb = objects
            .get::<RedisEnterpriseActiveActiveDatabase>(&database.name)
            .await?;
        if let Some(reaadb) = reaadb {
            let settings = reaadb.spec.global_configurations;
            let port = settings.and_then(|spec| spec.database_service_port);
            return Ok(Some(Wished(port)));
        }
    }
    // The topology that is being looked at may be older than its deletion.
    let left = objects.get::<DatabaseTopology>(&database.name).await?;
    let stays = left.is_some_and(|left| {
        left.metadata.uid == topology.metadata.uid && left.metadata.deletion_timestamp.is_none()
    });
    Ok(stays.then_some(Wished(None)))
}

fn policy(rec: &RedisEnterpriseClusterSpec, wished: Option<i64>) -> Policy {
    let rigger = rec.services_rigger_spec.as_ref();
    let list = rigger.and_then(|rigger| rigger.database_service_type.as_deref());
    let default_port = rigger.and_then(|rigger| rigger.database_service_port_policy.as_ref());
    Policy {
        // Validation of the REC refuses unknown words and says so there; until it is corrected the default holds.
        reach: list
            .and_then(|list| Reach::parse(list).ok())
            .unwrap_or_else(Reach::default_set),
        name_by_port: rigger.and_then(|rigger| rigger.service_naming.as_ref())
            == Some(&ServiceNaming::RedisPort),
        service_port: wished
            .and_then(|port| i32::try_from(port).ok())
            .or_else(|| {
                (default_port == Some(&ServicePortPolicy::RedisDefaultPort)).then_some(DEFAULT_PORT)
            }),
        annotations: rec
            .services
            .as_ref()
            .map(|services| services.services_annotations.clone())
            .unwrap_or_default(),
        labels: rec.extra_labels.clone(),
    }
}

/// What the slices are to remember: the place that they lead to, otherwise what they remember already.
pub(super) fn memory(
    topology: &DatabaseTopology,
    slices: &[EndpointSlice],
    decision: &Decision,
) -> Option<String> {
    if let Decision::Lead(target) = decision {
        let spec = &topology.spec;
        return Some(
            json!({ "epoch": spec.epoch, "primary": target.pod, "port": spec.port }).to_string(),
        );
    }
    slices
        .iter()
        .find_map(|slice| slice.annotations().get(MEMORY).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rec(rigger: &serde_json::Value) -> RedisEnterpriseClusterSpec {
        serde_json::from_value(json!({ "servicesRiggerSpec": rigger })).unwrap()
    }

    #[test]
    fn the_databases_own_service_port_wins_over_the_clusters_policy() {
        let default = rec(&json!({"databaseServicePortPolicy": "RedisDefaultPort"}));
        assert_eq!(policy(&default, None).service_port, Some(6379));
        assert_eq!(policy(&default, Some(7000)).service_port, Some(7000));
        assert_eq!(policy(&rec(&json!({})), None).service_port, None);
    }

    #[test]
    fn the_clusters_list_of_service_types_is_taken_and_has_a_default() {
        let listed =
            rec(&json!({"databaseServiceType": "load_balancer", "serviceNaming": "redis-port"}));
        assert_eq!(policy(&listed, None).reach, [Reach::LoadBalancer].into());
        assert!(policy(&listed, None).name_by_port);
        assert_eq!(policy(&rec(&json!({})), None).reach, Reach::default_set());
    }
}
