//! The part of the document that people sign in by. Browsers follow most of it; programs need the exchange of a code.

use meridian_api::web::{CodeExchange, Session, SessionGrant};
use serde_json::{Value, json};

use super::{Schemas, problem};
use crate::sign_in::flow::CALLBACK;
use crate::web::sign_in::{BEGIN, LOGOUT, TOKEN, WHO};

/// Path and method of each operation.
pub(in crate::web) const SIGN_IN: [(&str, &str); 5] = [
    (BEGIN, "get"),
    (CALLBACK, "get"),
    (TOKEN, "post"),
    (LOGOUT, "post"),
    (WHO, "get"),
];

/// What each of [`SIGN_IN`] does.
pub(super) fn described((path, _): (&str, &str), schemas: &mut Schemas) -> Value {
    match path {
        BEGIN => begin(),
        CALLBACK => come_back(),
        TOKEN => {
            let (sent, made) = (
                schemas.named::<CodeExchange>("CodeExchange"),
                schemas.named::<SessionGrant>("SessionGrant"),
            );
            operation(
                (
                    "exchangeCode",
                    "Exchange the code of a program for a session",
                ),
                json!({ "security": [], "requestBody": { "required": true, "content": { "application/json": { "schema": sent } } } }),
                (
                    "201",
                    json!({ "description": "The session begins", "content": { "application/json": { "schema": made } } }),
                ),
            )
        }
        LOGOUT => operation(
            ("logout", "End the session that is shown"),
            json!({ "security": by_session() }),
            ("204", json!({ "description": "It has ended" })),
        ),
        _ => {
            let shown = schemas.named::<Session>("Session");
            operation(
                ("getSession", "Who has signed in, and what that gives"),
                json!({ "security": by_session() }),
                (
                    "200",
                    json!({ "description": "It is so", "content": { "application/json": { "schema": shown } } }),
                ),
            )
        }
    }
}

/// How a session is shown.
fn by_session() -> Value {
    json!([{ "token": [] }, { "session": [] }])
}

fn begin() -> Value {
    let text = |name: &str, what: &str| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "string" } });
    operation(
        ("login", "Send a browser to the OpenID provider"),
        json!({ "security": [], "parameters": [
            text("return_to", "Path of this hub to go to afterwards"),
            text("redirect_uri", "Where a program on the person's machine listens (RFC 8252): http://127.0.0.1:PORT/PATH"),
            text("state", "With redirect_uri: what the program recognizes its login by"),
            text("code_challenge", "With redirect_uri: its PKCE challenge (RFC 7636)"),
            text("code_challenge_method", "With redirect_uri: S256"),
        ] }),
        ("303", json!({ "description": "Go there" })),
    )
}

fn come_back() -> Value {
    let text = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string" } });
    let taken = ["code", "state", "error", "iss"].map(text);
    operation(
        (
            "comeBack",
            "Where the OpenID provider sends the browser back to",
        ),
        json!({ "security": [], "parameters": taken }),
        ("303", json!({ "description": "Go on" })),
    )
}

fn operation(
    (id, what): (&str, &str),
    mut described: Value,
    (status, answer): (&str, Value),
) -> Value {
    let failed = [
        ("401", "Who asks is not known"),
        ("403", "Who asks may not do this"),
        ("404", "Nobody signs in at this hub"),
        ("409", "What is shown is no session"),
        ("422", "No login can begin like this"),
        ("429", "Too many at a time"),
        ("500", "A defect of the hub"),
        ("503", "Not now, or the provider does not answer"),
    ];
    described["operationId"] = id.into();
    described["summary"] = what.into();
    described["tags"] = json!(["SignIn"]);
    described["responses"][status] = answer;
    for (status, what) in failed {
        described["responses"][status] = problem(what);
    }
    described
}
