//! Watches everything that passes between hubs, agents and members, and says at once which invariant does not hold. It knows
//! what was decided from the volumes themselves, not from what the parties say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use meridian_agent::link::{freeze::Freeze, journal::Journal, kinds::Kind, order::Position};
use meridian_api::{
    ids::{ClusterUid, Incarnation, ObjectId, Revision, Term},
    link::proto::{
        self, AgentFrame, ConfirmAction, HubFrame, OutcomeResult, SyncMode,
        agent_frame::Frame as Say, hub_frame::Frame as Heard,
    },
};

use super::{clock::Wall, trace::Trace, volume::Volume};

#[path = "judge/session.rs"]
mod session;

use session::Session;
pub(crate) use session::SessionId;

/// Sees all. Clones are the same judge.
#[derive(Clone)]
pub(crate) struct Judge {
    trace: Trace,
    /// The clock by which the hub counts.
    hub_wall: Wall,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    volumes: Vec<Volume>,
    sessions: BTreeMap<SessionId, Session>,
    members: BTreeMap<ClusterUid, Member>,
    /// Databases whose deletion the hub over the newest volume told each member, with the hub's time, since a person looked.
    deletions: BTreeMap<ClusterUid, BTreeMap<String, i64>>,
    /// Deletions that a person has seen in a list and released.
    released: BTreeSet<ObjectId>,
}

/// What is known of one member.
#[derive(Default)]
struct Member {
    /// Highest mark that each object ever showed.
    shown: BTreeMap<ObjectId, (Term, Revision)>,
    /// The hub of the highest term that it followed, as it was stored last.
    seen: Option<Position>,
    /// It was told to follow another store.
    adopts: bool,
    /// The newest Welcome that it heard told it to observe.
    observes: bool,
    /// The store of the hub that said it.
    welcomed: Option<String>,
    /// Deletions that the member said to have prepared.
    prepared: BTreeSet<(ObjectId, Revision)>,
    /// Deletions that a hub confirmed.
    confirmed: BTreeSet<(ObjectId, Revision)>,
    /// Where its journal stands, as it was stored last.
    position: Option<Position>,
    /// What waits for people, as its journal was stored last.
    frozen: Freeze,
    /// Epoch of the newest session that was welcomed, by the hub's start.
    newest: BTreeMap<Incarnation, u64>,
}

/// One object that is written or deleted on a member.
#[derive(Clone, Debug)]
pub(crate) struct Touched<'a> {
    pub(crate) cluster: ClusterUid,
    pub(crate) what: &'a str,
    pub(crate) object: ObjectId,
    pub(crate) mark: (Term, Revision),
    pub(crate) data_bearing: bool,
}

impl Judge {
    pub(crate) fn new(trace: Trace, hub_wall: Wall) -> Self {
        Self {
            trace,
            hub_wall,
            state: Arc::default(),
        }
    }

    pub(crate) fn knows(&self, volume: Volume) {
        let mut state = self.state.lock().unwrap();
        state.volumes.push(volume);
        state.deletions.clear();
    }

    /// A person has looked at what is frozen, and let these go: they count no more, nor does what went before.
    pub(crate) fn thawed(&self, seen: Vec<ObjectId>) {
        if seen.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap();
        state.deletions.clear();
        state.released.extend(seen);
    }

    /// Counts what a member is told to delete: more than three databases within an hour are too many, of so few as there are.
    fn count_deletions(&self, state: &mut State, cluster: ClusterUid, apply: &proto::Apply) {
        let now = self.hub_wall.millis();
        let released = &state.released;
        let told = state.deletions.entry(cluster).or_default();
        let goes = |item: &&proto::Item| {
            let kind = Kind::of(&item.api_version, &item.kind);
            let seen = item
                .object_id
                .parse()
                .is_ok_and(|id| released.contains(&id));
            item.op() == proto::ItemOp::Delete && kind == Some(Kind::Database) && !seen
        };
        for item in apply.items.iter().filter(goes) {
            told.entry(item.name.clone()).or_insert(now);
        }
        let hour = now - 3_600_000..=now;
        let counted = told.values().filter(|at| hour.contains(at)).count();
        if counted > 3 {
            let what = format!("{cluster}: told to delete {counted} databases within an hour");
            self.trace.broken("I3", what);
        }
    }

