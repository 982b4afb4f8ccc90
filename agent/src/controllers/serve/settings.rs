//! What a database's spec asks for, with every default in its place. Pure.

use std::collections::BTreeMap;

use meridian_api::{
    crds::{
        Persistence, RedisEnterpriseCluster, RedisEnterpriseClusterSpec,
        RedisEnterpriseDatabaseSpec,
        cluster::{MetricsConfig, UpgradePolicy},
        database::{RolePermission, ShardsPlacement, TlsMode},
        topology::{DatabaseTls, Placement},
    },
    validate::memory,
    version::{Asked, Bundle},
};

use crate::k8s::names::DatabaseNames;

/// Eviction where the field is left out (the product's default).
const EVICTION: &str = "volatile-lru";
/// The value of `proxyPolicy` under which every node takes clients.
const ALL_NODES: &str = "all-nodes";

/// The part of a database's spec that has an effect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Memory of one shard's dataset, bytes.
    pub memory_bytes: i64,
    /// Eviction policy.
    pub eviction_policy: String,
    /// Persistence as written.
    pub persistence: Persistence,
    /// Each shard has a replica.
    pub replication: bool,
    /// Client port, if asked for.
    pub port: Option<i32>,
    /// Every node takes clients and passes them on to the primary.
    pub by_every_node: bool,
    /// What is said of the places of its copies, if anything.
    pub placement: Option<Placement>,
    /// Secret of the password.
    pub password: Password,
    /// Roles with access.
    pub roles: Vec<RolePermission>,
    /// Tags; how many of them metrics show is the cluster's to say.
    pub tags: BTreeMap<String, String>,
    /// What is asked for of its version.
    pub version: Asked,
    /// What is encrypted, as far as the database itself says.
    pub encryption: Encryption,
    /// Secrets with the certificates of clients; empty: none is asked for.
    pub client_certificates: Vec<String>,
}

/// What a database says about its encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// Clients enter by TLS only.
    clients: bool,
    /// They show a certificate.
    client_certificates: bool,
    /// Replicas follow by TLS because `tlsMode` says so.
    replicas: bool,
    /// `dataInternodeEncryption`; absent: as the REC says.
    internode: Option<bool>,
}

impl Encryption {
    /// What is encrypted where the REC says `by_default` of what its nodes replicate.
    #[must_use]
    pub(crate) fn under(&self, by_default: bool) -> Option<DatabaseTls> {
        let Self {
            clients,
            client_certificates,
            replicas,
            internode,
        } = *self;
        let replicas = replicas || internode.unwrap_or(by_default);
        replicas.then_some(DatabaseTls {
            clients,
            client_certificates,
            replicas,
        })
    }
}

/// What a REC lets its databases have of what they ask for, and what they have by default.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    /// Databases give access by their own `rolesPermissions`.
    pub gives_roles: bool,
    /// Which tags metrics show.
    pub metrics: MetricsConfig,
    /// What its nodes bring to run databases with.
    pub bundle: Bundle,
    /// Which of that a database gets that asks for nothing.
    pub upgrades: Option<UpgradePolicy>,
    /// Replicas follow by TLS where their database does not say. Absent: the REC is not there, so nobody knows.
    pub encrypts: Option<bool>,
}

impl Policy {
    /// The policy of a REC; one that is gone forbids nothing and shows nothing.
    #[must_use]
    pub(crate) fn of(rec: Option<&RedisEnterpriseCluster>) -> Self {
        let spec = rec.map(|rec| &rec.spec);
        Self {
            gives_roles: spec.is_none_or(RedisEnterpriseClusterSpec::gives_roles),
            metrics: spec
                .and_then(|spec| spec.metrics_config.clone())
                .unwrap_or_default(),
            bundle: Bundle::shown(
                rec.and_then(|rec| rec.status.as_ref())
                    .map(|status| status.bundled_database_versions.as_slice())
                    .unwrap_or_default(),
            ),
            upgrades: spec.and_then(|spec| spec.redis_upgrade_policy.clone()),
            encrypts: spec.map(|spec| spec.data_internode_encryption == Some(true)),
        }
    }

    /// Whether replicas of a database that does not say follow by TLS; a REC that is gone changes nothing in `existing`.
    #[must_use]
    pub(crate) fn encrypts(&self, existing: Option<&DatabaseTls>) -> bool {
        self.encrypts
            .unwrap_or_else(|| existing.is_some_and(|tls| tls.replicas))
    }
}

