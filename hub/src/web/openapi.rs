//! The web API as an OpenAPI 3.1 document, made of the list by which requests are checked and of the types of their bodies.

mod sign_in;

use std::collections::BTreeMap;

use axum::Json;
use meridian_api::web::{
    ActiveActiveDatabase, ApiToken, Approval, Cluster, Denial, EVENTS_CONTENT_TYPE, Freeze, List,
    LostCluster, PROBLEM_CONTENT_TYPE, Problem, RemoteCluster, Token,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub(super) use self::sign_in::SIGN_IN;
use super::auth::SESSION;
use super::authority::{Authority, AuthorityStep};
use super::hub::Hub;
use super::inside;
use super::operations::{OPERATIONS, Operation, Parameter};
use super::patch;

/// Where it is served, to everybody: it names nothing of a person.
pub(super) const PATH: &str = "/api/v1/openapi.json";

/// `GET /api/v1/openapi.json`.
pub(super) async fn get() -> Json<Value> {
    Json(document())
}

/// The document.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in OPERATIONS {
        let described = described(operation, &mut schemas);
        let path = paths.entry(operation.path).or_default();
        path.insert(operation.method.to_ascii_lowercase(), described);
    }
    for (path, what, kind) in OPEN {
        let described = open(what, kind);
        paths
            .entry(path)
            .or_default()
            .insert("get".to_owned(), described);
    }
    for place in SIGN_IN {
        let described = sign_in::described(place, &mut schemas);
        let (path, method) = place;
        let path = paths.entry(path).or_default();
        path.insert(method.to_owned(), described);
    }
    schemas.named::<Problem>("Problem");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Meridian hub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Bodies have the shape of Kubernetes objects, failures are problems of RFC 9457.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": SESSION },
            },
        },
    })
}

/// What needs no token: path, what it is, content type.
pub(super) const OPEN: [(&str, &str, &str); 4] = [
    ("/healthz", "Whether the process answers", "text/plain"),
    ("/readyz", "Whether the hub has its state", "text/plain"),
    (
        "/metrics",
        "Metrics for Prometheus",
        "application/openmetrics-text",
    ),
    (PATH, "This document", "application/json"),
];

fn open(what: &str, kind: &str) -> Value {
    let content = json!({ kind: { "schema": if kind == "application/json" { json!({ "type": "object" }) } else { json!({ "type": "string" }) } } });
    json!({
        "summary": what,
        "security": [],
        "responses": {
            "200": { "description": "It is so", "content": content.clone() },
            "503": { "description": "Not now", "content": content },
            "default": problem("What went wrong"),
        },
    })
}

