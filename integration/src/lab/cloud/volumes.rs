//! Volumes for claims: folders on the machine, open to every user, which every node sees as with network storage.
//! They grow when the claim does, though nothing measures them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::lab::error::{LabError, file, kubernetes};
use crate::lab::files;

/// Name of the default storage class.
pub(crate) const STORAGE_CLASS: &str = "standard";
const PROVISIONER: &str = "lab.meridian.dev/folder";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const ASKED_OF: &str = "volume.kubernetes.io/storage-provisioner";

/// The default storage class.
pub(crate) fn storage_class() -> serde_json::Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": true,
    })
}

/// What is to be done, seen from claims and volumes alone.
#[derive(Debug, PartialEq)]
enum Action {
    Create(Box<PersistentVolume>),
    Grow {
        volume: String,
        namespace: String,
        claim: String,
        size: serde_json::Value,
    },
    Delete {
        volume: String,
    },
}

/// Makes, grows and removes the volumes of one cluster.
pub(super) struct Provisioner {
    client: Client,
    folder: PathBuf,
}

impl Provisioner {
    pub(super) fn new(client: Client, folder: PathBuf) -> Self {
        Self { client, folder }
    }

    /// Does what claims and volumes call for; returns what failed.
    pub(super) async fn reconcile(
        &self,
        claims: &[Arc<PersistentVolumeClaim>],
        volumes: &[Arc<PersistentVolume>],
    ) -> Vec<LabError> {
        let mut errors = Vec::new();
        for action in actions(claims, volumes, &self.folder) {
            if let Err(error) = self.act(action).await {
                errors.push(error);
            }
        }
        errors
    }

    async fn act(&self, action: Action) -> Result<(), LabError> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        match action {
            Action::Create(volume) => {
                let name = volume.name_any();
                open_folder(&self.folder.join(&name))?;
                match volumes.create(&PostParams::default(), &volume).await {
                    // The watch has not yet shown what an earlier pass made.
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    other => other
                        .map(drop)
                        .map_err(kubernetes("volumes", format!("create volume {name}"))),
                }
            }
            Action::Grow {
                volume,
                namespace,
                claim,
                size,
            } => {
                let capacity = json!({"spec": {"capacity": {"storage": size}}});
                volumes
                    .patch(&volume, &PatchParams::default(), &Patch::Merge(capacity))
                    .await
                    .map_err(kubernetes("volumes", format!("grow volume {volume}")))?;
                let claims: Api<PersistentVolumeClaim> =
                    Api::namespaced(self.client.clone(), &namespace);
                let status = json!({"status": {"capacity": {"storage": size}, "conditions": null}});
                claims
                    .patch_status(&claim, &PatchParams::default(), &Patch::Merge(status))
                    .await
                    .map(drop)
                    .map_err(kubernetes(
                        "volumes",
                        format!("report the size of claim {namespace}/{claim}"),
                    ))
            }
            Action::Delete { volume } => {
                files::remove(&self.folder.join(&volume))?;
                match volumes.delete(&volume, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    other => other
                        .map(drop)
                        .map_err(kubernetes("volumes", format!("delete volume {volume}"))),
                }
            }
        }
    }
}

/// A pod runs as any user it likes, so its volume is open to all.
fn open_folder(path: &Path) -> Result<(), LabError> {
    use std::os::unix::fs::PermissionsExt;
    files::make_folder(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
        .map_err(file("open to all users", path))
}

fn actions(
    claims: &[Arc<PersistentVolumeClaim>],
    volumes: &[Arc<PersistentVolume>],
    folder: &Path,
) -> Vec<Action> {
    let by_name: BTreeMap<String, &PersistentVolume> = volumes
        .iter()
        .map(|volume| (volume.name_any(), volume.as_ref()))
        .collect();
    let wanted = claims
        .iter()
        .filter_map(|claim| wanted_for_claim(claim, &by_name, folder));
    let released = volumes.iter().filter(|volume| is_released(volume));
    wanted
        .chain(released.map(|volume| Action::Delete {
            volume: volume.name_any(),
        }))
        .collect()
}

fn wanted_for_claim(
    claim: &PersistentVolumeClaim,
    volumes: &BTreeMap<String, &PersistentVolume>,
    folder: &Path,
) -> Option<Action> {
    let spec = claim.spec.as_ref()?;
    if claim.annotations().get(ASKED_OF).map(String::as_str) != Some(PROVISIONER)
        || claim.metadata.deletion_timestamp.is_some()
    {
        return None;
    }
    let size = spec.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    let size = serde_json::to_value(size).ok()?;
    let namespace = claim.namespace()?;
    if let Some(volume) = spec.volume_name.as_ref().and_then(|name| volumes.get(name)) {
        let capacity = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
        let (have, want) = (bytes(&serde_json::to_value(capacity).ok()?)?, bytes(&size)?);
        let grow = Action::Grow {
            volume: volume.name_any(),
            namespace,
            claim: claim.name_any(),
            size,
        };
        return (want > have).then_some(grow);
    }
    let name = format!("pvc-{}", claim.uid()?);
    // Without a pod that wants it, nobody knows yet where the volume is to be.
    if !claim
        .annotations()
        .contains_key("volume.kubernetes.io/selected-node")
        || volumes.contains_key(&name)
    {
        return None;
    }
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec.access_modes,
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec.storage_class_name,
            "hostPath": {"path": folder.join(&name), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": namespace, "name": claim.name_any(), "uid": claim.uid()?,
            },
        },
    });
    serde_json::from_value(volume)
        .ok()
        .map(|volume| Action::Create(Box::new(volume)))
}

fn is_released(volume: &PersistentVolume) -> bool {
    volume.annotations().get(PROVISIONED_BY).map(String::as_str) == Some(PROVISIONER)
        && volume.metadata.deletion_timestamp.is_none()
        && volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            == Some("Released")
        && volume
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
            == Some("Delete")
}

/// A quantity of Kubernetes (`1Gi`, `500M`, `1024`) in bytes; `None` for forms that sizes of storage do not take.
fn bytes(quantity: &serde_json::Value) -> Option<u128> {
    let text = quantity.as_str()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u128 = digits.parse().ok()?;
    let factor: u128 = match &text[digits.len()..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests;
