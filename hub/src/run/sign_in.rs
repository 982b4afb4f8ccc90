//! The sign-in, as the command line says it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use zeroize::Zeroizing;

use crate::args::Oidc;
use crate::sign_in::book::{self, RoleBook};
use crate::sign_in::{Settings, SignIn};

/// What lets people sign in.
pub(super) struct Door {
    pub(super) sign_in: Arc<SignIn>,
    pub(super) roles: Arc<RoleBook>,
    /// Where the roles stand, to be followed.
    pub(super) file: PathBuf,
}

/// Reads secrets and roles; `None` where nobody signs in. The provider itself may be away.
pub(super) async fn open(args: Oidc, web_address: &str) -> anyhow::Result<Option<Door>> {
    let Oidc {
        oidc_issuer,
        oidc_client_id,
        oidc_client_secret_file,
        oidc_roles,
        oidc_scopes,
        oidc_name_claim,
        oidc_groups_claim,
        oidc_ca,
        oidc_session_life,
    } = args;
    let Some(issuer) = oidc_issuer else {
        return Ok(None);
    };
    let client_id = oidc_client_id.context("--oidc-issuer needs --oidc-client-id")?;
    let file = oidc_roles.context("--oidc-issuer needs --oidc-roles")?;
    ensure!(
        oidc_scopes.iter().any(|scope| scope == "openid"),
        "--oidc-scopes: found {oidc_scopes:?}, expected openid among them: without it the provider says nobody's identity"
    );
    let client_secret = match oidc_client_secret_file {
        None => None,
        Some(path) => Some(secret(path).await?),
    };
    let sign_in = SignIn::new(Settings {
        issuer,
        client_id,
        client_secret,
        scopes: oidc_scopes,
        name_claim: oidc_name_claim,
        groups_claim: oidc_groups_claim,
        ca_file: oidc_ca,
        session_life: oidc_session_life,
        origin: origin(web_address),
    })?;
    let roles = RoleBook::of(book::read(&file).await?);
    let (issuer, redirect_uri) = (
        &sign_in.settings().issuer,
        sign_in.settings().redirect_uri(),
    );
    tracing::info!(issuer, redirect_uri, "people may sign in");
    Ok(Some(Door {
        sign_in: Arc::new(sign_in),
        roles,
        file,
    }))
}

async fn secret(path: PathBuf) -> anyhow::Result<Zeroizing<String>> {
    let named = || format!("--oidc-client-secret-file {}", path.display());
    let text = tokio::fs::read_to_string(&path).await.with_context(named)?;
    let text = Zeroizing::new(text);
    let secret = Zeroizing::new(text.trim().to_owned());
    ensure!(!secret.is_empty(), "{}: found no secret in it", named());
    Ok(secret)
}

/// As browsers write it in the header Origin: without the port that goes without saying.
fn origin(web_address: &str) -> String {
    let host = web_address.strip_suffix(":443").unwrap_or(web_address);
    format!("https://{}", host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        assert_eq!(origin("Hub.example.com:443"), "https://hub.example.com");
        assert_eq!(origin("hub:8443"), "https://hub:8443");
    }
}
