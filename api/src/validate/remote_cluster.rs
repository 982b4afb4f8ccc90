//! Rules of `RedisEnterpriseRemoteCluster`.

use super::{Check, FieldError, quoted};
use crate::crds::RedisEnterpriseRemoteCluster;

/// The only name that the Secret with a remote cluster's credentials may have.
pub fn credentials_secret_name(remote_cluster: &str) -> String {
    format!("redis-enterprise-{remote_cluster}")
}

/// Rules that a remote cluster must obey.
pub fn remote_cluster(remote: &RedisEnterpriseRemoteCluster) -> Vec<FieldError> {
    let mut check = Check::default();
    let name = remote.metadata.name.as_deref();
    check.object_name("metadata.name", Some(name.unwrap_or_default()));
    check.object_name("spec.recName", Some(&remote.spec.rec_name));
    check.namespace("spec.recNamespace", Some(&remote.spec.rec_namespace));
    check.host("spec.apiFqdnUrl", &remote.spec.api_fqdn_url);
    check.port("spec.apiPort", remote.spec.api_port);
    if let Some(suffix) = &remote.spec.db_fqdn_suffix {
        check.database_suffix("spec.dbFqdnSuffix", suffix);
    }
    let expected = credentials_secret_name(name.unwrap_or_default());
    if let Some(secret) = remote.spec.secret_name.as_deref()
        && !secret.is_empty()
        && secret != expected
    {
        check.refuse(
            "spec.secretName",
            quoted(secret),
            &quoted(&expected),
            "name the Secret so, or remove the field",
        );
    }
    check.errors
}
