//! The hub's reign over its store: (store id, term, incarnation), and the doubts that hold it back.
//!
//! Each start opens a new term. The store is known to have been lost if the certificate authority is older than it;
//! it is known to have gone back in time if a member obeyed something that is not in its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, Incarnation, PlanNumber, StoreId, Term};
use uuid::Uuid;

use super::audit::{Deed, Trail};
use super::trust::{Trusted, trusted};
use super::{App, AppError, until_uncontended};
use crate::ca::{Authority, CaError, Origin};
use crate::domain::access::grant::Verb;
use crate::domain::lineage::{Accepted, Anchor, Birth, Doubt, Line, Memory, Start};
use crate::store::records::{self, Counters, Held, TxnExt as _};
use crate::store::{Fence, Read, Store, StoreError, Txn, keys};

/// Name of the doubt that the hub itself raises.
pub(super) const HUB: &str = "hub";

/// Why no reign can begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The members of this store trust another certificate authority.
    #[error(
        "this store belongs to the certificate authority {theirs}, but this hub has {ours}: members that joined trust the \
         former only. Give every replica the same files root.key and root.crt (--ca-dir, or the folder ca of its data \
         directory), or give a hub of its own another prefix in etcd (--etcd-root)"
    )]
    OtherAuthority {
        /// Fingerprint of this hub's authority.
        ours: String,
        /// Fingerprint that the store holds.
        theirs: String,
    },
    /// The store has a past, and this hub has no authority.
    #[error(
        "this store was begun before, but there is no certificate authority in {}: members that joined trust the one that it \
         was begun with{theirs}. Nothing was written. Put its files root.key and root.crt there, from a backup or from \
         another replica, or name the directory that has them (--ca-dir); to begin anew give the hub another prefix in etcd \
         (--etcd-root) or, if its state is a file, another data directory",
        dir.display()
    )]
    NoAuthority {
        /// Where it was looked for.
        dir: PathBuf,
        /// Its fingerprint, if the store holds it.
        theirs: String,
    },
    /// A restore was broken off.
    #[error(
        "this store holds a part of a backup: its restore was begun at {since} and did not end. Run `meridian-hub restore` \
         again with the same file (SHA-256 {sha256}): it goes on; or begin with an empty store"
    )]
    HalfRestored {
        /// When the restore began.
        since: Timestamp,
        /// SHA-256 of the backup.
        sha256: String,
    },
    /// The authority is new, the store is not and names none.
    #[error(
        "this store was begun before, but this hub has just made its certificate authority: members that joined trust \
         another. Put its files root.key and root.crt in place of the new ones"
    )]
    NewAuthority,
    /// The identities of the members are of another trust domain.
    #[error(
        "the identities of this store's members are of the trust domain {theirs:?}, but this hub has {ours:?}: give every \
         replica --trust-domain {theirs}"
    )]
    OtherTrustDomain {
        /// This hub's.
        ours: String,
        /// The store's.
        theirs: String,
    },
    /// The authority cannot sign as the store says.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Under what the hub decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Term of this start.
    pub term: Term,
    /// Random number of this start.
    pub incarnation: Incarnation,
}

