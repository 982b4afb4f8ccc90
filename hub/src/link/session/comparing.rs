//! A session that compares: it asks for the buckets in which its member differs, and marks what the member lacks.

use std::collections::{BTreeMap, BTreeSet};

use futures::Stream;
use meridian_api::ids::{ObjectId, Revision};
use meridian_api::link::digest::Digest;
use meridian_api::link::proto;
use meridian_api::link::proto::hub_frame::Frame;
use tokio::time::Instant;
use tonic::Status;

use super::super::wire;
use super::{End, Mode, Session};
use crate::app::AppError;
use crate::domain::buckets::{Comparison, States};
use crate::domain::desired::Desired;
use crate::store::records::{Held, OutcomeKind, StoredOutcome};

/// A comparison, and since when its pages are waited for.
#[derive(Debug)]
pub(super) struct Comparing {
    comparison: Comparison,
    since: Instant,
}

/// What a member that has everything holds. Deletions are told in any case.
fn states(desired: &[Held<Desired>]) -> States {
    let wanted = desired.iter().filter(|held| !held.record.is_tombstone());
    let state = |held: &Held<Desired>| (held.modified, held.record.hash());
    wanted
        .map(|held| (held.record.object_id, state(held)))
        .collect()
}

/// Compares with a member that would be told everything, if it holds anything.
pub(super) fn compare(
    mode: &Mode,
    hello: &proto::Hello,
    desired: &[Held<Desired>],
) -> Option<Comparing> {
    let in_full = match mode {
        Mode::Full | Mode::Adopt { .. } => true,
        Mode::Resume(since) => *since == Revision(0),
        Mode::Observe(_) => false,
    };
    let theirs = Digest::from_wire(&hello.digest).unwrap_or_default();
    let compares = in_full && theirs != Digest::default();
    compares.then(|| Comparing {
        comparison: Comparison::begin(&states(desired), &theirs),
        since: Instant::now(),
    })
}

impl<In> Session<In>
where
    In: Stream<Item = Result<proto::AgentFrame, Status>> + Unpin + Send,
{
    /// Asks for the buckets that differ. If none does the member only has to hear how far it is.
    pub(super) async fn ask_for_buckets(&mut self) -> Result<(), End> {
        let Some(comparing) = &self.comparing else {
            return Ok(());
        };
        let buckets = comparing.comparison.asks();
        tracing::info!(cluster = %self.cluster, buckets = buckets.len(), "buckets of the member differ");
        if buckets.is_empty() {
            return self.lacks(BTreeSet::new()).await;
        }
        self.send(Frame::DigestAsk(proto::DigestAsk { buckets }))
            .await
    }

    pub(super) async fn compare_page(
        &mut self,
        page: &proto::InventoryPage,
        desired: &[Held<Desired>],
    ) -> Result<(), End> {
        let Some(comparing) = &mut self.comparing else {
            return Ok(());
        };
        let Ok(bucket) = u8::try_from(page.bucket) else {
            let found = format!("found {}, expected 0 to 255", page.bucket);
            return Err(wire::malformed("inventory.bucket", found).into());
        };
        let mut held = States::new();
        for entry in &page.entries {
            let object = wire::parse("inventory.object_id", &entry.object_id)?;
            held.insert(object, (Revision(entry.revision), entry.hash.to_vec()));
        }
        let wanted = states(desired);
        let last = page.last_of_bucket;
        let lacking = comparing.comparison.page(bucket, held, last, &wanted);
        self.lacks(lacking).await
    }

    /// A member that cannot read its inventory is told everything of the buckets that differ.
    pub(super) async fn wait_for_pages(&mut self) -> Result<(), End> {
        let patience = self.context.timing.idle;
        let late = |comparing: &&mut Comparing| comparing.since.elapsed() >= patience;
        if self.comparing.as_mut().filter(late).is_none() {
            return Ok(());
        }
        let desired = self.context.app.desired_of(self.cluster).await;
        let desired = desired.map_err(AppError::from)?.value;
        let Some(comparing) = &mut self.comparing else {
            return Ok(());
        };
        tracing::warn!(cluster = %self.cluster, "the member did not show what it holds; it is told all that may be missing");
        let lacking = comparing.comparison.give_up(&states(&desired));
        self.lacks(lacking).await
    }

    async fn lacks(&mut self, objects: BTreeSet<ObjectId>) -> Result<(), End> {
        // What changes while buckets are compared is marked by itself.
        self.seat.outbox.mark(objects, Revision(0));
        let over = |comparing: &mut Comparing| comparing.comparison.is_over();
        if let Some(comparing) = self.comparing.take_if(over) {
            self.settle(comparing.comparison.agreed()).await?;
            self.seat.outbox.conclude();
        }
        Ok(())
    }

    /// What the member holds as it is wanted is done, also where its word of that was lost: it is not sent again, so no
    /// outcome would ever say so.
    async fn settle(&self, agreed: BTreeMap<ObjectId, Revision>) -> Result<(), End> {
        let app = &self.context.app;
        let desired = app.desired_of(self.cluster).await.map_err(AppError::from)?;
        let unsettled = app.unsettled(self.cluster, &desired.value).await;
        for object in unsettled.map_err(AppError::from)? {
            let Some(revision) = agreed.get(&object).copied() else {
                continue;
            };
            let outcome = StoredOutcome {
                revision,
                result: OutcomeKind::Noop,
                code: String::new(),
                message: String::new(),
                as_of: app.now(),
            };
            app.outcome(self.cluster, object, outcome).await?;
        }
        Ok(())
    }
}
