//! The hub's metrics. Labels come from closed sets; no name of a person's object is ever one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::app::observed::Counts;
use crate::tasks::activity::Activities;
use crate::tasks::{Outcome, TaskError};

/// How an activation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum TaskResult {
    /// Nothing to do.
    Settled,
    /// Something was written.
    Progressed,
    /// The hub may not decide.
    HeldBack,
    /// It failed.
    Failed,
}

impl TaskResult {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Progressed => "progressed",
            Self::HeldBack => "heldBack",
            Self::Failed => "failed",
        }
    }

    /// The result of an activation.
    #[must_use]
    pub fn of(result: &Result<Outcome, TaskError>) -> Self {
        match result {
            Ok(Outcome::Settled) => Self::Settled,
            Ok(Outcome::Progressed) => Self::Progressed,
            Ok(Outcome::HeldBack) => Self::HeldBack,
            Err(_) => Self::Failed,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
    result: TaskResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    status: u16,
}

/// Whose requests are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Limited {
    /// Those of one token.
    Token,
    /// Those that show no good token, of one address.
    Address,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: Limited,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RenewalLabels {
    result: RenewalResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum RenewalResult {
    Renewed,
    Failed,
}

/// All metrics and the registry that prints them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    activations: Family<TaskLabels, Counter>,
    activation_seconds: Histogram,
    requests: Family<HttpLabels, Counter>,
    limited: Family<LimitLabels, Counter>,
    certificates: Family<CertificateLabels, Gauge>,
    renewals: Family<RenewalLabels, Counter>,
    moment: OfMoment,
    activities: Activities,
    deliveries: Histogram,
}

/// A metric without labels.
fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// What is so at the moment at which it is asked for.
#[derive(Debug)]
struct OfMoment {
    leads: Gauge,
    members: Gauge,
    store_bytes: Gauge,
    store_revision: Gauge,
    connected: Gauge,
    observing: Gauge,
    frozen: Gauge,
    skewed: Gauge,
    unplanned: Gauge,
    observations: Counter,
    edges: Counter,
}

impl OfMoment {
    fn register(registry: &mut Registry) -> Self {
        let leads = registered(registry, "leads", "1 while this replica leads");
        let members = registered(registry, "members", "Members that are registered");
        let store_bytes = registered(
            registry,
            "store_bytes",
            "Size of the store's file; 0 where the state is in etcd, which tells its own",
        );
        let store_revision = registered(registry, "store_revision", "Revision of the store");
        let connected = registered(registry, "connected_members", "Members that have a session");
        let observing = registered(
            registry,
            "observing",
            "1 while the hub applies nothing until a person decides",
        );
        let frozen = registered(
            registry,
            "frozen_scopes",
            "Members of which no data is deleted before a person has looked; the whole fleet counts as one",
        );
        let skewed = registered(
            registry,
            "skewed_members",
            "Members whose clock is more than five seconds from the hub's",
        );
        let unplanned = registered(
            registry,
            "unplanned_databases",
            "Databases for which nothing is planned, because their plan breaks a rule or their records cannot be read",
        );
        let observations = registered(
            registry,
            "observations",
            "Observations of objects that members told",
        );
        let edges = registered(
            registry,
            "observations_stored",
            "Observations that said something new, and were stored",
        );
        Self {
            leads,
            members,
            store_bytes,
            store_revision,
            connected,
            observing,
            frozen,
            skewed,
            unplanned,
            observations,
            edges,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("meridian_hub");
        let (activations, requests) = (Family::default(), Family::default());
        let activation_seconds = Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]);
        registry.register(
            "task_activations",
            "Activations of background tasks",
            Family::clone(&activations),
        );
        registry.register(
            "task_activation_seconds",
            "Duration of activations",
            activation_seconds.clone(),
        );
        registry.register(
            "http_requests",
            "Answered requests of the web API",
            Family::clone(&requests),
        );
        let limited = Family::default();
        registry.register(
            "http_limited",
            "Requests that were refused because there were too many",
            Family::clone(&limited),
        );
        let (certificates, renewals) = (Family::default(), Family::default());
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "End of a certificate, since the Unix epoch",
            Family::clone(&certificates),
        );
        registry.register(
            "server_certificate_renewals",
            "Renewals of the hub's own server certificate",
            Family::clone(&renewals),
        );
        let deliveries = Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        registry.register(
            "delivery_seconds",
            "Time from telling a member an object to its answer that it stands so",
            deliveries.clone(),
        );
        Self {
            moment: OfMoment::register(&mut registry),
            activities: Activities::default(),
            deliveries,
            certificates,
            renewals,
            registry,
            activations,
            activation_seconds,
            requests,
            limited,
        }
    }
}

