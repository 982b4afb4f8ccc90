//! Which hosts lead into a REC, and where to. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use meridian_api::{
    crds::cluster::IngressOrRoute,
    validate::{FieldError, entry_host},
};

use super::build::{Behind, Door};
use crate::k8s::{
    names::ClusterNames,
    own::{DATABASE, DatabaseName, Owner},
};

/// Port of the REC's API in a Service.
const API: i32 = 9443;

/// Why a host cannot lead anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DoorProblem {
    /// Name and suffix make no host.
    #[error("{0}")]
    Host(FieldError),
    /// The host leads elsewhere already.
    #[error(
        "host `{host}` of database `{database}` is that of the cluster's API (spec.ingressOrRouteSpec.apiFqdnUrl), so \
         nothing was made for the database; choose another host for the API, or another suffix or name"
    )]
    HostTaken {
        /// The host.
        host: String,
        /// The database.
        database: String,
    },
    /// There is no Service to lead to.
    #[error(
        "no Service of cluster `{cluster}` {what}, so nothing leads there from outside; it is looked for again until there is \
         one"
    )]
    NoService {
        /// The REC.
        cluster: String,
        /// What the Service would be.
        what: &'static str,
    },
}

impl DoorProblem {
    /// Reason of the condition.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Host(_) => "HostInvalid",
            Self::HostTaken { .. } => "HostTaken",
            Self::NoService { .. } => "NoService",
        }
    }
}

/// A door, or why it cannot be; by the name of its objects.
pub(super) type Doors = BTreeMap<String, Result<Door, DoorProblem>>;

/// Name of the objects in front of the API.
#[must_use]
pub(super) fn api_name(rec: &str) -> String {
    format!("{rec}-api")
}

/// The doors of the REC `rec`: one for its API, one for each of its Active-Active `databases`. `services` are those of the
/// REC that we made.
#[must_use]
pub(super) fn doors(
    rec: &str,
    entry: &IngressOrRoute,
    databases: &[DatabaseName],
    services: &[Service],
) -> Doors {
    let missing = |what| DoorProblem::NoService {
        cluster: rec.to_owned(),
        what,
    };
    let api_host = entry.api_fqdn_url.to_ascii_lowercase();
    let api = behind_api(services).map(|behind| Door {
        name: api_name(rec),
        owner: Owner::cluster(rec),
        host: api_host.clone(),
        behind,
    });
    let api = api.ok_or_else(|| missing("has port 9443 of the API"));
    let sync = behind_sync(rec, services);
    let door = |DatabaseName {
                    namespace,
                    name: database,
                }: &DatabaseName| {
        let host = entry_host(database, &entry.db_fqdn_suffix).map_err(DoorProblem::Host)?;
        if host == api_host {
            return Err(DoorProblem::HostTaken {
                host,
                database: database.clone(),
            });
        }
        Ok(Door {
            name: database.clone(),
            owner: Owner::database(rec, namespace, database),
            host,
            behind: sync
                .clone()
                .ok_or_else(|| missing("leads to the sync endpoints"))?,
        })
    };
    databases
        .iter()
        .map(|database| (database.name.clone(), door(database)))
        .chain([(api_name(rec), api)])
        .collect()
}

/// The Service with the API's port; one with an address of its own is preferred to a headless one.
fn behind_api(services: &[Service]) -> Option<Behind> {
    let own = services
        .iter()
        .filter(|service| !service.labels().contains_key(DATABASE));
    let mut found: Vec<_> = own
        .filter_map(|service| Some((headless(service), behind(service, Some(API))?)))
        .collect();
    found.sort_by_key(|(headless, _)| *headless);
    found.into_iter().next().map(|(_, behind)| behind)
}

fn behind_sync(rec: &str, services: &[Service]) -> Option<Behind> {
    let name = ClusterNames(rec).sync();
    let service = services.iter().find(|service| service.name_any() == name)?;
    behind(service, None)
}

fn headless(service: &Service) -> bool {
    let address = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    address == Some("None")
}

