//! Bearer tokens of the web API: made, listed, forgotten, and who shows one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use meridian_api::ids::Revision;
use meridian_api::validate::FieldError;
use zeroize::Zeroizing;

use super::audit::Deed;
use super::tokens::{LABEL, is_label};
use super::writes::Manner;
use super::{App, AppError, until_uncontended};
use crate::domain::access::grant::{Role, Scope, Verb};
use crate::domain::access::{ApiToken, LastUse, Purpose, Token};
use crate::domain::sign_in::roles::{Grant, Roles};
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{Read, StoreError, Txn, keys};

/// Life of a token if none is asked for.
pub const LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Longest life of a token that ends.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How exactly the last use of a token is known. It is one write of the store for each token in this time, at most.
pub const USE: SignedDuration = SignedDuration::from_hours(1);
/// Kind, as errors and the audit log name it.
const KIND: &str = "API token";
/// Longest name of a holder, bytes.
const HOLDER: usize = 128;
/// Most projects of one token.
const PROJECTS: usize = 64;
/// Tokens whose last use is remembered by the process. Forgetting one costs a read.
const USES: usize = 4096;

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiToken {
    /// Who will hold it.
    pub holder: String,
    /// What it may do.
    pub role: Role,
    /// For which projects.
    pub projects: Option<BTreeSet<String>>,
    /// How long; `None` for ever.
    pub life: Option<SignedDuration>,
}

/// A token that was made; shown once.
#[derive(Debug)]
pub struct Minted {
    /// In clear.
    pub token: Zeroizing<String>,
    /// What is kept of it; revision 0 if nothing is, because it was only tried.
    pub kept: Held<ApiToken>,
}

/// A token and when it was used last.
#[derive(Clone, Debug)]
pub struct ApiTokenView {
    /// The token.
    pub token: Held<ApiToken>,
    /// Its last use, to the hour; `None` if it never was used.
    pub last_use: Option<Timestamp>,
    /// The newest revision of all this.
    pub newest: Revision,
}

/// Until when no further use of a token is written down, by its public part.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<BTreeMap<String, Timestamp>>);

impl Uses {
    /// Whether this use is to be written down. Says so once in [`USE`].
    fn is_due(&self, id: &str, now: Timestamp) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not keep a use from being written down.
        let is_fresh = |at: &Timestamp| now >= *at && now.duration_since(*at) < USE;
        if noted.get(id).is_some_and(is_fresh) {
            return false;
        }
        if noted.len() >= USES {
            noted.retain(|_, at| is_fresh(at));
        }
        if noted.len() < USES {
            noted.insert(id.to_owned(), now);
        }
        true
    }
}

impl App {
    /// Makes a token.
    ///
    /// # Errors
    /// [`AppError::Invalid`] for what no token can be.
    pub async fn create_api_token(
        &self,
        new: &NewApiToken,
        manner: &Manner,
    ) -> Result<Minted, AppError> {
        check(new)?;
        until_uncontended(|| async {
            let memory = self.first_time(manner).await?;
            let token = Token::from_random(Purpose::Api, rand::random(), rand::random());
            let now = self.now();
            let kept = ApiToken {
                id: token.id().to_owned(),
                holder: new.holder.clone(),
                hash: token.hash(),
                created_at: now,
                role: new.role,
                projects: new.projects.clone().map_or_else(Scope::all, Scope::only),
                expires_at: new.life.map(|life| now + life),
                person: None,
                grants: Vec::new(),
            };
            let key = keys::user(token.id());
            let txn = Txn::new().create(&key, &kept)?;
            let txn = self.remember(txn, manner, &memory, (token.id(), token.id()))?;
            let deed = Deed::new(Verb::Create, KIND, token.id());
            let revision = self.commit_as(manner, &deed, txn).await?;
            if revision.is_some() {
                tracing::info!(token = kept.id, holder = kept.holder, role = %kept.role, "a token of the web API was made");
            }
            let revision = revision.unwrap_or_default();
            let kept = Held {
                record: kept,
                created: revision,
                modified: revision,
                key: key.text().to_owned(),
            };
            Ok(Minted {
                token: token.reveal(),
                kept,
            })
        })
        .await
    }