/// The schemas that the document refers to.
struct Schemas {
    generator: SchemaGenerator,
    named: Map<String, Value>,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            generator: settings.into_generator(),
            named: Map::new(),
        }
    }

    /// A reference to a type by a name of its own.
    fn named<T: JsonSchema>(&mut self, name: &str) -> Value {
        if !self.named.contains_key(name) {
            let schema = T::json_schema(&mut self.generator).to_value();
            self.named.insert(name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn take(mut self) -> Map<String, Value> {
        let mut all = self.generator.take_definitions(true);
        all.extend(self.named);
        all
    }
}

/// What a path is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Cluster,
    Token,
    RemoteCluster,
    Database,
    ApiToken,
    Freeze,
    Lost,
    Hub,
    Backup,
    Audit,
    AuditExport,
    Authority,
    Sessions,
    Tasks,
    Log,
    LogLines,
    Settings,
}

impl About {
    fn of(path: &str) -> Self {
        match path {
            "/debug/sessions" => return Self::Sessions,
            "/debug/tasks" => return Self::Tasks,
            "/debug/log" => return Self::Log,
            "/debug/log/lines" => return Self::LogLines,
            "/debug/settings" => return Self::Settings,
            _ => {}
        }
        match path.split('/').nth(3) {
            Some("lostclusters") => Self::Lost,
            Some("clusters") if path.ends_with("/lose") => Self::Lost,
            Some("clusters") => Self::Cluster,
            Some("tokens") => Self::Token,
            Some("remoteclusters") => Self::RemoteCluster,
            Some("activeactivedatabases") => Self::Database,
            Some("apitokens") => Self::ApiToken,
            Some("freezes") => Self::Freeze,
            Some("audit") if path.ends_with("/export") => Self::AuditExport,
            Some("audit") => Self::Audit,
            _ if path.ends_with("/backup") => Self::Backup,
            _ if path.starts_with("/api/v1/hub/ca") => Self::Authority,
            _ => Self::Hub,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Token => "Token",
            Self::RemoteCluster => "RemoteCluster",
            Self::Database => "ActiveActiveDatabase",
            Self::ApiToken => "ApiToken",
            Self::Freeze => "Freeze",
            Self::Lost => "LostCluster",
            Self::Hub => "Hub",
            Self::Backup => "Backup",
            Self::Audit => "Audit",
            Self::AuditExport => "AuditExport",
            Self::Authority => "Authority",
            Self::Sessions => "DebugSessions",
            Self::Tasks => "DebugTasks",
            Self::Log => "DebugLog",
            Self::LogLines => "DebugLogLines",
            Self::Settings => "DebugSettings",
        }
    }

    fn one(self, schemas: &mut Schemas) -> Value {
        let name = self.name();
        match self {
            Self::Cluster => schemas.named::<Cluster>(name),
            Self::Token => schemas.named::<Token>(name),
            Self::RemoteCluster => schemas.named::<RemoteCluster>(name),
            Self::Database => schemas.named::<ActiveActiveDatabase>(name),
            Self::ApiToken => schemas.named::<ApiToken>(name),
            Self::Freeze => schemas.named::<Freeze>(name),
            Self::Lost => schemas.named::<LostCluster>(name),
            Self::Hub => schemas.named::<Hub>(name),
            Self::Authority => schemas.named::<Authority>(name),
            Self::Sessions => schemas.named::<inside::Sessions>(name),
            Self::Tasks => schemas.named::<inside::Tasks>(name),
            Self::Log => schemas.named::<inside::Log>(name),
            Self::LogLines => schemas.named::<inside::LogLines>(name),
            Self::Settings => schemas.named::<inside::Settings>(name),
            Self::Backup | Self::AuditExport => json!({ "type": "string", "format": "binary" }),
            Self::Audit => json!({ "type": "object" }),
        }
    }

    fn all(self, schemas: &mut Schemas) -> Value {
        // The items by reference, and not once more in full.
        let one = self.one(schemas);
        let name = format!("{}List", self.name());
        let list = schemas.named::<List<Value>>(&name);
        if let Some(items) = schemas
            .named
            .get_mut(&name)
            .and_then(|list| list.pointer_mut("/properties/items/items"))
        {
            *items = one;
        }
        list
    }
}

fn described(operation: &Operation, schemas: &mut Schemas) -> Value {
    let about = About::of(operation.path);
    let is_one = operation.path.ends_with("{name}")
        || matches!(
            about,
            About::Hub
                | About::Backup
                | About::Audit
                | About::AuditExport
                | About::Authority
                | About::Sessions
                | About::Tasks
                | About::Log
                | About::LogLines
                | About::Settings
        );
    let shown = if is_one || operation.method != "GET" {
        about.one(schemas)
    } else {
        about.all(schemas)
    };
    let mut described = json!({
        "operationId": operation_id(operation, about, is_one),
        "tags": [about.name()],
        "parameters": parameters(operation),
        "responses": responses(operation, about, &shown),
    });
    let sent = match decision(operation) {
        Some("approve") => Some(schemas.named::<Approval>("Approval")),
        Some("deny") => Some(schemas.named::<Denial>("Denial")),
        Some("rotate" | "advance" | "abort") => {
            Some(schemas.named::<AuthorityStep>("AuthorityStep"))
        }
        Some(_) => None,
        None if about == About::Log => Some(schemas.named::<inside::LogChange>("DebugLogChange")),
        None => Some(shown),
    };
    if let Some(body) = sent.and_then(|sent| body(operation, &sent)) {
        described["requestBody"] = body;
    }
    described
}

/// The word of an operation that decides something, and neither makes nor changes an object as a whole.
fn decision(operation: &Operation) -> Option<&'static str> {
    let word = operation.path.rsplit('/').next();
    word.filter(|word| {
        matches!(
            *word,
            "adopt" | "approve" | "deny" | "release" | "lose" | "rotate" | "advance" | "abort"
        )
    })
}

fn operation_id(operation: &Operation, about: About, is_one: bool) -> String {
    if let Some(word) = decision(operation) {
        return format!("{word}{}", about.name());
    }
    let verb = match operation.method {
        "GET" if is_one => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "replace",
        "PATCH" => "patch",
        _ => "delete",
    };
    format!("{verb}{}", about.name())
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let name =
        json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } });
    let name = operation.path.contains("{name}").then_some(name);
    let rest = operation.parameters.iter().map(|one| {
        let (schema, description) = parameter(*one);
        json!({
            "name": one.name(),
            "in": if one.is_header() { "header" } else { "query" },
            "description": description,
            "schema": schema,
        })
    });
    name.into_iter().chain(rest).collect()
}

