//! How long a watch that failed waits before it asks again. One place, because what a watch does not tell is not seen: after
//! an API server was away, everything must be heard of again within seconds.

use std::time::Duration;

use backon::ExponentialBuilder;
use kube::runtime::{utils::ResetTimerBackoff, watcher::ExponentialBackoff};

/// The waits of a watch, or of several.
pub type Waits = ResetTimerBackoff<ExponentialBackoff>;

/// The longest wait of one watch, and of a controller between the failures of any two of its watches.
const LONGEST: Duration = Duration::from_secs(5);
const LONGEST_TOGETHER: Duration = Duration::from_millis(500);
/// Waits begin anew after so long without a failure.
const CALM: Duration = Duration::from_secs(60);

/// For a watch of its own.
#[must_use]
pub fn alone() -> Waits {
    waits(Duration::from_millis(800), LONGEST)
}

/// For the watches that wake one controller. They share these waits: while one waits nothing is heard from any other, and
/// each brings two or three failures of its own after an outage. With kube's own waits of 30 s a controller of eight
/// watches sees nothing for minutes.
#[must_use]
pub fn together() -> Waits {
    waits(Duration::from_millis(100), LONGEST_TOGETHER)
}

fn waits(first: Duration, longest: Duration) -> Waits {
    let growing = ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter();
    ResetTimerBackoff::new(growing.into(), CALM)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use futures::StreamExt as _;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Secret;
    use kube::{
        Client,
        client::Body,
        runtime::{controller::Action, watcher},
    };
    use meridian_api::crds::RedisEnterpriseDatabase;

    use super::*;
    use crate::k8s::{apply::Objects, drive};

    /// What a controller of eight watches asks within a minute of an API server that is not well.
    async fn asked_within_a_minute() -> usize {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let away = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = Response::builder().status(503).body(Body::empty());
            async move { answer }
        });
        let objects = Objects::new(Client::new(away, "ns"), "ns");
        let controller = drive::controller::<RedisEnterpriseDatabase>(&objects);
        let controller = (0..7).fold(controller, |controller, _| {
            let config = watcher::Config::default();
            controller.watches(objects.api::<Secret>(), config, |_| None)
        });
        let look = async |_, _| Ok::<_, Infallible>(Action::await_change());
        let looks = controller.run(look, |_, _, _| Action::await_change(), Arc::new(()));
        let minute = Duration::from_secs(60);
        let over = tokio::time::timeout(minute, looks.for_each(async |_| ())).await;
        assert!(over.is_err(), "a controller does not end");
        asked.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_of_many_watches_hears_of_each_again_within_seconds() {
        let asked = asked_within_a_minute().await;
        assert!((8 * 10..8 * 100).contains(&asked), "{asked} requests");
    }

    #[test]
    fn waits_grow_to_their_longest_and_no_further() {
        // With jitter a wait is up to twice what it would be.
        for (waits, longest) in [(alone(), LONGEST), (together(), LONGEST_TOGETHER)] {
            let waits: Vec<_> = waits.take(20).collect();
            assert_eq!(waits.len(), 20);
            assert!(waits.iter().all(|wait| *wait <= 2 * longest), "{waits:?}");
            assert!(waits[19] >= longest, "{waits:?}");
        }
    }
}
