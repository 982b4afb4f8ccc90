//! Which sessions stand: at most one per member. A newer one, by its epoch, replaces an older one in one step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, ObjectId, Revision};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use crate::domain::breaker::Scope;
use crate::domain::comeback::{self, AT_ONCE};
use crate::domain::denial::Speaker;

/// The sessions of this hub. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    live: Mutex<BTreeMap<ClusterUid, Live>>,
    /// Members that may come, whether they have a session or not.
    members: AtomicUsize,
    /// Slots that were given to members that are sent away.
    slots: AtomicU32,
    /// Places for Hellos that are being looked into.
    places: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            members: AtomicUsize::new(0),
            slots: AtomicU32::new(0),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

#[derive(Debug)]
struct Live {
    epoch: u64,
    superseded: CancellationToken,
    revoked: CancellationToken,
    speaker: Speaker,
    outbox: Arc<Outbox>,
    heard_at: Timestamp,
}

/// A session's place among the others; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    sessions: Sessions,
    cluster: ClusterUid,
    epoch: u64,
    /// Cancelled when a newer session of the same member takes over.
    pub superseded: CancellationToken,
    /// Cancelled when the member, or its certificate, is let in no more.
    pub revoked: CancellationToken,
    /// What is to be sent.
    pub outbox: Arc<Outbox>,
}

/// A newer session of the same member stands already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a newer session (epoch {newer}) of this cluster stands already")]
pub struct Superseded {
    /// Epoch of the newer session.
    pub newer: u64,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterUid, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how many members there are.
    pub fn expect(&self, members: usize) {
        self.0.members.store(members, Ordering::Relaxed);
    }

    /// Members that may come: those that are registered, and at least those that are there.
    #[must_use]
    pub fn expected(&self) -> usize {
        let registered = self.0.members.load(Ordering::Relaxed);
        registered.max(self.lock().len())
    }

    /// When the next member that is sent away comes back: to each its own time.
    #[must_use]
    pub fn slot(&self) -> Duration {
        comeback::slot(self.0.slots.fetch_add(1, Ordering::Relaxed))
    }

    /// A place in which a Hello or a join is looked into, until it is dropped.
    ///
    /// # Errors
    /// When to come again, if all places are taken.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Duration> {
        let places = Arc::clone(&self.0.places);
        let later = |_| comeback::pushback(self.expected(), rand::random());
        places.try_acquire_owned().map_err(later)
    }

    /// Takes the member's place if no session of an equal or higher epoch has it, and ends the one that had it.
    ///
    /// # Errors
    /// [`Superseded`].
    pub fn take_seat(
        &self,
        speaker: Speaker,
        epoch: u64,
        now: Timestamp,
    ) -> Result<Seat, Superseded> {
        let cluster = speaker.cluster;
        let mut sessions = self.lock();
        if let Some(live) = sessions.get(&cluster).filter(|live| live.epoch >= epoch) {
            return Err(Superseded { newer: live.epoch });
        }
        let (superseded, revoked, outbox) = (
            CancellationToken::new(),
            CancellationToken::new(),
            Arc::default(),
        );
        let seat = Seat {
            sessions: self.clone(),
            cluster,
            epoch,
            superseded: superseded.clone(),
            revoked: revoked.clone(),
            outbox: Arc::clone(&outbox),
        };
        if let Some(old) = sessions.insert(
            cluster,
            Live {
                epoch,
                superseded,
                revoked,
                speaker,
                outbox,
                heard_at: now,
            },
        ) {
            old.superseded.cancel();
        }
        Ok(seat)
    }

    /// Tells the member's session, if it has one, that objects changed.
    pub fn mark(
        &self,
        cluster: ClusterUid,
        objects: impl IntoIterator<Item = ObjectId>,
        complete_to: Revision,
    ) {
        if let Some(live) = self.lock().get(&cluster) {
            live.outbox.mark(objects, complete_to);
        }
    }

    /// Objects that wait to be told to a member.
    #[cfg(test)]
    pub(crate) fn waiting(&self, cluster: ClusterUid) -> usize {
        let sessions = self.lock();
        sessions
            .get(&cluster)
            .map_or(0, |live| live.outbox.waiting())
    }

    /// Lets the member's session, or every session, look again at what it may not tell.
    pub fn reconsider(&self, scope: Scope) {
        let sessions = self.lock();
        let all = sessions.iter();
        for (cluster, live) in all {
            if scope == Scope::Fleet || scope == Scope::Cluster(*cluster) {
                live.outbox.reconsider();
            }
        }
    }

    /// Ends the member's session because the member, or its certificate, is let in no more.
    pub fn revoke(&self, cluster: ClusterUid) {
        if let Some(live) = self.lock().get(&cluster) {
            live.revoked.cancel();
        }
    }

    /// Who has a session, by which certificate.
    #[must_use]
    pub fn speakers(&self) -> Vec<Speaker> {
        self.lock()
            .values()
            .map(|live| live.speaker.clone())
            .collect()
    }

    /// When the member was heard last, if it has a session.
    #[must_use]
    pub fn heard_at(&self, cluster: ClusterUid) -> Option<Timestamp> {
        self.lock().get(&cluster).map(|live| live.heard_at)
    }

    /// Members that have a session.
    #[must_use]
    pub fn connected(&self) -> Vec<ClusterUid> {
        self.lock().keys().copied().collect()
    }
}

impl Seat {
    /// Notes that the member was heard.
    pub fn heard(&self, now: Timestamp) {
        if let Some(live) = self
            .sessions
            .lock()
            .get_mut(&self.cluster)
            .filter(|live| live.epoch == self.epoch)
        {
            live.heard_at = now;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sessions = self.sessions.lock();
        if sessions
            .get(&self.cluster)
            .is_some_and(|live| live.epoch == self.epoch)
        {
            sessions.remove(&self.cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::denial::Serial;

    fn cluster() -> ClusterUid {
        "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11".parse().unwrap()
    }

    fn speaker() -> Speaker {
        Speaker {
            cluster: cluster(),
            root: String::new(),
            serial: Serial::of(&[1]),
            ends_at: Timestamp::MAX,
        }
    }

    #[test]
    fn the_newer_session_wins_and_the_older_is_told() {
        let sessions = Sessions::default();
        let old = sessions
            .take_seat(speaker(), 1, Timestamp::UNIX_EPOCH)
            .unwrap();
        let new = sessions
            .take_seat(speaker(), 2, Timestamp::UNIX_EPOCH)
            .unwrap();
        assert!(old.superseded.is_cancelled() && !new.superseded.is_cancelled());
    }

    #[test]
    fn an_older_session_that_comes_late_is_refused() {
        let sessions = Sessions::default();
        let new = sessions
            .take_seat(speaker(), 2, Timestamp::UNIX_EPOCH)
            .unwrap();
        let late = sessions
            .take_seat(speaker(), 1, Timestamp::UNIX_EPOCH)
            .unwrap_err();
        assert_eq!(late, Superseded { newer: 2 });
        assert!(!new.superseded.is_cancelled());
    }

    #[test]
    fn a_superseded_session_that_ends_leaves_the_newer_in_its_seat() {
        let sessions = Sessions::default();
        let old = sessions
            .take_seat(speaker(), 1, Timestamp::UNIX_EPOCH)
            .unwrap();
        let new = sessions
            .take_seat(speaker(), 2, Timestamp::UNIX_EPOCH)
            .unwrap();
        drop(old);
        assert_eq!(sessions.connected(), [cluster()]);
        drop(new);
        assert!(sessions.connected().is_empty());
    }
}
