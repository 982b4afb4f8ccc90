//! The audit log. What is done is written down in the transaction that does it, without a number: so writers do not wait for
//! one another, and nothing is done that is not written down. A task links what was written down into the chain, in the
//! order of the revisions, and forgets the oldest beyond a bound; the place after which the chain begins then moves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use meridian_api::audit::{
    self, ActorKind, Closing, Event, FORMAT, Opening, Outcome, Place, Record,
};
use meridian_api::trace::TraceId;
use serde::Serialize;

use super::{App, AppError};
use crate::clock::since_boot;
use crate::domain::access::grant::Verb;
use crate::domain::limits::{Buckets, Rate};
use crate::store::records::{self, AuditEnds, Held, TxnExt as _};
use crate::store::{Read, StoreError, Txn, keys};

/// Events that one transaction links, and records that it forgets: together below the limit of a transaction.
const LINKED: usize = 24;
/// Longest name that is recorded, bytes.
const NAME: usize = 253;
/// How often refusals of callers who are known are recorded one by one.
const KNOWN: Rate = Rate {
    every: Duration::from_secs(1),
    burst: 200,
};
/// And of those who are not: 20,000 records last a week.
const UNKNOWN: Rate = Rate {
    every: Duration::from_secs(30),
    burst: 60,
};

/// What was done, to what.
#[derive(Clone, Copy, Debug)]
pub struct Deed<'a> {
    /// What, as one word.
    pub verb: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its project; empty for none.
    pub project: &'a str,
    /// What it leaves behind where the hub has no hand any more: `namespace/kind/name`.
    pub left: &'a [String],
}

impl<'a> Deed<'a> {
    /// A deed of the table of rights, to an object without a project.
    #[must_use]
    pub fn new(verb: Verb, kind: &'a str, name: &'a str) -> Self {
        Self {
            verb: verb.word(),
            kind,
            name,
            project: "",
            left: &[],
        }
    }

    /// What is done about the certificate with which the nodes of the REC of this name meet their peers.
    #[must_use]
    pub fn of_peer(verb: &'a str, rec: &'a str) -> Self {
        Self {
            verb,
            kind: "peer certificate",
            name: rec,
            project: "",
            left: &[],
        }
    }

    /// What happens to the session of this public part.
    #[must_use]
    pub fn of_session(verb: &'a str, id: &'a str) -> Self {
        Self {
            verb,
            kind: "session",
            name: id,
            project: "",
            left: &[],
        }
    }

    /// What is done to the hub as a whole.
    #[must_use]
    pub fn of_hub(verb: &'a str) -> Self {
        Self {
            verb,
            kind: "hub",
            name: "",
            project: "",
            left: &[],
        }
    }

    /// What happens to the identity of the cluster of this name.
    #[must_use]
    pub fn of_identity(verb: &'a str, name: &'a str) -> Self {
        Self {
            verb,
            kind: "cluster",
            name,
            project: "",
            left: &[],
        }
    }
}

/// Who does something, by which way. Whether it was written down is known to all copies of it.
#[derive(Clone, Debug)]
pub struct Trail {
    /// Who.
    pub actor: audit::Actor,
    /// Address of the peer, empty for none.
    pub address: String,
    /// What a replica said that handed the request on.
    pub via: String,
    /// Number of the request, empty for none.
    pub request: String,
    /// Trace of the request or wish; `None` for what the hub does by itself.
    pub trace: Option<TraceId>,
    recorded: Arc<AtomicBool>,
}

impl Default for Trail {
    /// The hub itself.
    fn default() -> Self {
        let (id, name) = (String::new(), String::new());
        let kind = ActorKind::Hub;
        Self {
            actor: audit::Actor { kind, id, name },
            address: String::new(),
            via: String::new(),
            request: String::new(),
            trace: None,
            recorded: Arc::default(),
        }
    }
}

impl Trail {
    /// Of a member, by its certificate or device key, that calls from this address.
    #[must_use]
    pub fn member(id: String, name: String, address: &str) -> Self {
        Self::of(ActorKind::Member, (id, name), address)
    }

    /// Of somebody who says to be this cluster and did not prove it.
    #[must_use]
    pub fn stranger(claimed: String, address: &str) -> Self {
        Self::of(ActorKind::Unknown, (claimed, String::new()), address)
    }

    fn of(kind: ActorKind, (id, name): (String, String), address: &str) -> Self {
        Self {
            actor: audit::Actor { kind, id, name },
            address: address.to_owned(),
            ..Self::default()
        }
    }

