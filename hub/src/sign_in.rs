//! How people sign in: the authorization code flow of OpenID Connect with PKCE (RFC 7636), off unless an issuer is named. What
//! lies between the two halves of a login is carried by the browser, sealed, so that strangers who begin logins fill nothing here;
//! what is used once is remembered until it would be over anyway.

pub mod book;
pub mod flow;
mod http;
pub mod provider;
mod seal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use provider::{Provider, ProviderError};
use seal::Sealer;

/// Uses that are remembered at one time. Each is of a login that the provider sent back.
const USED: usize = 10_000;

/// How the provider is asked, and what of its answers counts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider, to the letter.
    pub issuer: String,
    /// This hub, as the provider knows it.
    pub client_id: String,
    /// How it proves to be that; `None` for a public client.
    pub client_secret: Option<Zeroizing<String>>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Claim with the name for people.
    pub name_claim: String,
    /// Claim with the groups.
    pub groups_claim: String,
    /// Authorities that may sign the provider's certificate, in place of those that the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// Life of a session.
    pub session_life: SignedDuration,
    /// Where people reach the hub: `https://host[:port]`.
    pub origin: String,
}

impl Settings {
    /// Where the provider sends the browser back to: fixed, and registered there.
    #[must_use]
    pub fn redirect_uri(&self) -> String {
        format!("{}{}", self.origin, flow::CALLBACK)
    }
}

/// The sign-in of this process.
#[derive(Debug)]
pub struct SignIn {
    settings: Settings,
    provider: Provider,
    sealer: Sealer,
    used: Mutex<BTreeMap<String, Timestamp>>,
}

impl SignIn {
    /// Ready to begin; the provider is asked at the first login.
    ///
    /// # Errors
    /// [`ProviderError`] if the issuer is no address, or the authorities cannot be read.
    pub fn new(settings: Settings) -> Result<Self, ProviderError> {
        Ok(Self {
            provider: Provider::new(&settings)?,
            settings,
            sealer: Sealer::random(),
            used: Mutex::default(),
        })
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether this is the first use of something that is good until a moment.
    fn is_first_use(&self, id: &str, until: Timestamp, now: Timestamp) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, until| *until > now);
        if used.contains_key(id) || used.len() >= USED {
            return false;
        }
        used.insert(id.to_owned(), until);
        true
    }
}
