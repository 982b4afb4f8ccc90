//! The steps of an Active-Active database: allocate its membership, tell every participant, and, once a person
//! confirmed its deletion, take it away from every participant in order (database, then instance, then remote clusters).

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::ObjectId;

use super::needs::{Needs, OfDatabase};
use super::objects::{self, Member, cluster_name};
use super::participants::{self, Standing};
use super::{Input, Place, Plan, tail};
use crate::domain::database::{Database, Membership};
use crate::domain::desired::{Action, Desired, Told};

pub(super) fn plan_one(
    input: &Input,
    database: &Database,
    plan: &mut Plan,
    needed: &mut OfDatabase,
) {
    let lines = if database.deletion.is_some() {
        plan_deletion(input, database, plan, needed)
    } else {
        plan_existence(input, database, plan, needed)
    };
    plan.report.insert(database.name.clone(), lines);
}

fn plan_existence(
    input: &Input,
    database: &Database,
    plan: &mut Plan,
    needed: &mut OfDatabase,
) -> Vec<String> {
    let mut standing = Standing::of(input, database);
    let mut lines = std::mem::take(&mut standing.lines);
    if !standing.unknown.is_empty() {
        keep_needs(input, database, needed);
        lines.push(format!(
            "waits for the remote clusters {}: no member reports them",
            standing.unknown.join(", ")
        ));
        return lines;
    }
    lines.extend(plan_leaving(input, database, &standing, plan, needed));
    let old = input.memberships.get(&database.object_id);
    if old.is_none() && standing.members.is_empty() {
        return lines;
    }
    let mut membership = allocate(input, old, &standing);
    let built = build(input, database, &membership, &standing);
    let changes = |built: &BTreeMap<Place, Desired>| {
        built
            .iter()
            .any(|(place, desired)| differs(input, place, desired))
    };
    if old != Some(&membership) || changes(&built) {
        note_homes(&mut membership, &standing);
        (membership.store_id, membership.hub_term) = input.reign;
        membership.plan_number = plan.number;
        for (place, desired) in build(input, database, &membership, &standing) {
            if differs(input, &place, &desired) {
                plan.tell.insert(place, desired);
            }
        }
        plan.memberships.insert(database.object_id, membership);
    }
    let all: Vec<_> = everybody(&standing).collect();
    for of in &all {
        for member in &all {
            let need = (of.remote.cluster, member.remote.name.clone());
            needed.remotes.insert(need, of.remote.namespace.clone());
        }
    }
    let lacking = standing.members.iter();
    lines.extend(
        lacking
            .filter(|member| member.lacks_endpoint(&database.name))
            .map(|member| {
                format!(
                    "waits for {}: its REC has reported no replication address",
                    member.remote.name
                )
            }),
    );
    lines
}

/// Those from which everybody reads: who takes part, and who has not gone yet.
fn everybody<'s, 'a>(standing: &'s Standing<'a>) -> impl Iterator<Item = &'s Member<'a>> {
    let leaving = standing.leaving.iter();
    let leaving = leaving.filter_map(|one| one.member.as_ref());
    standing.members.iter().chain(leaving)
}

