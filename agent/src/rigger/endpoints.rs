//! Which endpoint a database's Services lead to. Pure.
//!
//! An endpoint is switched only to a pod that has confirmed the topology's present epoch, so that no client is led to a
//! node that does not yet know that it serves, or no longer may. Until then the old endpoint stays, as long as its
//! address still is its pod's.

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::ResourceExt as _;
use meridian_api::crds::topology::{DatabaseTopology, MemberReport, ShardRole};
use serde_json::Value;

use crate::k8s::own::MEMORY;

/// What the slices must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Lead clients to this pod.
    Lead(Target),
    /// Leave the slices as they are.
    Keep {
        /// Why nothing is switched.
        why: String,
    },
    /// Lead clients nowhere: connections are refused at once instead of hanging.
    Nowhere {
        /// Why nobody serves.
        why: String,
    },
}

/// A pod that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Name of the pod.
    pub pod: String,
    /// Uid of the pod.
    pub uid: Option<String>,
    /// Name of its Kubernetes node.
    pub host: Option<String>,
    /// IPv4 or IPv6 address.
    pub address: String,
    /// New clients may be led there although its shards do not concern them: it is ready and does not go.
    pub open: bool,
}

/// Decides for `topology` with those of the REC's pods to which clients can be led, and the slice that exists now.
#[must_use]
pub(super) fn decide(
    topology: &DatabaseTopology,
    pods: &[Target],
    current: Option<&EndpointSlice>,
) -> Decision {
    let Some(primary) = topology
        .spec
        .shards
        .first()
        .and_then(|shard| shard.primary.as_deref())
    else {
        return Decision::Nowhere {
            why: "no node may take writes".to_owned(),
        };
    };
    let epoch = topology.spec.epoch;
    let stays = |why: String| {
        if leads_to_live_pod(current, pods) {
            Decision::Keep { why }
        } else {
            Decision::Nowhere { why }
        }
    };
    if let Some(led) = current.and_then(epoch_of).filter(|led| *led > epoch) {
        return stays(format!(
            "they were led in epoch {led}, and this look knows of epoch {epoch}"
        ));
    }
    let Some(member) = confirmed(topology, primary) else {
        return stays(format!("`{primary}` has not confirmed epoch {epoch} yet"));
    };
    let has = |role: ShardRole| member.shards.iter().find(|shard| shard.role == role);
    let Some(shard) = has(ShardRole::Primary) else {
        if has(ShardRole::Replica).is_some() {
            return stays(format!(
                "`{primary}` has not taken over in epoch {epoch} yet"
            ));
        }
        return Decision::Nowhere {
            why: format!("no shard runs on `{primary}`"),
        };
    };
    if !shard.ready {
        return Decision::Nowhere {
            why: format!("the shard on `{primary}` does not answer"),
        };
    }
    match pods.iter().find(|pod| pod.pod == primary) {
        // Clients of its shard are led there as long as it answers.
        Some(target) => Decision::Lead(Target {
            open: true,
            ..target.clone()
        }),
        None => Decision::Nowhere {
            why: format!("the pod `{primary}` has no address"),
        },
    }
}

/// The pods that take clients of a database that is entered by every node, and pass them on to its primary.
///
/// A pod that carries the database must have confirmed the present epoch: one that does not speak any more is known by that
/// sooner than by anything that is said of pods.
#[must_use]
pub(super) fn entries(topology: &DatabaseTopology, pods: &[Target]) -> Vec<Target> {
    let (spec, uid) = (&topology.spec, topology.metadata.uid.as_deref());
    let reports = topology.status.iter().flat_map(|status| &status.entries);
    let takes = |pod: &str| {
        reports.clone().any(|entry| {
            entry.node == pod
                && Some(entry.port) == spec.entry_port
                && Some(entry.topology_uid.as_str()) == uid
        })
    };
    let carries = |pod: &String| {
        let mut shards = spec.shards.iter();
        shards.any(|shard| shard.primary.as_ref() == Some(pod) || shard.replicas.contains(pod))
    };
    let counts = |pod: &&Target| {
        let confirms = !carries(&pod.pod) || confirmed(topology, &pod.pod).is_some();
        pod.open && takes(&pod.pod) && confirms
    };
    pods.iter().filter(counts).cloned().collect()
}

/// The epoch in which the slice was led to where it leads.
fn epoch_of(slice: &EndpointSlice) -> Option<i64> {
    let memory = slice.annotations().get(MEMORY)?;
    let memory: Value = serde_json::from_str(memory).ok()?;
    memory["epoch"].as_i64()
}

/// The report of `node`, if it obeys this very topology in its present epoch.
fn confirmed<'a>(topology: &'a DatabaseTopology, node: &str) -> Option<&'a MemberReport> {
    let uid = topology.metadata.uid.as_deref()?;
    let members = &topology.status.as_ref()?.members;
    members
        .iter()
        .find(|m| m.node == node && m.topology_uid == uid && m.epoch == topology.spec.epoch)
}

