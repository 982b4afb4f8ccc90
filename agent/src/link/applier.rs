//! Carries out the hub's orders. Lives as long as the agent leads, whether a session is open or not: what was
//! acknowledged is carried out even if the hub is away by then.
//!
//! One task owns the [`Journal`]. An Apply is stored first and acknowledged then; orders that wait for nothing are
//! carried out side by side. In OBSERVE nothing is carried out at all, not even what was stored before.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::api::DynamicObject;
use meridian_api::{
    ids::{ObjectId, Revision},
    link::{
        codes,
        proto::{self, OutcomeResult},
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::Backoff,
    freeze::Freeze,
    inventory,
    journal::{CAPACITY, Journal},
    kinds::Kind,
    member::Member,
    order::{Order, Position, Wish},
    outbox::Outbox,
    settle::{Step, object_id_of, settle},
};
use carry::{Again, Done, Known, carry_out};

mod carry;
mod commands;

/// Orders carried out at the same time.
const PARALLEL: usize = 8;
/// Orders of one pass; commands are looked at between passes.
const PASS: usize = 32;
/// Quiet time after which finished orders are taken out of the stored journal.
const TIDY: Duration = Duration::from_millis(500);

/// Keeps the journal across restarts.
pub trait JournalStore: Send + Sync + 'static {
    /// Stores the journal; on `Ok` it is durable.
    ///
    /// # Errors
    /// [`SaveError`].
    fn save(&self, journal: &Journal) -> impl Future<Output = Result<(), SaveError>> + Send;
}

/// Why a journal was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// It may go well another time.
    #[error("{0}")]
    Failed(String),
    /// Somebody else stored another one: what is known here is of the past, and no attempt will ever go well.
    #[error("{0}")]
    Overtaken(String),
}

/// Whether the hub is obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Orders are carried out.
    Obey,
    /// Nothing is applied and nothing is deleted; the reason is for people.
    Observe(String),
}

/// What Hello says about this member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The position reached.
    pub last: Option<proto::StorePosition>,
    /// The hub of the highest term that was followed.
    pub seen: Option<proto::StorePosition>,
    /// Digest of the objects that carry the hub's annotation.
    pub digest: Vec<u8>,
}

/// A batch as the session hands it over.
#[derive(Debug)]
pub struct Batch {
    /// Where it leads.
    pub upto: Position,
    /// Its readable orders.
    pub orders: Vec<Order>,
    /// Outcomes of its unreadable items.
    pub refused: Vec<proto::Outcome>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is stored up to this revision: acknowledge it.
    Durable(Revision),
    /// It is not taken because the hub is only observed: do not acknowledge it.
    Observing,
    /// It is not taken, for this reason: do not acknowledge it, and end the session.
    Not(String),
}

/// What the applier is told.
#[derive(Debug)]
pub enum Command {
    /// What shall Hello say?
    Standing(oneshot::Sender<Result<Standing, String>>),
    /// The hub said Welcome: may it be obeyed?
    Welcome {
        /// The hub's head.
        head: Position,
        /// The hub's own reason for OBSERVE.
        observe: Option<String>,
        /// What is frozen as the session begins.
        freeze: Option<proto::Freeze>,
        /// Gets the answer.
        reply: oneshot::Sender<Mode>,
    },
    /// Take a batch in.
    Accept {
        /// The batch.
        batch: Batch,
        /// Gets the answer once it is durable.
        reply: oneshot::Sender<Taken>,
    },
    /// The hub decided about an object.
    Confirm(proto::Confirm),
    /// The hub asks for inventory.
    Digest(Vec<u32>),
    /// The hub freezes some or all objects.
    Freeze(proto::Freeze),
    /// An object that carries the hub's annotation was seen, changed or gone.
    Seen {
        /// Its kind.
        kind: Kind,
        /// Its newest state.
        object: Box<DynamicObject>,
        /// Whether it is gone.
        gone: bool,
    },
}

