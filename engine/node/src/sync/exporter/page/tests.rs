use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::sync::exporter::info::Info;
use crate::sync::exporter::snapshot::Process;
use crate::sync::exporter::text::Kind;
use crate::sync::link::LinkStatus;
use crate::sync::node::{LinkRow, ShardView};

const INFO: &str = "\
run_id:x\nuptime_in_seconds:7\nconnected_clients:3\nblocked_clients:0\nused_memory:1024\nused_memory_rss:2048\nmaxmemory:4096\n\
mem_fragmentation_ratio:1.5\nmem_replication_backlog:10\nmem_aof_buffer:0\naof_enabled:1\naof_last_write_status:ok\n\
aof_current_size:99\naof_rewrite_in_progress:0\naof_delayed_fsync:0\nrdb_bgsave_in_progress:0\nrdb_saves:1\n\
rdb_last_bgsave_status:err\nrdb_last_save_time:1700000000\nrdb_changes_since_last_save:2\ntotal_connections_received:8\n\
total_commands_processed:100\ntotal_net_input_bytes:5\ntotal_net_output_bytes:6\nrejected_connections:0\nexpired_keys:1\n\
evicted_keys:0\nkeyspace_hits:40\nkeyspace_misses:2\ntotal_error_replies:0\nrole:master\nconnected_slaves:1\n\
master_repl_offset:777\nmaster_link_status:up\nmaster_sync_in_progress:0\nused_cpu_sys:0.5\nused_cpu_user:1.25\n\
db0:keys=12,expires=4,avg_ttl=0\ncrdt_engine:crdt\ncrdt_config_version:5\ncrdt_written:20\ncrdt_effect_reqs:30\n\
crdt_ovc_filtered_effect_reqs:1\ncrdt_refused_effect_reqs:0\ncrdt_gc_pending:2\ncrdt_gc_collected:3\n\
crdt_gc_waiting_removals:0\ncrdt_backlog_effects:4\ncrdt_backlog_bytes:400\ncrdt_fence:on\ncrdt_fence_epoch:3\n\
crdt_fence_deadline:12500\ncrdt_fence_refused_writes:9\n";

fn shard(role: &'static str, process: Option<Process>) -> ShardSample {
    let mut view = ShardView {
        id: 0,
        role,
        ready: true,
        writable: role == "primary",
        port: 10_000,
        replication: Default::default(),
        clock: None,
        error: Some("an error text".to_owned()),
        version: None,
        access: None,
        internal: None,
    };
    view.replication.replicas = BTreeMap::from([("rec-1".to_owned(), (true, 17))]);
    view.replication.offset = Some(777);
    view.replication.fenced = Some(4);
    ShardSample {
        database: "db".to_owned(),
        epoch: 3,
        view,
        process,
        boot_ms: 10_000,
    }
}

fn tagged(database: &str, tags: &[(&str, &str)]) -> BTreeMap<String, BTreeMap<String, String>> {
    let tag = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    [(database.to_owned(), tags.iter().map(tag).collect())].into()
}

fn snapshot() -> Snapshot {
    let now = crate::clock::now();
    let mut status = LinkStatus::new(now, 0);
    status.idle("{}", now);
    status.change(State::Up, Some("10.0.0.1 refused".to_owned()), now, 0);
    let row = LinkRow {
        instance_id: 2,
        name: "two".to_owned(),
        status: status.view(now, 4000),
    };
    let process = Process {
        info: Some(Info::parse(INFO)),
        in_sync: Some(1),
        starts: Some(2),
    };
    Snapshot {
        cluster: "rec".to_owned(),
        node: "rec-0".to_owned(),
        shards: vec![shard("primary", Some(process))],
        links: vec![LinkSample {
            database: "db".to_owned(),
            row,
        }],
        tags: tagged("db", &[("env", "prod"), ("cost_centre", "42")]),
        refused: 1,
        problems: 0,
        sync_starts: Some((1, 0)),
    }
}

