//! What a session says: heartbeats, and desired state in batches of which only a few may be unacknowledged.

use std::collections::{BTreeMap, BTreeSet};

use futures::Stream;
use meridian_api::ids::{ObjectId, Revision};
use meridian_api::link::proto::hub_frame::Frame;
use meridian_api::link::{codes, proto};
use tokio::time::timeout;
use tonic::Status;

use super::super::outbox::Pending;
use super::super::sessions::Standing;
use super::super::wire;
use super::end::millis;
use super::{End, Session, road};
use crate::app::AppError;
use crate::app::members::Admission;
use crate::app::reports::Report;
use crate::domain::comeback;
use crate::domain::desired::Desired;
use crate::store::records::{Held, OutcomeKind, StoredOutcome};

/// Objects in one batch.
pub(super) const BATCH: usize = 64;
/// Batches that may be unacknowledged. With [`BATCH`] it bounds what a slow member costs.
const WINDOW: usize = 4;
/// Largest frame that the hub sends, well below what gRPC accepts by default (4 MiB).
const FRAME_BYTES: usize = 1024 * 1024;

/// Batches that were sent and are not durable on the member yet.
#[derive(Debug, Default)]
pub(super) struct Window {
    unacknowledged: BTreeMap<u64, Revision>,
    seq: u64,
    /// Revision that the last batch reached: what the next one follows on.
    reached: Revision,
    /// Whether the last batch left nothing behind.
    whole: bool,
}

impl Window {
    pub(super) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Batches that may be sent before one is acknowledged.
    fn room(&self) -> usize {
        WINDOW.saturating_sub(self.unacknowledged.len())
    }

    pub(super) fn acknowledged_to(&mut self, revision: Revision) {
        self.reached = revision;
    }

    /// Batches are acknowledged in order: one that is durable says so for those before it.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        self.unacknowledged
            .retain(|unacknowledged, _| *unacknowledged > seq);
    }

    /// Whether all that was marked has been sent and is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.unacknowledged.is_empty() && self.whole
    }

    /// Number and predecessor of the next batch.
    fn send(&mut self, upto: Revision) -> (u64, Revision) {
        self.seq += 1;
        let previous = self.reached;
        self.reached = self.reached.max(upto);
        self.unacknowledged.insert(self.seq, upto);
        (self.seq, previous)
    }
}

impl<In> Session<In>
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    pub(super) fn welcome_frame(
        &self,
        proto: u32,
        admission: &Admission,
        mode: proto::SyncMode,
        head: Revision,
        reason: String,
    ) -> proto::Welcome {
        let timing = self.context.timing;
        let members = self.context.sessions.expected();
        proto::Welcome {
            proto,
            session_id: format!("{}-{}", self.reign.term, self.epoch),
            session_epoch: self.epoch,
            head: Some(wire::store_position(self.reign, head)),
            mode: mode.into(),
            beat_ms: millis(timing.beat),
            idle_ms: millis(timing.idle),
            reconnect: Some(proto::Reconnect {
                spread_ms: millis(comeback::spread(members)),
                cap_ms: millis(comeback::cap(members)),
            }),
            limits: Some(proto::Limits {
                frame_bytes: u32::try_from(FRAME_BYTES).unwrap_or(u32::MAX),
                objects_in_flight: u32::try_from(BATCH * WINDOW).unwrap_or(u32::MAX),
                bytes_in_flight: (FRAME_BYTES * WINDOW) as u64,
            }),
            wall_ms: self.context.app.now().as_millisecond(),
            cluster_name: admission.cluster.name.clone(),
            reason,
            freeze: None,
        }
    }

    /// The monotonic clock of this session, from 1 on: 0 stands for "no echo yet".
    pub(super) fn mono_ms(&self) -> i64 {
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        since.saturating_add(1)
    }

    /// Hands a frame to the network; one that nobody takes within the idle time ends the session.
    pub(super) async fn send(&mut self, frame: Frame) -> Result<(), End> {
        let frame = proto::HubFrame { frame: Some(frame) };
        match timeout(self.context.timing.idle, self.outgoing.send(Ok(frame))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left("its stream was closed".to_owned())),
            Err(_) => Err(End::Deaf),
        }
    }

    pub(super) async fn beat(&mut self) -> Result<(), End> {
        let beat = proto::Beat {
            applied_upto_revision: 0,
            outcomes_durable_upto: self.outcomes_to,
            mono_ms: self.mono_ms(),
            wall_ms: self.context.app.now().as_millisecond(),
            echo_mono_ms: self.echo,
            echo_held_ms: i64::try_from(self.echo_at.elapsed().as_millis()).unwrap_or(i64::MAX),
        };
        self.send(Frame::Beat(beat)).await
    }

    /// Sends the newest state of the objects, as far as there is room; the others are marked again. Only the last frame of a
    /// whole set says how far the member now is.
    pub(super) async fn apply(&mut self, pending: Pending, whole: bool) -> Result<(), End> {
        let wanted = self
            .context
            .app
            .desired_objects(self.cluster, &pending.objects)
            .await
            .map_err(AppError::from)?;
        let there: BTreeSet<_> = wanted.iter().map(|held| held.record.object_id).collect();
        let gone = pending.objects.difference(&there).copied();
        self.context.app.forget_observed(self.cluster, gone);
        let wanted = self.without_withheld(wanted).await?;
        let wanted = self.understood(wanted).await?;
        let ordered = in_order(&wanted);
        let mut frames = split(&ordered);
        frames.truncate(self.window.room().max(1));
        let sent = frames.iter().map(Vec::len).sum();
        for held in ordered.iter().take(sent) {
            road::told(self.cluster, held);
            self.unanswered.told(held);
        }
        let whole = whole && sent == ordered.len();
        if sent < ordered.len() {
            let left = ordered.iter().skip(sent);
            let left = left.map(|held| held.record.object_id);
            self.seat.outbox.mark(left, pending.complete_to);
        }
        if pending.concludes && sent < ordered.len() {
            self.seat.outbox.conclude();
        }
        if frames.is_empty() && pending.concludes {
            frames.push(Vec::new());
        }
        if frames.is_empty() {
            // Every object of the set was dropped since it was marked: there is nothing to say.
            return Ok(());
        }
        // A member of which buckets are still open lacks what nobody has marked yet.
        let whole = whole && self.comparing.is_none();
        self.window.whole = whole;
        let last = frames.len() - 1;
        for (i, items) in frames.drain(..).enumerate() {
            let upto = if whole && i == last {
                pending.complete_to
            } else {
                self.window.reached
            };
            let (seq, previous) = self.window.send(upto);
            let upto = wire::store_position(self.reign, upto.max(previous));
            self.send(Frame::Apply(proto::Apply {
                seq,
                upto: Some(upto),
                prev_revision: previous.0,
                items,
            }))
            .await?;
        }
        self.stands();
        Ok(())
    }

    /// Shows how far the session is.
    pub(super) fn stands(&self) {
        self.seat.stands(Standing {
            sent_to: self.window.reached,
            unacknowledged: self.window.unacknowledged.len(),
            room: self.window.room(),
            unanswered: self.unanswered.len(),
            answered_to: self.outcomes_to,
            observes: self.observing,
        });
    }
}

