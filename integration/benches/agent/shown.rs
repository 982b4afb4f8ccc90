//! The numbers that a replica of the agent shows of itself.

use std::collections::BTreeMap;

use anyhow::Result;
use meridian_integration::stack::{Cluster, NAMESPACE};

const REQUESTS: &str = "meridian_agent_api_requests_total";
const LOOKS: &str = "meridian_agent_reconcile_seconds";

/// By name with labels.
pub(crate) struct Shown(BTreeMap<String, f64>);

impl Shown {
    /// What the replica in this pod shows now.
    pub(crate) fn of(cluster: &Cluster, pod: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics");
        let text = cluster.must(&["get", "--raw", &path], "")?;
        let numbers = text.lines().filter_map(|line| {
            let (name, number) = line.rsplit_once(' ')?;
            (!line.starts_with('#')).then_some((name.to_owned(), number.parse().ok()?))
        });
        Ok(Self(numbers.collect()))
    }

    /// Requests since `before` by verb and resource, whatever the answer.
    pub(crate) fn requests_since(&self, before: &Self) -> BTreeMap<String, f64> {
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for (name, count) in self.0.iter().filter(|(name, _)| name.starts_with(REQUESTS)) {
            let what = [label(name, "verb"), label(name, "resource")].join(" ");
            *counts.entry(what).or_default() += count - before.0.get(name).unwrap_or(&0.0);
        }
        counts.retain(|_, count| *count > 0.0);
        counts
    }

    /// Prints the looks of each controller since this replica started: how many, and how long they took.
    pub(crate) fn looks(&self) {
        let prefix = format!("{LOOKS}_count");
        for (name, count) in self.0.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let labels = name.strip_prefix(&prefix).unwrap_or_default();
            let sum = self.0.get(&format!("{LOOKS}_sum{labels}"));
            let mean = sum.copied().unwrap_or_default() / count * 1000.0;
            println!(
                "  {:<36} {:<12} {count:>7}   mean {mean:>7.1} ms   99 of 100 within {} s",
                label(name, "controller"),
                label(name, "result"),
                self.within(labels, count * 0.99),
            );
        }
    }

    /// The smallest bound of the histogram below which so many looks are.
    fn within(&self, labels: &str, wanted: f64) -> String {
        let prefix = format!("{LOOKS}_bucket");
        let own = labels.trim_end_matches('}').trim_start_matches('{');
        let bounds = self.0.iter().filter(|(name, count)| {
            name.starts_with(&prefix) && name.contains(own) && **count >= wanted
        });
        let bounds = bounds.map(|(name, _)| label(name, "le"));
        let smallest = bounds.min_by(|a, b| {
            let number = |text: &str| text.parse::<f64>().unwrap_or(f64::INFINITY);
            number(a).total_cmp(&number(b))
        });
        smallest.unwrap_or("?").to_owned()
    }
}

/// The value of a label in a metric's name.
fn label<'a>(name: &'a str, label: &str) -> &'a str {
    let quoted = format!("{label}=\"");
    let value = name
        .split_once(&quoted)
        .and_then(|(_, rest)| rest.split_once('"'));
    value.map_or("", |(value, _)| value)
}
