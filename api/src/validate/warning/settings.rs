//! What is said of settings whose effect depends on their value, or on others.

use super::walk::walk;
use super::{DATABASE, Warning};
use crate::crds::{RedisEnterpriseDatabaseSpec, database::TlsMode};

/// The settings that databases and Active-Active databases share; `at` is where they stand in the object.
pub(super) fn settings_warnings(at: &str, spec: &RedisEnterpriseDatabaseSpec) -> Vec<Warning> {
    let mut warnings = walk(&DATABASE, at, spec);
    let field = format!("{at}.shardCount");
    let told = warnings.iter_mut().find(|warning| warning.field == field);
    if let (Some(told), Some(count)) = (told, spec.shard_count) {
        told.message = format!("served by 1 shard of {count}: databases have one shard for now");
    }
    warnings.extend(certificates(at, spec));
    warnings
}

/// What only an Active-Active database is told.
pub(super) fn of_an_instance(at: &str, spec: &RedisEnterpriseDatabaseSpec) -> Option<Warning> {
    let named = spec
        .database_secret_name
        .as_ref()
        .is_some_and(|name| !name.is_empty());
    (!named && spec.default_user != Some(false)).then(|| Warning {
        field: format!("{at}.databaseSecretName"),
        message: "not set: every participating cluster draws a password of its own into its Secret redb-<name>. For one password \
                  everywhere create a Secret with the key `password` in each cluster and name it here"
            .to_owned(),
    })
}

fn certificates(at: &str, spec: &RedisEnterpriseDatabaseSpec) -> Option<Warning> {
    let by_tls = spec.tls_mode == Some(TlsMode::Enabled);
    (!by_tls && !spec.client_authentication_certificates.is_empty()).then(|| Warning {
        field: format!("{at}.clientAuthenticationCertificates"),
        message: "client certificates are NOT asked for: that needs tlsMode: enabled".to_owned(),
    })
}
