//! Rules that need other objects: names and ports that are taken, references that lead nowhere, remote clusters in use.
//!
//! Whoever calls these has looked around first ([`Surroundings`]); the rules themselves are pure. An update is judged by
//! what it adds: a Secret that went away later does not keep its database from being changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    Check, FieldError, Warning,
    active_active::{confirmed_removals, removed_participants},
    quoted,
};
use crate::crds::{
    RedisEnterpriseActiveActiveDatabase, RedisEnterpriseDatabase, RedisEnterpriseDatabaseSpec,
    shared::ClusterReference,
};
use crate::version::{Asked, Bundle};

/// Names of modules that users of the public product know. They are not loaded, and a warning says so.
const KNOWN_MODULES: &[&str] = &["ReJSON", "bf", "search", "timeseries"];

/// Where the settings of an Active-Active database stand.
const INSTANCE: &str = "spec.globalConfigurations";

/// Kind and place of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A database that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// What and where it is.
    pub place: Place,
    /// The REC that serves it, if that is known.
    pub cluster: Option<String>,
    /// The client ports that it asks for or was given.
    pub ports: BTreeSet<i64>,
}

/// What is there beside the object that is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Every database (REDB and REAADB) that the agent serves.
    pub databases: Vec<Neighbour>,
    /// The RECs by name, and whether each lets databases give access by their own `rolesPermissions`.
    pub gives_roles: BTreeMap<String, bool>,
    /// What the nodes of each REC bring to run databases with, by its name.
    pub bundles: BTreeMap<String, Bundle>,
    /// Modules that the RECs bring themselves, by name.
    pub own_modules: BTreeSet<String>,
    /// Names of the RERCs, and whether each is this cluster's own.
    pub remote_clusters: BTreeMap<String, bool>,
    /// Those of the Secrets named by the object that exist.
    pub secrets: BTreeSet<String>,
    /// The cluster has joined a hub, which brings the RERCs that a database needs.
    pub joined: bool,
}

/// Rules about a database among others; `old` is what it was before a change.
#[must_use]
pub fn database_among(
    old: Option<&RedisEnterpriseDatabase>,
    new: &RedisEnterpriseDatabase,
    around: &Surroundings,
) -> Vec<FieldError> {
    let mut check = Check::default();
    let me = place("RedisEnterpriseDatabase", &new.metadata);
    if old.is_none() {
        check_name_is_free(&mut check, &me, around);
    }
    let settings = Change {
        at: "spec",
        old: old.map(|old| &old.spec),
        new: &new.spec,
    };
    let cluster = named(new.spec.redis_enterprise_cluster.as_ref());
    check_port_is_free(&mut check, &me, cluster, &settings, around);
    check_roles(&mut check, &me, cluster, &settings, around);
    check_version(&mut check, &me, cluster, &settings, around);
    check_modules(&mut check, &settings, around);
    check.errors
}

/// Rules about an Active-Active database among others; `old` is what it was before a change.
#[must_use]
pub fn active_active_database_among(
    old: Option<&RedisEnterpriseActiveActiveDatabase>,
    new: &RedisEnterpriseActiveActiveDatabase,
    around: &Surroundings,
) -> Vec<FieldError> {
    let mut check = Check::default();
    let me = place("RedisEnterpriseActiveActiveDatabase", &new.metadata);
    if old.is_none() {
        check_name_is_free(&mut check, &me, around);
    }
    if !around.joined {
        for (field, name) in absent_participants(old, new, around) {
            check.refuse(
                field,
                quoted(name),
                "the name of a RERC of this namespace",
                "create that RedisEnterpriseRemoteCluster first, or correct the name: `kubectl get rerc` lists them",
            );
        }
    }
    if let Some(old) = old {
        check_local_stays(&mut check, old, new, around);
    }
    let empty = RedisEnterpriseDatabaseSpec::default();
    if let Some(settings) = &new.spec.global_configurations {
        let settings = Change {
            at: INSTANCE,
            old: old.map(|old| old.spec.global_configurations.as_ref().unwrap_or(&empty)),
            new: settings,
        };
        let cluster = named(new.spec.redis_enterprise_cluster.as_ref());
        check_port_is_free(&mut check, &me, cluster, &settings, around);
        check_roles(&mut check, &me, cluster, &settings, around);
        check_version(&mut check, &me, cluster, &settings, around);
        check_modules(&mut check, &settings, around);
        check_secrets(&mut check, &settings, around);
    }
    check.errors
}

/// What should be known about an Active-Active database among others, though it is accepted.
#[must_use]
pub fn active_active_database_among_warnings(
    old: Option<&RedisEnterpriseActiveActiveDatabase>,
    new: &RedisEnterpriseActiveActiveDatabase,
    around: &Surroundings,
) -> Vec<Warning> {
    if !around.joined {
        return Vec::new();
    }
    let absent = absent_participants(old, new, around);
    absent
        .into_iter()
        .map(|(field, name)| Warning {
            field,
            message: format!(
                "no RERC {name:?} here yet: the hub brings it, or refuses the database if it does not know the name"
            ),
        })
        .collect()
}

