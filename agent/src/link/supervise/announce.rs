//! Tells people when a hub is only observed: they alone can end it.

use std::convert::Infallible;

use tokio::sync::watch;

use crate::{
    k8s::events::Events,
    link::{join, keep::reference},
};

/// Reason of the Event.
const ONLY_OBSERVING: &str = "OnlyObserving";

/// Says why, once for each time that it begins. Runs beside one session and is dropped with it, perhaps before the API
/// server has taken the Event; the next session then says it.
pub(super) async fn observing(
    events: &Events,
    namespace: &str,
    why: &watch::Sender<Option<String>>,
) -> Infallible {
    let about = reference(namespace, join::SECRET, None);
    let mut why = why.subscribe();
    why.mark_unchanged();
    while why.changed().await.is_ok() {
        let Some(reason) = why.borrow_and_update().clone() else {
            events.over(&about, ONLY_OBSERVING);
            continue;
        };
        let note = format!(
            "nothing of this hub is applied and nothing is deleted: {reason}; look at the hub, then adopt its store there \
             or put the right one back"
        );
        events.warning(&about, ONLY_OBSERVING, &note).await;
    }
    std::future::pending().await
}
