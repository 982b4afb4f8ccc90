//! Tells sessions which objects changed: one watch over everything that members are told, split by the member in the key,
//! so its cost follows the number of changes and not that of members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use meridian_api::ids::{ClusterUid, ObjectId, Revision};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::domain::breaker::Scope;
use crate::link::sessions::Sessions;
use crate::store::{Batch, Read, Store, StoreError, keys};

/// Pause before a broken watch is opened again.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Runs until the token is cancelled.
pub async fn run(store: Arc<dyn Store>, sessions: Sessions, stop: CancellationToken) {
    let work = async {
        loop {
            let both = async {
                tokio::try_join!(
                    follow(store.as_ref(), &sessions),
                    follow_freezes(store.as_ref(), &sessions)
                )
            };
            if let Err(error) = both.await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "delivery looks at everything again"
                );
            }
            sleep(AFTER_FAILURE).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Marks everything once, because what changed while nobody watched is unknown, then every change.
async fn follow(store: &dyn Store, sessions: &Sessions) -> Result<(), StoreError> {
    let prefix = keys::all_desired().text().to_owned();
    let Read { value, revision } = store.list(vec![prefix.clone()]).await?;
    mark(
        sessions,
        value.iter().flatten().map(|entry| entry.key.as_str()),
        revision,
    );
    let mut changes = store.watch(prefix, revision).await?;
    while let Some(batch) = changes.next().await {
        let Batch { revision, changes } = batch?;
        mark(
            sessions,
            changes.iter().map(|change| change.key.as_str()),
            revision,
        );
    }
    Ok(())
}

/// Lets sessions look again at what they may not tell, whenever a freeze begins or ends.
async fn follow_freezes(store: &dyn Store, sessions: &Sessions) -> Result<(), StoreError> {
    let prefix = keys::tallies().text().to_owned();
    let head = store.list(Vec::new()).await?.revision;
    sessions.reconsider(Scope::Fleet);
    let mut changes = store.watch(prefix, head).await?;
    while let Some(batch) = changes.next().await {
        let changed = batch?.changes;
        for scope in changed.iter().map(|change| keys::last_part(&change.key)) {
            if let Ok(scope) = scope.parse() {
                sessions.reconsider(scope);
            }
        }
    }
    Ok(())
}

fn mark<'a>(sessions: &Sessions, keys: impl Iterator<Item = &'a str>, revision: Revision) {
    let mut by_cluster: BTreeMap<ClusterUid, Vec<ObjectId>> = BTreeMap::new();
    for (cluster, object) in keys.filter_map(keys::cluster_and_object) {
        by_cluster.entry(cluster).or_default().push(object);
    }
    for (cluster, objects) in by_cluster {
        sessions.mark(cluster, objects, revision);
    }
}
