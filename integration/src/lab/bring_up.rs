//! Brings one cluster up: certificates, files, namespaces, units, then waits until pods can run.

use std::time::Duration;

use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};

use super::error::{Result, kubernetes};
use super::layout::{Binaries, Layout};
use super::network::{NamespacePlan, remove_namespace};
use super::pki::Pki;
use super::plan::{ClusterPlan, NodePlan};
use super::progress::Progress;
use super::unit::UnitSpec;
use super::wait::{Wait, http_ok};
use super::{client, cloud, ending, files, images, network, render, unit};

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
        let known = self.layout.made(&cluster.name).exists();
        if !known {
            self.clear_half_made(cluster).await?;
        }
        let spec = self.write_files(cluster, nodes)?;
        let lab = cluster.lab();
        let namespaces: Vec<_> = nodes
            .iter()
            .map(|node| NamespacePlan::node(cluster, node, nodes))
            .chain([NamespacePlan::control_plane(cluster, nodes)])
            .collect();
        try_join_all(namespaces.iter().map(|namespace| namespace.ensure(lab))).await?;
        unit::start(&spec, self.program).await?;
        let control_plane = self.wait_for_control_plane(cluster);
        if known {
            control_plane.await?;
            try_join_all(nodes.iter().map(|node| self.node(cluster, node))).await?;
        } else {
            let nodes = nodes
                .iter()
                .map(|node| self.start_node(cluster, node, None));
            try_join(control_plane, try_join_all(nodes)).await?;
        }
        self.progress.say(&format!("{}: Ready", cluster.name));
        Ok(())
    }

    /// Starts one node of a cluster whose API server answers, and waits until pods can run on it.
    pub(crate) async fn node(&self, cluster: &ClusterPlan, node: &NodePlan) -> Result<()> {
        let folder = self.layout.node(&cluster.name, &node.name);
        if unit::running(&folder)?.is_some() {
            return self.start_node(cluster, node, None).await;
        }
        let client = client::of_kubeconfig(&self.layout.kubeconfig(&cluster.name)).await?;
        let before = Api::<Node>::all(client)
            .get_opt(&node.name)
            .await
            .map_err(kubernetes(
                &cluster.name,
                format!("look at node {}", node.name),
            ))?;
        let before = before
            .as_ref()
            .and_then(readiness)
            .and_then(|ready| ready.last_heartbeat_time.clone());
        self.start_node(cluster, node, before).await
    }

    /// `before` is what the node's previous life reported last: the API server shows it as Ready for a while although
    /// it is dead, so only a later report counts.
    async fn start_node(
        &self,
        cluster: &ClusterPlan,
        node: &NodePlan,
        before: Option<Time>,
    ) -> Result<()> {
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
            .until(|| node_is_ready(&nodes, &node.name, before.as_ref()))
            .await?;
        let health = format!("{}:10256", node.address);
        wait("kube-proxy")
            .until(|| http_ok(&health, "/healthz"))
            .await
    }

    /// A cluster whose API server never answered was interrupted while it was made: nothing of it is of use. An etcd that
    /// was killed between making its log and writing itself into it as a member waits for a leader for ever.
    async fn clear_half_made(&self, cluster: &ClusterPlan) -> Result<()> {
        let belongs = |name: &&String| belongs_to(cluster, name);
        for name in network::leftovers(cluster.lab()).iter().filter(belongs) {
            ending::kill_namespace(name).await?;
            remove_namespace(name).await?;
        }
        files::remove(&self.layout.cluster(&cluster.name))
    }

    /// Writes certificates and configuration; those that are there stay as they are.
    fn write_files(&self, cluster: &ClusterPlan, nodes: &[NodePlan]) -> Result<UnitSpec> {
        let pki_folder = self.layout.pki(&cluster.name);
        let kubeconfig = self.layout.kubeconfig(&cluster.name);
        let made = self.layout.made(&cluster.name).exists();
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

    /// Waits until the API server of a cluster says that it is ready.
    pub(crate) async fn api_server_answers(&self, cluster: &ClusterPlan) -> Result<()> {
        let client = client::of_kubeconfig(&self.layout.kubeconfig(&cluster.name)).await?;
        self.wait_for(cluster, "kube-apiserver")
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
            .await
    }

    fn wait_for(&self, cluster: &ClusterPlan, process: &'static str) -> Wait {
        Wait {
            part: format!("{process} of {}", cluster.name),
            unit: self.layout.control_plane(&cluster.name),
            process,
            limit: PATIENCE,
        }
    }

    async fn wait_for_control_plane(&self, cluster: &ClusterPlan) -> Result<()> {
        self.api_server_answers(cluster).await?;
        let client = client::of_kubeconfig(&self.layout.kubeconfig(&cluster.name)).await?;
        files::write(&self.layout.made(&cluster.name), "")?;
        self.progress
            .say(&format!("{}: API server answers", cluster.name));
        apply_objects(&client, cluster).await?;
        let dns = format!("{}:8181", cluster.address());
        self.wait_for(cluster, "coredns")
            .until(|| http_ok(&dns, "/ready"))
            .await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        self.wait_for(cluster, "kube-controller-manager")
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

fn readiness(node: &Node) -> Option<&NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == "Ready")
}

async fn node_is_ready(nodes: &Api<Node>, name: &str, before: Option<&Time>) -> Result<(), String> {
    let node = nodes
        .get(name)
        .await
        .map_err(|error| format!("node {name}: {error}"))?;
    match readiness(&node) {
        None => Err(format!("node {name} has no condition Ready")),
        Some(ready) if before.is_some() && ready.last_heartbeat_time.as_ref() == before => {
            Err(format!("node {name} has not reported since it was started"))
        }
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(format!(
            "node {name} is not Ready: {}",
            ready.message.as_deref().unwrap_or_default()
        )),
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
