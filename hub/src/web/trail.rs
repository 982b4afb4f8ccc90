//! Who asks, by which way, and what came of it: what the audit log is told of requests. What is done is written down where it
//! is done, in the same transaction; here is written down what was refused or failed, and what nobody else wrote down.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::HeaderMap;
use axum::http::{Extensions, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use meridian_api::audit::{Actor, ActorKind, Outcome};
use meridian_api::fault::Fault;

use super::answer::Marks;
use super::forward::{FORWARDED_BY, FORWARDED_FOR};
use super::operations::Parameter;
use super::{WebState, limits, rules};
use crate::app::audit::{Deed, Trail};
use crate::domain::access::grant::Kind;
use crate::domain::access::{ApiToken, Purpose, Token};
use crate::domain::sign_in::Person;
use crate::tls::PeerAddress;

/// The way of one request through the hub.
#[derive(Clone, Debug)]
pub(super) struct Way {
    trail: Trail,
    /// Where it sits, for limits.
    origin: Option<IpAddr>,
    /// The token that was shown, and then the one that it proved to be.
    claimed: Arc<OnceLock<String>>,
    caller: Arc<OnceLock<Actor>>,
}

impl Way {
    fn of(request: &Request) -> Self {
        let extensions = request.extensions();
        let marks = extensions.get::<Marks>();
        let mut trail = Trail::default();
        trail.address = address(extensions);
        trail.via = via(request.headers());
        trail.request = marks.map(|marks| marks.number.clone()).unwrap_or_default();
        trail.trace = marks.map(|marks| marks.context.trace);
        Self {
            trail,
            origin: limits::origin(extensions),
            claimed: Arc::default(),
            caller: Arc::default(),
        }
    }

    /// Where the peer sits.
    pub(super) fn origin(&self) -> Option<IpAddr> {
        self.origin
    }

    /// Somebody shows a token. Of what is none, nothing is kept.
    pub(super) fn claims(&self, presented: &str) {
        let token = Token::parse(Purpose::Api, presented);
        if let Ok(token) = token.or_else(|_| Token::parse(Purpose::Session, presented)) {
            self.claimed.get_or_init(|| token.id().to_owned());
        }
    }

    /// It is the holder of this token.
    pub(super) fn is(&self, token: &ApiToken) {
        if let Some(person) = &token.person {
            return self.is_person(person);
        }
        self.caller.get_or_init(|| Actor {
            kind: ActorKind::Token,
            id: token.id.clone(),
            name: token.holder.clone(),
        });
    }

    /// It is this person.
    pub(super) fn is_person(&self, person: &Person) {
        self.caller.get_or_init(|| Actor {
            kind: ActorKind::Person,
            id: person.identity(),
            name: person.name.clone(),
        });
    }

    /// As it is written down.
    pub(super) fn trail(&self) -> Trail {
        let actor = self.caller.get().cloned().unwrap_or_else(|| Actor {
            kind: ActorKind::Unknown,
            id: self.claimed.get().cloned().unwrap_or_default(),
            name: String::new(),
        });
        let mut trail = self.trail.clone();
        trail.actor = actor;
        trail
    }
}

/// Lets the handlers of a request know its way. What came of it they write down themselves.
pub(super) async fn follow(mut request: Request, next: Next) -> Response {
    let way = Way::of(&request);
    request.extensions_mut().insert(way);
    next.run(request).await
}

/// Address of the peer; empty where there is none.
pub(super) fn address(extensions: &Extensions) -> String {
    let peer = extensions.get::<ConnectInfo<PeerAddress>>();
    peer.map(|ConnectInfo(peer)| peer.address.ip().to_canonical().to_string())
        .unwrap_or_default()
}

/// What a replica says of whom it asked for. Anybody can say it, but nothing else than this.
fn via(headers: &HeaderMap) -> String {
    let said = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(replica) = said(FORWARDED_BY) else {
        return String::new();
    };
    let is_replica = replica.len() == 16 && replica.bytes().all(|b| b.is_ascii_hexdigit());
    let replica = if is_replica { replica } else { "unknown" };
    let client = said(FORWARDED_FOR).and_then(|client| client.parse::<IpAddr>().ok());
    let client = client.map_or("unknown".to_owned(), |client| client.to_string());
    format!("replica {replica} for {client}")
}

/// Lets a request through and writes down what came of it.
pub(super) async fn record(
    State(state): State<WebState>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let way = Way::of(&request);
    request.extensions_mut().insert(way.clone());
    let method = request.method().clone();
    let uri = request.uri().clone();
    let response = next.run(request).await;
    // A replica that follows writes nothing: what it refuses the leader refuses once more.
    if state.follower.is_some() {
        return response;
    }
    let known = rules::act(&method, path.as_str());
    let status = response.status();
    let is_refused = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::TOO_MANY_REQUESTS,
    ]
    .contains(&status);
    let writes = known.is_none_or(|(verb, kind)| !verb.reads() || kind == Kind::Backup);
    let tried = format!("{}=", Parameter::DryRun.name());
    let tried = status.is_success() && uri.query().is_some_and(|query| query.contains(&tried));
    let trail = way.trail();
    if !is_refused && (!writes || tried || trail.is_recorded()) {
        return response;
    }
    let (verb, kind) = known.map_or((method.as_str(), path.as_str()), |(verb, kind)| {
        (verb.word(), kind.word())
    });
    let deed = Deed {
        verb,
        kind,
        name: name(path.as_str(), uri.path()),
        project: "",
        left: &[],
    };
    let fault = response.extensions().get::<Fault>();
    let reason = fault.map(|fault| fault.kind().word());
    if status.is_success() {
        // Its transaction did not write it down, or it had none.
        if let Err(error) = state.app.record(&trail, &deed).await {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, ?deed, "the audit log could not be written");
        }
        return response;
    }
    let outcome = if status.is_server_error() {
        Outcome::Failed
    } else {
        Outcome::Refused
    };
    let reason = (outcome, reason.unwrap_or(status.as_str()));
    state.app.record_failure(&trail, &deed, reason).await;
    response
}

/// What stands in a path in the place of the object's name.
fn name<'p>(pattern: &str, path: &'p str) -> &'p str {
    let place = pattern.split('/').position(|part| part == "{name}");
    let name = place.and_then(|place| path.split('/').nth(place));
    name.unwrap_or_default()
}
