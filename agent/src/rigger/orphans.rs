//! Services of databases that are no more, left behind by a crash or by hands that took a finalizer away.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::ResourceExt as _;
use meridian_api::crds::{
    ActiveActiveInstance, DatabaseTopology, RedisEnterpriseActiveActiveDatabase,
    RedisEnterpriseDatabase,
};
use tokio_util::sync::CancellationToken;

use crate::k8s::{
    apply::{ApplyError, Object, Objects},
    drive::REST,
    fault::Fault,
    own::{CLUSTER, DATABASE, DATABASE_NAMESPACE, FIELD_MANAGER, MANAGED_BY, Owner},
};

/// Cluster, namespace and name of a database.
type Key = (String, String, String);

/// Looks for orphans at the start and every few minutes, until `stop`.
pub(super) async fn run(objects: Objects, stop: CancellationToken) {
    let mut tick = tokio::time::interval(REST);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = sweep(&objects).await {
            tracing::warn!(%error, "Services that were left behind could not be looked for");
        }
    }
}

/// Removes the Services and slices of every database of which nothing is left: neither its object, nor what the hub told
/// about it, nor its topology.
///
/// # Errors
/// The API server refused or could not be reached; what is not known to be gone stays.
async fn sweep(objects: &Objects) -> Result<(), ApplyError> {
    let selector = format!("{MANAGED_BY}={FIELD_MANAGER},{DATABASE}");
    let home = objects.namespace();
    let services = by_owner(&objects.list::<Service>(&selector).await?, home);
    let slices = by_owner(&objects.list::<EndpointSlice>(&selector).await?, home);
    // Read after the Services, so that a database that came in between counts. Only metadata is asked for: an object that
    // cannot be read exists all the same.
    let mut here = objects.names::<ActiveActiveInstance>().await?;
    here.extend(objects.names::<DatabaseTopology>().await?);
    let mut there = BTreeMap::new();
    for key in services.keys().chain(slices.keys()) {
        let (cluster, namespace, database) = key;
        if here.contains(database) {
            continue;
        }
        if !there.contains_key(namespace) {
            let found = databases(&objects.within(namespace)).await?;
            there.insert(namespace.clone(), found);
        }
        // In a namespace that may not be read any more everything counts as being there.
        if there[namespace]
            .as_ref()
            .is_none_or(|found| found.contains(database))
        {
            continue;
        }
        let owner = Owner::database(cluster, namespace, database);
        remove::<Service>(objects, services.get(key), &owner).await?;
        remove::<EndpointSlice>(objects, slices.get(key), &owner).await?;
    }
    Ok(())
}

/// Names of the databases of a namespace; `None` if it may not be read.
async fn databases(objects: &Objects) -> Result<Option<BTreeSet<String>>, ApplyError> {
    let mut found = match objects.names::<RedisEnterpriseDatabase>().await {
        Err(error) if error.fault() == Fault::Refused => return Ok(None),
        found => found?,
    };
    match objects.names::<RedisEnterpriseActiveActiveDatabase>().await {
        Err(error) if error.fault() == Fault::Refused => return Ok(None),
        more => found.extend(more?),
    }
    Ok(Some(found))
}

async fn remove<K: Object>(
    objects: &Objects,
    names: Option<&Vec<String>>,
    owner: &Owner,
) -> Result<(), ApplyError> {
    for name in names.into_iter().flatten() {
        if objects.remove::<K>(name, owner).await? {
            tracing::info!(kind = %K::kind(&()), name, "removed: its database is no more");
        }
    }
    Ok(())
}

/// Names by cluster, and namespace and name of the database.
fn by_owner<K: Object>(all: &[K], home: &str) -> BTreeMap<Key, Vec<String>> {
    let mut found: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    for object in all {
        let label = |key: &str| object.labels().get(key).cloned();
        let namespace = label(DATABASE_NAMESPACE).unwrap_or_else(|| home.to_owned());
        if let (Some(cluster), Some(database)) = (label(CLUSTER), label(DATABASE)) {
            let names = found.entry((cluster, namespace, database)).or_default();
            names.push(object.name_any());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rigger::testing::Store;

    #[tokio::test]
    async fn services_of_a_database_of_which_anything_may_be_left_stay() {
        let (objects, store) = Store::start();
        let left = [
            (
                "redb",
                "app.redislabs.com/v1alpha1/redisenterprisedatabases",
            ),
            (
                "reaadb",
                "app.redislabs.com/v1alpha1/redisenterpriseactiveactivedatabases",
            ),
            ("aai", "meridian.dev/v1alpha1/activeactiveinstances"),
            ("dbtopo", "meridian.dev/v1alpha1/databasetopologies"),
        ];
        for (name, plural) in left {
            store.put(
                plural,
                json!({"metadata": {"name": name}, "spec": "unreadable"}),
            );
        }
        for name in ["redb", "reaadb", "aai", "dbtopo", "gone"] {
            let labels = Owner::database("rec", "ns", name).labels();
            store.put(
                "v1/services",
                json!({"metadata": {"name": name, "labels": labels}}),
            );
            let slice = json!({"metadata": {"name": format!("{name}-meridian"), "labels": labels}, "addressType": "IPv4"});
            store.put("discovery.k8s.io/v1/endpointslices", slice);
        }
        let elsewhere = Owner::database("rec", "forbidden", "far").labels();
        store.put(
            "v1/services",
            json!({"metadata": {"name": "far", "labels": elsewhere}}),
        );
        let foreign =
            json!({"metadata": {"name": "foreign", "labels": {DATABASE: "gone", CLUSTER: "rec"}}});
        store.put("v1/services", foreign);
        store.put(
            "v1/services",
            json!({"metadata": {"name": "rec", "labels": Owner::cluster("rec").labels()}}),
        );
        sweep(&objects).await.unwrap();
        assert_eq!(
            store.names("v1/services"),
            ["aai", "dbtopo", "far", "foreign", "reaadb", "rec", "redb"]
        );
        assert_eq!(store.names("discovery.k8s.io/v1/endpointslices").len(), 4);
    }
}
