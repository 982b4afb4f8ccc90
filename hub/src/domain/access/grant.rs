//! What a token may do: a role, and the projects that it is for. One table decides for every interface.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A role. Each has all rights of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads what holds no secret.
    Viewer,
    /// Makes, changes and deletes databases.
    Operator,
    /// Decides who takes part: members, tokens, and the hub itself.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The projects that somebody may see; all of them unless some are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(Option<BTreeSet<String>>);

impl Scope {
    /// Every project.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// These and no other.
    #[must_use]
    pub fn only(projects: BTreeSet<String>) -> Self {
        Self(Some(projects))
    }

    /// The projects that are named, `None` for all.
    #[must_use]
    pub fn projects(&self) -> Option<&BTreeSet<String>> {
        self.0.as_ref()
    }

    /// Whether objects of this project exist for whoever has this scope.
    #[must_use]
    pub fn sees(&self, project: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|projects| projects.contains(project))
    }
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads all of a kind, once or for as long as they change.
    List,
    /// Reads one.
    Get,
    /// Makes one.
    Create,
    /// Changes or replaces one.
    Update,
    /// Deletes one.
    Delete,
    /// Lets the hub go on with the store that it has.
    Adopt,
    /// Lets a cluster that waits join.
    Approve,
    /// Lets a member, or one certificate of it, in no more.
    Deny,
    /// Lets a member that was denied, or is in quarantine, in again; or deletions that are frozen go on.
    Release,
    /// Declares a member lost for good: nobody waits for it any more.
    Lose,
    /// Lets members trust another root as well.
    Rotate,
    /// Lets the rotation of roots go on.
    Advance,
    /// Takes a step of the rotation of roots back.
    Abort,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::List,
        Self::Get,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Adopt,
        Self::Approve,
        Self::Deny,
        Self::Release,
        Self::Lose,
        Self::Rotate,
        Self::Advance,
        Self::Abort,
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Adopt => "adopt",
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Release => "release",
            Self::Lose => "lose",
            Self::Rotate => "rotate",
            Self::Advance => "advance",
            Self::Abort => "abort",
        }
    }

    /// Whether nothing is changed by it.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::List | Self::Get)
    }
}

/// What is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A member cluster.
    Cluster,
    /// A join token.
    JoinToken,
    /// A remote cluster.
    RemoteCluster,
    /// An Active-Active database.
    Database,
    /// The hub itself.
    Hub,
    /// Everything that the hub knows, as a file.
    Backup,
    /// A token of the web API.
    ApiToken,
    /// The audit log.
    Audit,
    /// The roots that members trust.
    Authority,
    /// What a hub that runs shows of its inside: sessions, tasks, log.
    Inside,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Cluster,
        Self::JoinToken,
        Self::RemoteCluster,
        Self::Database,
        Self::Hub,
        Self::Backup,
        Self::ApiToken,
        Self::Audit,
        Self::Authority,
        Self::Inside,
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::JoinToken => "join token",
            Self::RemoteCluster => "remote cluster",
            Self::Database => "Active-Active database",
            Self::Hub => "hub",
            Self::Backup => "backup",
            Self::ApiToken => "API token",
            Self::Audit => "audit log",
            Self::Authority => "certificate authority",
            Self::Inside => "inside of the hub",
        }
    }
}

/// The least role that may do this; `None` for what nobody does.
#[must_use]
pub fn least(kind: Kind, verb: Verb) -> Option<Role> {
    use Role::{Admin, Operator, Viewer};
    match (kind, verb) {
        (Kind::Cluster | Kind::RemoteCluster | Kind::Database, Verb::List | Verb::Get)
        | (Kind::Hub, Verb::Get)
        | (Kind::Inside, Verb::List) => Some(Viewer),
        (Kind::Database, Verb::Create | Verb::Update | Verb::Delete)
        | (Kind::JoinToken, Verb::List | Verb::Get) => Some(Operator),
        (Kind::Cluster, Verb::Delete | Verb::Approve | Verb::Deny | Verb::Release | Verb::Lose)
        | (Kind::JoinToken, Verb::Create | Verb::Delete)
        | (Kind::Hub, Verb::List | Verb::Adopt | Verb::Release)
        | (Kind::Backup, Verb::Get)
        | (Kind::Audit, Verb::List)
        | (Kind::Inside, Verb::Get | Verb::Update)
        | (Kind::Authority, Verb::Get | Verb::Rotate | Verb::Advance | Verb::Abort)
        | (Kind::ApiToken, Verb::List | Verb::Get | Verb::Create | Verb::Delete) => Some(Admin),
        (Kind::Cluster, Verb::Create | Verb::Update)
        | (Kind::RemoteCluster, Verb::Create | Verb::Update | Verb::Delete)
        | (Kind::JoinToken | Kind::ApiToken, Verb::Update)
        | (Kind::Hub, Verb::Create | Verb::Update | Verb::Delete)
        | (Kind::Inside, Verb::Create | Verb::Delete)
        | (Kind::Audit, Verb::Get | Verb::Create | Verb::Update | Verb::Delete)
        | (Kind::Backup, Verb::List | Verb::Create | Verb::Update | Verb::Delete)
        | (Kind::Authority, Verb::List | Verb::Create | Verb::Update | Verb::Delete)
        | (
            _,
            Verb::Adopt
            | Verb::Approve
            | Verb::Deny
            | Verb::Release
            | Verb::Lose
            | Verb::Rotate
            | Verb::Advance
            | Verb::Abort,
        ) => None,
    }
}

