//! The kinds of objects that are listed and watched: how each is read, and which records of the store it is shown from.

use axum::response::Response;
use meridian_api::ids::{ObjectId, Revision};
use meridian_api::web::{API_VERSION, CLASSIC_API_VERSION};
use serde::Serialize;
use serde_json::Value;

use super::answer::{self, Failure};
use super::pages::Slice;
use super::watch::{self, Reading};
use super::{WebState, api_tokens, clusters, databases, remotes, tokens};
use crate::app::App;
use crate::app::reads::{database_prefixes, member_prefixes, remote_prefixes};
use crate::domain::access::grant::Scope;
use crate::store::{Read, keys};

/// A kind that has lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cluster,
    Token,
    RemoteCluster,
    Database,
    ApiToken,
}

/// An object of a list, with what a watch must know of it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    /// Revision that made its record: another object of the same name has another one.
    pub(super) created: Revision,
    /// The newest revision of all records that it is shown from.
    pub(super) newest: Revision,
    /// The project that it belongs to, by which it is seen or not; `None` if everybody sees it who may read the kind.
    pub(super) project: Option<String>,
    /// Last parts of the keys of records that it is shown from and that may vanish while it stays.
    pub(super) parts: Vec<ObjectId>,
    /// As it is shown.
    pub(super) body: Value,
}

/// What a change of a record changes of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touched {
    /// Nothing.
    None,
    /// The object of this name.
    Named(String),
    /// The object that is shown from this part, if there is one.
    OfPart(ObjectId),
    /// Any of them.
    All,
}

impl Kind {
    /// As objects call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cluster => clusters::KIND,
            Self::Token => tokens::KIND,
            Self::RemoteCluster => remotes::KIND,
            Self::Database => databases::KIND,
            Self::ApiToken => api_tokens::KIND,
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::Cluster | Self::Token | Self::ApiToken => API_VERSION,
            Self::RemoteCluster | Self::Database => CLASSIC_API_VERSION,
        }
    }

    /// Where everything lies that its objects are shown from.
    pub(super) fn prefixes(self) -> Vec<String> {
        match self {
            Self::Cluster => member_prefixes(),
            Self::Token => vec![
                keys::tokens().text().to_owned(),
                keys::approvals().text().to_owned(),
            ],
            Self::RemoteCluster => remote_prefixes(),
            Self::Database => database_prefixes(),
            Self::ApiToken => vec![
                keys::users().text().to_owned(),
                keys::user_uses().text().to_owned(),
            ],
        }
    }

    /// The object that a key stands for: it is gone when that is.
    pub(super) fn named_by(self, key: &str) -> Option<&str> {
        let (clusters, tokens) = (keys::cluster_names(), keys::tokens());
        let (remotes, databases) = (keys::remotes(), keys::databases());
        let users = keys::users();
        let prefix = match self {
            Self::Cluster => clusters.text(),
            Self::Token => tokens.text(),
            Self::RemoteCluster => remotes.text(),
            Self::Database => databases.text(),
            Self::ApiToken => users.text(),
        };
        key.strip_prefix(prefix)
    }

    /// Which objects a change of this key may have changed.
    pub(super) fn touched_by(self, key: &str) -> Touched {
        if !self.prefixes().iter().any(|prefix| key.starts_with(prefix)) {
            return Touched::None;
        }
        if self != Self::Database {
            return Touched::All;
        }
        if let Some(name) = self.named_by(key) {
            return Touched::Named(name.to_owned());
        }
        let of_membership = key
            .strip_prefix(keys::memberships().text())
            .or_else(|| key.strip_prefix(keys::all_transitions().text()))
            .or_else(|| key.strip_prefix(keys::all_waits().text()));
        let of_membership = of_membership.and_then(|object| object.parse().ok());
        let of_member = keys::cluster_and_object(key).map(|(_, object)| object);
        of_membership
            .or(of_member)
            .map_or(Touched::All, Touched::OfPart)
    }

    /// All of them that somebody with this scope may see, by name.
    pub(super) async fn read(self, app: &App, scope: &Scope) -> Result<Read<Vec<Listed>>, Failure> {
        match self {
            Self::Cluster => clusters::listed(app).await,
            Self::Token => tokens::listed(app).await,
            Self::RemoteCluster => remotes::listed(app).await,
            Self::Database => databases::listed(app, scope).await,
            Self::ApiToken => api_tokens::listed(app).await,
        }
    }

    /// Answers with all of them, or with what changes.
    pub(super) async fn list(
        self,
        state: &WebState,
        reading: Reading,
    ) -> Result<Response, Failure> {
        if let Some(wish) = reading.watch {
            return watch::serve(state, self, None, wish).await;
        }
        let params = &reading.params;
        let part = params.part(self.name())?;
        let slice = if self == Self::Database && part.is_partial() {
            databases::slice(&state.app, params.scope(), &part).await?
        } else {
            let Read { value, revision } = self.read(&state.app, params.scope()).await?;
            Slice::of(&value, revision, &part)
        };
        answer::list(params, self, &part, slice)
    }
}

/// An object as JSON.
pub(super) fn shown<T: Serialize>(object: &T) -> Result<Value, Failure> {
    Ok(serde_json::to_value(object).map_err(answer::without_form)?)
}
