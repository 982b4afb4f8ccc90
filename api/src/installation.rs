//! What must be known before Meridian is installed into a Kubernetes cluster in which another operator of the same kinds may be
//! at work. Nothing of it is ever changed. Pure: what was read comes in as JSON.

pub mod lacking;

use std::fmt;

use serde_json::Value;

/// Names of the definitions that another operator may have installed.
pub const SHARED: [&str; 4] = [
    "redisenterpriseactiveactivedatabases.app.redislabs.com",
    "redisenterpriseclusters.app.redislabs.com",
    "redisenterprisedatabases.app.redislabs.com",
    "redisenterpriseremoteclusters.app.redislabs.com",
];
/// Names of the definitions of our own group.
pub const OWN: [&str; 2] = [
    "activeactiveinstances.meridian.dev",
    "databasetopologies.meridian.dev",
];
/// Name of the vendor's operator, its Deployment.
pub const VENDOR_OPERATOR: &str = "redis-enterprise-operator";
/// Name of the webhook that both operators install, each in configurations of its own.
const WEBHOOK: &str = "redisenterprise.admission.redislabs";
/// Label by which objects say whose they are.
const PART_OF: &str = "/metadata/labels/app.kubernetes.io~1part-of";
/// Its value on ours.
const OURS: &str = "meridian";
/// Label that every Namespace carries: its name.
const NAME: &str = "kubernetes.io/metadata.name";

/// A definition of a kind as it is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// It carries our label.
    pub ours: bool,
    /// Every version that is served keeps `status.conditions`.
    pub keeps_conditions: bool,
}

impl Definition {
    /// Reads the object of kind `CustomResourceDefinition`.
    pub fn read(found: &Value) -> Self {
        let versions = found["spec"]["versions"].as_array();
        let served = versions
            .into_iter()
            .flatten()
            .filter(|v| v["served"] == true);
        let status = "/schema/openAPIV3Schema/properties/status";
        let keeps = |version: &Value| {
            let status = version.pointer(status).unwrap_or(&Value::Null);
            !status["properties"]["conditions"].is_null()
                || status["x-kubernetes-preserve-unknown-fields"] == true
        };
        Self {
            name: found["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            ours: is_ours(found),
            keeps_conditions: served.clone().next().is_some() && served.clone().all(keeps),
        }
    }
}

fn is_ours(object: &Value) -> bool {
    object.pointer(PART_OF).and_then(Value::as_str) == Some(OURS)
}

/// What speaks against an installation, or is to be known before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A definition that is not ours.
    Definition(Definition),
    /// The vendor's operator runs in this namespace.
    Operator(String),
    /// A webhook configuration that is not ours answers for our kinds; whether it does so in the namespace that is asked about.
    Webhook {
        /// Name of the configuration.
        name: String,
        /// It is asked about objects of that namespace.
        reaches: bool,
    },
    /// This could not be read, and why.
    Unread(&'static str, String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Definition(found) => {
                write!(f, "the definition {} is not ours", found.name)?;
                if found.keeps_conditions {
                    return Ok(());
                }
                f.write_str(
                    "; it keeps no status.conditions: what they would say is told by Events then",
                )
            }
            Self::Operator(namespace) => write!(
                f,
                "the operator {VENDOR_OPERATOR} runs in the namespace {namespace}"
            ),
            Self::Webhook {
                name,
                reaches: false,
            } => write!(
                f,
                "the webhook configuration {name} is not ours, and is not asked about this namespace"
            ),
            Self::Webhook {
                name,
                reaches: true,
            } => write!(
                f,
                "the webhook configuration {name} is not ours and is asked about objects of this namespace as well"
            ),
            Self::Unread(what, why) => write!(f, "{what} could not be read: {why}"),
        }
    }
}

impl Finding {
    /// Why even somebody who wants Meridian beside the other operator cannot have it in `namespace`, and what to do.
    pub fn obstacle(&self, namespace: &str) -> Option<String> {
        match self {
            Self::Operator(there) if there == namespace => Some(format!(
                "{self}: both would answer for the same objects. Next: choose a namespace of Meridian's own"
            )),
            Self::Webhook {
                reaches: true,
                name,
            } => Some(format!(
                "{self}: it would refuse them, or answer for an operator that does not know them. Next: give {name} a \
                 namespaceSelector by the names of its own operator's namespaces (label {NAME})"
            )),
            Self::Definition(_) | Self::Operator(_) | Self::Webhook { .. } | Self::Unread(..) => {
                None
            }
        }
    }
}

/// What a `ValidatingWebhookConfiguration` is about: `None` for ours, and for one that has nothing to do with our kinds.
pub fn webhook(configuration: &Value, namespace: &str) -> Option<Finding> {
    if is_ours(configuration) {
        return None;
    }
    let all = configuration["webhooks"].as_array()?;
    let theirs: Vec<&Value> = all.iter().filter(|one| one["name"] == WEBHOOK).collect();
    if theirs.is_empty() {
        return None;
    }
    let name = configuration["metadata"]["name"]
        .as_str()
        .unwrap_or_default();
    let reaches = |one: &&Value| !excludes(&one["namespaceSelector"], namespace);
    Some(Finding::Webhook {
        name: name.to_owned(),
        reaches: theirs.iter().any(reaches),
    })
}

