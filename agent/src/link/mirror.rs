//! A watch as a mirror of what exists, told as changes. Reads objects without their types: one that nobody can read
//! as its kind blinds nothing.

use std::{collections::BTreeMap, fmt::Debug, pin::pin};

use futures::{Stream, StreamExt as _};
use kube::{Resource, ResourceExt as _, runtime::watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<K> {
    /// It is there, in this state.
    There(K),
    /// It is gone; this was its last known state.
    Gone(K),
    /// The first list is complete: what was not told by now does not exist.
    Complete,
}

/// Remembers what a watch has shown, so that objects that went while it was broken are told as gone.
#[derive(Debug)]
pub struct Mirror<K> {
    known: BTreeMap<String, K>,
    listed: Option<BTreeMap<String, K>>,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            listed: None,
        }
    }
}

impl<K: Resource + Clone> Mirror<K> {
    /// What an event of the watch means.
    pub fn take(&mut self, event: watcher::Event<K>) -> Vec<Change<K>> {
        match event {
            watcher::Event::Init => {
                self.listed = Some(BTreeMap::new());
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(object.name_any(), object.clone());
                }
                vec![Change::There(object)]
            }
            watcher::Event::InitDone => {
                let Some(listed) = self.listed.take() else {
                    return vec![Change::Complete];
                };
                let before = std::mem::replace(&mut self.known, listed);
                let gone = before
                    .into_iter()
                    .filter(|(name, _)| !self.known.contains_key(name));
                gone.map(|(_, object)| Change::Gone(object))
                    .chain([Change::Complete])
                    .collect()
            }
            watcher::Event::Apply(object) => {
                self.known.insert(object.name_any(), object.clone());
                vec![Change::There(object)]
            }
            watcher::Event::Delete(object) => {
                self.known.remove(&object.name_any());
                vec![Change::Gone(object)]
            }
        }
    }
}

/// Follows a watch until `cancel` and hands on every change. A watch that breaks is started again, with a growing pause.
pub async fn follow<K, S, T>(
    what: &str,
    events: S,
    cancel: &CancellationToken,
    send: mpsc::Sender<T>,
    wrap: impl Fn(Change<K>) -> T,
) where
    K: Resource + Clone + Debug,
    S: Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
{
    let mut mirror = Mirror::default();
    let mut events = pin!(events);
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                for change in mirror.take(event) {
                    if send.send(wrap(change)).await.is_err() {
                        return;
                    }
                }
            }
            Some(Err(error)) => {
                tracing::warn!(
                    what,
                    error = super::member::chain(&error),
                    "a watch broke; it is started again"
                );
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::runtime::watcher::Event;

    use super::*;

    fn secret(name: &str) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        secret
    }

    #[test]
    fn what_went_while_the_watch_was_broken_is_told_as_gone() {
        let mut mirror = Mirror::default();
        mirror.take(Event::Init);
        assert_eq!(
            mirror.take(Event::InitApply(secret("a"))),
            [Change::There(secret("a"))]
        );
        mirror.take(Event::InitApply(secret("b")));
        assert_eq!(mirror.take(Event::InitDone), [Change::Complete]);
        assert_eq!(
            mirror.take(Event::Delete(secret("a"))),
            [Change::Gone(secret("a"))]
        );
        mirror.take(Event::Apply(secret("c")));
        mirror.take(Event::Init);
        mirror.take(Event::InitApply(secret("c")));
        assert_eq!(
            mirror.take(Event::InitDone),
            [Change::Gone(secret("b")), Change::Complete]
        );
    }

    #[test]
    fn a_list_that_breaks_off_tells_nothing_as_gone() {
        let mut mirror = Mirror::default();
        mirror.take(Event::Init);
        mirror.take(Event::InitApply(secret("a")));
        mirror.take(Event::InitDone);
        mirror.take(Event::Init);
        mirror.take(Event::Init);
        mirror.take(Event::InitApply(secret("a")));
        assert_eq!(mirror.take(Event::InitDone), [Change::Complete]);
    }
}
