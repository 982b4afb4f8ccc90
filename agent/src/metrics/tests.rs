use std::collections::BTreeSet;

use super::*;

/// Metrics that have counted everything once.
fn full() -> Metrics {
    let (metrics, now) = (Metrics::default(), Instant::now());
    metrics.looks("RedisEnterpriseCluster");
    let took = Duration::from_millis(3);
    metrics.reconciled("RedisEnterpriseCluster", "ok", took, 2);
    metrics.judged("RedisEnterpriseDatabase", "allowed", took);
    metrics.leads(true);
    metrics.hub_connected(true);
    metrics.fenced("db", now);
    let later = now + Duration::from_secs(4);
    metrics.failed_over("db", false, Ended::Promoted, later);
    metrics.certificate(Certificate::Peer, Some(1_700_000_000_999));
    metrics.namespaces(&BTreeMap::from([("operated", 1)]));
    metrics.requested("get", "pods", "2xx", took);
    metrics
}

#[test]
fn what_happened_is_counted_by_closed_words() {
    let text = full().render().unwrap();
    for line in [
        r#"meridian_agent_reconciles_total{controller="RedisEnterpriseCluster",result="ok"} 1"#,
        r#"meridian_agent_reconciles_active{controller="RedisEnterpriseCluster"} 0"#,
        r#"meridian_agent_objects_failing{controller="RedisEnterpriseCluster"} 2"#,
        "meridian_agent_leader 1",
        "meridian_agent_hub_connected 1",
        r#"meridian_agent_admissions_total{kind="RedisEnterpriseDatabase",result="allowed"} 1"#,
        r#"meridian_agent_failovers_total{cause="failure",result="promoted"} 1"#,
        r#"meridian_agent_failover_seconds_sum{cause="failure"} 4.0"#,
        r#"meridian_agent_certificate_expiry_timestamp_seconds{certificate="peer"} 1700000000"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
}

#[test]
fn every_metric_is_in_the_list_and_every_label_in_the_closed_set() {
    let text = full().render().unwrap();
    let mut names = BTreeSet::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            kinds.insert(name.to_owned(), kind.to_owned());
            let total = if kind == "counter" { "_total" } else { "" };
            names.insert(format!("{name}{total}"));
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let labels = series.split_once('{').map_or("", |(_, rest)| rest);
        for label in labels
            .trim_end_matches('}')
            .split(',')
            .filter(|l| !l.is_empty())
        {
            let (name, _) = label.split_once('=').unwrap();
            assert!(LABELS.contains(&name), "label {name} in {line}");
        }
    }
    let known: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names, known);
    for (name, kind) in kinds {
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name}");
    }
}

#[test]
fn only_a_promotion_that_this_replica_began_has_a_duration() {
    let (metrics, now) = (Metrics::default(), Instant::now());
    metrics.failed_over("db", true, Ended::Promoted, now);
    metrics.fenced("db", now);
    metrics.failed_over("db", true, Ended::Abandoned, now);
    let text = metrics.render().unwrap();
    assert!(!text.contains("failover_seconds_count"), "{text}");
    assert!(text.contains(r#"result="abandoned"} 1"#), "{text}");
}

#[test]
fn a_certificate_that_is_gone_is_not_shown() {
    let metrics = Metrics::default();
    metrics.certificate(Certificate::Agent, Some(5_000));
    metrics.certificate(Certificate::Agent, None);
    let text = metrics.render().unwrap();
    assert!(!text.contains("certificate=\"agent\""), "{text}");
}
