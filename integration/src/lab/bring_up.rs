//! Brings one cluster up: certificates, files, namespaces, units, then waits until pods can run.

use std::time::Duration;

use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::{Node, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, Patch, PatchParams};

use super::error::{Result, kubernetes};
use super::layout::{Binaries, Layout};
use super::network::{NamespacePlan, remove_namespace};
use super::pki::Pki;
use super::plan::{ClusterPlan, NodePlan};
use super::progress::Progress;
use super::unit::UnitSpec;
use super::wait::{Wait, http_ok};
use super::{client, cloud, files, images, network, process, render, unit};

/// How long a part of a cluster may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is needed to bring clusters up.
#[derive(Debug)]
pub(crate) struct BringUp<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) binaries: &'a Binaries,
    /// The lab's own program, which supervises the units.
    pub(crate) program: &'a std::path::Path,
    pub(crate) progress: Progress,
}

impl BringUp<'_> {
    /// Brings a cluster up with these nodes. One that is up stays as it is.
    pub(crate) async fn cluster(&self, cluster: &ClusterPlan, nodes: &[NodePlan]) -> Result<()> {
        self.clear_half_made(cluster).await?;
        let control_plane = self.write_files(cluster, nodes)?;
        let lab = cluster.lab();
        let namespaces = nodes
            .iter()
            .map(|node| NamespacePlan::node(cluster, node, nodes))
            .chain([NamespacePlan::control_plane(cluster, nodes)]);
        let namespaces: Vec<_> = namespaces.collect();
        try_join_all(namespaces.iter().map(|namespace| namespace.ensure(lab))).await?;
        unit::start(&control_plane, self.program).await?;
        let control_plane = self.wait_for_control_plane(cluster);
        let nodes = try_join_all(nodes.iter().map(|node| self.node(cluster, node)));
        try_join(control_plane, nodes).await?;
        self.progress.say(&format!("{}: Ready", cluster.name));
        Ok(())
    }

    /// Starts one node and waits until pods can run on it.
    pub(crate) async fn node(&self, cluster: &ClusterPlan, node: &NodePlan) -> Result<()> {
        let spec = render::node(self.layout, cluster, node, self.binaries);
        unit::start(&spec, self.program).await?;
        let wait = |process: &'static str| Wait {
            part: format!("{process} of {}", node.name),
            unit: spec.folder.clone(),
            process,
            limit: PATIENCE,
        };
        let socket = self.layout.runtime_socket(&cluster.name, &node.name);
        wait("containerd")
            .until(|| images::runtime_answers(&socket))
            .await?;
        images::import(&socket, &self.binaries.pause_image()).await?;
        let api_client = client::of_kubeconfig(&self.layout.kubeconfig(&cluster.name)).await?;
        let nodes: Api<Node> = Api::all(api_client);
        wait("kubelet")
            .until(|| node_is_ready(&nodes, &node.name))
            .await?;
        let health = format!("{}:10256", node.address);
        wait("kube-proxy")
            .until(|| http_ok(&health, "/healthz"))
            .await
    }

    /// A cluster whose kubeconfig was not yet written was interrupted while it was made: nothing of it is of use.
    async fn clear_half_made(&self, cluster: &ClusterPlan) -> Result<()> {
        if self.layout.kubeconfig(&cluster.name).exists() {
            return Ok(());
        }
        let belongs = |name: &&String| belongs_to(cluster, name);
        for name in network::leftovers(cluster.lab()).iter().filter(belongs) {
            process::kill_namespace(name).await?;
            remove_namespace(name).await?;
        }
        files::remove(&self.layout.cluster(&cluster.name))
    }

    /// Writes certificates and configuration; those that are there stay as they are. The administrator's kubeconfig
    /// comes last: with it the cluster counts as made.
    fn write_files(&self, cluster: &ClusterPlan, nodes: &[NodePlan]) -> Result<UnitSpec> {
        let pki_folder = self.layout.pki(&cluster.name);
        let kubeconfig = self.layout.kubeconfig(&cluster.name);
        let made = kubeconfig.exists();
        let pki = if made {
            Pki::open(&pki_folder)?
        } else {
            Pki::create(&pki_folder, &cluster.name)?
        };
        let (spec, rendered) = render::control_plane(self.layout, cluster, self.binaries);
        if !made {
            pki.api_server(cluster)?;
            files::make_folder(&self.layout.volumes(&cluster.name))?;
            for (name, user, group) in render::kubeconfig_users() {
                let text = render::kubeconfig(
                    cluster,
                    pki.authority_pem(),
                    user,
                    &pki.client(user, group)?,
                );
                files::write_secret(&spec.folder.join(format!("{name}.kubeconfig")), &text)?;
            }
            for (path, text) in rendered {
                files::write(&path, &text)?;
            }
        }
        for node in nodes {
            self.write_node_files(cluster, node, &pki)?;
        }
        if !made {
            let admin = pki.client("lab-admin", Some("system:masters"))?;
            files::write_secret(
                &kubeconfig,
                &render::kubeconfig(cluster, pki.authority_pem(), "lab-admin", &admin),
            )?;
        }
        Ok(spec)
    }

    fn write_node_files(&self, cluster: &ClusterPlan, node: &NodePlan, pki: &Pki) -> Result<()> {
        let folder = self.layout.node(&cluster.name, &node.name);
        let last = folder.join("kubelet.kubeconfig");
        if last.exists() {
            return Ok(());
        }
        for (path, text) in render::node_files(self.layout, cluster, node) {
            files::write(&path, &text)?;
        }
        pki.kubelet_serving(node)?;
        let proxy = pki.client("system:kube-proxy", None)?;
        let text = render::kubeconfig(cluster, pki.authority_pem(), "system:kube-proxy", &proxy);
        files::write_secret(&folder.join("kube-proxy.kubeconfig"), &text)?;
        let user = format!("system:node:{}", node.name);
        let kubelet = pki.client(&user, Some("system:nodes"))?;
        files::write_secret(
            &last,
            &render::kubeconfig(cluster, pki.authority_pem(), &user, &kubelet),
        )
    }

    async fn wait_for_control_plane(&self, cluster: &ClusterPlan) -> Result<()> {
        let wait = |process: &'static str| Wait {
            part: format!("{process} of {}", cluster.name),
            unit: self.layout.control_plane(&cluster.name),
            process,
            limit: PATIENCE,
        };
        let client = client::of_kubeconfig(&self.layout.kubeconfig(&cluster.name)).await?;
        wait("kube-apiserver")
            .until(|| async {
                let request = http::Request::get("/readyz")
                    .body(Vec::new())
                    .map_err(|error| error.to_string())?;
                client
                    .request_text(request)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            })
            .await?;
        self.progress
            .say(&format!("{}: API server answers", cluster.name));
        apply_objects(&client, cluster).await?;
        let dns = format!("{}:8181", cluster.address());
        wait("coredns").until(|| http_ok(&dns, "/ready")).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        wait("kube-controller-manager")
            .until(|| async {
                accounts
                    .get("default")
                    .await
                    .map(drop)
                    .map_err(|error| format!("service account default: {error}"))
            })
            .await
    }
}