    /// A frame leaves the hub. `fresh`: it was made in this very moment.
    pub(crate) fn hub_says(
        &self,
        id: SessionId,
        cluster: ClusterUid,
        volume: &Volume,
        (frame, fresh): (&HubFrame, bool),
    ) {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        if let Some(Heard::Apply(apply)) = frame.frame.as_ref()
            && state.volumes.last().is_some_and(|it| it.is(volume))
        {
            self.count_deletions(state, cluster, apply);
        }
        let session = state
            .sessions
            .entry(id)
            .or_insert_with(|| Session::of(cluster));
        let member = state.members.entry(cluster).or_default();
        match frame.frame.as_ref() {
            Some(Heard::Welcome(welcome)) => {
                if session.impostor {
                    self.trace
                        .broken("I8", format!("{id}: an impostor was welcomed"));
                }
                session.welcomed(welcome, volume.clone());
                let epochs = member.newest.entry(session.start).or_default();
                *epochs = (*epochs).max(welcome.session_epoch);
            }
            Some(Heard::Apply(apply)) => {
                let newest = member.newest.get(&session.start).copied();
                if fresh && newest.is_some_and(|newest| newest > session.epoch) {
                    let epoch = session.epoch;
                    let what =
                        format!("{id}: Apply in epoch {epoch} although {newest:?} was welcomed");
                    self.trace.broken("I6", what);
                }
                if let Err((invariant, what)) = session.sends(apply) {
                    self.trace.broken(invariant, format!("{id}: {what}"));
                }
            }
            _ => {}
        }
    }

    /// A frame arrives at the hub.
    pub(crate) fn hub_hears(&self, id: SessionId, cluster: ClusterUid, frame: &AgentFrame) {
        let mut state = self.state.lock().unwrap();
        let session = state
            .sessions
            .entry(id)
            .or_insert_with(|| Session::of(cluster));
        match frame.frame.as_ref() {
            Some(Say::Hello(hello)) => session.greeted(hello),
            Some(Say::Ack(ack)) => session.acknowledged(ack.seq),
            _ => {}
        }
    }

    /// A frame leaves the agent.
    pub(crate) fn agent_says(&self, cluster: ClusterUid, frame: &AgentFrame) {
        let mut state = self.state.lock().unwrap();
        let member = state.members.entry(cluster).or_default();
        let prepared = |outcome: &proto::Outcome| {
            let held = outcome.result() == OutcomeResult::Held;
            let id = outcome.object_id.parse().ok().filter(|_| held);
            id.map(|id| (id, Revision(outcome.revision)))
        };
        match frame.frame.as_ref() {
            Some(Say::Outcome(outcome)) => member.prepared.extend(prepared(outcome)),
            Some(Say::Hello(hello)) => {
                let pending = hello.pending_outcomes.iter();
                member.prepared.extend(pending.filter_map(prepared));
            }
            _ => {}
        }
    }

    /// A frame arrives at the agent.
    pub(crate) fn agent_hears(&self, cluster: ClusterUid, frame: &HubFrame) {
        let mut state = self.state.lock().unwrap();
        let member = state.members.entry(cluster).or_default();
        let confirm = match frame.frame.as_ref() {
            Some(Heard::Confirm(confirm)) => confirm,
            Some(Heard::Welcome(welcome)) => {
                member.observes = welcome.mode() == SyncMode::Observe;
                member.welcomed = welcome.head.as_ref().map(|head| head.store_id.clone());
                return;
            }
            _ => return,
        };
        // Terms of another store cannot be compared; a person let the member follow it.
        member.adopts |= confirm.action() == ConfirmAction::Adopt && confirm.object_id.is_empty();
        if confirm.action() != ConfirmAction::Delete {
            return;
        }
        if let Ok(id) = confirm.object_id.parse() {
            member.confirmed.insert((id, Revision(confirm.revision)));
        }
    }

    /// The agent's journal is stored.
    pub(crate) fn kept(&self, cluster: ClusterUid, journal: &Journal) {
        let mut state = self.state.lock().unwrap();
        let member = state.members.entry(cluster).or_default();
        let (before, now) = (member.seen.take(), journal.seen().cloned());
        if before != now {
            let follows = |before: &Position, now: &Position| match before.store_id == now.store_id
            {
                true => before.term <= now.term,
                // Who carried nothing out yet may follow any.
                false => member.shown.is_empty(),
            };
            let may = match (&before, &now) {
                (Some(before), Some(now)) => follows(before, now),
                (None, _) => true,
                (Some(_), None) => false,
            };
            if !std::mem::take(&mut member.adopts) && !may {
                let what = format!("{cluster}: followed was {before:?}, and now is {now:?}");
                self.trace.broken("I5", what);
            }
        }
        member.seen = now;
        member.position = journal.position().cloned();
        member.frozen = journal.frozen().clone();
    }

