//! Wakes tasks: when the store changed below a task's prefixes, and at the latest after its interval.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Outcome, Task, TaskError};
use crate::metrics::{Metrics, TaskResult};
use crate::store::{Revision, Store, StoreError};

/// When a task is woken.
#[derive(Clone, Debug)]
pub struct Triggers {
    /// At the latest after this.
    pub every: Duration,
    /// When a key below one of these changed.
    pub prefixes: Vec<String>,
}

/// Pause after a failure, so that a broken store is not asked in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Runs a task until the token is cancelled.
pub async fn drive<T: Task>(
    mut task: T,
    triggers: Triggers,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let wake = Arc::new(Notify::new());
    // The first activation needs no change.
    wake.notify_one();
    let work = async {
        loop {
            tokio::select! {
                () = wake.notified() => {}
                () = sleep(triggers.every) => {}
            }
            activate(&mut task, &metrics).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
        () = watch(store, &triggers.prefixes, &wake) => {}
    }
}

async fn activate<T: Task>(task: &mut T, metrics: &Metrics) {
    loop {
        let begun = Instant::now();
        let result = task.activate().await;
        metrics.task(T::NAME, TaskResult::of(&result), begun.elapsed());
        match result {
            Ok(Outcome::Progressed) => {}
            Ok(Outcome::Settled | Outcome::HeldBack) => return,
            Err(TaskError::Store(StoreError::Conflict { key, .. })) => {
                tracing::debug!(
                    task = T::NAME,
                    key,
                    "another writer came between, looking again"
                );
            }
            Err(error) => {
                tracing::error!(
                    task = T::NAME,
                    error = &error as &dyn std::error::Error,
                    "a task failed"
                );
                sleep(AFTER_FAILURE).await;
                return;
            }
        }
    }
}

/// Wakes for ever. A watch that breaks is opened again, with one wake for whatever was missed.
async fn watch(store: Arc<dyn Store>, prefixes: &[String], wake: &Notify) {
    loop {
        if let Err(error) = watch_once(store.as_ref(), prefixes, wake).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a watch ended and is opened again"
            );
        }
        sleep(AFTER_FAILURE).await;
        wake.notify_one();
    }
}

async fn watch_once(
    store: &dyn Store,
    prefixes: &[String],
    wake: &Notify,
) -> Result<(), StoreError> {
    let head: Revision = store.list(Vec::new()).await?.revision;
    wake.notify_one();
    let mut changes = store.watch(String::new(), head).await?;
    while let Some(batch) = changes.next().await {
        let mine = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
        if batch?.changes.iter().any(|change| mine(&change.key)) {
            wake.notify_one();
        }
    }
    Ok(())
}