/// Whether a selector leaves the namespace out by its name. Of other labels nothing is known, and a namespace that may carry
/// them counts as left out only where it must carry a label that names another one.
fn excludes(selector: &Value, namespace: &str) -> bool {
    let labels = selector["matchLabels"].as_object();
    let other = |(_, value): (&String, &Value)| value != namespace;
    if labels.into_iter().flatten().any(other) {
        return true;
    }
    let expressions = selector["matchExpressions"].as_array();
    expressions.into_iter().flatten().any(|one| {
        let values = one["values"].as_array();
        let named = values.into_iter().flatten().any(|value| value == namespace);
        match one["operator"].as_str() {
            Some("In") => !named,
            Some("NotIn") => named && one["key"] == NAME,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crds::all_crds;

    #[test]
    fn our_definitions_are_ours_and_keep_conditions() {
        for crd in all_crds().unwrap() {
            let found = Definition::read(&json!(crd));
            assert!(found.ours && found.keeps_conditions, "{found:?}");
            let known = SHARED.contains(&found.name.as_str()) || OWN.contains(&found.name.as_str());
            assert!(known, "{found:?}");
        }
    }

    #[test]
    fn a_definition_without_our_label_or_with_one_version_that_prunes_is_known_as_such() {
        for crd in all_crds().unwrap() {
            let mut found = json!(crd);
            found["metadata"]["labels"] = json!({"app": "redis-enterprise"});
            for version in found["spec"]["versions"].as_array_mut().unwrap() {
                let status = "/schema/openAPIV3Schema/properties/status/properties";
                let status = version.pointer_mut(status).unwrap();
                status.as_object_mut().unwrap().remove("conditions");
            }
            let read = Definition::read(&found);
            assert!(!read.ours && !read.keeps_conditions, "{read:?}");
            let text = Finding::Definition(read).to_string();
            assert!(text.contains("Events"), "{text}");
        }
        let version = |served, status: Value| json!({"served": served, "schema": {"openAPIV3Schema": {"properties": {"status": status}}}});
        let keeps = || version(true, json!({"properties": {"conditions": {}}}));
        let prunes = |served| version(served, json!({"properties": {"state": {}}}));
        let free = version(true, json!({"x-kubernetes-preserve-unknown-fields": true}));
        let cases = [
            (json!([keeps(), prunes(true)]), false),
            (json!([keeps(), prunes(false)]), true),
            (json!([free]), true),
            (json!([]), false),
        ];
        for (versions, expected) in cases {
            let found = json!({"metadata": {"name": "x"}, "spec": {"versions": versions}});
            assert_eq!(
                Definition::read(&found).keeps_conditions,
                expected,
                "{found}"
            );
        }
    }

    #[test]
    fn a_webhook_of_another_operator_is_found_and_whether_it_reaches_the_namespace() {
        let with = |selector: Value| {
            json!({"metadata": {"name": "redis-enterprise-admission"},
                   "webhooks": [{"name": WEBHOOK, "namespaceSelector": selector}]})
        };
        let name = |operator: &str, values: Value| json!({"matchExpressions": [{"key": NAME, "operator": operator, "values": values}]});
        let cases = [
            (Value::Null, true),
            (json!({}), true),
            (json!({"matchLabels": {NAME: "theirs"}}), false),
            (json!({"matchLabels": {NAME: "redis"}}), true),
            (
                json!({"matchLabels": {"redis.io/redisenterprise.admission.enable": "theirs"}}),
                false,
            ),
            (name("In", json!(["theirs"])), false),
            (name("In", json!(["theirs", "redis"])), true),
            (name("NotIn", json!(["redis"])), false),
            (name("NotIn", json!(["theirs"])), true),
            (
                json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}),
                true,
            ),
        ];
        for (selector, expected) in cases {
            let found = webhook(&with(selector.clone()), "redis").unwrap();
            let Finding::Webhook { reaches, .. } = &found else {
                panic!("{found:?}");
            };
            assert_eq!(*reaches, expected, "{selector}");
            assert_eq!(found.obstacle("redis").is_some(), expected, "{selector}");
        }
        let mut ours = with(Value::Null);
        ours["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "meridian"});
        assert_eq!(webhook(&ours, "redis"), None);
        assert_eq!(
            webhook(&json!({"webhooks": [{"name": "other"}]}), "redis"),
            None
        );
    }

    #[test]
    fn the_vendors_operator_is_an_obstacle_in_the_very_namespace_only() {
        let found = Finding::Operator("redis".to_owned());
        assert!(
            found
                .obstacle("redis")
                .is_some_and(|text| text.contains("Next: "))
        );
        assert_eq!(found.obstacle("other"), None);
        assert_eq!(
            Finding::Unread("operators", "403".to_owned()).obstacle("redis"),
            None
        );
    }
}