    /// Whether the orders of an object wait until people have looked: nothing is done for it meanwhile.
    pub(crate) fn is_frozen(&self, cluster: ClusterUid, object: &str) -> bool {
        let state = self.state.lock().unwrap();
        let member = state.members.get(&cluster);
        let id = object.parse().ok();
        id.is_some_and(|id| member.is_some_and(|member| member.frozen.holds(&id)))
    }

    /// The link writes an object on a member.
    pub(crate) fn written(&self, touched: &Touched<'_>) {
        let Touched {
            cluster,
            what,
            object,
            mark,
            ..
        } = touched;
        let mut state = self.state.lock().unwrap();
        let member = state.members.entry(*cluster).or_default();
        let shown = member.shown.entry(*object).or_default();
        if *mark < *shown {
            let told = format!("{cluster} {what}: {mark:?} written over {shown:?}");
            self.trace.broken("I4", told);
        }
        *shown = (*shown).max(*mark);
    }

    /// The link deletes an object on a member, or says that its clean-up may begin, by the tombstone of `by`.
    pub(crate) fn deleted(&self, touched: &Touched<'_>, by: Option<(Term, Revision)>) {
        let Touched {
            cluster,
            what,
            object,
            mark,
            data_bearing,
        } = touched;
        let state = self.state.lock().unwrap();
        let member = state.members.get(cluster);
        let start = member
            .and_then(|member| member.position.as_ref())
            .map(|position| position.incarnation);
        let obeyed = state
            .volumes
            .iter()
            .find(|volume| start.is_some_and(|start| volume.began(start)));
        let Some(volume) = obeyed else {
            let told = format!("{cluster} {what}: deleted, but no hub was ever obeyed");
            return self.trace.broken("I1", told);
        };
        // Revisions of another term may count from anew; the term is what orders them then.
        let above = |position: &Position| position.term > mark.0;
        let later = member
            .and_then(|member| member.position.as_ref())
            .is_some_and(above);
        let above = if later { Revision(0) } else { mark.1 };
        if !volume.has_tombstone(*cluster, *object, above) {
            let told = format!("{cluster} {what} ({object}): no tombstone above {mark:?}");
            self.trace.broken("I1", told);
        }
        if !data_bearing {
            return;
        }
        if !volume.is_confirmed(*object) {
            let told = format!("{cluster} {what} ({object}): nobody confirmed that it goes");
            self.trace.broken("I2", told);
        }
        let Some((_, revision)) = by else { return };
        let both = |member: &Member| {
            let step = (*object, revision);
            member.prepared.contains(&step) && member.confirmed.contains(&step)
        };
        if !member.is_some_and(both) {
            let told = format!("{cluster} {what} ({object}): not prepared and confirmed at {by:?}");
            self.trace.broken("I2", told);
        }
    }

    /// From now on the session is one whose Hello names another cluster than its certificate.
    pub(crate) fn is_impostor(&self, id: SessionId, certified: ClusterUid) {
        let mut state = self.state.lock().unwrap();
        let session = state
            .sessions
            .entry(id)
            .or_insert_with(|| Session::of(certified));
        session.impostor = true;
    }

    /// How many sessions were welcomed to obey, and how many to observe.
    pub(crate) fn welcomes(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        let welcomed = state.sessions.values().filter_map(|session| session.mode);
        let (observe, obey): (Vec<_>, Vec<_>) =
            welcomed.partition(|mode| *mode == SyncMode::Observe);
        (obey.len(), observe.len())
    }

    /// Whether the member observes the hub of the newest Welcome that it heard: it was told to, or has not stored yet that it
    /// follows this hub's store instead of the one that it follows.
    pub(crate) fn observes(&self, cluster: ClusterUid) -> bool {
        let state = self.state.lock().unwrap();
        let Some(member) = state.members.get(&cluster) else {
            return false;
        };
        let follows = member.position.as_ref().map(|it| it.store_id.to_string());
        let other = follows.is_some() && follows != member.welcomed;
        member.observes || other
    }

    /// What the member's newest session was sent so far, Welcome first; nothing if none was to obey.
    pub(crate) fn last_session(&self, cluster: ClusterUid) -> Vec<HubFrame> {
        let state = self.state.lock().unwrap();
        // They are numbered as they begin, whatever hub and store they are with.
        let mut newest_first = state.sessions.values().rev();
        let newest = newest_first.find(|session| session.was_welcomed(cluster));
        newest
            .filter(|session| session.is_to_obey())
            .map(|session| session.sent.clone())
            .unwrap_or_default()
    }
}
