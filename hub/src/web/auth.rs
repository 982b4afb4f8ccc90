//! Bearer tokens. The only door to every path under `/api/`.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderMap};
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
    match caller(&state, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn caller(state: &WebState, headers: &HeaderMap) -> Result<Caller, Failure> {
    Ok(Caller(state.app.authenticate(presented(headers)?).await?))
}

/// The token that a caller presents, whatever it is worth.
pub(super) fn presented(headers: &HeaderMap) -> Result<&str, Fault> {
    let header = headers.get(AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let presented = header.and_then(|header| header.strip_prefix("Bearer "));
    presented.ok_or_else(|| Fault::Unauthorized {
        detail: "found no bearer token, expected the header `Authorization: Bearer <token>`; the first one is in the \
                 file admin-token of the hub's data directory"
            .to_owned(),
    })
}
