//! The steps of an Active-Active database: allocate its membership, tell every participant, and, once a person
//! confirmed its deletion, take it away from every participant in order (database, then instance, then remote clusters).

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::ObjectId;

use super::needs::{Needs, OfDatabase};
use super::objects::{self, Member, cluster_name};
use super::{Input, Place, Plan};
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
    let (members, unknown) = resolve(input, database);
    if !unknown.is_empty() {
        keep_needs(input, database, needed);
        return vec![format!(
            "waits for the remote clusters {}: no member reports them",
            unknown.join(", ")
        )];
    }
    let old = input.memberships.get(&database.object_id);
    let mut membership = allocate(input, old, &members);
    let built = build(input, database, &membership, &members);
    let changes = |built: &BTreeMap<Place, Desired>| {
        built
            .iter()
            .any(|(place, desired)| differs(input, place, desired))
    };
    if old != Some(&membership) || changes(&built) {
        (membership.store_id, membership.hub_term) = input.reign;
        membership.plan_number = plan.number;
        for (place, desired) in build(input, database, &membership, &members) {
            if differs(input, &place, &desired) {
                plan.tell.insert(place, desired);
            }
        }
        plan.memberships.insert(database.object_id, membership);
    }
    for of in &members {
        for member in &members {
            let need = (of.remote.cluster, member.remote.name.clone());
            needed.remotes.insert(need, of.remote.namespace.clone());
        }
    }
    let lacking: Vec<_> = members
        .iter()
        .filter(|member| member.lacks_endpoint(&database.name))
        .collect();
    lacking
        .iter()
        .map(|member| {
            format!(
                "waits for {}: its REC has reported no replication address",
                member.remote.name
            )
        })
        .collect()
}

fn resolve<'a>(input: &'a Input, database: &Database) -> (Vec<Member<'a>>, Vec<String>) {
    let (mut members, mut unknown) = (Vec::new(), Vec::new());
    for participant in database.participants() {
        match Member::resolve(input, participant) {
            Ok(member) => members.push(member),
            Err(participant) => unknown.push(participant.name),
        }
    }
    (members, unknown)
}

/// Gives an instance id to every participant that has none. None is ever given twice.
fn allocate(input: &Input, old: Option<&Membership>, members: &[Member<'_>]) -> Membership {
    let (store_id, hub_term) = input.reign;
    let mut membership = old.cloned().unwrap_or(Membership {
        config_version: input.config_version_floor,
        instances: BTreeMap::new(),
        highest_instance_id: 0,
        ghosts: Vec::new(),
        plan_number: input.plan_number,
        hub_term,
        store_id,
    });
    let mut changed = false;
    for member in members {
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

fn build(
    input: &Input,
    database: &Database,
    membership: &Membership,
    members: &[Member<'_>],
) -> BTreeMap<Place, Desired> {
    let mut built = BTreeMap::new();
    let listed = objects::listed(input, database, membership, members);
    for of in members {
        let instance = objects::instance(database, membership, members, &listed, of);
        let database = objects::database(database, membership.plan_number, of);
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
        left.insert(place.0);
        if !told.is_tombstone() {
            plan.tell.insert(*place, tombstone(database, told, plan));
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
fn tombstone(database: &Database, told: &Told, plan: &Plan) -> Desired {
    let after = if told.object_id == database.instance_object_id {
        vec![database.object_id]
    } else {
        Vec::new()
    };
    let approval = database
        .deletion
        .as_ref()
        .map(|deletion| deletion.approval.clone())
        .unwrap_or_default();
    let reason = format!("the deletion of {} was confirmed on the hub", database.name);
    Desired {
        after,
        plan_number: plan.number,
        ..told.with(Action::Delete { approval, reason })
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
