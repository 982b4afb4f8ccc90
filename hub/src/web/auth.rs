//! Bearer tokens, and what each may do. The only door to every path under `/api/`.

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use meridian_api::fault::Fault;

use super::answer::Failure;
use super::trail::Way;
use super::{WebState, rules};
use crate::app::writes::Actor;
use crate::clock::since_boot;
use crate::domain::access::ApiToken;
use crate::domain::access::grant::Act;
use crate::metrics::Limited;

/// Who makes a request.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) ApiToken);

impl Caller {
    /// As a write knows its author.
    pub(super) fn actor(&self, way: &Way) -> Actor {
        Actor {
            role: self.0.role,
            scope: self.0.projects.clone(),
            trail: way.trail(),
        }
    }
}

pub(super) async fn demand_token(
    State(state): State<WebState>,
    path: MatchedPath,
    Extension(way): Extension<Way>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&state, &path, &way, request.method(), request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn caller(
    state: &WebState,
    path: &MatchedPath,
    way: &Way,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Caller, Failure> {
    let caller = match prove(state, way, headers).await {
        Ok(token) => Caller(token),
        Err(fault @ Fault::Unauthorized { .. }) => {
            let held_back = state.limits.refusal(way.origin(), since_boot());
            return Err(held_back
                .err()
                .map_or(fault, |it| counted(state, it))
                .into());
        }
        Err(fault) => return Err(fault.into()),
    };
    way.is(&caller.0);
    let held_back = state.limits.request(&caller.0.id, since_boot());
    held_back.map_err(|it| counted(state, it))?;
    authorize(&caller.0, method, path.as_str())?;
    // A replica that follows writes nothing.
    if state.follower.is_none() {
        state.app.note_use(&caller.0).await;
    }
    Ok(caller)
}

async fn prove(state: &WebState, way: &Way, headers: &HeaderMap) -> Result<ApiToken, Fault> {
    let presented = presented(headers)?;
    way.claims(presented);
    Ok(state.app.authenticate(presented).await?)
}

fn counted(state: &WebState, (limit, fault): (Limited, Fault)) -> Fault {
    state.metrics.limited(limit);
    fault
}

/// Refuses what the token may not do, whatever the object. Of which project that is, is asked where it is known.
fn authorize(token: &ApiToken, method: &Method, path: &str) -> Result<(), Fault> {
    let Some((verb, kind)) = rules::act(method, path) else {
        let detail = format!("no rule says who may {method} {path}, so that nobody may");
        return Err(Fault::Forbidden { detail });
    };
    let act = Act {
        verb,
        kind,
        project: None,
    };
    token.may(act).map_err(|refusal| Fault::Forbidden {
        detail: refusal.to_string(),
    })
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
