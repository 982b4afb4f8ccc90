use super::*;

fn claim(
    annotations: serde_json::Value,
    size: &str,
    volume: Option<&str>,
) -> Arc<PersistentVolumeClaim> {
    let claim = json!({
        "metadata": {"name": "data", "namespace": "shop", "uid": "u1", "annotations": annotations},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": STORAGE_CLASS, "volumeName": volume,
            "resources": {"requests": {"storage": size}},
        },
    });
    Arc::new(serde_json::from_value(claim).unwrap())
}

fn volume(size: &str, phase: &str, policy: &str, by: &str) -> Arc<PersistentVolume> {
    let volume = json!({
        "metadata": {"name": "pvc-u1", "annotations": {PROVISIONED_BY: by}},
        "spec": {"capacity": {"storage": size}, "persistentVolumeReclaimPolicy": policy},
        "status": {"phase": phase},
    });
    Arc::new(serde_json::from_value(volume).unwrap())
}

fn asked() -> serde_json::Value {
    json!({ASKED_OF: PROVISIONER, "volume.kubernetes.io/selected-node": "lab-1-a"})
}

fn plan(claims: &[Arc<PersistentVolumeClaim>], volumes: &[Arc<PersistentVolume>]) -> Vec<Action> {
    actions(claims, volumes, Path::new("/volumes"))
}

#[test]
fn a_claim_whose_pod_has_a_node_gets_a_volume_bound_to_that_very_claim() {
    let actions = plan(&[claim(asked(), "1Gi", None)], &[]);
    let [Action::Create(volume)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let spec = volume.spec.as_ref().unwrap();
    assert_eq!(spec.host_path.as_ref().unwrap().path, "/volumes/pvc-u1");
    assert_eq!(spec.claim_ref.as_ref().unwrap().uid.as_deref(), Some("u1"));
}

#[test]
fn a_claim_of_another_provisioner_or_without_a_pod_gets_none() {
    let other =
        json!({ASKED_OF: "example.com/other", "volume.kubernetes.io/selected-node": "lab-1-a"});
    let without_pod = json!({ASKED_OF: PROVISIONER});
    assert_eq!(
        plan(
            &[claim(other, "1Gi", None), claim(without_pod, "1Gi", None)],
            &[]
        ),
        []
    );
}

#[test]
fn a_claim_that_has_its_volume_gets_no_second_one() {
    let bound = volume("1Gi", "Bound", "Delete", PROVISIONER);
    assert_eq!(
        plan(&[claim(asked(), "1Gi", None)], &[Arc::clone(&bound)]),
        []
    );
    assert_eq!(
        plan(&[claim(asked(), "1024Mi", Some("pvc-u1"))], &[bound]),
        []
    );
}

#[test]
fn a_claim_that_wants_more_makes_its_volume_grow() {
    let actions = plan(
        &[claim(asked(), "2Gi", Some("pvc-u1"))],
        &[volume("1Gi", "Bound", "Delete", PROVISIONER)],
    );
    let [Action::Grow { volume, size, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!((volume.as_str(), size), ("pvc-u1", &json!("2Gi")));
}

#[test]
fn only_released_volumes_of_our_own_that_are_to_be_deleted_are_deleted() {
    let released = volume("1Gi", "Released", "Delete", PROVISIONER);
    assert_eq!(
        plan(&[], &[released]),
        [Action::Delete {
            volume: "pvc-u1".to_owned()
        }]
    );
    for kept in [
        volume("1Gi", "Bound", "Delete", PROVISIONER),
        volume("1Gi", "Released", "Retain", PROVISIONER),
        volume("1Gi", "Released", "Delete", "example.com/other"),
    ] {
        assert_eq!(plan(&[], &[kept]), []);
    }
}

#[test]
fn sizes_are_compared_in_bytes() {
    for (text, expected) in [
        ("1Gi", Some(1 << 30)),
        ("1G", Some(1_000_000_000)),
        ("7", Some(7)),
        ("1.5Gi", None),
        ("1e3", None),
    ] {
        assert_eq!(bytes(&json!(text)), expected, "{text}");
    }
}