    /// Says that what was done is written down.
    pub(super) fn mark(&self) {
        self.recorded.store(true, Ordering::Relaxed);
    }

    /// Whether something was written down of it.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Relaxed)
    }
}

/// What keeps refusals from filling the log.
#[derive(Debug)]
pub(super) struct Refusals(Mutex<(Buckets<bool>, Buckets<bool>, [u64; 2])>);

impl Default for Refusals {
    fn default() -> Self {
        let (known, unknown) = (Buckets::new(KNOWN, 1), Buckets::new(UNKNOWN, 1));
        Self(Mutex::new((known, unknown, [0; 2])))
    }
}

impl Refusals {
    /// Whether one more is recorded, and how many before it were not.
    fn admit(&self, is_known: bool, now: Duration) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, unknown, passed_over) = &mut *state;
        let buckets = if is_known { known } else { unknown };
        let [of_unknown, of_known] = passed_over;
        let passed_over = if is_known { of_known } else { of_unknown };
        if buckets.take(is_known, now).is_ok() {
            return Some(std::mem::take(passed_over));
        }
        *passed_over += 1;
        None
    }
}

/// A name as it is recorded: of what no object can be called, and so may be a secret in the wrong place, only the length.
fn shown(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let is_token = ["mrda.", "mrdj.", "mrds."]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if name.len() > NAME || is_token || !name.bytes().all(plain) {
        return format!("({} bytes that are no name)", name.len());
    }
    name.to_owned()
}

/// What is written down of something.
fn event(
    now: Timestamp,
    trail: &Trail,
    deed: &Deed<'_>,
    (outcome, reason): (Outcome, &str),
) -> Event {
    Event {
        at: now.to_string(),
        actor: trail.actor.clone(),
        address: trail.address.clone(),
        via: trail.via.clone(),
        request: trail.request.clone(),
        trace: trail.trace,
        verb: deed.verb.to_owned(),
        kind: deed.kind.to_owned(),
        name: shown(deed.name),
        project: deed.project.to_owned(),
        left: deed.left.to_vec(),
        outcome,
        reason: reason.to_owned(),
        revision: None,
        unrecorded: 0,
    }
}

/// Adds to a transaction that what it does is written down; the next link of the chain takes it in.
///
/// # Errors
/// [`StoreError::Record`].
pub(super) fn written(
    txn: Txn,
    now: Timestamp,
    trail: &Trail,
    deed: &Deed<'_>,
) -> Result<Txn, StoreError> {
    let event = event(now, trail, deed, (Outcome::Done, ""));
    txn.put_record(&keys::audit_new(rand::random()), &event)
}

impl App {
    /// Writes down what this transaction does.
    ///
    /// # Errors
    /// [`StoreError::Record`].
    pub(super) fn audited(
        &self,
        txn: Txn,
        trail: &Trail,
        deed: &Deed<'_>,
    ) -> Result<Txn, StoreError> {
        written(txn, self.now(), trail, deed)
    }

