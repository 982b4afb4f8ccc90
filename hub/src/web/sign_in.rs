//! `/auth/…`: people sign in, see their session, and end it. Each failure is told to the person, written down in the audit log with
//! its reason in one word, and counted against the address that it came from.

mod told;

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, HeaderMap, LOCATION, REFERRER_POLICY, SET_COOKIE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use jiff::{SignedDuration, Timestamp};
use meridian_api::audit::Outcome;
use meridian_api::fault::Fault;
use meridian_api::validate::FieldError;
use meridian_api::web::{ApiRole, CodeExchange, Session, SessionGrant, SessionPerson, SessionRole};
use serde::Deserialize;

use super::answer::{Failure, time};
use super::auth::{self, SESSION};
use super::sent::Sent;
use super::trail::Way;
use super::{WebState, forward, trail};
use crate::app::AppError;
use crate::app::api_tokens::Minted;
use crate::app::audit::Deed;
use crate::clock::since_boot;
use crate::domain::access::ApiToken;
use crate::domain::access::grant::Role;
use crate::domain::sign_in::Person;
use crate::domain::sign_in::roles::Grant;
use crate::sign_in::SignIn;
use crate::sign_in::flow::{CALLBACK, Goal, LOGIN, LoginError, Returned};
use crate::sign_in::provider::ProviderError;

/// Where a login begins.
pub(super) const BEGIN: &str = "/auth/login";
/// Where a program exchanges its code.
pub(super) const TOKEN: &str = "/auth/token";
/// Where a session ends.
pub(super) const LOGOUT: &str = "/auth/logout";
/// Who has signed in, and where a login leads to that asks for nothing else.
pub(super) const WHO: &str = "/auth/session";
/// Cookie with what lies between the two halves of a login.
const CARRIED: &str = "__Host-meridian-login";

/// The routes. Those who sign in show no token yet, so that they stand beside the guarded ones.
pub(super) fn router(state: &WebState) -> Router<WebState> {
    let router = Router::new()
        .route(BEGIN, get(begin))
        .route(CALLBACK, get(come_back))
        .route(TOKEN, post(exchange))
        .route(LOGOUT, post(logout))
        .route(WHO, get(who));
    // Layers run from the last to the first.
    let router = router.route_layer(middleware::from_fn(trail::follow));
    let hand_on = middleware::from_fn_with_state(state.clone(), forward::follow_login);
    router.route_layer(hand_on)
}

/// What a login is begun with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    return_to: Option<String>,
    redirect_uri: Option<String>,
    state: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

impl Asked {
    fn goal(self) -> Result<Goal, LoginError> {
        let Some(redirect_uri) = self.redirect_uri else {
            return Ok(Goal::Page(self.return_to.unwrap_or_else(|| WHO.to_owned())));
        };
        if self.code_challenge_method.as_deref() != Some("S256") {
            return Err(LoginError::Asked {
                field: "code_challenge_method",
                found: format!("{:?}", self.code_challenge_method),
                expected: "S256",
            });
        }
        Ok(Goal::Program {
            redirect_uri,
            state: self.state.unwrap_or_default(),
            challenge: self.code_challenge.unwrap_or_default(),
        })
    }
}

async fn begin(
    State(state): State<WebState>,
    Extension(way): Extension<Way>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let begun = async {
        let sign_in = sign_in(&state)?;
        // Before anything is done for it.
        counted(&state, &way)?;
        let asked = Query::<Asked>::try_from_uri(&uri);
        let Query(asked) = asked.map_err(|e| Fault::invalid(&e.body_text(), Vec::new()))?;
        let begun = sign_in.begin(asked.goal().map_err(fault)?, state.app.now());
        begun.await.map_err(fault)
    };
    match begun.await {
        Ok(begun) => {
            let life = LOGIN.as_secs();
            gone_to(&begun.location, &[set(CARRIED, &begun.carried, life)])
        }
        Err(fault) => told::failure(&headers, fault),
    }
}

