//! What a watch tells of the objects of one kind in one namespace, with what it does not say itself: which of them are gone. One that
//! was deleted while the watch had ended is only missing in the list with which the watch begins anew.

use std::{collections::BTreeSet, mem};

use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt as _, controller::Controller, reflector::ObjectRef, watcher},
};
use serde::de::DeserializeOwned;

use super::retry;

/// A change of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched<K> {
    /// It is like this now.
    Is(K),
    /// The object of this name is gone.
    Gone(String),
}

impl<K: Resource> Touched<K> {
    /// The name of the object.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Is(object) => object.meta().name.clone().unwrap_or_default(),
            Self::Gone(name) => name.clone(),
        }
    }
}

/// Which objects there are.
#[derive(Debug, Default)]
struct Known {
    names: BTreeSet<String>,
    /// Those that the list at the beginning of a watch has named so far.
    listed: BTreeSet<String>,
}

impl Known {
    fn touched<K: Resource>(&mut self, event: watcher::Event<K>) -> Vec<Touched<K>> {
        match event {
            watcher::Event::Apply(object) => {
                let touched = Touched::Is(object);
                self.names.insert(touched.name());
                vec![touched]
            }
            watcher::Event::Delete(object) => {
                let name = Touched::Is(object).name();
                self.names.remove(&name);
                vec![Touched::Gone(name)]
            }
            watcher::Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                let touched = Touched::Is(object);
                self.listed.insert(touched.name());
                vec![touched]
            }
            watcher::Event::InitDone => {
                let listed = mem::take(&mut self.listed);
                let before = mem::replace(&mut self.names, listed);
                let gone = before.difference(&self.names).cloned();
                gone.map(Touched::Gone).collect()
            }
        }
    }
}

/// What the watch of `api` tells. It never ends; what goes wrong is tried again.
pub fn touched<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Touched<K>> + Send + 'static
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut known = Known::default();
    let events = watcher(api, config).backoff(retry::alone());
    events.flat_map(move |event| {
        stream::iter(match event {
            Ok(event) => known.touched(event),
            Err(error) => {
                tracing::debug!(%error, "a watch begins anew");
                Vec::new()
            }
        })
    })
}

/// Wakes, in `controller`, whatever `mapper` names of each change that the watch of `api` tells.
#[must_use]
pub fn wakes<Other, K, Refs>(
    controller: Controller<K>,
    api: Api<Other>,
    config: watcher::Config,
    mut mapper: impl FnMut(Touched<Other>) -> Refs + Send + 'static,
) -> Controller<K>
where
    Other: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    K: Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
    Refs: IntoIterator<Item = ObjectRef<K>, IntoIter: Send> + Send + 'static,
{
    controller
        .reconcile_on(touched(api, config).flat_map(move |change| stream::iter(mapper(change))))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;
    use watcher::Event;

    use super::*;

    fn pod(name: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
    }

    #[test]
    fn what_went_while_nobody_watched_is_told_when_the_watch_begins_anew() {
        let mut known = Known::default();
        let mut told = |event| {
            let touched = known.touched(event);
            let words = touched.into_iter().map(|one| match one {
                Touched::Is(pod) => format!("+{}", Touched::Is(pod).name()),
                Touched::Gone(name) => format!("-{name}"),
            });
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(Event::Init), "");
        assert_eq!(told(Event::InitApply(pod("a"))), "+a");
        assert_eq!(told(Event::InitApply(pod("b"))), "+b");
        assert_eq!(told(Event::InitDone), "");
        assert_eq!(told(Event::Apply(pod("c"))), "+c");
        assert_eq!(told(Event::Delete(pod("a"))), "-a");
        assert_eq!(told(Event::Init), "", "the watch ended");
        assert_eq!(told(Event::InitApply(pod("c"))), "+c");
        assert_eq!(told(Event::Init), "", "and once more, in its list");
        assert_eq!(told(Event::InitApply(pod("d"))), "+d");
        assert_eq!(told(Event::InitDone), "-b -c");
        assert_eq!(told(Event::Init), "");
        assert_eq!(told(Event::InitApply(pod("d"))), "+d");
        assert_eq!(told(Event::InitDone), "");
    }
}
