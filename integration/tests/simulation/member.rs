//! A member's Kubernetes, as far as the link needs it: objects with uids, finalizers and watches, one Secret with the journal
//! that is written by compare-and-swap, and weather. A request lands although whoever sent it has died.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use kube::api::DynamicObject;
use meridian_agent::{
    k8s::own::is_deletion_approved,
    link::{
        kinds::{DELETE_APPROVED, Kind, OBJECT_ID, REVISION, TERM},
        member::{Member, MemberError},
        mirror::Change,
        observe::Seen,
        settle::{mark_of, object_id_of},
    },
};
use meridian_api::ids::{ClusterUid, Revision, Term};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

#[path = "member/secrets.rs"]
mod secrets;

use super::{
    dice::Dice,
    judge::{Judge, Touched},
    trace::Trace,
};

/// Name of the agent's namespace on every member.
pub(crate) const NAMESPACE: &str = "db";

/// What its API server does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Weather {
    #[default]
    Fair,
    /// Requests take seconds, and some are answered with an error although they were carried out.
    Stormy,
    /// Nothing is answered.
    Down,
}

/// One member's API server. Clones are the same.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    pub(crate) cluster: ClusterUid,
    state: Arc<Mutex<State>>,
    dice: Dice,
    judge: Judge,
    trace: Trace,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(Kind, String), Value>,
    uids: u32,
    secrets: secrets::Secrets,
    /// Objects that somebody edited since the link wrote them.
    edited: BTreeSet<(Kind, String)>,
    /// Fields of the spec that the link wrote last: those of other managers beside them go with the object.
    owned: BTreeMap<(Kind, String), BTreeSet<String>>,
    watchers: Vec<mpsc::UnboundedSender<Seen>>,
    weather: Weather,
}