/// A pod that is being deleted serves its clients until its successor does, as long as it is ready: who connects meanwhile
/// would find nobody.
#[must_use]
pub(super) fn target(pod: &Pod) -> Option<Target> {
    // Without any grace it is gone already, whatever it said of itself last.
    let is_gone = pod.metadata.deletion_grace_period_seconds == Some(0);
    if pod.metadata.deletion_timestamp.is_some() && (is_gone || !is_ready(pod)) {
        return None;
    }
    let address = pod
        .status
        .as_ref()?
        .pod_ip
        .clone()
        .filter(|ip| !ip.is_empty())?;
    let host = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Some(Target {
        pod: pod.name_any(),
        uid: pod.uid(),
        host,
        address,
        open: pod.metadata.deletion_timestamp.is_none() && is_ready(pod),
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut all = conditions.into_iter().flatten();
    all.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn leads_to_live_pod(current: Option<&EndpointSlice>, pods: &[Target]) -> bool {
    let endpoints = current.and_then(|slice| slice.endpoints.as_deref());
    let mut addresses = endpoints.unwrap_or_default().iter();
    addresses.any(|endpoint| {
        let address = endpoint.addresses.first();
        pods.iter().any(|live| Some(&live.address) == address)
    })
}

#[cfg(test)]
mod tests {
    use meridian_api::crds::topology::EntryReport;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ip: Option<&str>) -> Option<Target> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name, "uid": format!("u-{name}")}, "spec": {"containers": [], "nodeName": "host"}, "status": {"podIP": ip}})).unwrap();
        target(&pod)
    }

    fn slice(address: &str) -> EndpointSlice {
        serde_json::from_value(
            json!({"addressType": "IPv4", "endpoints": [{"addresses": [address]}]}),
        )
        .unwrap()
    }

    fn topology(epoch: i64, reports: &[(&str, i64, &str, bool)]) -> DatabaseTopology {
        let members: Vec<_> = reports
            .iter()
            .map(|(node, epoch, uid, ready)| {
                json!({"node": node, "topologyUid": uid, "epoch": epoch, "generation": 1, "asOf": "t",
                       "shards": [{"id": 0, "role": "primary", "ready": ready, "writable": true, "port": 10000}]})
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "db", "uid": "T"},
            "spec": {"database": {"kind": "RedisEnterpriseDatabase", "namespace": "ns", "name": "db", "uid": "u"},
                     "cluster": "rec", "epoch": epoch, "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction",
                     "persistence": "disabled", "replication": false,
                     "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0"}]},
            "status": {"members": members},
        }))
        .unwrap()
    }

    fn kind(decision: &Decision) -> &'static str {
        match decision {
            Decision::Lead(_) => "lead",
            Decision::Keep { .. } => "keep",
            Decision::Nowhere { .. } => "nowhere",
        }
    }

    #[test]
    fn an_older_order_never_takes_the_endpoint_back() {
        let pods = [("rec-0", "10.0.0.1"), ("rec-1", "10.0.0.2")];
        let pods = pods.map(|(name, ip)| pod(name, Some(ip)).unwrap());
        let ordered = topology(2, &[("rec-0", 2, "T", true)]);
        for (led, expected) in [(1, "lead"), (2, "lead"), (3, "keep")] {
            let mut slice = slice("10.0.0.2");
            let memory = json!({"epoch": led, "primary": "rec-1", "port": 1}).to_string();
            slice.metadata.annotations = Some([(MEMORY.to_owned(), memory)].into());
            let decision = decide(&ordered, &pods, Some(&slice));
            assert_eq!(kind(&decision), expected, "led in epoch {led}");
        }
    }

    #[test]
    fn the_endpoint_is_switched_only_to_a_node_that_confirmed_this_epoch_of_this_topology() {
        let pods = [("rec-0", "10.0.0.1"), ("rec-1", "10.0.0.2")];
        let pods = pods.map(|(name, ip)| pod(name, Some(ip)).unwrap());
        let old = slice("10.0.0.2");
        let cases = [
            ("confirmed and ready", vec![("rec-0", 2, "T", true)], "lead"),
            ("older epoch", vec![("rec-0", 1, "T", true)], "keep"),
            (
                "newer epoch than ordered",
                vec![("rec-0", 3, "T", true)],
                "keep",
            ),
            ("another topology", vec![("rec-0", 2, "OLD", true)], "keep"),
            (
                "another node confirmed",
                vec![("rec-1", 2, "T", true)],
                "keep",
            ),
            ("nobody reported", vec![], "keep"),
            (
                "confirmed and not answering",
                vec![("rec-0", 2, "T", false)],
                "nowhere",
            ),
        ];
        for (name, reports, expected) in cases {
            let decision = decide(&topology(2, &reports), &pods, Some(&old));
            assert_eq!(kind(&decision), expected, "{name}: {decision:?}");
        }
    }

    #[test]
    fn a_replica_that_knows_that_it_shall_lead_is_waited_for() {
        let pods = ["10.0.0.1", "10.0.0.2"].map(|ip| pod("rec", Some(ip)).unwrap());
        let of_role = |role: &str| {
            let mut topology = topology(2, &[("rec-0", 2, "T", true)]);
            let status = topology.status.as_mut().unwrap();
            status.members[0].shards[0].role = serde_json::from_value(json!(role)).unwrap();
            decide(&topology, &pods, Some(&slice("10.0.0.2")))
        };
        assert_eq!(kind(&of_role("replica")), "keep");
        assert_eq!(kind(&of_role("stopped")), "nowhere");
    }

    #[test]
    fn clients_enter_by_every_node_that_is_ready_stays_listens_and_knows_the_epoch() {
        let target = |name: &str, open: bool| Target {
            open,
            ..pod(name, Some("10.0.0.1")).unwrap()
        };
        // `rec-0` leads, `rec-1` holds a copy, `rec-2` has no part.
        let entered = |reports: &[(&str, i64, &str, bool)],
                       entries: &[(&str, i32, &str)],
                       open: &[&str]| {
            let mut topology = topology(2, reports);
            topology.spec.entry_port = Some(30_000);
            topology.spec.shards[0].replicas = vec!["rec-1".to_owned()];
            let entry = |(node, port, uid): &(&str, i32, &str)| EntryReport {
                node: (*node).to_owned(),
                port: *port,
                topology_uid: (*uid).to_owned(),
            };
            topology.status.as_mut().unwrap().entries = entries.iter().map(entry).collect();
            let pods = ["rec-0", "rec-1", "rec-2"].map(|name| target(name, open.contains(&name)));
            let found = super::entries(&topology, &pods);
            found
                .iter()
                .map(|one| one.pod.clone())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let all = ["rec-0", "rec-1", "rec-2"];
        let listen = all.map(|name| (name, 30_000, "T"));
        let confirmed = [("rec-0", 2, "T", true), ("rec-1", 2, "T", true)];
        assert_eq!(entered(&confirmed, &listen, &all), "rec-0 rec-1 rec-2");
        assert_eq!(entered(&confirmed, &listen, &all[..2]), "rec-0 rec-1");
        let late = [("rec-0", 1, "T", true), ("rec-1", 2, "T", true)];
        assert_eq!(entered(&late, &listen, &all), "rec-1 rec-2");
        assert_eq!(entered(&confirmed, &[], &all), "");
        let others = [
            ("rec-0", 30_000, "T"),
            ("rec-1", 30_001, "T"),
            ("rec-2", 30_000, "U"),
        ];
        assert_eq!(entered(&confirmed, &others, &all), "rec-0");
    }

    #[test]
    fn an_address_that_is_no_pods_any_more_is_not_kept() {
        let pods = [pod("rec-0", Some("10.0.0.9")).unwrap()];
        let decision = decide(&topology(2, &[]), &pods, Some(&slice("10.0.0.1")));
        assert_eq!(kind(&decision), "nowhere");
        assert_eq!(kind(&decide(&topology(2, &[]), &pods, None)), "nowhere");
    }

    #[test]
    fn a_pod_that_is_being_deleted_keeps_its_clients_while_it_is_ready() {
        let going = |ready: &str, grace: i64| -> Vec<Target> {
            let time = "2026-11-22T00:00:00Z";
            let pod = json!({
                "metadata": {"name": "rec-0", "deletionTimestamp": time, "deletionGracePeriodSeconds": grace},
                "spec": {"containers": []},
                "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            target(&pod).into_iter().collect()
        };
        let leads = topology(1, &[("rec-0", 1, "T", true)]);
        assert_eq!(kind(&decide(&leads, &going("True", 30), None)), "lead");
        assert_eq!(kind(&decide(&leads, &going("False", 30), None)), "nowhere");
        assert_eq!(kind(&decide(&leads, &going("True", 0), None)), "nowhere");
        let next = topology(2, &[("rec-0", 1, "T", true)]);
        let old = slice("10.0.0.1");
        assert_eq!(kind(&decide(&next, &going("True", 30), Some(&old))), "keep");
        assert_eq!(
            kind(&decide(&next, &going("False", 30), Some(&old))),
            "nowhere"
        );
    }

    #[test]
    fn the_target_is_the_pods_present_address() {
        let pods = [pod("rec-0", Some("10.0.0.7")).unwrap()];
        let Decision::Lead(target) = decide(
            &topology(1, &[("rec-0", 1, "T", true)]),
            &pods,
            Some(&slice("10.0.0.1")),
        ) else {
            panic!("expected a target");
        };
        assert_eq!(
            (
                target.address.as_str(),
                target.uid.as_deref(),
                target.host.as_deref()
            ),
            ("10.0.0.7", Some("u-rec-0"), Some("host"))
        );
        assert_eq!(pod("rec-0", None), None);
        let gone = decide(&topology(1, &[("rec-0", 1, "T", true)]), &[], None);
        assert_eq!(kind(&gone), "nowhere");
    }
}
