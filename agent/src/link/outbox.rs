//! What waits to be sent to the hub: the newest of each object, never a queue. Shared by those who observe and the
//! session that sends; time comes in as an argument.
//!
//! A change of meaning (a condition, a link's state) goes out at once. What only moves with time (lag, `asOf`) is
//! collected and goes out after a random 5 to 30 s, so that a fleet does not speak in step. A new session starts from
//! nothing: everything is sent once more, because of observations the hub stores the edges only and has the rest in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use meridian_api::link::{
    meaning::lasting,
    proto::{self, agent_frame::Frame},
};
use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

use super::identity::Trust;

/// Shortest and longest wait of a change that only moves with time.
const COALESCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// The shared outbox. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    outcomes: BTreeMap<String, Slot<proto::Outcome>>,
    statuses: BTreeMap<String, Status>,
    recs: Option<Slot<proto::RecInventory>>,
    intents: BTreeMap<String, Slot<proto::LocalIntent>>,
    pages: VecDeque<proto::InventoryPage>,
    next_seq: u64,
}

#[derive(Debug)]
struct Slot<T> {
    value: T,
    sent: bool,
}

#[derive(Debug)]
struct Status {
    delta: proto::StatusDelta,
    meaning: Value,
    sent_meaning: Option<Value>,
    due: Option<Instant>,
}

impl Outbox {
    /// Wakes when something may have become due.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes what became of an order. The newest per object waits until the hub has it durably.
    pub fn outcome(&self, outcome: proto::Outcome) {
        let mut state = self.lock();
        let known = state.outcomes.get(&outcome.object_id);
        if known.is_some_and(|slot| slot.value == outcome) {
            return;
        }
        state.outcomes.insert(
            outcome.object_id.clone(),
            Slot {
                value: outcome,
                sent: false,
            },
        );
        drop(state);
        self.changed.notify_one();
    }

    /// Outcomes that the hub may not have, for Hello.
    #[must_use]
    pub fn pending_outcomes(&self) -> Vec<proto::Outcome> {
        self.lock()
            .outcomes
            .values()
            .map(|slot| slot.value.clone())
            .collect()
    }

    /// The hub has all outcomes up to `revision` durably.
    pub fn outcomes_durable(&self, revision: u64) {
        self.lock()
            .outcomes
            .retain(|_, slot| slot.value.revision > revision || !slot.sent);
    }

    /// Notes the status of an object, seen at `now`. `unit` in `[0, 1)` spreads what may wait.
    pub fn status(&self, mut delta: proto::StatusDelta, now: Instant, unit: f64) {
        let meaning = meaning_of(&delta);
        let mut state = self.lock();
        state.next_seq += 1;
        delta.status_seq = state.next_seq;
        let later = now + COALESCE.0 + (COALESCE.1 - COALESCE.0).mul_f64(unit.clamp(0.0, 1.0));
        let object_id = delta.object_id.clone();
        let due = match state.statuses.get(&object_id) {
            Some(known) if same_report(&known.delta, &delta) => return,
            Some(known) if known.sent_meaning.as_ref() == Some(&meaning) => {
                Some(known.due.unwrap_or(later))
            }
            Some(_) | None => Some(now),
        };
        let sent_meaning = state
            .statuses
            .get(&object_id)
            .and_then(|known| known.sent_meaning.clone());
        state.statuses.insert(
            object_id,
            Status {
                delta,
                meaning,
                sent_meaning,
                due,
            },
        );
        drop(state);
        self.changed.notify_one();
    }

    /// The object is gone: nothing more is said about it.
    pub fn forget_status(&self, object_id: &str) {
        self.lock().statuses.remove(object_id);
    }

    /// Notes the cluster resources that exist, and the roots that are trusted.
    pub fn recs(&self, recs: Vec<proto::Rec>, trust: &Trust, as_of_wall_ms: i64) {
        let mut state = self.lock();
        let (trust_version, trust_digest) = (trust.version, trust.digest());
        if state.recs.as_ref().is_some_and(|slot| {
            let known = &slot.value;
            known.recs == recs
                && known.trust_version == trust_version
                && known.trust_digest == trust_digest
        }) {
            return;
        }
        state.next_seq += 1;
        let value = proto::RecInventory {
            recs,
            seq: state.next_seq,
            as_of_wall_ms,
            trust_version,
            trust_digest: trust_digest.into(),
        };
        state.recs = Some(Slot { value, sent: false });
        drop(state);
        self.changed.notify_one();
    }

