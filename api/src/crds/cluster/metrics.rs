//! What the metrics of a cluster (REC) show, and to how many at once.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scrapes that a node answers at once where the field is left out (the product's default).
pub const SCRAPES_IN_FLIGHT: u32 = 2;

/// Labels by which a series finds the database that it is about: no tag takes their place.
pub const DATABASE_LABELS: [&str; 2] = ["cluster", "db"];

/// What the metrics of the nodes show, and to how many at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsConfig {
    /// Tags of databases are shown as labels of the metric `db_tags`: those whose keys `metricsTagKeysExposed` lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose_database_tags: Option<bool>,
    /// Keys of tags that are shown, at most 50. Keys are compared letter by letter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics_tag_keys_exposed: Vec<String>,
    /// Scrapes that a node answers at once, 2 if unset; 0: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests_in_flight: Option<i64>,
    /// Histograms of the sizes of keys and of their items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_distribution_enabled: Option<bool>,
    /// Bounds of the histogram of sizes, rising, with commas, such as `128M,512M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_size_buckets: Option<String>,
    /// Bounds of the histogram of items, rising, with commas, such as `1M,8M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_items_buckets: Option<String>,
    /// Most that a node keeps of its metrics on disk, megabytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_storage_max_size_mb: Option<i64>,
    /// Days for which a node keeps its metrics on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_storage_retention_days: Option<i64>,
}

impl MetricsConfig {
    /// Scrapes that a node answers at once; `None`: any number.
    #[must_use]
    pub fn scrapes(&self) -> Option<u32> {
        let asked = self
            .max_requests_in_flight
            .unwrap_or_else(|| SCRAPES_IN_FLIGHT.into());
        // A number below 0 makes the cluster Invalid before anything reads it here.
        u32::try_from(asked).ok().filter(|most| *most > 0)
    }

    /// The labels that `tags` of a database become: only those whose keys are listed, and none while tags are not shown.
    #[must_use]
    pub fn labels(&self, tags: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        if self.expose_database_tags != Some(true) {
            return labels;
        }
        for key in &self.metrics_tag_keys_exposed {
            if let (Some(label), Some(value)) = (tag_label(key), tags.get(key)) {
                labels.entry(label).or_insert_with(|| value.clone());
            }
        }
        labels
    }
}

/// The label that a tag with this key becomes: what cannot stand in a label is `_`. `None` for one that would hide which
/// database a series is about, or that monitoring systems keep for themselves.
#[must_use]
pub fn tag_label(key: &str) -> Option<String> {
    let allowed = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '_'
        }
    };
    let mut label: String = key.chars().map(allowed).collect();
    if label.starts_with(|first: char| first.is_ascii_digit()) {
        label.insert(0, '_');
    }
    let kept =
        label.is_empty() || label.starts_with("__") || DATABASE_LABELS.contains(&label.as_str());
    (!kept).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn config(expose: Option<bool>, keys: &[&str]) -> MetricsConfig {
        MetricsConfig {
            expose_database_tags: expose,
            metrics_tag_keys_exposed: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..MetricsConfig::default()
        }
    }

    #[test]
    fn tags_are_labels_only_where_the_cluster_shows_tags_and_lists_their_keys() {
        let tags = map(&[("env", "prod"), ("Env", "x"), ("team", "pay"), ("app", "a")]);
        let keys = ["env", "team", "tier"];
        let shown = map(&[("env", "prod"), ("team", "pay")]);
        assert_eq!(config(Some(true), &keys).labels(&tags), shown);
        for hidden in [None, Some(false)] {
            assert_eq!(config(hidden, &keys).labels(&tags), BTreeMap::new());
        }
        assert_eq!(config(Some(true), &[]).labels(&tags), BTreeMap::new());
    }

    #[test]
    fn every_key_becomes_a_label_that_monitoring_systems_take_and_none_hides_the_database() {
        for (key, label) in [
            ("cost-centre", Some("cost_centre")),
            ("a b.c@d:é", Some("a_b_c_d__")),
            ("2nd", Some("_2nd")),
            ("Env", Some("Env")),
            ("db", None),
            ("cluster", None),
            ("__name__", None),
            ("..x", None),
            ("", None),
        ] {
            assert_eq!(tag_label(key).as_deref(), label, "{key}");
        }
        let both = map(&[("a.b", "1"), ("a-b", "2")]);
        assert_eq!(
            config(Some(true), &["a.b", "a-b"]).labels(&both),
            map(&[("a_b", "1")])
        );
    }

    #[test]
    fn two_scrapes_at_once_unless_another_number_is_asked_for_and_0_is_any() {
        for (asked, scrapes) in [(None, Some(2)), (Some(7), Some(7)), (Some(0), None)] {
            let config = MetricsConfig {
                max_requests_in_flight: asked,
                ..MetricsConfig::default()
            };
            assert_eq!(config.scrapes(), scrapes);
        }
    }
}
