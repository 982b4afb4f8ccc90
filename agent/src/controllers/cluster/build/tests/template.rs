//! The pod template: held for each release, merged with what the user writes, and known again by its hash.

use super::*;
use crate::{
    controllers::cluster::{observe::Set, validate::fit},
    k8s::own::{RELEASE, TEMPLATE},
};

fn template(spec: Value) -> Value {
    serde_json::to_value(built(spec).stateful_set.spec.template).unwrap()
}

fn hash(spec: Value) -> String {
    template(spec)["metadata"]["annotations"][TEMPLATE]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Every pod of every user restarts when the template of their release changes, so it is held.
#[test]
fn the_template_of_a_release_does_not_change() {
    let release = env!("CARGO_PKG_VERSION");
    let path = format!(
        "{}/src/controllers/cluster/build/template-{release}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let spec = json!({
        "podAnnotations": {"a": "1"}, "extraLabels": {"team": "a"}, "rackAwarenessNodeLabel": "zone",
        "sideContainersSpec": [{"name": "side", "image": "side:1"}],
    });
    let text = format!(
        "{}\n",
        serde_json::to_string_pretty(&template(spec)).unwrap()
    );
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == text,
        "the pod template of release {release} changed, which restarts every pod of this release. If the release is out, \
         raise the version of the workspace; otherwise: MERIDIAN_WRITE=1 cargo test -p meridian-agent the_template_of_a_release"
    );
}

#[test]
fn the_hash_changes_with_everything_in_the_template_and_with_nothing_else() {
    let plain = hash(json!({}));
    let changes = [
        json!({"podAnnotations": {"a": "1"}}),
        json!({"extraLabels": {"a": "1"}}),
        json!({"redisEnterpriseNodeResources": {"limits": {"memory": "5Gi"}}}),
        json!({"redisEnterpriseAdditionalPodSpecAttributes": {"hostNetwork": true}}),
        json!({"sideContainersSpec": [{"name": "side"}]}),
    ];
    for change in changes {
        assert_ne!(hash(change.clone()), plain, "{change}");
    }
    let same = [
        json!({"nodes": 5}),
        json!({"services": {"servicesAnnotations": {"a": "1"}}}),
        json!({"persistentSpec": {"volumeSize": "90Gi"}}),
    ];
    for change in same {
        assert_eq!(hash(change.clone()), plain, "{change}");
    }
}

#[test]
fn what_the_user_merges_in_wins_over_what_is_built_and_leaves_the_rest() {
    let spec = json!({
        "priorityClassName": "low",
        "sideContainersSpec": [{"name": "side", "image": "side:1"}],
        "redisEnterpriseAdditionalPodSpecAttributes": {
            "priorityClassName": "high",
            "containers": [{"name": "redis-enterprise-node", "env": [{"name": "X", "value": "1"}]}],
            "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}],
            "securityContext": {"fsGroup": 7},
        },
    });
    let pod = pod(&built(spec));
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    let names: Vec<_> = pod
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    assert_eq!(names, ["redis-enterprise-node", "side"]);
    let env = pod.containers[0].env.as_ref().unwrap();
    assert_eq!((env.len(), env[4].name.as_str()), (5, "X"));
    assert!(pod.containers[0].liveness_probe.is_some());
    let rights = pod.security_context.unwrap();
    assert_eq!((rights.fs_group, rights.run_as_user), (Some(7), Some(1001)));
    let volumes = pod.volumes.unwrap();
    let tmp: Vec<_> = volumes
        .iter()
        .filter(|volume| volume.name == "tmp")
        .collect();
    assert_eq!(tmp.len(), 1);
    assert_eq!(
        tmp[0].empty_dir.as_ref().unwrap().medium.as_deref(),
        Some("Memory")
    );
}

#[test]
fn a_merge_that_gives_no_pod_is_refused_with_the_field() {
    let spec = json!({"redisEnterpriseAdditionalPodSpecAttributes": {"securityContext": {"fsGroup": null, "sysctls": [null]}}});
    let rec: RedisEnterpriseCluster =
        serde_json::from_value(json!({"metadata": {"name": "rec"}, "spec": spec})).unwrap();
    let outcome = validate(&rec, &choice())
        .map_err(|problems| problems.join("; "))
        .and_then(|cluster| {
            build(&cluster, &material(None))
                .map(|_| ())
                .map_err(|error| error.to_string())
        });
    let text = outcome.unwrap_err();
    assert!(
        text.starts_with("spec.redisEnterpriseAdditionalPodSpecAttributes: "),
        "{text}"
    );
}

