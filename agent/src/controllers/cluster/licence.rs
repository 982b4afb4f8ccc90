//! What is told of the licence that a spec names. Nothing depends on one. Pure.

use k8s_openapi::api::core::v1::Secret;
use meridian_api::crds::RedisEnterpriseClusterSpec;

use crate::{controllers::secrets::value, k8s::conditions::Finding};

/// The condition.
const TYPE: &str = "LicenseReadable";
/// Key of the licence in its Secret (the product's name).
const KEY: &str = "license";

/// Name of the Secret with the licence, if the spec names one.
pub(super) fn secret_name(spec: &RedisEnterpriseClusterSpec) -> Option<&str> {
    let name = spec.license_secret_name.as_deref();
    name.filter(|name| !name.is_empty())
}

/// Where the licence was found; `None` without one. `secret` is that of [`secret_name`], if it exists.
pub(super) fn judge(spec: &RedisEnterpriseClusterSpec, secret: Option<&Secret>) -> Option<Finding> {
    const NOTHING: &str = "nothing is limited by it, or without it";
    let held = |reason, place: &str, bytes: usize| {
        let text = format!("{place} holds a licence of {bytes} bytes; {NOTHING}");
        Some(Finding::yes(TYPE, reason, text))
    };
    if let Some(name) = secret_name(spec) {
        let place = format!("spec.licenseSecretName: the Secret {name:?}");
        let missing = |what: &str| {
            let text = format!("{place} {what}; {NOTHING}");
            Some(Finding::no(TYPE, "NotReadable", text))
        };
        return match secret.map(|secret| value(secret, KEY)) {
            None => missing("does not exist"),
            Some(None) => missing("has no key \"license\""),
            Some(Some(text)) => held("InSecret", &place, text.len()),
        };
    }
    let inline = spec.license.as_deref().filter(|text| !text.is_empty())?;
    held("InSpec", "spec.license", inline.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_licence_is_shown_and_one_that_cannot_be_read_is_told() {
        let told = |spec: Value, secret: Option<Value>| {
            let spec = serde_json::from_value(spec).unwrap();
            let secret: Option<Secret> = secret.map(|data| serde_json::from_value(data).unwrap());
            judge(&spec, secret.as_ref())
                .map(|finding| format!("{} {}", finding.reason, finding.message))
                .unwrap_or_default()
        };
        let named = json!({"licenseSecretName": "lic"});
        let after = "; nothing is limited by it, or without it";
        let cases = [
            (json!({}), None, String::new()),
            (json!({"license": ""}), None, String::new()),
            (
                json!({"license": "text"}),
                None,
                format!("InSpec spec.license holds a licence of 4 bytes{after}"),
            ),
            (
                named.clone(),
                Some(json!({"data": {"license": "dGV4dA=="}})),
                format!(
                    "InSecret spec.licenseSecretName: the Secret \"lic\" holds a licence of 4 bytes{after}"
                ),
            ),
            (
                named.clone(),
                Some(json!({"data": {"licence": "dGV4dA=="}})),
                format!(
                    "NotReadable spec.licenseSecretName: the Secret \"lic\" has no key \"license\"{after}"
                ),
            ),
            (
                named,
                None,
                format!(
                    "NotReadable spec.licenseSecretName: the Secret \"lic\" does not exist{after}"
                ),
            ),
        ];
        for (spec, secret, expected) in cases {
            assert_eq!(told(spec.clone(), secret), expected, "{spec}");
        }
    }
}
