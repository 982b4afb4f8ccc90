//! `/metrics`: made anew at each scrape from what the node and its shards say. `/v2`: only the names that users of Redis Enterprise
//! know, at the path where they look for them. `/info`: what each shard says of itself, for people. Labels come from
//! [`LABELS`] only: names of objects and closed words, never an address, never an error text. The one metric `db_tags` has the tags
//! that the cluster shows besides, one series a database, so that tags multiply no other series.

mod gate;
mod info;
mod known;
mod ours;
mod page;
mod snapshot;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::node::Node;
use super::observed::Observed;
use gate::Gate;
pub use page::{LABELS, families};
pub use text::{Family, Kind};

/// Serves the pages in clear text until `stop`.
pub(super) async fn serve(listener: TcpListener, pages: Router, stop: CancellationToken) {
    let served = axum::serve(listener, pages)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        error!(%error, "metrics are no longer served");
    }
}

/// The pages of a node; `observed` knows how many scrapes are answered at once.
pub(super) fn router(node: Arc<Node>, observed: Arc<Observed>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/v2", get(known_metrics))
        .route_layer(middleware::from_fn_with_state(
            Arc::new(Gate::new(observed)),
            gate::pass,
        ))
        .route("/info", get(infos))
        .with_state(node)
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    answer(page::of(&snapshot::take(&node).await, |_| true))
}

async fn known_metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    answer(page::of(&snapshot::take(&node).await, Family::is_known))
}

fn answer(text: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, text::CONTENT_TYPE)], text)
}

async fn infos(State(node): State<Arc<Node>>) -> String {
    snapshot::raw(&node).await
}
