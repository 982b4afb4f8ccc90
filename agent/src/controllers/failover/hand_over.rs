//! A planned move on its way: the primary stops taking writes, and the candidate leads once it has everything. Pure.
//!
//! A primary whose pod is being deleted does its part as long as it answers; it is not asked a second time, because it ends
//! anyway. One answer that is late says nothing about it: a node that is drained is a busy one.

use meridian_api::crds::topology::{Fence, ShardReport, ShardRole};

use super::{
    decide::{NOT_READY_MS, PLANNED_MS, SILENT_MS, Step, View},
    watch::{Fact, acting},
};

/// Whether the pod is marked for deletion.
pub(super) fn is_going(view: &View<'_>, pod: &str) -> bool {
    view.pods.get(pod).is_some_and(|facts| facts.going)
}

/// Whether the primary on the pod, which may have been asked to stop, still does its part.
pub(super) fn goes_on(view: &View<'_>, pod: &str) -> bool {
    let runs = view.pods.get(pod).is_some_and(|facts| !facts.stopped);
    let silent = view.watch.silent(pod, view.now).unwrap_or(0);
    let unready = view.watch.lasted(pod, Fact::NotReady, view.now);
    runs && silent < SILENT_MS && unready.unwrap_or(0) < NOT_READY_MS
}

/// Whether the primary, which may have been asked to stop, still does its part and has everything that it acknowledged.
pub(super) fn has_all(view: &View<'_>, pod: &str) -> bool {
    let own = acting(view.topology, pod, &ShardRole::Primary);
    goes_on(view, pod) && own.is_some_and(|own| own.ready && own.offset.is_some())
}

/// How the move to the candidate, which reports `own`, goes on; `old`: what the primary reports, if it has stopped for the
/// fence. `None`: nothing is handed over any more, the primary is to be taken for lost.
pub(super) fn decide(
    view: &View<'_>,
    own: &ShardReport,
    old: Option<&ShardReport>,
    primary: &str,
    fence: &Fence,
) -> Option<Step> {
    if !goes_on(view, primary) {
        return None;
    }
    let confirmed = view.watch.confirmed(fence.epoch, view.now).is_some();
    let complete = old.is_some_and(|old| own.offset.is_some() && own.offset >= old.offset);
    if complete && confirmed {
        return Some(Step::Promote);
    }
    if view.watch.fenced(fence.epoch, view.now).unwrap_or(0) < PLANNED_MS {
        return Some(Step::Nothing);
    }
    if is_going(view, primary) {
        // It ends anyway, and not before it has sent what it has; one that says nothing is waited for no longer.
        return (old.is_some() && confirmed).then_some(Step::Nothing);
    }
    let why = format!(
        "`{}` did not have everything within {PLANNED_MS} ms after `{primary}` was asked to stop",
        fence.candidate
    );
    Some(Step::AbandonFence { why })
}
