//! The steps of an Active-Active database: allocate its membership, tell every participant, and, once a person
//! confirmed its deletion, take it away from every participant in order (database, then instance, then remote clusters).

use std::collections::{BTreeMap, BTreeSet};

use meridian_api::ids::{ClusterUid, ObjectId};

use super::objects::{self, Member, cluster_name};
use super::{Input, Place, Plan};
use crate::domain::database::{Database, Membership};
use crate::domain::desired::{Action, Desired};

/// Which remote clusters each member needs, and in which namespace it needs them.
pub(super) type Needed = BTreeMap<ClusterUid, BTreeMap<String, String>>;

pub(super) fn plan_one(input: &Input, database: &Database, plan: &mut Plan, needed: &mut Needed) {
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
    needed: &mut Needed,
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
        let of_cluster = needed.entry(of.remote.cluster).or_default();
        for member in &members {
            of_cluster.insert(member.remote.name.clone(), of.remote.namespace.clone());
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
    needed: &mut Needed,
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
fn tombstone(database: &Database, told: &Desired, plan: &Plan) -> Desired {
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
        action: Action::Delete { approval, reason },
        ..told.clone()
    }
}

/// While a database cannot be planned or is being deleted, the remote clusters that its members have stay.
fn keep_needs(input: &Input, database: &Database, needed: &mut Needed) {
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
            needed
                .entry(*cluster)
                .or_default()
                .insert(told.name.clone(), told.namespace.clone());
        }
    }
}

/// Tells every member the remote clusters that it needs and takes away those that no database needs any more.
pub(super) fn plan_remotes(input: &Input, needed: Needed, plan: &mut Plan) {
    let mut wanted: BTreeMap<Place, Desired> = BTreeMap::new();
    for (cluster, names) in needed {
        for (name, namespace) in names {
            if let Some(remote) = input.remotes.get(&name) {
                let desired = objects::remote(input, remote, &namespace, plan.number);
                wanted.insert((cluster, remote.object_id), desired);
            }
        }
    }
    for (place, (told, revision)) in input
        .desired
        .iter()
        .filter(|(_, (told, _))| told.kind == objects::RERC)
    {
        if wanted.contains_key(place) {
            continue;
        }
        if !told.is_tombstone() {
            let reason = "no database needs this remote cluster here".to_owned();
            let action = Action::Delete {
                approval: String::new(),
                reason,
            };
            let gone = Desired {
                after: Vec::new(),
                plan_number: plan.number,
                action,
                ..told.clone()
            };
            plan.tell.insert(*place, gone);
        } else if input.is_done(place, *revision) {
            plan.forget.insert(*place);
        }
    }
    plan.tell.extend(
        wanted
            .into_iter()
            .filter(|(place, desired)| differs(input, place, desired)),
    );
}
