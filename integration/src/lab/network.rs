//! Bridge, network namespaces and links of a lab, made with `ip` and `iptables`. Everything is named after the lab's
//! id, so that what a killed run left behind is found by name.

use std::path::Path;

use super::command::{run, run_with_input};
use super::error::Result;
use super::plan::{ClusterPlan, LabPlan, NodePlan};

/// Chain of the rules that cut a namespace off from others (see `fault`).
pub(crate) const CUT_CHAIN: &str = "LAB-CUT";

/// Makes the lab's bridge with the machine's address on it, as far as it is not there.
///
/// The last command of a run that was killed outlives it by a moment: it may make the bridge after this one looked, or
/// give it its address after this one did.
pub(crate) async fn ensure_bridge(lab: &LabPlan) -> Result<()> {
    let bridge = lab.bridge();
    if !link_exists(&bridge) {
        let made = run("ip", &["link", "add", &bridge, "type", "bridge"]).await;
        if !link_exists(&bridge) {
            made?;
        }
    }
    let script = format!(
        "addr replace {}/16 dev {bridge}\nlink set {bridge} up\n",
        lab.host()
    );
    run_with_input("ip", &["-batch", "-"], &script).await?;
    if bridged_packets_are_filtered() {
        for interface in [["-i", &bridge], ["-o", &bridge]] {
            let [direction, name] = interface;
            let rule = ["FORWARD", direction, name, "-j", "ACCEPT"];
            if run("iptables", &[["-w", "-C"].as_slice(), &rule].concat())
                .await
                .is_err()
            {
                run("iptables", &[["-w", "-I"].as_slice(), &rule].concat()).await?;
            }
        }
    }
    Ok(())
}

/// Whether the machine passes packets between bridge ports through its own firewall, which may drop them.
fn bridged_packets_are_filtered() -> bool {
    std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables")
        .is_ok_and(|text| text.trim() == "1")
}

/// Removes the bridge and the machine's rules for it.
pub(crate) async fn remove_bridge(lab: &LabPlan) -> Result<()> {
    let bridge = lab.bridge();
    for direction in ["-i", "-o"] {
        let rule = ["FORWARD", direction, &bridge, "-j", "ACCEPT"];
        while run("iptables", &[["-w", "-C"].as_slice(), &rule].concat())
            .await
            .is_ok()
        {
            run("iptables", &[["-w", "-D"].as_slice(), &rule].concat()).await?;
        }
    }
    if link_exists(&bridge) {
        run("ip", &["link", "delete", &bridge]).await?;
    }
    Ok(())
}

/// What a namespace of the lab is to look like.
pub(crate) struct NamespacePlan {
    name: String,
    script: String,
    pods: String,
}

impl NamespacePlan {
    /// A node's namespace: its address, and a way to the pods of each other node.
    pub(crate) fn node(cluster: &ClusterPlan, node: &NodePlan, nodes: &[NodePlan]) -> Self {
        Self::new(
            cluster,
            &node.namespace,
            node.address,
            nodes.iter().filter(|other| other.index != node.index),
        )
    }

    /// The control plane's namespace: its address, and a way to the pods (webhooks are called there).
    pub(crate) fn control_plane(cluster: &ClusterPlan, nodes: &[NodePlan]) -> Self {
        Self::new(
            cluster,
            &cluster.namespace(),
            cluster.address(),
            nodes.iter(),
        )
    }

    fn new<'a>(
        cluster: &ClusterPlan,
        name: &str,
        address: std::net::Ipv4Addr,
        others: impl Iterator<Item = &'a NodePlan>,
    ) -> Self {
        let mut script = format!(
            "link set lo up\naddr replace {address}/16 dev eth0\nlink set eth0 up\nroute replace default via {}\n",
            cluster.lab().host()
        );
        for other in others {
            script.push_str(&format!(
                "route replace {} via {}\n",
                other.pods, other.address
            ));
        }
        Self {
            name: name.to_owned(),
            script,
            pods: cluster.pods(),
        }
    }

    /// Makes the namespace what it is to be; one that is there is only corrected.
    pub(crate) async fn ensure(&self, lab: &LabPlan) -> Result<()> {
        let name = &self.name;
        if !(namespace_exists(name) && link_exists(name)) {
            remove_namespace(name).await?;
            let script = format!(
                "netns add {name}\nlink add {name} type veth peer name eth0 netns {name}\nlink set {name} master {}\n",
                lab.bridge()
            );
            run_with_input("ip", &["-batch", "-"], &script).await?;
        }
        run("ip", &["link", "set", name, "up"]).await?;
        run_with_input("ip", &["-n", name, "-batch", "-"], &self.script).await?;
        let pods = &self.pods;
        // Pods that leave the cluster do so under their node's address, as with any cluster whose pod network is private.
        let rules = format!(
            "set -e\necho 1 > /proc/sys/net/ipv4/ip_forward\n\
             iptables -w -t nat -C POSTROUTING -s {pods} ! -d {pods} -j MASQUERADE 2>/dev/null || \
             iptables -w -t nat -A POSTROUTING -s {pods} ! -d {pods} -j MASQUERADE\n\
             iptables -w -t raw -n -L {CUT_CHAIN} >/dev/null 2>&1 || iptables -w -t raw -N {CUT_CHAIN}\n\
             iptables -w -t raw -C PREROUTING -j {CUT_CHAIN} 2>/dev/null || iptables -w -t raw -A PREROUTING -j {CUT_CHAIN}\n"
        );
        run_inside(name, &["sh", "-c", &rules]).await?;
        Ok(())
    }
}

