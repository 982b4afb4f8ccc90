//! Members: their sessions, what they report, and the removal of a registration.

mod desired;
mod removal;
mod residue;

use std::collections::BTreeSet;

use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, IdError, ObjectId, Revision};
use tokio::sync::broadcast;

use super::{App, AppError, until_uncontended};
use crate::domain::abilities::TooOld;
use crate::domain::cluster::{Cluster, Presence, PresenceEdge, Rec, RecInventory};
use crate::domain::lineage::{Accepted, Memory};
use crate::domain::remote::{self, Remote};
use crate::random::Random;
use crate::store::records::{self, Held, NameHolder, SessionEpoch, TxnExt as _};
use crate::store::{StoreError, Txn, keys};

/// How a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The member has everything up to this revision; changes after it follow.
    Resume(Revision),
    /// Everything follows.
    Full,
    /// Everything follows, and the member is told that a person lets it follow this store.
    Adopt {
        /// Who.
        approval: String,
    },
    /// Nothing is applied or deleted; the member reports.
    Observe(String),
}

/// A session that was let in.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The member.
    pub cluster: Cluster,
    /// Rises with each session of the member.
    pub epoch: u64,
    /// How it begins.
    pub mode: Mode,
}

/// What a deletion on a member is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is decided: the hub only observes. A prepared deletion stays prepared.
    Undecided {
        /// Why, for people.
        reason: String,
    },
    /// The deletion is wanted, and frozen with others. A prepared deletion stays prepared.
    Frozen {
        /// Why, for people.
        reason: String,
    },
    /// The object stays, or is made again.
    Keep {
        /// Why, for people.
        reason: String,
    },
    /// The object may go.
    Delete {
        /// Who approved.
        approval: String,
        /// Revision of the tombstone.
        revision: Revision,
    },
}

/// The agent of a member, as it says in its Hello.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'a> {
    /// Its version, for people.
    pub version: &'a str,
    /// Why it is too old for this hub, if it is.
    pub lacking: Option<&'a str>,
}

impl Agent<'_> {
    fn noted(self, known: Cluster, now: Timestamp) -> Cluster {
        let since = known.too_old.as_ref().map_or(now, |too_old| too_old.since);
        Cluster {
            agent_version: self.version.to_owned(),
            too_old: self.lacking.map(|why| TooOld {
                why: why.to_owned(),
                since,
            }),
            ..known
        }
    }
}

