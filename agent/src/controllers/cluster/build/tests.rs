use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Resource, ResourceExt as _};
use meridian_api::crds::RedisEnterpriseCluster;
use serde_json::{Value, json};

use super::*;
use crate::controllers::cluster::{
    certificates, internal, login, validate::validate, version::Choice,
};

fn cluster(spec: Value) -> Cluster {
    let rec: RedisEnterpriseCluster = serde_json::from_value(json!({
        "metadata": {"name": "rec", "namespace": "ns", "uid": "U"}, "spec": spec,
    }))
    .unwrap();
    validate(&rec, &choice()).unwrap()
}

fn choice() -> Choice {
    Choice {
        image: "node:default".to_owned(),
        release: "0.2.0".to_owned(),
        suspended: None,
    }
}

fn material(password: Option<&str>) -> Material {
    let place = certificates::Place {
        name: "rec",
        namespace: "ns",
        api_host: None,
        database_suffix: None,
    };
    let internal_place = internal::Place {
        name: "rec",
        namespace: "ns",
    };
    let nothing = certificates::Before {
        ours: None,
        given: &std::collections::BTreeMap::new(),
        idle: &std::collections::BTreeMap::new(),
        shown: None,
    };
    let now = jiff::Timestamp::UNIX_EPOCH;
    Material {
        password: password.map(str::to_owned),
        internal: Internal::fresh(internal_place, now).unwrap(),
        certificates: certificates::decide(&place, &nothing, now).unwrap(),
        api: login::decide(&cluster(json!({})), None, None).unwrap(),
        peer_ports: BTreeSet::new(),
    }
}

fn built(spec: Value) -> Desired<Built> {
    build(&cluster(spec), &material(Some("secret"))).unwrap()
}

fn minimal() -> Desired<Built> {
    built(json!({}))
}

fn line<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let owner = if object.owner_references().is_empty() {
        "no owner"
    } else {
        "owned by the REC"
    };
    format!("{} {}, {owner}", K::kind(&()), object.name_any())
}

fn lines(built: &Desired<Built>) -> Vec<String> {
    let Desired {
        service_account,
        role,
        role_binding,
        credentials,
        users,
        internal,
        certificates,
        api,
        services,
        disruption_budget,
        network_policy,
        stateful_set,
        stage: PhantomData,
    } = built;
    assert_eq!(network_policy, &None, "nobody asked for one");
    let mut all: Vec<String> = service_account.iter().map(line).collect();
    all.extend([line(role), line(role_binding)]);
    all.extend(credentials.iter().map(line));
    all.extend([line(users), line(internal), line(certificates), line(api)]);
    all.extend(services.iter().map(line));
    all.extend([line(disruption_budget), line(stateful_set)]);
    all
}

fn pod(built: &Desired<Built>) -> PodSpec {
    built.stateful_set.spec.template.spec.clone().unwrap()
}

fn container(built: &Desired<Built>) -> Container {
    pod(built).containers[0].clone()
}

#[test]
fn a_minimal_cluster_makes_exactly_these_objects() {
    assert_eq!(
        lines(&minimal()),
        [
            "ServiceAccount rec, owned by the REC",
            "Role rec, owned by the REC",
            "RoleBinding rec, owned by the REC",
            "Secret rec, no owner",
            "Secret rec-users, no owner",
            "Secret rec-internal, no owner",
            "Secret rec-tls, no owner",
            "Secret rec-api, no owner",
            "Service rec, owned by the REC",
            "Service rec-api, owned by the REC",
            "Service rec-ui, owned by the REC",
            "Service rec-prom, owned by the REC",
            "Service rec-sync, owned by the REC",
            "PodDisruptionBudget rec, owned by the REC",
            "StatefulSet rec, owned by the REC",
        ]
    );
}

#[test]
fn every_object_carries_the_labels_by_which_it_is_recognised_as_ours() {
    let built = built(json!({"extraLabels": {"app": "mine", "team": "a"}}));
    let owner = Owner::cluster("rec");
    let metas: Vec<&ObjectMeta> = built
        .services
        .iter()
        .map(|service| &service.metadata)
        .chain([
            &built.stateful_set.metadata,
            &built.users.metadata,
            &built.role.metadata,
        ])
        .collect();
    for meta in metas {
        assert!(
            matches!(
                owner.judge(Some(meta)),
                crate::k8s::own::Ownership::Ours { .. }
            ),
            "{:?}",
            meta.name
        );
        assert_eq!(meta.labels.as_ref().unwrap()["team"], "a");
    }
}

