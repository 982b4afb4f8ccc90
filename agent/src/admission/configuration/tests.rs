use serde_json::json;

use super::*;

fn stored(webhooks: &[ValidatingWebhook]) -> ValidatingWebhookConfiguration {
    let mut configuration: ValidatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": { "name": name("ns"), "uid": "u", "labels": { MANAGED_BY: FIELD_MANAGER } },
        "webhooks": [{
            "name": "somebody.elses.webhook", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    }))
    .unwrap();
    let others = configuration.webhooks.get_or_insert_default();
    others.extend_from_slice(webhooks);
    configuration
}

#[test]
fn any_change_by_hand_is_seen_and_foreign_webhooks_beside_ours_are_not() {
    let wanted = webhooks("ns", &BTreeSet::new(), "bundle");
    assert_eq!(standing(&stored(&wanted), &wanted), Standing::Right);
    let changes: [fn(&mut ValidatingWebhook); 5] = [
        |webhook| webhook.client_config.ca_bundle = Some(ByteString(b"garbled".to_vec())),
        |webhook| webhook.client_config.ca_bundle = None,
        |webhook| webhook.failure_policy = Some("Ignore".to_owned()),
        |webhook| webhook.match_conditions = None,
        |webhook| webhook.rules = Some(Vec::new()),
    ];
    for (n, change) in (0..wanted.len()).flat_map(|n| changes.map(|change| (n, change))) {
        let mut changed = wanted.clone();
        change(&mut changed[n]);
        let expected = if changed == wanted {
            Standing::Right
        } else {
            Standing::Wrong
        };
        assert_eq!(
            standing(&stored(&changed), &wanted),
            expected,
            "{changed:?}"
        );
    }
    let mut empty = stored(&wanted);
    empty.webhooks = None;
    assert_eq!(
        standing(&empty, &wanted),
        Standing::Wrong,
        "as the bundle brings it"
    );
}

#[test]
fn a_configuration_without_our_label_is_foreign_whatever_its_name() {
    let wanted = webhooks("ns", &BTreeSet::new(), "bundle");
    let mut configuration = stored(&wanted);
    configuration.metadata.labels = None;
    assert_eq!(
        standing(&configuration, &wanted),
        Standing::Foreign {
            holder: "nobody we know".to_owned()
        }
    );
    configuration.metadata.labels = Some([(MANAGED_BY.to_owned(), "Helm".to_owned())].into());
    assert_eq!(
        standing(&configuration, &wanted),
        Standing::Foreign {
            holder: "`Helm`".to_owned()
        }
    );
}

#[test]
fn only_the_very_bundle_counts_as_trusted() {
    let configuration = stored(&webhooks("ns", &BTreeSet::new(), "bundle"));
    assert!(trusts(&configuration, "bundle"));
    assert!(!trusts(&configuration, "another"));
}

#[test]
fn the_webhook_is_the_products_but_shorter_and_with_exemptions() {
    let shown = serde_json::to_value(&webhooks("ns", &BTreeSet::new(), "b")[0]).unwrap();
    let fields = |names: &[&str]| {
        names
            .iter()
            .map(|name| shown[*name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        fields(&[
            "name",
            "failurePolicy",
            "matchPolicy",
            "sideEffects",
            "timeoutSeconds",
            "admissionReviewVersions"
        ]),
        [
            json!("redisenterprise.admission.redislabs"),
            json!("Fail"),
            json!("Exact"),
            json!("None"),
            json!(5),
            json!(["v1", "v1beta1"]),
        ]
    );
    assert_eq!(
        shown["clientConfig"]["service"],
        json!({ "name": "admission", "namespace": "ns", "path": "/admission", "port": 443 })
    );
    assert_eq!(
        shown["namespaceSelector"],
        json!({ "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["ns"] }] })
    );
    let deleted = &shown["rules"][1];
    assert_eq!(deleted["operations"], json!(["DELETE"]));
    assert_eq!(
        deleted["resources"],
        json!([
            "redisenterpriseactiveactivedatabases",
            "redisenterpriseremoteclusters"
        ])
    );
    assert_eq!(shown["matchConditions"].as_array().unwrap().len(), 5);
}

#[test]
fn what_is_applied_names_the_object_that_was_read_and_our_webhooks_alone() {
    let wanted = webhooks("ns", &BTreeSet::new(), "b");
    let body = body(&stored(&wanted), &wanted);
    assert_eq!(
        body["metadata"],
        json!({ "name": "redis-enterprise-admission-ns", "uid": "u" })
    );
    assert_eq!(body["webhooks"], json!(wanted));
}

#[test]
fn what_is_applied_is_golden() {
    let others = BTreeSet::from(["team-b".to_owned()]);
    let body = body(&stored(&[]), &webhooks("ns", &others, "b"));
    crate::k8s::testing::golden("admission/golden/configuration", &body);
}

#[test]
fn the_databases_of_every_operated_namespace_are_judged_and_of_no_other() {
    let others = BTreeSet::from(["team-b".to_owned(), "a".to_owned()]);
    let shown = serde_json::to_value(&webhooks("ns", &others, "b")[0]).unwrap();
    assert_eq!(
        shown["namespaceSelector"]["matchExpressions"],
        json!([{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "ns", "team-b"]}])
    );
}

#[test]
fn a_cluster_is_only_ever_advised_about_and_waits_for_no_agent() {
    let others = BTreeSet::from(["team".to_owned()]);
    let shown = serde_json::to_value(&webhooks("ns", &others, "b")[1]).unwrap();
    assert_eq!(shown["failurePolicy"], "Ignore");
    assert_eq!(shown["timeoutSeconds"], 2);
    assert_eq!(
        shown["rules"],
        json!([{
            "apiGroups": ["app.redislabs.com"], "apiVersions": ["v1", "v1alpha1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["redisenterpriseclusters"], "scope": "Namespaced",
        }])
    );
    let values = &shown["namespaceSelector"]["matchExpressions"][0]["values"];
    assert_eq!(values, &json!(["ns"]));
}
