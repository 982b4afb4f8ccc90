//! The objects by which traffic enters from outside: always with TLS passed through, because the nodes themselves end it.
//! Pure.

use std::collections::BTreeMap;

use meridian_api::validate::EntryWay;
use serde_json::{Value, json};

use crate::k8s::{dynamic::OptionalKind, own::Owner};

/// Annotations under this prefix speak to the agent, not to a controller.
const OWN: &str = "meridian.dev/";
/// Port at which the world outside enters.
const OUTSIDE: i32 = 443;

pub(super) static INGRESS: OptionalKind = OptionalKind {
    group: "networking.k8s.io",
    versions: &["v1"],
    kind: "Ingress",
    plural: "ingresses",
};
pub(super) static ROUTE: OptionalKind = OptionalKind {
    group: "route.openshift.io",
    versions: &["v1"],
    kind: "Route",
    plural: "routes",
};
pub(super) static GATEWAY: OptionalKind = OptionalKind {
    group: "networking.istio.io",
    versions: &["v1", "v1beta1", "v1alpha3"],
    kind: "Gateway",
    plural: "gateways",
};
pub(super) static VIRTUAL_SERVICE: OptionalKind = OptionalKind {
    group: "networking.istio.io",
    versions: &["v1", "v1beta1", "v1alpha3"],
    kind: "VirtualService",
    plural: "virtualservices",
};
pub(super) static TLS_ROUTE: OptionalKind = OptionalKind {
    group: "gateway.networking.k8s.io",
    versions: &["v1", "v1alpha3", "v1alpha2"],
    kind: "TLSRoute",
    plural: "tlsroutes",
};
/// Every kind that may have been made.
pub(super) static ALL: [&OptionalKind; 5] =
    [&INGRESS, &ROUTE, &GATEWAY, &VIRTUAL_SERVICE, &TLS_ROUTE];

/// One host, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Door {
    /// Name of the objects.
    pub name: String,
    /// For whom they are made.
    pub owner: Owner,
    /// Host (SNI).
    pub host: String,
    /// Where it leads.
    pub behind: Behind,
}

/// A Service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behind {
    /// Name of the Service.
    pub service: String,
    /// Name of its port.
    pub port_name: String,
    /// Number of its port.
    pub port: i32,
}

/// What every object of a REC's entry has in common.
#[derive(Debug, Clone)]
pub(super) struct Common<'a> {
    /// Name and uid of the REC, with which the objects go.
    pub rec: (&'a str, &'a str),
    /// Labels beside ours; ours win.
    pub labels: &'a BTreeMap<String, String>,
    /// The user's annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

/// The objects of one door: kind, and the body without `apiVersion`.
#[must_use]
pub(super) fn objects(
    way: &EntryWay,
    door: &Door,
    common: &Common<'_>,
) -> Vec<(&'static OptionalKind, Value)> {
    let made = match way {
        EntryWay::Ingress => vec![(&INGRESS, ingress(door))],
        EntryWay::Route => vec![(&ROUTE, route(door))],
        EntryWay::Istio { selector } => vec![
            (&GATEWAY, gateway(door, selector)),
            (&VIRTUAL_SERVICE, virtual_service(door)),
        ],
        EntryWay::TlsRoute {
            namespace,
            name,
            section,
        } => {
            let mut parent = json!({ "name": name });
            if let Some(namespace) = namespace {
                parent["namespace"] = json!(namespace);
            }
            if let Some(section) = section {
                parent["sectionName"] = json!(section);
            }
            vec![(&TLS_ROUTE, tls_route(door, &parent))]
        }
    };
    let metadata = metadata(door, common);
    let whole = |(kind, spec): (&'static OptionalKind, Value)| {
        let body = json!({ "kind": kind.kind, "metadata": metadata, "spec": spec });
        (kind, body)
    };
    made.into_iter().map(whole).collect()
}

