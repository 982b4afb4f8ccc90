//! Which namespaces besides its own the agent is to operate: databases may stand there, clusters may not.
//!
//! Every replica knows it, because every replica answers admission; used by `controllers`, `admission` and `run`. The words
//! are the product's: the ConfigMap `operator-environment-config`, whose keys win over the command line. A change of it
//! takes effect at once, without a restart.

mod label;
mod settings;

use std::{collections::BTreeSet, convert::Infallible, pin::pin};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::label::Labelled;
pub use self::settings::Flags;
use crate::k8s::retry;

/// Name of the ConfigMap (the product's).
pub const CONFIG: &str = "operator-environment-config";

/// The namespaces that are wished for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The namespaces, without the agent's own.
    pub consumers: BTreeSet<String>,
    /// What of the settings cannot be followed, and the next step.
    pub problems: Vec<String>,
}

/// Keeps `selection` equal to what is wished for, until `stop`.
///
/// # Errors
/// None.
pub async fn run(
    client: Client,
    home: String,
    flags: Flags,
    selection: watch::Sender<Selection>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), &home);
    let mut configs = pin!(watcher::watch_object(configs, CONFIG).backoff(retry::alone()));
    let mut labelled = Labelled::new(client);
    // Until the ConfigMap was read nothing is wished for: what it forbids must not begin.
    let mut wishes = settings::Wishes::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(event) = configs.next() => match event {
                Ok(config) => {
                    wishes = settings::read(&flags, config.as_ref(), &home);
                    labelled.follow(wishes.label.as_deref());
                }
                Err(error) => {
                    // What was read last holds; without anything, what the command line says.
                    tracing::warn!(%error, "the ConfigMap {CONFIG} cannot be read");
                    if wishes == settings::Wishes::default() {
                        wishes = settings::read(&flags, None, &home);
                        labelled.follow(wishes.label.as_deref());
                    }
                }
            },
            () = labelled.changed() => {}
        }
        let mut now = Selection {
            consumers: wishes.list.clone(),
            problems: wishes.problems.clone(),
        };
        now.consumers.extend(labelled.namespaces().iter().cloned());
        now.consumers.remove(&home);
        now.problems.extend(labelled.problem());
        selection.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }
}
