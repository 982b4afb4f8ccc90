//! What the link keeps in this cluster: its identity, its journal, and where it reads the join material. All of it in
//! Secrets of the agent's namespace that carry our label; a Secret of that name without it is never touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_lc_rs::digest;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, ObjectReference, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource as _, api::PostParams};
use thiserror::Error;
use tokio::sync::Mutex;

use super::{
    applier::{JournalStore, SaveError},
    identity::{self, Identity, IdentityError},
    journal::{Journal, JournalError},
    member::{MemberError, of_kube},
};
use crate::k8s::own::{APP, FIELD_MANAGER, MANAGED_BY};

/// Name of the Secret with the journal. A Secret, because orders may carry credentials.
pub const JOURNAL: &str = "meridian-link";
/// Key of the journal in it.
const JOURNAL_KEY: &str = "journal.json";

/// Why something cannot be kept or read.
#[derive(Debug, Error)]
pub enum KeepError {
    /// Somebody else's Secret has the name.
    #[error(
        "Secret `{namespace}/{name}` exists without the label {MANAGED_BY}={FIELD_MANAGER}, managed by {holder}: it is left as it is; rename or delete it"
    )]
    Foreign {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Who manages it.
        holder: String,
    },
    /// Another process wrote it.
    #[error(
        "Secret `{0}` was written by somebody else since this agent read it: another agent may lead"
    )]
    Overtaken(String),
    /// The API server did not do it.
    #[error("Secret `{name}`: {source}")]
    Api {
        /// Name.
        name: String,
        /// What happened.
        source: MemberError,
    },
    /// The identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The journal cannot be read.
    #[error("Secret `{JOURNAL}`, key `{JOURNAL_KEY}`: {0}")]
    Journal(#[from] JournalError),
}

/// One Secret of ours, written by compare-and-swap.
#[derive(Clone)]
pub struct Kept {
    api: Api<Secret>,
    namespace: String,
    name: &'static str,
    /// As last seen; `None` while it does not exist.
    seen: Option<Secret>,
    /// Digests of data that was sent since then and of which no answer told whether it was stored.
    in_doubt: BTreeSet<Vec<u8>>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Kept {
    /// Reads the Secret `name`.
    ///
    /// # Errors
    /// [`KeepError::Foreign`] or [`KeepError::Api`].
    pub async fn open(
        client: Client,
        namespace: &str,
        name: &'static str,
    ) -> Result<Self, KeepError> {
        let api: Api<Secret> = Api::namespaced(client, namespace);
        let seen = api
            .get_opt(name)
            .await
            .map_err(|error| api_error(name, &error))?;
        let kept = Self {
            api,
            namespace: namespace.to_owned(),
            name,
            seen,
            in_doubt: BTreeSet::new(),
        };
        kept.check_ours()?;
        Ok(kept)
    }

    /// The data as last seen.
    #[must_use]
    pub fn data(&self) -> Option<&BTreeMap<String, ByteString>> {
        self.seen.as_ref()?.data.as_ref()
    }

    /// Writes the data; on `Ok` it is durable.
    ///
    /// # Errors
    /// [`KeepError::Overtaken`] if somebody else wrote different data since; nothing is written then.
    pub async fn write(&mut self, data: BTreeMap<String, ByteString>) -> Result<(), KeepError> {
        for _ in 0..2 {
            match self.swap(&data).await {
                Ok(written) => {
                    self.seen = Some(written);
                    self.in_doubt.clear();
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                    self.look_again().await?
                }
                Err(error) => {
                    self.in_doubt.insert(fingerprint(&data));
                    return Err(api_error(self.name, &error));
                }
            }
        }
        Err(KeepError::Overtaken(self.name.to_owned()))
    }

    async fn swap(&self, data: &BTreeMap<String, ByteString>) -> Result<Secret, kube::Error> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match &self.seen {
            Some(seen) => {
                let secret = Secret {
                    data: Some(data.clone()),
                    ..seen.clone()
                };
                self.api.replace(self.name, &params, &secret).await
            }
            None => self.api.create(&params, &self.fresh(data.clone())).await,
        }
    }

    /// Somebody changed the Secret. A label or an annotation does not matter; other data does, unless it is what we sent
    /// ourselves when the answer was lost.
    async fn look_again(&mut self) -> Result<(), KeepError> {
        let now = self
            .api
            .get_opt(self.name)
            .await
            .map_err(|error| api_error(self.name, &error))?;
        let known = self
            .seen
            .as_ref()
            .and_then(|seen| seen.data.clone())
            .unwrap_or_default();
        let found = now
            .as_ref()
            .and_then(|found| found.data.clone())
            .unwrap_or_default();
        // One that was deleted is written again: what it held is still known here.
        let ours = known == found || self.in_doubt.contains(&fingerprint(&found));
        if now.is_some() && !ours {
            return Err(KeepError::Overtaken(self.name.to_owned()));
        }
        self.seen = now;
        self.check_ours()
    }

