//! Fields that are accepted and kept, and have no effect: never silently.
//!
//! The tables below name what *has* an effect; everything else that a spec sets is warned about, so that a new field can
//! be forgotten only in the direction of a needless warning. Who makes a field effective adds it here.

mod settings;
mod walk;

use std::fmt;

use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::deletion::OBJECT_ID;
use crate::crds::{
    Persistence, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster,
    RedisEnterpriseDatabase, RedisEnterpriseRemoteCluster,
};

#[cfg(test)]
pub(super) use walk::table_paths;
pub use walk::{FieldEffect, field_effects};

use settings::{of_an_instance, settings_warnings};
use walk::{Plain, Table, walk};

/// A field without effect, or with another one than its author may expect. Shown at admission and in the condition
/// `FieldsNotImplemented`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// Path of the field.
    pub field: String,
    /// What happens instead.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

const CLUSTER: Table = Table {
    effective: &[
        "accessControl.policy.allowREDBRolesPermissions",
        "antiAffinityAdditionalTopologyKeys",
        "certificates.apiCertificateSecretName",
        "certificates.cmCertificateSecretName",
        "certificates.cpInternodeEncryptionCertificateSecretName",
        "certificates.dpInternodeEncryptionCertificateSecretName",
        "certificates.metricsExporterCertificateSecretName",
        "certificates.proxyCertificateSecretName",
        "clusterCredentialSecretName",
        "clusterCredentialSecretType",
        "clusterRecovery",
        "createServiceAccount",
        "dataInternodeEncryption",
        "extraEnvVars",
        "extraLabels",
        "hostAliases",
        "ingressOrRouteSpec.apiFqdnUrl",
        "ingressOrRouteSpec.dbFqdnSuffix",
        "ingressOrRouteSpec.ingressAnnotations",
        "ingressOrRouteSpec.method",
        "license",
        "licenseSecretName",
        "metricsConfig.exposeDatabaseTags",
        "metricsConfig.maxRequestsInFlight",
        "metricsConfig.metricsTagKeysExposed",
        "nodeSelector",
        "nodes",
        "persistentSpec.enablePersistentVolumeResize",
        "persistentSpec.enabled",
        "persistentSpec.storageClassName",
        "persistentSpec.volumeSize",
        "podAnnotations",
        "podAntiAffinity",
        "podTolerations",
        "priorityClassName",
        "pullSecrets",
        "rackAwarenessNodeLabel",
        "redisEnterpriseAdditionalPodSpecAttributes",
        "redisEnterpriseImageSpec",
        "redisEnterpriseNodeResources",
        "redisEnterprisePodAnnotations",
        "redisEnterpriseTerminationGracePeriodSeconds",
        "redisEnterpriseVolumeMounts",
        "redisUpgradePolicy",
        "serviceAccountName",
        "services.apiService.type",
        "services.servicesAnnotations",
        "servicesRiggerSpec.databaseServicePortPolicy",
        "servicesRiggerSpec.databaseServiceType",
        "servicesRiggerSpec.serviceNaming",
        "sideContainersSpec",
        "slaveHA",
        "uiAnnotations",
        "uiServiceType",
        "upgradeSpec.autoUpgradeRedisEnterprise",
        "username",
        "volumes",
    ],
    neutral: &[
        ("encryptPkeys", Plain::Flag(false)),
        ("containerTimezone.timezoneName", Plain::Word("UTC")),
        ("dmcExternalCBAAuthentication", Plain::Flag(false)),
        ("enforceIPv4", Plain::Flag(false)),
        (
            "securityContext.readOnlyRootFilesystemPolicy.enabled",
            Plain::Flag(true),
        ),
        (
            "securityContext.resourceLimits.allowAutoAdjustment",
            Plain::Flag(false),
        ),
        ("metricsConfig.keyDistributionEnabled", Plain::Flag(false)),
        ("metricsConfig.keyItemsBuckets", Plain::Word("")),
        ("metricsConfig.keySizeBuckets", Plain::Word("")),
        ("redisOnFlashSpec.enabled", Plain::Flag(false)),
        ("resp3Default", Plain::Flag(true)),
        ("usageMeter.callHomeClient.disabled", Plain::Flag(true)),
    ],
    messages: &[
        (
            "auditing",
            "no connection is audited, and no listener is sent records",
        ),
        (
            "backup",
            "no backup is made: the place for backups is not used",
        ),
        (
            "certificates.ldapClientCertificateSecretName",
            "nobody signs in by LDAP: the certificate is checked, its trouble and its end are told, and no LDAP server is shown it",
        ),
        (
            "certificates.ssoIssuerCertificateSecretName",
            "nobody signs in by SAML: the certificate is checked, its trouble and its end are told, and no login is judged by it",
        ),
        (
            "certificates.ssoServiceCertificateSecretName",
            "nobody signs in by SAML: the certificate is checked, its trouble and its end are told, and no identity provider is shown it",
        ),
        (
            "clusterCredentialSecretRole",
            "Vault is no source of Secrets here: credentials stand in a Kubernetes Secret",
        ),
        (
            "containerTimezone",
            "the nodes keep UTC: times in their logs and reports are UTC everywhere",
        ),
        (
            "dmcExternalCBAAuthentication",
            "a certificate alone logs nobody in: users of databases have passwords, certificates come on top of them",
        ),
        (
            "enforceIPv4",
            "addresses are of the family of the pod network: none is forced",
        ),
        (
            "ldap",
            "nobody signs in by LDAP: accounts are those of the cluster's and the databases' Secrets",
        ),
        (
            "metricsConfig.keyDistributionEnabled",
            "no keys are measured: metrics have no histograms of sizes and items",
        ),
        (
            "metricsConfig.keyItemsBuckets",
            "no keys are measured: metrics have no histograms of sizes and items",
        ),
        (
            "metricsConfig.keySizeBuckets",
            "no keys are measured: metrics have no histograms of sizes and items",
        ),
        (
            "metricsConfig.localStorageMaxSizeMb",
            "nodes keep no metrics: each scrape is answered with what is true then",
        ),
        (
            "metricsConfig.localStorageRetentionDays",
            "nodes keep no metrics: each scrape is answered with what is true then",
        ),
        ("ocspConfiguration", "no certificate is asked about by OCSP"),
        (
            "ossClusterSettings",
            "databases are reached by their Services: there is no cluster API to open",
        ),
        (
            "podStartingPolicy",
            "a pod that does not start is told in the status, and not made anew after any time",
        ),
        (
            "redisEnterpriseIPFamily",
            "Services take the address family of the Kubernetes cluster",
        ),
        (
            "redisEnterpriseServicesConfiguration",
            "the nodes have no such services: what serves Active-Active databases is always on",
        ),
        (
            "redisOnFlashSpec",
            "there is no flash tier: all data is kept in memory",
        ),
        (
            "resp3Default",
            "clients choose RESP2 or RESP3 with HELLO, whatever stands here",
        ),
        (
            "sso",
            "nobody signs in by SAML: the account is that of the cluster's Secret",
        ),
        (
            "usageMeter",
            "nothing is reported to anybody: there is no usage meter",
        ),
        (
            "usageReportFields",
            "nothing is reported to anybody: there is no usage meter",
        ),
        (
            "userDefinedModules",
            "no module is loaded: databases that name one lack its commands",
        ),
        (
            "vaultCASecret",
            "Vault is no source of Secrets here: credentials stand in a Kubernetes Secret",
        ),
        (
            "bootstrapperImageSpec",
            "there is no bootstrapper: the nodes form the cluster themselves",
        ),
        (
            "bootstrapperResources",
            "there is no bootstrapper: the nodes form the cluster themselves",
        ),
        (
            "redisEnterpriseServicesRiggerImageSpec",
            "Services are made by the agent itself: there is no pod to configure",
        ),
        (
            "redisEnterpriseServicesRiggerResources",
            "Services are made by the agent itself: there is no pod to configure",
        ),
        (
            "servicesRiggerSpec.extraEnvVars",
            "Services are made by the agent itself: there is no pod to configure",
        ),
        (
            "servicesRiggerSpec.podAnnotations",
            "Services are made by the agent itself: there is no pod to configure",
        ),
        (
            "servicesRiggerSpec.servicesRiggerAdditionalPodSpecAttributes",
            "Services are made by the agent itself: there is no pod to configure",
        ),
        (
            "securityContext.readOnlyRootFilesystemPolicy.enabled",
            "the root file system of the nodes is always read-only",
        ),
        (
            "securityContext.resourceLimits.allowAutoAdjustment",
            "the nodes never get the capability SYS_RESOURCE",
        ),
        (
            "certificates.syncerCertificateSecretName",
            "replication between clusters shows certificates that the hub signs; this one is checked, and its trouble is told",
        ),
        (
            "activeActive",
            "the older way of entry has no effect; use spec.ingressOrRouteSpec",
        ),
        ("encryptPkeys", "private keys are not encrypted on disk"),
    ],
};

