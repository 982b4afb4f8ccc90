//! Rules of `RedisEnterpriseCluster`.

mod metrics;
mod pods;

use super::{
    Check, FieldError, entry,
    quantity::{check_resources, check_volume},
    quantity_value, quoted,
};
use crate::crds::{
    RedisEnterpriseCluster, RedisEnterpriseClusterSpec,
    cluster::{
        ApiServiceType, CredentialStore, IngressMethod, IpFamily, PersistentSpec, ServiceNaming,
        ServicePortPolicy, UiServiceType, UpgradePolicy,
    },
};

/// Name of the container in which a node runs; taken in every pod.
pub const NODE_CONTAINER: &str = "redis-enterprise-node";
/// Longest name of a cluster: `<name>-<hash of the pod template>` is a label of its pods.
const LONGEST_NAME: usize = 52;
/// Nodes of a cluster that names no number.
const DEFAULT_NODES: i32 = 3;
const MOST_NODES: i32 = 35;
const SERVICE_TYPES: &[&str] = &["cluster_ip", "headless", "load_balancer"];

/// Rules that a cluster must obey at any time.
pub fn cluster(cluster: &RedisEnterpriseCluster) -> Vec<FieldError> {
    let mut check = Check::default();
    let spec = &cluster.spec;
    check.service_like_name(cluster.metadata.name.as_deref(), LONGEST_NAME, "cluster");
    check_nodes(&mut check, spec);
    check_entry(&mut check, spec);
    check_words(&mut check, spec);
    check_rigger(&mut check, spec);
    check_ranges(&mut check, spec);
    if let Some(config) = &spec.metrics_config {
        metrics::check(&mut check, config);
    }
    pods::check_parts(&mut check, spec);
    let volume = spec
        .persistent_spec
        .as_ref()
        .and_then(|persistent| persistent.volume_size.as_ref());
    check_volume(&mut check, "spec.persistentSpec.volumeSize", volume);
    let flash = spec
        .redis_on_flash_spec
        .as_ref()
        .and_then(|flash| flash.flash_disk_size.as_ref());
    check_volume(&mut check, "spec.redisOnFlashSpec.flashDiskSize", flash);
    for (field, resources) in [
        (
            "spec.redisEnterpriseNodeResources",
            &spec.redis_enterprise_node_resources,
        ),
        ("spec.bootstrapperResources", &spec.bootstrapper_resources),
        (
            "spec.redisEnterpriseServicesRiggerResources",
            &spec.redis_enterprise_services_rigger_resources,
        ),
    ] {
        check_resources(&mut check, field, resources.as_ref());
    }
    if spec.license.is_some() && spec.license_secret_name.is_some() {
        check.refuse(
            "spec.licenseSecretName",
            "a value beside spec.license",
            "only one of them",
            "remove spec.license or spec.licenseSecretName",
        );
    }
    let digest = spec
        .redis_enterprise_image_spec
        .as_ref()
        .and_then(|image| image.digest_hash.as_deref());
    let follows = spec
        .upgrade_spec
        .as_ref()
        .is_some_and(|upgrade| upgrade.auto_upgrade_redis_enterprise);
    if let (Some(digest), true) = (digest, follows) {
        check.refuse(
            "spec.redisEnterpriseImageSpec.digestHash",
            quoted(digest),
            "nothing, while spec.upgradeSpec.autoUpgradeRedisEnterprise is true",
            "a digest names one image for ever: remove it or turn the upgrades off",
        );
    }
    check.object_name(
        "spec.clusterCredentialSecretName",
        spec.cluster_credential_secret_name.as_deref(),
    );
    check.object_name(
        "spec.serviceAccountName",
        spec.service_account_name.as_deref(),
    );
    check.errors
}

