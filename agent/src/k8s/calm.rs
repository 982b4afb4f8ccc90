//! A stream of changes made calm: the first is passed on at once, those that follow soon wait together and are passed on as
//! one. Unlike a debounce it never waits for the changes to end, so a long row of them cannot hold a look up.

use std::{collections::BTreeMap, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep_until};

/// What waits, by key.
struct Calm<S, K> {
    changes: S,
    /// When something of the key was passed on last, until that is longer ago than the pause.
    last: BTreeMap<String, Instant>,
    waiting: BTreeMap<String, (Instant, K)>,
}

/// Passes on what `of` names, of each name at most one change in a `pause`, and the newest of them. What it does not name is
/// dropped; errors pass at once.
pub fn calm<K, E, S>(
    changes: S,
    of: impl Fn(&K) -> Option<String> + Send + 'static,
    pause: Duration,
) -> impl Stream<Item = Result<K, E>> + Send
where
    K: Send + 'static,
    E: Send + 'static,
    S: Stream<Item = Result<K, E>> + Send + 'static,
{
    let calm = Calm {
        changes: Box::pin(changes),
        last: BTreeMap::new(),
        waiting: BTreeMap::new(),
    };
    stream::unfold((calm, of), move |(mut calm, of)| async move {
        loop {
            let due = calm.waiting.values().map(|(due, _)| *due).min();
            let change = tokio::select! {
                biased;
                () = until(due) => {
                    let passed = calm.due(pause);
                    match passed {
                        Some(change) => return Some((Ok(change), (calm, of))),
                        None => continue,
                    }
                }
                change = calm.changes.next() => match change? {
                    Ok(change) => change,
                    Err(error) => return Some((Err(error), (calm, of))),
                },
            };
            let Some(key) = of(&change) else { continue };
            let now = Instant::now();
            calm.last.retain(|_, at| now < *at + pause);
            match calm.last.get(&key) {
                Some(at) => {
                    let due = *at + pause;
                    calm.waiting.insert(key, (due, change));
                }
                None => {
                    calm.last.insert(key, now);
                    return Some((Ok(change), (calm, of)));
                }
            }
        }
    })
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl<S, K> Calm<S, K> {
    /// What has waited long enough.
    fn due(&mut self, pause: Duration) -> Option<K> {
        let now = Instant::now();
        let mut due = self.waiting.iter().filter(|(_, (due, _))| *due <= now);
        let key = due.next()?.0.clone();
        self.last.retain(|_, at| now < *at + pause);
        self.last.insert(key.clone(), now);
        self.waiting.remove(&key).map(|(_, change)| change)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(500);

    type Change = Result<(&'static str, u32), Infallible>;

    fn calmed() -> (mpsc::UnboundedSender<Change>, impl Stream<Item = Change>) {
        let (send, changes) = mpsc::unbounded_channel();
        let of = |change: &(&'static str, u32)| (change.0 != "x").then(|| change.0.to_owned());
        (send, calm(UnboundedReceiverStream::new(changes), of, PAUSE))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_after_a_rest_passes_at_once() {
        let (send, passed) = calmed();
        let mut passed = std::pin::pin!(passed);
        let begun = Instant::now();
        send.send(Ok(("x", 0))).unwrap();
        send.send(Ok(("rec", 1))).unwrap();
        assert_eq!(passed.next().await, Some(Ok(("rec", 1))));
        tokio::time::advance(PAUSE).await;
        send.send(Ok(("rec", 2))).unwrap();
        assert_eq!(passed.next().await, Some(Ok(("rec", 2))));
        assert_eq!(begun.elapsed(), PAUSE, "nobody waited");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_row_of_changes_passes_once_in_a_pause_and_its_end_is_not_lost() {
        let (send, passed) = calmed();
        let changes = tokio::spawn(async move {
            for n in 0..200 {
                send.send(Ok(("rec", n))).unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(PAUSE).await;
        });
        let passed: Vec<_> = passed.map(|change| change.unwrap().1).collect().await;
        changes.await.unwrap();
        assert!(
            (8..=10).contains(&passed.len()),
            "four seconds of changes: {passed:?}"
        );
        assert_eq!(passed.first(), Some(&0));
        assert_eq!(passed.last(), Some(&199));
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_others_do_not_wait_for_one_another() {
        let (send, passed) = calmed();
        let mut passed = std::pin::pin!(passed);
        let begun = Instant::now();
        for change in [("a", 1), ("a", 2), ("b", 1)] {
            send.send(Ok(change)).unwrap();
        }
        assert_eq!(passed.next().await, Some(Ok(("a", 1))));
        assert_eq!(passed.next().await, Some(Ok(("b", 1))));
        assert!(begun.elapsed().is_zero());
        assert_eq!(passed.next().await, Some(Ok(("a", 2))));
        assert_eq!(begun.elapsed(), PAUSE);
    }
}
