//! What a member has not acknowledged is bounded (I9).

use super::*;

#[tokio::test(start_paused = true)]
async fn a_member_that_acknowledges_nothing_is_sent_a_bounded_number_of_batches() {
    let world = World::new().await;
    let (mut agent, _) = world.welcomed(None).await;
    for n in 1..=20 {
        world.want(n, upsert("x")).await;
    }
    let mut batches = 0;
    while let Frame::Apply(_) = agent.hear().await {
        batches += 1;
        world.want(batches, upsert("y")).await;
    }
    // What ended the loop is a heartbeat: the session goes on, but waits with further batches.
    assert!(batches <= 4, "{batches}");
}

#[tokio::test(start_paused = true)]
async fn large_objects_that_are_marked_at_once_never_exceed_the_bytes_that_were_promised() {
    const OBJECTS: u8 = 60;
    let world = World::new().await;
    let cluster = uid(LAB_1);
    let mut revision = Revision(0);
    for n in 1..=OBJECTS {
        let desired = desired(n, upsert(&"x".repeat(150_000)));
        let key = keys::desired(cluster, desired.object_id);
        let txn = Txn::new().put_record(&key, &desired).unwrap();
        revision = world.hub.app.commit(txn).await.unwrap();
    }
    let (mut agent, welcome) = world.welcomed(None).await;
    let promised = welcome.limits.unwrap().bytes_in_flight;
    let (mut in_flight, mut told) = (Vec::new(), BTreeSet::new());
    loop {
        let frame = agent.hear().await;
        if let Frame::Apply(apply) = frame {
            told.extend(apply.items.iter().map(|item| item.object_id.clone()));
            in_flight.push(apply);
            continue;
        }
        // Nothing more comes before something is acknowledged.
        assert!(matches!(frame, Frame::Beat(_)), "{frame:?}");
        let bytes = in_flight.iter().flat_map(|apply| &apply.items);
        let bytes: usize = bytes.map(|item| item.body.len()).sum();
        assert!(bytes as u64 <= promised, "{bytes} of {promised}");
        let Some(last) = in_flight.pop() else {
            continue;
        };
        in_flight.clear();
        agent.ack(&last).await;
        if last.upto.unwrap().revision >= revision.0 {
            break;
        }
    }
    assert_eq!(told.len(), usize::from(OBJECTS));
}

/// Objects of a member that is stopped, and how often they change.
const OBJECTS: u64 = 200;
const CHANGES: u64 = 100_000;

/// Its network takes what fits into the way there, and nothing is ever read from it.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_stopped_costs_what_it_was_promised_and_a_mark_for_each_object() {
    let world = World::new().await;
    let large = || upsert(&"x".repeat(15_000));
    for n in 0..OBJECTS {
        world.want(u8::try_from(n).unwrap(), large()).await;
    }
    let (mut agent, welcome) = world.welcomed(None).await;
    let promised = welcome.limits.unwrap();
    let sessions = &world.sessions;
    let (mut most_waiting, mut changed) = (0, BTreeSet::new());
    for n in 0..CHANGES {
        let object = u8::try_from(n % OBJECTS).unwrap();
        changed.insert(object);
        // One in a hundred is written, so that there is something to send; of the others it is only told that they changed.
        if n % 100 == 0 {
            world.want(object, large()).await;
        } else {
            sessions.mark(uid(LAB_1), [id(object)], Revision(n));
        }
        tokio::task::yield_now().await;
        most_waiting = most_waiting.max(sessions.waiting(uid(LAB_1)));
    }
    assert!(most_waiting <= changed.len(), "{most_waiting}");
    let (mut frames, mut objects, mut bytes) = (0, 0, 0);
    while let Ok(frame) = agent.from_hub.try_recv() {
        let frame = frame.unwrap();
        bytes += prost::Message::encoded_len(&frame);
        let Some(Frame::Apply(apply)) = frame.frame else {
            panic!("{frame:?}")
        };
        (frames, objects) = (frames + 1, objects + apply.items.len());
    }
    let batches = promised.objects_in_flight as usize / outbound::BATCH;
    assert!(frames > 0 && frames <= batches, "{frames}");
    assert!(objects <= promised.objects_in_flight as usize, "{objects}");
    assert!(bytes as u64 <= promised.bytes_in_flight, "{bytes}");
    println!(
        "{CHANGES} changes of {OBJECTS} objects: {frames} frames, {objects} objects, {bytes} bytes on their way, {most_waiting} marks"
    );
}
