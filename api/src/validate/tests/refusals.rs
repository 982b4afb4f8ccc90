//! Every refusal with its text: whatever the other tests have refused, in a committed file, and no rule that none of them
//! reaches.

use std::{cell::RefCell, collections::BTreeSet, fs, panic::Location, path::Path};

use super::*;

/// The text of every refusal, sorted, a line each.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/refusals.txt");

/// Ways in which a rule refuses.
const WAYS: &[&str] = &[
    "check.refuse(",
    "check.one_of(",
    "check.within(",
    "check.port(",
    "check.object_name(",
    "check.namespace(",
    "check.host(",
    "check.database_suffix(",
    "check.service_like_name(",
    "check.unchanged(",
    "Err(error(",
];

/// File and line of a rule.
type Rule = (String, usize);

#[derive(Default)]
struct Seen {
    rules: BTreeSet<Rule>,
    texts: BTreeSet<String>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// The rule at `place` has refused.
pub(crate) fn saw(place: &Location<'_>, error: &FieldError) {
    let file = Path::new(place.file()).file_name().unwrap();
    let rule = (file.to_string_lossy().into_owned(), place.line() as usize);
    SEEN.with_borrow_mut(|seen| {
        seen.rules.insert(rule);
        seen.texts.insert(error.to_string());
    });
}

/// The rules that stand in the sources.
fn rules(folder: &Path, found: &mut BTreeSet<Rule>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            rules(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
            for (number, line) in (1..).zip(lines) {
                if WAYS.iter().any(|way| line.contains(way)) {
                    found.insert((name.clone(), number));
                }
            }
        }
    }
}

/// Refusals that the tests called below do not need.
fn others() {
    let entry = |method: &str, annotations: Value| {
        let way = json!({
            "apiFqdnUrl": "a.b", "dbFqdnSuffix": ".b", "method": method, "ingressAnnotations": annotations,
        });
        cluster(&rec(json!({ "ingressOrRouteSpec": way })))
    };
    let at = "spec.ingressOrRouteSpec.ingressAnnotations";
    refuses(
        entry("istio", json!({ ISTIO_SELECTOR: "ingress" })),
        &format!("{at}.{ISTIO_SELECTOR}"),
    );
    refuses(
        entry("ingress", json!({ GATEWAY: "net/" })),
        &format!("{at}.{GATEWAY}"),
    );
    entry_host(&"a".repeat(60), "-eu1.example.com").unwrap_err();
    refuses(
        cluster(&object("RedisEnterpriseCluster", "Rec", json!({}))),
        "metadata.name",
    );
    refuses(
        remote_cluster(&{
            let mut named = rerc(json!({}));
            named.metadata.name = Some("Rerc".to_owned());
            named
        }),
        "metadata.name",
    );
    let mut served = reaadb(json!({}));
    served.spec.redis_enterprise_cluster = serde_json::from_value(json!({ "name": "?" })).unwrap();
    refuses(
        active_active_database(&served),
        "spec.redisEnterpriseCluster.name",
    );
    refuses(database(&redb(json!({ "type": "sql" }))), "spec.type");
    parts_of_clusters();
}

fn parts_of_clusters() {
    let ocsp = |field: &str| json!({ "ocspConfiguration": { field: 0 } });
    let container = |name: &str| json!({ "sideContainersSpec": [{ "name": name }] });
    let merged = |part: Value| json!({ "redisEnterpriseAdditionalPodSpecAttributes": part });
    let at = "spec.redisEnterpriseAdditionalPodSpecAttributes";
    holds(
        |spec| cluster(&rec(spec)),
        [
            (
                ocsp("recoveryFrequency"),
                "spec.ocspConfiguration.recoveryFrequency",
            ),
            (
                ocsp("recoveryMaxTries"),
                "spec.ocspConfiguration.recoveryMaxTries",
            ),
            (
                ocsp("responseTimeout"),
                "spec.ocspConfiguration.responseTimeout",
            ),
            (container(NODE_CONTAINER), "spec.sideContainersSpec[0].name"),
            (container("A"), "spec.sideContainersSpec[0].name"),
            (merged(json!({ "$patch": "delete" })), at),
            (merged(json!({ "containers": 1 })), at),
        ],
    );
}

#[test]
fn every_refusal_has_its_text_and_every_rule_refuses_something() {
    SEEN.take();
    for test in [
        an_error_reads_as_a_sentence_with_field_found_expected_and_remedy as fn(),
        each_simple_rule_of_a_database_names_its_field,
        each_rule_about_parts_of_a_database_names_its_field,
        names_of_databases_can_be_names_of_services,
        what_a_database_was_created_with_stays,
        each_rule_about_nodes_and_entry_of_a_cluster_names_its_field,
        each_rule_about_parts_of_a_cluster_names_its_field,
        a_cluster_has_one_way_of_entry,
        a_cluster_grows_and_never_shrinks,
        each_rule_of_a_remote_cluster_names_its_field,
        active_active::an_active_active_database_has_restrictions_of_its_own,
        active_active::participants_are_named_once_and_at_least_one_is,
        active_active::a_patch_that_replaces_the_list_does_not_remove_the_others,
        among::a_name_stands_for_one_database_of_either_kind,
        among::a_port_is_one_databases_in_each_cluster,
        among::a_module_is_one_that_is_known_or_that_a_cluster_brings,
        among::a_participant_and_a_secret_are_there_before_they_are_named,
        among::the_cluster_that_one_speaks_to_is_not_removed_by_mistake,
        among::more_than_one_participant_goes_only_by_name,
        among::a_cluster_that_gives_no_roles_by_databases_lets_none_be_added,
        among::reserved_tags_are_the_products,
        among::sharding_is_decided_when_an_active_active_database_is_created,
        among::a_database_of_the_hub_is_deleted_on_a_member_only_when_its_name_confirms_it,
        among::a_remote_cluster_in_use_or_of_the_hub_stays,
        versions::a_version_is_one_and_is_only_raised,
        versions::a_version_above_what_a_cluster_brings_is_refused_with_what_it_brings,
        words::each_word_and_range_of_a_cluster_names_its_field,
        words::each_amount_and_pod_part_of_a_cluster_names_its_field,
        words::each_word_and_range_of_a_database_names_its_field,
        words::each_word_and_range_of_metrics_names_its_field,
        words::each_word_and_range_of_auditing_names_its_field,
        words::each_part_of_a_participant_names_its_field,
        others,
    ] {
        test();
    }
    let seen = SEEN.take();
    let mut all = BTreeSet::new();
    rules(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/validate"),
        &mut all,
    );
    let unseen: Vec<_> = all.difference(&seen.rules).collect();
    assert!(
        unseen.is_empty(),
        "no test is refused by the rules at {unseen:?}"
    );
    let unknown: Vec<_> = seen.rules.difference(&all).collect();
    assert!(unknown.is_empty(), "no rule is found at {unknown:?}");

    let text: String = seen.texts.iter().map(|text| format!("{text}\n")).collect();
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        fs::write(FILE, &text).unwrap();
    }
    let committed = fs::read_to_string(FILE).unwrap_or_default();
    let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let (committed, found) = (lines(&committed), lines(&text));
    let changed: Vec<_> = committed.symmetric_difference(&found).collect();
    assert!(
        changed.is_empty(),
        "{FILE} is not current: run MERIDIAN_WRITE=1 cargo test -p meridian-api --lib every_refusal. It differs in {changed:#?}"
    );
}
