//! In a pod: watches the topologies of this cluster and the users Secret, and writes the node's status.

mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use meridian_api::crds::topology::{DatabaseTopology, MemberReport};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::SyncError;
use super::node::Node;
use super::report::{REFRESH, is_edge, member};
use super::settings::Settings;
use crate::backoff::API;
use crate::clock;
use state::{Known, Seen};

/// How often PID 1 is asked what it runs, so that the end of a shard is told soon.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Why there is no Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The pod has no credentials, or they are unreadable.
    #[error("read this pod's credentials for the Kubernetes API")]
    Client(#[source] Box<kube::Error>),
}

/// Watches and reports until `stop`.
pub(super) async fn run(
    node: Arc<Node>,
    settings: Settings,
    stop: CancellationToken,
) -> Result<(), SyncError> {
    let client = Client::try_default()
        .await
        .map_err(|e| KubernetesError::Client(Box::new(e)))?;
    tokio::select! {
        () = stop.cancelled() => {}
        () = learn(&client, &node, &settings) => {}
        () = report(&client, &node, &settings) => {}
    }
    Ok(())
}

/// Follows the topologies and passwords for ever.
async fn learn(client: &Client, node: &Node, settings: &Settings) {
    let mut topologies = topologies(client, settings);
    let mut secrets = secrets(client, settings);
    let mut known = Known::new(&settings.cluster);
    loop {
        let changed = tokio::select! {
            Some(event) = topologies.next() => known.topology(event),
            Some(event) = secrets.next() => known.secret(event),
        };
        match changed {
            Seen::Nothing => {}
            Seen::Failure {
                what,
                message,
                first,
            } => {
                // The watch goes on by itself; one line per outage is enough.
                if first {
                    warn!(
                        what,
                        error = message,
                        "the Kubernetes API does not answer; everything stays as it is"
                    );
                }
            }
            Seen::Changed => {
                if let Some((topologies, passwords)) = known.complete() {
                    node.follow(topologies, passwords).await;
                }
            }
        }
    }
}

type Events<K> = std::pin::Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

fn topologies(client: &Client, settings: &Settings) -> Events<DeserializeGuard<DatabaseTopology>> {
    let api = Api::namespaced(client.clone(), &settings.namespace);
    Box::pin(with_back_off(watcher(api, watcher::Config::default())))
}

fn secrets(client: &Client, settings: &Settings) -> Events<Secret> {
    let api = Api::namespaced(client.clone(), &settings.namespace);
    let name = format!("metadata.name={}-users", settings.cluster);
    Box::pin(with_back_off(watcher(
        api,
        watcher::Config::default().fields(&name),
    )))
}

/// Waits between failures, longer each time, until something succeeds.
fn with_back_off<K: Send + 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let mut failures = 0_u32;
    events.then(move |event| {
        failures = if event.is_err() {
            failures.saturating_add(1)
        } else {
            0
        };
        let wait = event.is_err().then(|| API.delay(failures, rand::random()));
        async move {
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
            event
        }
    })
}

/// Writes the node's status for ever.
async fn report(client: &Client, node: &Node, settings: &Settings) {
    let api: Api<DatabaseTopology> = Api::namespaced(client.clone(), &settings.namespace);
    let mut told: BTreeMap<String, (MemberReport, Instant)> = BTreeMap::new();
    let mut edges = node.edges();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = look.tick() => node.refresh().await,
            // The sender lives as long as the node.
            _changed = edges.changed() => {}
        }
        let view = node.view();
        told.retain(|name, _| view.databases.iter().any(|d| d.name == *name));
        for database in &view.databases {
            let now = member(&view, database);
            let due = told.get(&database.name).is_none_or(|(before, at)| {
                is_edge(before, &now) || clock::now().duration_since(*at) >= REFRESH
            });
            if !due {
                continue;
            }
            match write(&api, settings, &database.name, &now).await {
                Ok(()) => {
                    told.insert(database.name.clone(), (now, clock::now()));
                    failing = false;
                }
                // A topology that is gone has no status.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    if !failing {
                        warn!(
                            database = database.name,
                            error = crate::run::chain(&error),
                            "the status was not written; trying on"
                        );
                    }
                    failing = true;
                }
            }
        }
    }
}

async fn write(
    api: &Api<DatabaseTopology>,
    settings: &Settings,
    name: &str,
    member: &MemberReport,
) -> Result<(), kube::Error> {
    let patch = serde_json::json!({
        "apiVersion": "meridian.dev/v1alpha1",
        "kind": "DatabaseTopology",
        "metadata": { "name": name },
        "status": { "members": [member] },
    });
    let params = PatchParams::apply(&settings.node).force();
    let written = tokio::time::timeout(
        REFRESH,
        api.patch_status(name, &params, &Patch::Apply(&patch)),
    )
    .await;
    match written {
        Ok(answer) => answer.map(drop),
        Err(_elapsed) => {
            info!(database = name, "the Kubernetes API did not answer in time");
            Ok(())
        }
    }
}
