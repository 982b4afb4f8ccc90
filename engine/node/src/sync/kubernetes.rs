//! In a pod: watches the topologies of this cluster and the users Secret, reads a topology when a permission depends on it, and
//! writes the node's status.

mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use meridian_api::crds::topology::{DatabaseTopology, EntryReport, MemberReport};
use meridian_api::installation::lacking;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::SyncError;
use super::authority::{Authority, AuthorityError};
use super::node::Node;
use super::observed::Observed;
use super::settings::Settings;
use super::topology::Topology;
use crate::backoff::API;
use crate::clock;
use crate::desired::Access;
use state::{Known, Seen};

/// Why there is no Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The pod has no credentials, or they are unreadable.
    #[error("read this pod's credentials for the Kubernetes API")]
    Client(#[source] Box<kube::Error>),
}

/// The API of this pod's cluster.
pub(super) struct Kubernetes {
    client: Client,
    settings: Settings,
}

impl Kubernetes {
    /// With this pod's credentials; nothing is asked yet.
    ///
    /// # Errors
    /// [`KubernetesError::Client`] if there are none.
    pub(super) async fn new(settings: &Settings) -> Result<Arc<Self>, KubernetesError> {
        let client = Client::try_default()
            .await
            .map_err(|e| KubernetesError::Client(Box::new(e)))?;
        let settings = settings.clone();
        Ok(Arc::new(Self { client, settings }))
    }
}

/// Everything that a node is told: the topologies, and who may use them.
type Told = (Vec<Topology>, BTreeMap<String, Access>);

/// Follows the topologies and users for ever, and shows them to `observed`.
pub(super) async fn learn(
    node: Arc<Node>,
    kubernetes: Arc<Kubernetes>,
    observed: Arc<Observed>,
) -> Result<(), SyncError> {
    let (tell, told) = watch::channel(None);
    let follow = |(topologies, access): Told| {
        let node = Arc::clone(&node);
        async move { node.follow(topologies, access).await }
    };
    tokio::select! {
        () = listen(&kubernetes, &observed, &tell) => {}
        () = follow_newest(told, follow) => {}
    }
    Ok(())
}

/// Hands `follow` the newest that was told, again and again. What is told while it is under way waits and is followed at once: a
/// pod that ends changes the topologies of all its primaries one after the other.
async fn follow_newest<T: Clone, F: Future<Output = ()>>(
    mut told: watch::Receiver<Option<T>>,
    mut follow: impl FnMut(T) -> F,
) {
    while told.changed().await.is_ok() {
        let newest = told.borrow_and_update().clone();
        if let Some(newest) = newest {
            follow(newest).await;
        }
    }
}

/// Watches for ever, and tells everything that is known whenever some of it changes.
async fn listen(kubernetes: &Kubernetes, observed: &Observed, tell: &watch::Sender<Option<Told>>) {
    let Kubernetes { client, settings } = kubernetes;
    let mut topologies = topologies(client, settings);
    let mut secrets = secret(client, settings, "users");
    let mut known = Known::new(&settings.cluster);
    loop {
        let changed = tokio::select! {
            Some(event) = topologies.next() => {
                let failed = event.is_err();
                let seen = known.topology(event);
                if failed {
                    observed.away(clock::rfc3339(clock::wall_ms()));
                } else if let Some(topologies) = known.shown() {
                    observed.topologies(topologies);
                }
                seen
            }
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
                if let Some(complete) = known.complete() {
                    tell.send_replace(Some(complete));
                }
            }
        }
    }
}

type Events<K> = std::pin::Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

fn topologies(client: &Client, settings: &Settings) -> Events<DeserializeGuard<DatabaseTopology>> {
    let api: Api<DeserializeGuard<DatabaseTopology>> =
        Api::namespaced(client.clone(), &settings.namespace);
    anew_after_failures(Some(SILENT), move || {
        watcher(api.clone(), watcher::Config::default())
    })
}

/// Passes the Secret `<rec>-<suffix>` on whenever it changes, until `stop`. One that is gone says nothing: what was known
/// stays.
pub(super) async fn follow_secret(
    kubernetes: Arc<Kubernetes>,
    suffix: &'static str,
    take: impl Fn(&Secret) + Send,
    stop: CancellationToken,
) {
    let Kubernetes { client, settings } = &*kubernetes;
    let mut events = secret(client, settings, suffix);
    let mut failing = false;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = events.next() => event,
        };
        match event {
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => {
                failing = false;
                take(&secret);
            }
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let error = crate::run::chain(&error);
                    warn!(
                        suffix,
                        error, "a Secret of the cluster cannot be watched; what was known stays"
                    );
                }
            }
        }
    }
}

