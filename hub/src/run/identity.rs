//! What makes a process a hub, whether it leads or not: its certificate authority, and the first administrator's token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::app::reign::{Reign, must_be_new};
use crate::app::{App, Settings, tokens};
use crate::ca::{Authority, Origin, root};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::access::ApiToken;
use crate::sign_in::book::RoleBook;
use crate::store::{Store, keys, records};

/// Holder of the token that the first start writes.
pub(super) const FIRST_ADMIN: &str = "admin";
/// File of the first administrator's token, in the data directory or beside the authority that was given.
pub(super) const FIRST_TOKEN: &str = "admin-token";

/// Who this hub is.
pub(super) struct Identity {
    pub(super) ca: Arc<Authority>,
    pub(super) origin: Origin,
    pub(super) settings: Settings,
    /// What groups of people who sign in may do; nothing where nobody does.
    pub(super) roles: Arc<RoleBook>,
    /// Where the first administrator's token is looked for, and where it is written if it is nowhere.
    tokens: (Vec<PathBuf>, PathBuf),
}

/// The first administrator's token, to be kept in a store that has none.
pub(super) struct FirstToken {
    /// What the store keeps of it.
    pub(super) kept: ApiToken,
    /// The file that was written for it just now.
    drawn: Option<PathBuf>,
}

impl Identity {
    /// Reads the authority, or makes it at the first start over a store that is new.
    pub(super) async fn open(
        store: &dyn Store,
        data_dir: &Path,
        ca_dir: Option<PathBuf>,
        trust_domain: &str,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let own = data_dir.join(FIRST_TOKEN);
        let mut there = vec![own.clone()];
        let (ca, origin) = match ca_dir {
            None => {
                let dir = data_dir.join("ca");
                // Before anything is written: the next start must not take a stray authority for the hub's.
                if !Authority::is_in(&dir) {
                    must_be_new(store, &dir).await?;
                }
                Authority::open(&dir, trust_domain.parse()?, SystemClock.now())?
            }
            Some(dir) => {
                there.insert(0, dir.join(FIRST_TOKEN));
                Authority::given(&dir, trust_domain.parse()?)
                    .with_context(|| format!("no certificate authority in {} (--ca-dir); `meridian-hub init --ca-dir DIR` makes one", dir.display()))?
            }
        };
        tracing::info!(fingerprint = ca.fingerprint(), "the certificate authority");
        Ok(Self {
            ca: Arc::new(ca),
            origin,
            settings,
            roles: Arc::default(),
            tokens: (there, own),
        })
    }

    /// One of several that have the same authority: none of them makes a root that the others lack.
    pub(super) fn of_a_replica(self) -> anyhow::Result<Self> {
        let ca = Arc::into_inner(self.ca).context("the authority is in use already")?;
        Ok(Self {
            ca: Arc::new(ca.shared()),
            ..self
        })
    }

    /// The use cases over a store, under a reign.
    pub(super) fn app(&self, store: Arc<dyn Store>, reign: Reign) -> App {
        let clock = Arc::new(SystemClock);
        let settings = self.settings.clone();
        App::new(store, Arc::clone(&self.ca), clock, settings, reign)
            .with_roles(Arc::clone(&self.roles))
    }

