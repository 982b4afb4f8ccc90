//! Rules of `RedisEnterpriseDatabase`, and of the same settings inside an Active-Active database.

mod audit;

use super::{Check, FieldError, memory, quoted, tags};
use crate::crds::{
    Persistence, RedisEnterpriseDatabase, RedisEnterpriseDatabaseSpec,
    database::{
        ConnectionLimitType, ConnectionSchedulingPolicy, DatabaseBackup, DatabaseType,
        RolePermissionType, ShardsPlacement, TlsMode,
    },
};
use crate::version::Series;

/// Longest name of a database: it becomes the name of Services.
const LONGEST_NAME: usize = 63;

const EVICTION_POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-ttl",
    "volatile-random",
    "volatile-lfu",
    "allkeys-lru",
    "allkeys-random",
    "allkeys-lfu",
    "noeviction",
];
const PROXY_POLICIES: &[&str] = &["single", "all-master-shards", "all-nodes"];
/// The version of Redis whose commands every bundled Valkey speaks, whatever further ones it has.
pub const SPOKEN_VERSION: &str = "7.2";
/// Words that leave the choice of the version to the cluster.
const POLICY_WORDS: &[&str] = &["major", "latest"];
const REPLICA_SOURCE_TYPES: &[&str] = &["SECRET", "REDB"];

/// Rules that a database must obey at any time.
pub fn database(database: &RedisEnterpriseDatabase) -> Vec<FieldError> {
    let mut check = Check::default();
    check_name(&mut check, database.metadata.name.as_deref());
    check_settings(&mut check, "spec", &database.spec);
    tags::check(&mut check, "spec", &database.spec, tags::DATABASE);
    if let Some(enabled) = database.spec.sharding_enabled {
        check.refuse(
            "spec.shardingEnabled",
            enabled,
            "nothing",
            "the field is for Active-Active databases only; remove it and set spec.shardCount",
        );
    }
    check.errors
}

/// Rules about changing `old` into `new`.
pub fn database_update(
    old: &RedisEnterpriseDatabase,
    new: &RedisEnterpriseDatabase,
) -> Vec<FieldError> {
    let mut check = Check::default();
    check_settings_update(&mut check, "spec", &old.spec, &new.spec);
    let cluster = |spec: &RedisEnterpriseDatabaseSpec| {
        spec.redis_enterprise_cluster
            .as_ref()
            .map(|c| c.name.clone())
    };
    check.unchanged(
        "spec.redisEnterpriseCluster.name",
        cluster(&old.spec).as_deref(),
        cluster(&new.spec).as_deref(),
        "a database stays in its cluster; create another one there",
    );
    check.errors
}

pub(super) fn check_name(check: &mut Check, name: Option<&str>) {
    check.service_like_name(name, LONGEST_NAME, "database");
}

/// The settings that databases and Active-Active databases share; `at` is where they stand in the object.
pub(super) fn check_settings(check: &mut Check, at: &str, spec: &RedisEnterpriseDatabaseSpec) {
    memory::check(
        check,
        format!("{at}.memorySize"),
        spec.memory_size.as_deref(),
    );
    check.one_of(
        format!("{at}.evictionPolicy"),
        spec.eviction_policy.as_deref(),
        EVICTION_POLICIES,
    );
    check.one_of(
        format!("{at}.proxyPolicy"),
        spec.proxy_policy.as_deref(),
        PROXY_POLICIES,
    );
    check.one_of(
        format!("{at}.persistence"),
        spec.persistence.as_ref().map(Persistence::as_str),
        Persistence::WORDS,
    );
    check.one_of(
        format!("{at}.tlsMode"),
        spec.tls_mode.as_ref().map(TlsMode::as_str),
        TlsMode::WORDS,
    );
    check.one_of(
        format!("{at}.shardsPlacement"),
        spec.shards_placement.as_ref().map(ShardsPlacement::as_str),
        ShardsPlacement::WORDS,
    );
    check.within(
        format!("{at}.databasePort"),
        spec.database_port,
        10_000,
        19_999,
    );
    check.port(
        format!("{at}.databaseServicePort"),
        spec.database_service_port,
    );
    check.within(format!("{at}.shardCount"), spec.shard_count, 1, 512);
    check.within(format!("{at}.rofRamRatio"), spec.rof_ram_ratio, 0, 100);
    check.object_name(
        format!("{at}.databaseSecretName"),
        spec.database_secret_name.as_deref(),
    );
    check.object_name(
        format!("{at}.redisEnterpriseCluster.name"),
        spec.redis_enterprise_cluster
            .as_ref()
            .map(|cluster| cluster.name.as_str()),
    );
    check_version(check, at, spec);
    check_type(check, at, spec);
    check_lists(check, at, spec);
    check_connections(check, at, spec);
    if let Some(auditing) = &spec.auditing {
        audit::check(check, &format!("{at}.auditing"), auditing);
    }
    if let Some(backup) = &spec.backup {
        check_backup(check, &format!("{at}.backup"), backup);
    }
}

fn check_version(check: &mut Check, at: &str, spec: &RedisEnterpriseDatabaseSpec) {
    if let Some(found) = spec.redis_version.as_deref()
        && !POLICY_WORDS.contains(&found)
        && found.parse::<Series>().is_err()
    {
        check.refuse(
            format!("{at}.redisVersion"),
            quoted(found),
            "major, latest, or a version such as 8.1",
            "use one of these or leave the field out",
        );
    }
}