#[test]
fn pods_spread_over_racks_when_the_hosts_have_them() {
    let pod = pod(&built(json!({"rackAwarenessNodeLabel": "zone"})));
    let spread = &pod.topology_spread_constraints.unwrap()[0];
    assert_eq!(
        (
            spread.topology_key.as_str(),
            spread.max_skew,
            spread.when_unsatisfiable.as_str()
        ),
        ("zone", 1, "DoNotSchedule")
    );
    let rule = pod.affinity.unwrap().pod_anti_affinity.unwrap();
    let preferred = rule
        .preferred_during_scheduling_ignored_during_execution
        .unwrap();
    assert_eq!(preferred[0].pod_affinity_term.topology_key, "zone");
    assert_eq!(pod_of_minimal().topology_spread_constraints, None);
}

fn pod_of_minimal() -> PodSpec {
    pod(&minimal())
}

#[test]
fn the_stateful_set_tells_the_release_of_its_template() {
    let set = minimal().stateful_set;
    assert_eq!(set.annotations()[RELEASE], "0.2.0");
}

#[test]
fn a_template_keeps_the_grace_that_was_the_default_and_a_new_one_gets_the_products() {
    let grace = |seconds: Option<i64>| match seconds {
        Some(seconds) => json!({"redisEnterpriseTerminationGracePeriodSeconds": seconds}),
        None => json!({}),
    };
    // (what its template has, what the spec says, what it gets)
    for (standing, said, expected) in [
        (300, None, 300),
        (31_536_000, None, 31_536_000),
        (9, None, 31_536_000),
        (300, Some(20), 20),
    ] {
        let set = Set::of(&built(grace(Some(standing))).stateful_set);
        let rec = json!({"metadata": {"name": "rec"}, "spec": grace(said)});
        let rec: RedisEnterpriseCluster = serde_json::from_value(rec).unwrap();
        let fitted = fit(validate(&rec, &choice()).unwrap(), &rec, &set).unwrap();
        assert_eq!(fitted.grace_seconds, expected, "{standing} {said:?}");
    }
    let new = minimal().stateful_set.spec.template.spec.unwrap();
    assert_eq!(new.termination_grace_period_seconds, Some(31_536_000));
}

#[test]
fn what_stands_already_bounds_what_the_spec_may_ask_for() {
    let standing = |spec: Value| Set::of(&built(spec).stateful_set);
    let five = json!({"nodes": 5, "persistentSpec": {"volumeSize": "10Gi"}});
    let fits = |now: Value| {
        let rec: RedisEnterpriseCluster =
            serde_json::from_value(json!({"metadata": {"name": "rec"}, "spec": now})).unwrap();
        let fitted = fit(
            validate(&rec, &choice()).unwrap(),
            &rec,
            &standing(five.clone()),
        );
        match fitted {
            Ok(cluster) => {
                let storage = cluster.storage.unwrap();
                format!("{} in {}", storage.size.0, storage.template.0)
            }
            Err(problems) => problems.join("; "),
        }
    };
    let cases = [
        (
            json!({"nodes": 5, "persistentSpec": {"volumeSize": "10Gi"}}),
            "10Gi in 10Gi",
        ),
        (
            json!({"nodes": 7, "persistentSpec": {"volumeSize": "10240Mi"}}),
            "10Gi in 10Gi",
        ),
        (json!({"nodes": 5}), "10Gi in 10Gi"),
        (
            json!({"nodes": 3}),
            "spec.nodes: found 3, expected 5 or more",
        ),
        (
            json!({"nodes": 5, "persistentSpec": {"volumeSize": "20Gi"}}),
            "spec.persistentSpec.volumeSize: found 20Gi, expected 10Gi",
        ),
        (
            json!({"nodes": 5, "persistentSpec": {"volumeSize": "20Gi", "enablePersistentVolumeResize": true}}),
            "20Gi in 10Gi",
        ),
        (
            json!({"nodes": 5, "persistentSpec": {"volumeSize": "5Gi", "enablePersistentVolumeResize": true}}),
            "volumes cannot shrink",
        ),
        (
            json!({"nodes": 5, "persistentSpec": {"storageClassName": "fast"}}),
            "spec.persistentSpec.storageClassName: found fast, expected the default",
        ),
        (
            json!({"nodes": 5, "persistentSpec": {"enabled": false}}),
            "spec.persistentSpec.enabled: found false, expected true",
        ),
    ];
    for (now, expected) in cases {
        let found = fits(now.clone());
        assert!(found.contains(expected), "{now}: {found}");
    }
}
