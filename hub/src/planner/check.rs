//! An independent look at a plan before it is carried out. It shares no code with the planner: it states what must never
//! happen, whatever the planner believes.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ClusterUid, ObjectId};

use super::{Input, Place, Plan};
use crate::domain::database::Database;
use crate::domain::desired::{Action, Desired};

/// A rule that a plan breaks. It is a defect of the planner: the plan is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A data-bearing object would be deleted although nobody confirmed that.
    #[error(
        "{kind} {name} would be deleted on {place:?} although no person confirmed the deletion of its database"
    )]
    Unapproved {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// Where.
        place: Place,
    },
    /// A member that is gone for good would be told something.
    #[error("{kind} {name} would be told on {place:?}, whose registration was removed")]
    ToldRemoved {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// Where.
        place: Place,
    },
    /// An object that holds data would be forgotten although its deletion was not carried out.
    #[error("the object at {0:?} would be forgotten although its tombstone is not carried out")]
    ForgottenEarly(Place),
    /// A database would be forgotten although members still hold it.
    #[error("database {0} would be forgotten although members are still told about it")]
    FinishedEarly(String),
    /// An instance id would be given twice.
    #[error("instance id {id} of database {database} is given twice, or was given before")]
    InstanceIdReused {
        /// Object id of the database.
        database: ObjectId,
        /// The id.
        id: u64,
    },
    /// A participant would be a member no more, and its writes be believed all the same.
    #[error("instance id {id} of database {database} is given up and is no ghost")]
    Unghosted {
        /// Object id of the database.
        database: ObjectId,
        /// The id.
        id: u64,
    },
    /// A config version would not rise although the membership changes.
    #[error(
        "config version {new} of database {database} is not above {old} although its membership changes"
    )]
    ConfigVersionStands {
        /// Object id of the database.
        database: ObjectId,
        /// The version before.
        old: u64,
        /// The version after.
        new: u64,
    },
    /// The plan changes something but has no number of its own.
    #[error("plan {0} changes something, and its number was given before")]
    NumberReused(u64),
}

/// What has to be left out of a plan that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// Everything.
    Plan,
    /// All of the database of this name.
    Database(String),
    /// An object that belongs to no database, wherever it is.
    Object(ObjectId),
}

/// Looks for breaches.
///
/// # Errors
/// The first [`Breach`].
pub fn check(input: &Input, plan: &Plan) -> Result<(), Breach> {
    match breaches(input, plan).into_iter().next() {
        Some((_, breach)) => Err(breach),
        None => Ok(()),
    }
}

/// All breaches, with what each is of.
#[must_use]
pub fn breaches(input: &Input, plan: &Plan) -> Vec<(Culprit, Breach)> {
    let mut found = Vec::new();
    if !plan.is_empty() && plan.number <= input.plan_number {
        found.push((Culprit::Plan, Breach::NumberReused(plan.number.0)));
    }
    let owners = owners(input);
    let of = |object: &ObjectId| match owners.get(object) {
        Some(database) => Culprit::Database(database.name.clone()),
        None => Culprit::Object(*object),
    };
    let mut note = |culprit: Culprit, checked: Result<(), Breach>| {
        found.extend(checked.err().map(|breach| (culprit, breach)));
    };
    for (place, desired) in &plan.tell {
        note(of(&place.1), check_told(input, place, desired));
        note(of(&place.1), check_deletion(input, place, desired, &owners));
    }
    for place in &plan.forget {
        note(of(&place.1), check_forgotten(input, place));
    }
    for name in &plan.finished {
        let culprit = Culprit::Database(name.clone());
        note(culprit, check_finished(input, plan, name));
    }
    for (database, membership) in &plan.memberships {
        note(of(database), check_membership(input, *database, membership));
    }
    found
}

/// Database that each data-bearing object belongs to.
fn owners(input: &Input) -> BTreeMap<ObjectId, &Database> {
    let databases = input.databases.values();
    databases
        .flat_map(|database| {
            [
                (database.object_id, database),
                (database.instance_object_id, database),
            ]
        })
        .collect()
}