/// The Secrets that settings name, with the fields that name them.
#[must_use]
pub fn secrets_named(at: &str, spec: &RedisEnterpriseDatabaseSpec) -> Vec<(String, String)> {
    let mut named: Vec<(String, &str)> = Vec::new();
    if let Some(name) = &spec.database_secret_name {
        named.push((format!("{at}.databaseSecretName"), name));
    }
    for (n, name) in spec.client_authentication_certificates.iter().enumerate() {
        named.push((format!("{at}.clientAuthenticationCertificates[{n}]"), name));
    }
    if let Some(backup) = &spec.backup {
        let targets = [
            (
                "abs.absSecretName",
                backup.abs.as_ref().map(|b| &b.abs_secret_name),
            ),
            (
                "gcs.gcsSecretName",
                backup.gcs.as_ref().map(|b| &b.gcs_secret_name),
            ),
            (
                "s3.awsSecretName",
                backup.s3.as_ref().map(|b| &b.aws_secret_name),
            ),
            (
                "sftp.sftpSecretName",
                backup.sftp.as_ref().map(|b| &b.sftp_secret_name),
            ),
            (
                "swift.swiftSecretName",
                backup.swift.as_ref().map(|b| &b.swift_secret_name),
            ),
        ];
        for (field, name) in targets {
            if let Some(name) = name {
                named.push((format!("{at}.backup.{field}"), name));
            }
        }
    }
    named
        .into_iter()
        .filter(|(_, name)| !name.is_empty())
        .map(|(field, name)| (field, name.to_owned()))
        .collect()
}

/// Settings, where they stand, and what they were.
struct Change<'a> {
    at: &'static str,
    old: Option<&'a RedisEnterpriseDatabaseSpec>,
    new: &'a RedisEnterpriseDatabaseSpec,
}