    /// All tokens, also those whose time is over.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn api_tokens(&self) -> Result<Read<Vec<ApiTokenView>>, AppError> {
        let prefixes = vec![
            keys::users().text().to_owned(),
            keys::user_uses().text().to_owned(),
        ];
        let Read { value, revision } = self.store().list(prefixes).await?;
        let mut lists = value.into_iter();
        let tokens: Vec<Held<ApiToken>> = records::all(lists.next().unwrap_or_default())?;
        let uses: Vec<Held<LastUse>> = records::all(lists.next().unwrap_or_default())?;
        let uses: BTreeMap<_, _> = uses
            .iter()
            .map(|held| (keys::last_part(&held.key), held))
            .collect();
        let roles = self.roles.now();
        let value = tokens.into_iter().map(|mut token| {
            token.record.grants = granted(&roles, &token.record);
            let last_use = uses.get(token.record.id.as_str());
            let newest = last_use.map(|held| held.modified).unwrap_or_default();
            ApiTokenView {
                last_use: last_use.map(|held| held.record.at),
                newest: newest.max(token.modified),
                token,
            }
        });
        Ok(Read {
            value: value.collect(),
            revision,
        })
    }

    /// Forgets a token: from now on it opens nothing.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Changed`], [`AppError::Conflict`] for the last one that can administer the hub.
    pub async fn delete_api_token(&self, id: &str, manner: &Manner) -> Result<(), AppError> {
        until_uncontended(|| async {
            let now = self.now();
            let all = records::list(self.store().as_ref(), &keys::users()).await?;
            let (mine, others): (Vec<_>, Vec<_>) = all
                .value
                .into_iter()
                .partition(|held: &Held<ApiToken>| held.record.id == id);
            let Some(held) = mine.first() else {
                let (kind, name, hint) = (KIND, id.to_owned(), String::new());
                return Err(AppError::NotFound { kind, name, hint });
            };
            manner.meets(KIND, id, held.modified)?;
            let mut txn = Txn::new().unchanged(held).delete(held.key.clone());
            if held.record.administers(now) {
                let successor = others.iter().find(|other| other.record.administers(now));
                let successor = successor.ok_or_else(|| last_administrator(&held.record))?;
                // Two that are deleted at one moment must not each count on the other.
                txn = txn.unchanged(successor);
            }
            txn = txn.delete(keys::user_use(id).text());
            let deed = Deed::new(Verb::Delete, KIND, id);
            if self.commit_as(manner, &deed, txn).await?.is_some() {
                tracing::info!(
                    token = id,
                    holder = held.record.holder,
                    "a token of the web API was deleted"
                );
            }
            Ok(())
        })
        .await
    }

    /// The token that somebody presents.
    ///
    /// # Errors
    /// [`AppError::Refused`] if it is none or its time is over, [`AppError::Store`].
    pub async fn authenticate(&self, presented: &str) -> Result<ApiToken, AppError> {
        let refused = || AppError::Refused("the bearer token is not one of this hub".to_owned());
        let token = Token::parse(Purpose::Api, presented)
            .or_else(|_| Token::parse(Purpose::Session, presented))
            .map_err(|_| refused())?;
        let mut kept = records::get(self.store().as_ref(), &keys::user(token.id()))
            .await?
            .ok_or_else(refused)?
            .record;
        let is_session = token.purpose() == Purpose::Session;
        if !token.matches(&kept.hash) || is_session != kept.person.is_some() {
            return Err(refused());
        }
        if kept.is_over(self.now()) {
            let end = kept.expires_at.map(|at| at.to_string());
            if is_session {
                return Err(AppError::Refused(format!(
                    "the session ended at {}; sign in again (`meridian login`, or /auth/login in a browser)",
                    end.unwrap_or_default()
                )));
            }
            return Err(AppError::Refused(format!(
                "the bearer token expired at {}; ask an administrator for a new one (`meridian api-token create`)",
                end.unwrap_or_default()
            )));
        }
        kept.grants = granted(&self.roles.now(), &kept);
        Ok(kept)
    }

    /// Writes down that a token was used, to the hour. What fails is only logged: it must keep nobody from his work.
    pub async fn note_use(&self, token: &ApiToken) {
        let now = self.now();
        if !self.uses.is_due(&token.id, now) {
            return;
        }
        if let Err(error) = self.write_use(&token.id, now).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the use of a token was not written down"
            );
        }
    }

    async fn write_use(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        let (key, token) = (keys::user_use(id), keys::user(id));
        let known = records::get(self.store().as_ref(), &key).await?;
        if known.is_some_and(|known| now.duration_since(known.record.at).abs() < USE) {
            return Ok(());
        }
        let Some(token) = records::get(self.store().as_ref(), &token).await? else {
            return Ok(());
        };
        // Not after it was deleted: nothing would ever remove it.
        let txn = Txn::new().unchanged(&token);
        self.commit(txn.put_record(&key, &LastUse { at: now })?)
            .await?;
        Ok(())
    }
}

