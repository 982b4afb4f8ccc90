//! Background work: each task looks at the whole state when it is woken and makes the next step true. A wake carries no
//! information, so there is one path for "something changed", "the hub restarted" and "time passed".

pub mod activity;
pub mod audit;
pub mod conditions;
pub mod deliver;
pub mod driver;
pub mod liveness;
pub mod plan;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

/// What an activation did, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it should be.
    Settled,
    /// Something was written; the task looks again at once.
    Progressed,
    /// The hub may not decide now.
    HeldBack,
}

/// Why an activation failed. It is tried again at the next wake, at the latest after the task's interval.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A use case failed.
    #[error(transparent)]
    App(#[from] crate::app::AppError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The planner contradicted itself.
    #[error("the plan was not carried out: {0}")]
    Plan(#[from] crate::planner::check::Breach),
}

/// A piece of background work.
pub trait Task: Send + 'static {
    /// Name in logs and metrics.
    const NAME: &'static str;

    /// Looks at the state and does what is to be done.
    fn activate(&mut self) -> impl Future<Output = Result<Outcome, TaskError>> + Send;

    /// How long the last activation only waited for the store to write: no work, after which it would have to rest.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }
}
