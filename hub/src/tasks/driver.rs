//! Wakes tasks: when the store changed below a task's prefixes, and at the latest after its interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// When a key below one of these changed while the task waits for such.
    pub awaited: Vec<Awaited>,
}

/// Changes that a task waits for at times, and that nobody has to look at otherwise.
#[derive(Clone, Debug)]
pub struct Awaited {
    /// Where they lie.
    pub prefix: String,
    /// Whether the task waits.
    pub waits: Waits,
}

/// What a task waits for now. Clones share it. A task that begins to wait looks again before it rests, because what came before
/// it waited woke nobody.
#[derive(Clone, Debug, Default)]
pub struct Waits(Arc<AtomicBool>);

impl Waits {
    /// Notes whether the task waits; tells whether it begins to.
    pub fn set(&self, waits: bool) -> bool {
        let before = self.0.swap(waits, Ordering::SeqCst);
        waits && !before
    }

    pub(super) fn hold(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Triggers {
    fn are_met_by(&self, key: &str) -> bool {
        let awaited = self.awaited.iter().filter(|awaited| awaited.waits.hold());
        let mut prefixes = self
            .prefixes
            .iter()
            .chain(awaited.map(|awaited| &awaited.prefix));
        prefixes.any(|prefix| key.starts_with(prefix))
    }
}

/// Pause after a failure, so that a broken store is not asked in a tight loop.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// After it has looked a task rests this many times as long as that took, so that it takes a part of one core at most, however
/// often it is woken; what changes meanwhile is looked at together.
const REST: u32 = 3;
/// Longest rest: somebody waits for what the task will do.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Runs a task until the token is cancelled.
pub async fn drive<T: Task>(
    mut task: T,
    triggers: Triggers,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    metrics.activities().begins(T::NAME, triggers.every);
    let wake = Arc::new(Notify::new());
    // The first activation needs no change.
    wake.notify_one();
    let work = async {
        loop {
            tokio::select! {
                biased;
                () = wake.notified() => {}
                () = sleep(triggers.every) => {}
            }
            let worked = activate(&mut task, &metrics).await;
            sleep((worked * REST).min(LONGEST_REST)).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work => {}
        () = watch(store, &triggers, &wake) => {}
    }
}

/// Lets a task look until it is settled; tells how long it has worked.
async fn activate<T: Task>(task: &mut T, metrics: &Metrics) -> Duration {
    let mut worked = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let result = task.activate().await;
        let (how, took) = (TaskResult::of(&result), begun.elapsed());
        metrics.task(T::NAME, how, took);
        let why = result.as_ref().err().map(ToString::to_string);
        metrics.activities().ended(T::NAME, (how, took), why);
        worked += begun.elapsed().saturating_sub(task.waited());
        match result {
            Ok(Outcome::Progressed) => {}
            Ok(Outcome::Settled | Outcome::HeldBack) => return worked,
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
                return worked;
            }
        }
    }
}

/// Wakes for ever. A watch that breaks is opened again, with one wake for whatever was missed.
async fn watch(store: Arc<dyn Store>, triggers: &Triggers, wake: &Notify) {
    loop {
        if let Err(error) = watch_once(store.as_ref(), triggers, wake).await {
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
    triggers: &Triggers,
    wake: &Notify,
) -> Result<(), StoreError> {
    let head: Revision = store.list(Vec::new()).await?.revision;
    wake.notify_one();
    let mut changes = store.watch(String::new(), head).await?;
    while let Some(batch) = changes.next().await {
        let mut changes = batch?.changes.into_iter();
        if changes.any(|change| triggers.are_met_by(&change.key)) {
            wake.notify_one();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
