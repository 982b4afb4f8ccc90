//! The agent's metrics. Labels come from closed sets only: no object names, no error texts.

mod requests;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

pub use requests::CountRequests;

/// Every metric that an agent may show, as Prometheus names it. Histograms are named without their endings.
pub const NAMES: &[&str] = &[
    "meridian_agent_admission_seconds",
    "meridian_agent_admissions_total",
    "meridian_agent_api_request_seconds",
    "meridian_agent_api_requests_total",
    "meridian_agent_build_info",
    "meridian_agent_certificate_expiry_timestamp_seconds",
    "meridian_agent_failover_seconds",
    "meridian_agent_failovers_total",
    "meridian_agent_hub_connected",
    "meridian_agent_leader",
    "meridian_agent_namespaces",
    "meridian_agent_objects_failing",
    "meridian_agent_reconcile_seconds",
    "meridian_agent_reconciles_active",
    "meridian_agent_reconciles_total",
];

/// Every label that a metric of the agent may have; `le` is that of histograms.
pub const LABELS: &[&str] = &[
    "cause",
    "certificate",
    "controller",
    "kind",
    "le",
    "resource",
    "result",
    "state",
    "verb",
    "version",
];

/// Durations of looks and answers, seconds.
const SHORT: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Durations of failovers, seconds: the bars are 3 s for a planned one, 10 and 15 s for others.
const FAILOVER: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0];

