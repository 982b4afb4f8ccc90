//! Racks: which rack each host is in, by the label that the REC names. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use kube::ResourceExt as _;

use super::validate::Scheduling;

/// The rack of each host that may carry a pod.
pub(super) type Racks = BTreeMap<String, String>;

/// Reads the racks of `hosts`.
///
/// # Errors
/// The hosts that may carry a pod and have no such label.
pub(super) fn read(
    label: &str,
    hosts: &[Node],
    scheduling: &Scheduling,
) -> Result<Racks, Vec<String>> {
    let mut racks = Racks::new();
    let mut bare = Vec::new();
    for host in hosts {
        match host.labels().get(label).filter(|rack| !rack.is_empty()) {
            Some(rack) => drop(racks.insert(host.name_any(), rack.clone())),
            None if eligible(host, scheduling) => bare.push(host.name_any()),
            None => {}
        }
    }
    if bare.is_empty() {
        Ok(racks)
    } else {
        Err(bare)
    }
}

/// What is said about hosts without the label.
pub(super) fn refusal(label: &str, bare: &[String]) -> String {
    format!(
        "spec.rackAwarenessNodeLabel: the hosts {} may carry pods of this cluster and have no label {label:?}; nothing was \
         changed. Label them, keep pods away from them with spec.nodeSelector, or remove the field",
        bare.join(", ")
    )
}

fn eligible(host: &Node, scheduling: &Scheduling) -> bool {
    let spec = host.spec.as_ref();
    let open = spec.is_none_or(|spec| spec.unschedulable != Some(true));
    let taints = spec
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let selected = scheduling
        .node_selector
        .iter()
        .all(|(key, value)| host.labels().get(key) == Some(value));
    open && selected
        && taints
            .iter()
            .all(|taint| tolerated(taint, &scheduling.tolerations))
}

/// The rule of Kubernetes' scheduler.
fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    if taint.effect == "PreferNoSchedule" {
        return true;
    }
    tolerations.iter().any(|toleration| {
        let exists = toleration.operator.as_deref() == Some("Exists");
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let same_value = toleration.value.as_deref().unwrap_or_default()
            == taint.value.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && ((key.is_empty() && exists) || (key == taint.key && (exists || same_value)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn host(name: &str, rack: Option<&str>, spec: Value) -> Node {
        let labels = match rack {
            Some(rack) => json!({"zone": rack, "disk": "fast"}),
            None => json!({"disk": "fast"}),
        };
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": spec}))
            .unwrap()
    }

    fn bare(hosts: &[Node], scheduling: &Scheduling) -> Vec<String> {
        read("zone", hosts, scheduling).err().unwrap_or_default()
    }

    #[test]
    fn only_hosts_that_may_carry_a_pod_need_the_label() {
        let taint = json!({"taints": [{"key": "control", "effect": "NoSchedule"}]});
        let hosts = [
            host("a", Some("r1"), json!({})),
            host("b", None, json!({})),
            host("tainted", None, taint),
            host("closed", None, json!({"unschedulable": true})),
        ];
        let plain = Scheduling::default();
        assert_eq!(bare(&hosts, &plain), ["b"]);
        let tolerant = Scheduling {
            tolerations: vec![
                serde_json::from_value(json!({"key": "control", "operator": "Exists"})).unwrap(),
            ],
            ..Scheduling::default()
        };
        assert_eq!(bare(&hosts, &tolerant), ["b", "tainted"]);
        let elsewhere = Scheduling {
            node_selector: BTreeMap::from([("disk".to_owned(), "slow".to_owned())]),
            ..Scheduling::default()
        };
        let racks = read("zone", &hosts, &elsewhere).unwrap();
        assert_eq!(racks, BTreeMap::from([("a".to_owned(), "r1".to_owned())]));
    }
}
