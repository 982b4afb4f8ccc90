//! The roots that members trust: which are in force, what members acknowledge, and the steps by which a person exchanges them.
//!
//! A step is kept in the store first, then put in force: whatever ends the process in between, the next start, or the replica that
//! leads next, puts in force what the store says. The other order would tell members of a bundle that nobody remembers.

use std::collections::BTreeSet;

use jiff::Timestamp;
use meridian_api::audit::Outcome;
use meridian_api::ids::ClusterUid;

use super::audit::{self, Deed, Trail};
use super::reign::BeginError;
use super::writes::Manner;
use super::{App, AppError, until_uncontended};
use crate::ca::{Authority, CaError};
use crate::domain::access::grant::Verb;
use crate::domain::cluster::Cluster;
use crate::domain::lineage::Anchor;
use crate::domain::trust::{
    Bundle, Facts, Member, MemberTrust, Obstacle, Root, Stage, Step, obstacles, unknown,
};
use crate::store::records::{self, Held, TxnExt as _};
use crate::store::{Store, Txn, keys};

/// Kind, as the audit log names it.
const AUTHORITY: &str = "certificate authority";

/// What a store says of its authority.
#[derive(Debug)]
pub struct Trusted {
    /// The authority, if it names one already.
    pub anchor: Option<Held<Anchor>>,
    /// The roots, if the authority was ever rotated.
    pub bundle: Option<Held<Bundle>>,
}

/// Puts the roots in force that the store names, and refuses an authority, or a trust domain, that is not the store's. What the
/// authority itself remembers wins over a store that says less: that one went back in time.
///
/// # Errors
/// [`BeginError`].
pub async fn trusted(store: &dyn Store, ca: &Authority) -> Result<Trusted, BeginError> {
    let anchor = records::get(store, &keys::anchor()).await?;
    if let Some(Held { record, .. }) = &anchor
        && let Some(theirs) = &record.trust_domain
        && *theirs != ca.trust_domain().to_string()
    {
        return Err(BeginError::OtherTrustDomain {
            ours: ca.trust_domain().to_string(),
            theirs: theirs.clone(),
        });
    }
    let bundle = records::get(store, &keys::trust()).await?;
    let other = |theirs: &str| BeginError::OtherAuthority {
        ours: ca.fingerprint(),
        theirs: theirs.to_owned(),
    };
    let own = ca.bundle();
    match (&bundle, &anchor) {
        (Some(Held { record, .. }), _) if record.version > own.version => {
            let put = ca.put_in_force(record.clone());
            put.map_err(|error| without_key(error, other(record.signer())))?;
        }
        (Some(Held { record, .. }), _) if record.version == own.version => {
            if record.roots != own.roots {
                return Err(other(record.signer()));
            }
        }
        (Some(Held { record, .. }), _) => must_know(&own, record.signer()).map_err(other)?,
        (None, Some(Held { record, .. })) if own.version > 1 => {
            must_know(&own, &record.fingerprint).map_err(other)?;
        }
        (None, Some(Held { record, .. })) if record.fingerprint != own.signer() => {
            let first = ca.first_of(&record.fingerprint);
            let first = first.map_err(|error| without_key(error, other(&record.fingerprint)))?;
            ca.put_in_force(first)?;
        }
        (None, _) => {}
    }
    Ok(Trusted { anchor, bundle })
}

/// Who has no key of the store's root is another authority.
fn without_key(error: CaError, other: BeginError) -> BeginError {
    if matches!(error, CaError::NoRoot { .. }) {
        return other;
    }
    BeginError::Ca(error)
}

/// Whether a root is one that this authority has, or had.
fn must_know<'a>(own: &Bundle, fingerprint: &'a str) -> Result<(), &'a str> {
    if own.knew(fingerprint) {
        return Ok(());
    }
    Err(fingerprint)
}

/// What a person orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Trust a new root beside the present one.
    Rotate,
    /// Go on: let the new root sign, then trust the old one no more.
    Advance,
    /// Take the last step back.
    Abort,
}

impl Wish {
    fn verb(self) -> Verb {
        match self {
            Self::Rotate => Verb::Rotate,
            Self::Advance => Verb::Advance,
            Self::Abort => Verb::Abort,
        }
    }
}

