//! Which sessions stand: at most one per member. A newer one, by its epoch, replaces an older one in one step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use meridian_api::ids::{ClusterUid, ObjectId, Revision};
use prometheus_client::metrics::histogram::Histogram;
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
    /// How long members take, seconds.
    deliveries: OnceLock<Histogram>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            members: AtomicUsize::new(0),
            slots: AtomicU32::new(0),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            deliveries: OnceLock::new(),
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
    standing: Arc<Mutex<Standing>>,
    since: Timestamp,
    heard_at: Timestamp,
}

/// How far a session is, as it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Revision up to which the member has been sent everything.
    pub sent_to: Revision,
    /// Batches that were sent and are not acknowledged.
    pub unacknowledged: usize,
    /// Batches that may be sent before one is acknowledged.
    pub room: usize,
    /// Objects that were sent and of which no outcome has come.
    pub unanswered: usize,
    /// Highest revision whose outcome is stored.
    pub answered_to: u64,
    /// Whether the hub only observes the member.
    pub observes: bool,
}

/// One session, for people.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The member.
    pub cluster: ClusterUid,
    /// Rises with each session of the member.
    pub epoch: u64,
    /// Since when it stands.
    pub since: Timestamp,
    /// When the member was heard last.
    pub heard_at: Timestamp,
    /// When the certificate of the session ends.
    pub certificate_ends: Timestamp,
    /// Objects that changed and are not sent yet.
    pub waiting: usize,
    /// How far it is.
    pub standing: Standing,
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
    standing: Arc<Mutex<Standing>>,
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

    /// Sessions that measure how long members take, from being told an object to saying that it stands so.
    #[must_use]
    pub fn measured(deliveries: Histogram) -> Self {
        let sessions = Self::default();
        // It was made above, so nothing is there yet.
        let _ = sessions.0.deliveries.set(deliveries);
        sessions
    }

    /// A member took so long.
    pub fn delivered(&self, took: Duration) {
        if let Some(deliveries) = self.0.deliveries.get() {
            deliveries.observe(took.as_secs_f64());
        }
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
        let (superseded, revoked) = (CancellationToken::new(), CancellationToken::new());
        let (outbox, standing) = (Arc::default(), Arc::default());
        let seat = Seat {
            sessions: self.clone(),
            cluster,
            epoch,
            superseded: superseded.clone(),
            revoked: revoked.clone(),
            outbox: Arc::clone(&outbox),
            standing: Arc::clone(&standing),
        };
        if let Some(old) = sessions.insert(
            cluster,
            Live {
                epoch,
                superseded,
                revoked,
                speaker,
                outbox,
                standing,
                since: now,
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

    /// Every session, for people.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let sessions = self.lock();
        let shown = sessions.iter().map(|(cluster, live)| Shown {
            cluster: *cluster,
            epoch: live.epoch,
            since: live.since,
            heard_at: live.heard_at,
            certificate_ends: live.speaker.ends_at,
            waiting: live.outbox.waiting(),
            standing: locked(&live.standing).clone(),
        });
        shown.collect()
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

fn locked(standing: &Mutex<Standing>) -> MutexGuard<'_, Standing> {
    standing.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Notes how far the session is.
    pub fn stands(&self, standing: Standing) {
        *locked(&self.standing) = standing;
    }

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
