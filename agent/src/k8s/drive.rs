//! The loop around a controller: one place that turns the outcome of a look into a log line, a metric, an Event and
//! the time of the next look.
//!
//! A look carries no input but the object itself, so "it changed", "the process restarted" and "another replica did it"
//! are one path. Objects are read through [`DeserializeGuard`]: one that cannot be read becomes an Event and an Invalid
//! status of its own, and the others are not touched by it.

mod unreadable;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ObjectReference};
use kube::{
    Api, Resource, ResourceExt as _,
    api::ObjectMeta,
    core::DeserializeGuard,
    runtime::{
        PredicateConfig, WatchStreamExt as _,
        controller::{Action, Config, Controller},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    apply::{Object, Objects},
    conditions::Finding,
    events::Events,
    fault::Fault,
    news,
    own::{DATABASE, DATABASE_NAMESPACE, FIELD_MANAGER, MANAGED_BY},
    retry,
};
use crate::metrics::Metrics;

/// Looks that may run at the same time, per kind: enough to hide the API server's latency, few enough to spare it.
const CONCURRENT: u16 = 8;
/// An object that is well is still looked at after about this long, so that nothing depends on a watch alone.
pub const REST: Duration = Duration::from_secs(300);
/// Of one kind about one look at rest is taken in this time: where there are many objects each rests longer, so that what
/// an idle agent asks of the API server does not grow with them.
const APART: Duration = Duration::from_secs(30);

/// An error that knows its class.
pub trait Failure: std::error::Error + Send + Sync + 'static {
    /// The class.
    fn fault(&self) -> Fault;
}

/// What one controller does with one object.
pub trait Driver: Send + Sync + 'static {
    /// The kind it drives.
    type Kind: Object + Send + Sync;
    /// What can go wrong.
    type Error: Failure;
    /// Name of the controller in logs and metrics.
    const NAME: &'static str;

    /// One look: makes the object true and shows in its status what was found. Returns how soon to look again where
    /// nothing would wake it.
    ///
    /// # Errors
    /// Whatever kept the object from being made true; the class decides when the next look comes.
    fn look(
        &self,
        object: &Self::Kind,
    ) -> impl Future<Output = Result<Option<Duration>, Self::Error>> + Send;

    /// Classic words of an object that this build cannot read, beside `specStatus`.
    fn unreadable() -> Value {
        json!({})
    }

    /// The finalizer by which the driver keeps its objects, if it does.
    const FINALIZER: Option<&'static str> = None;

    /// The next step towards the end of an object that is being deleted and that this build cannot read: by its metadata
    /// and by what was made for it. Asked again until it is over; then the finalizer goes.
    ///
    /// # Errors
    /// As [`Driver::look`].
    fn end(&self, _object: &ObjectMeta) -> impl Future<Output = Result<End, Self::Error>> + Send {
        std::future::ready(Ok(End::Over(String::new())))
    }
}

/// How far the end of an object that cannot be read has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It stays for now: what is waited for, and how soon to look again.
    Waits(Finding, Duration),
    /// Nothing of it runs any more. What stays behind, as a sentence for people.
    Over(String),
}

/// Where outcomes go.
#[derive(Debug, Clone)]
pub struct Report {
    /// Events about objects.
    pub events: Events,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Failures in a row, by object.
#[derive(Debug, Default)]
struct Failures {
    count: BTreeMap<String, u32>,
    /// How many the metrics know of: controllers of several namespaces share one number.
    shown: i64,
}

struct State<D: Driver> {
    driver: D,
    objects: Objects,
    report: Report,
    failures: Mutex<Failures>,
    known: Store<DeserializeGuard<D::Kind>>,
}

impl<D: Driver> State<D> {
    /// By how many more objects fail since this was last asked. Those that are gone are forgotten.
    fn newly_failing(&self) -> i64 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut failures.count;
        let namespace = self.objects.namespace();
        count.retain(|name, _| {
            let named = ObjectRef::new(name).within(namespace);
            self.known.get(&named).is_some()
        });
        let now = i64::try_from(failures.count.len()).unwrap_or(i64::MAX);
        now - std::mem::replace(&mut failures.shown, now)
    }
}

