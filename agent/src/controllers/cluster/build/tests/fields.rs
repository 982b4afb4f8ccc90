//! Fields of the spec in the objects that are made for it.

use super::*;

#[test]
fn the_administrators_secret_has_the_name_and_the_username_of_the_spec() {
    let told = |spec: Value| {
        let secret = built(spec).credentials.unwrap();
        let username = secret.data.as_ref().unwrap()["username"].0.clone();
        (secret.name_any(), String::from_utf8(username).unwrap())
    };
    let spec = json!({
        "clusterCredentialSecretName": "admin", "clusterCredentialSecretType": "kubernetes",
        "username": "root@example.com",
    });
    assert_eq!(
        told(spec),
        ("admin".to_owned(), "root@example.com".to_owned())
    );
    assert_eq!(
        told(json!({})),
        ("rec".to_owned(), "demo@redis.com".to_owned())
    );
}

#[test]
fn claims_have_the_class_and_the_size_of_the_spec() {
    let told = |spec: Value| {
        let claims = built(spec)
            .stateful_set
            .spec
            .volume_claim_templates
            .unwrap();
        let spec = claims[0].spec.clone().unwrap();
        (
            spec.storage_class_name,
            spec.resources.unwrap().requests.unwrap()["storage"]
                .0
                .clone(),
        )
    };
    let spec = json!({"persistentSpec": {"storageClassName": "fast", "volumeSize": "7Gi"}});
    assert_eq!(told(spec), (Some("fast".to_owned()), "7Gi".to_owned()));
    assert_eq!(
        told(json!({"persistentSpec": {"storageClassName": ""}})).0,
        None,
        "the default of Kubernetes"
    );
}

#[test]
fn what_the_user_mounts_stands_beside_what_the_node_needs() {
    let built = built(json!({
        "volumes": [{"name": "certs", "secret": {"secretName": "s"}}],
        "redisEnterpriseVolumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": true}],
    }));
    let volumes = pod(&built).volumes.unwrap();
    let own = volumes
        .iter()
        .find(|volume| volume.name == "certs")
        .unwrap();
    assert_eq!(
        own.secret.as_ref().unwrap().secret_name.as_deref(),
        Some("s")
    );
    let mounts = container(&built).volume_mounts.unwrap();
    let own = mounts
        .iter()
        .find(|mount| mount.mount_path == "/certs")
        .unwrap();
    assert_eq!((own.name.as_str(), own.read_only), ("certs", Some(true)));
    assert!(
        mounts
            .iter()
            .any(|mount| mount.mount_path == "/var/lib/meridian")
    );
}

#[test]
fn every_service_of_a_cluster_carries_the_annotations_of_the_spec() {
    let built =
        built(json!({"services": {"servicesAnnotations": {"cloud.example.com/internal": "true"}}}));
    assert!(!built.services.is_empty());
    for service in &built.services {
        let annotations = service.metadata.annotations.as_ref();
        let found = annotations.and_then(|all| all.get("cloud.example.com/internal"));
        assert_eq!(
            found.map(String::as_str),
            Some("true"),
            "{}",
            service.name_any()
        );
    }
}

#[test]
fn how_long_a_replicas_pod_may_be_away_stands_on_the_stateful_set() {
    let told = |spec: Value| {
        let set = built(spec).stateful_set;
        set.annotations()
            .get("meridian.dev/replace-replicas-after")
            .cloned()
    };
    let said = told(json!({"slaveHA": {"slaveHAGracePeriod": 1800}}));
    assert_eq!(said.as_deref(), Some("1800"));
    assert_eq!(told(json!({})), None);
}
