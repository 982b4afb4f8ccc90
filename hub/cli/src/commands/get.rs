//! Shows objects.

use http::Method;
use jiff::Timestamp;

use super::object_path;
use crate::{args::Format, client::Hub, error::CliError, kinds::Kind, output};

/// All objects of a kind.
pub(crate) async fn list(
    hub: &Hub,
    kind: Kind,
    format: Format,
    now: Timestamp,
) -> Result<(), CliError> {
    let list = hub.call(Method::GET, kind.path(), None).await?;
    let items = list["items"].as_array().ok_or_else(|| CliError::Answer {
        request: format!("GET /api/v1/{}", kind.path()),
        reason: "it has no items".to_owned(),
    })?;
    if format == Format::Table && items.is_empty() {
        output::note(&format!("There are no {}.", kind.path()));
        return Ok(());
    }
    output::show(&list, || output::table(kind, items, now), format)
}

/// One object.
pub(crate) async fn one(
    hub: &Hub,
    kind: Kind,
    name: &str,
    format: Format,
    now: Timestamp,
) -> Result<(), CliError> {
    let object = hub
        .call(Method::GET, &object_path(kind, name), None)
        .await?;
    output::show(
        &object,
        || output::table(kind, std::slice::from_ref(&object), now),
        format,
    )
}

/// One object with all that is known of it.
pub(crate) async fn describe(
    hub: &Hub,
    kind: Kind,
    name: &str,
    now: Timestamp,
) -> Result<(), CliError> {
    let object = hub
        .call(Method::GET, &object_path(kind, name), None)
        .await?;
    output::print(&output::describe(kind, &object, now)?)
}
