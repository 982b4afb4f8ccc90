//! The admission webhook: every replica answers, before an object is stored, whether it can be used and what of it has
//! no effect. The rules themselves are those of [`meridian_api::validate`].
//!
//! HTTPS on its own port: `/admission` (AdmissionReview v1 and v1beta1), `/liveness`, `/readiness`. The certificate is
//! made and renewed by [`keep`], which also keeps the cluster's webhook configuration right. Used by `run` only.

mod certificate;
mod configuration;
mod fetch;
mod judge;
mod keep;
mod listener;
mod review;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use kube::Client;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    certificate::Live,
    judge::Verdict,
    keep::Keeper,
    review::{Request, Review, ReviewError},
};
use crate::{
    k8s::{apply::Objects, lease::Role},
    metrics::Metrics,
    namespaces::Selection,
    probes::Board,
};

/// Largest review, bytes: an object and what it was, each as large as the API server stores at most.
const LARGEST: usize = 8 << 20;
/// Reviews that are judged at one time; more wait their turn within [`WITHIN`].
const AT_ONCE: usize = 32;
/// Longest time for one answer: the API server waits for [`configuration::TIMEOUT_SECONDS`].
const WITHIN: Duration = Duration::from_secs(4);
/// How long reviews are still answered after the process was asked to stop: those who call hear of it at their own time.
const LINGER: Duration = Duration::from_secs(3);
/// Name of the check in `/readyz`.
const CHECK: &str = "admission";

/// Why the webhook cannot be served.
#[derive(Debug, Error)]
pub enum AdmissionError {
    /// The address cannot be listened on.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// TLS could not be set up.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
}

/// What the webhook works with.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Address of the HTTPS server.
    pub listen: SocketAddr,
    /// Namespace that this agent operates.
    pub namespace: String,
    /// What readiness shows.
    pub board: Board,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether this replica leads: the leader writes the certificate and the configuration.
    pub roles: watch::Receiver<Role>,
    /// The other namespaces whose databases are judged.
    pub selection: watch::Receiver<Selection>,
}

/// Serves the webhook until `stop`, and a little longer.
///
/// # Errors
/// [`AdmissionError`].
pub async fn run(
    admission: Admission,
    client: Client,
    stop: CancellationToken,
) -> Result<(), AdmissionError> {
    let Admission {
        listen,
        namespace,
        board,
        metrics,
        roles,
        selection,
    } = admission;
    board.bad(CHECK, "its certificate was not read yet");
    let live = Arc::new(Live::default());
    let tcp = TcpListener::bind(listen)
        .await
        .map_err(|source| AdmissionError::Listen(listen, source))?;
    let ended = CancellationToken::new();
    let server = axum::serve(
        listener::listen(tcp, Arc::clone(&live), ended.clone())?,
        router(Server {
            objects: Objects::new(client.clone(), &namespace),
            board: board.clone(),
            metrics: Arc::clone(&metrics),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }),
    );
    let serve = server.with_graceful_shutdown(ended.clone().cancelled_owned());
    let keeper = Keeper::new(client, &namespace, live, (board, metrics), roles, selection);
    let end = async {
        keeper.run(stop).await;
        tokio::time::sleep(LINGER).await;
        ended.cancel();
    };
    let (served, ()) = tokio::join!(async { serve.await }, end);
    served.map_err(|source| AdmissionError::Listen(listen, source))
}

#[derive(Clone)]
struct Server {
    objects: Objects,
    board: Board,
    metrics: Arc<Metrics>,
    turns: Arc<Semaphore>,
}

fn router(server: Server) -> Router {
    Router::new()
        .route("/admission", post(answer))
        .route("/readiness", get(readiness))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(server)
        .route("/liveness", get(|| async { "alive\n" }))
}

async fn readiness(State(server): State<Server>) -> (StatusCode, String) {
    let (ready, text) = server.board.read_one(CHECK);
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        text,
    )
}

async fn answer(State(server): State<Server>, body: Bytes) -> Response {
    let review = match Review::read(&body) {
        Ok(review) => review,
        Err(error) => return refuse_review(&error),
    };
    let started = Instant::now();
    let verdict = timeout(WITHIN, server.judge(&review.request))
        .await
        .unwrap_or_else(|_| Verdict::unknown(format!("no answer within {} s", WITHIN.as_secs())));
    let (result, took) = (verdict.outcome(), started.elapsed());
    let kind = judge::kind_label(&review.request);
    server.metrics.judged(kind, result, took);
    tracing::debug!(
        uid = review.request.uid,
        kind = review.request.kind.kind,
        name = review.request.name,
        operation = review.request.operation,
        result,
        duration_ms = took.as_secs_f64() * 1000.0,
        "judged"
    );
    let answer = review.answer(verdict).to_string();
    ([(CONTENT_TYPE, "application/json")], answer).into_response()
}

fn refuse_review(error: &ReviewError) -> Response {
    tracing::warn!(%error, "a review could not be read");
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}

impl Server {
    async fn judge(&self, request: &Request) -> Verdict {
        // The semaphore is never closed.
        let Ok(_turn) = self.turns.acquire().await else {
            return Verdict::unknown("the agent is stopping".to_owned());
        };
        match fetch::around(&self.objects, request).await {
            Ok(around) => judge::judge(request, &around),
            Err(error) => Verdict::unknown(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
