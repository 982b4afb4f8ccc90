//! What a REDB shows: the classic words and conditions. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use meridian_api::{
    crds::{
        DatabaseTopology, RedisEnterpriseDatabase, RedisEnterpriseDatabaseStatus, SpecStatus,
        database::{DatabaseStatus, InternalEndpoint},
    },
    login::database_number,
    version,
};

use crate::{
    controllers::{
        failover::{self, follows},
        inert,
        serve::{
            ServeError,
            access::Access,
            fetch::World,
            racks,
            state::{Serving, refused_name, serving},
        },
    },
    k8s::{
        conditions::{Finding, conditions},
        drive::Failure as _,
        fault::Fault,
    },
};

/// What a look ended with.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// The spec cannot be used; what was there stays as it is.
    Invalid(&'a [String]),
    /// It could not be made true.
    Failed(&'a ServeError),
    /// Everything is written.
    Written(&'a DatabaseTopology, &'a World),
    /// It goes; this is how far its removal has come.
    Deleting(&'a Finding),
}

/// The status of `redb` after `outcome`; `inert` are the fields that are accepted and have no effect.
pub(super) fn status(
    redb: &RedisEnterpriseDatabase,
    outcome: &Outcome<'_>,
    inert: &[String],
    now: &str,
) -> RedisEnterpriseDatabaseStatus {
    let mut next = redb.status.clone().unwrap_or_default();
    let before = next.conditions.clone();
    let mut findings = vec![inert::finding(inert)];
    let served = next.database_uid.is_some();
    next.status = Some(match outcome {
        Outcome::Invalid(problems) => {
            let text = format!("{}. What was there stays as it is", problems.join("; "));
            findings.push(Finding::no("Ready", "Invalid", text));
            if served {
                next.status.take().unwrap_or(DatabaseStatus::Active)
            } else {
                DatabaseStatus::CreationFailed
            }
        }
        Outcome::Failed(error) => {
            findings.extend(failure(error));
            if served {
                next.status.take().unwrap_or(DatabaseStatus::Pending)
            } else {
                before_first(error.fault())
            }
        }
        Outcome::Written(topology, world) => {
            show_place(&mut next, topology, &world.services);
            let (word, finding) = word(topology, world, served);
            findings.push(finding);
            findings.extend(refused_name(topology));
            if word == DatabaseStatus::Active {
                next.database_uid = Some(database_number(topology.spec.port).to_string());
                if !served {
                    next.created_time = Some(now.to_owned());
                }
            }
            findings.extend(failover::findings(topology, None));
            findings.extend(failover::version(topology));
            let nodes = &world.topology.nodes;
            findings.extend(racks::finding(redb.spec.rack_aware, topology, nodes));
            findings.extend(world.access.as_ref().and_then(Access::finding));
            next.shard_statuses = shards(topology, word == DatabaseStatus::Active);
            word
        }
        Outcome::Deleting(told) => {
            findings.push((*told).clone());
            DatabaseStatus::DeletePending
        }
    });
    let invalid = matches!(outcome, Outcome::Invalid(_));
    next.spec_status = Some(if invalid {
        SpecStatus::Invalid
    } else {
        SpecStatus::Valid
    });
    next.observed_generation = redb.metadata.generation;
    next.last_action_status = next.status.as_ref().map(|word| action(word).to_owned());
    let shown = |status: &RedisEnterpriseDatabaseStatus| {
        (status.status.clone(), status.observed_generation)
    };
    if redb.status.as_ref().map(shown) != Some(shown(&next)) {
        next.last_updated = Some(now.to_owned());
    }
    next.conditions = conditions(&before, &findings, redb.metadata.generation, now);
    next
}

/// How far the last change of the database has come.
fn action(word: &DatabaseStatus) -> &'static str {
    match word {
        DatabaseStatus::Active => "completed",
        DatabaseStatus::CreationFailed => "failed",
        DatabaseStatus::Unset
        | DatabaseStatus::Pending
        | DatabaseStatus::ActiveChangePending
        | DatabaseStatus::DeletePending
        | DatabaseStatus::ImportPending
        | DatabaseStatus::Recovery
        | DatabaseStatus::Other(_) => "running",
    }
}

/// How many shards do what they should: the primary takes writes, a replica follows it.
fn shards(topology: &DatabaseTopology, serves: bool) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    let mut count = |active| {
        let word = if active { "active" } else { "inactive" };
        *all.entry(word.to_owned()).or_insert(0) += 1;
    };
    count(serves);
    let replicas = topology
        .spec
        .shards
        .iter()
        .flat_map(|shard| &shard.replicas);
    replicas.for_each(|pod| count(follows(topology, pod)));
    all
}

/// The word of a database that was never served.
fn before_first(fault: Fault) -> DatabaseStatus {
    match fault {
        Fault::Invalid | Fault::Foreign | Fault::Refused => DatabaseStatus::CreationFailed,
        Fault::Waiting | Fault::Conflict | Fault::Unavailable => DatabaseStatus::Pending,
    }
}

fn failure(error: &ServeError) -> Vec<Finding> {
    let fault = error.fault();
    let mut all = vec![Finding::no("Ready", fault.reason(), error.to_string())];
    if fault == Fault::Foreign {
        all.push(Finding::yes(
            "ForeignObject",
            "NameTaken",
            error.to_string(),
        ));
    }
    all
}

fn word(topology: &DatabaseTopology, world: &World, served: bool) -> (DatabaseStatus, Finding) {
    match serving(topology, world) {
        Serving::Yes if world.reachable => (
            DatabaseStatus::Active,
            Finding::yes("Ready", "Serving", "takes writes"),
        ),
        Serving::Yes => {
            let finding = Finding::no(
                "Ready",
                "NoEndpoint",
                "takes writes; its Services do not lead to it yet",
            );
            (
                if served {
                    DatabaseStatus::ActiveChangePending
                } else {
                    DatabaseStatus::Pending
                },
                finding,
            )
        }
        Serving::Changing => {
            let finding = Finding::yes(
                "Ready",
                "Changing",
                "takes writes; a change of the spec is on its way",
            );
            (
                if served {
                    DatabaseStatus::ActiveChangePending
                } else {
                    DatabaseStatus::Pending
                },
                finding,
            )
        }
        Serving::No { reason, message } => {
            let finding = Finding::no("Ready", reason, message);
            (
                if served {
                    DatabaseStatus::Recovery
                } else {
                    DatabaseStatus::Pending
                },
                finding,
            )
        }
    }
}

fn show_place(
    next: &mut RedisEnterpriseDatabaseStatus,
    topology: &DatabaseTopology,
    services: &[Service],
) {
    next.redis_enterprise_cluster = Some(topology.spec.cluster.clone());
    // What nobody tells now was told before.
    next.version = version::running(topology).or(next.version.take());
    let endpoint = |service: &Service| {
        let port = service.spec.as_ref()?.ports.as_ref()?.first()?.port;
        let namespace = service.namespace()?;
        let host = format!("{}.{namespace}.svc.cluster.local", service.name_any());
        Some(InternalEndpoint {
            host: Some(host),
            port: Some(i64::from(port)),
        })
    };
    let mut all: Vec<_> = services.iter().filter_map(endpoint).collect();
    all.sort_by(|a, b| a.host.cmp(&b.host));
    next.internal_endpoints = all;
}

#[cfg(test)]
mod tests;