impl Reign {
    /// Opens a new term on a store that no other process uses.
    ///
    /// # Errors
    /// [`BeginError`].
    pub async fn begin(
        store: &dyn Store,
        ca: &Authority,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Self, BeginError> {
        loop {
            let (reign, txn) = Self::prepare(store, ca, origin, now).await?;
            match store.commit(txn, Fence(reign.term.0)).await {
                Ok(_) => return Ok(reign),
                Err(StoreError::Conflict { .. } | StoreError::Fenced { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next reign, and the transaction that opens it. A new store under an old certificate authority is a lost one:
    /// the hub then only observes.
    ///
    /// # Errors
    /// [`BeginError`].
    pub async fn prepare(
        store: &dyn Store,
        ca: &Authority,
        origin: Origin,
        now: Timestamp,
    ) -> Result<(Self, Txn), BeginError> {
        must_be_whole(store).await?;
        let birth = records::get(store, &keys::birth()).await?;
        let term = Term(store.term().await?.0 + 1);
        let Trusted {
            anchor: held,
            bundle,
        } = trusted(store, ca).await?;
        // A store that names no authority yet is bound to this one.
        let anchor = Anchor {
            fingerprint: ca.fingerprint(),
            trust_domain: Some(ca.trust_domain().to_string()),
        };
        if held.is_none() && birth.is_some() && origin == Origin::Created {
            return Err(BeginError::NewAuthority);
        }
        let mut txn = match held {
            Some(held) if held.record == anchor => Txn::new().unchanged(&held),
            held => Txn::new().upsert(&keys::anchor(), held.as_ref(), &anchor)?,
        };
        // What the authority remembers is newer than a store that went back in time.
        if ca.version() > bundle.as_ref().map_or(1, |held| held.record.version) {
            txn = txn.upsert(&keys::trust(), bundle.as_ref(), &ca.bundle())?;
        }
        // A restore that begins now comes too late.
        txn = txn.absent(keys::filling().text());
        let store_id = birth
            .as_ref()
            .map_or_else(new_store_id, |birth| birth.record.store_id);
        if birth.is_none() {
            txn = txn.create(
                &keys::birth(),
                &Birth {
                    store_id,
                    created_at: now,
                },
            )?;
            if origin == Origin::Loaded {
                let reason =
                    "the store is new, but the certificate authority is not: the store was lost"
                        .to_owned();
                txn = txn.put_record(
                    &keys::doubt(HUB),
                    &Doubt {
                        reason,
                        since: now,
                        claimed: None,
                        seen: None,
                    },
                )?;
            }
        }
        let reign = Self {
            store_id,
            term,
            incarnation: Incarnation(rand::random()),
        };
        Ok((reign, reign.opening(txn, now)?))
    }

    /// The newest reign over a store, as somebody who only reads it finds it; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        let Some(birth) = records::get(store, &keys::birth()).await? else {
            return Ok(None);
        };
        let starts = records::list(store, &keys::starts()).await?.value;
        let newest = starts.into_iter().map(|held| held.record);
        Ok(newest
            .max_by_key(|start| start.term)
            .map(|start: Start| Self {
                store_id: birth.record.store_id,
                term: start.term,
                incarnation: start.incarnation,
            }))
    }

    /// Adds the start of this reign to the transaction that opens it.
    fn opening(self, txn: Txn, now: Timestamp) -> Result<Txn, StoreError> {
        let start = Start {
            term: self.term,
            incarnation: self.incarnation,
            started_at: now,
        };
        txn.create(&keys::start(self.term), &start)
    }
}

/// Refuses a store into which a backup was put in part.
///
/// # Errors
/// [`BeginError::HalfRestored`].
async fn must_be_whole(store: &dyn Store) -> Result<(), BeginError> {
    match records::get(store, &keys::filling()).await? {
        Some(Held { record, .. }) => Err(BeginError::HalfRestored {
            since: record.since,
            sha256: record.sha256,
        }),
        None => Ok(()),
    }
}

/// Refuses a store that was begun before, for a hub that has no authority in `dir` and would make one.
///
/// # Errors
/// [`BeginError::NoAuthority`], [`BeginError::HalfRestored`].
pub async fn must_be_new(store: &dyn Store, dir: &Path) -> Result<(), BeginError> {
    must_be_whole(store).await?;
    if records::get(store, &keys::birth()).await?.is_none() {
        return Ok(());
    }
    let held = records::get(store, &keys::anchor()).await?;
    Err(BeginError::NoAuthority {
        dir: dir.to_owned(),
        theirs: held.map_or_else(String::new, |held| format!(", {}", held.record.fingerprint)),
    })
}

fn new_store_id() -> StoreId {
    loop {
        // Only the nil UUID is refused, which no UUID of version 4 is.
        if let Ok(id) = StoreId::new(Uuid::new_v4()) {
            return id;
        }
    }
}

/// What adopting did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The doubts that a person settled, by who raised them.
    pub settled: BTreeMap<String, Doubt>,
    /// The reign that began.
    pub reign: Reign,
}

/// Highest numbers that a member reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Plan number.
    pub plan_number: u64,
    /// Instance id.
    pub instance_id: u64,
    /// Config version.
    pub config_version: u64,
}

impl App {
    /// The history of this store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn line(&self) -> Result<Line, StoreError> {
        let Read { value, revision } =
            records::list(self.store().as_ref(), &keys::starts()).await?;
        let starts = value.into_iter().map(|held: Held<Start>| {
            let Start {
                term,
                incarnation,
                started_at: _,
            } = held.record;
            (term, (incarnation, held.created))
        });
        Ok(Line {
            store_id: self.reign().store_id,
            starts: starts.collect(),
            head: revision,
        })
    }

    /// Why the hub only observes, by who raised it; empty if it may decide.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn doubts(&self) -> Result<BTreeMap<String, Doubt>, StoreError> {
        let doubts = records::list(self.store().as_ref(), &keys::doubts())
            .await?
            .value;
        Ok(doubts
            .into_iter()
            .map(|held| (keys::last_part(&held.key).to_owned(), held.record))
            .collect())
    }

    /// Refuses while the hub only observes.
    ///
    /// # Errors
    /// [`AppError::Observing`].
    pub async fn must_decide(&self) -> Result<(), AppError> {
        match self.doubts().await?.into_iter().next() {
            Some((by, doubt)) => Err(AppError::Observing(format!(
                "{} (raised by {by})",
                doubt.reason
            ))),
            None => Ok(()),
        }
    }

