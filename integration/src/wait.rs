//! Waiting for a condition, with a deadline and the last reason why it does not hold. Never for a time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How often a condition is looked at. Short against everything that is waited for here, long against a look.
const PERIOD: Duration = Duration::from_millis(150);

/// What a look at a condition found.
#[derive(Debug)]
pub enum Look<T> {
    /// The condition holds.
    Holds(T),
    /// Not yet, and why.
    NotYet(String),
}

/// Waits until `look` says [`Look::Holds`].
///
/// # Errors
/// After `within`, naming the condition and the last reason. A look that returns an error ends the wait at once only if
/// the deadline has passed: a server that is starting refuses connections for a while.
pub async fn until<T, F, Fut>(condition: &str, within: Duration, mut look: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Look<T>>>,
{
    let start = Instant::now();
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let reason = match look().await {
            Ok(Look::Holds(value)) => return Ok(value),
            Ok(Look::NotYet(reason)) => reason,
            Err(e) => format!("{e:#}"),
        };
        if start.elapsed() > within {
            anyhow::bail!(
                "{condition}: not within {} s; last seen: {reason}",
                within.as_secs()
            );
        }
    }
}

/// Waits until `look` returns true.
///
/// # Errors
/// As [`until`].
pub async fn until_true<F, Fut>(
    condition: &str,
    within: Duration,
    mut look: F,
) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<bool>>,
{
    until(condition, within, || {
        let seen = look();
        async move {
            Ok(if seen.await? {
                Look::Holds(())
            } else {
                Look::NotYet("false".into())
            })
        }
    })
    .await
}