type Label = &'static str;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Look {
    controller: Label,
    result: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Review {
    kind: Label,
    result: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: Label,
    resource: Label,
    result: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    verb: Label,
    resource: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failover {
    cause: Label,
    result: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Caused {
    cause: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ends {
    certificate: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: Label,
}

type Timings<L> = Family<L, Histogram, fn() -> Histogram>;

/// How a failover ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The candidate became primary.
    Promoted,
    /// A planned move was given up.
    Abandoned,
    /// The primary goes on with what it has.
    Reinstated,
}

/// Whose certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// The agent's own, by which the hub knows it.
    Agent,
    /// Of nodes towards other regions; of all clusters the one that ends first.
    Peer,
    /// Of the admission webhook.
    Admission,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: Label,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    looks: Family<Look, Counter>,
    look_seconds: Timings<Look>,
    looking: Family<Controller, Gauge>,
    failing: Family<Controller, Gauge>,
    leader: Gauge,
    hub: Gauge,
    reviews: Family<Review, Counter>,
    review_seconds: Timings<Review>,
    requests: Family<Request, Counter>,
    request_seconds: Timings<Timed>,
    failovers: Family<Failover, Counter>,
    failover_seconds: Timings<Caused>,
    ends: Family<Ends, Gauge>,
    namespaces: Family<State, Gauge>,
    /// When this replica began the failovers that are under way, by topology.
    fenced: Mutex<BTreeMap<String, Instant>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let short = || Histogram::new(SHORT);
        let mut metrics = Self {
            registry: Registry::with_prefix("meridian_agent"),
            looks: Family::default(),
            look_seconds: Family::new_with_constructor(short),
            looking: Family::default(),
            failing: Family::default(),
            leader: Gauge::default(),
            hub: Gauge::default(),
            reviews: Family::default(),
            review_seconds: Family::new_with_constructor(short),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(short),
            failovers: Family::default(),
            failover_seconds: Family::new_with_constructor(|| Histogram::new(FAILOVER)),
            ends: Family::default(),
            namespaces: Family::default(),
            fenced: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let build = Family::<Build, Gauge>::default();
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&Build { version }).set(1);
        let r = &mut self.registry;
        r.register("build_info", "1; the release is a label", build);
        let help = "Looks at an object, by controller and result";
        r.register("reconciles", help, self.looks.clone());
        let (help, timings) = ("Duration of a look", self.look_seconds.clone());
        r.register_with_unit("reconcile", help, Unit::Seconds, timings);
        let help = "Looks under way";
        r.register("reconciles_active", help, self.looking.clone());
        let help = "Objects whose last look failed; they are looked at again";
        r.register("objects_failing", help, self.failing.clone());
        let help = "1 while this replica leads";
        r.register("leader", help, self.leader.clone());
        let help = "1 while the hub is connected";
        r.register("hub_connected", help, self.hub.clone());
        let help = "Namespaces by how they stand: operated, or why they are not";
        r.register("namespaces", help, self.namespaces.clone());
        let help = "Answers of the admission webhook, by kind and result";
        r.register("admissions", help, self.reviews.clone());
        let (help, timings) = ("Duration of an answer", self.review_seconds.clone());
        r.register_with_unit("admission", help, Unit::Seconds, timings);
        let help = "Requests to the API server; a watch counts once, when it begins";
        r.register("api_requests", help, self.requests.clone());
        let help = "Time until the API server began to answer";
        let timings = self.request_seconds.clone();
        r.register_with_unit("api_request", help, Unit::Seconds, timings);
        let help = "Failovers that this replica ended, by cause and result";
        r.register("failovers", help, self.failovers.clone());
        let help = "From the fence to the write that names the new primary";
        let timings = self.failover_seconds.clone();
        r.register_with_unit("failover", help, Unit::Seconds, timings);
        let help = "End of a certificate, since the Unix epoch; of several the first";
        let ends = self.ends.clone();
        r.register_with_unit("certificate_expiry_timestamp", help, Unit::Seconds, ends);
    }

    /// A look of `controller` begins.
    pub fn looks(&self, controller: Label) {
        self.looking.get_or_create(&Controller { controller }).inc();
    }

    /// Counts one look that took `took` and ended with `result` (`ok`, or a fault's reason), after which `more` objects than
    /// before fail.
    pub fn reconciled(&self, controller: Label, result: Label, took: Duration, more: i64) {
        let look = Look { controller, result };
        self.looks.get_or_create(&look).inc();
        let seconds = self.look_seconds.get_or_create(&look);
        seconds.observe(took.as_secs_f64());
        self.looking.get_or_create(&Controller { controller }).dec();
        self.failing(controller, more);
    }

    /// So many more objects of `controller` fail.
    pub fn failing(&self, controller: Label, more: i64) {
        self.failing
            .get_or_create(&Controller { controller })
            .inc_by(more);
    }

    /// Counts one answer about an object of `kind` that took `took`: `allowed`, `refused` or `unknown`.
    pub fn judged(&self, kind: Label, result: Label, took: Duration) {
        let review = Review { kind, result };
        self.reviews.get_or_create(&review).inc();
        let seconds = self.review_seconds.get_or_create(&review);
        seconds.observe(took.as_secs_f64());
    }

    /// Says how many namespaces stand how; what is not counted any more is shown as none.
    pub fn namespaces(&self, counts: &BTreeMap<&'static str, i64>) {
        self.namespaces.clear();
        for (state, count) in counts {
            self.namespaces.get_or_create(&State { state }).set(*count);
        }
    }

    /// Says whether this replica leads.
    pub fn leads(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// Says whether the hub is connected.
    pub fn hub_connected(&self, connected: bool) {
        self.hub.set(i64::from(connected));
    }

    /// A failover of the topology begins at `now`.
    pub fn fenced(&self, topology: &str, now: Instant) {
        let mut fenced = self.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        fenced.insert(topology.to_owned(), now);
    }

    /// A failover of the topology ended at `now`. Its duration is known if this replica began it.
    pub fn failed_over(&self, topology: &str, planned: bool, ended: Ended, now: Instant) {
        let cause = if planned { "planned" } else { "failure" };
        let result = match ended {
            Ended::Promoted => "promoted",
            Ended::Abandoned => "abandoned",
            Ended::Reinstated => "reinstated",
        };
        let failover = Failover { cause, result };
        self.failovers.get_or_create(&failover).inc();
        let mut fenced = self.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        let began = fenced.remove(topology);
        if let Some(began) = began.filter(|_| ended == Ended::Promoted) {
            let took = now.saturating_duration_since(began).as_secs_f64();
            let seconds = self.failover_seconds.get_or_create(&Caused { cause });
            seconds.observe(took);
        }
    }

    /// A certificate ends at `ends_ms`, milliseconds since 1970; `None`: there is none any more.
    pub fn certificate(&self, whose: Certificate, ends_ms: Option<i64>) {
        let certificate = match whose {
            Certificate::Agent => "agent",
            Certificate::Peer => "peer",
            Certificate::Admission => "admission",
        };
        let labels = Ends { certificate };
        match ends_ms {
            Some(ms) => {
                self.ends.get_or_create(&labels).set(ms / 1000);
            }
            None => {
                self.ends.remove(&labels);
            }
        }
    }

    /// Everything in the text format of OpenMetrics.
    ///
    /// # Errors
    /// The text could not be written.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
