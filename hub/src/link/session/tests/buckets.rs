//! A member that would be told everything shows digests first, and is told what it lacks.

use meridian_api::link::digest::{Digest, bucket};

use super::*;

/// What a member holds that made these objects as they were told.
async fn digest_of(world: &World, objects: &[u8]) -> Digest {
    let mut digest = Digest::default();
    for held in world.hub.app.desired_of(uid(LAB_1)).await.unwrap().value {
        if objects.iter().any(|n| id(*n) == held.record.object_id) {
            digest.add(held.record.object_id, held.modified, &held.record.hash());
        }
    }
    digest
}

/// Opens a session of a member that lost its position and holds these objects.
async fn shows(world: &World, objects: &[u8]) -> (Agent, proto::Welcome) {
    let digest = digest_of(world, objects).await.to_wire();
    let hello = proto::Hello {
        digest,
        ..hello(LAB_1, None)
    };
    world.greeted(hello).await
}

async fn four() -> World {
    let world = World::new().await;
    for n in 1..=4 {
        world.want(n, upsert("a")).await;
    }
    world
}

impl Agent {
    async fn asked(&mut self) -> Vec<u32> {
        let frame = self.hear_more().await;
        let Frame::DigestAsk(ask) = frame else {
            panic!("no DigestAsk: {frame:?}")
        };
        ask.buckets
    }

    /// Shows buckets without objects, but these.
    async fn shows_buckets(&self, world: &World, buckets: &[u32], objects: &[u8]) {
        let desired = world.hub.app.desired_of(uid(LAB_1)).await.unwrap().value;
        for (at, of) in buckets.iter().enumerate() {
            let held = desired.iter().filter(|held| {
                let object = held.record.object_id;
                u32::from(bucket(object)) == *of && objects.iter().any(|n| id(*n) == object)
            });
            let entries = held.map(|held| proto::InventoryEntry {
                object_id: held.record.object_id.to_string(),
                revision: held.modified.0,
                hash: held.record.hash().into(),
                ..proto::InventoryEntry::default()
            });
            self.say(FromAgent::Inventory(proto::InventoryPage {
                bucket: *of,
                entries: entries.collect(),
                last_of_bucket: true,
                last: at + 1 == buckets.len(),
            }))
            .await;
        }
    }
}

fn names(apply: &proto::Apply) -> Vec<&str> {
    apply.items.iter().map(|item| item.name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn only_what_the_member_lacks_is_sent_and_then_it_is_complete() {
    let world = four().await;
    let (mut agent, welcome) = shows(&world, &[1, 2]).await;
    assert_eq!(welcome.mode(), SyncMode::Buckets);
    let asked = agent.asked().await;
    assert_eq!(asked, [3, 4]);
    agent.shows_buckets(&world, &asked, &[1, 2]).await;
    let mut sent = Vec::new();
    let head = welcome.head.unwrap().revision;
    loop {
        let apply = agent.apply().await;
        sent.extend(names(&apply).into_iter().map(str::to_owned));
        agent.ack(&apply).await;
        if apply.upto.unwrap().revision >= head {
            break;
        }
    }
    assert_eq!(sent, ["db-3", "db-4"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lacks_nothing_only_hears_how_far_it_is() {
    let world = four().await;
    let (mut agent, welcome) = shows(&world, &[1, 2, 3, 4]).await;
    assert_eq!(welcome.mode(), SyncMode::Buckets);
    let apply = agent.apply().await;
    assert_eq!(names(&apply), Vec::<&str>::new());
    assert_eq!(apply.upto.unwrap().revision, welcome.head.unwrap().revision);
}

#[tokio::test(start_paused = true)]
async fn a_change_while_buckets_are_compared_does_not_call_the_member_complete() {
    let world = four().await;
    let (mut agent, _) = shows(&world, &[1, 2]).await;
    let asked = agent.asked().await;
    world.want(1, upsert("b")).await;
    let apply = agent.apply().await;
    assert_eq!(names(&apply), ["db-1"]);
    assert_eq!(apply.upto.unwrap().revision, 0);
    agent.shows_buckets(&world, &asked, &[]).await;
    let mut upto = 0;
    while upto == 0 {
        upto = agent.apply().await.upto.unwrap().revision;
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_shows_nothing_is_told_all_of_the_buckets_that_differ() {
    let world = four().await;
    let (mut agent, welcome) = shows(&world, &[1, 2]).await;
    agent.asked().await;
    let begun = Instant::now();
    let apply = loop {
        let beat = proto::Beat::default();
        agent.say(FromAgent::Beat(beat)).await;
        if let Frame::Apply(apply) = agent.hear().await {
            break apply;
        }
    };
    assert_eq!(names(&apply), ["db-3", "db-4"]);
    assert!(begun.elapsed() < Timing::default().idle * 2);
    assert!(apply.upto.unwrap().revision >= welcome.head.unwrap().revision);
}

#[tokio::test(start_paused = true)]
async fn what_the_member_holds_as_it_is_wanted_is_done_although_nobody_heard_it_say_so() {
    let world = four().await;
    let (mut agent, _) = shows(&world, &[1, 2]).await;
    let asked = agent.asked().await;
    agent.shows_buckets(&world, &asked, &[1, 2]).await;
    assert_eq!(names(&agent.apply().await), ["db-3", "db-4"]);
    let app = &world.hub.app;
    let desired = app.desired_of(uid(LAB_1)).await.unwrap().value;
    let unsettled = app.unsettled(uid(LAB_1), &desired).await.unwrap();
    assert_eq!(unsettled, [id(3), id(4)].into());
}