/// How a rotation stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The roots in force.
    pub bundle: Bundle,
    /// Root of the certificate that the hub shows.
    pub serving: String,
    /// Every member with what it reported, and why it holds up the next step.
    pub members: Vec<(String, Option<MemberTrust>, Option<String>)>,
    /// What else holds up the next step.
    pub others: Vec<String>,
}

impl App {
    /// How a rotation stands.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn standing(&self) -> Result<Standing, AppError> {
        let bundle = self.ca().bundle();
        let members = self.reported().await?;
        let next = match bundle.stage() {
            Stage::Settled => Step::Rotate(unmade()),
            Stage::Introduced | Stage::Signing => Step::Advance,
        };
        let found = self.obstacles(&bundle, &next, &members, &BTreeSet::new());
        let of = |name: &str| {
            let mine = found.iter().find(|it| it.member.as_deref() == Some(name));
            mine.map(|it| it.reason.clone())
        };
        let others = found.iter().filter(|it| it.member.is_none());
        Ok(Standing {
            others: others.map(|it| it.reason.clone()).collect(),
            members: members
                .iter()
                .map(|(name, held)| (name.clone(), held.clone(), of(name)))
                .collect(),
            serving: self.ca().serving(),
            bundle,
        })
    }

    /// Carries a step out, or says what it would be. Members that are named in `even_without` do not hold it up: who does not trust
    /// the roots of the next bundle comes back only by new join material.
    ///
    /// # Errors
    /// [`AppError::Conflict`] with everything that holds it up, [`AppError::Observing`], [`AppError::Ca`], [`AppError::Store`].
    pub async fn rotate(
        &self,
        wish: Wish,
        even_without: &BTreeSet<String>,
        manner: &Manner,
    ) -> Result<Bundle, AppError> {
        until_uncontended(|| async {
            self.must_decide().await?;
            let store = self.store().as_ref();
            let held = records::get(store, &keys::trust()).await?;
            // A step that was kept and not put in force, because something was in the way.
            if let Some(held) = &held
                && held.record.version > self.ca().version()
            {
                self.ca().put_in_force(held.record.clone())?;
            }
            let (now, bundle) = (self.now(), self.ca().bundle());
            let step = self.step(wish, &bundle, manner, now)?;
            let next = bundle.after(&step, now);
            let next = next.map_err(|error| AppError::Conflict(error.to_string()))?;
            self.must_be_free(&bundle, &step, even_without).await?;
            if !manner.dry_run && !self.ca().holds(next.signer())? {
                return Err(AppError::Ca(self.ca().no_root(next.signer())));
            }
            let mut txn = Txn::new().upsert(&keys::trust(), held.as_ref(), &next)?;
            let anchor = records::get(store, &keys::anchor()).await?;
            if let Some(anchor) = &anchor {
                let signs = Anchor {
                    fingerprint: next.signer().to_owned(),
                    ..anchor.record.clone()
                };
                txn = txn.replace(&keys::anchor(), anchor, &signs)?;
            }
            for name in even_without {
                let left = Deed::of_identity("leave behind", name);
                txn = audit::written(txn, now, &manner.by.trail, &left)?;
            }
            let deed = Deed::new(wish.verb(), AUTHORITY, "");
            if self.commit_as(manner, &deed, txn).await?.is_some() {
                tracing::warn!(
                    audit = true,
                    ?wish,
                    version = next.version,
                    ?even_without,
                    "the roots of the members change"
                );
                self.ca().put_in_force(next.clone())?;
            }
            Ok(next)
        })
        .await
    }

    fn step(
        &self,
        wish: Wish,
        bundle: &Bundle,
        manner: &Manner,
        now: Timestamp,
    ) -> Result<Step, AppError> {
        Ok(match wish {
            Wish::Advance => Step::Advance,
            Wish::Abort => Step::Abort,
            // Before a root is made in vain.
            Wish::Rotate if bundle.stage() != Stage::Settled => Step::Rotate(unmade()),
            Wish::Rotate => {
                let root = self.ca().newcomer(now, manner.dry_run)?;
                Step::Rotate(root.unwrap_or_else(unmade))
            }
        })
    }

    async fn must_be_free(
        &self,
        bundle: &Bundle,
        step: &Step,
        even_without: &BTreeSet<String>,
    ) -> Result<(), AppError> {
        let members = self.reported().await?;
        let named = members.iter().map(|(name, _)| Member { name, held: None });
        let nobody = unknown(even_without, &named.collect::<Vec<_>>());
        if !nobody.is_empty() {
            let known: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
            let expected = match known.as_slice() {
                [] => "this hub has no members; leave --even-without out".to_owned(),
                known => format!("expected of {}", known.join(", ")),
            };
            return Err(AppError::Conflict(format!(
                "no member is called {}: {expected}. Nothing was done",
                nobody.join(", ")
            )));
        }
        let found = self.obstacles(bundle, step, &members, even_without);
        if found.is_empty() {
            return Ok(());
        }
        let told = found
            .iter()
            .map(|Obstacle { member, reason }| match member {
                Some(member) => format!("{member}: {reason}"),
                None => reason.clone(),
            });
        let told: Vec<_> = told.collect();
        Err(AppError::Conflict(format!(
            "nothing was done: {}. Whoever is to be left behind is named with evenWithout (--even-without): who does not hold the \
             roots of the next step comes back by new join material only (`meridian token create`)",
            told.join("; ")
        )))
    }

    fn obstacles(
        &self,
        bundle: &Bundle,
        step: &Step,
        members: &[(String, Option<MemberTrust>)],
        even_without: &BTreeSet<String>,
    ) -> Vec<Obstacle> {
        let members = members.iter().map(|(name, held)| Member {
            name,
            held: held.as_ref(),
        });
        let facts = Facts {
            bundle,
            digest: &self.ca().digest(),
            members: &members.collect::<Vec<_>>(),
            serving: &self.ca().serving(),
            now: self.now(),
            margin: self.settings().ca_margin,
        };
        obstacles(&facts, step, even_without)
    }

    /// Every member that is not removed, by name, with what it reported.
    async fn reported(&self) -> Result<Vec<(String, Option<MemberTrust>)>, AppError> {
        let prefixes = [keys::clusters().text(), keys::all_trust().text()].map(str::to_owned);
        let mut lists = self
            .store()
            .list(prefixes.to_vec())
            .await?
            .value
            .into_iter();
        let members: Vec<Held<Cluster>> = records::all(lists.next().unwrap_or_default())?;
        let held: Vec<Held<MemberTrust>> = records::all(lists.next().unwrap_or_default())?;
        let mut reported: Vec<_> = members
            .into_iter()
            .map(|member| {
                let key = keys::trust_of(member.record.uid);
                let mine = held.iter().find(|held| held.key == key.text());
                (member.record.name, mine.map(|held| held.record.clone()))
            })
            .collect();
        reported.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(reported)
    }

    /// Whether a member has not said that it holds the roots in force: it may need new join material.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub(super) async fn is_left_behind(&self, uid: ClusterUid) -> Result<bool, AppError> {
        let held = records::get(self.store().as_ref(), &keys::trust_of(uid)).await?;
        let held = held.map_or(0, |held| held.record.version);
        // The first roots every member has had since it joined.
        Ok(self.ca().version() > held.max(1))
    }

    /// Keeps what a member says of the roots that it holds. A version that this hub never made counts for nothing and is written
    /// down: the store went back in time, or the member speaks of another hub.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn hear_trust(&self, uid: ClusterUid, said: MemberTrust) -> Result<(), AppError> {
        until_uncontended(|| async {
            let key = keys::trust_of(uid);
            let held = records::get(self.store().as_ref(), &key).await?;
            let known = held.as_ref().map(|held| &held.record);
            // Who never said anything, and says nothing now, is no news.
            if known.map_or(said.version == 0, |known| known.says_as(&said)) {
                return Ok(());
            }
            let (ours, theirs) = (self.ca().version(), said.version);
            if theirs > ours {
                tracing::error!(audit = true, cluster = %uid, ours, theirs, "a member says to hold roots of a version that this hub never made");
                let trail = Trail::member(uid.to_string(), String::new(), "");
                let deed = Deed::of_identity("acknowledge", "");
                let why = (Outcome::Refused, "unknown-trust-version");
                self.record_failure(&trail, &deed, why).await;
            }
            let txn = Txn::new().upsert(&key, held.as_ref(), &said)?;
            self.commit(txn).await?;
            Ok(())
        })
        .await
    }
}

/// Stands for a root that would be made.
fn unmade() -> Root {
    Root {
        fingerprint: String::new(),
        pem: String::new(),
    }
}

#[cfg(test)]
mod tests;
