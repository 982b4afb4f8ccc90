//! The bundle gives the agent what it needs and nothing more.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stop at what they did not expect"
)]

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

const BUNDLE: &str = include_str!("../../deploy/bundle/agent.yaml");
const ADMISSION: &str = include_str!("../../deploy/bundle/admission.yaml");
const CONSUMER: &str = include_str!("../../deploy/bundle/consumer-namespace.yaml");
const BY_LABEL: &str = include_str!("../../deploy/bundle/namespaces-by-label.yaml");
const RACKS: &str = include_str!("../../deploy/bundle/racks.yaml");
const DEFINITIONS: &str = include_str!("../../deploy/bundle/definitions.yaml");
const REPORTS: &str = include_str!("../../deploy/bundle/node-reports.yaml");
const NETWORK: &str = include_str!("../../deploy/bundle/network-policy.yaml");
/// Files that are written for one namespace of an agent.
const FOR_A_NAMESPACE: [&str; 4] = [ADMISSION, CONSUMER, BY_LABEL, REPORTS];

fn objects() -> Vec<Value> {
    documents(BUNDLE)
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}")))
        .collect()
}

fn of_kind(kind: &str) -> Vec<Value> {
    objects()
        .into_iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

fn words(rule: &Value, field: &str) -> Vec<String> {
    let list = rule[field].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

fn rules(kind: &str) -> Vec<Value> {
    of_kind(kind)
        .iter()
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .collect()
}

/// The rules of every Role and ClusterRole in every file of the bundle.
fn every_rule() -> Vec<Value> {
    let files = [BUNDLE, RACKS, DEFINITIONS]
        .into_iter()
        .chain(FOR_A_NAMESPACE);
    let objects = files.flat_map(documents);
    let roles = objects
        .filter(|object| ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap()));
    roles
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .collect()
}

/// Names of the types that the agent's code speaks of, tests left out.
fn words_of_the_code() -> BTreeSet<String> {
    fn read(folder: &Path, all: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_stem().is_some_and(|name| name == "tests") {
                continue;
            }
            if path.is_dir() {
                read(&path, all);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                all.extend(words.map(str::to_lowercase));
            }
        }
    }
    let mut all = BTreeSet::new();
    read(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut all,
    );
    all
}

#[test]
fn every_rule_is_about_a_kind_that_the_code_works_with() {
    let code = words_of_the_code();
    // These are rights without a type of their own.
    let about = |resource: &str| match resource {
        "endpointslices/restricted" => "endpointslice".to_owned(),
        "pods/eviction" => "evict".to_owned(),
        "ingresses" => "ingress".to_owned(),
        other => {
            let kind = other.split('/').next().unwrap();
            let one = kind.strip_suffix("ies").map(|stem| format!("{stem}y"));
            one.unwrap_or_else(|| kind.strip_suffix('s').unwrap().to_owned())
        }
    };
    let events = ["events.k8s.io"];
    for rule in every_rule() {
        for resource in words(&rule, "resources") {
            if words(&rule, "apiGroups") == events {
                continue;
            }
            let kind = about(&resource);
            assert!(
                code.contains(&kind),
                "nothing in agent/src speaks of `{kind}`: {rule}"
            );
        }
    }
}

#[test]
fn in_another_namespace_the_agent_may_do_less_than_in_its_own() {
    let own: BTreeSet<(String, String)> = rules("Role").iter().flat_map(rights).collect();
    let there = documents(&CONSUMER.replace("NAMESPACE", "redis"));
    let rules = there[0]["rules"].as_array().unwrap();
    // The rights that let a namespace go.
    let more = [("leases", "delete"), ("rolebindings", "patch")];
    for (resource, verb) in rules.iter().flat_map(rights) {
        let known = own.contains(&(resource.clone(), verb.clone()));
        let lets_go = more.contains(&(resource.as_str(), verb.as_str()));
        assert!(known || lets_go, "{verb} {resource}");
        let never = [
            "pods",
            "roles",
            "statefulsets",
            "persistentvolumeclaims",
            "databasetopologies",
        ];
        assert!(!never.contains(&resource.as_str()), "{resource}");
    }
    let binding = &there[1];
    assert_eq!(binding["metadata"]["name"], "meridian-consumer-redis");
    assert_eq!(binding["roleRef"]["name"], there[0]["metadata"]["name"]);
    assert_eq!(binding["metadata"]["namespace"], Value::Null);
    assert_eq!(
        [
            &binding["subjects"][0]["name"],
            &binding["subjects"][0]["namespace"]
        ],
        ["meridian-agent", "redis"]
    );
}

fn rights(rule: &Value) -> Vec<(String, String)> {
    let verbs = words(rule, "verbs");
    let one = |resource: String| {
        verbs
            .iter()
            .map(move |verb| (resource.clone(), verb.clone()))
            .collect::<Vec<_>>()
    };
    words(rule, "resources").into_iter().flat_map(one).collect()
}

#[test]
fn what_is_written_for_one_agent_carries_its_namespace_so_that_two_fit_in_one_cluster() {
    let scoped = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    let objects: Vec<Value> = FOR_A_NAMESPACE.into_iter().flat_map(documents).collect();
    let found: BTreeSet<&str> = objects
        .iter()
        .map(|o| o["kind"].as_str().unwrap())
        .collect();
    for kind in scoped {
        assert!(found.contains(kind), "no {kind} was read");
    }
    for object in objects
        .iter()
        .filter(|o| scoped.contains(&o["kind"].as_str().unwrap()))
    {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(name.ends_with("-NAMESPACE"), "{}/{name}", object["kind"]);
    }
}

