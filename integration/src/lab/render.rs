//! The configuration of every part of a cluster, as text. Pure: plan and folders in, files and flags out.

mod control_plane;
mod node;

pub(crate) use control_plane::{control_plane, kubeconfig_users};
pub(crate) use node::{node, node_files};

use super::pki::Identity;
use super::plan::ClusterPlan;

/// A file to write before a unit starts: path and content.
pub(crate) type RenderedFile = (std::path::PathBuf, String);

/// A kubeconfig for this user of the cluster, with everything in it.
pub(crate) fn kubeconfig(
    cluster: &ClusterPlan,
    authority_pem: &str,
    user: &str,
    identity: &Identity,
) -> String {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         clusters:\n- name: {name}\n  cluster:\n    server: https://{address}:6443\n    certificate-authority-data: {authority}\n\
         contexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {user}\n\
         users:\n- name: {user}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n",
        name = cluster.name,
        address = cluster.address(),
        authority = encode(authority_pem),
        certificate = encode(&identity.certificate),
        key = encode(&identity.key),
    )
}
