//! What is left out of a plan, so that what is wrong with one database holds up no other: what the independent look finds to break
//! a rule, and what the store holds but nobody can read.

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::ObjectId;

use super::check::{Breach, Culprit, breaches};
use super::{Changed, Input, Place, Plan, RERC};
use crate::domain::desired::{Action, Desired};

/// What was left out, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Databases, by name.
    pub databases: BTreeMap<String, String>,
    /// Objects that belong to no database.
    pub objects: BTreeMap<ObjectId, String>,
    /// What has to be looked at again, because nobody did what was left out.
    pub again: Changed,
}

/// Takes out of a plan what must not be carried out. The rest of it breaks no rule.
///
/// # Errors
/// A [`Breach`] of the plan as a whole.
pub fn hold_back(input: &Input, plan: &mut Plan) -> Result<LeftOut, Breach> {
    let mut held = LeftOut {
        databases: input.unreadable.databases.clone(),
        ..LeftOut::default()
    };
    for (place, why) in &input.unreadable.places {
        held.objects.insert(place.1, why.clone());
    }
    for (culprit, breach) in breaches(input, plan) {
        let why = format!("its plan breaks a rule, which is a defect of the hub: {breach}");
        match culprit {
            Culprit::Plan => return Err(breach),
            Culprit::Database(name) => drop(held.databases.entry(name).or_insert(why)),
            Culprit::Object(object) => drop(held.objects.entry(object).or_insert(why)),
        }
    }
    if held == LeftOut::default() {
        return Ok(held);
    }
    leave_out(input, plan, &mut held);
    if plan.is_empty() {
        plan.number = input.plan_number;
    }
    Ok(held)
}

fn leave_out(input: &Input, plan: &mut Plan, held: &mut LeftOut) {
    let databases = held.databases.keys();
    let databases = databases.filter_map(|name| input.databases.get(name));
    let of_databases = databases.flat_map(|it| [it.object_id, it.instance_object_id]);
    let of_databases: BTreeSet<_> = of_databases.collect();
    let left_out =
        |object: &ObjectId| of_databases.contains(object) || held.objects.contains_key(object);
    let mut again = BTreeSet::new();
    plan.memberships.retain(|object, _| !left_out(object));
    plan.forget.retain(|place| !left_out(&place.1));
    plan.tell.retain(|place, desired| {
        let keeps = !left_out(&place.1) && !is_in_use(input, (place, desired), &of_databases);
        if !keeps && desired.kind == RERC {
            again.insert((*place, desired.name.clone()));
        }
        keeps
    });
    plan.finished
        .retain(|name| !held.databases.contains_key(name));
    for (name, why) in &held.databases {
        let line = format!("is held back: {why}; nothing is changed for it, and the others go on");
        plan.report.insert(name.clone(), vec![line]);
    }
    held.again.databases.extend(held.databases.keys().cloned());
    held.again.told = again;
}

/// Whether a remote cluster would be taken away that a database which is held back may need there. What one needs that cannot be
/// read is unknown.
fn is_in_use(
    input: &Input,
    (place, desired): (&Place, &Desired),
    held: &BTreeSet<ObjectId>,
) -> bool {
    if desired.kind != RERC || !matches!(desired.action, Action::Delete { .. }) {
        return false;
    }
    let told = |object: &ObjectId| input.desired.contains_key(&(place.0, *object));
    !input.unreadable.is_empty() || held.iter().any(told)
}