fn check_told(input: &Input, place: &Place, desired: &Desired) -> Result<(), Breach> {
    if input.clusters.contains_key(&place.0) || !input.removed.contains_key(&place.0) {
        return Ok(());
    }
    Err(Breach::ToldRemoved {
        kind: desired.kind.clone(),
        name: desired.name.clone(),
        place: *place,
    })
}

/// Whether a person wants the database on this member.
fn takes_part(input: &Input, database: &Database, cluster: ClusterUid) -> bool {
    database.participants().iter().any(|participant| {
        let remote = input.remotes.get(&participant.name);
        remote.is_some_and(|remote| remote.cluster == cluster)
    })
}

fn check_deletion(
    input: &Input,
    place: &Place,
    desired: &Desired,
    owners: &BTreeMap<ObjectId, &Database>,
) -> Result<(), Breach> {
    let Action::Delete { approval, .. } = &desired.action else {
        return Ok(());
    };
    let confirmed = owners.get(&place.1).is_some_and(|database| {
        let goes = database.removals.contains_key(&place.0);
        database.deletion.is_some() || (goes && !takes_part(input, database, place.0))
    });
    if desired.data_bearing && (!confirmed || approval.is_empty()) {
        let (kind, name) = (desired.kind.clone(), desired.name.clone());
        return Err(Breach::Unapproved {
            kind,
            name,
            place: *place,
        });
    }
    Ok(())
}

fn check_forgotten(input: &Input, place: &Place) -> Result<(), Breach> {
    let carried_out = input.desired.get(place).is_some_and(|(told, revision)| {
        matches!(told.action, Action::Delete { .. }) && input.is_done(place, *revision)
    });
    let is_member = input.clusters.contains_key(&place.0);
    if carried_out || (input.removed.contains_key(&place.0) && !is_member) {
        Ok(())
    } else {
        Err(Breach::ForgottenEarly(*place))
    }
}

fn check_finished(input: &Input, plan: &Plan, name: &str) -> Result<(), Breach> {
    let Some(database) = input.databases.get(name) else {
        return Ok(());
    };
    let mine = [database.object_id, database.instance_object_id];
    let mut held = input.desired.keys().filter(|place| mine.contains(&place.1));
    if database.deletion.is_some() && held.all(|place| plan.forget.contains(place)) {
        return Ok(());
    }
    Err(Breach::FinishedEarly(name.to_owned()))
}

fn check_membership(
    input: &Input,
    database: ObjectId,
    membership: &crate::domain::database::Membership,
) -> Result<(), Breach> {
    let old = input.memberships.get(&database);
    let mut seen: BTreeSet<u64> = membership.ghosts.iter().copied().collect();
    let floor = old
        .map_or(0, |old| old.highest_instance_id)
        .max(input.instance_id_floor);
    for (name, id) in &membership.instances {
        let kept = old.is_some_and(|old| old.instances.get(name) == Some(id));
        if !seen.insert(*id) || (!kept && *id <= floor) || *id > membership.highest_instance_id {
            return Err(Breach::InstanceIdReused { database, id: *id });
        }
    }
    let kept: BTreeSet<u64> = membership.instances.values().copied().collect();
    let given_up = old.into_iter().flat_map(|old| {
        let ids = old.instances.values().chain(&old.ghosts);
        ids.filter(|id| !kept.contains(id) && !membership.ghosts.contains(id))
    });
    if let Some(id) = given_up.copied().next() {
        return Err(Breach::Unghosted { database, id });
    }
    let before = old.map_or(input.config_version_floor, |old| old.config_version);
    let moved = old
        .is_none_or(|old| old.instances != membership.instances || old.ghosts != membership.ghosts);
    if membership.config_version < before || (moved && membership.config_version == before) {
        let (old, new) = (before, membership.config_version);
        return Err(Breach::ConfigVersionStands { database, old, new });
    }
    Ok(())
}