/// What a parameter may be, and what it does.
fn parameter(parameter: Parameter) -> (Value, &'static str) {
    let text = || json!({ "type": "string" });
    match parameter {
        Parameter::DryRun => (
            json!({ "type": "string", "enum": ["All"] }),
            "Check everything and store nothing",
        ),
        Parameter::Confirm => (
            text(),
            "Name of the object, by which its deletion is confirmed",
        ),
        Parameter::IfMatch => (
            text(),
            "Entity tags, or `*`: for one of these revisions of the object only",
        ),
        Parameter::IfNoneMatch => (text(), "Entity tags of what the caller has already"),
        Parameter::IdempotencyKey => (
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" }),
            "Carry this request out once, however often it is sent",
        ),
        Parameter::Limit => (
            json!({ "type": "integer", "minimum": 1 }),
            "Most objects in one part of the list",
        ),
        Parameter::Continue => (text(), "metadata.continue of the part before"),
        Parameter::Watch => (
            json!({ "type": "boolean" }),
            "Go on and tell what changes, as server-sent events",
        ),
        Parameter::ResourceVersion => (
            json!({ "type": "string", "pattern": "^[0-9]{1,19}$" }),
            "With `watch`: what changed since this revision; 410 if that is not kept any more",
        ),
        Parameter::LastEventId => (
            json!({ "type": "string", "pattern": "^[0-9]{1,19}$" }),
            "With `watch`: as resourceVersion, which it goes before",
        ),
    }
}

fn body(operation: &Operation, sent: &Value) -> Option<Value> {
    let content = match operation.method {
        "PATCH" => json!({
            patch::MERGE: { "schema": { "type": "object" } },
            patch::OPERATIONS: { "schema": {
                "type": "array",
                "maxItems": patch::MOST,
                "items": { "type": "object", "required": ["op", "path"] },
            } },
        }),
        "PUT" | "POST" => json!({ "application/json": { "schema": sent } }),
        _ => return None,
    };
    Some(json!({ "required": true, "content": content }))
}

fn responses(operation: &Operation, about: About, shown: &Value) -> Value {
    let kind = if about == About::Backup {
        meridian_api::backup::CONTENT_TYPE
    } else if about == About::AuditExport {
        meridian_api::audit::CONTENT_TYPE
    } else {
        "application/json"
    };
    let mut content = json!({ kind: { "schema": shown } });
    if operation.parameters.contains(&Parameter::Watch) {
        content[EVENTS_CONTENT_TYPE] = json!({ "schema": { "type": "string" } });
    }
    let answered = |what: &str| json!({ "description": what, "content": content });
    let mut responses = Map::new();
    let mut put = |status: u16, answer: Value| {
        responses.insert(status.to_string(), answer);
    };
    match (operation.method, about) {
        ("POST", About::Hub | About::Freeze | About::Lost | About::Authority)
        | ("GET" | "PUT" | "PATCH", _) => put(200, answered("It is so")),
        ("POST", About::Database) | ("DELETE", About::Database) => {
            put(202, answered("It is wanted; the status says how far it is"));
            put(200, answered("It would be so"));
        }
        ("POST", About::Cluster) => {
            put(
                204,
                json!({ "description": "It is decided; with dryRun, it would be" }),
            );
        }
        ("POST", _) => {
            put(201, answered("It is made"));
            put(200, answered("It would be made"));
        }
        (_, _) => {
            put(204, json!({ "description": "It is gone" }));
            put(200, answered("It would be gone"));
        }
    }
    if operation.parameters.contains(&Parameter::IfNoneMatch) {
        put(304, json!({ "description": "The caller has it already" }));
    }
    for (status, what) in problems(operation) {
        put(status, problem(what));
    }
    Value::Object(responses)
}

/// How an operation may fail.
fn problems(operation: &Operation) -> Vec<(u16, &'static str)> {
    let takes = |one| operation.parameters.contains(&one);
    let has_body = matches!(operation.method, "PUT" | "PATCH" | "POST");
    let writes = operation.method != "GET";
    let all = [
        (true, 401, "Who asks is not known"),
        (true, 403, "Who asks may not do this"),
        (
            operation.path.contains("{name}"),
            404,
            "There is no such object",
        ),
        (
            writes,
            409,
            "The state of the object or of the hub does not allow it",
        ),
        (
            takes(Parameter::Watch),
            410,
            "What is asked for is not kept any more",
        ),
        (
            takes(Parameter::IfMatch),
            412,
            "The object is not as it was seen",
        ),
        (has_body, 413, "The body is too large"),
        (
            operation.method == "PATCH",
            415,
            "The type of the body is not read here",
        ),
        (true, 422, "The request is invalid, field by field"),
        (
            operation.method == "PUT" && takes(Parameter::IfMatch),
            428,
            "It must be said for which revision this is meant",
        ),
        (true, 429, "Too many at a time"),
        (true, 500, "A defect of the hub"),
        (true, 503, "Not now"),
    ];
    let may = all.into_iter().filter(|(may, _, _)| *may);
    may.map(|(_, status, what)| (status, what)).collect()
}

fn problem(what: &str) -> Value {
    json!({
        "description": what,
        "content": { PROBLEM_CONTENT_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}
