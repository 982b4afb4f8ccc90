//! The world after the last fault: within a bounded time every member holds what its hub wants of it and the hub knows it,
//! and hearing everything once more changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meridian_agent::link::kinds::Kind;
use meridian_hub::{
    domain::desired::{Action, Desired},
    store::{
        keys,
        records::{self, Held},
    },
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{agent::Member, hub::Hub, member::shown, world::World};

/// How long everything may take after the last fault: a stale session is noticed after 30 s, agents come back within 20 s, and
/// what is held is looked at again after a minute; people look at the hub every ten seconds.
pub(crate) const WITHIN: Duration = Duration::from_secs(300);

/// Waits until the world is as it should be. The time that it took.
pub(crate) async fn come_to_rest(world: &mut World) -> Duration {
    let begun = Instant::now();
    let mut looks = 0_u32;
    loop {
        let lacks = lacks(world).await;
        let Some(lack) = lacks else { break };
        if begun.elapsed() > WITHIN {
            world.trace.broken("I13", lack);
            break;
        }
        if looks.is_multiple_of(10)
            && let Some(hub) = &world.hub
        {
            world.person.adopts(hub).await;
            world.thaws().await;
            world.person.releases(hub, &world.members).await;
        }
        looks += 1;
        sleep(Duration::from_secs(1)).await;
        world.must_be_well();
    }
    let took = begun.elapsed();
    world.trace.note("world", "is at rest");
    took
}

/// The first thing that is not as it should be.
async fn lacks(world: &World) -> Option<String> {
    let Some(hub) = &world.hub else {
        return Some("no hub runs".to_owned());
    };
    let store = hub.volume.memory();
    let doubts = records::list(store, &keys::doubts()).await.unwrap().value;
    if let Some(doubt) = doubts.first() {
        return Some(format!("the hub only observes: {}", doubt.record.reason));
    }
    let databases = records::list(store, &keys::databases())
        .await
        .unwrap()
        .value;
    let going = databases.iter().find(|held| held.record.deletion.is_some());
    if let Some(going) = going {
        let name = &going.record.name;
        return Some(format!(
            "the deletion of {name} was confirmed and does not end"
        ));
    }
    for member in &world.members {
        let known = records::get(store, &keys::cluster(member.cluster))
            .await
            .unwrap();
        if known.is_none() {
            let key = keys::removed(member.cluster);
            if records::get(store, &key).await.unwrap().is_some() {
                if let Some(lack) = still_meant(hub, member).await {
                    return Some(lack);
                }
                continue;
            }
            return Some(format!("{} is not known yet", member.name));
        }
        if hub.sessions.heard_at(member.cluster).is_none() {
            return Some(format!("{} has no session", member.name));
        }
        if let Some(lack) = member_lacks(hub, member).await {
            return Some(format!("{}: {lack}", member.name));
        }
    }
    None
}

/// I16: of a member that was removed, or lost, nothing is wanted any more, and nobody counts it as one that takes part.
async fn still_meant(hub: &Hub, gone: &Member) -> Option<String> {
    let store = hub.volume.memory();
    let wanted = records::list(store, &keys::desired_of(gone.cluster))
        .await
        .unwrap();
    if let Some(held) = wanted.value.first() {
        let Desired { kind, name, .. } = &held.record;
        return Some(format!(
            "I16: {kind} {name} is wanted on {}, which is gone",
            gone.name
        ));
    }
    let memberships = records::list(store, &keys::memberships()).await.unwrap();
    let counted = memberships.value.iter().find(|held| {
        let mut homes = held.record.homes.values();
        homes.any(|home| *home == gone.cluster)
    });
    let counted = counted?;
    Some(format!(
        "I16: {} is a member in {}, and it is gone",
        gone.name, counted.key
    ))
}

async fn member_lacks(hub: &Hub, member: &Member) -> Option<String> {
    let store = hub.volume.memory();
    let wanted = keys::desired_of(member.cluster);
    let wanted: Vec<Held<Desired>> = records::list(store, &wanted).await.unwrap().value;
    let mut blocked = BTreeSet::new();
    loop {
        let before = blocked.len();
        for held in &wanted {
            let waits = held.record.after.iter().any(|id| blocked.contains(id));
            if waits || is_taken(member, &held.record) {
                blocked.insert(held.record.object_id);
            }
        }
        if blocked.len() == before {
            break;
        }
    }
    let told: BTreeSet<_> = wanted.iter().map(|held| held.record.object_id).collect();
    for ((kind, name), live) in member.kubernetes.objects() {
        let id = shown(&live).and_then(|(id, _, _)| id.parse().ok());
        if id.is_some_and(|id| hub.volume.is_confirmed(id) && !told.contains(&id)) {
            return Some(format!(
                "{kind} {name}: its deletion is called done, and it is there"
            ));
        }
    }
    for held in &wanted {
        if !blocked.contains(&held.record.object_id)
            && let Some(lack) = object_lacks(hub, member, held).await
        {
            return Some(lack);
        }
    }
    None
}

/// Whether another object has the name: then a person has to decide, and the hub shows it as held.
fn is_taken(member: &Member, wanted: &Desired) -> bool {
    let id = wanted.object_id.to_string();
    let there = member.kubernetes.objects();
    let live = kind(wanted).and_then(|kind| there.get(&(kind, wanted.name.clone())));
    live.is_some_and(|live| shown(live).is_none_or(|(found, _, _)| found != id))
}

fn kind(wanted: &Desired) -> Option<Kind> {
    Kind::of(&wanted.api_version, &wanted.kind)
}

async fn object_lacks(hub: &Hub, member: &Member, held: &Held<Desired>) -> Option<String> {
    let wanted = &held.record;
    let what = format!(
        "{} {} of revision {}",
        wanted.kind, wanted.name, held.modified
    );
    let Action::Upsert { body } = &wanted.action else {
        return Some(format!("{what} is to be deleted and not forgotten"));
    };
    let there = member.kubernetes.objects();
    let Some(live) = kind(wanted).and_then(|kind| there.get(&(kind, wanted.name.clone()))) else {
        return Some(format!("{what} is not there"));
    };
    let revision = shown(live).map(|(_, _, revision)| revision);
    if revision != Some(held.modified) {
        return Some(format!("{what}: the member shows {revision:?}"));
    }
    let spec = body["spec"].as_object().into_iter().flatten();
    let edited = kind(wanted).is_some_and(|kind| member.kubernetes.is_edited(kind, &wanted.name));
    let mut spec = spec.filter(|_| !edited);
    let differs = spec.find(|(field, value)| live["spec"][*field] != **value);
    if let Some((field, _)) = differs {
        return Some(format!("{what}: spec.{field} is not as wanted"));
    }
    if live["metadata"]["deletionTimestamp"].is_string() {
        return Some(format!("{what} is being deleted"));
    }
    let key = keys::outcome(member.cluster, wanted.object_id);
    let outcome = records::get(hub.volume.memory(), &key).await.unwrap();
    let told = outcome.map(|held| (held.record.revision, held.record.result));
    if !told.is_some_and(|(revision, result)| revision == held.modified && result.is_done()) {
        return Some(format!("{what} is applied, but the hub knows of {told:?}"));
    }
    None
}

/// Whether it is a member no more: then it is judged by what is meant for it, not by what it does.
async fn is_gone(world: &World, member: &Member) -> bool {
    let key = keys::removed(member.cluster);
    let removed = records::get(world.volume.memory(), &key).await.unwrap();
    removed.is_some()
}

/// I12: any suffix of what an agent heard in its last session changes nothing when it is heard again.
pub(crate) async fn replay(world: &mut World) {
    let from = world.dice.fork();
    let hub = world.hub.clone();
    for number in 0..world.members.len() {
        let member = world.members[number].clone();
        if is_gone(world, &member).await {
            continue;
        }
        let frames = world.judge.last_session(member.cluster);
        let (Some((welcome, rest)), Some(_)) = (frames.split_first(), &hub) else {
            continue;
        };
        world.kill_agent(number);
        let begin = usize::try_from(from.in_range(0..rest.len() as u64 + 1)).unwrap();
        let again: Vec<_> = std::iter::once(welcome)
            .chain(&rest[begin..])
            .cloned()
            .collect();
        let before = orders(&member);
        world.site.replays(member.cluster, again);
        world.start_agent(number);
        // Less than the agent waits for a sign of life of this hub.
        sleep(Duration::from_secs(25)).await;
        if orders(&member) != before {
            let what = format!(
                "{}: hearing {begin}.. again changed the member",
                member.name
            );
            world.trace.broken("I12", what);
        }
        world.kill_agent(number);
    }
}

/// I17: while no hub runs, a member puts back what somebody took away, also after a restart of its agent. Whether there was
/// anything to judge: a member that was told to observe when its hub went away puts nothing back until its agent starts again.
pub(crate) async fn without_hub(world: &mut World) -> bool {
    let from = world.dice.fork();
    let number = usize::try_from(from.in_range(0..world.members.len() as u64)).unwrap();
    let member = world.members[number].clone();
    world.kill_hub();
    if is_gone(world, &member).await {
        return false;
    }
    if from.in_thousand(500) {
        world.kill_agent(number);
        world.start_agent(number);
    } else if world.judge.observes(member.cluster) {
        return false;
    }
    // It looks at what there is, and gives the session up.
    sleep(Duration::from_secs(40)).await;
    let before = orders(&member);
    let ours = before.iter().filter(|((kind, name), object)| {
        let goes_on =
            shown(object).is_some_and(|(id, ..)| !world.judge.is_frozen(member.cluster, id));
        goes_on && !member.kubernetes.is_edited(*kind, name)
    });
    let ours: Vec<_> = ours.map(|(key, _)| key.clone()).collect();
    let Some((kind, name)) = from.pick(&ours) else {
        return false;
    };
    let owned = member.kubernetes.owned(*kind, name);
    member.kubernetes.lost_by_hand(*kind, name);
    sleep(Duration::from_secs(10)).await;
    let spec = |objects: &BTreeMap<(Kind, String), Value>| {
        let object = objects.get(&(*kind, name.clone()))?;
        let fields = owned.iter().map(|field| object["spec"].get(field).cloned());
        let fields: Vec<Option<Value>> = fields.collect();
        Some((fields, shown(object).map(|it| it.2)))
    };
    if spec(&orders(&member)) != spec(&before) {
        let name = &member.name;
        world
            .trace
            .broken("I17", format_args!("{name}: {kind} is not put back"));
    }
    true
}

/// What a member holds, without what its own controllers say of it.
fn orders(member: &Member) -> BTreeMap<(Kind, String), Value> {
    let mut objects = member.kubernetes.objects();
    for object in objects.values_mut() {
        object["status"] = Value::Null;
    }
    objects
}
