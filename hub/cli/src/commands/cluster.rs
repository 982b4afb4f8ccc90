//! What a person decides about a cluster.

use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::{delete, escaped, object_path};
use crate::{args::Format, client::Hub, error::CliError, kinds::Kind, output};

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

/// Declares a member lost for good, after its name was typed, and shows what may be left there.
pub(crate) async fn lose(
    hub: &Hub,
    name: &str,
    (dry_run, yes): (bool, bool),
    now: Timestamp,
) -> Result<(), CliError> {
    let path = format!("{}/lose", object_path(Kind::Cluster, name));
    let try_it = format!("{path}?dryRun=All");
    let tried = hub.call(Method::POST, &try_it, None);
    if dry_run {
        return output::print(&output::losing(&tried.await?, now));
    }
    if !yes {
        let tried = tried.await?;
        output::note(&output::losing(&tried, now));
        delete::confirm_that(
            &format!("Declaring cluster {name:?} lost cannot be taken back"),
            name,
        )?;
    }
    let path = format!("{path}?confirm={}", escaped(name));
    let lost = hub.call(Method::POST, &path, None).await?;
    output::print(&output::lost_one(&lost, now))
}

/// Lists the members that were declared lost.
pub(crate) async fn lost(hub: &Hub, format: Format, now: Timestamp) -> Result<(), CliError> {
    let answer = hub.call(Method::GET, "lostclusters", None).await?;
    output::show(&answer, || output::lost(&answer, now), format)
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
