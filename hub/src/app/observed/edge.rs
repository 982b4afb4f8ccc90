//! When an observation is an edge: when it says something else than the one before it, or when a lag passes from one step of a
//! coarse scale to another. All else moves every few seconds at every member and is no matter for the store.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use meridian_api::link::meaning::lasting;
use serde_json::json;

use crate::store::records::{LinkReport, StoredObservation};

/// Where a lag passes to the next step, milliseconds: a second is more than any distance on earth takes, a minute is for people
/// to look at, ten minutes are for somebody to be woken.
const LAG_STEPS_MS: [u64; 4] = [1_000, 10_000, 60_000, 600_000];

/// What an observation says, as a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning([u8; 16]);

impl Meaning {
    pub(super) fn of(seen: &StoredObservation) -> Self {
        let StoredObservation {
            for_revision,
            status,
            links,
            as_of: _,
        } = seen;
        let links = links.iter().map(|link| {
            let LinkReport {
                instance_id,
                from,
                state,
                last_error,
                lag_ms: _,
                since: _,
            } = link;
            json!([instance_id, from, state, last_error])
        });
        let links: Vec<_> = links.collect();
        let said = json!([for_revision, lasting(status.clone()), links]);
        let digest = digest(&SHA256, said.to_string().as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&digest.as_ref()[..16]);
        Self(short)
    }
}

/// What moves of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moving {
    pub(super) instance_id: u64,
    pub(super) lag_ms: Option<u64>,
    pub(super) since: Timestamp,
}

pub(super) fn moving(seen: &StoredObservation) -> Box<[Moving]> {
    let links = seen.links.iter();
    let moving = links.map(|link| Moving {
        instance_id: link.instance_id,
        lag_ms: link.lag_ms,
        since: link.since,
    });
    moving.collect()
}

/// Whether the lag of a link has passed from one step to another since it was stored.
pub(super) fn any_lag_passed(stored: &[Moving], now: &[Moving]) -> bool {
    now.iter().any(|link| {
        let before = stored.iter().find(|it| it.instance_id == link.instance_id);
        lag_passed(before.and_then(|it| it.lag_ms), link.lag_ms)
    })
}

/// Upwards at a step, downwards below half of it: a lag that hovers around a step passes it once. An unknown lag says nothing.
fn lag_passed(stored: Option<u64>, now: Option<u64>) -> bool {
    let Some(now) = now else {
        return false;
    };
    let step = |lag| LAG_STEPS_MS.iter().filter(|from| **from <= lag).count();
    let at = step(stored.unwrap_or(0));
    let below = at.checked_sub(1).map(|last| LAG_STEPS_MS[last]);
    step(now) > at || below.is_some_and(|from| now < from / 2)
}

/// Whether the store has to be told.
pub(in crate::app) fn is_edge(stored: &StoredObservation, seen: &StoredObservation) -> bool {
    Meaning::of(stored) != Meaning::of(seen) || any_lag_passed(&moving(stored), &moving(seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_passes_a_step_upwards_at_once_and_downwards_below_half_of_it() {
        for (stored, now, passed) in [
            (None, None, false),
            (None, Some(999), false),
            (None, Some(1_000), true),
            (Some(5), None, false),
            (Some(999), Some(1_000), true),
            (Some(1_000), Some(9_999), false),
            (Some(1_000), Some(500), false),
            (Some(1_000), Some(499), true),
            (Some(1_000), Some(3_600_000), true),
            (Some(3_600_000), Some(300_000), false),
            (Some(3_600_000), Some(299_999), true),
        ] {
            assert_eq!(lag_passed(stored, now), passed, "{stored:?} {now:?}");
        }
    }
}