/// Runs a command in a network namespace (and in nothing else of it, unlike `ip netns exec`).
pub(crate) async fn run_inside(namespace: &str, arguments: &[&str]) -> Result<String> {
    let entry = format!("--net=/run/netns/{namespace}");
    run(
        "nsenter",
        &[[entry.as_str(), "--"].as_slice(), arguments].concat(),
    )
    .await
}

/// Removes a namespace and its link; those that are not there are fine.
pub(crate) async fn remove_namespace(name: &str) -> Result<()> {
    // The link first: with its namespace it would go too, but at a later moment of the kernel's choice.
    if link_exists(name) {
        run("ip", &["link", "delete", name]).await?;
    }
    if namespace_exists(name) {
        run("ip", &["netns", "delete", name]).await?;
    }
    Ok(())
}

/// Takes the machine's side of a namespace's link up or down. Down: nobody reaches it, and nobody gets a refusal.
pub(crate) async fn set_link(name: &str, up: bool) -> Result<()> {
    run("ip", &["link", "set", name, if up { "up" } else { "down" }])
        .await
        .map(drop)
}

/// Removes the links to pods that a node without power has no more. The kernel does so later, when it takes the pods'
/// namespaces away, and with them the route of a new pod that has got an old one's address.
pub(crate) async fn remove_pod_links(node: &str) -> Result<()> {
    let listing = run("ip", &["-n", node, "-o", "link", "show", "type", "veth"]).await?;
    for link in pod_links(&listing) {
        // The kernel may be quicker.
        let _gone = run("ip", &["-n", node, "link", "delete", &link]).await;
    }
    Ok(())
}

/// The links in a listing of `ip -o link` but for the node's own.
fn pod_links(listing: &str) -> Vec<String> {
    let name = |line: &str| {
        let name = line.split_ascii_whitespace().nth(1)?;
        name.split(['@', ':']).next().map(str::to_owned)
    };
    let names = listing.lines().filter_map(name);
    names.filter(|name| name != "eth0").collect()
}

/// The names of all namespaces and links of this lab that the machine has, whoever made them.
pub(crate) fn leftovers(lab: &LabPlan) -> Vec<String> {
    let prefix = format!("{}-", lab.bridge());
    let mut names: Vec<String> = ["/run/netns", "/sys/class/net"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
        })
        .filter(|name| name.starts_with(&prefix))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether the machine has a network namespace of this name.
pub(crate) fn namespace_exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

/// Whether the machine has a link of this name.
pub(crate) fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_own_link_is_none_of_its_pods() {
        let listing = "2: eth0@if9: <UP> mtu 1500\\    link/ether\n3: vethae910d36@if2: <UP> mtu 1500\n4: vethb: <UP>\n";
        assert_eq!(pod_links(listing), ["vethae910d36", "vethb"]);
    }

    #[cfg(feature = "lab")]
    #[tokio::test]
    async fn a_bridge_that_a_killed_run_left_half_made_is_completed() {
        let lab = LabPlan::new(24, "half").unwrap();
        let bridge = lab.bridge();
        remove_bridge(&lab).await.unwrap();
        run("ip", &["link", "add", &bridge, "type", "bridge"])
            .await
            .unwrap();
        for _ in 0..2 {
            ensure_bridge(&lab).await.unwrap();
            let shown = run("ip", &["-o", "address", "show", "dev", &bridge, "up"]).await;
            assert!(shown.unwrap().contains(&format!("{}/16", lab.host())));
        }
        remove_bridge(&lab).await.unwrap();
        assert!(!link_exists(&bridge));
    }
}
