//! Services, entries and addresses of a cluster (REC).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, PodSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::open_enum::open_enum;
use crate::crds::shared::FreeForm;

/// Addresses for Active-Active databases made by hand (older way; exclusive with `ingressOrRouteSpec`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LegacyActiveActive {
    /// Host of the cluster's API.
    pub api_ingress_url: String,
    /// Suffix that turns a database's name into its host.
    pub db_ingress_suffix: String,
    /// Annotations of the ingresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ingress_annotations: BTreeMap<String, String>,
    /// How traffic enters.
    pub method: LegacyIngressMethod,
}

/// How other clusters reach the API and the databases (exclusive with `activeActive`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressOrRoute {
    /// Host of the cluster's API.
    pub api_fqdn_url: String,
    /// Suffix that turns a database's name into its host.
    pub db_fqdn_suffix: String,
    /// Annotations of the ingresses or routes. The method ingress requires `kubernetes.io/ingress.class`, or makes a
    /// TLSRoute where `meridian.dev/gateway` names a Gateway (`[<namespace>/]<name>[/<listener>]`, the namespace with a
    /// listener); `meridian.dev/istio-selector` names the labels of Istio's gateway pods (`istio=ingressgateway`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ingress_annotations: BTreeMap<String, String>,
    /// How traffic enters.
    pub method: IngressMethod,
}

/// Settings of the cluster's Services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Services {
    /// The Service of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_service: Option<ApiService>,
    /// Annotations of every Service; those set by others stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services_annotations: BTreeMap<String, String>,
}

/// The Service of the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiService {
    /// Type of the Service.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ApiServiceType>,
}

/// Access for clients that speak the cluster protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OssClusterSettings {
    /// How such clients enter from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_access_type: Option<ExternalAccessType>,
    /// Settings of the load balancers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<OssLoadBalancer>,
    /// Address ranges of pods, for clients inside.
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
}

/// Settings of the load balancers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OssLoadBalancer {
    /// Annotations of the load balancers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_annotations: BTreeMap<String, String>,
    /// Whether traffic may cross hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// How Services of databases are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicesRigger {
    /// Comma list of `cluster_ip`, `headless`, `load_balancer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_service_type: Option<String>,
    /// Further environment variables of the rigger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<EnvVar>")]
    pub extra_env_vars: Vec<FreeForm>,
    /// How Services are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_naming: Option<ServiceNaming>,
    /// Part of a pod spec that is merged into that of the rigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PodSpec>")]
    pub services_rigger_additional_pod_spec_attributes: Option<FreeForm>,
    /// Annotations of the rigger's pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Which port Services listen on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_service_port_policy: Option<ServicePortPolicy>,
}

open_enum! {
    /// How traffic enters, older way.
    pub closed enum LegacyIngressMethod {
        OpenShiftRoute = "openShiftRoute",
        Ingress = "ingress",
    }
}

open_enum! {
    /// Address family.
    pub closed enum IpFamily {
        IPv4 = "IPv4",
        IPv6 = "IPv6",
    }
}

open_enum! {
    /// How traffic enters.
    pub closed enum IngressMethod {
        OpenShiftRoute = "openShiftRoute",
        Ingress = "ingress",
        Istio = "istio",
    }
}

open_enum! {
    /// Type of the Service of the API.
    pub closed enum ApiServiceType {
        ClusterIP = "ClusterIP",
        NodePort = "NodePort",
        LoadBalancer = "LoadBalancer",
    }
}

open_enum! {
    /// How clients of the cluster protocol enter from outside.
    pub closed enum ExternalAccessType {
        LoadBalancer = "LoadBalancer",
        Disabled = "Disabled",
    }
}

open_enum! {
    /// Whether traffic may cross hosts.
    pub closed enum ExternalTrafficPolicy {
        Cluster = "Cluster",
        Local = "Local",
    }
}

open_enum! {
    /// How Services of databases are named.
    pub closed enum ServiceNaming {
        BdbName = "bdb_name",
        RedisPort = "redis-port",
    }
}

open_enum! {
    /// Which port Services of databases listen on.
    pub closed enum ServicePortPolicy {
        DatabasePortForward = "DatabasePortForward",
        RedisDefaultPort = "RedisDefaultPort",
    }
}

open_enum! {
    /// Type of the Service of the management interface.
    pub closed enum UiServiceType {
        ClusterIP = "ClusterIP",
        NodePort = "NodePort",
        LoadBalancer = "LoadBalancer",
        ExternalName = "ExternalName",
    }
}
