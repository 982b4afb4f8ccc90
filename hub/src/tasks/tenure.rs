//! Ends a hub whose store another hub has taken over: it can write nothing any more, and must not go on speaking.

use std::time::Duration;

use futures::StreamExt as _;
use meridian_api::ids::Term;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::store::{Revision, StoreError, keys, records};

/// Between the commit of a term of our own and this process knowing of it.
const OWN: Duration = Duration::from_secs(2);
/// Pause after a failure, so that a broken store is not asked in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Another hub has begun to reign.
#[derive(Debug, thiserror::Error)]
#[error(
    "another hub began term {theirs} on the store of this hub, whose term is {ours}: this one ends, since only one hub at a \
     time may run on a store. If nobody started another one, look who else uses this store"
)]
pub struct Deposed {
    /// Term of this hub.
    pub ours: Term,
    /// Term of the other.
    pub theirs: Term,
}

/// Waits until another hub reigns over the store, or until this one is told to stop.
///
/// # Errors
/// [`Deposed`].
pub async fn ended(app: &App, stop: CancellationToken) -> Result<(), Deposed> {
    let watching = async {
        loop {
            match look(app).await {
                Ok((_, Some(deposed))) => return Err(deposed),
                Ok((seen, None)) => {
                    if let Err(error) = next_start(app, seen).await {
                        failed(&error).await;
                    }
                }
                Err(error) => failed(&error).await,
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = watching => ended,
    }
}

async fn failed(error: &StoreError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "whether another hub reigns is looked at again"
    );
    sleep(AFTER_FAILURE).await;
}

async fn look(app: &App) -> Result<(Revision, Option<Deposed>), StoreError> {
    let mut changes = app.reign_changes();
    let starts = records::list(app.store().as_ref(), &keys::starts()).await?;
    let terms = starts.value.iter().map(|held| held.record.term);
    let theirs = terms.max().unwrap_or_default();
    let deposed = |app: &App| {
        let ours = app.reign().term;
        (theirs > ours).then_some(Deposed { ours, theirs })
    };
    if deposed(app).is_some() {
        // A term of our own is in the store a moment before it is known here.
        drop(timeout(OWN, changes.changed()).await);
    }
    Ok((starts.revision, deposed(app)))
}

async fn next_start(app: &App, seen: Revision) -> Result<(), StoreError> {
    let prefix = keys::starts().text().to_owned();
    let mut watch = app.store().watch(prefix, seen).await?;
    match watch.next().await {
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Ok(()),
    }
}
