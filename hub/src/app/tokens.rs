//! Join tokens for clusters, and the first administrator's. All tokens are kept as hashes and shown once.

use jiff::{SignedDuration, Timestamp};
use meridian_api::validate::FieldError;
use zeroize::Zeroizing;

use super::audit::Deed;
use super::writes::Manner;
use super::{App, AppError, until_uncontended};
use crate::domain::access::grant::{Role, Scope, Verb};
use crate::domain::access::{ApiToken, JoinToken, Purpose, Token};
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{Read, Txn, keys};

/// Longest life of a join token.
pub const JOIN_TOKEN_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Life of a join token if none is asked for.
pub const JOIN_TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(1);

/// Kind, as the audit log names it.
const JOIN_TOKEN: &str = "join token";

/// What a cluster needs in order to join; shown once.
#[derive(Debug)]
pub struct JoinMaterial {
    /// Addresses of the hub's link.
    pub hub_addresses: Vec<String>,
    /// The roots to pin, PEM.
    pub ca_pem: String,
    /// The token in clear.
    pub token: Zeroizing<String>,
    /// What is kept of it; revision 0 if nothing is, because it was only tried.
    pub kept: Held<JoinToken>,
}

/// Draws an administrator's bearer token without end: in clear, and as it is to be kept.
#[must_use]
pub fn draw(holder: &str, now: Timestamp) -> (Zeroizing<String>, ApiToken) {
    let token = Token::from_random(Purpose::Api, rand::random(), rand::random());
    let kept = kept(&token, holder, now);
    (token.reveal(), kept)
}

/// An administrator's bearer token in clear as it is to be kept; `None` if the text is none.
#[must_use]
pub fn read(clear: &str, holder: &str, now: Timestamp) -> Option<ApiToken> {
    let token = Token::parse(Purpose::Api, clear.trim()).ok()?;
    Some(kept(&token, holder, now))
}

fn kept(token: &Token, holder: &str, now: Timestamp) -> ApiToken {
    ApiToken {
        id: token.id().to_owned(),
        holder: holder.to_owned(),
        hash: token.hash(),
        created_at: now,
        role: Role::Admin,
        projects: Scope::all(),
        expires_at: None,
        person: None,
        grants: Vec::new(),
    }
}

impl App {
    /// Makes a join token for a cluster of this name: a new one, or a member that a rotation of the roots left behind.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for a name or life that cannot be, [`AppError::Conflict`] if a member has the name.
    pub async fn create_join_token(
        &self,
        cluster_name: &str,
        life: SignedDuration,
        require_approval: bool,
        manner: &Manner,
    ) -> Result<JoinMaterial, AppError> {
        check_join_token(cluster_name, life)?;
        until_uncontended(|| async {
            let memory = self.first_time(manner).await?;
            let name_key = keys::cluster_name(cluster_name);
            let holder = records::get(self.store().as_ref(), &name_key).await?;
            let txn = match &holder {
                None => Txn::new().absent(name_key.text()),
                // It believes this hub no more, and only its own device can use the token.
                Some(held) if self.is_left_behind(held.record.cluster).await? => {
                    Txn::new().unchanged(held)
                }
                Some(_) => {
                    return Err(AppError::Conflict(format!(
                        "a cluster called {cluster_name:?} has joined already; choose another name, or remove its registration first"
                    )));
                }
            };
            let token = Token::from_random(Purpose::Join, rand::random(), rand::random());
            let now = self.now();
            let kept = JoinToken {
                id: token.id().to_owned(),
                cluster_name: cluster_name.to_owned(),
                hash: token.hash(),
                created_at: now,
                expires_at: now + life,
                used_by: None,
            };
            let key = keys::token(token.id());
            let txn = txn.create(&key, &kept)?;
            let txn = self.demand_approval(txn, &kept, require_approval)?;
            let txn = self.remember(txn, manner, &memory, (token.id(), token.id()))?;
            let deed = Deed::new(Verb::Create, JOIN_TOKEN, token.id());
            let revision = self.commit_as(manner, &deed, txn).await?.unwrap_or_default();
            let key = key.text().to_owned();
            let kept = Held { record: kept, created: revision, modified: revision, key };
            Ok(JoinMaterial {
                hub_addresses: self.settings().link_addresses.clone(),
                ca_pem: self.ca().roots_pem(),
                token: token.reveal(),
                kept,
            })
        })
        .await
    }

    /// All join tokens, used and unused.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn join_tokens(&self) -> Result<Read<Vec<Held<JoinToken>>>, AppError> {
        Ok(records::list(self.store().as_ref(), &keys::tokens()).await?)
    }

    /// Forgets a join token; an unused one can join nobody any more.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Changed`].
    pub async fn delete_join_token(&self, id: &str, manner: &Manner) -> Result<(), AppError> {
        until_uncontended(|| async {
            let key = keys::token(id);
            let Some(held) = records::get(self.store().as_ref(), &key).await? else {
                let (kind, name, hint) = ("token", id.to_owned(), String::new());
                return Err(AppError::NotFound { kind, name, hint });
            };
            manner.meets("token", id, held.modified)?;
            let txn = Txn::new()
                .unchanged(&held)
                .delete(key.text())
                .delete(keys::approval(id).text());
            let deed = Deed::new(Verb::Delete, JOIN_TOKEN, id);
            self.commit_as(manner, &deed, txn).await?;
            Ok(())
        })
        .await
    }

    /// Keeps a drawn bearer token; it opens the web API from now on.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn keep_api_token(&self, kept: &ApiToken) -> Result<(), AppError> {
        self.commit(Txn::new().create(&keys::user(&kept.id), kept)?)
            .await?;
        Ok(())
    }
}

fn check_join_token(cluster_name: &str, life: SignedDuration) -> Result<(), AppError> {
    let mut fields = Vec::new();
    if !is_label(cluster_name) {
        fields.push(FieldError {
            field: "spec.clusterName".to_owned(),
            found: format!("{cluster_name:?}"),
            expected: LABEL.to_owned(),
            remedy: "choose such a name".to_owned(),
        });
    }
    if life <= SignedDuration::ZERO || life > JOIN_TOKEN_MAX {
        fields.push(FieldError {
            field: "spec.ttlSeconds".to_owned(),
            found: life.as_secs().to_string(),
            expected: format!("1 to {}", JOIN_TOKEN_MAX.as_secs()),
            remedy: "make the token shortly before the cluster joins".to_owned(),
        });
    }
    if fields.is_empty() {
        return Ok(());
    }
    Err(AppError::Invalid {
        summary: "the token cannot be made".to_owned(),
        fields,
    })
}

/// What [`is_label`] accepts.
pub(super) const LABEL: &str =
    "1 to 63 lower-case letters, digits or '-', beginning and ending with a letter or digit";

/// A DNS label (RFC 1123): cluster names become parts of host names and of object names.
pub(super) fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let all = name.bytes().all(|b| inner(b) || b == b'-');
    let ends =
        name.bytes().next().is_some_and(inner) && name.bytes().next_back().is_some_and(inner);
    all && ends && name.len() <= 63
}