/// Whether a namespace or link of this name is one of this cluster's.
fn belongs_to(cluster: &ClusterPlan, name: &str) -> bool {
    let own = format!("{}-{}", cluster.lab().bridge(), cluster.index);
    name.strip_prefix(&own)
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

async fn node_is_ready(nodes: &Api<Node>, name: &str) -> Result<(), String> {
    let node = nodes
        .get(name)
        .await
        .map_err(|error| format!("node {name}: {error}"))?;
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    match conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
    {
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(format!(
            "node {name} is not Ready: {}",
            ready.message.unwrap_or_default()
        )),
        None => Err(format!("node {name} has no condition Ready")),
    }
}

/// The objects that make a cluster complete: the default storage class and the address of the cluster DNS.
async fn apply_objects(client: &kube::Client, cluster: &ClusterPlan) -> Result<()> {
    let parameters = PatchParams::apply("lab").force();
    let failed = |what: &str| kubernetes(&cluster.name, format!("apply {what}"));
    let class = cloud::storage_class();
    let classes: Api<StorageClass> = Api::all(client.clone());
    classes
        .patch(cloud::STORAGE_CLASS, &parameters, &Patch::Apply(class))
        .await
        .map_err(failed("StorageClass"))?;
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": cluster.dns_service().to_string(),
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        },
    });
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    services
        .patch("kube-dns", &parameters, &Patch::Apply(service))
        .await
        .map_err(failed("Service kube-dns"))?;
    let slice = serde_json::json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        "endpoints": [{"addresses": [cluster.address().to_string()], "conditions": {"ready": true}}],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    slices
        .patch("kube-dns", &parameters, &Patch::Apply(slice))
        .await
        .map_err(failed("EndpointSlice kube-dns"))?;
    Ok(())
}