/// What a session's person may do now.
fn granted(roles: &Roles, token: &ApiToken) -> Vec<Grant> {
    let person = token.person.as_ref();
    person.map(|person| roles.of(person)).unwrap_or_default()
}

fn last_administrator(token: &ApiToken) -> AppError {
    AppError::Conflict(format!(
        "API token {:?} of {:?} is the last one that can administer this hub; make another first (`meridian api-token create \
         HOLDER --role admin`), then delete this one with it",
        token.id, token.holder
    ))
}

fn check(new: &NewApiToken) -> Result<(), AppError> {
    let mut fields = Vec::new();
    let mut wrong = |field: &str, found: String, expected: String, remedy: &str| {
        fields.push(FieldError {
            field: field.to_owned(),
            found,
            expected,
            remedy: remedy.to_owned(),
        });
    };
    let holder = &new.holder;
    let printable = holder.chars().all(|c| !c.is_control());
    if holder.trim().is_empty() || holder.len() > HOLDER || !printable {
        wrong(
            "spec.holder",
            format!("{holder:?}"),
            format!("1 to {HOLDER} bytes without control characters"),
            "name who will hold the token",
        );
    }
    if let Some(projects) = &new.projects {
        let found = || format!("{projects:?}");
        if new.role == Role::Admin {
            let expected = "no projects for the role admin, which has all of them";
            wrong(
                "spec.projects",
                found(),
                expected.to_owned(),
                "leave them out, or choose the role operator",
            );
        } else if projects.is_empty() || projects.len() > PROJECTS {
            let expected = format!("1 to {PROJECTS} projects, or no such field for all of them");
            wrong("spec.projects", found(), expected, "name them");
        }
        for project in projects.iter().filter(|project| !is_label(project)) {
            let remedy = "name a project as databases do";
            wrong(
                "spec.projects",
                format!("{project:?}"),
                LABEL.to_owned(),
                remedy,
            );
        }
    }
    match new.life {
        None if new.role != Role::Admin => wrong(
            "spec.neverExpires",
            "true".to_owned(),
            format!(
                "a life for the role {}: only an administrator's token has no end",
                new.role
            ),
            "leave it out, or give spec.expiresInSeconds",
        ),
        Some(life) if life <= SignedDuration::ZERO || life > LONGEST => wrong(
            "spec.expiresInSeconds",
            life.as_secs().to_string(),
            format!("1 to {}", LONGEST.as_secs()),
            "make a new token before this one ends",
        ),
        None | Some(_) => {}
    }
    if fields.is_empty() {
        return Ok(());
    }
    Err(AppError::Invalid {
        summary: "the token cannot be made".to_owned(),
        fields,
    })
}

#[cfg(test)]
mod tests;
