//! What a REAADB shows: the classic words and conditions. Pure.

use kube::ResourceExt as _;
use meridian_api::crds::{
    ActiveActiveInstance, DatabaseTopology, RedisEnterpriseActiveActiveDatabase,
    RedisEnterpriseActiveActiveDatabaseStatus, SpecStatus,
    active_active::{
        ActiveActiveStatus, ParticipantStatus, ReplicationStatus, SecretState, SecretStatus,
    },
    topology::{LinkState, MemberReport, TopologyMember},
};

use crate::{
    controllers::{
        failover, inert,
        serve::{
            ServeError,
            access::Access,
            fetch::World,
            racks,
            state::{Serving, entry, primary_report, refused_name, serving},
        },
    },
    k8s::{
        conditions::{Finding, conditions},
        drive::Failure as _,
        fault::Fault,
        names::DatabaseNames,
    },
};

/// What stands there.
#[derive(Debug)]
pub(super) struct Seen {
    /// The topology.
    pub(super) topology: DatabaseTopology,
    /// The world around it.
    pub(super) world: World,
}

/// What a look ended with.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// The spec cannot be used; what was there stays as it is.
    Invalid(&'a [String]),
    /// The hub has told nothing about it; what was there before, if anything, goes on.
    NoInstance(Option<&'a Seen>),
    /// It could not be made true.
    Failed(&'a ServeError),
    /// Everything is written.
    Written(&'a Seen),
    /// It goes, confirmed; this is how far its removal has come.
    Deleting(&'a Finding),
}

/// Whether it was ever served here.
pub(super) fn was_active(reaadb: &RedisEnterpriseActiveActiveDatabase) -> bool {
    reaadb
        .status
        .as_ref()
        .is_some_and(|status| !status.linked_redbs.is_empty())
}

/// The configuration that the primary's node has taken over with the present topology.
pub(super) fn acknowledged(topology: &DatabaseTopology) -> Option<i64> {
    let report = primary_report(topology)?;
    let current =
        report.epoch == topology.spec.epoch && report.generation >= topology.metadata.generation?;
    current.then_some(topology.spec.active_active.as_ref()?.config_version)
}

/// The status of `reaadb` after `outcome`; `inert` are the fields that are accepted and have no effect.
pub(super) fn status(
    reaadb: &RedisEnterpriseActiveActiveDatabase,
    instance: Option<&ActiveActiveInstance>,
    outcome: &Outcome<'_>,
    inert: &[String],
    now: &str,
) -> RedisEnterpriseActiveActiveDatabaseStatus {
    let mut next = reaadb.status.clone().unwrap_or_default();
    let before = next.conditions.clone();
    let mut findings = vec![inert::finding(inert), membership(instance)];
    findings.extend(instance.and_then(|instance| one_password(reaadb, instance)));
    let kept = |next: &RedisEnterpriseActiveActiveDatabaseStatus| {
        next.status.clone().unwrap_or(ActiveActiveStatus::Pending)
    };
    if let Some(instance) = instance {
        next.guid = Some(instance.spec.guid.clone());
        next.redis_enterprise_cluster = Some(instance.spec.cluster.clone());
    }
    secrets(&mut next, reaadb, outcome);
    next.status = Some(match outcome {
        Outcome::Invalid(problems) => {
            let text = format!("{}. What was there stays as it is", problems.join("; "));
            findings.push(Finding::no("Ready", "Invalid", text));
            if was_active(reaadb) {
                kept(&next)
            } else {
                ActiveActiveStatus::CreationFailed
            }
        }
        Outcome::NoInstance(None) => {
            findings.push(Finding::no(
                "Ready",
                "WaitsForHub",
                "this cluster has no instance yet: the hub decides that",
            ));
            ActiveActiveStatus::Pending
        }
        Outcome::NoInstance(Some(seen)) | Outcome::Written(seen) => {
            let settings = reaadb.spec.global_configurations.as_ref();
            let rack_aware = settings.and_then(|settings| settings.rack_aware);
            let nodes = &seen.world.topology.nodes;
            findings.extend(racks::finding(rack_aware, &seen.topology, nodes));
            show(&mut next, seen, &mut findings, was_active(reaadb))
        }
        Outcome::Failed(error) => {
            let fault = error.fault();
            findings.push(Finding::no("Ready", fault.reason(), error.to_string()));
            if fault == Fault::Foreign {
                findings.push(Finding::yes(
                    "ForeignObject",
                    "NameTaken",
                    error.to_string(),
                ));
            }
            after_failure(fault, was_active(reaadb))
        }
        Outcome::Deleting(told) => {
            findings.push((*told).clone());
            ActiveActiveStatus::DeletePending
        }
    });
    if reaadb.metadata.deletion_timestamp.is_some() && !matches!(outcome, Outcome::Deleting(_)) {
        findings.push(unconfirmed());
        next.status = Some(ActiveActiveStatus::DeletePending);
    }
    let invalid = matches!(outcome, Outcome::Invalid(_));
    next.spec_status = Some(if invalid {
        SpecStatus::Invalid
    } else {
        SpecStatus::Valid
    });
    next.conditions = conditions(&before, &findings, reaadb.metadata.generation, now);
    next
}

pub(super) fn unconfirmed() -> Finding {
    Finding::yes(
        "DeletionUnconfirmed",
        "WaitsForHub",
        "somebody deleted this object on this cluster; the data is kept and served until the hub confirms the deletion: \
         delete the database at the hub, which removes it on every participant",
    )
}

/// Whether one password of the default user holds in every region. No password leaves its cluster, so that is in the hands
/// of whoever makes the Secrets.
fn one_password(
    reaadb: &RedisEnterpriseActiveActiveDatabase,
    instance: &ActiveActiveInstance,
) -> Option<Finding> {
    const TYPE: &str = "OnePassword";
    let settings = reaadb.spec.global_configurations.as_ref();
    let no_user = settings.is_some_and(|settings| settings.default_user == Some(false));
    if instance.spec.members.len() < 2 || no_user {
        return None;
    }
    let named = settings.and_then(|settings| settings.database_secret_name.as_deref());
    Some(match named.filter(|name| !name.is_empty()) {
        Some(name) => Finding::unknown(
            TYPE,
            "SecretOfEachCluster",
            format!(
                "each participating cluster reads its own Secret {name:?}: give its key `password` the same value in all of \
                 them; a cluster whose Secret is missing says so in `secretsStatus`"
            ),
        ),
        None => Finding::no(
            TYPE,
            "DrawnByEachCluster",
            format!(
                "each participating cluster has drawn a password of its own, in its Secret {:?}: a client of one region is \
                 refused in another. For one password create a Secret with the key `password` and the same value in every \
                 cluster and name it in spec.globalConfigurations.databaseSecretName",
                DatabaseNames(&reaadb.name_any()).secret()
            ),
        ),
    })
}

fn membership(instance: Option<&ActiveActiveInstance>) -> Finding {
    match instance {
        Some(instance) => {
            let spec = &instance.spec;
            let text = format!(
                "instance {} of {} members, configuration {}",
                spec.instance_id,
                spec.members.len(),
                spec.config_version
            );
            Finding::yes("Member", "ToldByHub", text)
        }
        None => Finding::no(
            "Member",
            "WaitsForHub",
            "the hub has not told this cluster that it takes part: check that the agent is joined (Secret \
             meridian-join) and that the hub knows the database",
        ),
    }
}

fn after_failure(fault: Fault, served: bool) -> ActiveActiveStatus {
    match (fault, served) {
        (Fault::Waiting | Fault::Conflict | Fault::Unavailable, false) => {
            ActiveActiveStatus::Pending
        }
        (Fault::Waiting | Fault::Conflict | Fault::Unavailable, true) => {
            ActiveActiveStatus::ActiveChangePending
        }
        (Fault::Invalid | Fault::Foreign | Fault::Refused, false) => {
            ActiveActiveStatus::CreationFailed
        }
        (Fault::Invalid | Fault::Foreign | Fault::Refused, true) => ActiveActiveStatus::Error,
    }
}

fn show(
    next: &mut RedisEnterpriseActiveActiveDatabaseStatus,
    seen: &Seen,
    findings: &mut Vec<Finding>,
    served: bool,
) -> ActiveActiveStatus {
    let Seen { topology, world } = seen;
    let state = serving(topology, world);
    let members = topology
        .spec
        .active_active
        .as_ref()
        .map(|membership| membership.members.as_slice())
        .unwrap_or_default();
    let report = primary_report(topology);
    next.participating_clusters = members
        .iter()
        .map(|member| participant(member, &state, report))
        .collect();
    next.replication_status = overall(&next.participating_clusters);
    next.redis_enterprise_cluster = Some(topology.spec.cluster.clone());
    findings.push(replication(members, &next.participating_clusters, report));
    let pending = if served {
        ActiveActiveStatus::ActiveChangePending
    } else {
        ActiveActiveStatus::Pending
    };
    let (word, finding) = match state {
        Serving::Yes if world.reachable => (
            ActiveActiveStatus::Active,
            Finding::yes("Ready", "Serving", "takes writes"),
        ),
        Serving::Yes => (
            pending,
            Finding::no(
                "Ready",
                "NoEndpoint",
                "takes writes; its Services do not lead to it yet",
            ),
        ),
        Serving::Changing => (
            pending,
            Finding::yes("Ready", "Changing", "takes writes; a change is on its way"),
        ),
        Serving::No { reason, message } => (
            if served {
                ActiveActiveStatus::Error
            } else {
                pending
            },
            Finding::no("Ready", reason, message),
        ),
    };
    if word == ActiveActiveStatus::Active {
        next.linked_redbs = vec![topology.spec.database.name.clone()];
    }
    findings.push(finding);
    findings.extend(refused_name(topology));
    findings.extend(entry(topology));
    findings.extend(failover::findings(topology, None));
    findings.extend(failover::version(topology));
    findings.extend(world.access.as_ref().and_then(Access::finding));
    word
}

fn participant(
    member: &TopologyMember,
    here: &Serving,
    report: Option<&MemberReport>,
) -> ParticipantStatus {
    let serves = !matches!(here, Serving::No { .. });
    let link = report.and_then(|report| {
        report
            .links
            .iter()
            .find(|link| link.instance_id == member.instance_id)
    });
    let state = match (member.local, link) {
        (true, _) => Some(if serves {
            ReplicationStatus::Up
        } else {
            ReplicationStatus::Down
        }),
        // The report of a node that does not serve says nothing about now.
        (false, _) if !serves => None,
        (false, Some(link)) if link.state == LinkState::Up => Some(ReplicationStatus::Up),
        (false, Some(_)) => Some(ReplicationStatus::Down),
        (false, None) => None,
    };
    ParticipantStatus {
        name: member.name.clone(),
        id: Some(member.instance_id),
        replication_status: state,
    }
}

fn overall(participants: &[ParticipantStatus]) -> Option<ReplicationStatus> {
    let any_down = participants
        .iter()
        .any(|p| p.replication_status == Some(ReplicationStatus::Down));
    let all_up = participants
        .iter()
        .all(|p| p.replication_status == Some(ReplicationStatus::Up));
    match (any_down, all_up) {
        (true, _) => Some(ReplicationStatus::Down),
        (false, true) if !participants.is_empty() => Some(ReplicationStatus::Up),
        (false, _) => None,
    }
}

fn replication(
    members: &[TopologyMember],
    shown: &[ParticipantStatus],
    report: Option<&MemberReport>,
) -> Finding {
    match overall(shown) {
        Some(ReplicationStatus::Up) => Finding::yes(
            "Replicating",
            "AllUp",
            "every link from another participant is live",
        ),
        None => Finding::unknown(
            "Replicating",
            "NotReported",
            "the node has not reported every link yet",
        ),
        Some(_) => {
            let link = |member: &TopologyMember| {
                let found = report?
                    .links
                    .iter()
                    .find(|link| link.instance_id == member.instance_id)?;
                let why = found
                    .last_error
                    .as_deref()
                    .map(|error| format!(": {error}"))
                    .unwrap_or_default();
                (found.state != LinkState::Up).then(|| {
                    format!(
                        "{} is {} since {}{why}",
                        member.name, found.state, found.since
                    )
                })
            };
            let list: Vec<_> = members.iter().filter_map(link).collect();
            let text = if list.is_empty() {
                "this cluster's own shard does not serve".to_owned()
            } else {
                list.join("; ")
            };
            Finding::no("Replicating", "LinkDown", text)
        }
    }
}

/// The named Secret: valid as soon as a look got past it.
fn secrets(
    next: &mut RedisEnterpriseActiveActiveDatabaseStatus,
    reaadb: &RedisEnterpriseActiveActiveDatabase,
    outcome: &Outcome<'_>,
) {
    let named = reaadb
        .spec
        .global_configurations
        .as_ref()
        .and_then(|spec| spec.database_secret_name.clone());
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        next.secrets_status.clear();
        return;
    };
    let state = match outcome {
        Outcome::Failed(ServeError::Secret { secret, .. }) if *secret == name => {
            SecretState::Invalid
        }
        Outcome::Written(_) => SecretState::Valid,
        Outcome::Failed(_)
        | Outcome::Invalid(_)
        | Outcome::NoInstance(_)
        | Outcome::Deleting(_) => {
            return;
        }
    };
    next.secrets_status = vec![SecretStatus {
        name,
        status: Some(state),
    }];
}

#[cfg(test)]
mod tests;
