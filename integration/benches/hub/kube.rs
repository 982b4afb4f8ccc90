//! A Kubernetes API in memory, as much of it as an agent's link asks for: get, list, watch, create, replace, server-side apply,
//! merge and delete of objects in one namespace. One manager owns each field, so an apply has no conflicts.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::selector::Selector;

/// Namespace of everything in it.
pub(crate) const NAMESPACE: &str = "db";
/// Changes that a watch may resume over.
const LOG: usize = 256;
/// Plural of the Active-Active databases.
pub(crate) const DATABASES: &str = "redisenterpriseactiveactivedatabases";

/// An object of the hub that stands, or was changed, on a member.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) member: usize,
    pub(crate) plural: String,
    pub(crate) name: String,
    pub(crate) at: std::time::Instant,
}

/// The API server of one member.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

struct Inner {
    member: usize,
    uid: String,
    arrivals: mpsc::UnboundedSender<Arrival>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<(String, String), Value>,
    log: VecDeque<Change>,
    /// Revision of the newest change that the log has lost.
    lost: u64,
    watches: Vec<Watch>,
}

#[derive(Clone)]
struct Change {
    revision: u64,
    plural: String,
    what: &'static str,
    object: Value,
}

struct Watch {
    plural: String,
    selector: Selector,
    events: mpsc::UnboundedSender<Bytes>,
}

/// What a request is about.
struct Target {
    plural: String,
    name: Option<String>,
    is_status: bool,
}

type Answer = Result<Response<Body>, Refused>;

/// An answer of the API server that is an error.
struct Refused {
    code: StatusCode,
    reason: &'static str,
    name: String,
}

impl Api {
    pub(crate) fn new(
        member: usize,
        uid: String,
        arrivals: mpsc::UnboundedSender<Arrival>,
    ) -> Self {
        Self(Arc::new(Inner {
            member,
            uid,
            arrivals,
            state: Mutex::default(),
        }))
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        Client::new(service, NAMESPACE)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object there, as a person or another controller would.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        let mut state = self.lock();
        let name = text(&object["metadata"]["name"]);
        let before = state.objects.get(&(plural.to_owned(), name)).cloned();
        state.store(plural, before, object);
    }

    /// Writes the status of a database, as the agent's controllers would.
    pub(crate) fn set_status(&self, database: &str, status: &Value) {
        let mut state = self.lock();
        let key = (DATABASES.to_owned(), database.to_owned());
        let Some(before) = state.objects.get(&key).cloned() else {
            return;
        };
        let mut object = before.clone();
        object["status"] = status.clone();
        state.store(DATABASES, Some(before), object);
    }

    /// Names of the databases that stand on the member.
    pub(crate) fn databases(&self) -> Vec<String> {
        let state = self.lock();
        let names = state.objects.keys();
        let names = names.filter(|(plural, _)| plural == DATABASES);
        names.map(|(_, name)| name.clone()).collect()
    }

    async fn serve(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        let answer = self.answer(&parts, &body);
        answer.unwrap_or_else(|refused| refused.answer())
    }

