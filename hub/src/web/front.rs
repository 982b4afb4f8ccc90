//! The door of the web API: who stands behind it changes while the process runs.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use meridian_api::fault::Fault;
use tower::ServiceExt as _;

use super::{WebState, answer, router};

/// Who answers now.
#[derive(Debug, Default)]
pub struct Front(ArcSwapOption<Router>);

impl Front {
    /// From now on this state answers.
    pub fn put(&self, state: WebState) {
        self.0.store(Some(Arc::new(router(state))));
    }

    /// From now on nobody answers.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// A router that hands every request to whoever stands behind the door when it comes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(move |request: Request| {
            let front = Arc::clone(&self);
            async move { front.answer(request).await }
        })
    }

    async fn answer(&self, request: Request) -> Response {
        let Some(router) = self.0.load_full() else {
            return nobody(request.uri().path());
        };
        // A router answers always: its error has no value.
        match Router::clone(&router).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Before the state has been read for the first time.
fn nobody(path: &str) -> Response {
    if path == "/healthz" {
        return "ok\n".into_response();
    }
    if path == "/readyz" {
        let why = "this hub has not read its state yet\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    }
    let fault = Fault::Unavailable {
        detail: "this hub has not read its state yet; try again".to_owned(),
        retry_after_ms: 1000,
    };
    answer::problem(&fault, &answer::number(), None)
}
