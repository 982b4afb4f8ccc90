//! The agent's metrics. Labels come from closed sets only: no object names, no error texts.

use std::{collections::BTreeMap, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Outcome, Counter>,
    seconds: Family<Kind, Histogram>,
    leader: Gauge,
    judged: Family<Outcome, Counter>,
    judged_seconds: Family<Kind, Histogram>,
    namespaces: Family<State, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("meridian_agent");
        let reconciles = Family::<Outcome, Counter>::default();
        let seconds = Family::<Kind, Histogram>::new_with_constructor(|| {
            Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0])
        });
        let leader = Gauge::default();
        let judged = Family::<Outcome, Counter>::default();
        let judged_seconds = Family::<Kind, Histogram>::new_with_constructor(|| {
            Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5])
        });
        registry.register(
            "reconciles",
            "Looks at an object, by kind and outcome",
            reconciles.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "Duration of a look at an object",
            seconds.clone(),
        );
        registry.register("leader", "1 while this replica leads", leader.clone());
        registry.register(
            "admissions",
            "Answers of the admission webhook, by kind and outcome",
            judged.clone(),
        );
        registry.register(
            "admission_seconds",
            "Duration of an answer of the admission webhook",
            judged_seconds.clone(),
        );
        let namespaces = Family::<State, Gauge>::default();
        registry.register(
            "namespaces",
            "Namespaces by how they stand: operated, or why they are not",
            namespaces.clone(),
        );
        Self {
            registry,
            reconciles,
            seconds,
            leader,
            judged,
            judged_seconds,
            namespaces,
        }
    }
}

impl Metrics {
    /// Counts one look at an object of `kind` that took `took` and ended with `outcome` (`ok`, or a fault's reason).
    pub fn reconciled(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.reconciles
            .get_or_create(&Outcome { kind, outcome })
            .inc();
        self.seconds
            .get_or_create(&Kind { kind })
            .observe(took.as_secs_f64());
    }

    /// Counts one answer about an object of `kind` that took `took`: `allowed`, `refused` or `unknown`.
    pub fn judged(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.judged.get_or_create(&Outcome { kind, outcome }).inc();
        self.judged_seconds
            .get_or_create(&Kind { kind })
            .observe(took.as_secs_f64());
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

    /// Everything in the text format of Prometheus.
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
mod tests {
    use super::*;

    #[test]
    fn a_look_is_counted_by_kind_and_outcome() {
        let metrics = Metrics::default();
        metrics.reconciled("RedisEnterpriseCluster", "ok", Duration::from_millis(3));
        metrics.leads(true);
        let text = metrics.render().unwrap();
        assert!(
            text.contains(
                r#"meridian_agent_reconciles_total{kind="RedisEnterpriseCluster",outcome="ok"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains("meridian_agent_leader 1"), "{text}");
    }
}