/// Takes the data of a participant away on its member alone, in the order of a deletion, once a person confirmed it and those that
/// stay have read it; the others are told when it is gone. Returns what that waits for.
fn plan_leaving(
    input: &Input,
    database: &Database,
    standing: &Standing<'_>,
    plan: &mut Plan,
    needed: &mut OfDatabase,
) -> Vec<String> {
    needed.waits |= !standing.leaving.is_empty();
    let mut lines = Vec::new();
    for leaving in &standing.leaving {
        let Some(confirmed) = database.removals.get(&leaving.home) else {
            continue;
        };
        // Who confirmed that cannot have meant the data of who is wanted there now.
        if participants::taking_part_on(input, database, leaving.home).is_some() {
            continue;
        }
        let told: Vec<_> = participants::told_on(input, database, leaving.home).collect();
        // What was begun goes on: it cannot be taken back.
        if !told.iter().any(|(_, told, _)| told.is_tombstone()) {
            let waits = tail::waits(input, database, standing, leaving);
            if !waits.is_empty() {
                lines.extend(waits);
                continue;
            }
            let cluster = cluster_name(input, leaving.home);
            lines.push(participants::unconfirmed(&cluster, &leaving.name));
        }
        let reason = format!(
            "{} takes part no more here, which was confirmed on the hub",
            database.name
        );
        for (place, told, _) in told {
            if !told.is_tombstone() {
                let gone = tombstone(database, told, (&confirmed.approval, reason.clone()), plan);
                plan.tell.insert(place, gone);
            }
        }
    }
    let over = standing.over.iter();
    for (place, _, is_gone) in over.flat_map(|home| participants::told_on(input, database, *home)) {
        let mut leaving = standing.leaving.iter();
        if is_gone && !leaving.any(|one| one.home == place.0) {
            plan.forget.insert(place);
        }
    }
    lines
}

/// Gives an instance id to every participant that has none, and makes those that are gone ghosts. None is ever given twice.
fn allocate(input: &Input, old: Option<&Membership>, standing: &Standing<'_>) -> Membership {
    let (store_id, hub_term) = input.reign;
    let mut membership = old.cloned().unwrap_or(Membership {
        config_version: input.config_version_floor,
        instances: BTreeMap::new(),
        highest_instance_id: 0,
        ghosts: Vec::new(),
        homes: BTreeMap::new(),
        plan_number: input.plan_number,
        hub_term,
        store_id,
    });
    let mut changed = false;
    for name in &standing.gone {
        membership.homes.remove(name);
        membership.ghosts.extend(membership.instances.remove(name));
        changed = true;
    }
    for member in &standing.members {
        if membership.instances.contains_key(&member.remote.name) {
            continue;
        }
        membership.highest_instance_id =
            membership.highest_instance_id.max(input.instance_id_floor) + 1;
        membership
            .instances
            .insert(member.remote.name.clone(), membership.highest_instance_id);
        changed = true;
    }
    // Members may hold a later configuration than this store remembers: the next one is above it.
    let overtaken = old.is_some_and(|old| old.config_version <= input.config_version_floor);
    if changed || overtaken {
        membership.config_version = membership.config_version.max(input.config_version_floor) + 1;
    }
    membership
}

/// Writes down where each instance is made: its remote cluster may come again under the same name, elsewhere.
fn note_homes(membership: &mut Membership, standing: &Standing<'_>) {
    for member in everybody(standing) {
        let name = &member.remote.name;
        let home = membership.homes.entry(name.clone());
        home.or_insert(member.remote.cluster);
    }
}

fn build(
    input: &Input,
    database: &Database,
    membership: &Membership,
    standing: &Standing<'_>,
) -> BTreeMap<Place, Desired> {
    let mut built = BTreeMap::new();
    let all: Vec<_> = everybody(standing).collect();
    let listed = objects::listed(input, database, membership, &all);
    let taking_part: BTreeSet<_> = standing.members.iter().map(Member::name).collect();
    for of in &standing.members {
        let instance = objects::instance(database, membership, &all, &listed, of);
        let database = objects::database(database, membership.plan_number, &taking_part, of);
        for desired in [instance, database] {
            built.insert((of.remote.cluster, desired.object_id), desired);
        }
    }
    built
}

/// Whether a member is told something else now.
fn differs(input: &Input, place: &Place, wanted: &Desired) -> bool {
    input
        .desired
        .get(place)
        .is_none_or(|(told, _)| !told.says_the_same_as(wanted))
}

