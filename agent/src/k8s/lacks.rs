//! Which fields of the kinds that the agent works with the installed definitions do not keep: they are of an older release, or
//! another operator's. A field that a person writes there is dropped before anybody sees it, so this has to be known beforehand.
//!
//! Schemas are published to every account (OpenAPI v3), so no right to read definitions is needed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Request;
use kube::Client;
use meridian_api::{crds::all_crds, installation::lacking};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::probes::Board;

/// Name of the check in `/readyz`. It never fails: nothing that is missing keeps the agent from working.
const CHECK: &str = "fields";
/// Where the API server lists what it publishes, with a hash of each document.
const INDEX: &str = "/openapi/v3";
/// Documents that describe our kinds.
const DOCUMENTS: [&str; 3] = [
    "apis/app.redislabs.com/v1",
    "apis/app.redislabs.com/v1alpha1",
    "apis/meridian.dev/v1alpha1",
];
/// Pause between two looks at the index. Whoever has installed the definitions wants to see that it is over.
const PERIOD: Duration = Duration::from_secs(120);
/// Where conditions stand; what they would say is told by Events ([`super::pruned`]).
const CONDITIONS: &str = "status.conditions";
/// Fields of a kind that are named; the others are counted.
const NAMED: usize = 8;

/// The fields that are not kept, as they were seen last. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lacks(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// What was looked at last.
    published: Option<Published>,
    /// Fields by kind.
    fields: Fields,
}

/// The addresses of the documents, which change with what is in them.
type Published = BTreeMap<&'static str, String>;
/// Fields that are not kept, by kind.
type Fields = BTreeMap<String, Vec<String>>;

impl Lacks {
    /// What a person should know of it, if anything.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let text = self.to_string();
        (!text.is_empty()).then_some(text)
    }

    /// Looks until `stop`, whenever something else is published.
    pub async fn follow(&self, client: Client, board: Board, stop: CancellationToken) {
        let mut tick = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => self.look(&client, &board).await,
            }
        }
    }

    /// Looks once, and shows what was found on `board` and in the log.
    pub async fn look(&self, client: &Client, board: &Board) {
        let before = self.seen().published.clone();
        match look(client, before.as_ref()).await {
            Ok(None) => {}
            Ok(Some((published, fields))) => {
                *self.seen() = Seen {
                    published: Some(published),
                    fields,
                };
                let Some(text) = self.text() else {
                    board.good(CHECK, "the definitions keep all that this release knows");
                    return;
                };
                tracing::warn!(text, "definitions do not keep all fields");
                board.good(CHECK, text);
            }
            Err(error) if before.is_none() => {
                let text = format!("what the definitions keep is not known: {error}");
                tracing::warn!(text, "look at definitions");
                board.good(CHECK, text);
            }
            // What was seen stands until something else is.
            Err(error) => tracing::debug!(%error, "look at definitions"),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.seen().fields;
        for (n, (kind, fields)) in found.iter().enumerate() {
            let named = fields.iter().take(NAMED).cloned().collect::<Vec<_>>();
            let more = match fields.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let between = if n == 0 { "" } else { "; " };
            let named = named.join(", ");
            write!(
                f,
                "{between}the installed definition of {kind} does not keep {named}{more}"
            )?;
        }
        if found.is_empty() {
            return Ok(());
        }
        f.write_str(
            ": what is written there is dropped without a word. Next: `meridian preflight` says whose the definitions are, and how \
             those of this release are installed",
        )
    }
}

/// What is lacking, if something else is published than at `seen`.
async fn look(
    client: &Client,
    seen: Option<&Published>,
) -> Result<Option<(Published, Fields)>, kube::Error> {
    let index = get(client, INDEX).await?;
    let address = |name: &'static str| {
        let url = index["paths"][name]["serverRelativeURL"].as_str()?;
        Some((name, url.to_owned()))
    };
    let published: Published = DOCUMENTS.into_iter().filter_map(address).collect();
    if seen == Some(&published) {
        return Ok(None);
    }
    let mut documents = BTreeMap::new();
    for name in published.keys() {
        // Without the hash: with one that has just changed the answer leads elsewhere.
        documents.insert(*name, get(client, &format!("{INDEX}/{name}")).await?);
    }
    let compared = tokio::task::spawn_blocking(move || compare(&documents)).await;
    Ok(compared.ok().map(|found| (published, found)))
}

async fn get(client: &Client, path: &str) -> Result<Value, kube::Error> {
    let request = Request::get(path).body(Vec::new());
    client
        .request(request.map_err(kube::Error::HttpError)?)
        .await
}

/// By kind. A document that is not there is a kind that is not served, which is told elsewhere ([`super::crds`]).
fn compare(documents: &BTreeMap<&str, Value>) -> Fields {
    let mut found = BTreeMap::new();
    for crd in all_crds().unwrap_or_default() {
        let (group, kind) = (&crd.spec.group, &crd.spec.names.kind);
        let stored = crd.spec.versions.iter().find(|version| version.storage);
        let Some(stored) = stored else { continue };
        let name = format!("apis/{group}/{}", stored.name);
        let document = documents.get(name.as_str());
        let Some(installed) = document.and_then(|it| lacking::published(it, group, kind)) else {
            continue;
        };
        let ours = json!(
            stored
                .schema
                .as_ref()
                .and_then(|it| it.open_api_v3_schema.as_ref())
        );
        let mut fields = lacking::lacking(&ours, installed);
        fields.retain(|field| field != CONDITIONS);
        if !fields.is_empty() {
            found.insert(kind.clone(), fields);
        }
    }
    found
}

#[cfg(test)]
mod tests;
