//! By what the nodes of a REC can run databases: each says it itself, once in the life of its container.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use meridian_api::{
    validate::NODE_CONTAINER,
    version::{Bundle, Bundled},
};

use crate::controllers::failover::probe;

/// A life of a node: its pod's uid, and the id of its container.
type Life = (String, String);

/// What the nodes have said. A new leader asks again.
#[derive(Debug, Default)]
pub(super) struct Bundles(Mutex<BTreeMap<Life, Vec<Bundled>>>);

impl Bundles {
    /// What all nodes of the REC bring, as far as they run; `None`: one that runs has not said it, or none runs.
    pub(super) async fn of(&self, pods: &[Pod]) -> Option<Bundle> {
        let running: Vec<(Life, IpAddr)> = pods.iter().filter_map(running).collect();
        let mut all = Vec::new();
        for (life, address) in &running {
            let known = self.known(life);
            let told = match known {
                Some(known) => known,
                None => {
                    let told = probe::ask(*address).await?.bundled;
                    self.keep(life, &told);
                    told
                }
            };
            all.push(told);
        }
        self.forget(&running);
        (!all.is_empty()).then(|| Bundle::of_all(all.iter().map(Vec::as_slice)))
    }

    fn known(&self, life: &Life) -> Option<Vec<Bundled>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(life).cloned()
    }

    fn keep(&self, life: &Life, told: &[Bundled]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(life.clone(), told.to_vec());
    }

    /// Forgets the containers of these pods that are no more.
    fn forget(&self, running: &[(Life, IpAddr)]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(pod, container), _| {
            let of_pod = |((own, _), _): &&(Life, IpAddr)| own == pod;
            let now = running.iter().find(of_pod);
            now.is_none_or(|((_, own), _)| own == container)
        });
    }
}

fn running(pod: &Pod) -> Option<(Life, IpAddr)> {
    let status = pod.status.as_ref()?;
    let container = status
        .container_statuses
        .iter()
        .flatten()
        .find(|container| container.name == NODE_CONTAINER)?;
    container.state.as_ref()?.running.as_ref()?;
    let id = container.container_id.clone()?;
    let address = status.pod_ip.as_ref()?.parse().ok()?;
    Some(((pod.uid()?, id), address))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, container: &str, state: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "rec-0", "uid": uid}, "status": {
            "podIP": "203.0.113.1",
            "containerStatuses": [{"name": NODE_CONTAINER, "containerID": container, "image": "i", "imageID": "i",
                                   "ready": true, "restartCount": 0, "state": {state: {}}}]}}))
        .unwrap()
    }

    #[tokio::test]
    async fn a_node_is_asked_once_in_a_life_and_one_that_does_not_run_is_not() {
        let bundles = Bundles::default();
        assert_eq!(bundles.of(&[]).await, None);
        assert_eq!(bundles.of(&[pod("u", "c", "waiting")]).await, None);
        let told = [Bundled {
            version: "8.1.1".to_owned(),
            active_active: true,
        }];
        bundles.keep(&("u".to_owned(), "c".to_owned()), &told);
        bundles.keep(&("v".to_owned(), "c".to_owned()), &told);
        let found = bundles.of(&[pod("u", "c", "running")]).await.unwrap();
        assert_eq!(found.to_string(), "8.1");
        let (life, _) = running(&pod("v", "d", "running")).unwrap();
        bundles.forget(&[(life, [203, 0, 113, 1].into())]);
        let left = bundles.0.lock().unwrap().len();
        assert_eq!(
            left, 1,
            "an ended container is forgotten, another pod's is not"
        );
    }
}
