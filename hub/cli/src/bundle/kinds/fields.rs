//! The lists of fields that are kept.

/// Fields of `metadata` of every object.
pub(in crate::bundle) const METADATA: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "labels",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "ownerReferences",
];

/// Annotations that are kept: ours, which hold no words of a person.
pub(in crate::bundle) const ANNOTATIONS: &[&str] = &[
    "meridian.dev/delete-approved",
    "meridian.dev/hash",
    "meridian.dev/hub-term",
    "meridian.dev/object-id",
    "meridian.dev/plan-number",
    "meridian.dev/rack",
    "meridian.dev/recovery",
    "meridian.dev/release",
    "meridian.dev/revision",
    "meridian.dev/template",
    "meridian.dev/topology",
];

/// Variables whose value is kept.
pub(in crate::bundle) const VARIABLES: &[&str] = &[
    "MERIDIAN_LOG_JSON",
    "MERIDIAN_NODE_IMAGE",
    "REC_NAME",
    "RUST_LOG",
];

/// Fields that are left out even below a field that is kept.
pub(in crate::bundle) const NEVER: &[&str] = &[
    "annotations",
    "args",
    "caBundle",
    "command",
    "data",
    "env",
    "envFrom",
    "exec",
    "extraEnvVars",
    "httpHeaders",
    "ingressAnnotations",
    "license",
    "managedFields",
    "password",
    "podAnnotations",
    "stringData",
    "token",
];

/// A REC.
pub(in crate::bundle) const REC: &[&str] = &[
    "antiAffinityAdditionalTopologyKeys",
    "certificates",
    "clusterCredentialSecretName",
    "clusterCredentialSecretType",
    "clusterRecovery",
    "createServiceAccount",
    "dataInternodeEncryption",
    "encryptPkeys",
    "enforceIPv4",
    "ingressOrRouteSpec.apiFqdnUrl",
    "ingressOrRouteSpec.dbFqdnSuffix",
    "ingressOrRouteSpec.method",
    "activeActive.apiIngressUrl",
    "activeActive.dbIngressSuffix",
    "activeActive.method",
    "licenseSecretName",
    "nodeSelector",
    "nodes",
    "ossClusterSettings",
    "persistentSpec",
    "podAntiAffinity",
    "podStartingPolicy",
    "podTolerations",
    "priorityClassName",
    "rackAwarenessNodeLabel",
    "redisEnterpriseIPFamily",
    "redisEnterpriseImageSpec",
    "redisEnterpriseNodeResources",
    "redisEnterpriseTerminationGracePeriodSeconds",
    "redisUpgradePolicy",
    "resp3Default",
    "serviceAccountName",
    "servicesRiggerSpec.databaseServicePortPolicy",
    "servicesRiggerSpec.databaseServiceType",
    "servicesRiggerSpec.serviceNaming",
    "slaveHA",
    "uiServiceType",
    "upgradeSpec",
];

/// A database.
pub(in crate::bundle) const REDB: &[&str] = &[
    "activeActive",
    "alertSettings",
    "backup.interval",
    "clientAuthenticationCertificates",
    "connectionSettings",
    "dataInternodeEncryption",
    "databasePort",
    "databaseSecretName",
    "databaseServicePort",
    "defaultUser",
    "evictionPolicy",
    "isRof",
    "memorySize",
    "modulesList.name",
    "modulesList.version",
    "ossCluster",
    "ossClusterSettings",
    "persistence",
    "proxyPolicy",
    "rackAware",
    "redisEnterpriseCluster",
    "redisVersion",
    "replication",
    "resp3",
    "rofRamRatio",
    "rofRamSize",
    "rolesPermissions.role",
    "rolesPermissions.type",
    "shardCount",
    "shardingEnabled",
    "shardsPlacement",
    "tlsMode",
    "type",
    "upgradeSpec",
];

