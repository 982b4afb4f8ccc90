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
