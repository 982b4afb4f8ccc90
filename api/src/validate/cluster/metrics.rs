//! What a cluster may ask of the metrics of its nodes.

use std::collections::BTreeMap;

use super::{Check, quoted};
use crate::crds::cluster::{MetricsConfig, tag_label};

/// Most keys of tags that become labels (the product's limit).
const MOST_KEYS: usize = 50;
/// Longest key of a tag, in characters.
const LONGEST_KEY: usize = 64;
/// What a key may have besides letters and digits (the product's rule).
const PUNCTUATION: &str = " -_.+@:";
/// Units of a bound.
const UNITS: &str = "BKMGTPE";

pub(super) fn check(check: &mut Check, config: &MetricsConfig) {
    let at = "spec.metricsConfig";
    check_keys(check, &config.metrics_tag_keys_exposed);
    for (field, found, low) in [
        ("maxRequestsInFlight", config.max_requests_in_flight, 0),
        ("localStorageMaxSizeMb", config.local_storage_max_size_mb, 1),
        (
            "localStorageRetentionDays",
            config.local_storage_retention_days,
            1,
        ),
    ] {
        check.within(format!("{at}.{field}"), found, low, i64::from(i32::MAX));
    }
    for (field, found) in [
        ("keySizeBuckets", &config.key_size_buckets),
        ("keyItemsBuckets", &config.key_items_buckets),
    ] {
        if let Some(found) = found
            && !are_bounds(found)
        {
            check.refuse(
                format!("{at}.{field}"),
                quoted(found),
                "rising numbers from 1 to 1023 with commas, each with one of the units B, K, M, G, T, P, E or none",
                "write bounds such as 1K,64K,1M, or remove the field",
            );
        }
    }
}

fn check_keys(check: &mut Check, keys: &[String]) {
    let at = "spec.metricsConfig.metricsTagKeysExposed";
    if keys.len() > MOST_KEYS {
        check.refuse(
            at,
            format!("{} keys", keys.len()),
            &format!("at most {MOST_KEYS}"),
            "keep those by which dashboards and alerts group",
        );
    }
    let mut labels: BTreeMap<String, &str> = BTreeMap::new();
    for (n, key) in keys.iter().enumerate() {
        let field = format!("{at}[{n}]");
        let Some(label) = tag_label(key).filter(|_| is_key(key)) else {
            check.refuse(
                field,
                quoted(key),
                &format!(
                    "1 to {LONGEST_KEY} letters, digits, spaces and -_.+@: that make another label than cluster and db, and none \
                     that begins with two underscores"
                ),
                "tag the databases under another key, or remove the entry",
            );
            continue;
        };
        // Keys that differ in case only would be told apart by nobody who reads a dashboard.
        if let Some(first) = labels.insert(label.to_ascii_lowercase(), key) {
            check.refuse(
                field,
                quoted(key),
                &format!("a key whose label no other entry has; {first:?} has it"),
                "remove one of the two",
            );
        }
    }
}

fn is_key(key: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || PUNCTUATION.contains(letter);
    key.len() <= LONGEST_KEY && !key.trim().is_empty() && key.chars().all(allowed)
}

/// Rising bounds; no text at all leaves them to the exporter.
fn are_bounds(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let bounds: Option<Vec<u128>> = text.split(',').map(|part| bound(part.trim())).collect();
    bounds.is_some_and(|bounds| bounds.is_sorted_by(|lower, upper| lower < upper))
}

fn bound(text: &str) -> Option<u128> {
    let unit = text.chars().next_back().and_then(|last| UNITS.find(last));
    let digits = unit.map_or(text, |_| &text[..text.len() - 1]);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u128 = digits.parse().ok().filter(|n| (1..=1023).contains(n))?;
    let shift = u32::try_from(unit.unwrap_or(0)).ok()?.checked_mul(10)?;
    number.checked_shl(shift)
}