    fn answer(&self, parts: &http::request::Parts, body: &[u8]) -> Answer {
        let target = Target::of(parts.uri.path());
        if target.plural == "namespaces" {
            let uid = &self.0.uid;
            return Ok(found(&json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "kube-system", "uid": uid },
            })));
        }
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .map(|query| {
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.map(|(key, value)| (key.to_owned(), decoded(value)))
            })
            .into_iter()
            .flatten()
            .collect();
        if parts.method == Method::GET {
            return match &target.name {
                Some(name) => self.get(&target.plural, name),
                None if query.contains_key("watch") => self.watch(&target.plural, &query),
                None => Ok(self.list(&target.plural, &query)),
            };
        }
        // Nobody reads Events here, and they would only be kept.
        if target.plural == "events" {
            return Ok(found(&serde_json::from_slice(body).unwrap_or_default()));
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match parts.method {
            Method::POST => self.create(&target, sent),
            Method::PUT => self.replace(&target, sent),
            Method::PATCH => self.patch(parts, &target, &sent),
            _ => self.delete(&target),
        }
    }

    fn get(&self, plural: &str, name: &str) -> Answer {
        let state = self.lock();
        let object = state.objects.get(&(plural.to_owned(), name.to_owned()));
        object
            .map(found)
            .ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "NotFound", name))
    }

    fn list(&self, plural: &str, query: &BTreeMap<String, String>) -> Response<Body> {
        let (state, selector) = (self.lock(), Selector::of(query));
        let of_kind = state.objects.iter().filter(|((kind, _), _)| kind == plural);
        let items: Vec<&Value> = of_kind
            .map(|(_, object)| object)
            .filter(|object| selector.matches(object))
            .collect();
        found(&json!({
            "apiVersion": "v1", "kind": "List",
            "metadata": { "resourceVersion": state.revision.to_string() }, "items": items,
        }))
    }

    fn watch(&self, plural: &str, query: &BTreeMap<String, String>) -> Answer {
        let since: u64 = query
            .get("resourceVersion")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let (mut state, selector) = (self.lock(), Selector::of(query));
        if since < state.lost {
            return Err(Refused::new(StatusCode::GONE, "Expired", plural));
        }
        let (events, told) = mpsc::unbounded_channel();
        for change in &state.log {
            let mine = change.revision > since && change.plural == plural;
            if mine && selector.matches(&change.object) {
                // The other end is held here.
                drop(events.send(change.line()));
            }
        }
        state.watches.retain(|watch| !watch.events.is_closed());
        state.watches.push(Watch {
            plural: plural.to_owned(),
            selector,
            events,
        });
        let lines = UnboundedReceiverStream::new(told).map(Ok::<_, Infallible>);
        // A watch that ends would be opened again at once: it never does.
        Ok(Response::new(Body::from_stream(
            lines.chain(stream::pending()),
        )))
    }

    fn create(&self, target: &Target, object: Value) -> Answer {
        let mut state = self.lock();
        let name = text(&object["metadata"]["name"]);
        if state
            .objects
            .contains_key(&(target.plural.clone(), name.clone()))
        {
            return Err(Refused::new(StatusCode::CONFLICT, "AlreadyExists", &name));
        }
        Ok(found(&state.store(&target.plural, None, object)))
    }

    fn replace(&self, target: &Target, object: Value) -> Answer {
        let mut state = self.lock();
        let name = target.name.clone().unwrap_or_default();
        let key = (target.plural.clone(), name.clone());
        let Some(before) = state.objects.get(&key).cloned() else {
            return Err(Refused::new(StatusCode::NOT_FOUND, "NotFound", &name));
        };
        let version = |object: &Value| text(&object["metadata"]["resourceVersion"]);
        if version(&before) != version(&object) {
            return Err(Refused::new(StatusCode::CONFLICT, "Conflict", &name));
        }
        Ok(found(&state.store(&target.plural, Some(before), object)))
    }

    fn patch(&self, parts: &http::request::Parts, target: &Target, sent: &Value) -> Answer {
        let mut state = self.lock();
        let name = target.name.clone().unwrap_or_default();
        let before = state
            .objects
            .get(&(target.plural.clone(), name.clone()))
            .cloned();
        let kind = parts.headers.get(http::header::CONTENT_TYPE);
        let is_apply = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply"));
        if before.is_none() && (!is_apply || target.is_status) {
            return Err(Refused::new(StatusCode::NOT_FOUND, "NotFound", &name));
        }
        let mut object = before.clone().unwrap_or_else(|| json!({}));
        let wanted_uid = sent["metadata"]["uid"].as_str();
        if wanted_uid.is_some() && wanted_uid != object["metadata"]["uid"].as_str() {
            return Err(Refused::new(StatusCode::CONFLICT, "Conflict", &name));
        }
        if is_apply {
            apply(&mut object, sent, target.is_status);
        } else {
            merge(&mut object, sent);
        }
        object["metadata"]["namespace"] = json!(NAMESPACE);
        let stored = state.store(&target.plural, before.clone(), object);
        drop(state);
        let by_hub = String::from_utf8_lossy(parts.uri.query().unwrap_or_default().as_bytes())
            .contains("fieldManager=meridian-hub");
        if by_hub && before.as_ref() != Some(&stored) {
            let arrival = Arrival {
                member: self.0.member,
                plural: target.plural.clone(),
                name,
                at: std::time::Instant::now(),
            };
            // Nobody listens while nothing is measured.
            drop(self.0.arrivals.send(arrival));
        }
        Ok(found(&stored))
    }

    fn delete(&self, target: &Target) -> Answer {
        let mut state = self.lock();
        let name = target.name.clone().unwrap_or_default();
        let key = (target.plural.clone(), name.clone());
        let Some(gone) = state.objects.remove(&key) else {
            return Err(Refused::new(StatusCode::NOT_FOUND, "NotFound", &name));
        };
        state.tell(&target.plural, "DELETED", gone.clone());
        Ok(found(&gone))
    }
}

