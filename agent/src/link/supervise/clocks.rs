//! The clocks of hub and agent, compared for people: certificates live by the hub's, and are looked at with ours.

use std::convert::Infallible;

use jiff::Timestamp;
use meridian_api::renewal::Left;
use tokio::sync::watch;

use super::Supervisor;
use crate::{
    k8s::events::Events,
    link::{join, keep::reference},
};

/// Reason of the Event.
const CLOCKS_DIFFER: &str = "ClocksDiffer";
/// A difference that people are told of, milliseconds: half of what certificates are back-dated by.
const TOLD_MS: i64 = 300_000;

impl Supervisor {
    /// Tells of a difference that the answer of a registration shows.
    pub(super) async fn compare_clocks(&self, hub_ms: i64, ours_ms: i64) {
        tell(&self.events, &self.namespace, hub_ms, ours_ms).await;
    }
}

/// Tells of a difference at each Welcome. Runs beside one session.
pub(super) async fn watched(
    events: &Events,
    namespace: &str,
    clocks: &watch::Sender<Option<(i64, i64)>>,
) -> Infallible {
    let mut clocks = clocks.subscribe();
    clocks.mark_unchanged();
    while clocks.changed().await.is_ok() {
        let both = *clocks.borrow_and_update();
        if let Some((hub_ms, ours_ms)) = both {
            tell(events, namespace, hub_ms, ours_ms).await;
        }
    }
    std::future::pending().await
}

async fn tell(events: &Events, namespace: &str, hub_ms: i64, ours_ms: i64) {
    let about = reference(namespace, join::SECRET, None);
    match difference(hub_ms, ours_ms) {
        Some(note) => {
            tracing::warn!(note, "the clocks of hub and agent differ");
            events.warning(&about, CLOCKS_DIFFER, &note).await;
        }
        None => events.over(&about, CLOCKS_DIFFER),
    }
}

/// Both clocks in words, if they differ by more than people should leave them. A hub that does not say its clock says 0.
fn difference(hub_ms: i64, ours_ms: i64) -> Option<String> {
    let apart = ours_ms.saturating_sub(hub_ms);
    if hub_ms == 0 || apart.saturating_abs() <= TOLD_MS {
        return None;
    }
    let way = if apart > 0 { "ahead of" } else { "behind" };
    let amount = Left(apart.saturating_abs())
        .to_string()
        .replace(" left", "");
    Some(format!(
        "the clock of this agent's machine says {}, that of the hub says {}: ours is {amount} {way} the hub's. The link goes on as far \
         as it can, by the hub's clock; set both by NTP",
        shown(ours_ms),
        shown(hub_ms),
    ))
}

fn shown(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(
        |_| format!("{ms} ms"),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_by_days_is_told_with_both_clocks() {
        let hub = 1_767_225_600_000;
        let told = difference(hub, hub + 3 * 86_400_000).unwrap();
        for part in [
            "2026-01-01T00:00:00Z",
            "2026-01-04T00:00:00Z",
            "3 days ahead of",
            "NTP",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(
            difference(hub, hub - 600_000)
                .unwrap()
                .contains("10 minutes behind")
        );
        assert_eq!(difference(hub, hub + 300_000), None);
        assert_eq!(difference(0, hub), None);
    }
}