    /// The first administrator's token, if nobody can administer the store now. It is in a file that only the owner reads before it is
    /// kept, so a start that ends in between is repeated and locks nobody out. A token that is there already is taken into
    /// a new store: who could administer the hub before its store was lost can do so afterwards, and also once the old
    /// store is put back. Into a store whose administrators' tokens are all over only a new one is taken: that of the file may
    /// have been deleted because others know it.
    pub(super) async fn first_token(
        &self,
        store: &dyn Store,
    ) -> anyhow::Result<Option<FirstToken>> {
        let now = SystemClock.now();
        let known = records::list(store, &keys::users()).await?.value;
        if known.iter().any(|held| held.record.administers(now)) {
            return Ok(None);
        }
        let (there, own) = &self.tokens;
        for path in there.iter().filter(|_| known.is_empty()) {
            let clear = std::fs::read_to_string(path).map(Zeroizing::new).ok();
            if let Some(kept) = clear.and_then(|clear| tokens::read(&clear, FIRST_ADMIN, now)) {
                tracing::info!(path = %path.display(), "the first administrator's token is taken from its file");
                return Ok(Some(FirstToken { kept, drawn: None }));
            }
        }
        let (clear, kept) = tokens::draw(FIRST_ADMIN, now);
        root::write_file(own, clear.as_bytes(), 0o600)?;
        tracing::info!(path = %own.display(), "the first administrator's token was written");
        let drawn = Some(own.clone());
        Ok(Some(FirstToken { kept, drawn }))
    }
}

impl FirstToken {
    /// Removes the file that was written for a token that no store has kept: it opens nothing, and somebody would try it.
    pub(super) fn withdraw(self) {
        let Some(path) = self.drawn else { return };
        match std::fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "another replica began first: its token counts, this file was removed");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "this file holds a token that opens nothing; remove it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::testing::TestHub;
    use crate::store::memory::MemoryStore;
    use crate::store::records::TxnExt as _;
    use crate::store::{Fence, Txn};
    use jiff::Timestamp;

    fn settings() -> Settings {
        Settings {
            audit_kept: 20_000,
            link_addresses: vec!["hub:8444".to_owned()],
            web_address: "hub:8443".to_owned(),
            approve_clusters: false,
            ca_margin: crate::domain::trust::MARGIN,
            names: vec!["hub".to_owned()],
        }
    }

    async fn open(store: &dyn Store, dir: &Path) -> anyhow::Result<Identity> {
        Identity::open(store, dir, None, "meridian.local", settings()).await
    }

    #[tokio::test]
    async fn a_store_with_a_past_is_never_given_a_new_authority_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let hub = TestHub::new().await;
        let Err(refused) = open(&hub.store, dir.path()).await else {
            panic!("a new authority was made for an old store")
        };
        let told = refused.to_string();
        for part in ["root.key", "--ca-dir", "--etcd-root"] {
            assert!(told.contains(part), "{told}");
        }
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 0);
        // Over a new store it is made.
        let made = open(&MemoryStore::new(), dir.path()).await.unwrap();
        assert_eq!(made.origin, Origin::Created);
    }

    #[tokio::test]
    async fn where_every_administrators_token_is_over_a_new_one_is_drawn_and_no_old_one_revived() {
        let dir = tempfile::tempdir().unwrap();
        let store = MemoryStore::new();
        let identity = open(&store, dir.path()).await.unwrap();
        let first = identity.first_token(&store).await.unwrap().unwrap();
        let keep = async |token: &ApiToken| {
            let txn = Txn::new().put_record(&keys::user(&token.id), token);
            store.commit(txn.unwrap(), Fence(1)).await.unwrap();
        };
        let over = ApiToken {
            id: "0707070707070707".to_owned(),
            expires_at: Some(Timestamp::UNIX_EPOCH),
            ..first.kept.clone()
        };
        keep(&over).await;
        let drawn = identity.first_token(&store).await.unwrap().unwrap();
        assert_ne!(drawn.kept.id, first.kept.id, "the token of the file");
        keep(&drawn.kept).await;
        assert!(identity.first_token(&store).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_first_token_that_was_drawn_in_vain_leaves_no_file_and_one_that_was_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = MemoryStore::new();
        let identity = open(&store, dir.path()).await.unwrap();
        let file = dir.path().join(FIRST_TOKEN);
        let drawn = identity.first_token(&store).await.unwrap().unwrap();
        assert!(file.exists());
        let read = identity.first_token(&store).await.unwrap().unwrap();
        assert_eq!(read.kept.id, drawn.kept.id);
        read.withdraw();
        assert!(file.exists());
        drawn.withdraw();
        assert!(!file.exists());
    }
}