/// A line of the page in parts: name, labels, value.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (name, rest) = line.split_once('{').unwrap();
    let (labels, value) = rest.rsplit_once("} ").unwrap();
    let labels = labels.split(',').map(|label| {
        let (name, value) = label.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    let value = value.replace("+Inf", "inf").parse().unwrap();
    (name.to_owned(), labels.collect(), value)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn the_page_has_the_names_and_values_that_people_look_for() {
    let text = of(&snapshot(), |_| true);
    for line in [
        "node_metrics_up{cluster=\"rec\",node=\"rec-0\"} 1",
        "redis_server_up{cluster=\"rec\",node=\"rec-0\",db=\"db\",redis=\"0\",role=\"master\"} 1",
        "redis_server_used_memory{cluster=\"rec\",node=\"rec-0\",db=\"db\",redis=\"0\",role=\"master\"} 1024",
        "redis_server_db_keys{cluster=\"rec\",node=\"rec-0\",db=\"db\",redis=\"0\",role=\"master\"} 12",
        "database_syncer_lag_ms{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 0",
        "database_syncer_current_status{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 0",
        "database_syncer_ingress_bytes{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 0",
        "database_syncer_state{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 2",
        "database_syncer_src_connectivity_state{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 1",
        "database_syncer_src_connectivity_state_ms{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 4000",
        "database_syncer_dst_connectivity_state{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 1",
        "database_syncer_dst_connectivity_state_ms{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 7000",
        "crdt_src_ingress_bytes{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 0",
        "meridian_shard_lease_remaining_seconds{cluster=\"rec\",node=\"rec-0\",db=\"db\",shard=\"0\",role=\"primary\"} 2.5",
        "meridian_shard_fenced{cluster=\"rec\",node=\"rec-0\",db=\"db\",shard=\"0\",role=\"primary\"} 1",
        "meridian_shard_cpu_seconds_total{cluster=\"rec\",node=\"rec-0\",db=\"db\",shard=\"0\",role=\"primary\"} 1.75",
        "meridian_shard_last_save_ok{cluster=\"rec\",node=\"rec-0\",db=\"db\",shard=\"0\",role=\"primary\"} 0",
        "meridian_shard_replica_lag_bytes{cluster=\"rec\",node=\"rec-0\",db=\"db\",shard=\"0\",role=\"primary\",replica=\"rec-1\"} 17",
        "meridian_link_state{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",state=\"up\"} 1",
        "meridian_link_state{cluster=\"rec\",node=\"rec-0\",db=\"db\",peer=\"2\",state=\"down\"} 0",
        "meridian_crdt_backlog_bytes{cluster=\"rec\",node=\"rec-0\",db=\"db\",shard=\"0\",role=\"primary\"} 400",
        "meridian_node_refused_orders{cluster=\"rec\",node=\"rec-0\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line:?} in\n{text}"
        );
    }
}

#[test]
fn a_link_whose_shard_does_not_answer_has_no_connected_target() {
    let mut seen = snapshot();
    seen.shards[0].process = None;
    let text = of(&seen, |_| true);
    let of = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(&format!("{name}{{")))
    };
    let answers = of("database_syncer_dst_connectivity_state");
    assert!(
        answers.is_some_and(|line| line.ends_with(" 0")),
        "{answers:?}"
    );
    assert_eq!(of("database_syncer_dst_connectivity_state_ms"), None);
}

#[test]
fn a_full_page_is_valid_and_shows_every_family_once() {
    let text = of(&snapshot(), |_| true);
    let mut families = families();
    let mut series = BTreeSet::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            let kind = lines.next().unwrap().rsplit_once(' ').unwrap();
            let at = families.iter().position(|f| f.name == name);
            let family = families.remove(at.unwrap_or_else(|| panic!("{name} twice or unknown")));
            assert_eq!(family.help, help);
            assert_eq!(kind.0, format!("# TYPE {name}"));
            assert_eq!(kind.1 == "counter", family.kind == Kind::Counter);
            continue;
        }
        let (name, labels, _) = sample(line);
        assert!(is_name(&name), "{line}");
        for (label, value) in &labels {
            let tag = name == "db_tags" && ["env", "cost_centre"].contains(&label.as_str());
            assert!(
                tag || LABELS.contains(&label.as_str()),
                "label {label} in {line}"
            );
            assert!(
                !value.contains("refused") && !value.contains("error"),
                "{line}"
            );
        }
        assert!(series.insert((name, labels)), "twice: {line}");
    }
    let missing: Vec<_> = families.iter().map(|f| f.name).collect();
    assert!(missing.is_empty(), "shown by no full page: {missing:?}");
}

