//! Sessions of people who have signed in. A session is kept as an API token is, so that every replica and the next start know it;
//! what it may do is not kept, but asked of the person's groups at each use.

use jiff::SignedDuration;

use super::api_tokens::Minted;
use super::audit::{Deed, Trail};
use super::{App, AppError, until_uncontended};
use crate::domain::access::grant::{Role, Scope};
use crate::domain::access::{ApiToken, Purpose, Token};
use crate::domain::sign_in::Person;
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{Txn, keys};

/// Sessions of one person; the oldest goes for a new one.
pub const OF_ONE: usize = 20;
/// Sessions that are over and that one login removes.
const REMOVED: usize = 40;

impl App {
    /// Refuses whose groups give nothing.
    ///
    /// # Errors
    /// [`AppError::Forbidden`], with the groups that were found.
    pub fn may_sign_in(&self, person: &Person) -> Result<(), AppError> {
        if self.roles.now().of(person).is_empty() {
            return Err(AppError::Forbidden(no_role(person)));
        }
        Ok(())
    }

    /// Begins the session of a person.
    ///
    /// # Errors
    /// [`AppError::Forbidden`] if none of its groups gives anything, [`AppError::Store`].
    pub async fn open_session(
        &self,
        person: &Person,
        life: SignedDuration,
        trail: &Trail,
    ) -> Result<Minted, AppError> {
        self.may_sign_in(person)?;
        until_uncontended(|| async {
            let token = Token::from_random(Purpose::Session, rand::random(), rand::random());
            let now = self.now();
            let kept = ApiToken {
                id: token.id().to_owned(),
                holder: person.name.clone(),
                hash: token.hash(),
                created_at: now,
                // What a release reads that knows no persons.
                role: Role::Viewer,
                projects: Scope::only(Default::default()),
                expires_at: Some(now + life),
                person: Some(person.clone()),
                grants: Vec::new(),
            };
            let key = keys::user(token.id());
            let txn = self
                .without_old_sessions(person)
                .await?
                .create(&key, &kept)?;
            let deed = Deed::of_session("login", token.id());
            let revision = self.commit_audited(txn, trail, &deed).await?;
            tracing::info!(
                session = kept.id,
                issuer = person.issuer,
                subject = person.subject,
                name = person.name,
                "somebody signed in"
            );
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

    /// Removes sessions that are over, and the oldest of somebody who has too many.
    async fn without_old_sessions(&self, person: &Person) -> Result<Txn, AppError> {
        let now = self.now();
        let all = records::list(self.store().as_ref(), &keys::users()).await?;
        let sessions = all
            .value
            .into_iter()
            .filter(|held: &Held<ApiToken>| held.record.person.is_some());
        let (over, mut live): (Vec<_>, Vec<_>) =
            sessions.partition(|held| held.record.is_over(now));
        live.retain(|held| {
            let other = held.record.person.as_ref();
            other.is_some_and(|other| {
                (&other.issuer, &other.subject) == (&person.issuer, &person.subject)
            })
        });
        live.sort_by_key(|held| held.record.created_at);
        let surplus = (live.len() + 1).saturating_sub(OF_ONE);
        let gone = live.into_iter().take(surplus).chain(over);
        Ok(gone.take(REMOVED).fold(Txn::new(), |txn, held| {
            let used = keys::user_use(&held.record.id);
            txn.delete(held.key).delete(used.text())
        }))
    }

    /// Ends a session: it opens nothing any more, at once. One that is gone already is as it should be.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn close_session(&self, session: &ApiToken, trail: &Trail) -> Result<(), AppError> {
        until_uncontended(|| async {
            let key = keys::user(&session.id);
            let Some(held) = records::get(self.store().as_ref(), &key).await? else {
                return Ok(());
            };
            let txn = Txn::new().unchanged(&held).delete(held.key.clone());
            let txn = txn.delete(keys::user_use(&session.id).text());
            let deed = Deed::of_session("logout", &session.id);
            self.commit_audited(txn, trail, &deed).await?;
            Ok(())
        })
        .await
    }
}

/// What somebody is told whose groups give nothing.
#[must_use]
pub fn no_role(person: &Person) -> String {
    format!(
        "{} is known to the OpenID provider, but has no role here: found {}, expected one that the file --oidc-roles names; ask an \
         administrator of the hub to name it there, or of the provider to add you to one",
        person.name,
        person.groups_found()
    )
}

#[cfg(test)]
mod tests;
