//! Links what was written down into the chain of the audit log, also while the hub only observes.

use std::sync::Arc;

use super::{Outcome, Task, TaskError};
use crate::app::App;

/// The task.
#[derive(Debug)]
pub struct Linking {
    /// Use cases.
    pub app: Arc<App>,
}

impl Task for Linking {
    const NAME: &'static str = "audit";

    async fn activate(&mut self) -> Result<Outcome, TaskError> {
        self.app.link_all().await?;
        Ok(Outcome::Settled)
    }
}
