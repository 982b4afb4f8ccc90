//! Tokens of the web API.

use http::Method;
use meridian_api::web::{ApiRole, ApiToken, ApiTokenSpec};

use crate::{
    args::{Life, RoleArg},
    client::Hub,
    error::CliError,
    kinds::Kind,
    output,
};

/// Makes a token and prints it alone, so that it can be written into a file; everything else goes to standard error.
pub(crate) async fn create(
    hub: &Hub,
    holder: String,
    role: RoleArg,
    projects: Vec<String>,
    life: Option<Life>,
) -> Result<(), CliError> {
    let unreadable = |reason: String| CliError::Answer {
        request: "the creation of a token".to_owned(),
        reason,
    };
    let spec = ApiTokenSpec {
        holder,
        role: match role {
            RoleArg::Viewer => ApiRole::Viewer,
            RoleArg::Operator => ApiRole::Operator,
            RoleArg::Admin => ApiRole::Admin,
        },
        projects: (!projects.is_empty()).then(|| projects.into_iter().collect()),
        expires_in_seconds: match life {
            Some(Life::For(time)) => Some(time.as_secs()),
            Some(Life::Never) | None => None,
        },
        never_expires: life == Some(Life::Never),
    };
    let body = serde_json::to_value(ApiToken::wanted(spec))
        .map_err(|error| unreadable(error.to_string()))?;
    let answer = hub
        .call(Method::POST, Kind::ApiToken.path(), Some(&body))
        .await?;
    let made: ApiToken =
        serde_json::from_value(answer).map_err(|error| unreadable(error.to_string()))?;
    let status = made
        .status
        .ok_or_else(|| unreadable("it has no status".to_owned()))?;
    let token = status
        .token
        .ok_or_else(|| unreadable("it has no token".to_owned()))?;
    output::print(&format!("{token}\n"))?;
    let until = match status.expires_at {
        Some(end) => format!("until {end}"),
        None => "without end".to_owned(),
    };
    output::note(&format!(
        "The token {} of {:?} is good {until}. It is shown now and never again; \
         `meridian api-token delete {}` makes it useless at once.",
        made.metadata.name, made.spec.holder, made.metadata.name
    ));
    Ok(())
}
