//! What a session does about frozen deletions: it leaves them out, and tells the member to stop those that it was told.

use std::collections::BTreeSet;

use futures::Stream;
use meridian_api::ids::{ObjectId, Revision};
use meridian_api::link::proto;
use meridian_api::link::proto::hub_frame::Frame;
use tonic::Status;

use super::{End, Session};
use crate::app::AppError;
use crate::app::breaker::{HeldBack, Leave};
use crate::domain::desired::Desired;
use crate::store::records::Held;

impl<In> Session<In>
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    /// What the member is told in its Welcome. One that is not told stops nothing any more.
    pub(super) async fn freeze_at_start(&mut self) -> Result<Option<proto::Freeze>, End> {
        let held_back = self.held_back().await?;
        let Some(HeldBack { reason, objects }) = held_back else {
            return Ok(None);
        };
        Ok(self.stop(&reason, objects))
    }

    /// What is to be told without the deletions of data that are frozen.
    pub(super) async fn without_withheld(
        &mut self,
        wanted: Vec<Held<Desired>>,
    ) -> Result<Vec<Held<Desired>>, End> {
        let deletes = |held: &Held<Desired>| held.record.data_bearing && held.record.is_tombstone();
        let asked: BTreeSet<_> = wanted
            .iter()
            .filter(|held| deletes(held))
            .map(|held| held.record.object_id)
            .collect();
        if asked.is_empty() {
            return Ok(wanted);
        }
        let leave = self.context.app.may_delete(self.cluster, &asked).await?;
        let Leave { granted, frozen } = leave;
        if let Some(reason) = frozen {
            tracing::warn!(cluster = %self.cluster, reason, deletions = asked.len() - granted.len(), "deletions are held back");
            self.withheld.extend(asked.difference(&granted));
        }
        let tells =
            |held: &Held<Desired>| !deletes(held) || granted.contains(&held.record.object_id);
        Ok(wanted.into_iter().filter(tells).collect())
    }

    /// Tells the member what is frozen now, and what is not any more.
    pub(super) async fn reconsider(&mut self) -> Result<(), End> {
        if self.observing {
            return Ok(());
        }
        if let Some(HeldBack { reason, objects }) = self.held_back().await? {
            if objects != self.frozen
                && let Some(freeze) = self.stop(&reason, objects)
            {
                self.send(Frame::Freeze(freeze)).await?;
            }
            return Ok(());
        }
        let frozen = std::mem::take(&mut self.frozen);
        if !frozen.is_empty() {
            let thaw = freeze(&frozen, "a person released the deletions", false);
            self.send(Frame::Freeze(thaw)).await?;
        }
        let withheld = std::mem::take(&mut self.withheld);
        // They were decided at revisions that the member has been told to be complete.
        self.seat.outbox.mark(withheld, Revision(0));
        Ok(())
    }

    async fn held_back(&self) -> Result<Option<HeldBack>, End> {
        let held_back = self.context.app.held_back(self.cluster).await;
        Ok(held_back.map_err(AppError::from)?)
    }

    /// A list of nothing would mean everything, and other orders go on.
    fn stop(&mut self, reason: &str, objects: BTreeSet<ObjectId>) -> Option<proto::Freeze> {
        self.frozen = objects;
        (!self.frozen.is_empty()).then(|| freeze(&self.frozen, reason, true))
    }
}

fn freeze(objects: &BTreeSet<ObjectId>, reason: &str, on: bool) -> proto::Freeze {
    proto::Freeze {
        object_ids: objects.iter().map(ToString::to_string).collect(),
        reason: reason.to_owned(),
        on,
    }
}
