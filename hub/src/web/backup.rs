//! `GET /api/v1/hub/backup`: everything that the store holds, as one file. What is in it: `meridian_api::backup`.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use meridian_api::backup;

use super::WebState;
use super::answer::Failure;
use super::params::Params;
use crate::app::audit::Deed;
use crate::domain::access::grant::{Kind, Verb};

/// Sends the records of one revision. A file that ends without its checksum was cut off.
pub(super) async fn get(
    State(state): State<WebState>,
    params: Params,
) -> Result<Response, Failure> {
    // Before it is read: no backup leaves the hub of which nobody knows.
    let deed = Deed::new(Verb::Get, Kind::Backup.word(), "");
    state.app.record(&params.manner().by.trail, &deed).await?;
    let pieces = state.app.backup().await?.pieces();
    let headers = [
        (CONTENT_TYPE, backup::CONTENT_TYPE),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(stream::iter(pieces))).into_response())
}
