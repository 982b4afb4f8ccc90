//! Fields that are accepted and kept, and have no effect: never silently.
//!
//! The tables below name what *has* an effect; everything else that a spec sets is warned about, so that a new field can
//! be forgotten only in the direction of a needless warning. Who makes a field effective adds it here.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crds::{
    Persistence, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseCluster,
    RedisEnterpriseDatabase, RedisEnterpriseDatabaseSpec, RedisEnterpriseRemoteCluster,
};

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

/// What one kind does with its fields. Paths are relative to the spec; a path covers everything below it.
struct Table {
    /// Fields with an effect.
    effective: &'static [&'static str],
    /// Values that ask for what happens anyway.
    neutral: &'static [(&'static str, Plain)],
    /// What to say instead of the general sentence.
    messages: &'static [(&'static str, &'static str)],
}

/// A value of one field.
enum Plain {
    Flag(bool),
    Word(&'static str),
    Number(i64),
}

impl Plain {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Flag(flag) => value == flag,
            Self::Word(word) => value == word,
            Self::Number(number) => value == number,
        }
    }
}

const NO_EFFECT: &str = "accepted and kept, but it has no effect yet";

const CLUSTER: Table = Table {
    effective: &[
        "antiAffinityAdditionalTopologyKeys",
        "clusterCredentialSecretName",
        "clusterRecovery",
        "createServiceAccount",
        "extraEnvVars",
        "extraLabels",
        "hostAliases",
        "ingressOrRouteSpec.dbFqdnSuffix",
        "licenseSecretName",
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
        "serviceAccountName",
        "services.servicesAnnotations",
        "servicesRiggerSpec.databaseServicePortPolicy",
        "servicesRiggerSpec.databaseServiceType",
        "servicesRiggerSpec.serviceNaming",
        "sideContainersSpec",
        "upgradeSpec.autoUpgradeRedisEnterprise",
        "username",
        "volumes",
    ],
    neutral: &[
        ("clusterCredentialSecretType", Plain::Word("kubernetes")),
        ("dataInternodeEncryption", Plain::Flag(false)),
        ("encryptPkeys", Plain::Flag(false)),
        ("enforceIPv4", Plain::Flag(false)),
        (
            "securityContext.readOnlyRootFilesystemPolicy.enabled",
            Plain::Flag(true),
        ),
        (
            "securityContext.resourceLimits.allowAutoAdjustment",
            Plain::Flag(false),
        ),
        ("services.apiService.type", Plain::Word("ClusterIP")),
        ("uiServiceType", Plain::Word("ClusterIP")),
        ("redisOnFlashSpec.enabled", Plain::Flag(false)),
        ("usageMeter.callHomeClient.disabled", Plain::Flag(true)),
    ],
    messages: &[
        (
            "license",
            "there are no licences: status.licenseStatus shows any as Valid, and nothing is limited",
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
            "services.apiService",
            "no Service is made for an interface that the nodes do not have yet",
        ),
        (
            "uiServiceType",
            "no Service is made for an interface that the nodes do not have yet",
        ),
        (
            "uiAnnotations",
            "no Service is made for an interface that the nodes do not have yet",
        ),
        (
            "activeActive",
            "the older way of entry has no effect; use spec.ingressOrRouteSpec",
        ),
        (
            "dataInternodeEncryption",
            "traffic between nodes is not encrypted yet",
        ),
        ("encryptPkeys", "private keys are not encrypted on disk"),
        (
            "ingressOrRouteSpec.method",
            "no Ingress, Route or Gateway is made: route <db><dbFqdnSuffix>:443 to the cluster by SNI yourself",
        ),
        (
            "ingressOrRouteSpec.ingressAnnotations",
            "no Ingress, Route or Gateway is made: route <db><dbFqdnSuffix>:443 to the cluster by SNI yourself",
        ),
        (
            "ingressOrRouteSpec.apiFqdnUrl",
            "clusters are managed through the hub; the host is shown in the RERC and not served",
        ),
    ],
};

const DATABASE: Table = Table {
    effective: &[
        "databasePort",
        "databaseSecretName",
        "databaseServicePort",
        "defaultUser",
        "evictionPolicy",
        "memorySize",
        "persistence",
        "redisEnterpriseCluster.name",
        "replication",
        "shardCount",
    ],
    neutral: &[
        ("auditing.dbConnsAuditing", Plain::Flag(false)),
        ("dataInternodeEncryption", Plain::Flag(false)),
        ("isRof", Plain::Flag(false)),
        ("ossCluster", Plain::Flag(false)),
        (
            "ossClusterSettings.enableExternalAccess",
            Plain::Flag(false),
        ),
        ("proxyPolicy", Plain::Word("single")),
        ("rackAware", Plain::Flag(false)),
        ("shardsPlacement", Plain::Word("dense")),
        ("tlsMode", Plain::Word("disabled")),
        ("type", Plain::Word("redis")),
        ("searchOnBigstore", Plain::Flag(false)),
    ],
    messages: &[
        (
            "tlsMode",
            "clients are served WITHOUT TLS; the field has no effect yet",
        ),
        (
            "clientAuthenticationCertificates",
            "client certificates are NOT asked for; the field has no effect yet",
        ),
        (
            "dataInternodeEncryption",
            "traffic between nodes is not encrypted yet",
        ),
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
            "rolesPermissions",
            "only the default user exists; the field has no effect yet",
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
    effective: &["apiFqdnUrl", "dbFqdnSuffix", "recName", "recNamespace"],
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
    ],
};

/// Fields of a cluster without effect.
pub fn cluster_warnings(cluster: &RedisEnterpriseCluster) -> Vec<Warning> {
    walk(&CLUSTER, "spec", serde_json::to_value(&cluster.spec))
}

