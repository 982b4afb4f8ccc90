//! May this life of a shard lead? One that has less than it should have must never replace, or be copied by, those who have it.

use super::{Duty, Facts, Term};

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    /// It has everything, or nobody has more.
    Fit,
    /// It has less than somebody who may replace it.
    Unfit,
    /// Nobody who may replace it is known, but somebody may have become so.
    AskWhetherAlone,
}

/// Judges the life `id` as primary. `alone`: what the topology said in this life and term, if it was asked.
pub(super) fn judge(duty: &Duty, id: &str, facts: &Facts, alone: Option<bool>) -> Fitness {
    let term = Term {
        uid: duty.uid.clone(),
        epoch: duty.epoch,
    };
    // Also when nobody is in sync any more: who was, left because this one could not be followed.
    if facts.unfit == Some(term) {
        return Fitness::Unfit;
    }
    if facts.complete.as_deref() == Some(id) {
        return Fitness::Fit;
    }
    if !duty.in_sync.is_empty() {
        return Fitness::Unfit;
    }
    if duty.joining.is_empty() {
        return Fitness::Fit;
    }
    match alone {
        Some(true) => Fitness::Fit,
        Some(false) => Fitness::Unfit,
        None => Fitness::AskWhetherAlone,
    }
}