/// Where the default user's password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Password {
    /// There is no default user.
    NoUser,
    /// In the Secret that we make.
    Ours(String),
    /// In a Secret that a person named.
    Named(String),
}

/// Reads the spec of the database `name`, which [`meridian_api::validate`] has accepted.
///
/// # Errors
/// A size or number that has no meaning, which validation would have refused.
pub(crate) fn read(
    spec: &RedisEnterpriseDatabaseSpec,
    name: &str,
) -> Result<Settings, Vec<String>> {
    let total = match &spec.memory_size {
        Some(text) => {
            memory::parse(text).map_err(|error| vec![format!("memorySize: `{text}` is {error}")])?
        }
        None => memory::DEFAULT_BYTES,
    };
    let replication = spec.replication.unwrap_or(false);
    let memory_bytes = i64::try_from(of_each_copy(total, replication))
        .map_err(|_| vec![format!("memorySize: {total} bytes are too many")])?;
    let port = match spec.database_port {
        Some(port) => Some(
            i32::try_from(port).map_err(|_| vec![format!("databasePort: {port} is no port")])?,
        ),
        None => None,
    };
    let password = match (spec.default_user, &spec.database_secret_name) {
        (Some(false), _) => Password::NoUser,
        (_, Some(named)) if !named.is_empty() => Password::Named(named.clone()),
        _ => Password::Ours(DatabaseNames(name).secret()),
    };
    Ok(Settings {
        memory_bytes,
        eviction_policy: spec
            .eviction_policy
            .clone()
            .unwrap_or_else(|| EVICTION.to_owned()),
        persistence: spec.persistence.clone().unwrap_or(Persistence::Disabled),
        replication,
        port,
        // The endpoints of the other policies are where the primary is: with one shard there is one.
        by_every_node: spec.proxy_policy.as_deref() == Some(ALL_NODES),
        placement: placement(spec),
        password,
        roles: spec.roles_permissions.clone(),
        tags: spec.tags.clone(),
        version: Asked::of(spec.redis_version.as_deref()),
        encryption: encryption(spec),
        client_certificates: if asks_for_certificates(spec) {
            spec.client_authentication_certificates.clone()
        } else {
            Vec::new()
        },
    })
}

/// What is left out asks for nothing: the product's default `dense` is about the shards of one database, of which there is one.
fn placement(spec: &RedisEnterpriseDatabaseSpec) -> Option<Placement> {
    let wish = Placement {
        dense: spec.shards_placement == Some(ShardsPlacement::Dense),
        any_rack: spec.rack_aware == Some(false),
    };
    (wish != Placement::default()).then_some(wish)
}

/// What one copy may hold: `memorySize` is for the database with its replicas.
fn of_each_copy(total: u64, replication: bool) -> u64 {
    if replication { total / 2 } else { total }
}

fn by_tls_only(spec: &RedisEnterpriseDatabaseSpec) -> bool {
    spec.tls_mode == Some(TlsMode::Enabled)
}

fn asks_for_certificates(spec: &RedisEnterpriseDatabaseSpec) -> bool {
    by_tls_only(spec) && !spec.client_authentication_certificates.is_empty()
}

