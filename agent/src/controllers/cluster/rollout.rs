//! The order in which pods are made anew after their template changed. Pure: what is observed gives one step, so a
//! restart of the agent anywhere changes nothing.
//!
//! The rules, in this order:
//! 1. While a pod of the present template is missing, going, or not ready, nothing else is touched: never two away.
//! 2. Of the outdated pods those that do not serve go first, then those without a primary, then the others; among equals
//!    the highest number.
//! 3. A pod that serves is taken only while every other pod serves.
//!
//! A pod that serves gives its primaries away before it goes: [`request_move`] asks for it and says when it is done. A
//! database without replica has nowhere to go: it is away while its pod restarts, and that is said.
//!
//! [`request_move`]: crate::controllers::failover::request_move

use meridian_api::crds::cluster::ClusterState;

use super::observe::{Node, Shard};

/// What is observed.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// Number of pods that there shall be.
    pub nodes: i32,
    /// Hash of the present template.
    pub template: &'a str,
    /// Its image.
    pub image: &'a str,
    /// The StatefulSet's controller knows the present template.
    pub settled: bool,
    /// The pods.
    pub pods: &'a [Node],
    /// The shards of all databases of the REC.
    pub shards: &'a [Shard],
}

/// Whether pods are outdated, and in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Every pod is of the present template.
    Current,
    /// Some pods have another template, but the same image; or the last of them does not serve yet.
    Update {
        /// How many are outdated.
        left: usize,
    },
    /// Some pods have another image; or the last of them does not serve yet.
    Upgrade {
        /// How many are outdated.
        left: usize,
    },
}

/// The one thing to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is outdated.
    Done,
    /// Nothing can be done now: why.
    Wait(String),
    /// Make the pod anew.
    Restart {
        /// Name.
        pod: String,
        /// Uid that the pod must still have.
        uid: String,
        /// It serves, so its primaries leave first.
        serves: bool,
    },
}

/// How far the present template has come. `before` is the state word shown last: a rollout ends when every pod serves
/// with the new template, not when the last old pod is gone.
pub(super) fn progress(view: &View<'_>, before: Option<&ClusterState>) -> Progress {
    let outdated: Vec<&Node> = outdated(view).collect();
    if outdated.is_empty() {
        let nodes = usize::try_from(view.nodes).unwrap_or(0);
        return match before {
            _ if wanted(view).filter(|pod| pod.ready).count() >= nodes => Progress::Current,
            Some(ClusterState::Upgrade) => Progress::Upgrade { left: 0 },
            Some(ClusterState::RunningRollingUpdate) => Progress::Update { left: 0 },
            _ => Progress::Current,
        };
    }
    let left = outdated.len();
    if outdated
        .iter()
        .any(|pod| pod.image.as_deref() != Some(view.image))
    {
        Progress::Upgrade { left }
    } else {
        Progress::Update { left }
    }
}

/// The next step.
pub(super) fn next(view: &View<'_>) -> Step {
    let first = outdated(view)
        .filter(|pod| !pod.terminating)
        .min_by_key(|pod| {
            let leads = pod.ready && leads(view, pod);
            (pod.ready, leads, std::cmp::Reverse(pod.ordinal))
        });
    if outdated(view).next().is_none() {
        return Step::Done;
    }
    if !view.settled {
        return Step::Wait("Kubernetes has not taken in the new template yet".to_owned());
    }
    if let Some(reason) = away(view) {
        return Step::Wait(reason);
    }
    match first {
        Some(pod) => Step::Restart {
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            serves: pod.ready,
        },
        None => Step::Wait("an outdated pod is on its way out".to_owned()),
    }
}

fn outdated<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Node> {
    let template = view.template;
    wanted(view).filter(move |pod| pod.template.as_deref() != Some(template))
}

fn wanted<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Node> {
    let nodes = u32::try_from(view.nodes).unwrap_or(0);
    view.pods.iter().filter(move |pod| pod.ordinal < nodes)
}

/// A pod that is away and that no restart of an outdated one would bring back.
fn away(view: &View<'_>) -> Option<String> {
    if let Some(going) = wanted(view).find(|pod| pod.terminating) {
        return Some(format!("waits until pod {} is gone", going.name));
    }
    let present = wanted(view).count();
    let nodes = usize::try_from(view.nodes).unwrap_or(0);
    if present < nodes {
        return Some(format!(
            "waits for {} pods that do not exist yet",
            nodes - present
        ));
    }
    let current =
        wanted(view).find(|pod| !pod.ready && pod.template.as_deref() == Some(view.template))?;
    let why = current
        .trouble
        .as_ref()
        .map(|text| format!(" ({text})"))
        .unwrap_or_default();
    Some(format!("waits until pod {} is ready{why}", current.name))
}

/// Whether the primary of any shard runs in `pod`.
fn leads(view: &View<'_>, pod: &Node) -> bool {
    let here = |shard: &Shard| shard.primary.as_ref() == Some(&pod.name);
    view.shards.iter().any(here)
}

#[cfg(test)]
mod tests;
