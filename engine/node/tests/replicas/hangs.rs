//! A process that exists and does nothing.

use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::node::{Frozen, SOON, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_stopped_is_started_anew_and_one_that_slept_with_its_supervisor_is_not() {
    let cluster = Cluster::start(&[]).await;
    let (stopped, slept) = (cluster.node("b"), cluster.node("c"));
    let before = stopped.pid("sync").unwrap();
    let unharmed = slept.pid("sync").unwrap();
    let frozen = slept.freeze();
    // Continued at the end, should it still be there.
    let _stopped = Frozen(vec![before]);
    stopped.signal("sync", Signal::STOP);
    until("another child runs", SOON, async || {
        match stopped.pid("sync")? {
            now if now != before => Ok(()),
            _ => Err("it is the same".to_owned()),
        }
    })
    .await;
    assert!(stopped.logged("asks nothing any more"));
    assert_eq!(stopped.hangs("sync"), 1);
    // By now the other has asked nothing for just as long.
    drop(frozen);
    let mut client = cluster.client("a").await;
    client.ask::<String>(&["SET", "k", "v"]).await.unwrap();
    cluster.holds("c", 1).await;
    let mut beats = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..4 {
        beats.tick().await;
        assert_eq!(slept.pid("sync"), Ok(unharmed));
    }
    assert_eq!(slept.hangs("sync"), 0);
}
