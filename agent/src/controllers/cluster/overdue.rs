//! Pods that should have stopped long ago.
//!
//! A node saves its data and ends within a minute of SIGTERM. One that hangs does not, Kubernetes asks no probe of a pod that is
//! being deleted, and the grace period that a REC has by default is a year. Such a pod gets the time that is enough for
//! every node that works. It is never deleted by force: the kubelet says that it is over.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Preconditions},
};
use meridian_api::crds::RedisEnterpriseCluster;

use crate::{
    clock,
    k8s::apply::{ApplyError, Objects},
};

/// How long a pod may stop before it counts as one that hangs.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// Seconds that it gets then.
const ENOUGH: u32 = 60;

/// Shortens the grace of pods that hang, unless the REC says itself how long its pods may take.
///
/// # Errors
/// The API server refused or could not be reached.
pub(super) async fn hurry(
    objects: &Objects,
    rec: &RedisEnterpriseCluster,
    pods: &[Pod],
) -> Result<(), ApplyError> {
    let spec = &rec.spec;
    if spec
        .redis_enterprise_termination_grace_period_seconds
        .is_some()
    {
        return Ok(());
    }
    let now = clock::now().0;
    for pod in pods.iter().filter(|pod| hangs(pod, now)) {
        let name = pod.name_any();
        let params = DeleteParams {
            grace_period_seconds: Some(ENOUGH),
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        tracing::warn!(pod = name, "does not stop: it gets {ENOUGH} s from now on");
        match objects.api::<Pod>().delete(&name, &params).await {
            Ok(_) => {}
            // It has ended, or another one has its name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(source) => {
                return Err(ApplyError::Api {
                    verb: "hurry",
                    kind: "Pod".to_owned(),
                    name,
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(())
}

/// Whether a pod was told to stop long ago and has more time left than any needs.
fn hangs(pod: &Pod, now: Timestamp) -> bool {
    let meta = &pod.metadata;
    let (Some(ends), Some(grace)) = (&meta.deletion_timestamp, meta.deletion_grace_period_seconds)
    else {
        return false;
    };
    let told = ends.0 - SignedDuration::from_secs(grace);
    let left = ends.0.duration_since(now);
    now.duration_since(told) > PATIENCE && left > SignedDuration::from_secs(i64::from(ENOUGH))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::k8s::testing::{answer, objects};

    const YEAR: i64 = 31_536_000;

    /// A pod that was told to stop `ago` seconds ago.
    fn pod(ago: i64, grace: i64) -> Pod {
        let ends = clock::now().0 + SignedDuration::from_secs(grace - ago);
        serde_json::from_value(json!({"metadata": {"name": "rec-0", "uid": "u",
            "deletionTimestamp": ends.to_string(), "deletionGracePeriodSeconds": grace}}))
        .unwrap()
    }

    #[test]
    fn only_a_pod_that_hangs_and_has_much_time_left_is_hurried() {
        let now = clock::now().0;
        for (ago, grace, expected) in [
            (10, YEAR, false),
            (290, YEAR, false),
            (310, YEAR, true),
            (310, 330, false),
            (310, 9, false),
        ] {
            assert_eq!(hangs(&pod(ago, grace), now), expected, "{ago} of {grace}");
        }
        assert!(!hangs(&Pod::default(), now));
    }

    #[tokio::test]
    async fn it_gets_a_minute_and_no_less_and_never_where_the_cluster_says_how_long() {
        for (spec, asked_for) in [
            (json!({}), 1),
            (
                json!({"redisEnterpriseTerminationGracePeriodSeconds": YEAR}),
                0,
            ),
        ] {
            let rec = json!({"metadata": {"name": "rec", "namespace": "ns"}, "spec": spec});
            let rec: RedisEnterpriseCluster = serde_json::from_value(rec).unwrap();
            let (objects, server) = objects();
            let gone = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"});
            let asked = tokio::spawn(answer(server, vec![(404, gone)]));
            let pods = [pod(400, YEAR), pod(1, YEAR)];
            hurry(&objects, &rec, &pods).await.unwrap();
            drop(objects);
            let asked = asked.await.unwrap();
            assert_eq!(asked.len(), asked_for);
            for (method, _, body) in asked {
                assert_eq!(
                    (method, &body["gracePeriodSeconds"]),
                    (Method::DELETE, &json!(60))
                );
                assert_eq!(body["preconditions"]["uid"], "u");
            }
        }
    }
}
