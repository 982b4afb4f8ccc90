//! Services of a REC. None is made without a listener behind it.
//!
//! `<rec>` gives the pods their names, so it has no address of its own and can have none: the API is behind it, on every pod,
//! and `<rec>-api` has the address, only of pods that serve, and the type that the spec asks for.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{owned, pods};
use crate::{controllers::cluster::validate::Cluster, k8s::names::ClusterNames};

/// Port of PID 1's probes.
pub(super) const PROBES: i32 = 8080;
/// Port of the metrics.
pub(super) const METRICS: i32 = 8070;
/// Port of the sync endpoint in the pod.
pub(super) const SYNC: i32 = 8444;
/// Port by which the nodes of one REC speak with each other.
pub(super) const INTERNAL: i32 = 8445;
/// Port of the API.
pub(super) const API: i32 = 9443;
/// Port of the status page.
pub(super) const UI: i32 = 8443;
/// Port of the sync endpoint outside.
const SYNC_OUTSIDE: i32 = 443;

/// `peer_ports`: where peers look for databases besides the usual port; they count only while we make the load balancer.
pub(super) fn services(cluster: &Cluster, peer_ports: &BTreeSet<u16>) -> Vec<Service> {
    let names = ClusterNames(&cluster.name);
    let mut metrics = service(
        cluster,
        names.metrics(),
        &[("prometheus", METRICS, METRICS)],
    );
    metrics
        .metadata
        .labels
        .get_or_insert_default()
        .insert("redis.io/service".to_owned(), "prom-metrics".to_owned());
    let mut sync = service(cluster, names.sync(), &[("sync", SYNC_OUTSIDE, SYNC)]);
    if cluster.sync_balanced {
        let spec = sync.spec.get_or_insert_default();
        spec.type_ = Some("LoadBalancer".to_owned());
        let others = peer_ports.iter().map(|port| i32::from(*port));
        let others = others.filter(|port| *port != SYNC_OUTSIDE);
        let others = others.map(|port| port_of(&format!("sync-{port}"), port, SYNC));
        spec.ports.get_or_insert_default().extend(others);
    }
    vec![
        headless(governing(cluster)),
        api(cluster),
        ui(cluster),
        headless(metrics),
        sync,
    ]
}

/// Gives each pod its name; pods that are not ready keep theirs, because that is when one wants to reach them.
fn governing(cluster: &Cluster) -> Service {
    let name = ClusterNames(&cluster.name).main();
    let mut service = service(
        cluster,
        name,
        &[
            ("probes", PROBES, PROBES),
            ("sync", SYNC, SYNC),
            ("internal", INTERNAL, INTERNAL),
            ("api", API, API),
            ("ui", UI, UI),
        ],
    );
    service
        .spec
        .get_or_insert_default()
        .publish_not_ready_addresses = Some(true);
    service
}

fn api(cluster: &Cluster) -> Service {
    let name = ClusterNames(&cluster.name).api();
    let mut service = service(cluster, name, &[("api", API, API)]);
    service.spec.get_or_insert_default().type_ = Some(cluster.api_service.clone());
    service
}

fn ui(cluster: &Cluster) -> Service {
    let names = ClusterNames(&cluster.name);
    let (type_, annotations) = &cluster.ui_service;
    let mut service = service(cluster, names.ui(), &[("ui", UI, UI)]);
    let all = service.metadata.annotations.get_or_insert_default();
    all.extend(annotations.clone());
    if all.is_empty() {
        service.metadata.annotations = None;
    }
    let spec = service.spec.get_or_insert_default();
    spec.type_ = Some(type_.clone());
    if type_ == "ExternalName" {
        // An alias of the Service behind which every pod serves the page.
        let (main, namespace) = (names.main(), &cluster.namespace);
        spec.external_name = Some(format!("{main}.{namespace}.svc.cluster.local"));
        spec.selector = None;
    }
    service
}

fn headless(mut service: Service) -> Service {
    service.spec.get_or_insert_default().cluster_ip = Some("None".to_owned());
    service
}

fn service(cluster: &Cluster, name: String, ports: &[(&str, i32, i32)]) -> Service {
    let mut metadata = owned(cluster, name);
    metadata.annotations =
        (!cluster.service_annotations.is_empty()).then(|| cluster.service_annotations.clone());
    let port = |(name, port, target): &(&str, i32, i32)| port_of(name, *port, *target);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            selector: Some(pods::selector(cluster)),
            ports: Some(ports.iter().map(port).collect()),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port_of(name: &str, port: i32, target: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(target)),
        ..ServicePort::default()
    }
}