async fn come_back(
    State(state): State<WebState>,
    Extension(way): Extension<Way>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let carried = auth::cookie(&headers, CARRIED);
    let returned = Query::<Returned>::try_from_uri(&uri);
    let returned = returned.map(|Query(returned)| returned).unwrap_or_default();
    let forget = set(CARRIED, "", 0);
    let sign_in = match sign_in(&state) {
        Ok(sign_in) => sign_in,
        Err(fault) => return told::failure(&headers, fault),
    };
    let now = state.app.now();
    let came = match sign_in.finish(carried, &returned, now).await {
        Ok((person, goal)) => {
            way.is_person(&person);
            arrived(&state, sign_in, &way, (person, goal), now).await
        }
        Err(error) => Err(refused(&state, &way, &error).await),
    };
    match came {
        Ok((location, cookie)) => gone_to(
            &location,
            &[Some(forget), cookie]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>(),
        ),
        Err(fault) => {
            let mut answer = match sign_in.goal(carried, &returned, now) {
                Some(Goal::Program {
                    redirect_uri,
                    state,
                    ..
                }) => gone_to(&told::to_program(&redirect_uri, &state, &fault), &[]),
                Some(Goal::Page(_)) | None => told::failure(&headers, fault),
            };
            answer.headers_mut().append(SET_COOKIE, forget);
            answer
        }
    }
}

/// Where a person goes who came back, and the cookie of the session.
async fn arrived(
    state: &WebState,
    sign_in: &SignIn,
    way: &Way,
    (person, goal): (Person, Goal),
    now: Timestamp,
) -> Result<(String, Option<HeaderValue>), Fault> {
    match goal {
        Goal::Page(path) => {
            let made = open(state, sign_in, way, &person).await?;
            let life = sign_in.settings().session_life.as_secs();
            Ok((path, Some(set(SESSION, &made.token, life))))
        }
        Goal::Program {
            redirect_uri,
            state: theirs,
            challenge,
        } => {
            // Told now, and not only to the program.
            may_sign_in(state, way, &person).await?;
            let code = sign_in.code(person, challenge, now).map_err(fault)?;
            Ok((
                told::back_to_program(&redirect_uri, &[("code", &code), ("state", &theirs)]),
                None,
            ))
        }
    }
}

async fn exchange(
    State(state): State<WebState>,
    Extension(way): Extension<Way>,
    sent: Sent,
) -> Result<Response, Failure> {
    let sign_in = sign_in(&state)?;
    let CodeExchange {
        code,
        code_verifier,
    } = sent.read("a code and its verifier")?;
    let person = match sign_in.redeem(&code, &code_verifier, state.app.now()) {
        Ok(person) => person,
        Err(error) => return Err(refused(&state, &way, &error).await.into()),
    };
    way.is_person(&person);
    let made = open(&state, sign_in, &way, &person).await?;
    let shown = state.app.authenticate(&made.token).await?;
    let grant = SessionGrant {
        token: made.token.as_str().to_owned(),
        session: session(&shown, &person),
    };
    let mut answer = (StatusCode::CREATED, Json(grant)).into_response();
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(answer)
}

async fn logout(
    State(state): State<WebState>,
    Extension(way): Extension<Way>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let token = proved(&state, &way, &Method::POST, &headers).await?;
    if token.person.is_none() {
        return Err(Fault::Conflict {
            detail: format!(
                "API token {:?} is no session and has no logout; `meridian api-token delete {}` makes it useless",
                token.id, token.id
            ),
        }
        .into());
    }
    state.app.close_session(&token, &way.trail()).await?;
    let mut answer = StatusCode::NO_CONTENT.into_response();
    answer.headers_mut().append(SET_COOKIE, set(SESSION, "", 0));
    Ok(answer)
}