    /// Notes a local wish; it is repeated in each session until it is answered.
    pub fn intent(&self, intent: proto::LocalIntent) {
        let mut state = self.lock();
        if state
            .intents
            .get(&intent.intent_id)
            .is_some_and(|slot| slot.value == intent)
        {
            return;
        }
        state.intents.insert(
            intent.intent_id.clone(),
            Slot {
                value: intent,
                sent: false,
            },
        );
        drop(state);
        self.changed.notify_one();
    }

    /// The hub answered a wish: it is taken out and returned.
    pub fn answered(&self, intent_id: &str) -> Option<proto::LocalIntent> {
        self.lock().intents.remove(intent_id).map(|slot| slot.value)
    }

    /// Adds inventory pages, which go out in their order.
    pub fn pages(&self, pages: Vec<proto::InventoryPage>) {
        self.lock().pages.extend(pages);
        self.changed.notify_one();
    }

    /// A session begins: everything that the hub keeps in memory is sent once more.
    pub fn rewind(&self) {
        let mut state = self.lock();
        state.pages.clear();
        let recs = state.recs.iter_mut().map(|slot| &mut slot.sent);
        recs.for_each(|sent| *sent = false);
        state
            .intents
            .values_mut()
            .for_each(|slot| slot.sent = false);
        state
            .outcomes
            .values_mut()
            .for_each(|slot| slot.sent = false);
        for status in state.statuses.values_mut() {
            status.sent_meaning = None;
            // Not before now: an instant of the past is due.
            status.due.get_or_insert_with(Instant::now);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The outcomes went with Hello.
    pub fn outcomes_sent(&self) {
        self.lock()
            .outcomes
            .values_mut()
            .for_each(|slot| slot.sent = true);
    }

    /// Another store is followed from now on: what became of orders of the one before is no news to it, and their revisions
    /// would be taken for its own.
    pub fn forget_outcomes(&self) {
        self.lock().outcomes.clear();
    }

    /// The next frame that is due at `now`, marked as sent. What matters most comes first.
    pub fn next(&self, now: Instant) -> Option<Frame> {
        let mut state = self.lock();
        if let Some(slot) = state.outcomes.values_mut().find(|slot| !slot.sent) {
            slot.sent = true;
            return Some(Frame::Outcome(slot.value.clone()));
        }
        if let Some(slot) = state.recs.as_mut().filter(|slot| !slot.sent) {
            slot.sent = true;
            return Some(Frame::Recs(slot.value.clone()));
        }
        if let Some(slot) = state.intents.values_mut().find(|slot| !slot.sent) {
            slot.sent = true;
            return Some(Frame::LocalIntent(slot.value.clone()));
        }
        if let Some(page) = state.pages.pop_front() {
            return Some(Frame::Inventory(page));
        }
        let due = state
            .statuses
            .values_mut()
            .find(|status| status.due.is_some_and(|due| due <= now))?;
        due.due = None;
        due.sent_meaning = Some(due.meaning.clone());
        let delta = due.delta.clone();
        Some(Frame::Status(delta))
    }

    /// When the next report becomes due that is not due yet.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let state = self.lock();
        state
            .statuses
            .values()
            .filter_map(|status| status.due)
            .min()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two reports of one object say the same, down to the lag.
fn same_report(a: &proto::StatusDelta, b: &proto::StatusDelta) -> bool {
    a.status == b.status
        && a.links == b.links
        && a.for_revision == b.for_revision
        && a.kube_uid == b.kube_uid
}

/// What a report means, without what only moves with time.
fn meaning_of(delta: &proto::StatusDelta) -> Value {
    let status = serde_json::from_slice(&delta.status).unwrap_or(Value::Null);
    let status = lasting(status);
    let links: Vec<_> = delta
        .links
        .iter()
        .map(|link| (link.instance_id, &link.name, &link.state, &link.last_error))
        .collect();
    serde_json::json!({ "status": status, "links": links, "revision": delta.for_revision, "uid": delta.kube_uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(id: &str, status: &str) -> proto::StatusDelta {
        proto::StatusDelta {
            object_id: id.to_owned(),
            status: status.to_owned().into(),
            ..Default::default()
        }
    }

    fn drain(outbox: &Outbox, now: Instant) -> Vec<Frame> {
        std::iter::from_fn(|| outbox.next(now)).collect()
    }

    #[test]
    fn a_change_of_meaning_goes_out_at_once_and_only_the_newest() {
        let (outbox, now) = (Outbox::default(), Instant::now());
        outbox.status(delta("a", r#"{"status":"pending"}"#), now, 0.0);
        outbox.status(delta("a", r#"{"status":"active"}"#), now, 0.0);
        let frames = drain(&outbox, now);
        assert!(
            matches!(frames.as_slice(), [Frame::Status(d)] if d.status == r#"{"status":"active"}"# && d.status_seq == 2),
            "{frames:?}"
        );
        assert!(drain(&outbox, now + Duration::from_secs(3600)).is_empty());
    }

    #[test]
    fn what_only_moves_with_time_waits_and_is_collected() {
        let (outbox, now) = (Outbox::default(), Instant::now());
        outbox.status(delta("a", r#"{"s":1,"lagMs":1}"#), now, 0.0);
        assert_eq!(drain(&outbox, now).len(), 1);
        for lag in 2..9 {
            outbox.status(delta("a", &format!(r#"{{"s":1,"lagMs":{lag}}}"#)), now, 0.5);
        }
        assert!(drain(&outbox, now + Duration::from_secs(17)).is_empty());
        let due = now + Duration::from_millis(17_500);
        assert_eq!(outbox.next_due(), Some(due));
        let frames = drain(&outbox, due);
        assert!(
            matches!(frames.as_slice(), [Frame::Status(d)] if d.status == r#"{"s":1,"lagMs":8}"#),
            "{frames:?}"
        );
        outbox.status(delta("a", r#"{"s":2,"lagMs":9}"#), due, 0.9);
        assert_eq!(drain(&outbox, due).len(), 1, "an edge does not wait");
    }

    #[test]
    fn an_unchanged_report_is_not_sent_again() {
        let (outbox, now) = (Outbox::default(), Instant::now());
        outbox.status(delta("a", r#"{"s":1}"#), now, 0.0);
        drain(&outbox, now);
        outbox.status(delta("a", r#"{"s":1}"#), now, 0.0);
        assert!(drain(&outbox, now + Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn a_new_session_is_told_everything_once_more() {
        let (outbox, now) = (Outbox::default(), Instant::now());
        outbox.status(delta("a", r#"{"s":1}"#), now, 0.0);
        outbox.recs(vec![proto::Rec::default()], &Trust::default(), 1);
        outbox.intent(proto::LocalIntent {
            intent_id: "i".to_owned(),
            ..Default::default()
        });
        assert_eq!(drain(&outbox, now).len(), 3);
        outbox.rewind();
        assert_eq!(drain(&outbox, Instant::now()).len(), 3);
        assert!(outbox.answered("i").is_some());
        outbox.rewind();
        assert_eq!(
            drain(&outbox, Instant::now()).len(),
            2,
            "an answered wish is not repeated"
        );
    }

    #[test]
    fn an_outcome_is_kept_until_the_hub_has_it_durably() {
        let (outbox, now) = (Outbox::default(), Instant::now());
        let outcome = |revision| proto::Outcome {
            object_id: "a".to_owned(),
            revision,
            ..Default::default()
        };
        outbox.outcome(outcome(4));
        outbox.outcomes_durable(9);
        assert_eq!(
            outbox.pending_outcomes().len(),
            1,
            "the hub cannot mean what was never sent"
        );
        assert_eq!(drain(&outbox, now).len(), 1);
        outbox.outcomes_durable(3);
        assert_eq!(outbox.pending_outcomes().len(), 1);
        outbox.outcomes_durable(4);
        assert!(outbox.pending_outcomes().is_empty());
    }

    #[test]
    fn a_hub_that_takes_nothing_costs_one_report_for_each_object_however_many_there_were() {
        const OBJECTS: usize = 100;
        let (outbox, now) = (Outbox::default(), Instant::now());
        for n in 0..100_000 {
            let id = format!("object-{}", n % OBJECTS);
            let status = format!(r#"{{"s":{n},"text":"{}"}}"#, "x".repeat(200));
            outbox.status(delta(&id, &status), now, 0.0);
            outbox.outcome(proto::Outcome {
                object_id: id,
                revision: n as u64,
                ..Default::default()
            });
        }
        let (mut objects, mut bytes) = (0, 0);
        for frame in drain(&outbox, now) {
            objects += 1;
            if let Frame::Status(delta) = frame {
                bytes += delta.status.len();
            }
        }
        assert_eq!(objects, 2 * OBJECTS);
        assert!(bytes < OBJECTS * 300, "{bytes}");
        let state = outbox.lock();
        assert_eq!(
            (state.statuses.len(), state.outcomes.len()),
            (OBJECTS, OBJECTS)
        );
    }
}
