//! The status of an Active-Active database as the hub sees it. Everything that was observed carries when; what comes from a member
//! without a session, or has not been heard since this hub began, is stale and never counts as healthy.

use meridian_api::crds::active_active::{
    ActiveActiveStatus, ParticipantStatus, RedisEnterpriseActiveActiveDatabaseStatus,
    ReplicationStatus,
};
use meridian_api::crds::shared::{Condition, SpecStatus};
use meridian_api::web::{ActiveActiveDatabaseStatus, Link, Observed, Participant};

use super::answer::time;
use crate::app::breaker;
use crate::app::observed::Observation;
use crate::app::reads::{DatabaseView, MemberView, ObjectView, ParticipantView};
use crate::store::records::LinkReport;

pub(super) fn of(view: &DatabaseView) -> ActiveActiveDatabaseStatus {
    let conditions = conditions(view);
    let ready = conditions
        .iter()
        .all(|condition| condition.status == "True");
    let membership = view.membership.as_ref();
    let statuses: Vec<_> = view
        .participants
        .iter()
        .map(|participant| participant_status(view, participant))
        .collect();
    ActiveActiveDatabaseStatus {
        classic: RedisEnterpriseActiveActiveDatabaseStatus {
            status: Some(word(view, ready)),
            spec_status: Some(SpecStatus::Valid),
            guid: Some(view.database.record.guid.clone()),
            replication_status: overall(&statuses),
            participating_clusters: statuses,
            conditions,
            ..RedisEnterpriseActiveActiveDatabaseStatus::default()
        },
        participants: view
            .participants
            .iter()
            .map(|one| participant(view, one))
            .collect(),
        config_version: membership.map_or(0, |membership| membership.config_version),
        plan_number: membership.map(|membership| membership.plan_number),
        observed_generation: membership.map(|_| view.database.record.generation),
    }
}

fn word(view: &DatabaseView, ready: bool) -> ActiveActiveStatus {
    match (view.database.record.deletion.is_some(), ready) {
        (true, _) => ActiveActiveStatus::DeletePending,
        (false, true) => ActiveActiveStatus::Active,
        (false, false) => ActiveActiveStatus::Pending,
    }
}

/// Up if every participant says so now, down if one says so now, otherwise unknown.
fn overall(statuses: &[ParticipantStatus]) -> Option<ReplicationStatus> {
    if statuses
        .iter()
        .any(|one| one.replication_status == Some(ReplicationStatus::Down))
    {
        return Some(ReplicationStatus::Down);
    }
    let up = !statuses.is_empty()
        && statuses
            .iter()
            .all(|one| one.replication_status == Some(ReplicationStatus::Up));
    up.then_some(ReplicationStatus::Up)
}

fn participant_status(view: &DatabaseView, participant: &ParticipantView) -> ParticipantStatus {
    let observed = participant.database.observed.as_ref();
    let fresh = observed.is_some_and(|observed| !is_stale(participant, observed));
    ParticipantStatus {
        name: participant.name.clone(),
        id: instance_id(view, participant).and_then(|id| i64::try_from(id).ok()),
        replication_status: classic(participant)
            .filter(|_| fresh)
            .and_then(|status| status.replication_status),
    }
}

fn participant(view: &DatabaseView, participant: &ParticipantView) -> Participant {
    let ParticipantView {
        name,
        database,
        instance,
        ..
    } = participant;
    let links = [&instance.observed, &database.observed]
        .into_iter()
        .flatten()
        .find(|seen| !seen.links.is_empty());
    Participant {
        name: name.clone(),
        cluster: member(participant)
            .map(|member| member.cluster.record.name.clone())
            .unwrap_or_default(),
        instance_id: instance_id(view, participant),
        desired_revision: instance.desired.max(database.desired),
        applied_revision: [instance, database].into_iter().filter_map(applied).max(),
        message: [instance, database]
            .into_iter()
            .find_map(pending)
            .unwrap_or_default(),
        observed: classic(participant)
            .zip(database.observed.as_ref())
            .map(|(value, observed)| Observed {
                value,
                as_of: time(observed.as_of),
                stale: is_stale(participant, observed),
            }),
        links: links.map(|observed| Observed {
            value: observed.links.iter().map(link).collect(),
            as_of: time(observed.as_of),
            stale: is_stale(participant, observed),
        }),
    }
}

/// Whether it may have changed since without this hub's knowledge.
fn is_stale(participant: &ParticipantView, observed: &Observation) -> bool {
    !(observed.heard && member(participant).is_some_and(MemberView::is_connected))
}

fn member(participant: &ParticipantView) -> Option<&MemberView> {
    participant.remote.as_ref()?.member.as_deref()
}

