//! Bearer tokens and sessions, and what each may do. The only door to every path under `/api/`.

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, COOKIE, HeaderMap, ORIGIN};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use meridian_api::fault::Fault;

use super::answer::Failure;
use super::trail::Way;
use super::{WebState, rules};
use crate::app::sessions::no_role;
use crate::app::writes::Actor;
use crate::clock::since_boot;
use crate::domain::access::ApiToken;
use crate::domain::access::grant::Act;
use crate::metrics::Limited;

/// Cookie with the session of a person. The prefix makes browsers insist that this very host set it, over TLS.
pub(super) const SESSION: &str = "__Host-meridian-session";

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
    let caller = match prove(state, way, method, headers).await {
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
    let caller = Caller(authorize(caller.0, method, path.as_str())?);
    // A replica that follows writes nothing.
    if state.follower.is_none() {
        state.app.note_use(&caller.0).await;
    }
    Ok(caller)
}

/// The token or session that a request shows.
pub(super) async fn prove(
    state: &WebState,
    way: &Way,
    method: &Method,
    headers: &HeaderMap,
) -> Result<ApiToken, Fault> {
    let presented = presented(headers)?;
    way.claims(presented);
    let token = state.app.authenticate(presented).await?;
    way.is(&token);
    // A browser adds the cookie whoever makes it ask.
    if bearer(headers).is_none() {
        must_be_own_page(state, &token, method, headers)?;
    }
    Ok(token)
}

/// Refuses what another site's page makes a browser do with the session of its person.
fn must_be_own_page(
    state: &WebState,
    token: &ApiToken,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Fault> {
    let refused = |detail: String| Err(Fault::Forbidden { detail });
    let Some(sign_in) = state.sign_in.as_ref().filter(|_| token.person.is_some()) else {
        return refused(
            "a cookie counts only where people sign in, and only for their sessions; send the token as \
             `Authorization: Bearer <token>`"
                .to_owned(),
        );
    };
    let own = sign_in.settings().origin.as_str();
    let found = headers
        .get(ORIGIN)
        .map(|origin| origin.to_str().unwrap_or_default());
    if method.is_safe() || found == Some(own) {
        return Ok(());
    }
    let found = found.map_or("none".to_owned(), |found| format!("{found:?}"));
    refused(format!(
        "{method} with the session of a browser: found the header Origin {found}, expected {own:?}, the address of this hub \
         (--advertise-web); programs send the session as `Authorization: Bearer <token>`"
    ))
}

fn counted(state: &WebState, (limit, fault): (Limited, Fault)) -> Fault {
    state.metrics.limited(limit);
    fault
}

/// The token with the rights that it has for this. Refuses what it may not do, whatever the object. Of which project that is, is
/// asked where it is known.
fn authorize(token: ApiToken, method: &Method, path: &str) -> Result<ApiToken, Fault> {
    let Some((verb, kind)) = rules::act(method, path) else {
        let detail = format!("no rule says who may {method} {path}, so that nobody may");
        return Err(Fault::Forbidden { detail });
    };
    let act = Act {
        verb,
        kind,
        project: None,
    };
    if let Some(person) = token.person.as_ref().filter(|_| token.grants.is_empty()) {
        let detail = no_role(person);
        return Err(Fault::Forbidden { detail });
    }
    let token = token.narrowed(verb, kind);
    token.may(act).map_err(|refusal| Fault::Forbidden {
        detail: refusal.to_string(),
    })?;
    Ok(token)
}

/// The token that a caller presents, whatever it is worth: as a bearer, or else as the cookie of a session.
pub(super) fn presented(headers: &HeaderMap) -> Result<&str, Fault> {
    let presented = bearer(headers).or_else(|| cookie(headers, SESSION));
    presented.ok_or_else(|| Fault::Unauthorized {
        detail: "found no bearer token, expected the header `Authorization: Bearer <token>`; the first one is in the \
                 file admin-token of the hub's data directory"
            .to_owned(),
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    header.strip_prefix("Bearer ")
}

/// The cookie of this name.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}
