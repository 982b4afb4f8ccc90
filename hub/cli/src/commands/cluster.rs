//! What a person decides about a cluster.

use http::Method;
use serde_json::json;

use super::object_path;
use crate::{client::Hub, error::CliError, kinds::Kind, output};

/// Approves the join of the device with these words.
pub(crate) async fn approve(hub: &Hub, name: &str, words: &str) -> Result<(), CliError> {
    decide(hub, name, "approve", Some(json!({ "words": words }))).await?;
    output::print(&format!(
        "cluster/{name} approved; its agent joins within seconds\n"
    ))
}

/// Lets a cluster, or one certificate, in no more.
pub(crate) async fn deny(
    hub: &Hub,
    name: &str,
    reason: &str,
    (certificate, even_if_unknown): (Option<String>, bool),
) -> Result<(), CliError> {
    let what = certificate.as_ref().map_or("cluster", |_| "certificate");
    let body = json!({ "reason": reason, "serial": certificate, "evenIfUnknown": even_if_unknown });
    decide(hub, name, "deny", Some(body)).await?;
    output::print(&format!(
        "{what} of {name} denied; an open session ends within a second\n"
    ))
}

/// Lets a denied cluster, or one in quarantine, in again.
pub(crate) async fn release(hub: &Hub, name: &str) -> Result<(), CliError> {
    decide(hub, name, "release", None).await?;
    output::print(&format!("cluster/{name} released\n"))
}

async fn decide(
    hub: &Hub,
    name: &str,
    what: &str,
    body: Option<serde_json::Value>,
) -> Result<(), CliError> {
    let path = format!("{}/{what}", object_path(Kind::Cluster, name));
    hub.call(Method::POST, &path, body.as_ref()).await?;
    Ok(())
}
