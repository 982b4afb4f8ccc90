//! A node: container runtime, kubelet, kube-proxy, pod network.

use std::path::{Path, PathBuf};

use super::RenderedFile;
use super::control_plane::api_listens;
use crate::lab::layout::{Binaries, Layout};
use crate::lab::plan::{ClusterPlan, NodePlan};
use crate::lab::unit::{Need, ProcessSpec, UnitSpec};

/// The unit of a node.
pub(crate) fn node(
    layout: &Layout,
    cluster: &ClusterPlan,
    node: &NodePlan,
    binaries: &Binaries,
) -> UnitSpec {
    let folder = layout.node(&cluster.name, &node.name);
    let path = |name: &str| folder.join(name).display().to_string();
    let process =
        |name: &str, program: PathBuf, arguments: Vec<String>, needs: &[Need]| ProcessSpec {
            name: name.to_owned(),
            program,
            arguments,
            needs: needs.to_vec(),
        };
    let kubelet = vec![
        format!("--config={}", path("kubelet.yaml")),
        format!("--kubeconfig={}", path("kubelet.kubeconfig")),
        format!("--root-dir={}", path("kubelet")),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", node.address),
        // One zone per node, one region per cluster: what spreads pods over zones spreads them here too.
        format!(
            "--node-labels=topology.kubernetes.io/region={},topology.kubernetes.io/zone={}",
            cluster.name, node.name
        ),
    ];
    let proxy = vec![
        format!("--config={}", path("kube-proxy.yaml")),
        format!("--hostname-override={}", node.name),
    ];
    let runtime = vec!["--config".to_owned(), path("containerd.toml")];
    let socket = Need::Socket(layout.runtime_socket(&cluster.name, &node.name));
    let api = api_listens(cluster);
    let processes = vec![
        process("containerd", "containerd".into(), runtime, &[]),
        process(
            "kubelet",
            binaries.kubernetes("kubelet"),
            kubelet,
            &[socket, api.clone()],
        ),
        process(
            "kube-proxy",
            binaries.kubernetes("kube-proxy"),
            proxy,
            &[api],
        ),
    ];
    // /run: sockets of shims, locks of iptables, network namespaces of pods. /var/lib/cni: addresses given to pods.
    // /var/log: links that the kubelet makes there. All of it dies with the node, as with a machine's power.
    let private = vec!["/run".into(), "/var/lib/cni".into(), "/var/log".into()];
    UnitSpec {
        namespace: node.namespace.clone(),
        folder,
        private,
        control_group: Some(Path::new(&cluster.lab().bridge()).join(&node.namespace)),
        processes,
    }
}

/// The files that a node's processes read.
pub(crate) fn node_files(
    layout: &Layout,
    cluster: &ClusterPlan,
    node: &NodePlan,
) -> Vec<RenderedFile> {
    let folder = layout.node(&cluster.name, &node.name);
    vec![
        (
            folder.join("containerd.toml"),
            containerd(layout, cluster, node, &folder),
        ),
        (
            folder.join("kubelet.yaml"),
            kubelet(layout, cluster, node, &folder),
        ),
        (folder.join("kube-proxy.yaml"), kube_proxy(cluster, &folder)),
        (folder.join("cni/10-lab.conflist"), pod_network(node)),
    ]
}

fn containerd(layout: &Layout, cluster: &ClusterPlan, node: &NodePlan, folder: &Path) -> String {
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # Without the right to raise a process's chance to survive a lack of memory, runc would fail to start any container.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"#,
        folder = folder.display(),
        socket = layout.runtime_socket(&cluster.name, &node.name).display(),
    )
}

fn kubelet(layout: &Layout, cluster: &ClusterPlan, node: &NodePlan, folder: &Path) -> String {
    let pki = layout.pki(&cluster.name);
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: "{pki}/ca.crt"}}}}
authorization: {{mode: Webhook}}
tlsCertFile: "{pki}/{name}.crt"
tlsPrivateKeyFile: "{pki}/{name}.key"
containerRuntimeEndpoint: "unix://{socket}"
clusterDomain: cluster.local
clusterDNS: ["{dns}"]
resolvConf: ""
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
makeIPTablesUtilChains: true
volumePluginDir: "{folder}/volume-plugins"
podLogsDir: "{folder}/pods"
# The nodes share one disk that is not theirs: its being full must neither remove images nor evict pods.
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: "50Mi", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}}
# Pods of a whole scenario start at once.
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
"#,
        address = node.address,
        pki = pki.display(),
        name = node.name,
        socket = layout.runtime_socket(&cluster.name, &node.name).display(),
        dns = cluster.dns_service(),
        folder = folder.display(),
    )
}

fn kube_proxy(cluster: &ClusterPlan, folder: &Path) -> String {
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {{kubeconfig: "{folder}/kube-proxy.kubeconfig"}}
clusterCIDR: {pods}
detectLocalMode: ClusterCIDR
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
iptables: {{minSyncPeriod: 100ms, syncPeriod: 30s}}
"#,
        folder = folder.display(),
        pods = cluster.pods(),
    )
}

/// Point-to-point links instead of a bridge: what pods of one node say to each other passes the node's rules too, so
/// Service addresses work between them whatever the machine's settings for bridged packets are.
fn pod_network(node: &NodePlan) -> String {
    format!(
        r#"{{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {{
      "type": "ptp",
      "ipam": {{
        "type": "host-local",
        "ranges": [[{{"subnet": "{pods}", "gateway": "{gateway}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}]
      }}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"#,
        pods = node.pods,
        gateway = node.pod_gateway,
    )
}