    /// Commits what it has written down.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn commit_audited(
        &self,
        txn: Txn,
        trail: &Trail,
        deed: &Deed<'_>,
    ) -> Result<crate::store::Revision, StoreError> {
        let revision = self.commit(self.audited(txn, trail, deed)?).await?;
        trail.mark();
        Ok(revision)
    }

    /// Writes down something that no transaction does.
    ///
    /// # Errors
    /// [`StoreError`]: then it must not be done.
    pub async fn record(&self, trail: &Trail, deed: &Deed<'_>) -> Result<(), StoreError> {
        self.commit_audited(Txn::new(), trail, deed).await?;
        Ok(())
    }

    /// Writes down what was not done, or of which it is not known. What cannot be written down is logged: there is nothing left
    /// that could be refused. Where there are too many of them, the next one says how many were not written down.
    pub async fn record_failure(
        &self,
        trail: &Trail,
        deed: &Deed<'_>,
        (outcome, reason): (Outcome, &str),
    ) {
        let is_known = trail.actor.kind != ActorKind::Unknown;
        let Some(unrecorded) = self.refusals.admit(is_known, since_boot()) else {
            return;
        };
        let event = Event {
            unrecorded,
            ..event(self.now(), trail, deed, (outcome, reason))
        };
        let txn = Txn::new().put_record(&keys::audit_new(rand::random()), &event);
        let written = match txn {
            Ok(txn) => self.commit(txn).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, ?event, "the audit log could not be written");
        }
    }

    /// Links what was written down into the chain; whether more is to be done.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn link_audit(&self, kept: u64) -> Result<bool, AppError> {
        let prefixes = vec![
            keys::audit_news().text().to_owned(),
            keys::audit_ends().text().to_owned(),
        ];
        let mut lists = self.store().list(prefixes).await?.value.into_iter();
        let mut events: Vec<Held<Event>> = records::all(lists.next().unwrap_or_default())?;
        let known: Option<Held<AuditEnds>> = records::all(lists.next().unwrap_or_default())?.pop();
        events.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        let mut ends = known.as_ref().map_or(BEGIN, |held| held.record);
        let mut txn = Txn::new();
        for held in events.iter().take(LINKED) {
            let mut event = held.record.clone();
            if event.outcome == Outcome::Done {
                event.revision = Some(held.created);
            }
            let record = Record::after(ends.head, event);
            ends.head = record.place();
            txn = txn.create(&keys::audit(record.number), &record)?;
            txn = txn.delete(held.key.clone());
        }
        let beyond = (ends.head.number - ends.after.number).saturating_sub(kept);
        let mut forgotten = 0;
        // What this transaction links is not in the store yet.
        let linked = known.as_ref().map_or(0, |held| held.record.head.number);
        while forgotten < beyond.min(LINKED as u64) && ends.after.number < linked {
            let key = keys::audit(ends.after.number + 1);
            let Some(held) = records::get(self.store().as_ref(), &key).await? else {
                // Somebody removed it. The gap stays to be seen.
                break;
            };
            ends.after = held.record.place();
            txn = txn.delete(key.text());
            forgotten += 1;
        }
        if txn.writes_nothing() {
            return Ok(false);
        }
        self.commit(txn.upsert(&keys::audit_ends(), known.as_ref(), &ends)?)
            .await?;
        Ok(events.len() > LINKED || beyond > forgotten)
    }

    /// Links all that was written down until now.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn link_all(&self) -> Result<(), AppError> {
        loop {
            match self.link_audit(self.settings().audit_kept).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // The task does the same.
                Err(AppError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Records with numbers below `before`, the newest first, at most `limit` of them; and where the chain begins and ends.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn audit_records(
        &self,
        before: u64,
        limit: usize,
    ) -> Result<(AuditEnds, Vec<Record>), AppError> {
        self.link_all().await?;
        let ends = records::get(self.store().as_ref(), &keys::audit_ends()).await?;
        let ends = ends.map_or(BEGIN, |held| held.record);
        let mut found: Vec<Record> = Vec::new();
        let mut next = before.min(ends.head.number + 1);
        while found.len() < limit && next > ends.after.number + 1 {
            let block = keys::audit_block(next - 1);
            let held = records::list(self.store().as_ref(), &block).await?.value;
            let mine = held.into_iter().rev().map(|held| held.record);
            found.extend(
                mine.filter(|record| record.number < next && record.number > ends.after.number),
            );
            next = (next - 1) / keys::AUDIT_BLOCK * keys::AUDIT_BLOCK;
        }
        found.truncate(limit);
        Ok((ends, found))
    }

    /// The whole log of one revision, as lines of JSON.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn audit_export(&self) -> Result<Vec<u8>, AppError> {
        self.link_all().await?;
        let prefixes = vec![
            keys::audits().text().to_owned(),
            keys::audit_ends().text().to_owned(),
        ];
        let Read { value, .. } = self.store().list(prefixes).await?;
        let mut lists = value.into_iter();
        let kept: Vec<Held<Record>> = records::all(lists.next().unwrap_or_default())?;
        let ends: Option<Held<AuditEnds>> = records::all(lists.next().unwrap_or_default())?.pop();
        let ends = ends.map_or(BEGIN, |held| held.record);
        let opening = Opening {
            meridian_audit: FORMAT,
            store_id: self.reign().store_id,
            exported_at: self.now().to_string(),
            after: ends.after,
        };
        let closing = Closing { head: ends.head };
        let mut lines = Vec::new();
        let records = kept.iter().map(|held| line(&held.record));
        for line in std::iter::once(line(&opening))
            .chain(records)
            .chain([line(&closing)])
        {
            lines.extend(line.map_err(|e| StoreError::Record {
                key: keys::audits().text().to_owned(),
                reason: e.to_string(),
            })?);
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

fn line<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(value)
}

const BEGIN: AuditEnds = AuditEnds {
    head: Place::BEGIN,
    after: Place::BEGIN,
};

#[cfg(test)]
mod tests;