    /// Writes down, together with the rest of the transaction, that a member's memory and this store do not agree. From
    /// the first doubt on every session has to begin anew, so that none goes on applying.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn raise_doubt(
        &self,
        txn: Txn,
        by: ClusterUid,
        reason: String,
        memory: Memory,
    ) -> Result<(), StoreError> {
        let doubts = self.doubts().await?;
        let by = by.to_string();
        if txn.writes_nothing()
            && doubts
                .get(&by)
                .is_some_and(|doubt| doubt.memory() == memory)
        {
            return Ok(());
        }
        tracing::error!(cluster = by, reason, "the hub only observes from now on");
        let Memory { last, seen } = memory;
        let doubt = Doubt {
            reason,
            since: self.now(),
            claimed: last,
            seen,
        };
        self.commit(txn.put_record(&keys::doubt(&by), &doubt)?)
            .await?;
        if doubts.is_empty() {
            self.tell_sessions();
        }
        Ok(())
    }

    /// Lets the hub go on after a person has looked: every raised position is accepted, and a new reign begins whose
    /// term is above all of them.
    ///
    /// # Errors
    /// [`AppError::Conflict`] if there is nothing to settle, [`AppError::Store`].
    pub async fn adopt(&self, holder: &str, trail: &Trail) -> Result<Adoption, AppError> {
        until_uncontended(|| async {
            let doubts = self.must_observe().await?;
            let adoption = self.adopt_all(doubts, holder, trail).await?;
            self.reign.store(Arc::new(adoption.reign));
            self.tell_sessions();
            Ok(adoption)
        })
        .await
    }

    fn tell_sessions(&self) {
        // Fails only where no session stands, and then nobody has to be told.
        drop(self.reign_changed.send(()));
    }

    /// What an adoption would settle.
    ///
    /// # Errors
    /// [`AppError::Conflict`] if there is nothing to settle, [`AppError::Store`].
    pub async fn must_observe(&self) -> Result<Vec<Held<Doubt>>, AppError> {
        let doubts = records::list(self.store().as_ref(), &keys::doubts()).await?;
        if doubts.value.is_empty() {
            return Err(AppError::Conflict(
                "the hub is not observing: there is nothing to adopt".to_owned(),
            ));
        }
        Ok(doubts.value)
    }

    async fn adopt_all(
        &self,
        doubts: Vec<Held<Doubt>>,
        holder: &str,
        trail: &Trail,
    ) -> Result<Adoption, AppError> {
        let Reign { store_id, term, .. } = self.reign();
        let highest = doubts
            .iter()
            .filter_map(|held| held.record.memory().highest())
            .map(|term| term.0)
            .max();
        let term = Term(term.0.max(highest.unwrap_or(0)) + 1);
        let reign = Reign {
            store_id,
            term,
            incarnation: Incarnation(rand::random()),
        };
        let mut txn = Txn::new();
        let mut settled = BTreeMap::new();
        for held in doubts {
            let by = keys::last_part(&held.key).to_owned();
            txn = txn.unchanged(&held).delete(held.key.clone());
            if let Ok(cluster) = by.parse::<ClusterUid>() {
                let accepted = Accepted {
                    claimed: held.record.claimed,
                    seen: held.record.seen,
                    approval: holder.to_owned(),
                };
                txn = txn.put_record(&keys::adopted(cluster), &accepted)?;
            }
            settled.insert(by, held.record);
        }
        let txn = reign.opening(txn, self.now())?;
        let deed = Deed::new(Verb::Adopt, "hub", "");
        let txn = self.audited(txn, trail, &deed)?;
        self.store().commit(txn, Fence(term.0)).await?;
        trail.mark();
        tracing::warn!(term = %reign.term, settled = settled.len(), "a person let the hub go on");
        Ok(Adoption { settled, reign })
    }

    /// Forgets that a member's position was accepted, once it has everything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_adoption(&self, cluster: ClusterUid) -> Result<(), StoreError> {
        self.commit(Txn::new().delete(keys::adopted(cluster).text()))
            .await
            .map(|_| ())
    }

    /// Raises the allocators above what a member reports, so that nothing it has seen is given again.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn raise_allocators(&self, reported: Reported) -> Result<(), AppError> {
        until_uncontended(|| async {
            let held = records::get(self.store().as_ref(), &keys::counters()).await?;
            let old = held
                .as_ref()
                .map_or_else(Counters::default, |held| held.record.clone());
            let raised = Counters {
                plan_number: PlanNumber(old.plan_number.0.max(reported.plan_number)),
                instance_id_floor: old.instance_id_floor.max(reported.instance_id),
                config_version_floor: old.config_version_floor.max(reported.config_version),
            };
            if raised != old {
                self.commit(Txn::new().upsert(&keys::counters(), held.as_ref(), &raised)?)
                    .await?;
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