fn metadata(door: &Door, common: &Common<'_>) -> Value {
    let mut labels = common.labels.clone();
    labels.extend(door.owner.labels());
    let annotations: BTreeMap<_, _> = common
        .annotations
        .iter()
        .filter(|(key, _)| !key.starts_with(OWN))
        .collect();
    let (name, uid) = common.rec;
    json!({
        "name": door.name, "labels": labels, "annotations": annotations,
        "ownerReferences": [{
            "apiVersion": "app.redislabs.com/v1", "kind": "RedisEnterpriseCluster", "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": false,
        }],
    })
}

fn ingress(Door { host, behind, .. }: &Door) -> Value {
    let backend =
        json!({ "service": { "name": behind.service, "port": { "number": behind.port } } });
    let path = json!({ "path": "/", "pathType": "ImplementationSpecific", "backend": backend });
    json!({ "tls": [{ "hosts": [host] }], "rules": [{ "host": host, "http": { "paths": [path] } }] })
}

fn route(Door { host, behind, .. }: &Door) -> Value {
    json!({
        "host": host,
        "to": { "kind": "Service", "name": behind.service, "weight": 100 },
        "port": { "targetPort": behind.port_name },
        "tls": { "termination": "passthrough", "insecureEdgeTerminationPolicy": "None" },
        "wildcardPolicy": "None",
    })
}

fn gateway(Door { host, .. }: &Door, selector: &BTreeMap<String, String>) -> Value {
    let port = json!({ "number": OUTSIDE, "name": "tls", "protocol": "TLS" });
    json!({
        "selector": selector,
        "servers": [{ "port": port, "hosts": [host], "tls": { "mode": "PASSTHROUGH" } }],
    })
}

fn virtual_service(
    Door {
        name, host, behind, ..
    }: &Door,
) -> Value {
    let to =
        json!({ "destination": { "host": behind.service, "port": { "number": behind.port } } });
    json!({
        "hosts": [host], "gateways": [name],
        "tls": [{ "match": [{ "port": OUTSIDE, "sniHosts": [host] }], "route": [to] }],
    })
}

fn tls_route(Door { host, behind, .. }: &Door, parent: &Value) -> Value {
    let to = json!({ "name": behind.service, "port": behind.port });
    json!({ "parentRefs": [parent], "hostnames": [host], "rules": [{ "backendRefs": [to] }] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::testing::golden;

    fn door() -> Door {
        Door {
            name: "db".to_owned(),
            owner: Owner::database("rec", "ns", "db"),
            host: "db.eu.example.com".to_owned(),
            behind: Behind {
                service: "rec-sync".to_owned(),
                port_name: "sync".to_owned(),
                port: 443,
            },
        }
    }

    #[test]
    fn what_is_made_for_each_way_of_entry_is_golden() {
        let labels = BTreeMap::from([
            ("team".to_owned(), "a".to_owned()),
            ("app".to_owned(), "mine".to_owned()),
        ]);
        let annotations = BTreeMap::from([
            ("kubernetes.io/ingress.class".to_owned(), "nginx".to_owned()),
            ("meridian.dev/gateway".to_owned(), "net/edge/tls".to_owned()),
        ]);
        let common = Common {
            rec: ("rec", "u1"),
            labels: &labels,
            annotations: &annotations,
        };
        let selector = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
        let gateway = EntryWay::TlsRoute {
            namespace: Some("net".to_owned()),
            name: "edge".to_owned(),
            section: Some("tls".to_owned()),
        };
        let ways = [
            ("ingress", EntryWay::Ingress),
            ("route", EntryWay::Route),
            ("istio", EntryWay::Istio { selector }),
            ("tlsroute", gateway),
        ];
        for (name, way) in ways {
            let made: Vec<Value> = objects(&way, &door(), &common)
                .into_iter()
                .map(|(_, body)| body)
                .collect();
            golden(&format!("rigger/golden/entry-{name}"), &json!(made));
        }
    }
}
