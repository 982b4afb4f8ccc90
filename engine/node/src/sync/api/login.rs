//! Who may ask. The node knows only a slow hash of the password, so a password is checked slowly once and then remembered
//! under a key of this process, as long as the hash is the one it was checked against.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{hmac, pbkdf2};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meridian_api::login::{HASH_BYTES, Login, from_hex};
use tokio::sync::Semaphore;

use super::answer::Refusal;
use crate::sync::observed::Observed;

/// Passwords that are checked at once; checks cost processor time that shards need.
const CHECKS: usize = 1;

/// Checks that wait for their turn; more are refused.
const WAITING: usize = 16;

/// Longer names and passwords are not looked at.
const CREDENTIALS_MAX: usize = 1024;

/// Knows whom to let in.
#[derive(Debug)]
pub(in crate::sync) struct Doorkeeper {
    observed: Arc<Observed>,
    /// `None`: the system gave no randomness, and nothing is remembered.
    key: Option<hmac::Key>,
    /// The login that was right, and what it was checked against.
    remembered: Mutex<Option<(Arc<Login>, hmac::Tag)>>,
    checks: Semaphore,
    queue: Semaphore,
}

impl Doorkeeper {
    pub(in crate::sync) fn new(observed: Arc<Observed>) -> Self {
        Self {
            observed,
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            remembered: Mutex::new(None),
            checks: Semaphore::new(CHECKS),
            queue: Semaphore::new(CHECKS + WAITING),
        }
    }

    /// Lets in whoever brings the right name and password.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let login = self.observed.login().ok_or_else(Refusal::early)?;
        let (name, password) = credentials(headers).ok_or_else(Refusal::stranger)?;
        let mut told = Vec::with_capacity(name.len() + password.len() + 8);
        told.extend_from_slice(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes());
        told.extend_from_slice(name.as_bytes());
        told.extend_from_slice(password.as_bytes());
        if self.remembers(&login, &told) {
            return Ok(());
        }
        let Ok(_place) = self.queue.try_acquire() else {
            let text = "too many logins wait to be checked; try again in a second";
            let status = StatusCode::TOO_MANY_REQUESTS;
            return Err(Refusal::new(status, "too_many_logins", text));
        };
        let Ok(_turn) = self.checks.acquire().await else {
            return Err(Refusal::early());
        };
        // Whoever waited may find that another checked the same.
        if self.remembers(&login, &told) {
            return Ok(());
        }
        let checked = Arc::clone(&login);
        let right = tokio::task::spawn_blocking(move || is_right(&checked, &name, &password)).await;
        if !matches!(right, Ok(true)) {
            return Err(Refusal::stranger());
        }
        if let Some(key) = &self.key {
            *self.lock() = Some((login, hmac::sign(key, &told)));
        }
        Ok(())
    }

    fn remembers(&self, login: &Arc<Login>, told: &[u8]) -> bool {
        let Some(key) = &self.key else {
            return false;
        };
        self.lock().as_ref().is_some_and(|(checked, tag)| {
            checked == login && hmac::verify(key, told, tag.as_ref()).is_ok()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Arc<Login>, hmac::Tag)>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The password is checked whatever the name is, so that the time tells nothing about names.
fn is_right(login: &Login, name: &str, password: &str) -> bool {
    let (salt, hash) = (from_hex(&login.salt), from_hex(&login.hash));
    let (Some(salt), Some(hash), Some(rounds)) = (salt, hash, NonZeroU32::new(login.rounds)) else {
        return false;
    };
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
    let matches = hash.len() == HASH_BYTES
        && pbkdf2::verify(algorithm, rounds, &salt, password.as_bytes(), &hash).is_ok();
    matches && name == login.username
}

/// Name and password of HTTP basic authentication.
///
/// Source: RFC 7617 §2.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > CREDENTIALS_MAX {
        return None;
    }
    let bytes = STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Lets the request pass, or answers why not.
pub(super) async fn check(
    State(door): State<Arc<Doorkeeper>>,
    request: Request,
    next: Next,
) -> Response {
    match door.admit(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}