#[test]
fn of_definitions_the_agent_may_see_the_four_that_may_be_anothers_and_change_none() {
    let role = documents(DEFINITIONS).remove(0);
    let rules = role["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(words(&rules[0], "verbs"), ["get"]);
    assert_eq!(
        words(&rules[0], "resourceNames"),
        meridian_api::installation::SHARED
    );
}

#[test]
fn the_agents_own_network_policy_lets_in_its_two_ports() {
    let policy = documents(NETWORK).remove(0);
    let pods = of_kind("Deployment").remove(0)["spec"]["selector"].clone();
    assert_eq!(policy["spec"]["podSelector"], pods);
    let ports = policy["spec"]["ingress"][0]["ports"].as_array().unwrap();
    let names: Vec<&str> = ports
        .iter()
        .map(|port| port["port"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["probes", "admission"]);
    let opened = &of_kind("Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(
        opened.as_array().unwrap().len(),
        2,
        "a new port is to be judged: {opened}"
    );
}

#[test]
fn no_rule_has_a_wildcard_or_a_right_that_leads_to_more_rights() {
    let all = every_rule();
    assert!(all.len() > 20, "the rules were not found");
    for rule in all {
        for field in ["apiGroups", "resources", "verbs"] {
            let words = words(&rule, field);
            assert!(!words.is_empty(), "{field} is missing in {rule}");
            for word in words {
                assert!(!word.contains('*'), "a wildcard in {rule}");
                assert!(
                    !["bind", "escalate", "impersonate"].contains(&word.as_str()),
                    "{word} in {rule}"
                );
                assert!(word != "pods/exec", "{rule}");
            }
        }
    }
}

#[test]
fn outside_its_namespace_the_agent_sees_one_object() {
    let rules = rules("ClusterRole");
    assert_eq!(rules.len(), 1);
    let shown =
        ["resources", "resourceNames", "verbs"].map(|field| words(&rules[0], field).join(","));
    assert_eq!(shown, ["namespaces", "kube-system", "get"]);
}

#[test]
fn the_agent_has_every_right_that_it_gives_to_node_pods() {
    // Kubernetes refuses a Role that gives more than its author has.
    let given = [
        (
            "meridian.dev",
            "databasetopologies",
            vec!["get", "list", "watch"],
        ),
        ("meridian.dev", "databasetopologies/status", vec!["patch"]),
        ("", "secrets", vec!["get", "list", "watch"]),
    ];
    for (group, resource, verbs) in given {
        let held: BTreeSet<String> = rules("Role")
            .iter()
            .filter(|rule| words(rule, "apiGroups").contains(&group.to_owned()))
            .filter(|rule| words(rule, "resources").contains(&resource.to_owned()))
            .flat_map(|rule| words(rule, "verbs"))
            .collect();
        for verb in verbs {
            assert!(held.contains(verb), "{verb} {resource}");
        }
    }
}

#[test]
fn two_replicas_run_without_any_privilege() {
    let deployment = of_kind("Deployment").remove(0);
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let container = &pod["containers"][0];
    let rights = &container["securityContext"];
    assert_eq!(rights["allowPrivilegeEscalation"], false);
    assert_eq!(rights["readOnlyRootFilesystem"], true);
    assert_eq!(rights["capabilities"]["drop"][0], "ALL");
    assert!(container["resources"]["limits"]["memory"].is_string());
    assert!(
        pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
            .is_array()
    );
}

#[test]
fn no_object_names_a_namespace_so_that_the_bundle_fits_any() {
    for object in objects() {
        assert_eq!(
            object["metadata"]["namespace"],
            Value::Null,
            "{}",
            object["kind"]
        );
    }
}

#[test]
fn of_webhook_configurations_the_agent_may_write_its_own_only_and_creates_none() {
    let text = ADMISSION.replace("NAMESPACE", "redis");
    let objects = documents(&text);
    let of_kind = |kind: &str| {
        objects
            .iter()
            .find(|object| object["kind"] == kind)
            .unwrap()
    };
    let configuration = of_kind("ValidatingWebhookConfiguration");
    let name = "redis-enterprise-admission-redis";
    assert_eq!(configuration["metadata"]["name"], name);
    assert_eq!(
        configuration["metadata"]["labels"]["app.kubernetes.io/managed-by"], "meridian-agent",
        "without the label the agent would leave it alone"
    );
    assert_eq!(
        configuration["webhooks"],
        Value::Null,
        "the agent fills it in"
    );

    let rules = of_kind("ClusterRole")["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    let shown = ["apiGroups", "resources", "resourceNames", "verbs"]
        .map(|field| words(&rules[0], field).join(","));
    assert_eq!(
        shown,
        [
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
            name,
            "get,list,watch,patch"
        ]
    );
    let subject = &of_kind("ClusterRoleBinding")["subjects"][0];
    assert_eq!(
        [&subject["kind"], &subject["name"], &subject["namespace"]],
        ["ServiceAccount", "meridian-agent", "redis"]
    );
}

#[test]
fn the_service_leads_to_the_port_of_the_admission_webhook() {
    let service = of_kind("Service").remove(0);
    assert_eq!(service["metadata"]["name"], "admission");
    let port = &service["spec"]["ports"][0];
    assert_eq!(port["port"], 443);
    let deployment = of_kind("Deployment").remove(0);
    let pod = &deployment["spec"]["template"];
    let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
    assert!(
        ports
            .iter()
            .any(|p| p["name"] == port["targetPort"] && p["containerPort"] == 8443),
        "{ports:?}"
    );
    assert_eq!(
        service["spec"]["selector"]["app.kubernetes.io/name"],
        pod["metadata"]["labels"]["app.kubernetes.io/name"]
    );
}
