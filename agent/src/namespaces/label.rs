//! The namespaces that carry a label: needs the right to list and watch namespaces, which label mode alone asks for.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};

use crate::k8s::retry;

type Events = BoxStream<'static, Result<Event<PartialObjectMeta<Namespace>>, watcher::Error>>;

/// The namespaces with a label, kept by a watch.
pub(super) struct Labelled {
    client: Client,
    label: Option<String>,
    events: Option<Events>,
    found: Found,
    problem: Option<String>,
}

impl Labelled {
    /// No label yet.
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            label: None,
            events: None,
            found: Found::default(),
            problem: None,
        }
    }

    /// Follows the namespaces with `label` from now on: a key, or a key and its value (`key=value`).
    pub(super) fn follow(&mut self, label: Option<&str>) {
        if self.label.as_deref() == label {
            return;
        }
        self.label = label.map(str::to_owned);
        self.found = Found::default();
        self.problem = None;
        self.events = label.map(|label| {
            let all: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
            let config = watcher::Config::default().labels(label);
            watcher::watcher(all, config)
                .backoff(retry::alone())
                .boxed()
        });
    }

    /// Waits until something is new. What was found stays while the namespaces cannot be read.
    pub(super) async fn changed(&mut self) {
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        match events.next().await {
            Some(Ok(event)) => {
                self.problem = None;
                self.found.take(event);
            }
            Some(Err(error)) => {
                let label = self.label.as_deref().unwrap_or_default();
                self.problem = Some(format!(
                    "the namespaces with the label `{label}` cannot be read: {error}. Apply deploy/bundle/namespaces-by-label.yaml"
                ));
            }
            None => std::future::pending().await,
        }
    }

    /// The namespaces that were found last.
    pub(super) fn namespaces(&self) -> &BTreeSet<String> {
        &self.found.known
    }

    /// Why they may not be all.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.clone()
    }
}

/// What a watch has shown.
#[derive(Debug, Default)]
struct Found {
    known: BTreeSet<String>,
    /// Shown since the watch began anew.
    fresh: BTreeSet<String>,
}

impl Found {
    fn take(&mut self, event: Event<PartialObjectMeta<Namespace>>) {
        match event {
            Event::Init => self.fresh.clear(),
            Event::InitApply(namespace) => {
                self.fresh.insert(namespace.name_any());
            }
            Event::InitDone => self.known = std::mem::take(&mut self.fresh),
            Event::Apply(namespace) => {
                self.known.insert(namespace.name_any());
            }
            Event::Delete(namespace) => {
                self.known.remove(&namespace.name_any());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(name: &str) -> PartialObjectMeta<Namespace> {
        serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
    }

    #[test]
    fn a_watch_that_begins_anew_forgets_nothing_before_it_has_shown_all() {
        let mut found = Found::default();
        let known = |found: &Found| found.known.iter().cloned().collect::<Vec<_>>();
        for event in [
            Event::Init,
            Event::InitApply(named("a")),
            Event::InitApply(named("b")),
            Event::InitDone,
        ] {
            found.take(event);
        }
        assert_eq!(known(&found), ["a", "b"]);
        found.take(Event::Init);
        found.take(Event::InitApply(named("b")));
        assert_eq!(known(&found), ["a", "b"], "not all were shown yet");
        found.take(Event::InitDone);
        found.take(Event::Apply(named("c")));
        assert_eq!(known(&found), ["b", "c"]);
        found.take(Event::Delete(named("b")));
        assert_eq!(known(&found), ["c"]);
    }
}