impl Kubernetes {
    pub(crate) fn new(cluster: ClusterUid, dice: Dice, judge: Judge, trace: Trace) -> Self {
        Self {
            cluster,
            state: Arc::default(),
            dice,
            judge,
            trace,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn note(&self, what: impl std::fmt::Display) {
        let cluster = self.cluster.to_string();
        self.trace
            .note(cluster.split('-').next().unwrap_or_default(), what);
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Everything there is.
    pub(crate) fn objects(&self) -> BTreeMap<(Kind, String), Value> {
        self.state().objects.clone()
    }

    /// Whether somebody edited the object since the link wrote it. An agent that was started since then takes the edit as it is.
    pub(crate) fn is_edited(&self, kind: Kind, name: &str) -> bool {
        self.state().edited.contains(&(kind, name.to_owned()))
    }

    /// Fields of the spec that the link wrote last.
    pub(crate) fn owned(&self, kind: Kind, name: &str) -> BTreeSet<String> {
        let state = self.state();
        let owned = state.owned.get(&(kind, name.to_owned()));
        owned.cloned().unwrap_or_default()
    }

    /// What is there from now on, after all that is there already.
    pub(crate) fn watch(&self) -> mpsc::UnboundedReceiver<Seen> {
        let (send, seen) = mpsc::unbounded_channel();
        let mut state = self.state();
        for ((kind, _), value) in &state.objects {
            let there = Change::There(object(value));
            send.send(Seen::Ordered(*kind, there)).unwrap();
        }
        state.watchers.retain(|watcher| !watcher.is_closed());
        state.watchers.push(send);
        seen
    }

    /// Somebody with a kubeconfig writes an object that is the hub's, or not.
    pub(crate) fn edited_by_hand(&self, kind: Kind, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        let uid = state.next_uid();
        let slot = state
            .objects
            .entry((kind, name.to_owned()))
            .or_insert_with(|| {
                json!({"apiVersion": kind.api_version(), "kind": kind.kind(),
                "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "generation": 1}})
            });
        edit(slot);
        state.edited.insert((kind, name.to_owned()));
        state.tell(kind, name);
        drop(state);
        self.note(format_args!("edited by hand: {kind} {name}"));
    }

    /// Somebody with a kubeconfig takes an object away, whatever holds it.
    pub(crate) fn lost_by_hand(&self, kind: Kind, name: &str) {
        self.state().remove(kind, name);
        self.note(format_args!("taken away by hand: {kind} {name}"));
    }

    /// What the controllers of the member do at a look: they clean up after what the hub lets go, and show how it goes.
    pub(crate) fn controllers_look(&self, status: &str) {
        let mut state = self.state();
        let databases = state.objects.iter();
        let databases: Vec<(String, DynamicObject)> = databases
            .filter(|((kind, _), _)| *kind == Kind::Database)
            .map(|((_, name), value)| (name.clone(), object(value)))
            .collect();
        for (name, database) in databases {
            let going = database.metadata.deletion_timestamp.is_some();
            if going && is_deletion_approved(&database.metadata) {
                state.remove(Kind::Instance, &name);
                state.remove(Kind::Database, &name);
            } else if object_id_of(&database).is_some() {
                let shown = json!({"status": status});
                if let Some(slot) = state.objects.get_mut(&(Kind::Database, name.clone()))
                    && slot["status"] != shown
                {
                    slot["status"] = shown;
                    state.tell(Kind::Database, &name);
                }
            }
        }
    }

    /// Sends one request and waits for its answer, which may not come.
    async fn request<T: Send + 'static>(
        &self,
        carried_out: impl FnOnce(&Self) -> Result<T, MemberError> + Send + 'static,
    ) -> Result<T, MemberError> {
        let gone = || MemberError::Unavailable("the connection was reset".to_owned());
        let (answer, answered) = oneshot::channel();
        let server = self.clone();
        tokio::spawn(async move {
            let weather = server.state().weather;
            let (dice, stormy) = (&server.dice, weather == Weather::Stormy);
            let most = if stormy { 4000 } else { 8 };
            sleep(dice.millis(0..most)).await;
            let down = server.state().weather == Weather::Down;
            let result = if down || (stormy && dice.in_thousand(150)) {
                sleep(dice.millis(0..2000)).await;
                Err(gone())
            } else {
                carried_out(&server)
            };
            let unheard = stormy && dice.in_thousand(150);
            sleep(dice.millis(0..most)).await;
            // Whoever asked may be gone.
            drop(answer.send(if unheard { Err(gone()) } else { result }));
        });
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    fn touched<'a>(
        &self,
        kind: Kind,
        name: &'a str,
        object: &DynamicObject,
    ) -> Option<Touched<'a>> {
        let mark = mark_of(object)?;
        Some(Touched {
            cluster: self.cluster,
            what: name,
            object: object_id_of(object)?,
            mark: (mark.term, mark.revision),
            data_bearing: kind.data_bearing(),
        })
    }
}

impl State {
    fn next_uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    fn tell(&mut self, kind: Kind, name: &str) {
        let Some(value) = self.objects.get(&(kind, name.to_owned())) else {
            return;
        };
        let seen = object(value);
        self.watchers.retain(|watcher| {
            watcher
                .send(Seen::Ordered(kind, Change::There(seen.clone())))
                .is_ok()
        });
    }

    fn remove(&mut self, kind: Kind, name: &str) {
        if let Some(value) = self.objects.remove(&(kind, name.to_owned())) {
            let last = object(&value);
            self.watchers.retain(|watcher| {
                watcher
                    .send(Seen::Ordered(kind, Change::Gone(last.clone())))
                    .is_ok()
            });
        }
    }

    /// The object that a write is for, if it is still the one that was meant.
    fn exactly(
        &mut self,
        kind: Kind,
        name: &str,
        uid: &str,
    ) -> Result<Option<&mut Value>, MemberError> {
        match self.objects.get_mut(&(kind, name.to_owned())) {
            Some(slot) if slot["metadata"]["uid"] == json!(uid) => Ok(Some(slot)),
            Some(_) => Err(MemberError::Raced("another object has the name".to_owned())),
            None => Ok(None),
        }
    }
}

fn object(value: &Value) -> DynamicObject {
    serde_json::from_value(value.clone()).unwrap()
}

impl Member for Kubernetes {
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<DynamicObject>, MemberError> {
        let key = (kind, name.to_owned());
        self.request(move |server| Ok(server.state().objects.get(&key).map(object)))
            .await
    }

    async fn write(
        &self,
        kind: Kind,
        name: &str,
        body: &Value,
        _force: bool,
    ) -> Result<DynamicObject, MemberError> {
        let (name, body) = (name.to_owned(), body.clone());
        self.request(move |server| server.write_now(kind, &name, &body))
            .await
    }

    async fn approve_deletion(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        revision: &str,
    ) -> Result<(), MemberError> {
        let (name, uid, revision) = (name.to_owned(), uid.to_owned(), revision.to_owned());
        self.request(move |server| server.approve_now(kind, &name, &uid, &revision))
            .await
    }

    async fn delete(&self, kind: Kind, name: &str, uid: &str) -> Result<(), MemberError> {
        let (name, uid) = (name.to_owned(), uid.to_owned());
        self.request(move |server| server.delete_now(kind, &name, &uid))
            .await
    }

    async fn list(&self) -> Result<Vec<(Kind, DynamicObject)>, MemberError> {
        self.request(|server| {
            let state = server.state();
            let all = state
                .objects
                .iter()
                .map(|((kind, _), value)| (*kind, object(value)));
            Ok(all
                .filter(|(_, object)| object_id_of(object).is_some())
                .collect())
        })
        .await
    }
}

impl Kubernetes {
    fn write_now(
        &self,
        kind: Kind,
        name: &str,
        body: &Value,
    ) -> Result<DynamicObject, MemberError> {
        let mut state = self.state();
        let uid = state.next_uid();
        let meant = body["metadata"]["uid"].as_str();
        let there = state.objects.get(&(kind, name.to_owned()));
        let same =
            meant.is_none() || there.is_some_and(|it| it["metadata"]["uid"].as_str() == meant);
        if !same {
            return Err(MemberError::Raced("another object has the name".to_owned()));
        }
        let slot = state
            .objects
            .entry((kind, name.to_owned()))
            .or_insert_with(|| json!({"metadata": {"uid": uid, "generation": 0}}));
        let before = slot["spec"].clone();
        merge(slot, body);
        if slot["spec"] != before {
            let generation = slot["metadata"]["generation"].as_i64().unwrap_or(0);
            slot["metadata"]["generation"] = json!(generation + 1);
        }
        let written = object(slot);
        let fields = body["spec"].as_object().into_iter().flatten();
        let fields = fields.map(|(field, _)| field.clone()).collect();
        state.owned.insert((kind, name.to_owned()), fields);
        state.edited.remove(&(kind, name.to_owned()));
        state.tell(kind, name);
        drop(state);
        if let Some(touched) = self.touched(kind, name, &written) {
            self.judge.written(&touched);
            self.note(format_args!("write {kind} {name} {:?}", touched.mark));
        }
        Ok(written)
    }

    fn approve_now(
        &self,
        kind: Kind,
        name: &str,
        uid: &str,
        revision: &str,
    ) -> Result<(), MemberError> {
        let mut state = self.state();
        let Some(slot) = state.exactly(kind, name, uid)? else {
            return Err(MemberError::Raced("the object is gone".to_owned()));
        };
        slot["metadata"]["annotations"][DELETE_APPROVED] = json!(revision);
        let live = object(slot);
        state.tell(kind, name);
        drop(state);
        self.note(format_args!("approve {kind} {name} {revision}"));
        if let Some(touched) = self.touched(kind, name, &live) {
            self.judge.deleted(&touched, approval(revision));
        }
        Ok(())
    }

    fn delete_now(&self, kind: Kind, name: &str, uid: &str) -> Result<(), MemberError> {
        let mut state = self.state();
        let Some(slot) = state.exactly(kind, name, uid)? else {
            return Ok(());
        };
        let live = object(slot);
        if kind == Kind::Database {
            slot["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
            state.tell(kind, name);
        } else {
            state.remove(kind, name);
        }
        drop(state);
        self.note(format_args!("delete {kind} {name}"));
        let approved = live.metadata.annotations.as_ref();
        let approved = approved.and_then(|it| it.get(DELETE_APPROVED));
        match self.touched(kind, name, &live) {
            Some(touched) => self
                .judge
                .deleted(&touched, approved.and_then(|it| approval(it))),
            None => self
                .trace
                .broken("I1", format_args!("{name}: a foreign object was deleted")),
        }
        Ok(())
    }
}

fn approval(text: &str) -> Option<(Term, Revision)> {
    let (term, revision) = text.split_once('/')?;
    Some((term.parse().ok()?, revision.parse().ok()?))
}

/// Fields of objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// What an object of the hub shows: its identity, term and revision.
pub(crate) fn shown(value: &Value) -> Option<(&str, Term, Revision)> {
    let text = |key: &str| value["metadata"]["annotations"][key].as_str();
    let (term, revision) = (text(TERM)?.parse().ok()?, text(REVISION)?.parse().ok()?);
    Some((text(OBJECT_ID)?, term, revision))
}
