//! Rules of `RedisEnterpriseActiveActiveDatabase`.

use std::collections::BTreeSet;

use super::{
    Check, FieldError,
    database::{check_name, check_settings, check_settings_update},
    quoted, tags,
};
use crate::crds::{Persistence, RedisEnterpriseActiveActiveDatabase, RedisEnterpriseDatabaseSpec};

/// Annotation that lets more than one participant go at once: their names, comma separated.
///
/// A JSON merge patch that means to add one participant replaces the whole list, and so asks to remove all the others.
pub const CONFIRM_REMOVAL: &str = "meridian.dev/confirm-removal";

/// Most participants of one database.
const MOST_PARTICIPANTS: usize = 63;

/// Rules that an Active-Active database must obey at any time.
pub fn active_active_database(database: &RedisEnterpriseActiveActiveDatabase) -> Vec<FieldError> {
    let mut check = Check::default();
    check_name(&mut check, database.metadata.name.as_deref());
    check_participants(&mut check, database);
    check.object_name(
        "spec.redisEnterpriseCluster.name",
        database
            .spec
            .redis_enterprise_cluster
            .as_ref()
            .map(|cluster| cluster.name.as_str()),
    );
    if let Some(settings) = &database.spec.global_configurations {
        check_settings(&mut check, "spec.globalConfigurations", settings);
        check_restrictions(&mut check, settings);
        check_sharding(&mut check, settings);
        tags::check(
            &mut check,
            "spec.globalConfigurations",
            settings,
            tags::ACTIVE_ACTIVE,
        );
    }
    check.errors
}

/// Rules about changing `old` into `new`.
pub fn active_active_database_update(
    old: &RedisEnterpriseActiveActiveDatabase,
    new: &RedisEnterpriseActiveActiveDatabase,
) -> Vec<FieldError> {
    let mut check = Check::default();
    let removed = removed_participants(old, new);
    let confirmed = confirmed_removals(new);
    if removed.len() > 1 && !removed.iter().all(|name| confirmed.contains(name)) {
        check.refuse(
            "spec.participatingClusters",
            format!("a list without {}", removed.join(", ")),
            "at most one participant removed at a time",
            &format!(
                "list all participants that stay, or set the annotation {CONFIRM_REMOVAL} to {:?}",
                removed.join(",")
            ),
        );
    }
    let empty = RedisEnterpriseDatabaseSpec::default();
    check_settings_update(
        &mut check,
        "spec.globalConfigurations",
        old.spec.global_configurations.as_ref().unwrap_or(&empty),
        new.spec.global_configurations.as_ref().unwrap_or(&empty),
    );
    check_sharding_update(
        &mut check,
        old.spec.global_configurations.as_ref().unwrap_or(&empty),
        new.spec.global_configurations.as_ref().unwrap_or(&empty),
    );
    check.errors
}

/// Names whose removal the annotation confirms.
pub fn confirmed_removals(database: &RedisEnterpriseActiveActiveDatabase) -> BTreeSet<&str> {
    let annotations = database.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(CONFIRM_REMOVAL))
        .map(|names| names.split(',').map(str::trim).collect())
        .unwrap_or_default()
}

/// Names of the participants of `old` that `new` does not list.
pub fn removed_participants<'a>(
    old: &'a RedisEnterpriseActiveActiveDatabase,
    new: &RedisEnterpriseActiveActiveDatabase,
) -> Vec<&'a str> {
    let stays = |name: &str| {
        new.spec
            .participating_clusters
            .iter()
            .any(|participant| participant.name == name)
    };
    old.spec
        .participating_clusters
        .iter()
        .map(|participant| participant.name.as_str())
        .filter(|name| !stays(name))
        .collect()
}

