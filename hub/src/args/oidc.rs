//! Settings of the sign-in.

use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;

/// Let people sign in through an OpenID provider, beside API tokens. Off without an issuer.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "People sign in (OpenID Connect)")]
pub struct Oidc {
    /// The provider, as it calls itself, to the letter: https://HOST[/PATH]. Register https://ADVERTISE-WEB/auth/callback there.
    #[arg(
        long,
        value_name = "URL",
        requires = "oidc_client_id",
        requires = "oidc_roles",
        env = "MERIDIAN_HUB_OIDC_ISSUER"
    )]
    pub oidc_issuer: Option<String>,
    /// This hub, as the provider knows it.
    #[arg(
        long,
        value_name = "ID",
        requires = "oidc_issuer",
        env = "MERIDIAN_HUB_OIDC_CLIENT_ID"
    )]
    pub oidc_client_id: Option<String>,
    /// File with the client's secret; without it the hub is a public client, which PKCE protects.
    #[arg(
        long,
        value_name = "FILE",
        requires = "oidc_issuer",
        env = "MERIDIAN_HUB_OIDC_CLIENT_SECRET_FILE"
    )]
    pub oidc_client_secret_file: Option<PathBuf>,
    /// File (YAML) that says what groups may do: `roles:`, a list of entries with `group`, `role` (viewer, operator, admin) and
    /// perhaps `projects`. Read anew when it changes; whom no entry names has no access.
    #[arg(
        long,
        value_name = "FILE",
        requires = "oidc_issuer",
        env = "MERIDIAN_HUB_OIDC_ROLES"
    )]
    pub oidc_roles: Option<PathBuf>,
    /// What is asked of the provider; openid must be among it.
    #[arg(
        long,
        value_name = "SCOPES",
        value_delimiter = ',',
        default_value = "openid,profile,email,groups",
        env = "MERIDIAN_HUB_OIDC_SCOPES"
    )]
    pub oidc_scopes: Vec<String>,
    /// Claim of the ID token with the name that people and the audit log read.
    #[arg(
        long,
        value_name = "CLAIM",
        default_value = "email",
        env = "MERIDIAN_HUB_OIDC_NAME_CLAIM"
    )]
    pub oidc_name_claim: String,
    /// Claim of the ID token with the groups: a list, or one text.
    #[arg(
        long,
        value_name = "CLAIM",
        default_value = "groups",
        env = "MERIDIAN_HUB_OIDC_GROUPS_CLAIM"
    )]
    pub oidc_groups_claim: String,
    /// Certificates (PEM) of the authorities that may sign the provider's; those that the machine trusts if not given.
    #[arg(
        long,
        value_name = "FILE",
        requires = "oidc_issuer",
        env = "MERIDIAN_HUB_OIDC_CA"
    )]
    pub oidc_ca: Option<PathBuf>,
    /// Life of a session, 1 minute to 7 days: groups that the provider takes away from somebody count until its end.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "8h",
        value_parser = session_life,
        env = "MERIDIAN_HUB_OIDC_SESSION_LIFE"
    )]
    pub oidc_session_life: SignedDuration,
}

fn session_life(text: &str) -> Result<SignedDuration, String> {
    let life: SignedDuration = text.parse().map_err(|e: jiff::Error| e.to_string())?;
    let allowed = SignedDuration::from_mins(1)..=SignedDuration::from_hours(7 * 24);
    if !allowed.contains(&life) {
        return Err(format!("found {text}, expected 1m to 168h"));
    }
    Ok(life)
}