const DATABASE: Table = Table {
    effective: &[
        "clientAuthenticationCertificates",
        "dataInternodeEncryption",
        "databasePort",
        "databaseSecretName",
        "databaseServicePort",
        "defaultUser",
        "evictionPolicy",
        "memorySize",
        "persistence",
        "proxyPolicy",
        "rackAware",
        "redisEnterpriseCluster.name",
        "redisVersion",
        "replication",
        "rolesPermissions",
        "shardsPlacement",
        "tags",
        "tlsMode",
    ],
    neutral: &[
        ("auditing.auditMode", Plain::Word("disabled")),
        ("auditing.dbConnsAuditing", Plain::Flag(false)),
        ("auditing.sourceIpFilter.enabled", Plain::Flag(false)),
        ("auditing.usernameFilter.enabled", Plain::Flag(false)),
        ("isRof", Plain::Flag(false)),
        ("ossCluster", Plain::Flag(false)),
        (
            "ossClusterSettings.enableExternalAccess",
            Plain::Flag(false),
        ),
        ("resp3", Plain::Flag(true)),
        ("shardCount", Plain::Number(1)),
        ("type", Plain::Word("redis")),
        ("searchOnBigstore", Plain::Flag(false)),
    ],
    messages: &[
        (
            "activeActive",
            "describes what another controller made: create a RedisEnterpriseActiveActiveDatabase instead",
        ),
        (
            "alertSettings",
            "no alert is raised by the database: put the limits into alerting rules over the metrics",
        ),
        (
            "auditing",
            "neither connections nor operations of this database are audited",
        ),
        (
            "connectionSettings",
            "clients are connected to the shard itself: there is no proxy whose connections could be tuned",
        ),
        (
            "memcachedSaslSecretName",
            "databases speak the Redis protocol only: the Secret is not read",
        ),
        (
            "ossCluster",
            "clients see one endpoint without the cluster API: connect without cluster mode",
        ),
        (
            "ossClusterSettings",
            "databases are reached by their Services: there is no cluster API to open",
        ),
        (
            "resp3",
            "clients choose RESP2 or RESP3 with HELLO, whatever stands here",
        ),
        (
            "rofRamRatio",
            "there is no flash tier: all data is kept in memory",
        ),
        (
            "rofRamSize",
            "there is no flash tier: all data is kept in memory",
        ),
        (
            "searchOnBigstore",
            "there is no flash tier: all data is kept in memory",
        ),
        (
            "shardCount",
            "a database has one shard, whatever number is asked for: it holds all slots, and memorySize is for it and its replica",
        ),
        (
            "shardingEnabled",
            "databases have one shard for now, and commands over several keys keep to one slot",
        ),
        ("type", "databases speak the Redis protocol only"),
        ("upgradeSpec", "no module is loaded, so none is upgraded"),
        ("backup", "no backup is made; the field has no effect yet"),
        (
            "replicaSources",
            "no source is followed; the field has no effect yet",
        ),
        (
            "modulesList",
            "no module is loaded: commands of these modules are unknown to the database",
        ),
        (
            "isRof",
            "all data is kept in memory: size memorySize for it",
        ),
    ],
};