fn plan_deletion(
    input: &Input,
    database: &Database,
    plan: &mut Plan,
    needed: &mut OfDatabase,
) -> Vec<String> {
    let mine: BTreeSet<ObjectId> =
        BTreeSet::from([database.object_id, database.instance_object_id]);
    let approval = database.deletion.as_ref();
    let approval = approval.map_or_else(String::new, |deletion| deletion.approval.clone());
    let reason = format!("the deletion of {} was confirmed on the hub", database.name);
    let mut left = BTreeSet::new();
    for (place, (told, revision)) in input
        .desired
        .iter()
        .filter(|((_, object), _)| mine.contains(object))
    {
        if told.is_tombstone() && input.is_done(place, *revision) {
            plan.forget.insert(*place);
            continue;
        }
        if input.is_removed(place.0) {
            continue;
        }
        left.insert(place.0);
        if !told.is_tombstone() {
            let gone = tombstone(database, told, (&approval, reason.clone()), plan);
            plan.tell.insert(*place, gone);
        }
    }
    if left.is_empty() {
        plan.finished.insert(database.name.clone());
        return vec!["is gone from every participant".to_owned()];
    }
    keep_needs(input, database, needed);
    left.into_iter()
        .map(|cluster| {
            format!(
                "waits for {}: it has not confirmed that the database is gone",
                cluster_name(input, cluster)
            )
        })
        .collect()
}

/// The order of a deletion is the reverse of that of creation: the database goes first, its instance after it.
fn tombstone(
    database: &Database,
    told: &Told,
    (approval, reason): (&str, String),
    plan: &Plan,
) -> Desired {
    let after = if told.object_id == database.instance_object_id {
        vec![database.object_id]
    } else {
        Vec::new()
    };
    Desired {
        after,
        plan_number: plan.number,
        trace: database.trace,
        ..told.with(Action::Delete {
            approval: approval.to_owned(),
            reason,
        })
    }
}

/// While a database cannot be planned or is being deleted, the remote clusters that its members have stay.
fn keep_needs(input: &Input, database: &Database, needed: &mut OfDatabase) {
    needed.waits = true;
    let participants: BTreeSet<_> = database
        .participants()
        .into_iter()
        .map(|participant| participant.name)
        .collect();
    let mine =
        |object: &ObjectId| *object == database.object_id || *object == database.instance_object_id;
    let clusters: BTreeSet<_> = input
        .desired
        .keys()
        .filter(|(_, object)| mine(object))
        .map(|(cluster, _)| *cluster)
        .collect();
    for ((cluster, _), (told, _)) in &input.desired {
        if told.kind == objects::RERC
            && clusters.contains(cluster)
            && participants.contains(&told.name)
        {
            let need = (*cluster, told.name.clone());
            needed.remotes.insert(need, told.namespace.clone());
        }
    }
}

/// Tells members the remote clusters that they need and takes away those that no database needs any more, as far as they are
/// looked at.
pub(super) fn plan_remotes(
    input: &Input,
    needs: &Needs,
    touched: BTreeSet<(Place, String)>,
    plan: &mut Plan,
) {
    for ((cluster, object), name) in touched {
        if input.is_removed(cluster) {
            continue;
        }
        let place = (cluster, object);
        let remote = input.remotes.get(&name);
        let remote = remote.filter(|remote| remote.object_id == object);
        if let Some((remote, namespace)) = remote.zip(needs.namespace(cluster, &name)) {
            let desired = objects::remote(input, remote, namespace, plan.number);
            if differs(input, &place, &desired) {
                plan.tell.insert(place, desired);
            }
            continue;
        }
        let told = input.desired.get(&place);
        let Some((told, revision)) = told.filter(|(told, _)| told.kind == objects::RERC) else {
            continue;
        };
        if !told.is_tombstone() {
            let action = Action::Delete {
                approval: String::new(),
                reason: "no database needs this remote cluster here".to_owned(),
            };
            let gone = Desired {
                after: Vec::new(),
                plan_number: plan.number,
                ..told.with(action)
            };
            plan.tell.insert(place, gone);
        } else if input.is_done(&place, *revision) {
            plan.forget.insert(place);
        }
    }
}
