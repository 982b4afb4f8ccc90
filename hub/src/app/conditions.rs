//! What the hub has reached of a database, step by step, and since when. The store remembers of each step when it turned; what has
//! turned since it was looked at last counts from the moment at which it is found.

use jiff::Timestamp;
use meridian_api::crds::active_active::{
    ActiveActiveStatus, RedisEnterpriseActiveActiveDatabaseStatus,
};
use meridian_api::ids::Revision;

use super::reads::{DatabaseView, MemberView, ObjectView, ParticipantView};
use super::{App, AppError, breaker};
use crate::domain::access::grant::Scope;
use crate::store::records::{Transition, Transitions, TxnExt as _};
use crate::store::{Txn, keys};

/// Databases whose turns are stored together: each takes a check and a write, so this stays below the store's limit.
const TOGETHER: usize = 40;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody has told this process, whatever was so before it began.
    Unknown,
}

/// A condition as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is about.
    pub type_: &'static str,
    /// Whether it is so.
    pub truth: Truth,
    /// One word for machines that says why.
    pub reason: &'static str,
    /// What it waits for, or who has to be heard; empty if it is so.
    pub message: String,
    /// When that turned last.
    pub since: Timestamp,
}

impl Found {
    fn of(
        view: &DatabaseView,
        type_: &'static str,
        waiting: &'static str,
        waits: &[String],
    ) -> Self {
        let is_true = waits.is_empty();
        let known = view.transitions.0.get(type_);
        // Nothing is reached at first.
        let begin = Transition {
            is_true: false,
            since: view.database.record.created_at,
        };
        let before = known.copied().unwrap_or(begin);
        Self {
            type_,
            truth: if is_true { Truth::True } else { Truth::False },
            reason: if is_true { type_ } else { waiting },
            message: waits.join("; "),
            since: if before.is_true == is_true {
                before.since
            } else {
                view.read_at
            },
        }
    }
}

/// What the hub has reached, step by step; a condition that is not true names what it waits for.
#[must_use]
pub fn of(view: &DatabaseView) -> Vec<Found> {
    let (unplanned, planned) = unplanned(view);
    let delivered = waits(view, undelivered);
    let mut found = vec![
        Found::of(view, "Planned", unplanned, &planned),
        Found::of(view, "Delivered", "WaitsForMembers", &delivered),
        active(view),
    ];
    let held_back = waits(view, frozen);
    if view.database.record.deletion.is_some() && !held_back.is_empty() {
        let frozen = view.participants.iter().filter_map(frozen_since);
        found.push(Found {
            since: frozen.min().unwrap_or(view.read_at),
            ..Found::of(view, "DeletionGoesOn", "DeletionsFrozen", &held_back)
        });
    }
    found
}

/// Why there is no plan that could be carried out, with the reason as one word.
fn unplanned(view: &DatabaseView) -> (&'static str, Vec<String>) {
    const WAITS: &str = "WaitsForPlan";
    let held_back = view.waits.as_ref().filter(|waits| waits.held_back);
    let missing = view.participants.iter().find(|one| one.remote.is_none());
    match (held_back, &view.membership, missing) {
        (Some(waits), _, _) => ("HeldBack", waits.lines.clone()),
        (None, Some(_), _) => (WAITS, Vec::new()),
        (None, None, Some(missing)) => {
            let missing = &missing.name;
            let why = format!("{missing}: no member reports this remote cluster");
            (WAITS, vec![why])
        }
        (None, None, None) => (
            WAITS,
            vec!["the planner has not looked at it yet".to_owned()],
        ),
    }
}

/// Why the data of a participant is not deleted now.
fn frozen(participant: &ParticipantView) -> Option<String> {
    let (scope, frozen) = member(participant)?.frozen.as_ref()?;
    Some(breaker::reason(*scope, frozen))
}

fn frozen_since(participant: &ParticipantView) -> Option<Timestamp> {
    let (_, frozen) = member(participant)?.frozen.as_ref()?;
    Some(frozen.since)
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

/// Whether every participant says that the database is active there. What a member said to another process, or before its
/// session began anew, says nothing of now.
fn active(view: &DatabaseView) -> Found {
    let inactive = Found::of(view, "Active", "WaitsForDatabases", &waits(view, inactive));
    let unheard = waits(view, unheard);
    if inactive.truth == Truth::False || unheard.is_empty() {
        return inactive;
    }
    Found {
        truth: Truth::Unknown,
        reason: "NotHeardSinceStart",
        message: unheard.join("; "),
        since: view.began_at.max(view.database.record.created_at),
        ..inactive
    }
}

fn unheard(participant: &ParticipantView) -> Option<String> {
    let observed = participant.database.observed.as_ref()?;
    (!observed.heard).then(|| {
        format!(
            "the member has not said so again since its session, or this hub, began; as of {} the database there was active",
            observed.as_of
        )
    })
}

fn away(member: &MemberView) -> String {
    match &member.presence {
        Some(edge) => format!(
            "cluster {} is unreachable since {}",
            member.cluster.record.name, edge.since
        ),
        None => format!(
            "cluster {} never opened a session",
            member.cluster.record.name
        ),
    }
}

/// The member that a participant is on.
#[must_use]
pub fn member(participant: &ParticipantView) -> Option<&MemberView> {
    participant.remote.as_ref()?.member.as_deref()
}

/// The status of the REAADB there, if it can be read.
#[must_use]
pub fn classic(participant: &ParticipantView) -> Option<RedisEnterpriseActiveActiveDatabaseStatus> {
    let observed = participant.database.observed.as_ref()?;
    serde_json::from_value(observed.status.clone()).ok()
}

/// The revision of an object that its member has made so.
#[must_use]
pub fn applied(object: &ObjectView) -> Option<Revision> {
    object
        .outcome
        .as_ref()
        .filter(|outcome| outcome.result.is_done())
        .map(|outcome| outcome.revision)
}

/// Why a member has not made an object so, in words.
#[must_use]
pub fn pending(object: &ObjectView) -> Option<String> {
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
            outcome.code, outcome.message, outcome.as_of
        )
    })
}

/// What the store has to remember, if that is another thing than it does.
fn turned(view: &DatabaseView) -> Option<Transitions> {
    let mut now = view.transitions.clone();
    for Found {
        type_,
        truth,
        since,
        ..
    } in of(view)
    {
        // What is unknown has not turned.
        let is_true = match truth {
            Truth::True => true,
            Truth::False => false,
            Truth::Unknown => continue,
        };
        let known = now.0.get(type_);
        if known.map_or(is_true, |known| known.is_true != is_true) {
            now.0
                .insert(type_.to_owned(), Transition { is_true, since });
        }
    }
    (now != view.transitions).then_some(now)
}

impl App {
    /// Remembers what has turned since it was looked at last; tells of how many databases something has.
    ///
    /// # Errors
    /// [`AppError::Store`].
    pub async fn note_turns(&self) -> Result<usize, AppError> {
        let views = self.database_views(&Scope::all()).await?.value;
        let turned: Vec<_> = views
            .iter()
            .filter_map(|view| Some((view, turned(view)?)))
            .collect();
        for together in turned.chunks(TOGETHER) {
            let mut txn = Txn::new();
            for (view, transitions) in together {
                let key = keys::transitions(view.database.record.object_id);
                // Of a database that is gone nothing is remembered.
                txn = txn
                    .unchanged(&view.database)
                    .put_record(&key, transitions)?;
            }
            self.commit(txn).await?;
        }
        Ok(turned.len())
    }
}

#[cfg(test)]
mod tests;
