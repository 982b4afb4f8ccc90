//! Secrets of a REC. They are data: no owner reference.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::data;
use crate::{
    controllers::cluster::{
        certificates::Certificates, internal::Internal, login::ApiSecret, validate::Cluster,
    },
    k8s::names::ClusterNames,
};

pub(super) fn credentials(cluster: &Cluster, password: &str) -> Secret {
    let pairs = [
        ("username", cluster.credentials.username.as_str()),
        ("password", password),
    ];
    let bytes = pairs.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
    Secret {
        metadata: data(cluster, cluster.credentials.secret.clone()),
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from(bytes)),
        ..Secret::default()
    }
}

/// Its entries are written one by one by the databases' controllers; this only makes it exist.
pub(super) fn users(cluster: &Cluster) -> Secret {
    Secret {
        metadata: data(cluster, ClusterNames(&cluster.name).users()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// By which the nodes trust each other, independent of the hub.
pub(super) fn internal(cluster: &Cluster, internal: &Internal) -> Secret {
    Secret {
        metadata: data(cluster, ClusterNames(&cluster.name).internal()),
        type_: Some("Opaque".to_owned()),
        data: Some(internal.data()),
        ..Secret::default()
    }
}

/// What the nodes show to people and clients.
pub(super) fn certificates(cluster: &Cluster, certificates: &Certificates) -> Secret {
    let mut metadata = data(cluster, ClusterNames(&cluster.name).tls());
    metadata.annotations = Some(certificates.annotations());
    Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(certificates.data()),
        ..Secret::default()
    }
}

/// Whom the nodes let in, and what they know of the cluster.
pub(super) fn api(cluster: &Cluster, api: &ApiSecret) -> Result<Secret, serde_json::Error> {
    let mut metadata = data(cluster, ClusterNames(&cluster.name).api());
    metadata.annotations = Some(api.annotations());
    Ok(Secret {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(api.data()?),
        ..Secret::default()
    })
}
