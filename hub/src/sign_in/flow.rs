//! The two halves of a login, and the third one of programs: where the browser is sent, what comes back, and who that is.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::http::plain;
use super::provider::{Exchange, ProviderError, query};
use super::{Settings, SignIn};
use crate::domain::sign_in::Person;

/// Where the provider sends the browser back to.
pub const CALLBACK: &str = "/auth/callback";
/// How long somebody may take to log in at the provider.
pub const LOGIN: SignedDuration = SignedDuration::from_mins(10);
/// How long a program may take to exchange its code.
pub const CODE: SignedDuration = SignedDuration::from_mins(1);
/// Longest path to return to, and longest state of a program, bytes.
const LONGEST: usize = 512;

/// Where a login leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// A page of this hub.
    Page(String),
    /// A program on the person's own machine (RFC 8252, section 7.3).
    Program {
        /// Where it listens.
        redirect_uri: String,
        /// What it recognizes its own login by.
        state: String,
        /// SHA-256 of what it proves to be itself by (RFC 7636).
        challenge: String,
    },
}

/// Why a login led to nothing. The texts are for the person; they hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// What was asked for cannot be.
    #[error("{field}: found {found}, expected {expected}")]
    Asked {
        /// The parameter.
        field: &'static str,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// It is not a login that this browser began here.
    #[error("{0}; begin again at /auth/login or with `meridian login`")]
    Strange(&'static str),
    /// The provider sent the browser back with a reason.
    #[error("the OpenID provider ended the login: {0}; begin again, or ask its administrator")]
    Ended(String),
    /// The provider did not help, or is not believed.
    #[error("{0}; if beginning again does not help, show this to the administrator of the hub")]
    Provider(#[from] ProviderError),
}

impl LoginError {
    /// In one word, for the audit log.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Asked { .. } => "invalid",
            Self::Strange(_) => "strange-login",
            Self::Ended(_) => "ended-by-provider",
            Self::Provider(ProviderError::Disbelief(why)) => why.word(),
            Self::Provider(_) => "provider",
        }
    }
}

/// What the browser carries from the first half of a login to the second.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    state: String,
    nonce: String,
    verifier: String,
    goal: Goal,
    at: Timestamp,
}

/// What a program is given for its person, in place of the session.
#[derive(Debug, Serialize, Deserialize)]
struct Proven {
    id: String,
    person: Person,
    challenge: String,
    at: Timestamp,
}

/// The first half of a login.
#[derive(Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Where the browser goes.
    pub location: String,
    /// What it carries.
    pub carried: String,
}

/// What came back from the provider.
#[derive(Debug, Default, Deserialize)]
pub struct Returned {
    /// The code.
    pub code: Option<String>,
    /// Whose login it was.
    pub state: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// Who sends the browser back (RFC 9207).
    pub iss: Option<String>,
}

impl SignIn {
    /// Begins a login.
    ///
    /// # Errors
    /// [`LoginError::Asked`], [`LoginError::Provider`].
    pub async fn begin(&self, goal: Goal, now: Timestamp) -> Result<Beginning, LoginError> {
        goal.check()?;
        let description = self.provider.description(&self.settings).await?;
        let begun = Begun {
            state: drawn(),
            nonce: drawn(),
            verifier: drawn(),
            goal,
            at: now,
        };
        let Settings {
            client_id, scopes, ..
        } = &self.settings;
        let asked = query(&[
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", &self.settings.redirect_uri()),
            ("scope", &scopes.join(" ")),
            ("state", &begun.state),
            ("nonce", &begun.nonce),
            ("code_challenge", &challenge(&begun.verifier)),
            ("code_challenge_method", "S256"),
        ]);
        let endpoint = description.authorization_endpoint;
        let sign = if endpoint.contains('?') { '&' } else { '?' };
        let carried = self
            .sealer
            .seal("login", &begun)
            .map_err(|_| LoginError::Strange("the login could not be sealed"))?;
        Ok(Beginning {
            location: format!("{endpoint}{sign}{asked}"),
            carried,
        })
    }

    /// Where a login leads to that this browser carries, to tell its program of a failure.
    #[must_use]
    pub fn goal(&self, carried: Option<&str>, returned: &Returned, now: Timestamp) -> Option<Goal> {
        Some(self.recognized(carried, returned, now).ok()?.goal)
    }

    fn recognized(
        &self,
        carried: Option<&str>,
        returned: &Returned,
        now: Timestamp,
    ) -> Result<Begun, LoginError> {
        let carried = carried.ok_or(LoginError::Strange("this browser has begun no login here"))?;
        let begun: Begun = self.sealer.open("login", carried).map_err(|_| {
            LoginError::Strange("the login was begun at a hub that does not run any more")
        })?;
        let state = returned.state.as_deref().unwrap_or_default();
        if verify_slices_are_equal(state.as_bytes(), begun.state.as_bytes()).is_err() {
            return Err(LoginError::Strange(
                "the answer belongs to another login than the one that this browser began",
            ));
        }
        if now >= begun.at + LOGIN {
            return Err(LoginError::Strange(
                "the login took longer than ten minutes",
            ));
        }
        Ok(begun)
    }

