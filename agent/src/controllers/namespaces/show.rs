//! Says which namespaces are operated, and why others are not: in `/readyz`, a metric, and Events of each cluster.
//!
//! A namespace that is not operated does not make the agent unready: it would stop answering admission for the others.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;
use meridian_api::crds::RedisEnterpriseCluster;
use tokio::sync::Mutex;

use super::claim::{CLAIM, Trouble, VENDOR};
use crate::{
    controllers::Context,
    k8s::{apply::Objects, drive::Report},
    probes::Board,
};

/// Reason of the Event that all is well again.
const OPERATED: &str = "NamespaceOperated";
/// Name of the line in `/readyz`.
const CHECK: &str = "namespaces";

/// How a namespace stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Its databases are managed.
    Operated,
    /// They are not.
    NotOperated(Trouble),
    /// It is not wished for any more, and these databases of it are served on.
    Left(Vec<String>),
}

impl State {
    /// Value of the metric's label.
    fn word(&self) -> &'static str {
        match self {
            Self::Operated => "operated",
            Self::NotOperated(Trouble::Absent) => "absent",
            Self::NotOperated(Trouble::Denied(_)) => "denied",
            Self::NotOperated(Trouble::Held(_)) => "held",
            Self::NotOperated(Trouble::Vendor) => "vendor",
            Self::NotOperated(Trouble::Unavailable(_)) => "unavailable",
            Self::Left(_) => "left",
        }
    }

    /// What is wrong with `namespace`, and the next step.
    fn problem(&self, namespace: &str) -> Option<String> {
        let text = match self {
            Self::Operated => return None,
            Self::NotOperated(Trouble::Absent) => {
                "the namespace does not exist; it is operated as soon as it does".to_owned()
            }
            Self::NotOperated(Trouble::Denied(why)) => format!(
                "the namespace does not exist, or the agent has no rights there: apply \
                 deploy/bundle/consumer-namespace.yaml in it ({why})"
            ),
            Self::NotOperated(Trouble::Held(by)) => format!(
                "the agent of the namespace `{by}` operates it (Lease `{CLAIM}` there), and two would make every database \
                 twice: take it out of the settings of one of them. If that agent is gone for good, delete the Lease"
            ),
            Self::NotOperated(Trouble::Vendor) => format!(
                "the Deployment `{VENDOR}` stands in it, and both would answer for its databases: run this agent in a \
                 namespace of its own, or remove that operator"
            ),
            Self::NotOperated(Trouble::Unavailable(why)) => {
                format!("it could not be entered: {why}")
            }
            Self::Left(databases) => format!(
                "the settings do not name it any more; these databases of it are served and not managed: {}. Name it \
                 again, or delete them first",
                databases.join(", ")
            ),
        };
        Some(format!("namespace `{namespace}` is not operated: {text}"))
    }
}

/// What is shown.
pub(super) struct Shown {
    objects: Objects,
    report: Report,
    board: Board,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    states: BTreeMap<String, State>,
    problems: Vec<String>,
}

impl Shown {
    /// Nothing is known yet.
    pub(super) fn new(context: &Context, board: Board) -> Self {
        Self {
            objects: context.objects.clone(),
            report: context.report.clone(),
            board,
            known: Mutex::default(),
        }
    }

    /// Shows the state of a namespace.
    pub(super) async fn namespace(&self, name: &str, state: State) {
        let mut known = self.known.lock().await;
        let before = known.states.insert(name.to_owned(), state.clone());
        if before.as_ref() == Some(&state) {
            return;
        }
        self.render(&known);
        drop(known);
        match state.problem(name) {
            Some(text) => self.tell(name, "NamespaceNotOperated", &text).await,
            None if before.is_some() => {
                let text = format!("namespace `{name}` is operated");
                self.tell(name, OPERATED, &text).await;
            }
            None => {}
        }
    }

    /// Shows nothing of a namespace any more.
    pub(super) async fn forget(&self, name: &str) {
        let mut known = self.known.lock().await;
        known.states.remove(name);
        self.render(&known);
    }

    /// Shows what of the settings cannot be followed.
    pub(super) async fn problems(&self, problems: Vec<String>) {
        let mut known = self.known.lock().await;
        let news: Vec<String> = problems
            .iter()
            .filter(|text| !known.problems.contains(text))
            .cloned()
            .collect();
        known.problems = problems;
        self.render(&known);
        drop(known);
        for text in news {
            let home = self.objects.namespace();
            self.tell(home, "SettingNotFollowed", &text).await;
        }
    }

    fn render(&self, known: &Known) {
        let mut counts = BTreeMap::new();
        for state in known.states.values() {
            *counts.entry(state.word()).or_insert(0) += 1;
        }
        self.report.metrics.namespaces(&counts);
        self.board.good(CHECK, text(known));
    }

    /// An Event of each cluster of the agent's namespace, about `namespace`.
    async fn tell(&self, namespace: &str, reason: &str, text: &str) {
        tracing::info!(reason, text, "namespaces");
        let clusters = match self.objects.list::<RedisEnterpriseCluster>("").await {
            Ok(clusters) => clusters,
            Err(error) => {
                tracing::warn!(%error, "no Event about a namespace: the clusters cannot be listed");
                return;
            }
        };
        for cluster in clusters {
            let about = cluster.object_ref(&());
            let with = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Namespace".to_owned()),
                name: Some(namespace.to_owned()),
                ..ObjectReference::default()
            };
            let well = reason == OPERATED;
            let events = &self.report.events;
            events.between(&about, with, well, reason, text).await;
        }
    }
}

fn text(known: &Known) -> String {
    let operated = known.states.iter();
    let operated = operated.filter(|(_, state)| **state == State::Operated);
    let names: Vec<&str> = operated.map(|(name, _)| name.as_str()).collect();
    let mut all = vec![format!("operates {}", names.join(", "))];
    let states = known.states.iter();
    all.extend(states.filter_map(|(name, state)| state.problem(name)));
    all.extend(known.problems.iter().cloned());
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_that_is_not_operated_is_named_with_the_next_step() {
        let states = [
            ("home", State::Operated),
            (
                "a",
                State::NotOperated(Trouble::Denied("forbidden".to_owned())),
            ),
            ("b", State::NotOperated(Trouble::Held("other".to_owned()))),
            ("c", State::Left(vec!["db".to_owned()])),
            ("d", State::Operated),
        ];
        let known = Known {
            states: states.map(|(name, state)| (name.to_owned(), state)).into(),
            problems: vec!["VAULT_ROLE has no effect".to_owned()],
        };
        let text = text(&known);
        assert!(text.starts_with("operates d, home; "), "{text}");
        for part in [
            "namespace `a` is not operated: the namespace does not exist, or the agent has no rights there: apply \
             deploy/bundle/consumer-namespace.yaml in it (forbidden)",
            "the agent of the namespace `other` operates it (Lease `meridian-namespace` there)",
            "served and not managed: db",
            "VAULT_ROLE has no effect",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
}
