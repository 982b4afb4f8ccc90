//! What the applier does with each command.

use super::{
    Applier, Batch, CAPACITY, Command, Instant, JournalStore, Kind, Member, Mode, ObjectId,
    OutcomeResult, Position, Revision, SaveError, Standing, Step, Taken, codes, inventory,
    object_id_of, proto, settle,
};
use crate::link::{
    freeze::Freeze,
    journal::{Accepted, Journal},
    order::Order,
};
use kube::api::DynamicObject;
use meridian_api::trace::TraceId;

impl<M: Member, J: JournalStore> Applier<M, J> {
    pub(super) async fn handle(&mut self, command: Command) {
        match command {
            Command::Standing(reply) => {
                let _gone = reply.send(self.standing().await);
            }
            Command::Welcome {
                head,
                observe,
                freeze,
                reply,
            } => {
                let frozen = Freeze::at_start(freeze.as_ref());
                let _gone = reply.send(self.welcome(head, observe, frozen));
            }
            Command::Accept { batch, reply } => {
                let taken = self.accept(batch).await;
                self.gap |= matches!(taken, Taken::Not(_));
                let _gone = reply.send(taken);
            }
            Command::Confirm(confirm) => self.confirm(&confirm).await,
            Command::Digest(buckets) => self.digest(&buckets).await,
            Command::Freeze(freeze) => self.freeze(&freeze).await,
            Command::Seen { kind, object, gone } => self.seen(kind, &object, gone),
        }
    }

    async fn standing(&self) -> Result<Standing, String> {
        let objects = self
            .member
            .list()
            .await
            .map_err(|error| format!("listing the hub's objects: {error}"))?;
        let live = objects
            .iter()
            .filter_map(|(_, object)| object_id_of(object))
            .collect();
        let lost = self.journal.lost(&live);
        let last = self.journal.position().map(|position| {
            if lost.is_empty() {
                return position.into();
            }
            // From the beginning of the same history: the hub sends again what is missing here.
            tracing::warn!(
                objects = lost.len(),
                "objects of the hub were lost; asking for everything again"
            );
            (&Position {
                revision: Revision(0),
                ..position.clone()
            })
                .into()
        });
        Ok(Standing {
            last,
            seen: self.journal.seen().map(Into::into),
            digest: inventory::digest(&objects),
        })
    }

    fn welcome(&mut self, head: Position, observe: Option<String>, frozen: Freeze) -> Mode {
        self.mode = match (observe, self.journal.judge_head(&head)) {
            (Some(reason), _) => Mode::Observe(reason),
            (None, Err(stranger)) => Mode::Observe(stranger.to_string()),
            (None, Ok(())) => {
                if self.journal.obey(&head) {
                    self.unsaved = Some(Instant::now());
                }
                Mode::Obey
            }
        };
        if let Mode::Observe(reason) = &self.mode {
            tracing::warn!(
                reason,
                "only observing: nothing of this hub is applied and nothing is deleted"
            );
        }
        self.head = Some(head);
        self.told = frozen.clone();
        // One that may not be obeyed does not end what another has frozen.
        if self.mode == Mode::Obey && self.follow(frozen) {
            self.unsaved = Some(Instant::now());
        }
        self.gap = false;
        self.mode.clone()
    }

    async fn accept(&mut self, batch: Batch) -> Taken {
        let Batch {
            upto,
            orders,
            refused,
        } = batch;
        if self.mode != Mode::Obey {
            return Taken::Observing;
        }
        if self.gap {
            return Taken::Not("a batch before it was not taken".to_owned());
        }
        let mut next = self.journal.clone();
        let taken = match next.accept(&upto, orders) {
            Ok(taken) => taken,
            Err(stranger) => return Taken::Not(stranger.to_string()),
        };
        if let Err(reason) = self.keep(&next).await {
            return Taken::Not(reason);
        }
        self.journal = next;
        self.unsaved = None;
        for outcome in refused {
            self.outbox.outcome(outcome);
        }
        for (id, accepted) in taken {
            self.note_accepted(id, accepted);
        }
        self.publish_progress();
        Taken::Durable(
            self.journal
                .position()
                .map_or(Revision(0), |position| position.revision),
        )
    }