fn instance_id(view: &DatabaseView, participant: &ParticipantView) -> Option<u64> {
    view.membership
        .as_ref()?
        .instances
        .get(&participant.name)
        .copied()
}

/// The status of the REAADB there, if it can be read.
fn classic(participant: &ParticipantView) -> Option<RedisEnterpriseActiveActiveDatabaseStatus> {
    let observed = participant.database.observed.as_ref()?;
    serde_json::from_value(observed.status.clone()).ok()
}

fn applied(object: &ObjectView) -> Option<meridian_api::ids::Revision> {
    object
        .outcome
        .as_ref()
        .filter(|outcome| outcome.result.is_done())
        .map(|outcome| outcome.revision)
}

/// Why a member has not made an object so, in words.
fn pending(object: &ObjectView) -> Option<String> {
    let outcome = object
        .outcome
        .as_ref()
        .filter(|outcome| !outcome.result.is_done())?;
    let current = object
        .desired
        .is_some_and(|desired| desired <= outcome.revision);
    current.then(|| {
        format!(
            "{}: {} (as of {})",
            outcome.code,
            outcome.message,
            time(outcome.as_of)
        )
    })
}

fn link(report: &LinkReport) -> Link {
    let LinkReport {
        instance_id,
        from,
        state,
        last_error,
        lag_ms,
        since,
    } = report.clone();
    Link {
        from,
        instance_id,
        state,
        last_error,
        lag_ms,
        since: time(since),
    }
}

/// What the hub has reached, step by step; a condition that is not true names what it waits for.
fn conditions(view: &DatabaseView) -> Vec<Condition> {
    let planned = match (
        &view.membership,
        view.participants.iter().find(|one| one.remote.is_none()),
    ) {
        (Some(_), _) => Vec::new(),
        (None, Some(missing)) => vec![format!(
            "{}: no member reports this remote cluster",
            missing.name
        )],
        (None, None) => vec!["the planner has not looked at it yet".to_owned()],
    };
    let delivered = waits(view, undelivered);
    let active = waits(view, inactive);
    let mut conditions = vec![
        condition(view, "Planned", "WaitsForPlan", &planned),
        condition(view, "Delivered", "WaitsForMembers", &delivered),
        condition(view, "Active", "WaitsForDatabases", &active),
    ];
    let frozen = waits(view, frozen);
    if view.database.record.deletion.is_some() && !frozen.is_empty() {
        conditions.push(condition(
            view,
            "DeletionGoesOn",
            "DeletionsFrozen",
            &frozen,
        ));
    }
    conditions
}

/// Why the data of a participant is not deleted now.
fn frozen(participant: &ParticipantView) -> Option<String> {
    let (scope, frozen) = member(participant)?.frozen.as_ref()?;
    Some(breaker::reason(*scope, frozen))
}

fn waits(view: &DatabaseView, why: impl Fn(&ParticipantView) -> Option<String>) -> Vec<String> {
    let waiting = view
        .participants
        .iter()
        .filter_map(|one| why(one).map(|why| format!("{}: {why}", one.name)));
    waiting.collect()
}

fn undelivered(participant: &ParticipantView) -> Option<String> {
    let behind = [&participant.instance, &participant.database]
        .into_iter()
        .find(|object| {
            let wanted = object.desired;
            wanted.is_none() || applied(object) < wanted
        })?;
    Some(match (member(participant), pending(behind)) {
        (Some(member), _) if !member.is_connected() => away(member),
        (_, Some(reason)) => reason,
        (None, None) => "no member reports this remote cluster".to_owned(),
        (Some(_), None) => "the member has not answered yet".to_owned(),
    })
}

fn inactive(participant: &ParticipantView) -> Option<String> {
    let member = member(participant)?;
    if !member.is_connected() {
        return Some(away(member));
    }
    let Some(status) = classic(participant) else {
        return Some("the member has not reported the database yet".to_owned());
    };
    match status.status {
        Some(ActiveActiveStatus::Active) => None,
        Some(other) => Some(format!(
            "the database there is {}",
            serde_json::to_value(&other).unwrap_or_default()
        )),
        None => Some("the database there has no status yet".to_owned()),
    }
}

fn away(member: &MemberView) -> String {
    match &member.presence {
        Some(edge) => format!(
            "cluster {} is unreachable since {}",
            member.cluster.record.name,
            time(edge.since)
        ),
        None => format!(
            "cluster {} never opened a session",
            member.cluster.record.name
        ),
    }
}

fn condition(view: &DatabaseView, type_: &str, waiting: &str, waits: &[String]) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if waits.is_empty() { "True" } else { "False" }.to_owned(),
        reason: if waits.is_empty() { type_ } else { waiting }.to_owned(),
        message: waits.join("; "),
        last_transition_time: String::new(),
        observed_generation: Some(view.database.record.generation),
    }
}