/// What is so at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Whether this replica leads.
    pub leads: bool,
    /// Members that are registered; `None` where the store does not say, and then what was said before stays.
    pub members: Option<usize>,
    /// Size of the store's file, bytes; 0 for a store that has none.
    pub store_bytes: u64,
    /// Revision of the store; as with `members`.
    pub store_revision: Option<u64>,
    /// Members that have a session.
    pub connected: usize,
    /// Whether the hub only observes.
    pub observing: bool,
    /// Scopes whose deletions are frozen.
    pub frozen: usize,
    /// Members whose clock is far from the hub's.
    pub skewed: usize,
    /// Databases for which nothing is planned.
    pub unplanned: usize,
    /// How much was observed, and how much of it was stored.
    pub observations: Counts,
}

impl Metrics {
    /// What the tasks did last.
    #[must_use]
    pub fn activities(&self) -> &Activities {
        &self.activities
    }

    /// Times from telling a member an object to its answer that it stands so, in seconds. Clones are the same.
    #[must_use]
    pub fn deliveries(&self) -> Histogram {
        self.deliveries.clone()
    }

    /// Counts an activation.
    pub fn task(&self, task: &'static str, result: TaskResult, took: Duration) {
        self.activations
            .get_or_create(&TaskLabels { task, result })
            .inc();
        self.activation_seconds.observe(took.as_secs_f64());
    }

    /// The server certificate in use ends at this moment, milliseconds since 1970.
    pub fn server_certificate_ends(&self, ends_ms: i64) {
        let certificate = "server";
        self.certificates
            .get_or_create(&CertificateLabels { certificate })
            .set(ends_ms / 1000);
    }

    /// Counts an attempt to renew the server certificate.
    pub fn server_certificate_renewed(&self, well: bool) {
        let result = if well {
            RenewalResult::Renewed
        } else {
            RenewalResult::Failed
        };
        self.renewals.get_or_create(&RenewalLabels { result }).inc();
    }

    /// Counts a request.
    pub fn request(&self, status: u16) {
        self.requests.get_or_create(&HttpLabels { status }).inc();
    }

    /// Counts a request that was held back.
    pub fn limited(&self, limit: Limited) {
        self.limited.get_or_create(&LimitLabels { limit }).inc();
    }

    /// The text for Prometheus, with the state of this moment.
    ///
    /// # Errors
    /// If the text cannot be written, which only a broken encoder does.
    pub fn print(&self, moment: Moment) -> Result<String, std::fmt::Error> {
        let Moment {
            leads,
            members,
            store_bytes,
            store_revision,
            connected,
            observing,
            frozen,
            skewed,
            unplanned,
            observations,
        } = moment;
        let now = &self.moment;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let size = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        now.leads.set(i64::from(leads));
        if let Some(members) = members {
            now.members.set(count(members));
        }
        now.store_bytes.set(size(store_bytes));
        if let Some(revision) = store_revision {
            now.store_revision.set(size(revision));
        }
        now.connected.set(count(connected));
        now.observing.set(i64::from(observing));
        now.frozen.set(count(frozen));
        now.skewed.set(count(skewed));
        now.unplanned.set(count(unplanned));
        let Counts { heard, stored } = observations;
        now.observations.inner().store(heard, Ordering::Relaxed);
        now.edges.inner().store(stored, Ordering::Relaxed);
        let mut printed = String::new();
        text::encode(&mut printed, &self.registry)?;
        Ok(printed)
    }
}
