//! `/api/v1/clusters`: the members.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use meridian_api::crds::shared::Condition;
use meridian_api::link::clock::WARNED_MS;
use meridian_api::web::{
    API_VERSION, Certificate, ClockDifference, Cluster, ClusterSpec, ClusterStatus, Connection,
    Metadata, Observed, Rec,
};

use super::answer::{self, Failure, time};
use super::kinds::{Kind, Listed};
use super::params::Params;
use super::sent::Name;
use super::watch::Reading;
use super::{WebState, kinds, watch};
use crate::app::clocks::Measured;
use crate::app::reads::MemberView;
use crate::app::{App, breaker};
use crate::domain::abilities::TooOld;
use crate::domain::breaker::{Frozen, Scope};
use crate::domain::cluster;
use crate::domain::denial::Denial;
use crate::store::Read;

pub(super) const KIND: &str = "Cluster";

/// All members, as they are shown.
pub(super) async fn listed(app: &App) -> Result<Read<Vec<Listed>>, Failure> {
    let Read { value, revision } = app.member_views().await?;
    let listed = |view: &Arc<MemberView>| {
        Ok::<_, Failure>(Listed {
            name: view.cluster.record.name.clone(),
            created: view.cluster.created,
            newest: view.newest,
            project: None,
            parts: Vec::new(),
            body: kinds::shown(&body(view))?,
        })
    };
    let value = value.iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Read { value, revision })
}

pub(super) async fn list(
    State(state): State<WebState>,
    reading: Reading,
) -> Result<Response, Failure> {
    Kind::Cluster.list(&state, reading).await
}

pub(super) async fn get(
    State(state): State<WebState>,
    Name(name): Name,
    reading: Reading,
) -> Result<Response, Failure> {
    if let Some(wish) = reading.watch {
        return watch::serve(&state, Kind::Cluster, Some(name), wish).await;
    }
    answer::object(StatusCode::OK, &reading.params, &one(&state, &name).await?)
}

/// Removes the registration. Nothing on the member is touched.
pub(super) async fn delete(
    State(state): State<WebState>,
    Name(name): Name,
    params: Params,
) -> Result<Response, Failure> {
    params.agrees(&name)?;
    let manner = params.manner();
    state.app.remove_cluster(&name, &manner).await?;
    if manner.dry_run {
        return answer::object(StatusCode::OK, &params, &one(&state, &name).await?);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn one(state: &WebState, name: &str) -> Result<Cluster, Failure> {
    let view = state.app.member_view(name).await?;
    let view = answer::only("cluster", name, view)?;
    Ok(body(&view))
}

fn body(view: &MemberView) -> Cluster {
    let known = &view.cluster.record;
    Cluster {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata {
            name: known.name.clone(),
            uid: Some(known.uid.to_string()),
            resource_version: Some(view.cluster.modified.to_string()),
            creation_timestamp: Some(time(known.joined_at)),
            ..Metadata::default()
        },
        spec: ClusterSpec {},
        status: Some(ClusterStatus {
            uid: known.uid,
            state: connection(view),
            since: view.presence.as_ref().map(|edge| time(edge.since)),
            agent_version: known.agent_version.clone(),
            recs: view.recs.as_ref().map(|inventory| Observed {
                value: inventory.recs.iter().map(rec).collect(),
                as_of: time(inventory.as_of),
                stale: !view.is_connected(),
            }),
            clock: view.clock.map(|clock| Observed {
                value: ClockDifference {
                    ahead_ms: clock.skew.ahead_ms,
                    uncertainty_ms: clock.skew.trip_ms / 2,
                },
                as_of: time(clock.as_of),
                stale: !view.is_connected(),
            }),
            certificates: known.certificates.iter().map(certificate).collect(),
            conditions: conditions(view),
        }),
    }
}

fn certificate(known: &cluster::Certificate) -> Certificate {
    Certificate {
        serial: known.serial.to_string(),
        ends_at: time(known.ends_at),
    }
}

fn conditions(view: &MemberView) -> Vec<Condition> {
    let denied = view.denied.iter().map(denied);
    let frozen = view.frozen.iter();
    denied
        .chain(frozen.map(|(scope, why)| frozen_condition(*scope, why)))
        .chain(view.clock.and_then(skewed))
        .chain(view.cluster.record.too_old.iter().map(too_old))
        .collect()
}

/// What is said of a member whose agent is too old for this hub.
fn too_old(known: &TooOld) -> Condition {
    Condition {
        type_: "AgentTooOld".to_owned(),
        status: "True".to_owned(),
        reason: "UpgradeAgent".to_owned(),
        message: known.why.clone(),
        last_transition_time: time(known.since),
        observed_generation: None,
    }
}

/// What is said of a member whose clock is far from the hub's. A member that is away may have been set right.
fn skewed(clock: Measured) -> Option<Condition> {
    let (since, ahead_ms) = (clock.warned_since?, clock.skew.ahead_ms);
    let (reason, way) = if ahead_ms > 0 {
        ("AheadOfHub", "ahead of")
    } else {
        ("BehindHub", "behind")
    };
    let seconds = ahead_ms.saturating_abs() / 1_000;
    Some(Condition {
        type_: "ClockSkewed".to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: format!(
            "the clock of its agent's machine was {seconds} s {way} the hub's at its last heartbeat, more than {} s: set both by NTP.              The hub decides nothing by it, but certificates live by the clock of who checks them, and times that the member              writes are wrong",
            WARNED_MS / 1_000
        ),
        last_transition_time: time(since),
        observed_generation: None,
    })
}

/// What is said of a member whose data is not deleted. It names no database: every project sees it.
fn frozen_condition(scope: Scope, frozen: &Frozen) -> Condition {
    Condition {
        type_: "DeletionsFrozen".to_owned(),
        status: "True".to_owned(),
        reason: match scope {
            Scope::Fleet => "TooManyInFleet",
            Scope::Cluster(_) => "TooManyInCluster",
        }
        .to_owned(),
        message: breaker::reason(scope, frozen),
        last_transition_time: time(frozen.since),
        observed_generation: None,
    }
}

/// What is said of a member that is let in no more.
fn denied(denial: &Denial) -> Condition {
    let (type_, reason) = if denial.quarantine {
        ("Quarantined", "TwoDevicesOneIdentity")
    } else {
        ("Denied", "DeniedByPerson")
    };
    Condition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: format!("{} (by {})", denial.reason, denial.by),
        last_transition_time: time(denial.since),
        observed_generation: None,
    }
}

pub(super) fn connection(view: &MemberView) -> Connection {
    match view.presence.as_ref().map(|edge| edge.presence) {
        Some(cluster::Presence::Connected) => Connection::Connected,
        Some(cluster::Presence::Unreachable) => Connection::Unreachable,
        None => Connection::Never,
    }
}

pub(super) fn rec(rec: &cluster::Rec) -> Rec {
    let cluster::Rec {
        namespace,
        name,
        uid,
        replication_address,
        suffix,
        state,
        ..
    } = rec.clone();
    Rec {
        namespace,
        name,
        uid,
        state,
        replication_address,
        suffix,
    }
}