fn check_participants(check: &mut Check, database: &RedisEnterpriseActiveActiveDatabase) {
    let participants = &database.spec.participating_clusters;
    if participants.is_empty() {
        check.refuse(
            "spec.participatingClusters",
            "an empty list",
            "at least one participant",
            "list the RERC of each cluster that takes part",
        );
    }
    if participants.len() > MOST_PARTICIPANTS {
        check.refuse(
            "spec.participatingClusters",
            format!("{} participants", participants.len()),
            &format!("at most {MOST_PARTICIPANTS}"),
            "split the database",
        );
    }
    let mut seen = BTreeSet::new();
    for (n, participant) in participants.iter().enumerate() {
        let at = format!("spec.participatingClusters[{n}]");
        check.object_name(format!("{at}.name"), Some(&participant.name));
        check.port(
            format!("{at}.externalReplicationPort"),
            participant.external_replication_port,
        );
        check.namespace(format!("{at}.namespace"), participant.namespace.as_deref());
        if !seen.insert(&participant.name) {
            check.refuse(
                format!("{at}.name"),
                quoted(&participant.name),
                "each participant once",
                "remove the second entry",
            );
        }
    }
}

/// What a database may have and an Active-Active database may not.
fn check_restrictions(check: &mut Check, settings: &RedisEnterpriseDatabaseSpec) {
    let at = "spec.globalConfigurations";
    if settings.is_rof == Some(true) {
        check.refuse(
            format!("{at}.isRof"),
            true,
            "false",
            "an Active-Active database is kept in memory; remove the field and size memorySize for all data",
        );
    }
    if let Some(
        snapshot @ (Persistence::SnapshotEvery1Hour
        | Persistence::SnapshotEvery6Hour
        | Persistence::SnapshotEvery12Hour),
    ) = &settings.persistence
    {
        check.refuse(
            format!("{at}.persistence"),
            quoted(snapshot.as_str()),
            "disabled, aofEverySecond or aofAlways",
            "a region may only report writes that it cannot lose; use aofEverySecond",
        );
    }
    if !settings.replica_sources.is_empty() {
        check.refuse(
            format!("{at}.replicaSources"),
            format!("{} sources", settings.replica_sources.len()),
            "none",
            "an Active-Active database follows its participants only; remove the field",
        );
    }
    if settings.active_active.is_some() {
        check.refuse(
            format!("{at}.activeActive"),
            "an object",
            "nothing",
            "this field belongs to instances, not to the Active-Active database; remove it",
        );
    }
    if settings.memcached_sasl_secret_name.is_some() {
        check.refuse(
            format!("{at}.memcachedSaslSecretName"),
            "a Secret's name",
            "nothing",
            "an Active-Active database speaks the Redis protocol; remove the field",
        );
    }
}

/// Shards that a database without sharding cannot have.
fn check_sharding(check: &mut Check, settings: &RedisEnterpriseDatabaseSpec) {
    if settings.sharding_enabled == Some(false)
        && let Some(count) = settings.shard_count.filter(|count| *count > 1)
    {
        check.refuse(
            "spec.globalConfigurations.shardCount",
            count,
            "1, for spec.globalConfigurations.shardingEnabled is false",
            "remove one of the two fields",
        );
    }
}

/// Whether keys are spread over shards is decided at creation: no member could move its keys while others write them.
fn check_sharding_update(
    check: &mut Check,
    old: &RedisEnterpriseDatabaseSpec,
    new: &RedisEnterpriseDatabaseSpec,
) {
    let at = "spec.globalConfigurations";
    let enabled =
        |settings: &RedisEnterpriseDatabaseSpec| settings.sharding_enabled.unwrap_or(true);
    if enabled(old) != enabled(new) {
        check.refuse(
            format!("{at}.shardingEnabled"),
            enabled(new),
            &format!("{} as before", enabled(old)),
            "it is fixed at creation; create another database",
        );
    }
    if old.shard_count == Some(1)
        && let Some(count) = new.shard_count.filter(|count| *count > 1)
    {
        check.refuse(
            format!("{at}.shardCount"),
            count,
            "1 as before: a database that was created with one shard is never sharded",
            "put it back, or create another database with more shards",
        );
    }
}
