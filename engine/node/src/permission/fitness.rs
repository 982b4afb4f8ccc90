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
    // Also when nobody is in sync any more: who was, left because this one could not be followed.
    if is_known_unfit(duty, facts) {
        return Fitness::Unfit;
    }
    if facts.complete.as_deref() == Some(id) {
        return Fitness::Fit;
    }
    if !duty.in_sync.is_empty() {
        return Fitness::Unfit;
    }
    if duty.copies.is_empty() {
        return Fitness::Fit;
    }
    // An empty set says that nobody follows yet, not that nobody has more: who was named primary and lost its process before it
    // led has the old primary and the old set beside it; and who led and has lost what was in memory has beside it those who
    // followed until then.
    let resumes = duty.keeps && has_led(duty, facts);
    if !duty.as_is && !resumes {
        return Fitness::Unfit;
    }
    match alone {
        // Whoever has come into the set since was counted here first. The word that this one leads as it is may be of long ago, when
        // another has led since.
        _ if !duty.as_is && duty.joining.is_empty() => Fitness::Fit,
        Some(true) => Fitness::Fit,
        Some(false) => Fitness::Unfit,
        None => Fitness::AskWhetherAlone,
    }
}

/// An earlier life held a permission in this very distribution of roles.
fn has_led(duty: &Duty, facts: &Facts) -> bool {
    let led = facts.led.as_ref();
    led.is_some_and(|term| (&term.uid, term.epoch) == (&duty.uid, duty.epoch))
}

/// The present epoch is one in which this shard was found to have less than others.
pub(super) fn is_known_unfit(duty: &Duty, facts: &Facts) -> bool {
    facts
        .unfit
        .as_ref()
        .is_some_and(|unfit| unfit.uid == duty.uid && unfit.epoch >= duty.epoch)
}

/// What is to be remembered of an unfit life. A failover that was begun and given up goes on in the epoch of its fence, and is no
/// answer to the wish for another primary: only a higher epoch than that is.
pub(super) fn unfit_up_to(duty: &Duty, fence: Option<u64>) -> Term {
    Term {
        uid: duty.uid.clone(),
        epoch: fence.unwrap_or(0).max(duty.epoch),
    }
}
