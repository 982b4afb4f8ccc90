//! Bearer tokens. The only door to every path under `/api/`.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use meridian_api::fault::Fault;

use super::WebState;
use super::answer::Failure;
use crate::domain::access::ApiToken;

/// Who makes a request.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) ApiToken);

pub(super) async fn demand_token(
    State(state): State<WebState>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION).cloned();
    match caller(&state, header).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn caller(state: &WebState, header: Option<HeaderValue>) -> Result<Caller, Failure> {
    let header = header.as_ref().and_then(|value| value.to_str().ok());
    let presented = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or_else(|| Fault::Unauthorized {
        detail: "found no bearer token, expected the header `Authorization: Bearer <token>`; the first one is in the \
                 file admin-token of the hub's data directory"
            .to_owned(),
    })?;
    Ok(Caller(state.app.authenticate(presented).await?))
}
