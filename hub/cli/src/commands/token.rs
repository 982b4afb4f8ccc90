//! Join tokens.

use std::time::Duration;

use http::Method;
use meridian_api::web::Token;

use crate::{client::Hub, error::CliError, kinds::Kind, output};

/// Makes a token and prints the Secret that an agent joins with; everything else goes to standard error.
pub(crate) async fn create(
    hub: &Hub,
    name: &str,
    ttl: Option<Duration>,
    require_approval: bool,
) -> Result<(), CliError> {
    let seconds = ttl
        .map(|ttl| u32::try_from(ttl.as_secs()))
        .transpose()
        .map_err(|_| {
            CliError::Usage("--ttl: found more than 136 years, expected less".to_owned())
        })?;
    let unreadable = |reason: String| CliError::Answer {
        request: "the creation of a token".to_owned(),
        reason,
    };
    let body = serde_json::to_value(Token::request(name, seconds, require_approval))
        .map_err(|error| unreadable(error.to_string()))?;
    let answer = hub
        .call(Method::POST, Kind::Token.path(), Some(&body))
        .await?;
    let token: Token =
        serde_json::from_value(answer).map_err(|error| unreadable(error.to_string()))?;
    let status = token
        .status
        .ok_or_else(|| unreadable("it has no status".to_owned()))?;
    let join = status
        .join
        .ok_or_else(|| unreadable("it has no join material".to_owned()))?;
    output::print(&join.secret_yaml())?;
    output::note(&format!(
        "The token lets one cluster join as {name:?} until {}; apply the Secret in the namespace of its agent.",
        status.expires_at
    ));
    Ok(())
}