/// Fields of a database without effect.
pub fn database_warnings(database: &RedisEnterpriseDatabase) -> Vec<Warning> {
    let mut warnings = walk(&DATABASE, "spec", serde_json::to_value(&database.spec));
    warn_shards(&mut warnings, "spec", &database.spec);
    warnings
}

/// Fields of a remote cluster without effect.
pub fn remote_cluster_warnings(remote: &RedisEnterpriseRemoteCluster) -> Vec<Warning> {
    let mut spec = remote.spec.clone();
    // The only name that is valid asks for nothing.
    spec.secret_name = spec.secret_name.filter(|name| !name.is_empty());
    walk(&REMOTE_CLUSTER, "spec", serde_json::to_value(&spec))
}

/// Fields of an Active-Active database without effect, or with a stronger one than they ask for.
pub fn active_active_database_warnings(
    database: &RedisEnterpriseActiveActiveDatabase,
) -> Vec<Warning> {
    let mut warnings = walk(&ACTIVE_ACTIVE, "spec", serde_json::to_value(&database.spec));
    if let Some(settings) = &database.spec.global_configurations {
        let at = "spec.globalConfigurations";
        warnings.extend(walk(&DATABASE, at, serde_json::to_value(settings)));
        warn_shards(&mut warnings, at, settings);
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

fn warn_shards(warnings: &mut Vec<Warning>, at: &str, spec: &RedisEnterpriseDatabaseSpec) {
    if let Some(count) = spec.shard_count.filter(|count| *count > 1) {
        warnings.push(Warning {
            field: format!("{at}.shardCount"),
            message: format!("served by 1 shard of {count}: databases have one shard for now"),
        });
    }
}

/// A spec that cannot be written as JSON cannot have been read from it either; there is nothing to warn about then.
fn walk(table: &Table, at: &str, spec: Result<Value, serde_json::Error>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Ok(spec) = spec {
        visit(table, at, "", &spec, &mut warnings);
    }
    warnings
}

fn visit(table: &Table, at: &str, path: &str, value: &Value, warnings: &mut Vec<Warning>) {
    let below = |other: &str| {
        other
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    let neutral = |(field, plain): &(&str, Plain)| *field == path && plain.is(value);
    if table.effective.contains(&path) || table.neutral.iter().any(neutral) {
        return;
    }
    let known_inside = path.is_empty()
        || table.effective.iter().any(|other| below(other))
        || table.neutral.iter().any(|(other, _)| below(other));
    match value {
        Value::Object(fields) if known_inside => {
            for (name, field) in fields {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                visit(table, &format!("{at}.{name}"), &inner, field, warnings);
            }
        }
        Value::Array(items) if known_inside => {
            for (n, item) in items.iter().enumerate() {
                visit(
                    table,
                    &format!("{at}[{n}]"),
                    &format!("{path}[]"),
                    item,
                    warnings,
                );
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => warnings.push(Warning {
            field: at.to_owned(),
            message: message(table, path).to_owned(),
        }),
    }
}

fn message(table: &Table, path: &str) -> &'static str {
    let found = table.messages.iter().find(|(field, _)| *field == path);
    found.map_or(NO_EFFECT, |(_, message)| message)
}

/// What happens to one field of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldEffect {
    /// Path below the spec; stands for everything below it.
    pub path: String,
    /// `None` if it has its effect; otherwise what is said to whoever sets it.
    pub inert: Option<&'static str>,
}

/// What happens to every field of a kind of `app.redislabs.com`, by the schema of its spec; empty for any other kind.
///
/// `globalConfigurations` of an Active-Active database is one line: its fields are those of a database.
pub fn field_effects(kind: &str, spec_schema: &Value) -> Vec<FieldEffect> {
    let table = match kind {
        "RedisEnterpriseCluster" => &CLUSTER,
        "RedisEnterpriseDatabase" => &DATABASE,
        "RedisEnterpriseActiveActiveDatabase" => &ACTIVE_ACTIVE,
        "RedisEnterpriseRemoteCluster" => &REMOTE_CLUSTER,
        _ => return Vec::new(),
    };
    let mut effects = Vec::new();
    list_effects(table, "", spec_schema, &mut effects);
    effects
}

fn list_effects(table: &Table, path: &str, schema: &Value, effects: &mut Vec<FieldEffect>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let inside = |other: &str| {
            other
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        let effective = table.effective.contains(&path.as_str());
        let told_inside = table.effective.iter().any(|other| inside(other))
            || table.messages.iter().any(|(other, _)| inside(other));
        if !effective && told_inside {
            match field.get("items") {
                Some(items) => list_effects(table, &format!("{path}[]"), items, effects),
                None => list_effects(table, &path, field, effects),
            }
            continue;
        }
        let inert = (!effective).then(|| message(table, &path));
        effects.push(FieldEffect { path, inert });
    }
}

#[cfg(test)]
pub(super) fn table_paths() -> Vec<(&'static str, &'static str)> {
    [
        ("RedisEnterpriseCluster", CLUSTER),
        ("RedisEnterpriseDatabase", DATABASE),
        ("RedisEnterpriseActiveActiveDatabase", ACTIVE_ACTIVE),
        ("RedisEnterpriseRemoteCluster", REMOTE_CLUSTER),
    ]
    .into_iter()
    .flat_map(|(kind, table)| {
        let neutral = table.neutral.iter().map(|(path, _)| *path);
        let messages = table.messages.iter().map(|(path, _)| *path);
        let effective = table.effective.iter().copied();
        effective
            .chain(neutral)
            .chain(messages)
            .map(move |path| (kind, path))
    })
    .collect()
}
