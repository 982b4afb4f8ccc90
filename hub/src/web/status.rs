//! The status of an Active-Active database as the hub sees it. Everything that was observed carries when; what comes from a member
//! without a session, or has not been heard since this hub began, is stale and never counts as healthy.

use meridian_api::crds::active_active::{
    ActiveActiveStatus, ParticipantStatus, RedisEnterpriseActiveActiveDatabaseStatus,
    ReplicationStatus,
};
use meridian_api::crds::shared::{Condition, SpecStatus};
use meridian_api::web::{ActiveActiveDatabaseStatus, Link, Observed, Participant};

use super::answer::time;
use crate::app::conditions::{self, Found, Truth, applied, classic, member, pending};
use crate::app::observed::Observation;
use crate::app::reads::{DatabaseView, MemberView, ParticipantView};
use crate::store::records::LinkReport;

pub(super) fn of(view: &DatabaseView) -> ActiveActiveDatabaseStatus {
    let conditions: Vec<_> = conditions::of(view)
        .into_iter()
        .map(|found| condition(view, found))
        .collect();
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
        waits_for: view
            .waits
            .as_ref()
            .map_or_else(Vec::new, |it| it.lines.clone()),
        waits_since: view.waits.as_ref().map(|it| time(it.since)),
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

fn instance_id(view: &DatabaseView, participant: &ParticipantView) -> Option<u64> {
    view.membership
        .as_ref()?
        .instances
        .get(&participant.name)
        .copied()
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

fn condition(view: &DatabaseView, found: Found) -> Condition {
    Condition {
        type_: found.type_.to_owned(),
        status: match found.truth {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
        .to_owned(),
        reason: found.reason.to_owned(),
        message: found.message,
        last_transition_time: time(found.since),
        observed_generation: Some(view.database.record.generation),
    }
}