#[test]
fn tags_are_labels_of_one_metric_at_the_primary_and_of_no_other() {
    let line = "db_tags{cluster=\"rec\",db=\"db\",cost_centre=\"42\",env=\"prod\"} 1";
    for wanted in [|_: &Family| true, Family::is_known] {
        let text = of(&snapshot(), wanted);
        assert!(text.lines().any(|found| found == line), "{text}");
        let with = text.lines().filter(|line| line.contains("prod")).count();
        assert_eq!(with, 1, "{text}");
    }
    let mut other = snapshot();
    other.tags = tagged("db", &[]);
    assert!(!of(&other, |_| true).contains("db_tags"));
    other.tags = tagged("db", &[("db", "x"), ("a-b", "x"), ("__name__", "x")]);
    assert!(!of(&other, |_| true).contains("db_tags"), "no such label");
}

#[test]
fn our_names_end_in_their_unit_and_no_name_is_there_twice() {
    let families = families();
    let names: BTreeSet<_> = families.iter().map(|f| f.name).collect();
    assert_eq!(names.len(), families.len());
    for family in families.iter().filter(|f| !f.is_known()) {
        let total = family.name.ends_with("_total");
        assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
        for unit in ["_ms", "_milliseconds", "_kb", "_megabytes", "_minutes"] {
            assert!(
                !family.name.trim_end_matches("_total").ends_with(unit),
                "{}",
                family.name
            );
        }
        assert!(!family.help.contains('\n') && !family.help.is_empty());
    }
}

#[test]
fn the_second_path_shows_known_names_only() {
    let text = of(&snapshot(), Family::is_known);
    assert!(text.contains("redis_server_used_memory{"), "{text}");
    assert!(!text.contains("meridian_"), "{text}");
}

#[test]
fn a_shard_that_does_not_answer_is_down_and_one_that_is_elsewhere_says_only_its_role() {
    let mut snapshot = snapshot();
    snapshot.shards = vec![shard("primary", Some(Process::default()))];
    let text = of(&snapshot, |_| true);
    assert!(text.contains(
        "redis_server_up{cluster=\"rec\",node=\"rec-0\",db=\"db\",redis=\"0\",role=\"master\"} 0"
    ));
    assert!(!text.contains("redis_server_used_memory"), "{text}");
    snapshot.shards = vec![shard("stopped", None)];
    let text = of(&snapshot, |_| true);
    assert!(!text.contains("redis_server_up"), "{text}");
    assert!(text.contains("role=\"stopped\"} 1"), "{text}");
}

#[test]
fn a_permission_for_ever_is_infinite_and_a_replica_has_none() {
    let with = |role, deadline: &str| {
        let process = Process {
            info: Some(Info::parse(&format!(
                "crdt_fence:on\ncrdt_fence_deadline:{deadline}\n"
            ))),
            ..Process::default()
        };
        let mut snapshot = snapshot();
        snapshot.shards = vec![shard(role, Some(process))];
        let text = of(&snapshot, |f| {
            f.name == "meridian_shard_lease_remaining_seconds"
        });
        text.lines().nth(2).map(|line| sample(line).2)
    };
    assert_eq!(with("primary", "forever"), Some(f64::INFINITY));
    assert_eq!(with("primary", "none"), Some(0.0));
    assert_eq!(with("primary", "9000"), Some(0.0), "it has ended");
    assert_eq!(with("replica", "none"), None);
}
