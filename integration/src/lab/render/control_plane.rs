//! A control plane: etcd, API server, controller manager, scheduler, cluster DNS.

use std::net::Ipv4Addr;
use std::path::Path;

use super::RenderedFile;
use crate::lab::layout::{Binaries, Layout};
use crate::lab::plan::ClusterPlan;
use crate::lab::unit::{Need, ProcessSpec, UnitSpec};

/// Who gets a kubeconfig in the control plane's folder: file, user, group.
pub(crate) fn kubeconfig_users() -> [(&'static str, &'static str, Option<&'static str>); 3] {
    [
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("dns", "system:lab-dns", Some("system:masters")),
    ]
}

/// The unit of a cluster's control plane, and the files that it reads.
pub(crate) fn control_plane(
    layout: &Layout,
    cluster: &ClusterPlan,
    binaries: &Binaries,
) -> (UnitSpec, Vec<RenderedFile>) {
    let folder = layout.control_plane(&cluster.name);
    let pki = layout.pki(&cluster.name);
    let corefile = folder.join("Corefile");
    let kubernetes = |name: &str, arguments: Vec<String>, needs: &[Need]| ProcessSpec {
        name: name.to_owned(),
        program: binaries.kubernetes(name),
        arguments,
        needs: needs.to_vec(),
    };
    let store = [Need::Listener((Ipv4Addr::LOCALHOST, 2379).into())];
    let api = [api_listens(cluster)];
    let manager = controller_manager(cluster, &folder, &pki);
    let processes = vec![
        kubernetes("etcd", etcd(&folder), &[]),
        kubernetes("kube-apiserver", api_server(cluster, &pki), &store),
        kubernetes("kube-controller-manager", manager, &api),
        kubernetes("kube-scheduler", scheduler(&folder), &api),
        ProcessSpec {
            name: "coredns".to_owned(),
            program: binaries.coredns(),
            arguments: vec!["-conf".to_owned(), corefile.display().to_string()],
            needs: api.to_vec(),
        },
    ];
    let files = vec![(corefile, dns(cluster, &folder))];
    (
        UnitSpec {
            namespace: cluster.namespace(),
            folder,
            private: vec!["/run".into()],
            control_group: None,
            processes,
        },
        files,
    )
}

/// That the API server of this cluster takes connections.
pub(super) fn api_listens(cluster: &ClusterPlan) -> Need {
    Need::Listener((cluster.address(), 6443).into())
}

fn etcd(folder: &Path) -> Vec<String> {
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=default=http://127.0.0.1:2380".to_owned(),
        // A lab that loses power is made anew; waiting for the disk would only slow it down.
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api_server(cluster: &ClusterPlan, pki: &Path) -> Vec<String> {
    let file = |name: &str| pki.join(name).display().to_string();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--bind-address={}", cluster.address()),
        format!("--advertise-address={}", cluster.address()),
        format!("--service-cluster-ip-range={}", cluster.services()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged".to_owned(),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!(
            "--kubelet-client-certificate={}",
            file("apiserver-to-kubelet.crt")
        ),
        format!("--kubelet-client-key={}", file("apiserver-to-kubelet.key")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ),
        // No kube-proxy runs beside the control plane, so webhooks are called at their pods, not at Service addresses.
        "--enable-aggregator-routing".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn controller_manager(cluster: &ClusterPlan, folder: &Path, pki: &Path) -> Vec<String> {
    let file = |name: &str| pki.join(name).display().to_string();
    vec![
        format!(
            "--kubeconfig={}",
            folder.join("controller-manager.kubeconfig").display()
        ),
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        format!("--cluster-cidr={}", cluster.pods()),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!(
            "--service-account-private-key-file={}",
            file("accounts.key")
        ),
        "--bind-address=127.0.0.1".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn scheduler(folder: &Path) -> Vec<String> {
    vec![
        format!(
            "--kubeconfig={}",
            folder.join("scheduler.kubeconfig").display()
        ),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

/// A name outside the cluster does not exist: the lab has no way to the world's name servers.
fn dns(cluster: &ClusterPlan, folder: &Path) -> String {
    format!(
        ".:53 {{\n    bind {address}\n    ready {address}:8181\n    errors\n    cache 5\n    \
         kubernetes cluster.local in-addr.arpa {{\n        kubeconfig {kubeconfig}\n        pods insecure\n        ttl 5\n    }}\n    \
         template ANY ANY . {{\n        rcode NXDOMAIN\n    }}\n}}\n",
        address = cluster.address(),
        kubeconfig = folder.join("dns.kubeconfig").display(),
    )
}