/// The port with this number, or the first one.
fn behind(service: &Service, number: Option<i32>) -> Option<Behind> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports
        .iter()
        .find(|port| number.is_none_or(|number| port.port == number))?;
    Some(Behind {
        service: service.name_any(),
        port_name: port.name.clone().unwrap_or_default(),
        port: port.port,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(name: &str, ip: Option<&str>, ports: &[(&str, i32)]) -> Service {
        let ports: Vec<Value> = ports
            .iter()
            .map(|(name, port)| json!({"name": name, "port": port}))
            .collect();
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": ports}}),
        )
        .unwrap()
    }

    fn entry() -> IngressOrRoute {
        serde_json::from_value(json!({"apiFqdnUrl": "Api.eu.example.com", "dbFqdnSuffix": ".eu.example.com", "method": "istio"})).unwrap()
    }

    fn names(list: &[&str]) -> Vec<DatabaseName> {
        list.iter()
            .map(|name| DatabaseName {
                namespace: "ns".to_owned(),
                name: (*name).to_owned(),
            })
            .collect()
    }

    #[test]
    fn the_api_and_each_database_have_a_door_of_their_own() {
        let services = [
            service("rec", Some("None"), &[("probes", 8080), ("api", 9443)]),
            service("rec-api", Some("10.0.0.9"), &[("https", 9443)]),
            service("rec-sync", None, &[("sync", 443)]),
        ];
        let doors = doors("rec", &entry(), &names(&["a", "b"]), &services);
        let shown: Vec<_> = doors
            .values()
            .map(|door| door.as_ref().unwrap())
            .map(|door| {
                (
                    door.name.as_str(),
                    door.host.as_str(),
                    door.behind.service.as_str(),
                    door.behind.port,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("a", "a.eu.example.com", "rec-sync", 443),
                ("b", "b.eu.example.com", "rec-sync", 443),
                ("rec-api", "api.eu.example.com", "rec-api", 9443),
            ]
        );
        assert_eq!(
            doors["a"].as_ref().unwrap().owner,
            Owner::database("rec", "ns", "a")
        );
        assert_eq!(
            doors["rec-api"].as_ref().unwrap().owner,
            Owner::cluster("rec")
        );
    }

    #[test]
    fn a_host_that_cannot_be_is_refused_with_the_reason_and_leaves_the_others() {
        let services = [service("rec-sync", None, &[("sync", 443)])];
        let mut entry = entry();
        entry.db_fqdn_suffix = "-x.eu.example.com".to_owned();
        entry.api_fqdn_url = "api-x.eu.example.com".to_owned();
        let long = "l".repeat(62);
        let doors = doors("rec", &entry, &names(&["api", "ok", &long]), &services);
        assert!(doors["ok"].is_ok());
        let problem = |name: &str| {
            let problem = doors[name].as_ref().unwrap_err();
            (problem.reason(), problem.to_string())
        };
        assert_eq!(problem(&long).0, "HostInvalid");
        assert!(
            problem(&long).1.contains("at most 63 from dot to dot"),
            "{}",
            problem(&long).1
        );
        assert_eq!(
            problem("api"),
            (
                "HostTaken",
                "host `api-x.eu.example.com` of database `api` is that of the cluster's API \
                 (spec.ingressOrRouteSpec.apiFqdnUrl), so nothing was made for the database; choose another host for the \
                 API, or another suffix or name"
                    .to_owned()
            )
        );
        assert_eq!(
            problem("rec-api"),
            (
                "NoService",
                "no Service of cluster `rec` has port 9443 of the API, so nothing leads there from outside; it is looked \
                 for again until there is one"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_databases_own_service_is_never_taken_for_the_api() {
        let mut own = service("db", None, &[("redis", 9443)]);
        own.metadata.labels = Some(Owner::database("rec", "ns", "db").labels());
        let doors = doors("rec", &entry(), &names(&["db"]), &[own]);
        assert!(doors["rec-api"].is_err());
        assert!(
            doors["db"]
                .as_ref()
                .unwrap_err()
                .to_string()
                .contains("leads to the sync endpoints")
        );
    }
}
