//! How a write is meant: carried out or only tried, and whether it must meet what the caller saw.

use meridian_api::ids::Revision;

use super::audit::{Deed, Trail};
use super::repeats::Once;
use super::{App, AppError};
use crate::domain::access::grant::{self, Act, Kind, Refusal, Role, Scope, Verb};
use crate::store::{StoreError, Txn};

/// Who asks, and for what he may. By default the hub itself, which may everything.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The role.
    pub role: Role,
    /// The projects that the actor sees.
    pub scope: Scope,
    /// Who it is, for the audit log.
    pub trail: Trail,
}

impl Default for Actor {
    fn default() -> Self {
        Self {
            role: Role::Admin,
            scope: Scope::all(),
            trail: Trail::default(),
        }
    }
}

impl Actor {
    /// Refuses what the actor may not do to an object of this name and project. What is out of sight does not exist.
    ///
    /// # Errors
    /// [`AppError::Forbidden`], [`AppError::NotFound`].
    pub(super) fn must(
        &self,
        verb: Verb,
        kind: Kind,
        (name, project): (&str, &str),
    ) -> Result<(), AppError> {
        let act = Act {
            verb,
            kind,
            project: Some(project),
        };
        grant::authorize(self.role, &self.scope, act).map_err(|refusal| match refusal {
            Refusal::Unseen { kind } => AppError::NotFound {
                kind: kind.word(),
                name: name.to_owned(),
                hint: String::new(),
            },
            Refusal::Nobody { .. }
            | Refusal::Role { .. }
            | Refusal::Limited { .. }
            | Refusal::Project { .. } => AppError::Forbidden(refusal.to_string()),
        })
    }
}

/// How a write is meant. By default it is carried out, whatever revision it meets.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Who asks.
    pub by: Actor,
    /// Everything is checked and nothing is stored.
    pub dry_run: bool,
    /// The write is for one of these revisions of the object only; `None`: for any.
    pub only_at: Option<Vec<Revision>>,
    /// It is carried out once, however often it is sent.
    pub once: Option<Once>,
}

impl Manner {
    /// Refuses a write of an object that is not as the caller saw it.
    ///
    /// # Errors
    /// [`AppError::Changed`].
    pub(super) fn meets(&self, kind: &str, name: &str, found: Revision) -> Result<(), AppError> {
        let Some(expected) = &self.only_at else {
            return Ok(());
        };
        if expected.contains(&found) {
            return Ok(());
        }
        let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        let expected = if expected.is_empty() {
            "a tag that names none".to_owned()
        } else {
            format!("revision {}", expected.join(" or "))
        };
        Err(AppError::Changed(format!(
            "{kind} {name:?} is not as it was seen: found revision {found}, expected {expected} (If-Match); nothing was \
             done, read it again and decide again"
        )))
    }
}

impl App {
    /// Commits what is meant to be carried out, and that it was, in one transaction; `None` if it was only tried.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn commit_as(
        &self,
        manner: &Manner,
        deed: &Deed<'_>,
        txn: Txn,
    ) -> Result<Option<Revision>, StoreError> {
        if manner.dry_run {
            return Ok(None);
        }
        Ok(Some(
            self.commit_audited(txn, &manner.by.trail, deed).await?,
        ))
    }
}
