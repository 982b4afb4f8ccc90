//! What a session hears. What it has read is stored before more is read, so a slow store slows the agent down instead of
//! filling memory; reports that have come meanwhile are stored together.

use std::sync::Arc;

use futures::{FutureExt as _, Stream, StreamExt as _};
use meridian_api::ids::{ObjectId, Revision};
use meridian_api::link::clock::Skew;
use meridian_api::link::proto::agent_frame::Frame as FromAgent;
use meridian_api::link::proto::hub_frame::Frame;
use meridian_api::link::{codes, proto};
use prost::Message as _;
use tokio::time::Instant;
use tonic::Status;

use super::super::wire;
use super::{End, Session, road};
use crate::app::AppError;
use crate::app::databases::LocalWish;
use crate::app::members::Verdict;
use crate::app::reign::Reported;
use crate::app::reports::{self, Report};
use crate::store::records::OutcomeKind;

/// Bytes of reports after which no further one is read before they are stored.
const TOGETHER_BYTES: usize = 256 * 1024;

/// What became of reading a frame.
enum Heard {
    /// A report, to be stored with those that follow at once.
    Report(ObjectId, Report),
    /// Something to be answered or done.
    Frame(FromAgent),
    /// Nothing to be done.
    Nothing,
}

impl<In> Session<In>
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    /// Does what a frame asks for. If it is a report, those that have come after it are taken with it.
    pub(super) async fn on_frame(
        &mut self,
        frame: Option<Result<proto::AgentFrame, Status>>,
    ) -> Result<(), End> {
        let heard = self.on_frames(frame).await;
        self.stands();
        heard
    }

    async fn on_frames(
        &mut self,
        frame: Option<Result<proto::AgentFrame, Status>>,
    ) -> Result<(), End> {
        let (mut reports, mut bytes, mut next) = (Vec::new(), 0, Some(frame));
        while let Some(frame) = next {
            let frame = match frame {
                Some(Ok(frame)) => frame,
                ended => {
                    // What was said before it counts.
                    self.store_reports(reports).await?;
                    return Err(left(ended));
                }
            };
            bytes += frame.encoded_len();
            let heard = match self.hear(frame) {
                Ok(heard) => heard,
                Err(end) => {
                    self.store_reports(reports).await?;
                    return Err(end);
                }
            };
            match heard {
                Heard::Report(object, report) => reports.push((object, report)),
                Heard::Frame(frame) => {
                    self.store_reports(reports).await?;
                    return self.on_other(frame).await;
                }
                Heard::Nothing => {}
            }
            let is_full = reports.len() >= reports::TOGETHER || bytes >= TOGETHER_BYTES;
            next = match reports.is_empty() || is_full {
                true => None,
                false => self.incoming.next().now_or_never(),
            };
        }
        self.store_reports(reports).await
    }

    fn hear(&mut self, frame: proto::AgentFrame) -> Result<Heard, End> {
        self.heard = Instant::now();
        let now = self.context.app.now();
        self.seat.heard(now);
        Ok(match frame.frame {
            // A frame without content is of a later version of the protocol.
            None => Heard::Nothing,
            Some(FromAgent::Outcome(outcome)) => {
                road::came_back(self.cluster, &outcome);
                let (object, outcome) = wire::outcome(&outcome, now)?;
                Heard::Report(object, Report::Outcome(outcome))
            }
            Some(FromAgent::Status(status)) => {
                let (object, seen) = wire::observation(&status, now)?;
                Heard::Report(object, Report::Observation(seen))
            }
            Some(FromAgent::Ack(ack)) if !self.adopting => {
                self.window.acknowledge(ack.seq);
                Heard::Nothing
            }
            Some(other) => Heard::Frame(other),
        })
    }

    async fn on_other(&mut self, frame: FromAgent) -> Result<(), End> {
        match frame {
            FromAgent::Hello(_) => Err(End::bye(
                codes::PROTOCOL_ERROR,
                "a second Hello in one session",
            )),
            FromAgent::Ack(ack) => {
                self.window.acknowledge(ack.seq);
                if self.adopting && self.window.is_settled() {
                    self.settle_adoption().await?;
                }
                Ok(())
            }
            // Heard as reports.
            FromAgent::Outcome(_) | FromAgent::Status(_) => Ok(()),
            FromAgent::Inventory(page) => self.on_inventory(&page).await,
            FromAgent::Recs(recs) => self.on_recs(recs).await,
            FromAgent::LocalIntent(intent) => self.on_intent(intent).await,
            FromAgent::Beat(beat) => {
                (self.echo, self.echo_at) = (beat.mono_ms, Instant::now());
                let app = &self.context.app;
                if let Some(skew) = Skew::of(&beat, app.now().as_millisecond(), self.mono_ms()) {
                    app.hear_clock(self.cluster, skew);
                }
                Ok(())
            }
            FromAgent::Bye(bye) if bye.code == codes::RECONNECT => Err(End::Moves),
            FromAgent::Bye(bye) => Err(End::Left(format!("{}: {}", bye.code, bye.message))),
        }
    }

    pub(super) async fn settle_adoption(&mut self) -> Result<(), End> {
        self.context
            .app
            .settle_adoption(self.cluster)
            .await
            .map_err(AppError::from)?;
        self.adopting = false;
        Ok(())
    }

    /// Stores what became of an object.
    pub(super) async fn on_outcome(&mut self, wire: &proto::Outcome) -> Result<(), End> {
        road::came_back(self.cluster, wire);
        let (object, outcome) = wire::outcome(wire, self.context.app.now())?;
        self.store_reports(vec![(object, Report::Outcome(outcome))])
            .await
    }

    /// Stores what a member reports. An object that waits for a confirmation gets the hub's verdict at once. While the hub only
    /// observes it asks for nothing, so an outcome may be of another time: the member keeps it and tells it again.
    async fn store_reports(&mut self, mut reports: Vec<(ObjectId, Report)>) -> Result<(), End> {
        if self.observing {
            reports.retain(|(_, report)| matches!(report, Report::Observation(_)));
        }
        if reports.is_empty() {
            return Ok(());
        }
        self.context.app.report(self.cluster, &reports).await?;
        for (object, report) in reports {
            let Report::Outcome(outcome) = report else {
                continue;
            };
            self.outcomes_to = self.outcomes_to.max(outcome.revision.0);
            if let Some(told) = self.unanswered.answered(object, &outcome) {
                self.context.sessions.delivered(told.elapsed());
            }
            if outcome.result == OutcomeKind::Held && outcome.code == codes::NEEDS_CONFIRMATION {
                self.answer_prepared(object, outcome.revision).await?;
            }
        }
        Ok(())
    }

    /// A prepared deletion is confirmed or called off; if the hub has begun to observe, or has frozen deletions, it stays
    /// prepared, because calling it off would be a decision, too. One that was prepared at another revision, which may be of
    /// another time of this store, says nothing of the one that is wanted: that is on its way, and is prepared as well.
    async fn answer_prepared(&mut self, object: ObjectId, prepared: Revision) -> Result<(), End> {
        let verdict = self.context.app.verdict(self.cluster, object).await?;
        match verdict {
            Verdict::Undecided { .. } | Verdict::Frozen { .. } => return Ok(()),
            Verdict::Delete { revision, .. } if revision != prepared => return Ok(()),
            Verdict::Delete { .. } | Verdict::Keep { .. } => {}
        }
        self.send_verdict(object, "", verdict).await
    }

    /// What this hub does not know stays. While it only observes, nothing that a member holds is given again.
    async fn on_inventory(&mut self, page: &proto::InventoryPage) -> Result<(), End> {
        let highest = |number: fn(&proto::InventoryEntry) -> u64| {
            page.entries.iter().map(number).max().unwrap_or(0)
        };
        let reported = Reported {
            plan_number: highest(|entry| entry.plan_number),
            instance_id: highest(|entry| entry.highest_instance_id),
            config_version: highest(|entry| entry.config_version),
        };
        if self.observing {
            self.context.app.raise_allocators(reported).await?;
        }
        let desired = self
            .context
            .app
            .desired_of(self.cluster)
            .await
            .map_err(AppError::from)?
            .value;
        self.compare_page(page, &desired).await?;
        for entry in &page.entries {
            let object: ObjectId = wire::parse("inventory.object_id", &entry.object_id)?;
            let known = desired.iter().find(|held| held.record.object_id == object);
            if known.is_none_or(|held| held.record.is_tombstone()) {
                self.answer_held(object).await?;
            }
        }
        Ok(())
    }

    /// A member holds what this hub does not know, or wants deleted. That it goes is told by its tombstone and confirmed once the
    /// member has prepared it, never before.
    async fn answer_held(&mut self, object: ObjectId) -> Result<(), End> {
        let verdict = self.context.app.verdict(self.cluster, object).await?;
        if matches!(verdict, Verdict::Delete { .. }) {
            return Ok(());
        }
        self.send_verdict(object, "", verdict).await
    }

    /// Stores the RECs, and which roots the member and its nodes hold. Who holds fewer than are in force is told again.
    async fn on_recs(&mut self, wire: proto::RecInventory) -> Result<(), End> {
        let app = Arc::clone(&self.context.app);
        let held = wire::trust_held(&wire, &self.root, app.now())?;
        // Of the first roots every member has heard when it joined.
        let version = app.ca().version();
        let behind = version > 1 && held.version < version;
        app.hear_trust(self.cluster, held).await?;
        if behind {
            self.tell_trust().await?;
        }
        let recs = wire
            .recs
            .into_iter()
            .map(wire::rec)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.context.app.inventory(self.cluster, recs).await?)
    }

    /// Tells the roots in force. A hub that only observes may be one that went back in time: it tells none.
    pub(super) async fn tell_trust(&mut self) -> Result<(), End> {
        if self.observing {
            return Ok(());
        }
        let bundle = wire::trust(self.context.app.ca());
        self.send(Frame::Trust(bundle)).await
    }

    /// The roots changed: they are told, unless the member's own certificate is of a root that went.
    pub(super) async fn on_trust(&mut self) -> Result<(), End> {
        let bundle = self.context.app.ca().bundle();
        if !bundle.trusts(&self.root) {
            let reason = format!(
                "the certificate of this session was signed by {}, which is trusted no more; the device key gets another",
                self.root
            );
            return Err(End::bye(codes::CERTIFICATE, reason));
        }
        self.tell_trust().await
    }

    /// A wish that was written with kubectl on the member.
    async fn on_intent(&mut self, wire: proto::LocalIntent) -> Result<(), End> {
        if wire.op() == proto::IntentOp::Delete && !wire.object_id.is_empty() {
            let object = wire::parse("local_intent.object_id", &wire.object_id)?;
            return self.confirm(object, &wire.intent_id).await;
        }
        let wish = LocalWish {
            kind: &wire.kind,
            name: &wire.name,
            body: &wire.body,
            known: !wire.object_id.is_empty(),
        };
        let (object_id, action, message) = match self.context.app.local_wish(&wish).await {
            Ok(object) => (
                object.to_string(),
                proto::ConfirmAction::Adopt,
                String::new(),
            ),
            Err(error @ (AppError::Store(_) | AppError::Busy(_))) => return Err(error.into()),
            Err(refused) => (
                wire.object_id,
                proto::ConfirmAction::Refuse,
                refused.explain(),
            ),
        };
        let confirm = proto::Confirm {
            object_id,
            action: action.into(),
            approval: String::new(),
            intent_id: wire.intent_id,
            message,
            revision: 0,
        };
        self.send(Frame::Confirm(confirm)).await
    }

    async fn confirm(&mut self, object: ObjectId, intent_id: &str) -> Result<(), End> {
        let verdict = self.context.app.verdict(self.cluster, object).await?;
        self.send_verdict(object, intent_id, verdict).await
    }

    async fn send_verdict(
        &mut self,
        object: ObjectId,
        intent_id: &str,
        verdict: Verdict,
    ) -> Result<(), End> {
        let (action, approval, message, revision) = match verdict {
            // KEEP would call a prepared deletion off.
            Verdict::Frozen { .. } if intent_id.is_empty() => return Ok(()),
            Verdict::Frozen { reason } => (proto::ConfirmAction::Refuse, String::new(), reason, 0),
            Verdict::Keep { reason } | Verdict::Undecided { reason } => {
                (proto::ConfirmAction::Keep, String::new(), reason, 0)
            }
            Verdict::Delete { approval, revision } => (
                proto::ConfirmAction::Delete,
                approval,
                String::new(),
                revision.0,
            ),
        };
        let confirm = proto::Confirm {
            object_id: object.to_string(),
            action: action.into(),
            approval,
            intent_id: intent_id.to_owned(),
            message,
            revision,
        };
        self.send(Frame::Confirm(confirm)).await
    }
}

/// Why a stream that ended did.
fn left(ended: Option<Result<proto::AgentFrame, Status>>) -> End {
    match ended {
        Some(Err(status)) => End::Left(status.message().to_owned()),
        None | Some(Ok(_)) => End::Left("its stream ended".to_owned()),
    }
}