    /// The second half: who came back, and where to.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn finish(
        &self,
        carried: Option<&str>,
        returned: &Returned,
        now: Timestamp,
    ) -> Result<(Person, Goal), LoginError> {
        let begun = self.recognized(carried, returned, now)?;
        // Before anything is asked for with it.
        if !self.is_first_use(&begun.state, begun.at + LOGIN, now) {
            return Err(LoginError::Strange(
                "the answer to this login has been used already",
            ));
        }
        let named = self
            .provider
            .description(&self.settings)
            .await?
            .authorization_response_iss_parameter_supported;
        match &returned.iss {
            Some(issuer) if *issuer != self.settings.issuer => {
                return Err(LoginError::Strange(
                    "the answer comes from another OpenID provider",
                ));
            }
            None if named => {
                return Err(LoginError::Strange(
                    "the answer does not say from which OpenID provider it comes",
                ));
            }
            Some(_) | None => {}
        }
        if let Some(error) = &returned.error {
            return Err(LoginError::Ended(plain(error)));
        }
        let code = returned
            .code
            .as_deref()
            .ok_or(LoginError::Strange("the answer has no code"))?;
        let exchange = Exchange {
            code,
            verifier: &begun.verifier,
            nonce: &begun.nonce,
            begun: begun.at,
            now,
        };
        let person = self.provider.exchange(&self.settings, &exchange).await?;
        Ok((person, begun.goal))
    }

    /// What a program exchanges for the session of its person.
    ///
    /// # Errors
    /// If it cannot be sealed, which nothing real makes happen.
    pub fn code(
        &self,
        person: Person,
        challenge: String,
        now: Timestamp,
    ) -> Result<String, LoginError> {
        let proven = Proven {
            id: drawn(),
            person,
            challenge,
            at: now,
        };
        self.sealer
            .seal("code", &proven)
            .map_err(|_| LoginError::Strange("the code could not be sealed"))
    }

    /// The person for whom a program was given a code. It is good once, for that program only.
    ///
    /// # Errors
    /// [`LoginError::Strange`].
    pub fn redeem(&self, code: &str, verifier: &str, now: Timestamp) -> Result<Person, LoginError> {
        let proven: Proven = self
            .sealer
            .open("code", code)
            .map_err(|_| LoginError::Strange("the code is not of this hub as it runs now"))?;
        if now >= proven.at + CODE {
            return Err(LoginError::Strange("the code is older than a minute"));
        }
        if challenge(verifier) != proven.challenge {
            return Err(LoginError::Strange("the code was given to another program"));
        }
        if !self.is_first_use(&proven.id, proven.at + CODE, now) {
            return Err(LoginError::Strange("the code has been used already"));
        }
        Ok(proven.person)
    }
}

impl Goal {
    /// Refuses what would lead the browser to a stranger.
    fn check(&self) -> Result<(), LoginError> {
        let asked = |field, found: &str, expected| {
            let found = format!("{:?}", found.chars().take(80).collect::<String>());
            Err(LoginError::Asked {
                field,
                found,
                expected,
            })
        };
        match self {
            Self::Page(path) if is_path(path) => Ok(()),
            Self::Page(path) => asked(
                "return_to",
                path,
                "a path of this hub, such as /auth/session",
            ),
            Self::Program { redirect_uri, .. } if !is_loopback(redirect_uri) => asked(
                "redirect_uri",
                redirect_uri,
                "http://127.0.0.1:PORT/PATH or http://[::1]:PORT/PATH (RFC 8252)",
            ),
            Self::Program { state, .. } if state.is_empty() || state.len() > LONGEST => {
                asked("state", state, "1 to 512 bytes")
            }
            Self::Program { challenge, .. } if challenge.len() != 43 => asked(
                "code_challenge",
                challenge,
                "SHA-256 in base64url (RFC 7636), 43 bytes",
            ),
            Self::Program { .. } => Ok(()),
        }
    }
}

/// Whether a text is a path of this very hub: browsers read `//host`, `/\host` and control characters in other ways.
fn is_path(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'\\';
    text.len() <= LONGEST
        && text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(plain)
}

fn is_loopback(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let is_here = matches!(uri.host(), Some("127.0.0.1" | "[::1]"));
    uri.scheme_str() == Some("http")
        && is_here
        && uri.port_u16().is_some()
        && !authority.contains('@')
        && uri.query().is_none()
        && text.len() <= LONGEST
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"\\#".contains(&b))
}

/// 256 random bits.
fn drawn() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is shown of a secret before it is (RFC 7636, S256).
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests;