/// The task that owns the journal.
pub struct Applier<M, J> {
    member: Arc<M>,
    store: J,
    journal: Journal,
    namespace: String,
    outbox: Outbox,
    applied: watch::Sender<u64>,
    mode: Mode,
    head: Option<Position>,
    /// What the hub of this session has frozen, be it obeyed or not.
    told: Freeze,
    due: BTreeMap<ObjectId, Due>,
    known: BTreeMap<ObjectId, Order>,
    unsaved: Option<Instant>,
    /// Orders that are carried out once more, or were frozen. Not before the journal with them is stored, which shows that no other process has
    /// taken over: it may know that they are deleted.
    again: BTreeSet<ObjectId>,
    /// Another process stored another journal: this task ends, and whoever started it begins anew with what is stored.
    overtaken: bool,
    /// A batch of this session was not taken: what followed it would leave a gap, however far it leads.
    gap: bool,
    random: fn() -> f64,
}

impl<M, J> std::fmt::Debug for Applier<M, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Due {
    at: Instant,
    backoff: Backoff,
}

/// What the applier needs.
#[derive(Debug)]
pub struct Setup<M, J> {
    /// The member's objects.
    pub member: Arc<M>,
    /// Where the journal is kept.
    pub store: J,
    /// The journal as stored.
    pub journal: Journal,
    /// What [`Applier::run`] left to the next one of the same process.
    pub owed: Vec<Order>,
    /// The agent's namespace.
    pub namespace: String,
    /// Where outcomes go.
    pub outbox: Outbox,
    /// Random numbers in `[0, 1)`.
    pub random: fn() -> f64,
}

impl<M: Member, J: JournalStore> Applier<M, J> {
    /// An applier, and the revision up to which everything has an outcome.
    ///
    /// Until the first Welcome it obeys what it had stored: the hub that ordered it was judged then.
    pub fn new(setup: Setup<M, J>) -> (Self, watch::Receiver<u64>) {
        let Setup {
            member,
            store,
            mut journal,
            owed,
            namespace,
            outbox,
            random,
        } = setup;
        let owed = owed.into_iter().filter_map(|order| {
            let id = order.object_id;
            journal.again_if_newest(order).then_some(id)
        });
        let again: BTreeSet<_> = owed.collect();
        let (applied, watcher) = watch::channel(journal.applied_upto().0);
        let applier = Self {
            member,
            store,
            journal,
            namespace,
            outbox,
            applied,
            mode: Mode::Obey,
            head: None,
            told: Freeze::default(),
            due: BTreeMap::new(),
            known: BTreeMap::new(),
            unsaved: (!again.is_empty()).then(Instant::now),
            again,
            overtaken: false,
            gap: false,
            random,
        };
        (applier, watcher)
    }

