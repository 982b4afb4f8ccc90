//! The document of the API says what is served, and what is committed is what is served.

use std::path::Path;

use super::*;
use crate::web::openapi::{OPEN, PATH, SIGN_IN, document};

#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/openapi.json");
    let text = format!("{:#}\n", document());
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "deploy/openapi.json is not current; run: make generate"
    );
}

#[test]
fn every_route_and_method_is_described_and_nothing_else() {
    let document = document();
    let mut served: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, methods, _) in guarded() {
        served.extend(
            methods
                .iter()
                .map(|method| (path.to_owned(), method.to_lowercase())),
        );
    }
    served.extend(OPEN.map(|(path, _, _)| (path.to_owned(), "get".to_owned())));
    served.extend(SIGN_IN.map(|(path, method)| (path.to_owned(), method.to_owned())));
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(described, served);
    let ids: Vec<_> = paths
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .filter_map(|one| one["operationId"].as_str())
        .collect();
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "each has a name of its own"
    );
}

#[test]
fn every_reference_leads_to_a_schema_and_every_failure_is_a_problem() {
    let document = document();
    let mut left = vec![&document];
    let mut references = 0;
    while let Some(value) = left.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let place = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{reference}");
            references += 1;
        }
        match value {
            Value::Array(values) => left.extend(values),
            Value::Object(fields) => left.extend(fields.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(references > 50, "{references}");
    for (path, methods, _) in guarded() {
        for method in methods {
            let responses = &document["paths"][path][method.to_lowercase()]["responses"];
            for (status, answer) in responses.as_object().unwrap() {
                if status.as_str() >= "400" {
                    let content = answer["content"].as_object().unwrap();
                    assert_eq!(
                        content.keys().collect::<Vec<_>>(),
                        ["application/problem+json"],
                        "{path} {status}"
                    );
                }
            }
            for status in ["401", "403", "422", "429", "500", "503"] {
                assert!(responses.get(status).is_some(), "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test]
async fn the_document_is_served_to_everybody() {
    let web = Web::new().await;
    let (status, served) = read(web.ask("GET", PATH, None, None).await).await;
    assert_eq!((status, served), (200, document()));
}