/// Rules about changing `old` into `new`.
pub fn cluster_update(
    old: &RedisEnterpriseCluster,
    new: &RedisEnterpriseCluster,
) -> Vec<FieldError> {
    let mut check = Check::default();
    let nodes = |cluster: &RedisEnterpriseCluster| cluster.spec.nodes.unwrap_or(DEFAULT_NODES);
    if nodes(new) < nodes(old) {
        check.refuse(
            "spec.nodes",
            nodes(new),
            &format!("{} or more, as before", nodes(old)),
            "a cluster cannot shrink; put the number back",
        );
    }
    let store = |cluster: &RedisEnterpriseCluster| {
        let store = cluster.spec.cluster_credential_secret_type.as_ref();
        store
            .map_or("kubernetes", CredentialStore::as_str)
            .to_owned()
    };
    check.unchanged(
        "spec.clusterCredentialSecretType",
        Some(&store(old)),
        Some(&store(new)),
        "it is fixed at creation; put it back",
    );
    let empty = PersistentSpec::default();
    check_storage_update(
        &mut check,
        old.spec.persistent_spec.as_ref().unwrap_or(&empty),
        new.spec.persistent_spec.as_ref().unwrap_or(&empty),
    );
    check.errors
}

fn check_storage_update(check: &mut Check, old: &PersistentSpec, new: &PersistentSpec) {
    let at = "spec.persistentSpec";
    if old.enabled.unwrap_or(true) != new.enabled.unwrap_or(true) {
        check.refuse(
            format!("{at}.enabled"),
            new.enabled.unwrap_or(true),
            &format!("{} as before", old.enabled.unwrap_or(true)),
            "it is fixed at creation; create another cluster",
        );
    }
    if old.storage_class_name != new.storage_class_name {
        let shown = |name: &Option<String>| {
            name.as_deref()
                .map_or_else(|| "the default".to_owned(), quoted)
        };
        check.refuse(
            format!("{at}.storageClassName"),
            shown(&new.storage_class_name),
            &format!("{} as before", shown(&old.storage_class_name)),
            "it is fixed at creation; create another cluster",
        );
    }
    let (Some(old_size), Some(new_size)) = (&old.volume_size, &new.volume_size) else {
        return;
    };
    let (Some(old_value), Some(new_value)) = (quantity_value(old_size), quantity_value(new_size))
    else {
        return;
    };
    if new_value < old_value {
        check.refuse(
            format!("{at}.volumeSize"),
            quoted(&new_size.to_string()),
            &format!("{old_size} or more, as before"),
            "volumes cannot shrink; put the size back",
        );
    }
    if new_value > old_value && new.enable_persistent_volume_resize != Some(true) {
        check.refuse(
            format!("{at}.volumeSize"),
            quoted(&new_size.to_string()),
            &format!("{old_size} as before, while enablePersistentVolumeResize is not true"),
            "set spec.persistentSpec.enablePersistentVolumeResize to true as well",
        );
    }
}

fn check_nodes(check: &mut Check, spec: &RedisEnterpriseClusterSpec) {
    let nodes = spec.nodes.unwrap_or(DEFAULT_NODES);
    if !(DEFAULT_NODES..=MOST_NODES).contains(&nodes) || nodes % 2 == 0 {
        check.refuse(
            "spec.nodes",
            nodes,
            &format!("an odd number from {DEFAULT_NODES} to {MOST_NODES}"),
            "use 3, 5, 7 …: a majority must remain when a node is lost",
        );
    }
}

fn check_entry(check: &mut Check, spec: &RedisEnterpriseClusterSpec) {
    if spec.active_active.is_some() && spec.ingress_or_route_spec.is_some() {
        check.refuse(
            "spec.activeActive",
            "a value beside spec.ingressOrRouteSpec",
            "only one of them",
            "remove spec.activeActive: ingressOrRouteSpec replaces it",
        );
    }
    if let Some(entry) = &spec.ingress_or_route_spec {
        entry::check(check, entry);
    }
    if let Some(entry) = &spec.active_active {
        check.host("spec.activeActive.apiIngressUrl", &entry.api_ingress_url);
        check.database_suffix(
            "spec.activeActive.dbIngressSuffix",
            &entry.db_ingress_suffix,
        );
        // The older version of this kind also knew istio, and objects are not converted.
        check.one_of(
            "spec.activeActive.method",
            Some(entry.method.as_str()),
            IngressMethod::WORDS,
        );
    }
}

