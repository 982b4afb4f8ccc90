//! Answers as many scrapes at once as the cluster says: each asks every shard, and a crowd of them would be felt by clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::sync::observed::Observed;

/// Counts the scrapes in progress.
pub(super) struct Gate {
    observed: Arc<Observed>,
    in_flight: AtomicU32,
}

/// One scrape, until it is dropped: when it is answered, or when whoever asked has gone.
struct Scrape(Arc<Gate>);

impl Drop for Scrape {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    pub(super) fn new(observed: Arc<Observed>) -> Self {
        Self {
            observed,
            in_flight: AtomicU32::new(0),
        }
    }

    /// # Errors
    /// As many as may be are in progress; the number.
    fn enter(self: &Arc<Self>) -> Result<Scrape, u32> {
        let most = self.observed.scrapes().unwrap_or(u32::MAX);
        let more = |now: u32| (now < most).then(|| now.saturating_add(1));
        let entered = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        entered.map_err(|_| most)?;
        Ok(Scrape(Arc::clone(self)))
    }
}

/// Lets a scrape through, or answers 503.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.enter() {
        Ok(_scrape) => next.run(request).await,
        Err(most) => {
            let text = format!(
                "this node answers {most} scrapes at once, and as many are in progress: scrape less often, or raise \
                 spec.metricsConfig.maxRequestsInFlight of the cluster (0: any number)\n"
            );
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
    use meridian_api::login::{ClusterFacts, FACTS_KEY};
    use tokio::sync::{Notify, mpsc};
    use tower::ServiceExt as _;

    use super::*;

    fn facts(scrapes: u32) -> Secret {
        let facts = ClusterFacts {
            scrapes,
            ..ClusterFacts::default()
        };
        let bytes = ByteString(serde_json::to_vec(&facts).unwrap());
        Secret {
            data: Some([(FACTS_KEY.to_owned(), bytes)].into()),
            ..Secret::default()
        }
    }

    /// Pages that say when they are asked, and answer when they are told.
    struct Slow {
        pages: Router,
        observed: Arc<Observed>,
        asked: mpsc::UnboundedReceiver<()>,
        answer: Arc<Notify>,
    }

    fn slow() -> Slow {
        let (told, asked) = mpsc::unbounded_channel();
        let (answer, observed) = (Arc::new(Notify::new()), Arc::new(Observed::default()));
        let wait = Arc::clone(&answer);
        let page = move || async move {
            told.send(()).unwrap();
            wait.notified().await;
        };
        let gate = Arc::new(Gate::new(Arc::clone(&observed)));
        let pages = Router::new()
            .route("/metrics", get(page))
            .route_layer(axum::middleware::from_fn_with_state(gate, pass));
        Slow {
            pages,
            observed,
            asked,
            answer,
        }
    }

    impl Slow {
        /// Scrapes, and is answered without that a page is asked.
        async fn refuses(&mut self) {
            let status = tokio::select! {
                status = scrape(self.pages.clone()) => status,
                _ = self.asked.recv() => panic!("a scrape more was let through"),
            };
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    async fn scrape(pages: Router) -> StatusCode {
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        pages.oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn scrapes_beyond_the_clusters_number_are_refused_until_one_ends() {
        let mut slow = slow();
        let start = |pages: &Router| tokio::spawn(scrape(pages.clone()));
        let (first, second) = (start(&slow.pages), start(&slow.pages));
        slow.asked.recv().await.unwrap();
        slow.asked.recv().await.unwrap();
        // Two, until it is told another number.
        slow.refuses().await;
        slow.observed.secret(&facts(3));
        let third = start(&slow.pages);
        slow.asked.recv().await.unwrap();
        slow.refuses().await;
        third.abort();
        assert!(third.await.unwrap_err().is_cancelled());
        let fourth = start(&slow.pages);
        slow.asked.recv().await.unwrap();
        slow.observed.secret(&facts(0));
        let fifth = start(&slow.pages);
        slow.asked.recv().await.unwrap();
        slow.answer.notify_waiters();
        for scrape in [first, second, fourth, fifth] {
            assert_eq!(scrape.await.unwrap(), StatusCode::OK);
        }
        slow.observed.secret(&facts(1));
        let last = start(&slow.pages);
        slow.asked.recv().await.unwrap();
        slow.refuses().await;
        slow.answer.notify_waiters();
        assert_eq!(last.await.unwrap(), StatusCode::OK);
    }
}
