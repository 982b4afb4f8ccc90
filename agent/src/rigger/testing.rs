//! What the rigger's tests share: an API server that keeps objects in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use http::Response;
use kube::client::Body;
use serde_json::{Value, json};

use crate::k8s::{apply::Objects, testing};

/// Objects by path, and every write that was asked for.
#[derive(Clone, Default)]
pub(super) struct Store(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    writes: Vec<(String, Value)>,
    served: BTreeMap<String, Vec<String>>,
    discoveries: usize,
    versions: usize,
}

impl Kept {
    /// Stores an object under a new version.
    fn version(&mut self, path: &str, mut object: Value) -> Value {
        self.versions += 1;
        object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

impl Store {
    /// A store, and the client of it.
    pub(super) fn start() -> (Objects, Self) {
        let store = Self::default();
        (store.client(), store)
    }

    /// One more client of it.
    pub(super) fn client(&self) -> Objects {
        let (objects, server) = testing::objects();
        let kept = self.clone();
        tokio::spawn(async move {
            let mut server = std::pin::pin!(server);
            while let Some((request, send)) = server.as_mut().next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let query = parts.uri.query().unwrap_or_default();
                let (code, found) =
                    kept.answer(parts.method.as_str(), parts.uri.path(), query, &body);
                let response = Response::builder().status(code);
                let text = serde_json::to_vec(&found).unwrap();
                send.send_response(response.body(Body::from(text)).unwrap());
            }
        });
        objects
    }

    fn answer(&self, method: &str, path: &str, query: &str, body: &Value) -> (u16, Value) {
        let mut kept = self.0.lock().unwrap();
        let absent = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": path});
        let object = path.trim_end_matches("/status");
        if !path.contains("/namespaces/") {
            kept.discoveries += 1;
            let group = path.trim_start_matches("/apis/");
            let Some(plurals) = kept.served.get(group) else {
                // As an API server answers for a group that it does not know.
                return (404, json!("404 page not found"));
            };
            let resources: Vec<_> = plurals
                .iter()
                .map(|plural| json!({"name": plural, "singularName": "", "namespaced": true, "kind": plural, "verbs": []}))
                .collect();
            return (
                200,
                json!({"kind": "APIResourceList", "groupVersion": group, "resources": resources}),
            );
        }
        if method == "PATCH" {
            let stands = kept.objects.get(object);
            let stands = stands.map(|found| &found["metadata"]["resourceVersion"]);
            let over = &body["metadata"]["resourceVersion"];
            if !over.is_null() && stands != Some(over) {
                return (
                    409,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict", "message": path}),
                );
            }
            kept.writes.push((path.to_owned(), body.clone()));
            let entry = kept.objects.entry(object.to_owned()).or_insert(json!({}));
            for (field, value) in body.as_object().unwrap() {
                entry[field] = value.clone();
            }
            let name = object.rsplit('/').next().unwrap();
            entry["metadata"]["uid"] = json!(format!("uid of {name}"));
            let written = entry.clone();
            return (200, kept.version(object, written));
        }
        if method == "DELETE" {
            kept.writes.push((format!("DELETE {path}"), Value::Null));
            return match kept.objects.remove(object) {
                Some(_) => (200, json!({"kind": "Status", "status": "Success"})),
                None => (404, absent),
            };
        }
        if let Some(found) = kept.objects.get(object) {
            return (200, found.clone());
        }
        if path.contains("/namespaces/forbidden/") {
            return (
                403,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": path}),
            );
        }
        // In a list's path the plural follows the namespace.
        let below = format!("{path}/");
        let is_list = path.rsplit('/').nth(1) == Some("ns");
        if !is_list {
            return (404, absent);
        }
        let items: Vec<_> = kept
            .objects
            .iter()
            .filter(|(at, found)| at.starts_with(&below) && selected(query, found))
            .map(|(_, found)| found.clone())
            .collect();
        (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
        )
    }

    /// Puts an object there, newer than whatever was there; `plural` is its group version and plural: `networking.k8s.io/v1/ingresses`, `v1/services`.
    pub(super) fn put(&self, plural: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid of {name}"));
        }
        self.0.lock().unwrap().version(&path(plural, &name), object);
    }

    pub(super) fn take(&self, plural: &str, name: &str) {
        self.0
            .lock()
            .unwrap()
            .objects
            .remove(&path(plural, name))
            .unwrap();
    }

    pub(super) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.0
            .lock()
            .unwrap()
            .objects
            .get(&path(plural, name))
            .cloned()
    }

    /// Names of the objects of a kind.
    pub(super) fn names(&self, plural: &str) -> Vec<String> {
        let below = path(plural, "");
        let kept = self.0.lock().unwrap();
        let below = kept.objects.keys().filter_map(|at| at.strip_prefix(&below));
        below.map(str::to_owned).collect()
    }

    /// The paths of all writes since the last call.
    pub(super) fn writes(&self) -> Vec<String> {
        let writes = std::mem::take(&mut self.0.lock().unwrap().writes);
        writes.into_iter().map(|(path, _)| path).collect()
    }

    /// The API server serves these kinds of a group version from now on.
    pub(super) fn serve(&self, group: &str, plurals: &[&str]) {
        let plurals = plurals.iter().map(|plural| (*plural).to_owned()).collect();
        self.0
            .lock()
            .unwrap()
            .served
            .insert(group.to_owned(), plurals);
    }

    /// How often the API server was asked what it serves.
    pub(super) fn discoveries(&self) -> usize {
        self.0.lock().unwrap().discoveries
    }
}

fn path(plural: &str, name: &str) -> String {
    let (version, plural) = plural.rsplit_once('/').unwrap();
    let root = if version == "v1" { "api" } else { "apis" };
    format!("/{root}/{version}/namespaces/ns/{plural}/{name}")
}

/// Judges the selectors that the rigger uses: `key=value`, `key` and `!key`.
fn selected(query: &str, found: &Value) -> bool {
    let text = query
        .replace("%3D", "=")
        .replace("%2C", ",")
        .replace("%2F", "/")
        .replace("%21", "!");
    let selector = text
        .split('&')
        .find_map(|part| part.strip_prefix("labelSelector="));
    let labels = &found["metadata"]["labels"];
    selector
        .unwrap_or_default()
        .split(',')
        .filter(|term| !term.is_empty())
        .all(
            |term| match (term.split_once('='), term.strip_prefix('!')) {
                (Some((key, value)), _) => labels[key] == value,
                (None, Some(key)) => labels[key].is_null(),
                (None, None) => !labels[term].is_null(),
            },
        )
}