    fn note_accepted(&mut self, id: ObjectId, accepted: Accepted) {
        match accepted {
            Accepted::New => drop(self.due.remove(&id)),
            Accepted::Known => {
                if let Some(mark) = self
                    .journal
                    .deleted(&id)
                    .filter(|_| !self.journal.pending().contains_key(&id))
                {
                    self.answer(
                        id,
                        mark.revision,
                        OutcomeResult::Noop,
                        "",
                        "deleted already",
                    );
                }
            }
            Accepted::Stale { newest } => {
                let message = format!("object {id}: the agent knows {newest}");
                self.answer(
                    id,
                    newest.revision,
                    OutcomeResult::Nack,
                    codes::STALE_REVISION,
                    &message,
                );
            }
        }
    }

    async fn keep(&mut self, journal: &Journal) -> Result<(), String> {
        let size = journal.write().map_err(|error| error.to_string())?.len();
        if size > CAPACITY {
            return Err(format!(
                "the journal would take {size} bytes, room is for {CAPACITY}: orders that are held must be settled first"
            ));
        }
        self.store.save(journal).await.map_err(|error| {
            self.overtaken |= matches!(error, SaveError::Overtaken(_));
            format!("the journal could not be stored: {error}")
        })?;
        self.again.clear();
        Ok(())
    }

    fn answer(
        &self,
        id: ObjectId,
        revision: Revision,
        result: OutcomeResult,
        code: &str,
        message: &str,
    ) {
        let order = self.journal.pending().get(&id);
        self.outbox.outcome(proto::Outcome {
            object_id: id.to_string(),
            revision: revision.0,
            result: result.into(),
            code: code.to_owned(),
            message: message.to_owned(),
            retry_after_ms: 0,
            trace_id: TraceId::told(order.and_then(|order| order.trace)).into(),
        });
    }

    async fn confirm(&mut self, confirm: &proto::Confirm) {
        let action = confirm.action();
        if confirm.object_id.is_empty() {
            if action == proto::ConfirmAction::Adopt
                && confirm.intent_id.is_empty()
                && !confirm.approval.is_empty()
            {
                self.adopt_store(&confirm.approval).await;
            }
            return;
        }
        let Ok(id) = confirm.object_id.parse::<ObjectId>() else {
            tracing::warn!(
                object_id = confirm.object_id,
                "a Confirm names no object id; it is ignored"
            );
            return;
        };
        if let Mode::Observe(reason) = &self.mode {
            tracing::info!(%id, reason, "a Confirm is ignored: the agent only observes");
            return;
        }
        let mut next = self.journal.clone();
        let changed = match action {
            proto::ConfirmAction::Delete if !confirm.approval.is_empty() => {
                next.confirm_delete(&id, Revision(confirm.revision), &confirm.approval)
            }
            proto::ConfirmAction::Delete => false,
            proto::ConfirmAction::Adopt => self.adopt_object(&mut next, id, confirm),
            proto::ConfirmAction::Keep | proto::ConfirmAction::Unspecified => {
                next.keep(&id).is_some()
            }
            proto::ConfirmAction::Refuse => false,
        };
        if !changed {
            tracing::info!(%id, ?action, "a Confirm found nothing that it could decide");
            return;
        }
        if let Err(error) = self.keep(&next).await {
            // The hub repeats what has no outcome, so nothing is lost by not taking it now.
            tracing::warn!(%id, error, "a Confirm could not be stored");
            return;
        }
        if let (proto::ConfirmAction::Keep | proto::ConfirmAction::Unspecified, Some(order)) =
            (action, self.journal.pending().get(&id))
        {
            self.answer(
                id,
                order.mark.revision,
                OutcomeResult::Noop,
                "",
                "kept, as confirmed",
            );
        }
        self.journal = next;
        self.due.remove(&id);
        self.publish_progress();
    }

