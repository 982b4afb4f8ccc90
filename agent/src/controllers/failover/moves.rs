//! Which databases' primaries are on their way. A leader that is asked to stop brings them to their end first: while another
//! takes the Lease over, clients would wait for it.

use std::{collections::BTreeSet, time::Duration};

use meridian_api::crds::DatabaseTopology;
use tokio::sync::watch;

use crate::k8s::own::SERVICES_READY;

/// Names of topologies whose primary is on its way. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Moves(watch::Sender<BTreeSet<String>>);

impl Default for Moves {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }
}

impl Moves {
    /// Replaces what is known.
    pub(super) fn are(&self, moving: BTreeSet<String>) {
        self.0.send_if_modified(|known| {
            let changed = *known != moving;
            *known = moving;
            changed
        });
    }

    /// Waits until none is on its way, but no longer than `patience`. Returns those that still are.
    pub async fn over(&self, patience: Duration) -> BTreeSet<String> {
        let mut moving = self.0.subscribe();
        let ended = moving.wait_for(BTreeSet::is_empty);
        if tokio::time::timeout(patience, ended).await.is_ok() {
            return BTreeSet::new();
        }
        self.0.borrow().clone()
    }
}

/// Whether the primary of `topology` is on its way: a fence stands, or the Services were not yet led to where it is now.
pub(super) fn is_moving(topology: &DatabaseTopology) -> bool {
    if topology.spec.fence.is_some() {
        return true;
    }
    let conditions = topology.status.iter().flat_map(|status| &status.conditions);
    let mut services = conditions.filter(|condition| condition.type_ == SERVICES_READY);
    services.any(|condition| condition.observed_generation < topology.metadata.generation)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn topology(fence: Value, generation: i64, told: i64) -> DatabaseTopology {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "generation": generation},
            "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec", "epoch": 2,
                     "port": 10000, "memoryBytes": 1, "evictionPolicy": "x", "persistence": "disabled", "replication": true,
                     "shards": [], "fence": fence},
            "status": {"conditions": [{"type": SERVICES_READY, "status": "True", "reason": "Leads", "message": "m",
                                       "lastTransitionTime": "t", "observedGeneration": told}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_primary_is_on_its_way_from_the_fence_until_the_services_lead_to_it() {
        let fence = json!({"epoch": 3, "candidate": "rec-1", "planned": true});
        assert!(is_moving(&topology(fence, 7, 7)));
        assert!(is_moving(&topology(Value::Null, 8, 7)));
        assert!(!is_moving(&topology(Value::Null, 8, 8)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_waits_for_a_move_and_not_for_ever() {
        let moves = Moves::default();
        let patience = Duration::from_secs(4);
        assert!(moves.over(patience).await.is_empty(), "at once");
        moves.are(["db".to_owned()].into());
        let began = tokio::time::Instant::now();
        assert_eq!(moves.over(patience).await.len(), 1);
        assert_eq!(began.elapsed(), patience);
        let ends = moves.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ends.are(BTreeSet::new());
        });
        assert!(moves.over(patience).await.is_empty());
        assert_eq!(began.elapsed(), patience + Duration::from_secs(1));
    }
}