    /// Works until `cancel`, or until another process has stored another journal. What was lost on the member and is not put
    /// back by then is owed: whoever begins anew with what is stored knows that it is missing, but not what it was.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        cancel: CancellationToken,
    ) -> Vec<Order> {
        loop {
            while let Ok(command) = commands.try_recv() {
                self.handle(command).await;
            }
            if cancel.is_cancelled() || self.overtaken {
                break;
            }
            let due = self.due_orders(Instant::now());
            if !due.is_empty() {
                self.pass(due).await;
                continue;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => break,
                },
                () = wait_until(self.next_due()) => {}
                () = wait_until(self.unsaved) => self.tidy().await,
            }
        }
        if self.unsaved.is_some() && !self.overtaken {
            self.tidy().await;
        }
        let pending = self.journal.pending();
        let owed = self.again.iter().filter_map(|id| pending.get(id));
        owed.cloned().collect()
    }

    fn due_orders(&self, now: Instant) -> Vec<Order> {
        if self.mode != Mode::Obey {
            return Vec::new();
        }
        let may_be = |id: &ObjectId| !self.is_frozen(id) && !self.again.contains(id);
        let is_due = |id: &ObjectId| may_be(id) && self.due.get(id).is_none_or(|due| due.at <= now);
        let ready = self.journal.ready().into_iter().filter(is_due).take(PASS);
        ready
            .filter_map(|id| self.journal.pending().get(&id).cloned())
            .collect()
    }

    fn next_due(&self) -> Option<Instant> {
        if self.mode != Mode::Obey {
            return None;
        }
        let ready = self.journal.ready();
        ready
            .iter()
            .filter(|id| !self.is_frozen(id))
            .filter_map(|id| self.due.get(id))
            .map(|due| due.at)
            .min()
    }

    fn is_frozen(&self, id: &ObjectId) -> bool {
        self.journal.frozen().holds(id)
    }

    async fn pass(&mut self, orders: Vec<Order>) {
        let jobs = orders.into_iter().map(|order| {
            let (member, namespace) = (Arc::clone(&self.member), self.namespace.clone());
            let known = Known {
                adopted: self.journal.adopted(&order.object_id).map(str::to_owned),
                held: self.journal.holds(&order.object_id),
                uid: self.journal.uid(&order.object_id).map(str::to_owned),
            };
            async move {
                let done = carry_out(&*member, &order, &namespace, &known).await;
                (order, done)
            }
        });
        // `buffered` keeps the order of kinds among what starts; all of it is independent of one another.
        let mut results = stream::iter(jobs.collect::<Vec<_>>()).buffered(PARALLEL);
        let mut all = Vec::new();
        while let Some(result) = results.next().await {
            all.push(result);
        }
        drop(results);
        for (order, done) in all {
            self.note(order, done);
        }
        self.publish_progress();
    }

    fn note(&mut self, order: Order, done: Done) {
        let id = order.object_id;
        let mut retry = Duration::ZERO;
        match &done {
            Done::Finished { uid, result, .. } => {
                if *result == OutcomeResult::Applied {
                    tracing::info!(object = %order.what(&self.namespace), revision = %order.mark.revision, trace = order.trace_text(), "an order of the hub was carried out");
                }
                self.due.remove(&id);
                self.journal.finish(&id, order.mark);
                if let Some(uid) = uid {
                    self.journal.stands_as(id, uid.clone());
                }
                self.unsaved.get_or_insert_with(|| Instant::now() + TIDY);
            }
            Done::Refused(code, message) => {
                tracing::warn!(object = %order.what(&self.namespace), code, message, trace = order.trace_text(), "an order of the hub was refused");
                self.due.remove(&id);
                self.journal.refuse(&id, order.mark);
                self.unsaved.get_or_insert_with(|| Instant::now() + TIDY);
            }
            Done::Stays { message, again, .. } => {
                tracing::info!(object = %order.what(&self.namespace), message, trace = order.trace_text(), "an order of the hub waits");
                let random = (self.random)();
                let due = self.due.entry(id).or_insert_with(|| Due {
                    at: Instant::now(),
                    backoff: Backoff::default(),
                });
                retry = match again {
                    Again::After(wait) => *wait,
                    Again::Backoff => due.backoff.next_delay(random),
                };
                due.at = Instant::now() + retry;
            }
        }
        self.outbox.outcome(done.outcome(&order, retry));
        match (&done, &order.wish) {
            (Done::Finished { .. }, Wish::Upsert { .. }) => drop(self.known.insert(id, order)),
            (Done::Finished { .. }, Wish::Delete { .. }) => drop(self.known.remove(&id)),
            (Done::Refused(..) | Done::Stays { .. }, _) => {}
        }
    }

    fn publish_progress(&self) {
        // An object that is put back has an old revision: that is no step back for the hub.
        let upto = self.journal.applied_upto().0;
        self.applied.send_if_modified(|known| {
            upto > *known && {
                *known = upto;
                true
            }
        });
    }

    /// Takes finished orders out of the stored journal. A failure costs nothing but a repeated look after a restart.
    async fn tidy(&mut self) {
        self.unsaved = None;
        match self.store.save(&self.journal).await {
            Ok(()) => self.again.clear(),
            Err(error) => {
                tracing::warn!(%error, "the journal could not be tidied; it is tried again");
                self.overtaken |= matches!(error, SaveError::Overtaken(_));
                self.unsaved = Some(Instant::now() + Duration::from_secs(10));
            }
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
