use serde_json::json;

use super::*;

fn stored(webhook: &ValidatingWebhook) -> ValidatingWebhookConfiguration {
    serde_json::from_value(json!({
        "metadata": { "name": name("ns"), "uid": "u", "labels": { MANAGED_BY: FIELD_MANAGER } },
        "webhooks": [{
            "name": "somebody.elses.webhook", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }, webhook],
    }))
    .unwrap()
}

#[test]
fn any_change_by_hand_is_seen_and_foreign_webhooks_beside_ours_are_not() {
    let wanted = webhook("ns", &BTreeSet::new(), "bundle");
    assert_eq!(standing(&stored(&wanted), &wanted), Standing::Right);
    let changes: [fn(&mut ValidatingWebhook); 5] = [
        |webhook| webhook.client_config.ca_bundle = Some(ByteString(b"garbled".to_vec())),
        |webhook| webhook.client_config.ca_bundle = None,
        |webhook| webhook.failure_policy = Some("Ignore".to_owned()),
        |webhook| webhook.match_conditions = None,
        |webhook| webhook.rules = Some(Vec::new()),
    ];
    for change in changes {
        let mut changed = wanted.clone();
        change(&mut changed);
        assert_eq!(
            standing(&stored(&changed), &wanted),
            Standing::Wrong,
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
    let wanted = webhook("ns", &BTreeSet::new(), "bundle");
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
    let configuration = stored(&webhook("ns", &BTreeSet::new(), "bundle"));
    assert!(trusts(&configuration, "bundle"));
    assert!(!trusts(&configuration, "another"));
}

#[test]
fn the_webhook_is_the_products_but_shorter_and_with_exemptions() {
    let shown = serde_json::to_value(webhook("ns", &BTreeSet::new(), "b")).unwrap();
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
fn what_is_applied_names_the_object_that_was_read_and_our_webhook_alone() {
    let wanted = webhook("ns", &BTreeSet::new(), "b");
    let body = body(&stored(&wanted), &wanted);
    assert_eq!(
        body["metadata"],
        json!({ "name": "redis-enterprise-admission-ns", "uid": "u" })
    );
    assert_eq!(body["webhooks"].as_array().unwrap().len(), 1);
}

#[test]
fn the_databases_of_every_operated_namespace_are_judged_and_of_no_other() {
    let others = BTreeSet::from(["team-b".to_owned(), "a".to_owned()]);
    let shown = serde_json::to_value(webhook("ns", &others, "b")).unwrap();
    assert_eq!(
        shown["namespaceSelector"]["matchExpressions"],
        json!([{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "ns", "team-b"]}])
    );
}
