//! The bundle gives the agent what it needs and nothing more.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stop at what they did not expect"
)]

use std::collections::BTreeSet;

use serde_json::Value;

const BUNDLE: &str = include_str!("../../deploy/bundle/agent.yaml");
const ADMISSION: &str = include_str!("../../deploy/bundle/admission.yaml");

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

#[test]
fn no_rule_has_a_wildcard_or_a_right_that_leads_to_more_rights() {
    let all: Vec<Value> = ["Role", "ClusterRole"]
        .into_iter()
        .flat_map(rules)
        .collect();
    assert!(all.len() > 10, "the rules were not found");
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