fn check_words(check: &mut Check, spec: &RedisEnterpriseClusterSpec) {
    let api_service = spec
        .services
        .as_ref()
        .and_then(|services| services.api_service.as_ref());
    check.one_of(
        "spec.services.apiService.type",
        api_service
            .and_then(|service| service.type_.as_ref())
            .map(ApiServiceType::as_str),
        ApiServiceType::WORDS,
    );
    check.one_of(
        "spec.uiServiceType",
        spec.ui_service_type.as_ref().map(UiServiceType::as_str),
        UiServiceType::WORDS,
    );
    check.one_of(
        "spec.clusterCredentialSecretType",
        spec.cluster_credential_secret_type
            .as_ref()
            .map(CredentialStore::as_str),
        CredentialStore::WORDS,
    );
    check.one_of(
        "spec.redisEnterpriseIPFamily",
        spec.redis_enterprise_ip_family
            .as_ref()
            .map(IpFamily::as_str),
        IpFamily::WORDS,
    );
    check.one_of(
        "spec.redisUpgradePolicy",
        spec.redis_upgrade_policy
            .as_ref()
            .map(UpgradePolicy::as_str),
        UpgradePolicy::WORDS,
    );
}

fn check_rigger(check: &mut Check, spec: &RedisEnterpriseClusterSpec) {
    let Some(rigger) = &spec.services_rigger_spec else {
        return;
    };
    let at = "spec.servicesRiggerSpec";
    for type_ in rigger
        .database_service_type
        .iter()
        .flat_map(|list| list.split(','))
    {
        check.one_of(
            format!("{at}.databaseServiceType"),
            Some(type_.trim()),
            SERVICE_TYPES,
        );
    }
    check.one_of(
        format!("{at}.serviceNaming"),
        rigger.service_naming.as_ref().map(ServiceNaming::as_str),
        ServiceNaming::WORDS,
    );
    check.one_of(
        format!("{at}.databaseServicePortPolicy"),
        rigger
            .database_service_port_policy
            .as_ref()
            .map(ServicePortPolicy::as_str),
        ServicePortPolicy::WORDS,
    );
}

fn check_ranges(check: &mut Check, spec: &RedisEnterpriseClusterSpec) {
    if let Some(ocsp) = &spec.ocsp_configuration {
        let at = "spec.ocspConfiguration";
        check.within(
            format!("{at}.queryFrequency"),
            ocsp.query_frequency,
            60,
            86_400,
        );
        check.within(
            format!("{at}.recoveryFrequency"),
            ocsp.recovery_frequency,
            60,
            86_400,
        );
        check.within(
            format!("{at}.recoveryMaxTries"),
            ocsp.recovery_max_tries,
            1,
            100,
        );
        check.within(
            format!("{at}.responseTimeout"),
            ocsp.response_timeout,
            1,
            60,
        );
    }
    if let Some(policy) = &spec.pod_starting_policy {
        check.within(
            "spec.podStartingPolicy.startingThresholdSeconds",
            Some(i64::from(policy.starting_threshold_seconds)),
            1,
            i64::from(i32::MAX),
        );
    }
    check.within(
        "spec.redisEnterpriseTerminationGracePeriodSeconds",
        spec.redis_enterprise_termination_grace_period_seconds,
        0,
        31_536_000,
    );
    if let Some(audit) = spec
        .auditing
        .as_ref()
        .and_then(|auditing| auditing.config.as_ref())
    {
        check.port("spec.auditing.config.auditPort", audit.audit_port);
    }
    for (n, server) in spec
        .ldap
        .iter()
        .flat_map(|ldap| ldap.servers.iter())
        .enumerate()
    {
        check.port(
            format!("spec.ldap.servers[{n}].port"),
            server.port.map(i64::from),
        );
    }
}