/// The Secret `<rec>-<suffix>`.
fn secret(client: &Client, settings: &Settings, suffix: &str) -> Events<Secret> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &settings.namespace);
    let name = format!("metadata.name={}-{suffix}", settings.cluster);
    let only = watcher::Config::default().fields(&name);
    anew_after_failures(None, move || watcher(api.clone(), only.clone()))
}

/// A watch of topologies that has told nothing for this long is begun anew, whether or not there was anything to tell. Of a
/// connection half of which is gone nothing else is heard, while requests over others pass; the client by itself gives one up
/// after 295 s, and would go on from its last resource version.
const SILENT: Duration = Duration::from_secs(30);

/// A watch that lists everything anew after each failure, waiting longer each time until something succeeds, and at once when it
/// was silent for `patience`.
///
/// Going on from the last resource version would save the list, but an API server whose etcd was put back from a snapshot
/// meanwhile takes that version for one of the future: it accepts the watch and tells nothing until its counter has caught
/// up. A store is put back only while the API server is away, and that no watch survives.
fn anew_after_failures<K, S>(
    patience: Option<Duration>,
    start: impl Fn() -> S + Send + 'static,
) -> Events<K>
where
    K: Send + 'static,
    S: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
{
    let begin = (Box::pin(start()), start, 0_u32);
    Box::pin(stream::unfold(
        begin,
        move |(mut events, start, mut failures)| async move {
            let event = loop {
                let silent = async {
                    match patience {
                        Some(patience) => tokio::time::sleep(patience).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    event = events.next() => break event?,
                    () = silent => events = Box::pin(start()),
                }
            };
            failures = match event {
                Ok(_) => 0,
                Err(_) => failures.saturating_add(1),
            };
            if failures > 0 {
                tokio::time::sleep(API.delay(failures, rand::random())).await;
                events = Box::pin(start());
            }
            Some((event, (events, start, failures)))
        },
    ))
}

impl Authority for Kubernetes {
    /// A GET without a resource version is answered from etcd by quorum, or as if it were.
    fn read<'a>(&'a self, database: &'a str) -> BoxFuture<'a, Result<Topology, AuthorityError>> {
        Box::pin(async move {
            let api: Api<DatabaseTopology> =
                Api::namespaced(self.client.clone(), &self.settings.namespace);
            let object = api.get(database).await.map_err(away)?;
            Ok(state::reduced(&object))
        })
    }

    fn report<'a>(
        &'a self,
        database: &'a str,
        member: &'a MemberReport,
    ) -> BoxFuture<'a, Result<(), AuthorityError>> {
        Box::pin(async move {
            let api = Api::namespaced(self.client.clone(), &self.settings.namespace);
            let status = serde_json::json!({ "members": [member] });
            write(&api, &self.settings.node, database, &status)
                .await
                .map_err(away)
        })
    }

    fn entry<'a>(
        &'a self,
        database: &'a str,
        entry: Option<&'a EntryReport>,
    ) -> BoxFuture<'a, Result<(), AuthorityError>> {
        Box::pin(async move {
            let api = Api::namespaced(self.client.clone(), &self.settings.namespace);
            // A manager of its own, so that neither report takes the other away.
            let manager = format!("{}-entry", self.settings.node);
            let status = serde_json::json!({ "entries": entry.iter().collect::<Vec<_>>() });
            let written = write(&api, &manager, database, &status);
            tokio::time::timeout(PATIENCE, written)
                .await
                .map_err(|_elapsed| AuthorityError::Away("no answer in time".to_owned()))?
                .map_err(away)
        })
    }
}

/// A report that takes longer is made anew.
const PATIENCE: Duration = Duration::from_secs(10);

fn away(error: kube::Error) -> AuthorityError {
    // A topology that is gone has no status.
    if let kube::Error::Api(status) = &error
        && status.code == 404
    {
        return AuthorityError::Gone;
    }
    AuthorityError::Away(crate::run::chain(&error))
}

/// Writes a report. A definition that is older than this node refuses a report with a field that it does not declare: without
/// that field the rest is told, as a node of the older release would.
async fn write(
    api: &Api<DatabaseTopology>,
    manager: &str,
    name: &str,
    status: &serde_json::Value,
) -> Result<(), kube::Error> {
    let mut patch = serde_json::json!({
        "apiVersion": "meridian.dev/v1alpha1",
        "kind": "DatabaseTopology",
        "metadata": { "name": name },
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    let refused = match api.patch_status(name, &params, &Patch::Apply(&patch)).await {
        Err(kube::Error::Api(refused)) => refused,
        other => return other.map(drop),
    };
    let fields = lacking::undeclared(&refused.message);
    if fields.is_empty() {
        return Err(kube::Error::Api(refused));
    }
    warn!(
        database = name,
        ?fields,
        "the installed definition does not declare what this node reports"
    );
    for field in &fields {
        lacking::remove(&mut patch, field);
    }
    api.patch_status(name, &params, &Patch::Apply(&patch))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests;
