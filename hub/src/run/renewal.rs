//! The hub's own server certificate: made again between half and two thirds of its life, while connections stand. A failure is
//! told with what is left, and tried again at growing pauses that shrink as the end comes near.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use meridian_api::renewal::{self, Life};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::ca::{Authority, ServerIdentity};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::tls::LiveCertificate;

/// Longest sleep before the wall clock is looked at again: it may be set, and a machine may sleep.
const LOOK: Duration = Duration::from_secs(600);

/// A certificate in use.
#[derive(Clone, Debug)]
pub(super) struct Held {
    life: Life,
    der: Vec<u8>,
}

impl Held {
    pub(super) fn of(identity: &ServerIdentity) -> Self {
        Self {
            life: identity.life,
            der: identity
                .chain
                .first()
                .map(|der| der.to_vec())
                .unwrap_or_default(),
        }
    }
}

/// Keeps a server certificate fresh.
pub(super) struct Renewal<F> {
    /// Makes another and puts it in use.
    pub(super) renew: F,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) random: fn() -> f64,
    /// Changes with the roots: the certificate is made again at once.
    pub(super) roots: watch::Receiver<u64>,
}

/// Makes another certificate of the authority and puts it in use.
pub(super) fn from_authority(
    ca: Arc<Authority>,
    names: Vec<String>,
    live: Arc<LiveCertificate>,
    clock: Arc<dyn Clock>,
) -> impl Fn() -> anyhow::Result<Held> {
    move || {
        let identity = ca.issue_server(&names, clock.now())?;
        let (held, signer) = (Held::of(&identity), identity.signer.clone());
        live.swap(identity)?;
        ca.serves(&signer);
        Ok(held)
    }
}

impl<F: Fn() -> anyhow::Result<Held>> Renewal<F> {
    /// Works for ever.
    pub(super) async fn run(mut self, mut held: Held) -> Infallible {
        let (mut failures, mut pause, mut since) = (0u32, Duration::ZERO, None);
        let mut other_roots = false;
        loop {
            self.metrics.server_certificate_ends(held.life.not_after_ms);
            let due_in = if other_roots {
                Duration::ZERO
            } else {
                self.due_in(&held, since)
            };
            let wait = due_in.max(pause).min(LOOK);
            tokio::select! {
                () = sleep(wait) => pause = pause.saturating_sub(wait),
                Ok(()) = self.roots.changed() => (other_roots, pause) = (true, Duration::ZERO),
            }
            if !pause.is_zero() || !(other_roots || self.due_in(&held, since).is_zero()) {
                continue;
            }
            let renewed = (self.renew)();
            self.metrics.server_certificate_renewed(renewed.is_ok());
            match renewed {
                Ok(fresh) => {
                    tracing::info!("the server certificate was renewed");
                    (held, failures, since) = (fresh, 0, Some(Instant::now()));
                    other_roots = false;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let left = held.life.left(self.now_ms());
                    pause = renewal::again(failures, (self.random)(), left);
                    tracing::error!(%left, failures, again_s = pause.as_secs(), "the server certificate could not be renewed: {error:#}");
                }
            }
        }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    fn due_in(&self, held: &Held, since: Option<Instant>) -> Duration {
        let left = held
            .life
            .renewed_at(&held.der)
            .saturating_sub(self.now_ms());
        let least = since.map(|since| held.life.held_at_least().saturating_sub(since.elapsed()));
        Duration::from_millis(left.max(0).unsigned_abs()).max(least.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::metrics::Moment;

    /// The wall clock goes as the runtime's, which is paused.
    #[derive(Debug)]
    struct Follows(Instant);

    impl Clock for Follows {
        fn now(&self) -> Timestamp {
            let begun: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
            begun + SignedDuration::try_from(self.0.elapsed()).unwrap()
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);

    fn made(clock: &dyn Clock) -> Held {
        let now = clock.now().as_millisecond();
        Held {
            life: Life {
                not_before_ms: now,
                not_after_ms: now + 30 * 86_400_000,
            },
            der: now.to_be_bytes().to_vec(),
        }
    }

    /// When, counted from the beginning, certificates were asked for within `days` if the first `fail` of them fail.
    async fn asked(days: u32, fail: usize) -> (Vec<Duration>, String) {
        let clock: Arc<dyn Clock> = Arc::new(Follows(Instant::now()));
        let (begun, asked) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let (seen, source) = (Arc::clone(&asked), Arc::clone(&clock));
        let metrics = Arc::<Metrics>::default();
        let renewal = Renewal {
            renew: move || {
                let mut asked = seen.lock().unwrap();
                asked.push(begun.elapsed());
                anyhow::ensure!(asked.len() > fail, "the disk is full");
                Ok(made(source.as_ref()))
            },
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            random: || 0.5,
            roots: watch::Sender::new(1).subscribe(),
        };
        let first = made(clock.as_ref());
        tokio::time::timeout(DAY * days, renewal.run(first))
            .await
            .unwrap_err();
        let asked = asked.lock().unwrap().clone();
        (asked, metrics.print(Moment::default()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_certificate_is_renewed_at_its_time_again_and_again() {
        let (asked, printed) = asked(365, 0).await;
        assert!((18..=24).contains(&asked.len()), "{asked:?}");
        let gaps: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(
            gaps.iter().all(|gap| (DAY * 15..DAY * 20).contains(gap)),
            "{gaps:?}"
        );
        assert!(
            printed.contains(
                "meridian_hub_certificate_expiry_timestamp_seconds{certificate=\"server\"}"
            ),
            "{printed}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_is_tried_again_long_before_the_end_and_counted() {
        let (asked, printed) = asked(22, 9).await;
        assert_eq!(asked.len(), 10, "{asked:?}");
        let pauses: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
        assert!(pauses[8] <= Duration::from_secs(600), "{pauses:?}");
        assert!(
            printed.contains("meridian_hub_server_certificate_renewals_total{result=\"Failed\"} 9"),
            "{printed}"
        );
    }
}