/// The spec of a pod.
pub(in crate::bundle) const POD: &[&str] = &[
    "affinity",
    "automountServiceAccountToken",
    "nodeName",
    "nodeSelector",
    "priorityClassName",
    "restartPolicy",
    "schedulerName",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes.name",
    "volumes.emptyDir",
    "volumes.persistentVolumeClaim",
    "volumes.secret.secretName",
    "volumes.secret.optional",
    "volumes.configMap.name",
];

/// What the agent orders.
pub(in crate::bundle) const TOPOLOGY: &[&str] = &[
    "activeActive",
    "cluster",
    "database",
    "epoch",
    "evictionPolicy",
    "fence",
    "memoryBytes",
    "persistence",
    "port",
    "replication",
    "shards",
    "version",
];

/// What the hub tells.
pub(in crate::bundle) const INSTANCE: &[&str] = &[
    "cluster",
    "configVersion",
    "database",
    "ghosts",
    "guid",
    "hubTerm",
    "instanceId",
    "members",
    "objectId",
    "planNumber",
    "storeId",
];

/// A volume.
pub(in crate::bundle) const CLAIM: &[&str] = &[
    "accessModes",
    "resources",
    "storageClassName",
    "volumeMode",
    "volumeName",
];
/// A disruption budget.
pub(in crate::bundle) const BUDGET: &[&str] = &["maxUnavailable", "minAvailable", "selector"];
/// An ingress.
pub(in crate::bundle) const INGRESS: &[&str] = &["ingressClassName", "rules", "tls"];
/// A network policy.
pub(in crate::bundle) const POLICY: &[&str] = &["egress", "ingress", "podSelector", "policyTypes"];
/// A lease.
pub(in crate::bundle) const LEASE: &[&str] = &[
    "acquireTime",
    "holderIdentity",
    "leaseDurationSeconds",
    "leaseTransitions",
    "renewTime",
];

/// A container.
pub(in crate::bundle) const CONTAINER: &[&str] = &[
    "name",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "volumeMounts",
    "variables",
];

/// A remote cluster.
pub(in crate::bundle) const RERC: &[&str] = &[
    "apiFqdnUrl",
    "apiPort",
    "dbFqdnSuffix",
    "recName",
    "recNamespace",
    "secretName",
];

/// A Service.
pub(in crate::bundle) const SERVICE: &[&str] = &[
    "clusterIP",
    "externalName",
    "externalTrafficPolicy",
    "ipFamilies",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "type",
];

/// A StatefulSet, beside its template.
pub(in crate::bundle) const SET: &[&str] = &[
    "spec.persistentVolumeClaimRetentionPolicy",
    "spec.podManagementPolicy",
    "spec.serviceName",
    "spec.updateStrategy",
    "spec.volumeClaimTemplates.metadata.name",
    "spec.volumeClaimTemplates.spec.resources",
    "spec.volumeClaimTemplates.spec.storageClassName",
];

/// An Event.
pub(in crate::bundle) const EVENT: &[&str] = &[
    "action",
    "deprecatedCount",
    "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp",
    "eventTime",
    "note",
    "reason",
    "regarding",
    "related",
    "reportingController",
    "reportingInstance",
    "series",
    "type",
];

/// A host.
pub(in crate::bundle) const NODE: &[&str] = &[
    "spec.taints",
    "spec.unschedulable",
    "status.allocatable",
    "status.capacity",
    "status.conditions",
    "status.nodeInfo",
];

/// A webhook.
pub(in crate::bundle) const HOOK: &[&str] = &[
    "admissionReviewVersions",
    "clientConfig.service",
    "failurePolicy",
    "matchConditions",
    "name",
    "namespaceSelector",
    "rules",
    "sideEffects",
    "timeoutSeconds",
];

/// A class of volumes.
pub(in crate::bundle) const CLASS: &[&str] = &[
    "allowVolumeExpansion",
    "provisioner",
    "reclaimPolicy",
    "volumeBindingMode",
];