impl State {
    /// Stores an object; one that is as it was takes no revision.
    fn store(&mut self, plural: &str, before: Option<Value>, mut object: Value) -> Value {
        if before.as_ref() == Some(&object) {
            return object;
        }
        let name = text(&object["metadata"]["name"]);
        let what = match &before {
            Some(before) => {
                let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
                let changed = u64::from(before["spec"] != object["spec"]);
                object["metadata"]["generation"] = json!(generation + changed);
                "MODIFIED"
            }
            None => {
                let uid = format!("{plural}-{name}-{}", self.revision);
                object["metadata"]["uid"] = json!(uid);
                object["metadata"]["generation"] = json!(1);
                "ADDED"
            }
        };
        let next = self.revision + 1;
        object["metadata"]["resourceVersion"] = json!(next.to_string());
        self.objects
            .insert((plural.to_owned(), name), object.clone());
        self.tell(plural, what, object.clone());
        object
    }

    fn tell(&mut self, plural: &str, what: &'static str, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let change = Change {
            revision: self.revision,
            plural: plural.to_owned(),
            what,
            object,
        };
        for watch in &self.watches {
            if watch.plural == plural && watch.selector.matches(&change.object) {
                // One that ended is taken out when the next begins.
                drop(watch.events.send(change.line()));
            }
        }
        self.log.push_back(change);
        if self.log.len() > LOG {
            self.lost = self.log.pop_front().map_or(self.lost, |lost| lost.revision);
        }
    }
}

impl Change {
    fn line(&self) -> Bytes {
        let mut line = json!({ "type": self.what, "object": self.object }).to_string();
        line.push('\n');
        line.into()
    }
}

impl Target {
    /// `/api/v1/…` or `/apis/<group>/<version>/…`, then perhaps `namespaces/<namespace>`, a plural, a name, a subresource.
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let rest = match parts.first() {
            Some(&"api") => parts.get(2..),
            _ => parts.get(3..),
        };
        let rest = match rest.unwrap_or_default() {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        Self {
            plural: rest.first().copied().unwrap_or_default().to_owned(),
            name: rest.get(1).map(|&name| name.to_owned()),
            is_status: rest.get(2) == Some(&"status"),
        }
    }
}

impl Refused {
    fn new(code: StatusCode, reason: &'static str, name: &str) -> Self {
        Self {
            code,
            reason,
            name: name.to_owned(),
        }
    }

    fn answer(&self) -> Response<Body> {
        let Self { code, reason, name } = self;
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16(),
            "message": format!("{name}: {reason}"), "details": { "name": name },
        });
        let mut answer = found(&status);
        *answer.status_mut() = *code;
        answer
    }
}

fn found(object: &Value) -> Response<Body> {
    Response::new(Body::from(object.to_string()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Takes over what is applied: of the metadata label by label, of the rest field by field of the object.
fn apply(object: &mut Value, sent: &Value, is_status: bool) {
    if is_status {
        object["status"] = sent["status"].clone();
        return;
    }
    for (field, value) in sent.as_object().into_iter().flatten() {
        if field == "metadata" {
            merge(&mut object["metadata"], value);
        } else {
            object[field] = value.clone();
        }
    }
}

/// JSON merge patch (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (field, value) in fields {
        if value.is_null() {
            if let Some(into) = into.as_object_mut() {
                into.remove(field);
            }
        } else {
            merge(&mut into[field], value);
        }
    }
}

/// A value of a query as it was before it was encoded.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let code = std::str::from_utf8(&digits).unwrap_or_default();
                bytes.extend(u8::from_str_radix(code, 16));
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