impl App {
    /// Notes why the agent of a member is not let in: it speaks no version of the protocol that this hub speaks.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn note_too_old(&self, uid: ClusterUid, agent: Agent<'_>) -> Result<(), AppError> {
        until_uncontended(|| async {
            let key = keys::cluster(uid);
            let Some(known) = records::get(self.store().as_ref(), &key).await? else {
                return Ok(());
            };
            let cluster = agent.noted(known.record.clone(), self.now());
            if cluster != known.record {
                self.commit(Txn::new().replace(&key, &known, &cluster)?)
                    .await?;
            }
            Ok(())
        })
        .await
    }

    /// Lets a session in and gives it an epoch above every other of that member; with it what tells of every doubt and reign
    /// since its mode was decided.
    ///
    /// # Errors
    /// [`AppError::Refused`] for a removed registration, [`AppError::Store`].
    pub async fn admit(
        &self,
        uid: ClusterUid,
        agent: Agent<'_>,
        memory: Memory,
    ) -> Result<(Admission, broadcast::Receiver<()>), AppError> {
        let cluster = self.admitted_cluster(uid, agent, memory).await?;
        self.compare(uid, memory).await?;
        // From here on, so that this member's own doubt does not end its session.
        let changes = self.reign_changes();
        let mode = self.mode(uid, memory).await?;
        let epoch = self.next_epoch(uid).await?;
        let admission = Admission {
            cluster,
            epoch,
            mode,
        };
        Ok((admission, changes))
    }

    /// A verified certificate whose cluster is not in the store, and was not removed, proves that the store lost it.
    async fn admitted_cluster(
        &self,
        uid: ClusterUid,
        agent: Agent<'_>,
        memory: Memory,
    ) -> Result<Cluster, AppError> {
        let is_known = |known: &Cluster| {
            let why = known.too_old.as_ref().map(|too_old| too_old.why.as_str());
            (known.agent_version.as_str(), why) == (agent.version, agent.lacking)
        };
        until_uncontended(|| async {
            let key = keys::cluster(uid);
            match records::get(self.store().as_ref(), &key).await? {
                Some(known) if is_known(&known.record) => Ok(known.record),
                Some(known) => {
                    let cluster = agent.noted(known.record.clone(), self.now());
                    self.commit(Txn::new().replace(&key, &known, &cluster)?)
                        .await?;
                    Ok(cluster)
                }
                None => self.relearn(uid, agent, memory).await,
            }
        })
        .await
    }

    async fn relearn(
        &self,
        uid: ClusterUid,
        agent: Agent<'_>,
        memory: Memory,
    ) -> Result<Cluster, AppError> {
        if records::get(self.store().as_ref(), &keys::removed(uid))
            .await?
            .is_some()
        {
            self.member(uid).await?;
        }
        let text = uid.to_string();
        let cluster = Cluster {
            uid,
            name: format!("recovered-{}", text.split('-').next().unwrap_or(&text)),
            device_key: None,
            agent_version: agent.version.to_owned(),
            joined_at: self.now(),
            join_state: String::new(),
            previous_join_state: None,
            any_join_state: false,
            too_old: None,
            certificates: Vec::new(),
        };
        let txn = Txn::new().create(&keys::cluster(uid), &cluster)?.create(
            &keys::cluster_name(&cluster.name),
            &NameHolder { cluster: uid },
        )?;
        let reason = format!(
            "the cluster with kube-system UID {uid} has a certificate of this hub, but the store does not know it: the store was lost or an older copy was put back"
        );
        self.raise_doubt(txn, uid, reason, memory).await?;
        Ok(cluster)
    }

    /// Raises a doubt if what the member remembers is no part of this store's history, and nobody accepted it.
    async fn compare(&self, uid: ClusterUid, memory: Memory) -> Result<(), AppError> {
        let accepted: Option<Held<Accepted>> =
            records::get(self.store().as_ref(), &keys::adopted(uid)).await?;
        let known = accepted.map(|held| held.record.memory());
        let doubtful = memory.without(known.unwrap_or_default());
        if doubtful != Memory::default()
            && let Err(stray) = self.line().await?.remembers(doubtful)
        {
            self.raise_doubt(Txn::new(), uid, stray.to_string(), memory)
                .await?;
        }
        Ok(())
    }

    async fn mode(&self, uid: ClusterUid, memory: Memory) -> Result<Mode, AppError> {
        // Before what was accepted: a doubt that is gone by now was accepted by then.
        if let Some(doubt) = self.doubts().await?.into_values().next() {
            return Ok(Mode::Observe(doubt.reason));
        }
        let accepted: Option<Held<Accepted>> =
            records::get(self.store().as_ref(), &keys::adopted(uid)).await?;
        Ok(match (accepted, memory.last) {
            (Some(accepted), _) => Mode::Adopt {
                approval: accepted.record.approval,
            },
            (None, Some(claimed)) => Mode::Resume(claimed.revision),
            (None, None) => Mode::Full,
        })
    }

    /// A transaction that is void if the member is none any more.
    async fn of_member(&self, uid: ClusterUid) -> Result<Txn, AppError> {
        let member = self.held_member(uid).await?;
        Ok(Txn::new().unchanged(&member))
    }

    async fn next_epoch(&self, uid: ClusterUid) -> Result<u64, AppError> {
        until_uncontended(|| async {
            // Who was removed, or lost, since it was let in has no session.
            let txn = self.of_member(uid).await?;
            let key = keys::session(uid);
            let held = records::get(self.store().as_ref(), &key).await?;
            let epoch = held.as_ref().map_or(0, |held| held.record.epoch) + 1;
            self.commit(txn.upsert(&key, held.as_ref(), &SessionEpoch { epoch })?)
                .await?;
            Ok(epoch)
        })
        .await
    }

    /// Writes an edge of a member's presence; one of an older session than the last edge's is dropped.
    ///
    /// # Errors
    /// [`AppError::Refused`] for who is no member any more, [`AppError::Store`].
    pub async fn presence(
        &self,
        uid: ClusterUid,
        presence: Presence,
        session_epoch: u64,
    ) -> Result<(), AppError> {
        until_uncontended(|| async {
            let registered = self.of_member(uid).await?;
            let key = keys::presence(uid);
            let held = records::get(self.store().as_ref(), &key).await?;
            if held
                .as_ref()
                .is_some_and(|held| held.record.session_epoch > session_epoch)
            {
                return Ok(());
            }
            let edge = PresenceEdge {
                presence,
                since: self.now(),
                session_epoch,
            };
            self.commit(registered.upsert(&key, held.as_ref(), &edge)?)
                .await?;
            Ok(())
        })
        .await
    }

    /// Stores the RECs of a member and names those that are new. One that is missing keeps its name: a lost REC is
    /// reported, never deleted.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn inventory(&self, uid: ClusterUid, mut recs: Vec<Rec>) -> Result<(), AppError> {
        recs.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        until_uncontended(|| async {
            let store = self.store().as_ref();
            let member = self.held_member(uid).await?;
            let cluster = &member.record;
            let key = keys::recs(uid);
            let held = records::get(store, &key).await?;
            let mut txn = Txn::new();
            let reported = held.as_ref().map(|held| held.record.recs.as_slice());
            let known = self
                .needed_names(reported.unwrap_or_default(), &recs)
                .await?;
            for ((namespace, rec), name) in known
                .iter()
                .flat_map(|known| remote::name_new(&cluster.name, uid, &recs, known))
            {
                let object_id = new_object_id(self.random())?;
                let remote = Remote {
                    object_id,
                    name,
                    cluster: uid,
                    namespace,
                    rec,
                };
                txn = txn.create(&keys::remote(&remote.name), &remote)?;
            }
            let unchanged = held.as_ref().is_some_and(|held| held.record.recs == recs);
            if unchanged && txn.writes_nothing() {
                return Ok(());
            }
            let inventory = RecInventory {
                recs: recs.clone(),
                as_of: self.now(),
            };
            self.commit(
                txn.unchanged(&member)
                    .upsert(&key, held.as_ref(), &inventory)?,
            )
            .await?;
            Ok(())
        })
        .await
    }

    /// All remote clusters, where a REC has come that needs a name. One that was reported before was given one in the
    /// transaction that stored the report, and nothing has to be read for it.
    async fn needed_names(
        &self,
        reported: &[Rec],
        recs: &[Rec],
    ) -> Result<Option<Vec<Remote>>, StoreError> {
        let is_named = |rec: &Rec| {
            let mut before = reported.iter();
            before.any(|known| (&known.namespace, &known.name) == (&rec.namespace, &rec.name))
        };
        if recs.iter().all(is_named) {
            return Ok(None);
        }
        let remotes = records::list(self.store().as_ref(), &keys::remotes()).await?;
        Ok(Some(
            remotes.value.into_iter().map(|held| held.record).collect(),
        ))
    }

    /// Whether an object that a member asks about may go. Only a tombstone of this hub says yes.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn verdict(&self, uid: ClusterUid, object: ObjectId) -> Result<Verdict, AppError> {
        let keep = |reason: &str| {
            Ok(Verdict::Keep {
                reason: reason.to_owned(),
            })
        };
        if let Err(AppError::Observing(reason)) = self.must_decide().await {
            return Ok(Verdict::Undecided { reason });
        }
        let Some(desired) =
            records::get(self.store().as_ref(), &keys::desired(uid, object)).await?
        else {
            return keep("this hub knows no such object, and what is unknown is never deleted");
        };
        match desired.record.approval() {
            None => keep("the object is wanted; delete the database on the hub if it is to go"),
            Some("") if desired.record.data_bearing => {
                keep("nobody approved the deletion of its data")
            }
            Some(approval) => {
                if desired.record.data_bearing {
                    let leave = self.may_delete(uid, &BTreeSet::from([object])).await?;
                    if !leave.granted.contains(&object) {
                        let reason = leave.frozen.unwrap_or_default();
                        return Ok(Verdict::Frozen { reason });
                    }
                }
                Ok(Verdict::Delete {
                    approval: approval.to_owned(),
                    revision: desired.modified,
                })
            }
        }
    }

    pub(super) async fn no_cluster(&self, name: &str) -> Result<AppError, AppError> {
        let names = records::list(self.store().as_ref(), &keys::cluster_names())
            .await?
            .value;
        let names: Vec<_> = names
            .iter()
            .map(|held| keys::last_part(&held.key))
            .collect();
        let hint = if names.is_empty() {
            "; no cluster has joined".to_owned()
        } else {
            format!("; members are {}", names.join(", "))
        };
        Ok(AppError::NotFound {
            kind: "cluster",
            name: name.to_owned(),
            hint,
        })
    }
}

/// A new identity for an object.
pub(super) fn new_object_id(random: &dyn Random) -> Result<ObjectId, AppError> {
    ObjectId::new(random.uuid())
        .map_err(|e: IdError| AppError::Conflict(format!("an identity could not be drawn: {e}")))
}