fn place(kind: &str, meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Place {
    Place {
        kind: kind.to_owned(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn named(reference: Option<&ClusterReference>) -> Option<&str> {
    reference
        .map(|reference| reference.name.as_str())
        .filter(|name| !name.is_empty())
}

/// Services, topologies and passwords are found by the database's name, so it stands for one database only.
fn check_name_is_free(check: &mut Check, me: &Place, around: &Surroundings) {
    let taken = around
        .databases
        .iter()
        .find(|other| other.place.name == me.name && other.place != *me);
    if let Some(other) = taken {
        check.refuse(
            "metadata.name",
            quoted(&me.name),
            &format!("a name that no other database has; {} has it", other.place),
            "choose another name",
        );
    }
}

fn check_port_is_free(
    check: &mut Check,
    me: &Place,
    cluster: Option<&str>,
    settings: &Change<'_>,
    around: &Surroundings,
) {
    let Some(port) = settings.new.database_port else {
        return;
    };
    if settings
        .old
        .is_some_and(|old| old.database_port == Some(port))
    {
        return;
    }
    let taken = around.databases.iter().find(|other| {
        // Where it is not known which REC serves either of them, it may well be the same.
        let same = cluster.is_none_or(|mine| other.cluster.as_ref().is_none_or(|c| c == mine));
        other.place != *me && same && other.ports.contains(&port)
    });
    if let Some(other) = taken {
        check.refuse(
            format!("{}.databasePort", settings.at),
            port,
            &format!(
                "a port that no other database of the cluster has; {} has it",
                other.place
            ),
            "choose another port from 10000 to 19999, or remove the field to be given one",
        );
    }
}

/// A cluster may keep to itself who is given access. Where it is not known which one serves the database, one that gives roles
/// may well be the one.
fn check_roles(
    check: &mut Check,
    me: &Place,
    cluster: Option<&str>,
    settings: &Change<'_>,
    around: &Surroundings,
) {
    let served = around.databases.iter().find(|other| other.place == *me);
    let cluster = cluster.or_else(|| served?.cluster.as_deref());
    let gives = match cluster {
        Some(cluster) => around.gives_roles.get(cluster).copied().unwrap_or(true),
        None => around.gives_roles.is_empty() || around.gives_roles.values().any(|gives| *gives),
    };
    let had = |entry| {
        settings
            .old
            .is_some_and(|old| old.roles_permissions.contains(entry))
    };
    let added = settings
        .new
        .roles_permissions
        .iter()
        .filter(|entry| !had(entry));
    let roles: Vec<&str> = added.map(|entry| entry.role.as_str()).collect();
    if !gives && !roles.is_empty() {
        check.refuse(
            format!("{}.rolesPermissions", settings.at),
            format!("entries of the roles {}", roles.join(", ")),
            &format!(
                "nothing new while spec.accessControl.policy.allowREDBRolesPermissions of the cluster (REC) {} is false",
                cluster.unwrap_or("of this namespace")
            ),
            "remove them, or have the cluster's owner set allowREDBRolesPermissions to true",
        );
    }
}

/// A version above everything that the nodes bring would wait for ever. A cluster of which nothing is known yet may bring it.
fn check_version(
    check: &mut Check,
    me: &Place,
    cluster: Option<&str>,
    settings: &Change<'_>,
    around: &Surroundings,
) {
    let asked = |spec: &RedisEnterpriseDatabaseSpec| Asked::of(spec.redis_version.as_deref());
    let Asked::Least(least) = asked(settings.new) else {
        return;
    };
    if settings.old.map(asked) == Some(Asked::Least(least)) {
        return;
    }
    let served = around.databases.iter().find(|other| other.place == *me);
    let cluster = cluster.or_else(|| served?.cluster.as_deref());
    let bundle = match cluster {
        Some(cluster) => around.bundles.get(cluster),
        None if around.bundles.len() == 1 => around.bundles.values().next(),
        None => None,
    };
    let Some(bundle) = bundle else { return };
    let bundle = if settings.at == INSTANCE {
        bundle.clone().for_active_active()
    } else {
        bundle.clone()
    };
    if !bundle.is_empty() && bundle.at_least(least).is_none() {
        check.refuse(
            format!("{}.redisVersion", settings.at),
            quoted(settings.new.redis_version.as_deref().unwrap_or_default()),
            &format!("one that the nodes of the cluster bring ({bundle}), or a lower one"),
            "choose one of these, or raise the version of the cluster (REC) first",
        );
    }
}

fn check_modules(check: &mut Check, settings: &Change<'_>, around: &Surroundings) {
    let had = |name: &str| {
        let old = settings.old.iter().flat_map(|old| &old.modules_list);
        old.into_iter().any(|module| module.name == name)
    };
    for (n, module) in settings.new.modules_list.iter().enumerate() {
        let known = KNOWN_MODULES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(&module.name));
        let name = module.name.as_str();
        if name.is_empty() || known || around.own_modules.contains(name) || had(name) {
            continue;
        }
        let own = around.own_modules.iter().map(String::as_str);
        let all: Vec<&str> = KNOWN_MODULES.iter().copied().chain(own).collect();
        check.refuse(
            format!("{}.modulesList[{n}].name", settings.at),
            quoted(name),
            &format!("one of {}", all.join(", ")),
            "correct the name, or list the module in userDefinedModules of the cluster (REC) first",
        );
    }
}

fn check_secrets(check: &mut Check, settings: &Change<'_>, around: &Surroundings) {
    let had: BTreeSet<String> = settings
        .old
        .iter()
        .flat_map(|old| secrets_named(settings.at, old))
        .map(|(_, name)| name)
        .collect();
    for (field, name) in secrets_named(settings.at, settings.new) {
        if !around.secrets.contains(&name) && !had.contains(&name) {
            check.refuse(
                field,
                quoted(&name),
                "the name of a Secret of this namespace",
                "create the Secret first, here and in the namespace of every other participant: Secrets are not distributed",
            );
        }
    }
}

fn absent_participants<'a>(
    old: Option<&RedisEnterpriseActiveActiveDatabase>,
    new: &'a RedisEnterpriseActiveActiveDatabase,
    around: &Surroundings,
) -> Vec<(String, &'a str)> {
    let had = |name: &str| {
        let old = old.iter().flat_map(|old| &old.spec.participating_clusters);
        old.into_iter().any(|participant| participant.name == name)
    };
    let participants = new.spec.participating_clusters.iter().enumerate();
    participants
        .map(|(n, participant)| (n, participant.name.as_str()))
        .filter(|(_, name)| !around.remote_clusters.contains_key(*name) && !had(name))
        .map(|(n, name)| (format!("spec.participatingClusters[{n}].name"), name))
        .collect()
}

/// Whoever removes the cluster that they speak to loses sight of the database, and this cluster its data.
fn check_local_stays(
    check: &mut Check,
    old: &RedisEnterpriseActiveActiveDatabase,
    new: &RedisEnterpriseActiveActiveDatabase,
    around: &Surroundings,
) {
    let confirmed = confirmed_removals(new);
    let local = |name: &&str| around.remote_clusters.get(*name) == Some(&true);
    for name in removed_participants(old, new).into_iter().filter(local) {
        if !confirmed.contains(name) {
            check.refuse(
                "spec.participatingClusters",
                format!("a list without {name}, which is this very cluster"),
                "a list with it",
                &format!(
                    "put it back, or set the annotation {} to {name:?}: the data of this cluster's instance is deleted then",
                    super::CONFIRM_REMOVAL
                ),
            );
        }
    }
}