fn check_type(check: &mut Check, at: &str, spec: &RedisEnterpriseDatabaseSpec) {
    match &spec.type_ {
        None | Some(DatabaseType::Redis) => {}
        Some(DatabaseType::Memcached) => check.refuse(
            format!("{at}.type"),
            quoted("memcached"),
            "redis",
            "this engine speaks the Redis protocol only; remove the field",
        ),
        Some(DatabaseType::Other(word)) => {
            check.refuse(
                format!("{at}.type"),
                quoted(word),
                "redis",
                "remove the field",
            );
        }
    }
}

fn check_lists(check: &mut Check, at: &str, spec: &RedisEnterpriseDatabaseSpec) {
    for (n, source) in spec.replica_sources.iter().enumerate() {
        let at = format!("{at}.replicaSources[{n}]");
        check.one_of(
            format!("{at}.replicaSourceType"),
            Some(&source.replica_source_type),
            REPLICA_SOURCE_TYPES,
        );
        check.object_name(
            format!("{at}.replicaSourceName"),
            Some(&source.replica_source_name),
        );
        check.within(format!("{at}.compression"), source.compression, 0, 6);
    }
    for (n, secret) in spec.client_authentication_certificates.iter().enumerate() {
        check.object_name(
            format!("{at}.clientAuthenticationCertificates[{n}]"),
            Some(secret),
        );
    }
    for (n, permission) in spec.roles_permissions.iter().enumerate() {
        check.one_of(
            format!("{at}.rolesPermissions[{n}].type"),
            Some(permission.type_.as_str()),
            RolePermissionType::WORDS,
        );
    }
    for (n, module) in spec.modules_list.iter().enumerate() {
        if module.name.is_empty() {
            check.refuse(
                format!("{at}.modulesList[{n}].name"),
                quoted(""),
                "the name of a module",
                "name the module or remove the entry",
            );
        }
    }
}

fn check_connections(check: &mut Check, at: &str, spec: &RedisEnterpriseDatabaseSpec) {
    let Some(settings) = &spec.connection_settings else {
        return;
    };
    let at = format!("{at}.connectionSettings");
    check.one_of(
        format!("{at}.connectionSchedulingPolicy"),
        settings
            .connection_scheduling_policy
            .as_ref()
            .map(ConnectionSchedulingPolicy::as_str),
        ConnectionSchedulingPolicy::WORDS,
    );
    check.one_of(
        format!("{at}.connectionLimitType"),
        settings
            .connection_limit_type
            .as_ref()
            .map(ConnectionLimitType::as_str),
        ConnectionLimitType::WORDS,
    );
    for (name, value) in [
        ("internalConnections", settings.internal_connections),
        (
            "globalMaxDedicatedConnections",
            settings.global_max_dedicated_connections,
        ),
        (
            "minDedicatedConnections",
            settings.min_dedicated_connections,
        ),
    ] {
        check.within(format!("{at}.{name}"), value, 0, i64::from(i32::MAX));
    }
}

fn check_backup(check: &mut Check, at: &str, backup: &DatabaseBackup) {
    let targets: Vec<&str> = [
        ("abs", backup.abs.is_some()),
        ("ftp", backup.ftp.is_some()),
        ("gcs", backup.gcs.is_some()),
        ("mount", backup.mount.is_some()),
        ("s3", backup.s3.is_some()),
        ("sftp", backup.sftp.is_some()),
        ("swift", backup.swift.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect();
    if targets.len() != 1 {
        let found = if targets.is_empty() {
            "none".to_owned()
        } else {
            targets.join(", ")
        };
        check.refuse(
            at,
            found,
            "exactly one target of abs, ftp, gcs, mount, s3, sftp, swift",
            "keep one target, or remove the backup",
        );
    }
    check.within(
        format!("{at}.interval"),
        backup.interval,
        1,
        i64::from(i32::MAX),
    );
    check.within(
        format!("{at}.intervalOffset"),
        backup.interval_offset,
        0,
        i64::from(i32::MAX),
    );
}

/// Settings that keep the value that the database was created with.
pub(super) fn check_settings_update(
    check: &mut Check,
    at: &str,
    old: &RedisEnterpriseDatabaseSpec,
    new: &RedisEnterpriseDatabaseSpec,
) {
    if let Some(port) = old.database_port
        && new.database_port != Some(port)
    {
        check.refuse(
            format!("{at}.databasePort"),
            new.database_port
                .map_or_else(|| "nothing".to_owned(), |port| port.to_string()),
            &format!("{port} as before"),
            "the port of a database cannot be changed; put it back",
        );
    }
    let asked = |spec: &RedisEnterpriseDatabaseSpec| {
        let text = spec.redis_version.clone()?;
        Some((text.parse::<Series>().ok()?, text))
    };
    if let (Some((before, was)), Some((after, is))) = (asked(old), asked(new))
        && after < before
    {
        check.refuse(
            format!("{at}.redisVersion"),
            quoted(&is),
            &format!("{was} or higher"),
            "a database is never taken back to an older version; put it back",
        );
    }
    let type_ = |spec: &RedisEnterpriseDatabaseSpec| {
        spec.type_
            .as_ref()
            .map_or("redis", DatabaseType::as_str)
            .to_owned()
    };
    check.unchanged(
        format!("{at}.type"),
        Some(&type_(old)),
        Some(&type_(new)),
        "the protocol is fixed at creation; create another database",
    );
    if old.is_rof.unwrap_or(false) != new.is_rof.unwrap_or(false) {
        check.refuse(
            format!("{at}.isRof"),
            new.is_rof.unwrap_or(false),
            &format!("{} as before", old.is_rof.unwrap_or(false)),
            "it is fixed at creation; create another database",
        );
    }
}