/// What of its own objects wakes a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakes {
    /// Every change.
    All,
    /// What is asked of it, and nothing in its status: for a kind whose status only its own controller writes, or whose
    /// status asks nothing of it. Without this every look that writes the status would be followed by another one.
    Asked,
}

/// A controller of `K` in the namespace of `objects` that every change of its objects wakes; the caller adds what else does.
#[must_use]
pub fn controller<K>(objects: &Objects) -> Controller<DeserializeGuard<K>>
where
    K: Object + Send + Sync,
{
    controller_woken_by(objects, Wakes::All)
}

/// A controller of `K` in the namespace of `objects`, to which the caller adds what else wakes it.
#[must_use]
pub fn controller_woken_by<K>(objects: &Objects, wakes: Wakes) -> Controller<DeserializeGuard<K>>
where
    K: Object + Send + Sync,
{
    let (all, reader) = changes(objects);
    let controller = match wakes {
        Wakes::All => Controller::for_stream(all, reader),
        Wakes::Asked => {
            let asked = |guard: &DeserializeGuard<K>| Some(news::asked(guard.meta()));
            let news = all.predicate_filter(asked, PredicateConfig::default());
            Controller::for_stream(news, reader)
        }
    };
    started(controller)
}

/// As [`controller`]; `tell` hears of each readable object when the watch shows it, before its look waits for its turn.
#[must_use]
pub fn controller_that_tells<K>(
    objects: &Objects,
    tell: impl Fn(&K) + Send + 'static,
) -> Controller<DeserializeGuard<K>>
where
    K: Object + Send + Sync,
{
    let (all, reader) = changes(objects);
    let told = all.inspect(move |change| {
        if let Ok(Ok(object)) = change.as_ref().map(|guard| guard.0.as_ref()) {
            tell(object);
        }
    });
    started(Controller::for_stream(told, reader))
}

fn started<K>(controller: Controller<DeserializeGuard<K>>) -> Controller<DeserializeGuard<K>>
where
    K: Object + Send + Sync,
{
    controller
        .with_config(Config::default().concurrency(CONCURRENT))
        .trigger_backoff(retry::together())
}

/// Every change of the objects of a kind, and what is kept of them.
fn changes<K>(
    objects: &Objects,
) -> (
    impl Stream<Item = watcher::Result<DeserializeGuard<K>>> + Send + 'static,
    Store<DeserializeGuard<K>>,
)
where
    K: Object + Send + Sync,
{
    let api: Api<DeserializeGuard<K>> = objects.api();
    let (reader, writer) = reflector::store();
    let all = watcher(api, watcher::Config::default())
        .backoff(retry::alone())
        .modify(lighten)
        .reflect(writer)
        .applied_objects();
    (all, reader)
}

/// Drops what a kept object needs not have: the API server's notes on who wrote which field are the larger part of most
/// objects, and nobody reads them from what was kept.
pub fn lighten<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Watch settings for objects that we made.
#[must_use]
pub fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"))
}

/// Maps an object of ours to the object of kind `K` that is named in `label`.
pub fn named_in_label<Child, K>(
    label: &'static str,
    namespace: &str,
) -> impl Fn(Child) -> Option<ObjectRef<K>> + use<Child, K>
where
    Child: Resource,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let namespace = namespace.to_owned();
    move |child: Child| {
        child
            .labels()
            .get(label)
            .map(|name| ObjectRef::new(name).within(&namespace))
    }
}

/// Maps an object of ours to the database of kind `K` in `namespace` that it serves, wherever the object itself is.
pub fn database_in_labels<Child, K>(
    namespace: &str,
) -> impl Fn(Child) -> Option<ObjectRef<K>> + use<Child, K>
where
    Child: Resource,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let namespace = namespace.to_owned();
    move |child: Child| {
        let of = child.labels().get(DATABASE_NAMESPACE);
        let of = of.or(child.meta().namespace.as_ref());
        let name = child.labels().get(DATABASE)?;
        (of == Some(&namespace)).then(|| ObjectRef::new(name).within(&namespace))
    }
}

/// Maps an object to the object of kind `K` that has the same name.
pub fn same_name<Other, K>(
    namespace: &str,
) -> impl Fn(Other) -> Option<ObjectRef<K>> + use<Other, K>
where
    Other: Resource,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let namespace = namespace.to_owned();
    move |other: Other| {
        other
            .meta()
            .name
            .as_ref()
            .map(|name| ObjectRef::new(name).within(&namespace))
    }
}

