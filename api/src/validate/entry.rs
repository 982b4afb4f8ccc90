//! Rules of `ingressOrRouteSpec`: by which objects a cluster is reached from outside, and under which hosts.

use std::collections::BTreeMap;

use super::{Check, FieldError, quoted};
use crate::{
    crds::cluster::{IngressMethod, IngressOrRoute},
    identity::is_dns_name,
};

/// Annotation without which no controller takes an Ingress of ours.
pub const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
/// Annotation in `ingressAnnotations` that asks for a `TLSRoute` instead of an Ingress and names the Gateway it attaches
/// to: `<name>`, `<namespace>/<name>` or `<namespace>/<name>/<listener>`.
pub const GATEWAY: &str = "meridian.dev/gateway";
/// Annotation in `ingressAnnotations` with the labels of the Istio ingress gateway's pods: `key=value`, with commas.
pub const ISTIO_SELECTOR: &str = "meridian.dev/istio-selector";

const ANNOTATIONS: &str = "spec.ingressOrRouteSpec.ingressAnnotations";
/// Labels of the gateway that Istio's own profiles install.
const ISTIO_DEFAULT: (&str, &str) = ("istio", "ingressgateway");

/// By which objects traffic enters, with what each needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryWay {
    /// Ingresses of Kubernetes, for the controller that their class annotation names.
    Ingress,
    /// Routes of OpenShift.
    Route,
    /// Gateways and `VirtualServices` of Istio.
    Istio {
        /// Labels of the pods that carry the Gateways.
        selector: BTreeMap<String, String>,
    },
    /// `TLSRoutes` of the Gateway API.
    TlsRoute {
        /// Namespace of the Gateway; that of the cluster where absent.
        namespace: Option<String>,
        /// Its name.
        name: String,
        /// Its listener; all that fit where absent.
        section: Option<String>,
    },
}

/// The way of entry that `entry` asks for.
///
/// # Errors
/// The field that keeps it from being made.
pub fn entry_way(entry: &IngressOrRoute) -> Result<EntryWay, FieldError> {
    let annotation = |key: &str| entry.ingress_annotations.get(key).map(String::as_str);
    match &entry.method {
        IngressMethod::OpenShiftRoute => Ok(EntryWay::Route),
        IngressMethod::Istio => istio(annotation(ISTIO_SELECTOR)),
        IngressMethod::Ingress => match annotation(GATEWAY) {
            Some(gateway) => tls_route(gateway),
            None if annotation(INGRESS_CLASS).is_some_and(|class| !class.is_empty()) => {
                Ok(EntryWay::Ingress)
            }
            None => Err(error(
                ANNOTATIONS,
                format!("no annotation {INGRESS_CLASS}"),
                &format!(
                    "{INGRESS_CLASS} with the class of an ingress controller, which the method ingress needs"
                ),
                "add it, and the annotation by which that controller passes TLS through",
            )),
        },
        IngressMethod::Other(word) => Err(error(
            "spec.ingressOrRouteSpec.method",
            quoted(word),
            &format!("one of {}", IngressMethod::WORDS.join(", ")),
            "use one of these words",
        )),
    }
}

fn istio(given: Option<&str>) -> Result<EntryWay, FieldError> {
    let text = given.unwrap_or_default();
    let mut selector = BTreeMap::new();
    for term in text.split(',').filter(|term| !term.trim().is_empty()) {
        let Some((key, value)) = term
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        else {
            return Err(error(
                &format!("{ANNOTATIONS}.{ISTIO_SELECTOR}"),
                quoted(text),
                "labels as key=value, with commas",
                "write the labels of the pods of Istio's ingress gateway, such as istio=ingressgateway",
            ));
        };
        selector.insert(key.to_owned(), value.to_owned());
    }
    if selector.is_empty() {
        selector.insert(ISTIO_DEFAULT.0.to_owned(), ISTIO_DEFAULT.1.to_owned());
    }
    Ok(EntryWay::Istio { selector })
}

fn tls_route(gateway: &str) -> Result<EntryWay, FieldError> {
    let parts: Vec<&str> = gateway.split('/').collect();
    let found = match parts.as_slice() {
        [name] => Some((None, *name, None)),
        [namespace, name] => Some((Some(*namespace), *name, None)),
        [namespace, name, section] => Some((Some(*namespace), *name, Some(*section))),
        _ => None,
    };
    let fits = |(namespace, name, section): &(Option<&str>, &str, Option<&str>)| {
        is_dns_name(name, 253)
            && namespace.is_none_or(|text| is_dns_name(text, 63))
            && section.is_none_or(|text| is_dns_name(text, 253))
    };
    let Some((namespace, name, section)) = found.filter(fits) else {
        return Err(error(
            &format!("{ANNOTATIONS}.{GATEWAY}"),
            quoted(gateway),
            "a Gateway as <name>, <namespace>/<name> or <namespace>/<name>/<listener>",
            "name the Gateway whose TLS listener in mode Passthrough shall lead here",
        ));
    };
    Ok(EntryWay::TlsRoute {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        section: section.map(str::to_owned),
    })
}