/// Whether whoever is limited to projects may do this at all. Databases belong to projects. Members and remote clusters are
/// where every project's databases run: they are read by all and name no database. All else is about the whole hub.
fn is_for_projects(kind: Kind, verb: Verb) -> bool {
    match kind {
        Kind::Database => true,
        Kind::Cluster | Kind::RemoteCluster => verb.reads(),
        // What the hub holds back names databases of every project.
        Kind::Hub => verb == Verb::Get,
        Kind::JoinToken
        | Kind::Backup
        | Kind::ApiToken
        | Kind::Audit
        | Kind::Authority
        | Kind::Inside => false,
    }
}

/// What somebody wants to do, to an object of which project; `None` where it is not known yet, or where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act<'a> {
    /// What.
    pub verb: Verb,
    /// To what kind of object.
    pub kind: Kind,
    /// Of which project.
    pub project: Option<&'a str>,
}

/// Why somebody may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing to do.
    #[error("nobody can {verb} a {kind}", verb = .verb.word(), kind = .kind.word())]
    Nobody {
        /// What was to be done.
        verb: Verb,
        /// To what.
        kind: Kind,
    },
    /// The role is too low.
    #[error(
        "to {verb} a {kind} needs the role {needed}, this token has {found}; ask an administrator for a token with that role \
         (`meridian api-token create`)",
        verb = .verb.word(),
        kind = .kind.word()
    )]
    Role {
        /// What was to be done.
        verb: Verb,
        /// To what.
        kind: Kind,
        /// The least role that may.
        needed: Role,
        /// The role that was shown.
        found: Role,
    },
    /// It concerns all projects.
    #[error(
        "to {verb} a {kind} needs the role {needed} in all projects, this token is limited to {projects}",
        verb = .verb.word(),
        kind = .kind.word()
    )]
    Limited {
        /// What was to be done.
        verb: Verb,
        /// To what.
        kind: Kind,
        /// The least role that may.
        needed: Role,
        /// The projects of the token.
        projects: String,
    },
    /// It would belong to a project of others.
    #[error(
        "a {kind} of the project {project:?} needs a token for that project, this one is limited to {projects}",
        kind = .kind.word()
    )]
    Project {
        /// What it is.
        kind: Kind,
        /// Its project.
        project: String,
        /// The projects of the token.
        projects: String,
    },
    /// An object of a project of others: to the caller it does not exist.
    #[error("there is no such {kind}", kind = .kind.word())]
    Unseen {
        /// What it is.
        kind: Kind,
    },
}

/// Decides. The only function that does.
///
/// # Errors
/// [`Refusal`].
pub fn authorize(role: Role, scope: &Scope, act: Act<'_>) -> Result<(), Refusal> {
    let Act {
        verb,
        kind,
        project,
    } = act;
    let Some(needed) = least(kind, verb) else {
        return Err(Refusal::Nobody { verb, kind });
    };
    if role < needed {
        let found = role;
        return Err(Refusal::Role {
            verb,
            kind,
            needed,
            found,
        });
    }
    let Some(projects) = scope.projects() else {
        return Ok(());
    };
    let projects = projects.iter().map(String::as_str).collect::<Vec<_>>();
    let projects = projects.join(", ");
    if !is_for_projects(kind, verb) {
        return Err(Refusal::Limited {
            verb,
            kind,
            needed,
            projects,
        });
    }
    match project {
        Some(project) if !scope.sees(project) && verb == Verb::Create => Err(Refusal::Project {
            kind,
            project: project.to_owned(),
            projects,
        }),
        Some(project) if !scope.sees(project) => Err(Refusal::Unseen { kind }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