impl<In> Session<In>
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    /// Without what the agent is too old for, which is noted as its outcome: the next session tries again.
    async fn understood(&self, wanted: Vec<Held<Desired>>) -> Result<Vec<Held<Desired>>, End> {
        let known = |held: &Held<Desired>| self.abilities.applies(&held.record.kind);
        let (told, beyond): (Vec<_>, Vec<_>) = wanted.into_iter().partition(known);
        if beyond.is_empty() || self.observing {
            return Ok(told);
        }
        let app = &self.context.app;
        let noted = beyond.iter().map(|held| {
            let outcome = StoredOutcome {
                revision: held.modified,
                result: OutcomeKind::Deferred,
                code: codes::AGENT_TOO_OLD.to_owned(),
                message: format!(
                    "the agent does not know the kind {}, so it was not told of it: upgrade the agent",
                    held.record.kind
                ),
                as_of: app.now(),
            };
            (held.record.object_id, Report::Outcome(outcome))
        });
        let noted: Vec<_> = noted.collect();
        app.report(self.cluster, &noted).await?;
        Ok(told)
    }
}

/// Tells a member that a person lets it follow this hub's store.
pub(super) fn adoption(approval: &str) -> Frame {
    Frame::Confirm(proto::Confirm {
        object_id: String::new(),
        action: proto::ConfirmAction::Adopt.into(),
        approval: approval.to_owned(),
        intent_id: String::new(),
        message: "the store of the hub changed, and a person lets its members follow".to_owned(),
        revision: 0,
    })
}

/// Objects after those that they wait for. A circle, which the planner's check refuses, is sent as it is.
fn in_order(wanted: &[Held<Desired>]) -> Vec<&Held<Desired>> {
    let mut waiting: Vec<_> = wanted.iter().collect();
    let mut ordered: Vec<&Held<Desired>> = Vec::with_capacity(waiting.len());
    loop {
        let missing: BTreeSet<ObjectId> =
            waiting.iter().map(|held| held.record.object_id).collect();
        let (ready, rest): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|held| !held.record.after.iter().any(|id| missing.contains(id)));
        let stuck = ready.is_empty();
        ordered.extend(ready);
        if rest.is_empty() || stuck {
            ordered.extend(rest);
            return ordered;
        }
        waiting = rest;
    }
}

/// Frames below [`FRAME_BYTES`]; an object that alone is larger gets one of its own.
fn split(wanted: &[&Held<Desired>]) -> Vec<Vec<proto::Item>> {
    let mut frames: Vec<Vec<proto::Item>> = Vec::new();
    let mut bytes = 0;
    for held in wanted {
        let item = wire::item(held);
        // Names and numbers of an item stay below a kilobyte.
        let size = item.body.len() + 1024;
        match frames.last_mut() {
            Some(frame) if bytes + size <= FRAME_BYTES => frame.push(item),
            _ => {
                frames.push(vec![item]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    frames
}