/// The host of the database `name` behind this suffix.
///
/// # Errors
/// Name and suffix together are no host name.
pub fn entry_host(name: &str, suffix: &str) -> Result<String, FieldError> {
    let host = format!("{name}{suffix}").to_ascii_lowercase();
    if is_dns_name(&host, 253) {
        return Ok(host);
    }
    Err(error(
        "spec.ingressOrRouteSpec.dbFqdnSuffix",
        quoted(&host),
        "a host name: at most 253 characters, at most 63 from dot to dot",
        &format!(
            "choose a shorter suffix, or one that begins with a dot, or another name for {}",
            quoted(name)
        ),
    ))
}

#[cfg_attr(test, track_caller)]
fn error(field: &str, found: String, expected: &str, remedy: &str) -> FieldError {
    let error = FieldError {
        field: field.to_owned(),
        found,
        expected: expected.to_owned(),
        remedy: remedy.to_owned(),
    };
    #[cfg(test)]
    super::tests::refusals::saw(std::panic::Location::caller(), &error);
    error
}

pub(super) fn check(check: &mut Check, entry: &IngressOrRoute) {
    check.host("spec.ingressOrRouteSpec.apiFqdnUrl", &entry.api_fqdn_url);
    check.database_suffix(
        "spec.ingressOrRouteSpec.dbFqdnSuffix",
        &entry.db_fqdn_suffix,
    );
    check.errors.extend(entry_way(entry).err());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(method: &str, annotations: &Value) -> IngressOrRoute {
        serde_json::from_value(json!({
            "apiFqdnUrl": "api.a.b", "dbFqdnSuffix": ".a.b", "method": method, "ingressAnnotations": annotations,
        }))
        .unwrap()
    }

    fn refusal(method: &str, annotations: &Value) -> String {
        entry_way(&entry(method, annotations))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_ingress_without_a_class_is_refused_and_the_annotation_named() {
        let text = "spec.ingressOrRouteSpec.ingressAnnotations: found no annotation kubernetes.io/ingress.class, expected \
                    kubernetes.io/ingress.class with the class of an ingress controller, which the method ingress needs; \
                    add it, and the annotation by which that controller passes TLS through";
        assert_eq!(refusal("ingress", &json!({})), text);
        assert_eq!(refusal("ingress", &json!({ INGRESS_CLASS: "" })), text);
        let given = entry("ingress", &json!({ INGRESS_CLASS: "nginx" }));
        assert_eq!(entry_way(&given), Ok(EntryWay::Ingress));
        assert_eq!(
            entry_way(&entry("openShiftRoute", &json!({}))),
            Ok(EntryWay::Route)
        );
        assert!(
            refusal("nodePort", &json!({}))
                .contains("found \"nodePort\", expected one of openShiftRoute, ingress, istio")
        );
    }

    #[test]
    fn a_named_gateway_asks_for_a_tls_route_and_needs_no_class() {
        let way = |gateway: &str| entry_way(&entry("ingress", &json!({ GATEWAY: gateway })));
        let route = |namespace: Option<&str>, section: Option<&str>| {
            Ok(EntryWay::TlsRoute {
                namespace: namespace.map(str::to_owned),
                name: "edge".to_owned(),
                section: section.map(str::to_owned),
            })
        };
        assert_eq!(way("edge"), route(None, None));
        assert_eq!(way("net/edge"), route(Some("net"), None));
        assert_eq!(way("net/edge/tls"), route(Some("net"), Some("tls")));
        for wrong in ["", "net/", "/edge", "a/b/c/d", "Net/edge"] {
            assert_eq!(
                way(wrong).unwrap_err().to_string(),
                format!(
                    "spec.ingressOrRouteSpec.ingressAnnotations.meridian.dev/gateway: found \"{wrong}\", expected a Gateway \
                     as <name>, <namespace>/<name> or <namespace>/<name>/<listener>; name the Gateway whose TLS listener in \
                     mode Passthrough shall lead here"
                )
            );
        }
    }

    #[test]
    fn istio_gateways_run_in_the_default_pods_unless_labels_are_given() {
        let way = |labels: Value| entry_way(&entry("istio", &labels));
        let selector = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Ok(EntryWay::Istio {
                selector: pairs.collect(),
            })
        };
        assert_eq!(way(json!({})), selector(&[("istio", "ingressgateway")]));
        assert_eq!(
            way(json!({ ISTIO_SELECTOR: "istio=ingress, app=edge" })),
            selector(&[("app", "edge"), ("istio", "ingress")])
        );
        assert_eq!(
            way(json!({ ISTIO_SELECTOR: "ingress" }))
                .unwrap_err()
                .to_string(),
            "spec.ingressOrRouteSpec.ingressAnnotations.meridian.dev/istio-selector: found \"ingress\", expected labels as \
             key=value, with commas; write the labels of the pods of Istio's ingress gateway, such as istio=ingressgateway"
        );
    }

    #[test]
    fn name_and_suffix_together_must_be_a_host_name() {
        assert_eq!(
            entry_host("db", ".EU.example.com"),
            Ok("db.eu.example.com".to_owned())
        );
        let long = "a".repeat(60);
        assert!(entry_host(&long, ".eu.example.com").is_ok());
        assert_eq!(
            entry_host(&long, "-eu1.example.com")
                .unwrap_err()
                .to_string(),
            format!(
                "spec.ingressOrRouteSpec.dbFqdnSuffix: found \"{long}-eu1.example.com\", expected a host name: at most 253 \
                 characters, at most 63 from dot to dot; choose a shorter suffix, or one that begins with a dot, or another \
                 name for \"{long}\""
            )
        );
    }
}