const ACTIVE_ACTIVE: Table = Table {
    effective: &[
        "globalConfigurations",
        "participatingClusters[].externalReplicationPort",
        "participatingClusters[].name",
        "redisEnterpriseCluster.name",
    ],
    neutral: &[],
    messages: &[(
        "participatingClusters[].namespace",
        "the database is made in the namespace of the participant's REC",
    )],
};

const REMOTE_CLUSTER: Table = Table {
    effective: &["apiFqdnUrl", "recName", "recNamespace"],
    neutral: &[("apiPort", Plain::Number(443))],
    messages: &[
        (
            "secretName",
            "the Secret is kept and not used: clusters do not exchange administrators' passwords",
        ),
        (
            "apiPort",
            "clusters are managed through the hub; the port is kept and not used",
        ),
        (
            "dbFqdnSuffix",
            "peers are reached at the address that the cluster reports to the hub; this one is shown and not used",
        ),
    ],
};

/// Fields of a cluster without effect.
pub fn cluster_warnings(cluster: &RedisEnterpriseCluster) -> Vec<Warning> {
    walk(&CLUSTER, "spec", &cluster.spec)
}

/// Fields of a database without effect.
pub fn database_warnings(database: &RedisEnterpriseDatabase) -> Vec<Warning> {
    settings_warnings("spec", &database.spec)
}

/// Fields of a remote cluster without effect.
pub fn remote_cluster_warnings(remote: &RedisEnterpriseRemoteCluster) -> Vec<Warning> {
    let mut spec = remote.spec.clone();
    // The only name that is valid asks for nothing.
    spec.secret_name = spec.secret_name.filter(|name| !name.is_empty());
    if remote.annotations().contains_key(OBJECT_ID) {
        // The hub writes here what it uses.
        spec.db_fqdn_suffix = None;
    }
    walk(&REMOTE_CLUSTER, "spec", &spec)
}

/// Fields of an Active-Active database without effect, or with a stronger one than they ask for.
pub fn active_active_database_warnings(
    database: &RedisEnterpriseActiveActiveDatabase,
) -> Vec<Warning> {
    let mut warnings = walk(&ACTIVE_ACTIVE, "spec", &database.spec);
    if let Some(settings) = &database.spec.global_configurations {
        let at = "spec.globalConfigurations";
        warnings.extend(settings_warnings(at, settings));
        warnings.extend(of_an_instance(at, settings));
        if settings.persistence == Some(Persistence::Disabled) {
            warnings.push(Warning {
                field: format!("{at}.persistence"),
                message: "an Active-Active database always has an append-only file, synced every second: a region may \
                          only report writes that it cannot lose"
                    .to_owned(),
            });
        }
    }
    warnings
}
