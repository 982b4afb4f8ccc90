//! The cluster's webhook configuration: which requests are asked about, and how. Pure.
//!
//! A person creates the object, empty, with the bundle; the agent fills it in as soon as it can answer, so that nothing
//! is ever refused because the first agent is still on its way. It is never created or deleted by the agent, which would
//! take a right over all configurations of the cluster.

use std::collections::BTreeSet;

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook,
        ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use meridian_api::validate::CONFIRM_DELETION;
use serde_json::{Value, json};

use super::review::VERSIONS;
use crate::k8s::own::{FIELD_MANAGER, MANAGED_BY};

/// How long the API server waits for an answer.
pub(super) const TIMEOUT_SECONDS: i32 = 5;
/// How long it waits for mere advice.
const ADVICE_SECONDS: i32 = 2;
/// Name of the webhook that may refuse (the product's).
const WEBHOOK: &str = "redisenterprise.admission.redislabs";
/// Name of the webhook that only warns. A cluster is never refused, nor does it wait for an agent that is away.
const ADVICE: &str = "advice.admission.meridian.dev";
/// Service of the bundle in front of every replica.
const SERVICE: &str = "admission";
/// Who deletes the objects of a namespace that goes, and what others leave behind.
const CLEANERS: [&str; 3] = [
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:kube-controller-manager",
];

/// Name of the configuration for the agent of a namespace.
pub(super) fn name(namespace: &str) -> String {
    format!("redis-enterprise-admission-{namespace}")
}

/// How a configuration stands to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is as wanted.
    Right,
    /// Something of it is not, and it may be written.
    Wrong,
    /// It does not carry our label: it is never written.
    Foreign {
        /// Who holds it, as far as its labels tell.
        holder: String,
    },
}

/// Compares a configuration with the webhooks that are wanted in it.
pub(super) fn standing(
    configuration: &ValidatingWebhookConfiguration,
    wanted: &[ValidatingWebhook],
) -> Standing {
    let labels = configuration.metadata.labels.as_ref();
    let manager = labels.and_then(|labels| labels.get(MANAGED_BY));
    if manager.map(String::as_str) != Some(FIELD_MANAGER) {
        let holder =
            manager.map_or_else(|| "nobody we know".to_owned(), |name| format!("`{name}`"));
        return Standing::Foreign { holder };
    }
    let found: Vec<_> = configuration.webhooks.iter().flatten().collect();
    if wanted.iter().all(|webhook| found.contains(&webhook)) {
        Standing::Right
    } else {
        Standing::Wrong
    }
}

/// Whether clients of the configuration trust what `bundle` trusts.
pub(super) fn trusts(configuration: &ValidatingWebhookConfiguration, bundle: &str) -> bool {
    let mut webhooks = configuration.webhooks.iter().flatten();
    webhooks.any(|webhook| {
        let shown = webhook.client_config.ca_bundle.as_ref();
        webhook.name == WEBHOOK && shown.is_some_and(|shown| shown.0 == bundle.as_bytes())
    })
}

/// What is applied to the configuration that was read.
pub(super) fn body(
    configuration: &ValidatingWebhookConfiguration,
    wanted: &[ValidatingWebhook],
) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": configuration.metadata.name, "uid": configuration.metadata.uid },
        "webhooks": wanted,
    })
}

/// The webhooks of the agent of `namespace`, which judges what stands there and in `others`, and whose clients trust
/// `bundle`. Every field is written down, so that it can be compared with what the API server has stored.
pub(super) fn webhooks(
    namespace: &str,
    others: &BTreeSet<String>,
    bundle: &str,
) -> Vec<ValidatingWebhook> {
    let judged: BTreeSet<&str> = others
        .iter()
        .map(String::as_str)
        .chain([namespace])
        .collect();
    let may_refuse = ValidatingWebhook {
        name: WEBHOOK.to_owned(),
        admission_review_versions: VERSIONS.map(str::to_owned).to_vec(),
        client_config: WebhookClientConfig {
            ca_bundle: Some(ByteString(bundle.as_bytes().to_vec())),
            service: Some(ServiceReference {
                name: SERVICE.to_owned(),
                namespace: namespace.to_owned(),
                path: Some("/admission".to_owned()),
                port: Some(443),
            }),
            url: None,
        },
        failure_policy: Some("Fail".to_owned()),
        match_conditions: Some(conditions(namespace)),
        match_policy: Some("Exact".to_owned()),
        namespace_selector: Some(within(&judged)),
        object_selector: Some(LabelSelector::default()),
        rules: Some(vec![
            rule(
                &["CREATE", "UPDATE"],
                &[
                    "redisenterprisedatabases",
                    "redisenterpriseactiveactivedatabases",
                    "redisenterpriseremoteclusters",
                ],
            ),
            rule(
                &["DELETE"],
                &[
                    "redisenterpriseactiveactivedatabases",
                    "redisenterpriseremoteclusters",
                ],
            ),
        ]),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    };
    let advises = ValidatingWebhook {
        name: ADVICE.to_owned(),
        failure_policy: Some("Ignore".to_owned()),
        namespace_selector: Some(within(&[namespace].into())),
        rules: Some(vec![RuleWithOperations {
            api_versions: Some(vec!["v1".to_owned(), "v1alpha1".to_owned()]),
            ..rule(&["CREATE", "UPDATE"], &["redisenterpriseclusters"])
        }]),
        timeout_seconds: Some(ADVICE_SECONDS),
        ..may_refuse.clone()
    };
    vec![may_refuse, advises]
}

/// Selects namespaces by their names.
fn within(names: &BTreeSet<&str>) -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "kubernetes.io/metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        }]),
        match_labels: None,
    }
}

fn rule(operations: &[&str], resources: &[&str]) -> RuleWithOperations {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    RuleWithOperations {
        api_groups: words(&["app.redislabs.com"]),
        api_versions: words(&["v1alpha1"]),
        operations: words(operations),
        resources: words(resources),
        scope: Some("Namespaced".to_owned()),
    }
}

/// A request is asked about only if all of these hold. The API server judges them itself: what they let pass, passes
/// without any agent.
fn conditions(namespace: &str) -> Vec<MatchCondition> {
    let cleaners = CLEANERS.map(|name| format!("'{name}'")).join(", ");
    [
        (
            "not-by-the-agent",
            format!(
                "request.userInfo.username != 'system:serviceaccount:{namespace}:{FIELD_MANAGER}'"
            ),
        ),
        (
            "not-going-already",
            "!has((request.operation == 'DELETE' ? oldObject : object).metadata.deletionTimestamp)"
                .to_owned(),
        ),
        (
            "spec-is-new",
            "request.operation != 'UPDATE' || has(object.spec) != has(oldObject.spec) \
             || (has(object.spec) && object.spec != oldObject.spec)"
                .to_owned(),
        ),
        (
            "not-by-a-cleaner",
            format!(
                "request.operation != 'DELETE' || !(request.userInfo.username in [{cleaners}])"
            ),
        ),
        (
            "not-confirmed",
            format!(
                "request.operation != 'DELETE' || !has(oldObject.metadata.annotations) \
                 || !('{CONFIRM_DELETION}' in oldObject.metadata.annotations) \
                 || oldObject.metadata.annotations['{CONFIRM_DELETION}'] != oldObject.metadata.name"
            ),
        ),
    ]
    .into_iter()
    .map(|(name, expression)| MatchCondition {
        name: name.to_owned(),
        expression,
    })
    .collect()
}

#[cfg(test)]
mod tests;
