//! Tags of a database: words of its owner, beside those that the product writes itself.

use super::{Check, quoted};
use crate::crds::RedisEnterpriseDatabaseSpec;

/// Longest key, in characters.
const LONGEST_KEY: usize = 64;

/// Keys that the product writes on every database.
pub(super) const DATABASE: &[&str] = &[
    "managed_by",
    "redb_name",
    "redb_namespace",
    "db_service_port",
    "oss_cluster_access",
];

/// Keys that the product writes on an Active-Active database, those of every database among them.
pub(super) const ACTIVE_ACTIVE: &[&str] = &[
    "managed_by",
    "redb_name",
    "redb_namespace",
    "db_service_port",
    "oss_cluster_access",
    "redb_resource",
    "redb_resource_name",
    "global_configurations_spec",
    "replication_endpoint_port",
    "rerc_name",
    "redis.io/db-sec-name",
    "redis.io/db-sec-latest",
    "redis.io/certs-latest",
    "redis.io/bu-sec-name",
    "redis.io/bu-sec-latest",
];

/// Refuses keys that are reserved, empty or too long.
pub(super) fn check(
    check: &mut Check,
    at: &str,
    spec: &RedisEnterpriseDatabaseSpec,
    reserved: &[&str],
) {
    for key in spec.tags.keys() {
        let field = format!("{at}.tags[{key}]");
        if reserved.iter().any(|word| word.eq_ignore_ascii_case(key)) {
            check.refuse(
                field,
                quoted(key),
                "a key that the product does not write itself",
                "choose another key",
            );
        } else if key.is_empty() || key.chars().count() > LONGEST_KEY {
            check.refuse(
                field,
                format!("a key of {} characters", key.chars().count()),
                &format!("a key of 1 to {LONGEST_KEY} characters"),
                "shorten the key, or remove it",
            );
        }
    }
}
