//! What a session still has to tell its member: a set of objects, not a queue of messages. The body is read when it is
//! sent, so the newest wins and an absent or slow member costs no more than its set.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meridian_api::ids::{ObjectId, Revision};
use tokio::sync::Notify;

/// The set, and up to which revision it is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Objects with a state that was not sent yet.
    pub objects: BTreeSet<ObjectId>,
    /// Every change up to here was sent or is in `objects`.
    pub complete_to: Revision,
    /// The member is to hear how far it is, even if there is nothing to send.
    pub concludes: bool,
}

/// The shared part between the deliver task, which marks, and the session, which takes.
#[derive(Debug, Default)]
pub struct Outbox {
    pending: Mutex<Pending>,
    marked: Notify,
    reconsidered: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects that are not sent yet.
    pub(super) fn waiting(&self) -> usize {
        self.lock().objects.len()
    }

    /// Adds objects whose changes are complete up to the revision.
    pub fn mark(&self, objects: impl IntoIterator<Item = ObjectId>, complete_to: Revision) {
        let mut pending = self.lock();
        pending.objects.extend(objects);
        pending.complete_to = pending.complete_to.max(complete_to);
        drop(pending);
        self.marked.notify_one();
    }

    /// Waits until something is marked and takes at most `limit` objects. What is taken is complete up to the returned
    /// revision only if nothing was left behind, which the second value says.
    pub async fn take(&self, limit: usize) -> (Pending, bool) {
        loop {
            let marked = self.marked.notified();
            if let Some(taken) = self.take_now(limit) {
                return taken;
            }
            marked.await;
        }
    }

    /// Lets the member hear how far it is, after all that is marked.
    pub fn conclude(&self) {
        self.lock().concludes = true;
        self.marked.notify_one();
    }

    /// Lets the session look again at what it may not tell.
    pub fn reconsider(&self) {
        self.reconsidered.notify_one();
    }

    /// Waits until there is reason to look again.
    pub async fn reconsidered(&self) {
        self.reconsidered.notified().await;
    }

    fn take_now(&self, limit: usize) -> Option<(Pending, bool)> {
        let mut pending = self.lock();
        if pending.objects.is_empty() && !pending.concludes {
            return None;
        }
        let rest = pending.objects.iter().nth(limit).copied();
        let left = rest.map_or_else(BTreeSet::new, |first| pending.objects.split_off(&first));
        let whole = left.is_empty();
        let concludes = whole && std::mem::take(&mut pending.concludes);
        let taken = std::mem::replace(&mut pending.objects, left);
        if !whole {
            // Somebody has to come back for the rest.
            self.marked.notify_one();
        }
        Some((
            Pending {
                objects: taken,
                complete_to: pending.complete_to,
                concludes,
            },
            whole,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ObjectId {
        format!("00000000-0000-4000-8000-0000000000{n:02x}")
            .parse()
            .unwrap()
    }

    #[tokio::test]
    async fn an_object_marked_often_is_taken_once() {
        let outbox = Outbox::default();
        for revision in 1..=1000 {
            outbox.mark([id(1)], Revision(revision));
        }
        let (pending, whole) = outbox.take(10).await;
        assert_eq!(
            (pending.objects.len(), pending.complete_to, whole),
            (1, Revision(1000), true)
        );
        assert_eq!(outbox.take_now(10), None);
    }

    #[tokio::test]
    async fn what_exceeds_the_limit_is_left_and_the_taker_is_told() {
        let outbox = Outbox::default();
        outbox.mark((1..=3).map(id), Revision(5));
        let (first, whole) = outbox.take(2).await;
        assert_eq!(
            (first.objects, whole),
            (BTreeSet::from([id(1), id(2)]), false)
        );
        let (second, whole) = outbox.take(2).await;
        assert_eq!((second.objects, whole), (BTreeSet::from([id(3)]), true));
    }

    #[tokio::test]
    async fn a_taker_that_waits_is_woken() {
        let outbox = Outbox::default();
        let (taken, ()) = tokio::join!(outbox.take(1), async { outbox.mark([id(9)], Revision(1)) });
        assert_eq!(taken.0.objects, BTreeSet::from([id(9)]));
    }
}