    fn check_ours(&self) -> Result<(), KeepError> {
        let Some(seen) = &self.seen else {
            return Ok(());
        };
        let manager = seen
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(MANAGED_BY));
        if manager.is_some_and(|manager| manager == FIELD_MANAGER) {
            return Ok(());
        }
        Err(KeepError::Foreign {
            namespace: self.namespace.clone(),
            name: self.name.to_owned(),
            holder: manager.map_or_else(
                || "nobody we know".to_owned(),
                |manager| format!("`{manager}`"),
            ),
        })
    }

    fn fresh(&self, data: BTreeMap<String, ByteString>) -> Secret {
        let labels = [(MANAGED_BY, FIELD_MANAGER), APP]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }
}

/// What data is recognised by, without keeping all of it.
fn fingerprint(data: &BTreeMap<String, ByteString>) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for (key, value) in data {
        for part in [key.as_bytes(), &value.0] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    context.finish().as_ref().to_vec()
}

/// Reads the stored identity, or makes one and stores it: no call to the hub is made before that.
///
/// # Errors
/// [`KeepError`]: a stored identity that cannot be read is never replaced by a new one.
pub async fn identity(client: Client, namespace: &str) -> Result<(Kept, Identity), KeepError> {
    let mut kept = Kept::open(client, namespace, identity::SECRET).await?;
    let identity = match kept.data() {
        Some(data) if !data.is_empty() => Identity::read(data)?,
        _ => {
            let identity = Identity::generate()?;
            kept.write(identity.data()).await?;
            identity
        }
    };
    Ok((kept, identity))
}

/// The journal in its Secret.
#[derive(Clone, Debug)]
pub struct SecretJournal(Arc<Mutex<Kept>>);

impl SecretJournal {
    /// Opens the journal; one that does not exist is empty, one that cannot be read is an error.
    ///
    /// # Errors
    /// [`KeepError`].
    pub async fn open(client: Client, namespace: &str) -> Result<(Self, Journal), KeepError> {
        let kept = Kept::open(client, namespace, JOURNAL).await?;
        let journal = match kept.data().and_then(|data| data.get(JOURNAL_KEY)) {
            Some(text) => Journal::read(&text.0)?,
            None => Journal::default(),
        };
        Ok((Self(Arc::new(Mutex::new(kept))), journal))
    }
}

impl JournalStore for SecretJournal {
    async fn save(&self, journal: &Journal) -> Result<(), SaveError> {
        let text = journal
            .write()
            .map_err(|error| SaveError::Failed(error.to_string()))?;
        let data = BTreeMap::from([(JOURNAL_KEY.to_owned(), ByteString(text))]);
        self.0
            .lock()
            .await
            .write(data)
            .await
            .map_err(|error| match &error {
                KeepError::Overtaken(_) => SaveError::Overtaken(error.to_string()),
                KeepError::Foreign { .. }
                | KeepError::Api { .. }
                | KeepError::Identity(_)
                | KeepError::Journal(_) => SaveError::Failed(error.to_string()),
            })
    }
}

/// The UID of the namespace kube-system: what identifies this cluster.
///
/// # Errors
/// [`KeepError::Api`].
pub async fn kube_system_uid(client: Client) -> Result<String, KeepError> {
    const NAME: &str = "kube-system";
    let namespaces: Api<Namespace> = Api::all(client);
    let found = namespaces
        .get(NAME)
        .await
        .map_err(|error| api_error(NAME, &error))?;
    let missing = || MemberError::Unavailable("the namespace has no uid".to_owned());
    found.metadata.uid.ok_or_else(|| KeepError::Api {
        name: NAME.to_owned(),
        source: missing(),
    })
}

/// What an Event about the join material refers to.
#[must_use]
pub fn reference(namespace: &str, name: &str, uid: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some(Secret::api_version(&()).into_owned()),
        kind: Some(Secret::kind(&()).into_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid,
        ..ObjectReference::default()
    }
}

fn api_error(name: &str, error: &kube::Error) -> KeepError {
    KeepError::Api {
        name: name.to_owned(),
        source: of_kube(error),
    }
}

#[cfg(test)]
mod tests;