#[test]
fn an_ingress_replaces_the_load_balancer_and_a_named_account_is_not_made() {
    let spec = json!({
        "ingressOrRouteSpec": {"apiFqdnUrl": "api.example.com", "dbFqdnSuffix": ".db.example.com", "method": "istio"},
        "createServiceAccount": false, "serviceAccountName": "theirs",
    });
    let built = build(&cluster(spec), &material(None)).unwrap();
    let names = lines(&built).join("\n");
    assert!(
        !names.contains("ServiceAccount ") && !names.contains("Secret rec,"),
        "{names}"
    );
    let type_of_sync = |built: &Desired<Built>| {
        let sync = built
            .services
            .iter()
            .find(|service| service.name_any() == "rec-sync");
        sync.unwrap().spec.as_ref().unwrap().type_.clone().unwrap()
    };
    assert_eq!(type_of_sync(&built), "ClusterIP");
    assert_eq!(type_of_sync(&minimal()), "LoadBalancer");
    assert_eq!(pod(&built).service_account_name.as_deref(), Some("theirs"));
    assert_eq!(built.role_binding.subjects.unwrap()[0].name, "theirs");
}

#[test]
fn pods_start_together_are_replaced_on_order_only_and_leave_their_volumes() {
    let spec = minimal().stateful_set.spec;
    assert_eq!(spec.replicas, Some(3));
    assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
    assert_eq!(
        spec.update_strategy.unwrap().type_.as_deref(),
        Some("OnDelete")
    );
    let retention = spec.persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(
        (
            retention.when_deleted.as_deref(),
            retention.when_scaled.as_deref()
        ),
        (Some("Retain"), Some("Retain"))
    );
    let claim = &spec.volume_claim_templates.unwrap()[0];
    assert_eq!(claim.name_any(), "redis-enterprise-storage");
    assert!(claim.owner_references().is_empty(), "data has no owner");
    let size = &claim
        .spec
        .as_ref()
        .unwrap()
        .resources
        .as_ref()
        .unwrap()
        .requests
        .as_ref()
        .unwrap()["storage"];
    assert_eq!(size.0, (20_i64 << 30).to_string(), "five times the memory");
}

#[test]
fn the_container_has_what_the_node_reads_and_no_rights() {
    let built = minimal();
    let container = container(&built);
    assert_eq!(container.image.as_deref(), Some("node:default"));
    let env: Vec<_> = container.env.unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(env, ["POD_NAME", "POD_NAMESPACE", "POD_IP", "REC_NAME"]);
    let mounts: Vec<_> = container
        .volume_mounts
        .unwrap()
        .into_iter()
        .map(|m| m.mount_path)
        .collect();
    assert_eq!(
        mounts,
        [
            "/var/lib/meridian",
            "/run/meridian",
            "/tmp",
            "/etc/meridian/peer-tls",
            "/etc/meridian/internal"
        ]
    );
    let rights = container.security_context.unwrap();
    assert_eq!(rights.read_only_root_filesystem, Some(true));
    assert_eq!(rights.allow_privilege_escalation, Some(false));
    assert_eq!(rights.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    let pod = pod(&built).security_context.unwrap();
    assert_eq!(
        (pod.run_as_user, pod.run_as_non_root, pod.fs_group),
        (Some(1001), Some(true), Some(1001))
    );
    assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
}

#[test]
fn one_pod_per_host_unless_the_user_says_otherwise() {
    let terms = |built: &Desired<Built>| {
        let rule = pod(built).affinity.unwrap().pod_anti_affinity.unwrap();
        rule.required_during_scheduling_ignored_during_execution
            .into_iter()
            .flatten()
            .map(|term| term.topology_key)
            .collect::<Vec<_>>()
    };
    assert_eq!(terms(&minimal()), ["kubernetes.io/hostname"]);
    let more = built(json!({"antiAffinityAdditionalTopologyKeys": ["zone"]}));
    assert_eq!(terms(&more), ["kubernetes.io/hostname", "zone"]);
    let own = built(json!({"podAntiAffinity": {}}));
    assert_eq!(terms(&own), Vec::<String>::new());
}

#[test]
fn fields_of_the_pods_are_passed_on() {
    let spec = json!({
        "redisEnterpriseImageSpec": {"imagePullPolicy": "Never"},
        "redisEnterpriseNodeResources": {"limits": {"memory": "512Mi"}, "requests": {"memory": "256Mi", "cpu": "100m"}},
        "podAnnotations": {"a": "1"}, "redisEnterprisePodAnnotations": {"b": "2"},
        "nodeSelector": {"disk": "fast"}, "podTolerations": [{"key": "k", "operator": "Exists"}],
        "priorityClassName": "high", "pullSecrets": [{"name": "pull"}], "extraEnvVars": [{"name": "X", "value": "y"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["h"]}], "nodes": 5,
        "persistentSpec": {"enabled": false}, "redisEnterpriseTerminationGracePeriodSeconds": 9,
    });
    let built = build(&cluster(spec), &material(None)).unwrap();
    let pod = pod(&built);
    let container = container(&built);
    assert_eq!(built.stateful_set.spec.replicas, Some(5));
    assert_eq!(
        (
            container.image.as_deref(),
            container.image_pull_policy.as_deref()
        ),
        (Some("node:default"), Some("Never"))
    );
    assert_eq!(
        container.resources.unwrap().limits.unwrap()["memory"].0,
        "512Mi"
    );
    let annotations = built
        .stateful_set
        .spec
        .template
        .metadata
        .unwrap()
        .annotations
        .unwrap();
    assert_eq!(
        (annotations["a"].as_str(), annotations["b"].as_str()),
        ("1", "2")
    );
    assert_eq!(pod.node_selector.unwrap()["disk"], "fast");
    assert_eq!(pod.tolerations.unwrap()[0].key.as_deref(), Some("k"));
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "pull");
    assert_eq!(pod.host_aliases.unwrap()[0].ip, "10.0.0.1");
    assert_eq!(pod.termination_grace_period_seconds, Some(9));
    assert!(container.env.unwrap().iter().any(|env| env.name == "X"));
    assert_eq!(built.stateful_set.spec.volume_claim_templates, None);
    assert!(
        pod.volumes
            .unwrap()
            .iter()
            .any(|v| v.name == "redis-enterprise-storage" && v.empty_dir.is_some())
    );
}

