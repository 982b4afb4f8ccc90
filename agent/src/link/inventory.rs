//! What the member holds, in the words of the link: objects of the hub, and the cluster resources (REC). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use kube::{ResourceExt as _, api::DynamicObject};
use meridian_api::{
    ids::{ObjectId, Revision},
    link::{
        digest::{Digest, bucket},
        proto,
    },
};

use super::{
    kinds::{HASH, Kind, PLAN_NUMBER},
    peers::PeerState,
    settle::{annotation, mark_of, object_id_of},
};

/// Entries of one inventory page.
const PAGE: usize = 200;

/// The 256 bucket digests of the objects that carry the hub's annotation.
#[must_use]
pub fn digest(objects: &[(Kind, DynamicObject)]) -> Vec<u8> {
    let mut digest = Digest::default();
    for (id, entry) in entries(objects) {
        digest.add(id, Revision(entry.revision), &entry.hash);
    }
    digest.to_wire().to_vec()
}

/// Pages of the asked buckets; no bucket means all. A bucket without objects has one empty page.
#[must_use]
pub fn pages(objects: &[(Kind, DynamicObject)], buckets: &[u32]) -> Vec<proto::InventoryPage> {
    let mut by_bucket: BTreeMap<u32, Vec<proto::InventoryEntry>> = match buckets {
        [] => (0..256).map(|bucket| (bucket, Vec::new())).collect(),
        some => some
            .iter()
            .filter(|bucket| **bucket < 256)
            .map(|bucket| (*bucket, Vec::new()))
            .collect(),
    };
    for (id, entry) in entries(objects) {
        if let Some(bucket) = by_bucket.get_mut(&u32::from(bucket(id))) {
            bucket.push(entry);
        }
    }
    let mut pages = Vec::new();
    for (bucket, entries) in by_bucket {
        let chunks: Vec<_> = entries.chunks(PAGE).map(<[_]>::to_vec).collect();
        let last = chunks.len().max(1) - 1;
        let chunks = if chunks.is_empty() {
            vec![Vec::new()]
        } else {
            chunks
        };
        pages.extend(
            chunks
                .into_iter()
                .enumerate()
                .map(|(at, entries)| proto::InventoryPage {
                    bucket,
                    entries,
                    last_of_bucket: at == last,
                    last: false,
                }),
        );
    }
    if let Some(page) = pages.last_mut() {
        page.last = true;
    }
    pages
}

fn entries(objects: &[(Kind, DynamicObject)]) -> BTreeMap<ObjectId, proto::InventoryEntry> {
    let entries = objects.iter().filter_map(|(kind, object)| {
        let id = object_id_of(object)?;
        Some((id, entry(*kind, object, id.to_string())))
    });
    entries.collect()
}

fn entry(kind: Kind, object: &DynamicObject, object_id: String) -> proto::InventoryEntry {
    let number = |pointer: &str| {
        object
            .data
            .pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0)
    };
    let (mut highest_instance_id, mut config_version) = (0, 0);
    if kind == Kind::Instance {
        let listed = |pointer: &str| {
            object
                .data
                .pointer(pointer)
                .and_then(serde_json::Value::as_array)
                .into_iter()
                .flatten()
        };
        let members =
            listed("/spec/members").filter_map(|member| member.get("instanceId")?.as_u64());
        let ghosts = listed("/spec/ghosts").filter_map(serde_json::Value::as_u64);
        highest_instance_id = members
            .chain(ghosts)
            .max()
            .unwrap_or(0)
            .max(number("/spec/instanceId"));
        config_version = number("/spec/configVersion");
    }
    proto::InventoryEntry {
        object_id,
        revision: mark_of(object).unwrap_or_default().revision.0,
        hash: annotation(object, HASH)
            .and_then(unhex)
            .unwrap_or_default()
            .into(),
        data_bearing: kind.data_bearing(),
        kind: kind.kind().to_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        highest_instance_id,
        config_version,
        plan_number: annotation(object, PLAN_NUMBER)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

/// What identifies this cluster in the names that are made for its RECs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// UID of the namespace kube-system.
    pub cluster_uid: String,
    /// Name of the cluster at the hub.
    pub cluster_name: String,
    /// Trust domain of all identities.
    pub trust_domain: String,
}

impl Names {
    /// The identity that the nodes of a REC show to their peers.
    #[must_use]
    pub fn peer_id(&self, namespace: &str, rec: &str) -> String {
        format!(
            "spiffe://{}/cluster/{}/rec/{namespace}/{rec}",
            self.trust_domain, self.cluster_uid
        )
    }

    /// The suffix that makes a database's name its server name (SNI) in a REC.
    #[must_use]
    pub fn suffix(&self, rec: &DynamicObject) -> String {
        let (namespace, name) = (rec.namespace().unwrap_or_default(), rec.name_any());
        ingress(rec, "dbFqdnSuffix").unwrap_or_else(|| {
            format!(
                ".{name}.{namespace}.{}.meridian.internal",
                self.cluster_name
            )
        })
    }
}

/// The inventory entry of one REC. `sync` is its Service `<rec>-sync`, `peer` its peer certificate, `nodes` what its nodes say that they
/// have read of that.
///
/// The REC is read without its type: one whose spec is of a later version is still in the inventory.
#[must_use]
pub fn rec(
    rec: &DynamicObject,
    sync: Option<&Service>,
    names: &Names,
    peer: Option<&PeerState>,
    nodes: &[Option<&str>],
) -> proto::Rec {
    let (namespace, name) = (rec.namespace().unwrap_or_default(), rec.name_any());
    let replication_address = match ingress(rec, "dbFqdnSuffix") {
        Some(suffix) => format!("<db>{suffix}:443"),
        None => sync
            .and_then(load_balancer)
            .map(|host| format!("{host}:443"))
            .unwrap_or_default(),
    };
    // One node that has not read it, or does not say, and nothing is known of the REC.
    let read = peer.filter(|peer| nodes.iter().all(|node| *node == Some(peer.files.as_str())));
    proto::Rec {
        peer_trust_version: read.map_or(0, |peer| peer.trust_version),
        peer_signer: read.map_or_else(String::new, |peer| peer.signer.clone()),
        peer_spiffe_id: names.peer_id(&namespace, &name),
        api_fqdn_url: ingress(rec, "apiFqdnUrl").unwrap_or_default(),
        uid: rec.uid().unwrap_or_default(),
        state: rec
            .data
            .pointer("/status/state")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        peer_not_after_ms: peer.map_or(0, |peer| peer.ends_ms),
        suffix: names.suffix(rec),
        namespace,
        name,
        replication_address,
    }
}

fn ingress(rec: &DynamicObject, field: &str) -> Option<String> {
    let text = rec
        .data
        .pointer(&format!("/spec/ingressOrRouteSpec/{field}"))?
        .as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The address of a load balancer, an IPv6 address in brackets.
fn load_balancer(service: &Service) -> Option<String> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?
        .first()?;
    match (&ingress.ip, &ingress.hostname) {
        (Some(ip), _) if ip.contains(':') => Some(format!("[{ip}]")),
        (Some(ip), _) => Some(ip.clone()),
        (None, hostname) => hostname.clone(),
    }
}

#[cfg(test)]
mod tests;
