//! Remembers when the steps of databases turned. It looks at all that databases are shown from, and so as seldom as a tenth of one
//! core allows: what turns is told at once all the same, as of the moment at which it is found.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Outcome, Task, TaskError};
use crate::app::App;
use crate::app::reads::database_prefixes;
use crate::store::keys;

/// After it has looked it rests at least this many times as long as that took.
const REST: u32 = 9;
/// Shortest and longest rest.
const BETWEEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The task.
#[derive(Debug)]
pub struct Conditions {
    app: Arc<App>,
    due: Instant,
}

impl Conditions {
    /// A task that has not looked yet.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let due = Instant::now();
        Self { app, due }
    }

    /// What wakes it: all that databases are shown from, but what it writes itself.
    #[must_use]
    pub fn prefixes() -> Vec<String> {
        let mut prefixes = database_prefixes();
        prefixes.retain(|prefix| prefix != keys::all_transitions().text());
        prefixes
    }
}

impl Task for Conditions {
    const NAME: &'static str = "conditions";

    async fn activate(&mut self) -> Result<Outcome, TaskError> {
        sleep_until(self.due).await;
        let begun = Instant::now();
        let noted = self.app.note_turns().await;
        let rest = ((Instant::now() - begun) * REST).clamp(BETWEEN.0, BETWEEN.1);
        self.due = Instant::now() + rest;
        noted?;
        Ok(Outcome::Settled)
    }
}