async fn who(
    State(state): State<WebState>,
    Extension(way): Extension<Way>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let token = proved(&state, &way, &Method::GET, &headers).await?;
    let Some(person) = &token.person else {
        return Err(Fault::Conflict {
            detail: format!(
                "API token {:?} of {:?} is no session: nobody has signed in with it",
                token.id, token.holder
            ),
        }
        .into());
    };
    let mut answer = Json(session(&token, person)).into_response();
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(answer)
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

fn sign_in(state: &WebState) -> Result<&Arc<SignIn>, Fault> {
    state.sign_in.as_ref().ok_or_else(|| Fault::NotFound {
        kind: "sign-in".to_owned(),
        name: "OpenID Connect".to_owned(),
        hint: "; this hub knows API tokens only: start it with --oidc-issuer, or ask its administrator for a token".to_owned(),
    })
}

/// One more from this address that shows no good token.
fn counted(state: &WebState, way: &Way) -> Result<(), Fault> {
    state
        .limits
        .refusal(way.origin(), since_boot())
        .map_err(|(limit, fault)| {
            state.metrics.limited(limit);
            fault
        })
}

/// The session or token that is shown, which asks once more.
async fn proved(
    state: &WebState,
    way: &Way,
    method: &Method,
    headers: &HeaderMap,
) -> Result<ApiToken, Fault> {
    let token = match auth::prove(state, way, method, headers).await {
        Ok(token) => token,
        Err(fault) => return Err(counted(state, way).err().unwrap_or(fault)),
    };
    let held_back = state.limits.request(&token.id, since_boot());
    held_back.map_err(|(limit, fault)| {
        state.metrics.limited(limit);
        fault
    })?;
    Ok(token)
}

/// Writes down that a login led to nothing, and why.
async fn refused(state: &WebState, way: &Way, error: &LoginError) -> Fault {
    let deed = Deed::of_session("login", "");
    let reason = (Outcome::Refused, error.word());
    state.app.record_failure(&way.trail(), &deed, reason).await;
    counted(state, way)
        .err()
        .unwrap_or_else(|| fault(error.clone()))
}

/// Refuses whose groups give nothing.
async fn may_sign_in(state: &WebState, way: &Way, person: &Person) -> Result<(), Fault> {
    let allowed = state.app.may_sign_in(person);
    if let Err(error) = allowed {
        let deed = Deed::of_session("login", "");
        let reason = (Outcome::Refused, "no-role");
        state.app.record_failure(&way.trail(), &deed, reason).await;
        return Err(error.into());
    }
    Ok(())
}

async fn open(
    state: &WebState,
    sign_in: &SignIn,
    way: &Way,
    person: &Person,
) -> Result<Minted, Fault> {
    may_sign_in(state, way, person).await?;
    let life: SignedDuration = sign_in.settings().session_life;
    let made = state.app.open_session(person, life, &way.trail()).await;
    made.map_err(|error: AppError| error.into())
}

/// What went wrong, as a problem.
fn fault(error: LoginError) -> Fault {
    let detail = error.to_string();
    match error {
        LoginError::Asked {
            field,
            found,
            expected,
        } => {
            let error = FieldError {
                field: field.to_owned(),
                found,
                expected: expected.to_owned(),
                remedy: "correct the address".to_owned(),
            };
            Fault::invalid("no login can begin like this", vec![error])
        }
        LoginError::Provider(
            ProviderError::Unreachable { .. }
            | ProviderError::Unusable { .. }
            | ProviderError::Settings(_),
        ) => Fault::Unavailable {
            detail,
            retry_after_ms: 0,
        },
        LoginError::Strange(_) | LoginError::Ended(_) | LoginError::Provider(_) => {
            Fault::Unauthorized { detail }
        }
    }
}

/// A cookie for this host alone, which no script reads and no other site's form sends.
fn set(name: &str, value: &str, seconds: i64) -> HeaderValue {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Sends the browser on, with these cookies.
fn gone_to(location: &str, cookies: &[HeaderValue]) -> Response {
    let Ok(location) = HeaderValue::try_from(location) else {
        let detail = "an address to go on to cannot be written".to_owned();
        return Failure::from(Fault::Internal { detail }).into_response();
    };
    let mut answer = StatusCode::SEE_OTHER.into_response();
    let headers = answer.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie.clone());
    }
    answer
}

fn session(token: &ApiToken, person: &Person) -> Session {
    Session {
        id: token.id.clone(),
        person: shown(person),
        roles: token.grants.iter().map(granted).collect(),
        expires_at: token.expires_at.map(time).unwrap_or_default(),
    }
}

/// A person, as it is shown.
pub(super) fn shown(person: &Person) -> SessionPerson {
    let Person {
        issuer,
        subject,
        name,
        groups,
    } = person.clone();
    SessionPerson {
        issuer,
        subject,
        name,
        groups,
    }
}

fn granted(grant: &Grant) -> SessionRole {
    SessionRole {
        role: match grant.role {
            Role::Viewer => ApiRole::Viewer,
            Role::Operator => ApiRole::Operator,
            Role::Admin => ApiRole::Admin,
        },
        projects: grant.scope.projects().cloned(),
    }
}
