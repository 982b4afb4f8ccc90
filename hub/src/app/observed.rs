//! What members observe. Of each object the store is told the edges, so that it is written as often as something happens and not
//! as often as members speak; when a member said it last, and what moves all the time (lag), is known to the process that heard it
//! and to no other. After a start nothing is known of it until the member has spoken again.

mod edge;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, ObjectId, Revision};
use serde_json::Value;

pub(super) use self::edge::is_edge;
use self::edge::{Meaning, Moving, any_lag_passed, moving};
use super::App;
use crate::store::records::{LinkReport, StoredObservation};

/// What is known of an object on a member: the last edge, with what moved since as far as this process has heard it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Revision that it speaks of.
    pub for_revision: Revision,
    /// The object's status.
    pub status: Value,
    /// For Active-Active databases: the member's row of the link matrix. A lag that this process has not heard is unknown.
    pub links: Vec<LinkReport>,
    /// When the member said so last; when it said so first, if this process has not heard it.
    pub as_of: Timestamp,
    /// Whether the member has said so to this process, in its present session or the one before.
    pub heard: bool,
}

/// What this process has heard of an object.
#[derive(Clone, Debug)]
struct Heard {
    /// What is stored of it; `None` while that is not known.
    stored: Option<Stored>,
    /// What the member says, while that is being stored; an edge that means something else was not heard.
    begun: Option<Meaning>,
    /// Whether the member had spoken of it before.
    before: bool,
    /// What was heard last.
    now: Box<[Moving]>,
    /// When, as far as that is stored.
    as_of: Timestamp,
}

impl Heard {
    /// Whether the member has said what is stored, or has said more and that is not stored yet.
    fn has_said(&self, edge: &StoredObservation) -> bool {
        let begun = self.begun.as_ref();
        self.before || begun.is_none_or(|begun| *begun == Meaning::of(edge))
    }
}

/// What is stored of an object.
#[derive(Clone, Debug)]
struct Stored {
    meaning: Meaning,
    moving: Box<[Moving]>,
}

/// How much was heard, and how much of it was stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Observations that members told.
    pub heard: u64,
    /// Those that were edges.
    pub stored: u64,
}

/// What this process has heard of the members' objects.
#[derive(Debug, Default)]
pub(super) struct Observations {
    heard: Mutex<BTreeMap<ClusterUid, BTreeMap<ObjectId, Heard>>>,
    told: AtomicU64,
    edges: AtomicU64,
}

impl Observations {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterUid, BTreeMap<ObjectId, Heard>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a member says of an object, if it is known to be no edge. Otherwise the store has to be asked.
    pub(super) fn unmoved(
        &self,
        uid: ClusterUid,
        object: ObjectId,
        seen: &StoredObservation,
    ) -> bool {
        let (meaning, now) = (Meaning::of(seen), moving(seen));
        let mut heard = self.lock();
        let known = heard.get_mut(&uid).and_then(|of| of.get_mut(&object));
        let Some(known) = known else {
            return false;
        };
        let stored = known.stored.as_ref();
        let unmoved = stored.is_some_and(|stored| {
            stored.meaning == meaning && !any_lag_passed(&stored.moving, &now)
        });
        if unmoved {
            (known.now, known.as_of) = (now, seen.as_of);
        }
        unmoved
    }

    /// Notes that a member says something of an object that may be an edge. What is stored of it is not known from here on: who reads
    /// the edge as soon as it is stored finds that it was heard.
    pub(super) fn begin(&self, uid: ClusterUid, object: ObjectId, seen: &StoredObservation) {
        let mut heard = self.lock();
        let known = heard.entry(uid).or_default().entry(object);
        let known = known.or_insert_with(|| Heard {
            stored: None,
            begun: None,
            before: false,
            now: Box::default(),
            as_of: Timestamp::MIN,
        });
        known.before |= known.stored.is_some();
        (known.stored, known.now) = (None, moving(seen));
        known.begun = Some(Meaning::of(seen));
    }

    /// Notes what a member says of an object, of which this is stored now.
    pub(super) fn note(
        &self,
        uid: ClusterUid,
        object: ObjectId,
        stored: &StoredObservation,
        seen: &StoredObservation,
    ) {
        let known = Heard {
            stored: Some(Stored {
                meaning: Meaning::of(stored),
                moving: moving(stored),
            }),
            begun: None,
            before: true,
            now: moving(seen),
            as_of: seen.as_of,
        };
        self.lock().entry(uid).or_default().insert(object, known);
    }

    pub(super) fn count(&self, heard: usize, stored: usize) {
        self.told.fetch_add(heard as u64, Ordering::Relaxed);
        self.edges.fetch_add(stored as u64, Ordering::Relaxed);
    }

    /// The last edge, with what was heard since.
    pub(super) fn latest(
        &self,
        uid: ClusterUid,
        object: ObjectId,
        edge: &StoredObservation,
    ) -> Observation {
        let heard = self.lock();
        let heard = heard.get(&uid).and_then(|of| of.get(&object));
        let mut links = edge.links.clone();
        for link in &mut links {
            let now = heard.map(|heard| &heard.now);
            let mut now = now.into_iter().flatten();
            let now = now.find(|now| now.instance_id == link.instance_id);
            link.lag_ms = now.and_then(|now| now.lag_ms);
            link.since = now.map_or(link.since, |now| now.since);
        }
        Observation {
            for_revision: edge.for_revision,
            status: edge.status.clone(),
            links,
            as_of: heard.map_or(edge.as_of, |heard| heard.as_of.max(edge.as_of)),
            heard: heard.is_some_and(|heard| heard.has_said(edge)),
        }
    }
}

impl App {
    /// A session of this member begins: it says everything once more, and until then nothing counts as heard.
    pub fn hear_anew(&self, uid: ClusterUid) {
        self.observations.lock().remove(&uid);
    }

    /// These objects of this member are gone.
    pub fn forget_observed(&self, uid: ClusterUid, gone: impl Iterator<Item = ObjectId>) {
        let mut heard = self.observations.lock();
        if let Some(of_member) = heard.get_mut(&uid) {
            for object in gone {
                of_member.remove(&object);
            }
        }
    }

    /// How much was heard, and how much of it was stored.
    #[must_use]
    pub fn observations(&self) -> Counts {
        let Observations { told, edges, .. } = &self.observations;
        Counts {
            heard: told.load(Ordering::Relaxed),
            stored: edges.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