#[test]
fn the_pods_may_read_their_secrets_and_write_one_status_and_nothing_else() {
    let rules = minimal().role.rules.unwrap();
    let shown: Vec<_> = rules
        .iter()
        .map(|rule| {
            let resource = rule.resources.as_ref().unwrap().join(",");
            format!(
                "{resource}: {} {:?}",
                rule.verbs.join(","),
                rule.resource_names.clone().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "databasetopologies: get,list,watch []",
            "databasetopologies/status: patch []",
            "secrets: get,list,watch [\"rec-users\", \"rec-tls\", \"rec-api\"]",
        ]
    );
}

#[test]
fn an_unreadable_toleration_is_named_with_its_place() {
    let rec: RedisEnterpriseCluster = serde_json::from_value(json!({
        "metadata": {"name": "rec"}, "spec": {"podTolerations": [{"tolerationSeconds": "soon"}]},
    }))
    .unwrap();
    let problems = validate(&rec, &choice()).unwrap_err();
    assert!(
        problems
            .iter()
            .any(|p| p.starts_with("spec.podTolerations[0]: ")),
        "{problems:?}"
    );
}

#[path = "tests/fields.rs"]
mod fields;
mod golden;
#[path = "tests/template.rs"]
mod template;

#[test]
fn the_network_policy_lets_through_what_is_served_and_keeps_the_inside_inside() {
    let rec: RedisEnterpriseCluster = serde_json::from_value(json!({
        "metadata": {"name": "rec", "namespace": "ns", "uid": "U", "annotations": {"meridian.dev/network-policy": "true"}}, "spec": {},
    }))
    .unwrap();
    let cluster = validate(&rec, &choice()).unwrap();
    let built = build(&cluster, &material(None)).unwrap();
    let policy = built.network_policy.unwrap();
    assert_eq!(line(&policy), "NetworkPolicy rec, owned by the REC");
    let tcp = |port: i32| json!({"port": port, "protocol": "TCP"});
    let pods = json!({"matchLabels": {"app": "redis-enterprise", "redis.io/cluster": "rec", "redis.io/role": "node"}});
    let agent = json!({"matchLabels": {"app.kubernetes.io/name": "meridian-agent"}});
    let by_every_node = json!({"port": 30000, "endPort": 39999, "protocol": "TCP"});
    let expected = json!({
        "podSelector": pods, "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [{"port": 10000, "endPort": 19999, "protocol": "TCP"}, by_every_node, tcp(8444), tcp(8070), tcp(9443), tcp(8443)]},
            {"ports": [tcp(8445), {"port": 20000, "endPort": 29999, "protocol": "TCP"}], "from": [{"podSelector": pods}]},
            {"ports": [tcp(8080)], "from": [{"podSelector": agent}, {"podSelector": pods}]},
        ],
    });
    assert_eq!(serde_json::to_value(policy.spec).unwrap(), expected);
    // Every port that the pods open stands in it, so that a new one is judged.
    let set = serde_json::to_value(built.stateful_set).unwrap();
    let opened = &set["spec"]["template"]["spec"]["containers"][0]["ports"];
    for port in opened.as_array().unwrap() {
        let text = expected.to_string();
        assert!(
            text.contains(&format!(r#""port":{}"#, port["containerPort"])),
            "{port}"
        );
    }
}

fn service(built: &Desired<Built>, name: &str) -> Service {
    let found = built.services.iter().find(|s| s.name_any() == name);
    found.cloned().unwrap()
}

fn ports(service: &Service) -> Vec<i32> {
    let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
    ports.iter().map(|port| port.port).collect()
}

#[test]
fn peers_reach_the_sync_endpoint_at_every_port_where_they_look_while_the_balancer_is_ours() {
    let sync = |spec: Value| {
        let material = Material {
            peer_ports: BTreeSet::from([443, 8443]),
            ..material(None)
        };
        let built = build(&cluster(spec), &material).unwrap();
        service(&built, "rec-sync").spec.unwrap()
    };
    let ports = sync(json!({})).ports.unwrap();
    let shown = ports.iter().map(|port| {
        let target = port.target_port.clone().unwrap();
        (port.name.clone().unwrap(), port.port, target)
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("sync".to_owned(), 443, IntOrString::Int(8444)),
            ("sync-8443".to_owned(), 8443, IntOrString::Int(8444)),
        ]
    );
    let theirs = sync(json!({"ingressOrRouteSpec": {
        "apiFqdnUrl": "api.example.com", "dbFqdnSuffix": "-db.example.com", "method": "openShiftRoute"}}));
    assert_eq!(theirs.ports.unwrap().len(), 1);
}

#[test]
fn the_api_and_the_page_have_services_of_the_type_that_the_spec_asks_for() {
    let type_ = |built: &Desired<Built>, name: &str| {
        let spec = service(built, name).spec.unwrap();
        (spec.type_.unwrap(), spec.cluster_ip, spec.external_name)
    };
    let plain = minimal();
    assert_eq!(type_(&plain, "rec-api").0, "ClusterIP");
    assert_eq!(type_(&plain, "rec-ui").0, "ClusterIP");
    assert_eq!(type_(&plain, "rec").1.as_deref(), Some("None"));
    assert_eq!(ports(&service(&plain, "rec-api")), [9443]);
    assert_eq!(ports(&service(&plain, "rec-ui")), [8443]);
    assert_eq!(
        ports(&service(&plain, "rec")),
        [8080, 8444, 8445, 9443, 8443]
    );
    assert_eq!(service(&plain, "rec-ui").metadata.annotations, None);

    let outside = built(json!({
        "services": {"apiService": {"type": "LoadBalancer"}, "servicesAnnotations": {"a": "1", "b": "1"}},
        "uiServiceType": "NodePort", "uiAnnotations": {"b": "2"},
    }));
    assert_eq!(type_(&outside, "rec-api").0, "LoadBalancer");
    assert_eq!(type_(&outside, "rec-ui").0, "NodePort");
    let annotations = service(&outside, "rec-ui").metadata.annotations.unwrap();
    assert_eq!(
        (annotations["a"].as_str(), annotations["b"].as_str()),
        ("1", "2")
    );
    let annotations = service(&outside, "rec-api").metadata.annotations.unwrap();
    assert_eq!(annotations["b"], "1", "those of the page are its own");

    let alias = built(json!({"uiServiceType": "ExternalName"}));
    let (type_, _, name) = type_(&alias, "rec-ui");
    assert_eq!(type_, "ExternalName");
    assert_eq!(name.as_deref(), Some("rec.ns.svc.cluster.local"));
    assert_eq!(service(&alias, "rec-ui").spec.unwrap().selector, None);
}
