//! Probes and metrics over HTTP: `/livez`, `/readyz`, `/metrics`.
//!
//! `/readyz` answers one line per check, so a person sees which one is missing and why.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The content type of the text that the registry makes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The state of everything that readiness depends on.
#[derive(Debug, Clone, Default)]
pub struct Board {
    checks: Arc<Mutex<BTreeMap<String, Result<String, String>>>>,
}

impl Board {
    /// Records that `check` holds; `detail` says what was found.
    pub fn good(&self, check: &str, detail: impl Into<String>) {
        self.set(check, Ok(detail.into()));
    }

    /// Records that `check` does not hold; `why` says what is missing and what to do.
    pub fn bad(&self, check: &str, why: impl Into<String>) {
        self.set(check, Err(why.into()));
    }

    fn set(&self, check: &str, state: Result<String, String>) {
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(check.to_owned(), state);
    }

    /// Whether every check holds, and one line per check. Without any check nothing is known: not ready.
    #[must_use]
    pub fn read(&self) -> (bool, String) {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = !checks.is_empty() && checks.values().all(Result::is_ok);
        let line = |(name, state): (&String, &Result<String, String>)| match state {
            Ok(detail) => format!("[+] {name}: {detail}\n"),
            Err(why) => format!("[-] {name}: {why}\n"),
        };
        (ready, checks.iter().map(line).collect())
    }

    /// Whether one check holds, and its line. A check that was never set does not hold.
    #[must_use]
    pub fn read_one(&self, check: &str) -> (bool, String) {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        match checks.get(check) {
            Some(Ok(detail)) => (true, format!("{detail}\n")),
            Some(Err(why)) => (false, format!("{why}\n")),
            None => (false, format!("{check}: nothing is known yet\n")),
        }
    }
}

/// Serves the probes until `stop`.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    listen: SocketAddr,
    board: Board,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(listener, router(board, metrics))
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await
}

fn router(board: Board, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(livez).with_state(board.clone()))
        .route("/readyz", get(readyz).with_state(board))
        .route("/metrics", get(render).with_state(metrics))
}

/// An answer is the proof; what is not ready is no reason to be started again, and is told for people.
async fn livez(State(board): State<Board>) -> String {
    format!("ok: this process answers\n{}", board.read().1)
}

async fn readyz(State(board): State<Board>) -> (StatusCode, String) {
    let (ready, text) = board.read();
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        text,
    )
}

async fn render(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let text = metrics.render().map_err(|error| {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("render the metrics: {error}\n"),
        )
    });
    ([(CONTENT_TYPE, OPEN_METRICS)], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_every_check_and_says_which_one_is_missing() {
        let board = Board::default();
        assert!(!board.read().0, "an empty board knows nothing");
        board.good("lease", "standby of `a`");
        board.bad(
            "crds",
            "databasetopologies.meridian.dev is missing: apply deploy/crds",
        );
        let (ready, text) = board.read();
        assert!(!ready);
        assert!(
            text.contains("[-] crds: databasetopologies.meridian.dev is missing"),
            "{text}"
        );
        board.good("crds", "all served");
        assert!(board.read().0);
    }
}