/// How long one of `count` objects that are well rests. `random` in 0..1 spreads the looks, which would otherwise come
/// together for ever where the objects were made together.
#[must_use]
pub fn rest(count: usize, random: f64) -> Duration {
    let many = APART.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    REST.max(many).mul_f64(0.5 + random.clamp(0.0, 1.0))
}

/// Runs `driver` until `stop`; looks that have begun are finished.
pub async fn run<D: Driver>(
    driver: D,
    controller: Controller<DeserializeGuard<D::Kind>>,
    objects: Objects,
    report: Report,
    stop: CancellationToken,
) where
    D::Kind: DeserializeOwned,
{
    let state = Arc::new(State {
        driver,
        objects,
        report,
        failures: Mutex::default(),
        known: controller.store(),
    });
    let ended = Arc::clone(&state);
    controller
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(look::<D>, |_, error: &Infallible, _| match *error {}, state)
        .for_each(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(controller = D::NAME, %error, "an object went before its look");
            }
            std::future::ready(())
        })
        .await;
    let shown = ended
        .failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .shown;
    ended.report.metrics.failing(D::NAME, -shown);
}

/// One look. Every line of the log that it writes names the controller, the object, and the look itself (`trace`).
async fn look<D: Driver>(
    guard: Arc<DeserializeGuard<D::Kind>>,
    state: Arc<State<D>>,
) -> Result<Action, Infallible> {
    let span = tracing::info_span!(
        "look",
        controller = D::NAME,
        namespace = guard.meta().namespace,
        name = guard.meta().name,
        trace = format!("{:016x}", rand::random::<u64>()),
    );
    traced(guard, state).instrument(span).await
}

async fn traced<D: Driver>(
    guard: Arc<DeserializeGuard<D::Kind>>,
    state: Arc<State<D>>,
) -> Result<Action, Infallible> {
    let started = Instant::now();
    let name = guard.name_any();
    state.report.metrics.looks(D::NAME);
    let (outcome, action) = match &guard.0 {
        Ok(object) => match state.driver.look(object).await {
            Ok(next) => {
                healed(&state, &reference(object), &name);
                let rests = || rest(state.known.len(), rand::random());
                ("ok", Action::requeue(next.unwrap_or_else(rests)))
            }
            Err(error) => (
                error.fault().reason(),
                failed(&state, &reference(object), &name, &error).await,
            ),
        },
        Err(invalid) => ("Unreadable", unreadable::look(&state, invalid).await),
    };
    let took = started.elapsed();
    tracing::debug!(
        result = outcome,
        duration_ms = took.as_secs_f64() * 1000.0,
        "looked"
    );
    let metrics = &state.report.metrics;
    metrics.reconciled(D::NAME, outcome, took, state.newly_failing());
    Ok(action)
}

fn reference<K: Object>(object: &K) -> ObjectReference {
    object.object_ref(&())
}

/// What failed before is over: should it come again, it is news again.
fn healed<D: Driver>(state: &State<D>, about: &ObjectReference, name: &str) {
    let failures = &state.failures;
    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    if failures.count.remove(name).is_some() {
        state.report.events.over_all(about);
    }
}

async fn failed<D: Driver>(
    state: &State<D>,
    about: &ObjectReference,
    name: &str,
    error: &D::Error,
) -> Action {
    let fault = error.fault();
    let text = chain(error);
    let failures = {
        let mut failures = state
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = failures.count.entry(name.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    };
    match fault {
        Fault::Conflict | Fault::Waiting => {
            tracing::debug!(controller = D::NAME, name, text, "looks again")
        }
        Fault::Invalid | Fault::Foreign | Fault::Refused | Fault::Unavailable => tracing::warn!(
            controller = D::NAME,
            name,
            fault = fault.reason(),
            text,
            "could not be made true"
        ),
    }
    if fault.is_news(failures) {
        state
            .report
            .events
            .warning(about, fault.reason(), &text)
            .await;
    }
    Action::requeue(fault.delay(failures, rand::random()))
}

/// An error and its causes in one line; a cause that the text already contains is not repeated.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