fn encryption(spec: &RedisEnterpriseDatabaseSpec) -> Encryption {
    let clients = by_tls_only(spec);
    Encryption {
        clients,
        client_certificates: asks_for_certificates(spec),
        replicas: clients || spec.tls_mode == Some(TlsMode::ReplicaSsl),
        internode: spec.data_internode_encryption,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_size_of_a_database_is_for_all_its_copies() {
        let bytes = |replication: Option<bool>| {
            let spec = RedisEnterpriseDatabaseSpec {
                memory_size: Some("1GiB".to_owned()),
                replication,
                ..RedisEnterpriseDatabaseSpec::default()
            };
            read(&spec, "db").unwrap().memory_bytes
        };
        assert_eq!(
            [None, Some(false), Some(true)].map(bytes),
            [1 << 30, 1 << 30, 1 << 29]
        );
    }

    #[test]
    fn an_empty_spec_has_the_products_defaults() {
        assert_eq!(
            read(&RedisEnterpriseDatabaseSpec::default(), "db").unwrap(),
            Settings {
                memory_bytes: 100 << 20,
                eviction_policy: "volatile-lru".to_owned(),
                persistence: Persistence::Disabled,
                replication: false,
                port: None,
                by_every_node: false,
                placement: None,
                password: Password::Ours("redb-db".to_owned()),
                roles: Vec::new(),
                tags: BTreeMap::new(),
                version: Asked::Nothing,
                encryption: Encryption::default(),
                client_certificates: Vec::new(),
            }
        );
    }

    #[test]
    fn no_default_user_wins_over_a_named_secret() {
        let mut spec = RedisEnterpriseDatabaseSpec {
            database_secret_name: Some("s".to_owned()),
            ..Default::default()
        };
        assert_eq!(
            read(&spec, "db").unwrap().password,
            Password::Named("s".to_owned())
        );
        spec.default_user = Some(false);
        assert_eq!(read(&spec, "db").unwrap().password, Password::NoUser);
    }

    #[test]
    fn each_mode_encrypts_what_its_name_says() {
        let mode = |mode, internode: bool, certificates: &[&str]| {
            let spec = RedisEnterpriseDatabaseSpec {
                tls_mode: mode,
                data_internode_encryption: internode.then_some(true),
                client_authentication_certificates: certificates
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect(),
                ..Default::default()
            };
            let settings = read(&spec, "db").unwrap();
            let tls = settings.encryption.under(false).map(|tls| {
                assert_eq!(
                    tls.client_certificates,
                    !settings.client_certificates.is_empty()
                );
                (tls.clients, tls.client_certificates, tls.replicas)
            });
            tls.unwrap_or_default()
        };
        let cases = [
            (mode(None, false, &["s"]), (false, false, false)),
            (mode(None, true, &[]), (false, false, true)),
            (
                mode(Some(TlsMode::Disabled), false, &[]),
                (false, false, false),
            ),
            (
                mode(Some(TlsMode::ReplicaSsl), false, &["s"]),
                (false, false, true),
            ),
            (
                mode(Some(TlsMode::Enabled), false, &[]),
                (true, false, true),
            ),
            (
                mode(Some(TlsMode::Enabled), false, &["s"]),
                (true, true, true),
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn clients_enter_by_every_node_only_where_the_policy_says_so() {
        let by_every_node = |policy: Option<&str>, oss: bool| {
            let spec = RedisEnterpriseDatabaseSpec {
                proxy_policy: policy.map(str::to_owned),
                oss_cluster: Some(oss),
                ..Default::default()
            };
            read(&spec, "db").unwrap().by_every_node
        };
        for oss in [false, true] {
            for policy in [None, Some("single"), Some("all-master-shards")] {
                assert!(!by_every_node(policy, oss), "{policy:?}");
            }
            assert!(by_every_node(Some("all-nodes"), oss));
        }
    }

    #[test]
    fn replicas_follow_by_tls_where_the_cluster_says_so_and_the_database_does_not_object() {
        let rec = |default: Option<bool>| {
            let rec =
                json!({"metadata": {"name": "rec"}, "spec": {"dataInternodeEncryption": default}});
            Policy::of(Some(&serde_json::from_value(rec).unwrap()))
        };
        let found = |policy: &Policy, own: Option<bool>, existing: bool| {
            let spec = RedisEnterpriseDatabaseSpec {
                data_internode_encryption: own,
                ..Default::default()
            };
            let existing = DatabaseTls {
                replicas: existing,
                ..DatabaseTls::default()
            };
            let encryption = read(&spec, "db").unwrap().encryption;
            encryption.under(policy.encrypts(Some(&existing))).is_some()
        };
        // (the cluster's default, the database's own word, encrypted?)
        for (default, own, expected) in [
            (None, None, false),
            (Some(false), None, false),
            (Some(true), None, true),
            (Some(true), Some(false), false),
            (None, Some(true), true),
        ] {
            for existing in [false, true] {
                let found = found(&rec(default), own, existing);
                assert_eq!(found, expected, "{default:?} {own:?} {existing}");
            }
        }
        let gone = Policy::of(None);
        for existing in [false, true] {
            let found = found(&gone, None, existing);
            assert_eq!(found, existing, "a cluster that is gone changes nothing");
        }
    }

    #[test]
    fn a_size_without_meaning_is_named() {
        let spec = RedisEnterpriseDatabaseSpec {
            memory_size: Some("lots".to_owned()),
            ..Default::default()
        };
        assert!(read(&spec, "db").unwrap_err()[0].contains("lots"));
    }
}