    fn adopt_object(&self, next: &mut Journal, id: ObjectId, confirm: &proto::Confirm) -> bool {
        match self.outbox.answered(&confirm.intent_id) {
            Some(intent) if !intent.kube_uid.is_empty() => {
                next.adopt_object(id, &intent.kube_uid);
                true
            }
            _ => false,
        }
    }

    async fn adopt_store(&mut self, approval: &str) {
        let Some(head) = self.head.clone() else {
            return;
        };
        let mut next = self.journal.clone();
        next.adopt_store(&head);
        // What another hub has frozen, nobody would ever thaw.
        next.freeze(self.told.clone());
        match self.keep(&next).await {
            Ok(()) => {
                tracing::warn!(store = %head.store_id, term = %head.term, approval, "the store was adopted: it is obeyed from now on");
                self.journal = next;
                self.due.clear();
                self.outbox.forget_outcomes();
                self.mode = Mode::Obey;
            }
            Err(error) => tracing::warn!(
                error,
                "the adoption could not be stored; the hub must repeat it"
            ),
        }
    }

    async fn digest(&self, buckets: &[u32]) {
        match self.member.list().await {
            Ok(objects) => self.outbox.pages(inventory::pages(&objects, buckets)),
            // No pages at all: an inventory that is not known must not look empty.
            Err(error) => {
                tracing::warn!(%error, "the inventory cannot be read; the hub asks again")
            }
        }
    }

    /// What is frozen waits, and what is not any more is looked at again at once. Stored before anything else is carried out.
    async fn freeze(&mut self, freeze: &proto::Freeze) {
        self.told.follow(freeze);
        if self.mode != Mode::Obey {
            return;
        }
        let mut frozen = self.journal.frozen().clone();
        frozen.follow(freeze);
        if self.follow(frozen) {
            self.tidy().await;
        }
        for id in self
            .journal
            .pending()
            .keys()
            .filter(|id| self.is_frozen(id))
        {
            let revision = self
                .journal
                .pending()
                .get(id)
                .map_or(Revision(0), |order| order.mark.revision);
            let message = format!("applying is frozen by the hub: {}", freeze.reason);
            self.answer(
                *id,
                revision,
                OutcomeResult::Deferred,
                codes::FROZEN,
                &message,
            );
        }
    }

    /// What the hub has frozen from now on; tells whether that is news. What it holds no more has waited, and another process may
    /// have taken over since: it is looked at again at once, but not before the journal is stored.
    fn follow(&mut self, frozen: Freeze) -> bool {
        let before = self.journal.frozen().clone();
        let news = self.journal.freeze(frozen);
        let pending = self.journal.pending().keys();
        let thawed = pending.filter(|id| before.holds(id) && !self.is_frozen(id));
        let thawed: Vec<ObjectId> = thawed.copied().collect();
        for id in thawed {
            self.due.remove(&id);
            self.again.insert(id);
        }
        news
    }

    /// A pending order is looked at again; an object that was lost or edited is put back to what the hub ordered.
    fn seen(&mut self, kind: Kind, object: &DynamicObject, gone: bool) {
        let Some(id) = object_id_of(object) else {
            return;
        };
        if !gone && !self.known.contains_key(&id) {
            // After a restart: what the member shows is what it is made from again, also if an order that waits is called off.
            if let Some(order) = Order::of_live(kind, object, id) {
                self.known.insert(id, order);
            }
        }
        if self.journal.pending().contains_key(&id) {
            self.due.remove(&id);
            return;
        }
        let Some(order) = self.known.get(&id).filter(|order| order.kind == kind) else {
            return;
        };
        let live = (!gone).then_some(object);
        let step = settle(order, live, &self.namespace, self.journal.adopted(&id));
        if matches!(step, Step::Write { .. } | Step::Wait { .. }) {
            tracing::info!(object = %order.what(&self.namespace), gone, "put back to what the hub ordered");
            self.journal.again(order.clone());
            self.again.insert(id);
            self.unsaved = Some(Instant::now());
        }
    }
}
