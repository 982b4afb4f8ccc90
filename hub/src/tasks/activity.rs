//! What the background tasks did last, for people who look into a hub that runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::TaskResult;

/// Longest text of an error that is kept, bytes.
const TEXT: usize = 1024;

/// What one task did last.
#[derive(Clone, Debug)]
pub struct Activity {
    /// It is woken at the latest after this.
    pub every: Duration,
    /// Activations so far, in this reign.
    pub activations: u64,
    /// The last one; `None` before the first has ended.
    pub last: Option<Last>,
    /// The last one that failed, and when.
    pub failed: Option<(Instant, String)>,
}

/// The last activation of a task.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// When it ended.
    pub ended: Instant,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub result: TaskResult,
}

/// The tasks of one reign by their names. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Activities(Arc<Mutex<BTreeMap<&'static str, Activity>>>);

impl Activities {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Activity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task begins to be woken.
    pub fn begins(&self, task: &'static str, every: Duration) {
        let begun = Activity {
            every,
            activations: 0,
            last: None,
            failed: None,
        };
        self.lock().insert(task, begun);
    }

    /// It has looked; `error` says why it failed, if it did.
    pub fn ended(
        &self,
        task: &'static str,
        (result, took): (TaskResult, Duration),
        error: Option<String>,
    ) {
        let ended = Instant::now();
        if let Some(activity) = self.lock().get_mut(task) {
            activity.activations += 1;
            activity.last = Some(Last {
                ended,
                took,
                result,
            });
            if let Some(mut error) = error {
                let cut = error.floor_char_boundary(TEXT);
                error.truncate(cut);
                activity.failed = Some((ended, error));
            }
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeMap<&'static str, Activity> {
        self.lock().clone()
    }
}
