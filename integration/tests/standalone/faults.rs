//! Processes die; acknowledged data and connected clients do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use meridian_integration::wait::{Look, until};
use redis::aio::MultiplexedConnection;
use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::group::{Group, Region, SOON};

/// A client that increments `counter` and adds to `set` until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    task: JoinHandle<Written>,
}

#[derive(Debug, Default)]
struct Written {
    acknowledged: i64,
    failed: i64,
    first_failure: Option<String>,
}

impl Writer {
    async fn start(region: &Region) -> Self {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicI64::new(0)),
        );
        let task = tokio::spawn(write(
            region.client().await,
            Arc::clone(&stop),
            Arc::clone(&acknowledged),
        ));
        Self {
            stop,
            acknowledged,
            task,
        }
    }

    /// Waits until `more` further writes are acknowledged.
    async fn advances(&self, more: i64) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + more;
        until(&format!("{goal} writes are acknowledged"), SOON, || async {
            let now = self.acknowledged.load(Ordering::SeqCst);
            if now >= goal {
                Ok(Look::Holds(()))
            } else {
                Ok(Look::NotYet(now.to_string()))
            }
        })
        .await
        .unwrap();
    }

    async fn finish(self) -> Written {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

async fn write(
    mut client: MultiplexedConnection,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
) -> Written {
    let mut written = Written::default();
    while !stop.load(Ordering::SeqCst) {
        let reply: redis::RedisResult<i64> = redis::cmd("INCR")
            .arg("counter")
            .query_async(&mut client)
            .await;
        match reply {
            Ok(_) => written.acknowledged = acknowledged.fetch_add(1, Ordering::SeqCst) + 1,
            Err(error) => {
                written.failed += 1;
                written.first_failure.get_or_insert(error.to_string());
                break;
            }
        }
    }
    written
}

#[tokio::test]
async fn no_client_notices_the_death_of_the_replication_process() {
    let group = Group::start(2).await;
    let writer = Writer::start(group.region(1)).await;
    writer.advances(200).await;
    for _ in 0..3 {
        group.region(1).kill_unit("sync").await;
        writer.advances(200).await;
    }
    group.region(1).links_up().await;
    let written = writer.finish().await;
    assert_eq!(written.failed, 0, "{written:?}");
    for region in &group.regions {
        region
            .replies(&["GET", "counter"], written.acknowledged.to_string())
            .await;
    }
    assert_eq!(
        group.region(1).unit("db-1").unwrap()["starts"],
        1,
        "the shard was never restarted"
    );
}

#[tokio::test]
async fn a_shard_killed_under_load_comes_back_and_all_regions_agree() {
    let group = Group::start(3).await;
    for round in 1..=3_i64 {
        let writer = Writer::start(group.region(1)).await;
        let other = Writer::start(group.region(2)).await;
        writer.advances(500).await;
        group.region(1).kill_unit("db-1").await;
        let (written, elsewhere) = (writer.finish().await, other.finish().await);
        assert_eq!(
            elsewhere.failed, 0,
            "other regions do not notice: {elsewhere:?}"
        );
        assert!(written.acknowledged >= 500, "{written:?}");
        // The life after the crash writes too, and none of it may be mistaken for the lost one.
        for region in &group.regions {
            let member = format!("round-{round}-region-{}", region.id);
            let _: i64 = region.ask(&["SADD", "set", &member]).await.unwrap();
            let _: i64 = region.ask(&["INCRBY", "after", "7"]).await.unwrap();
        }
        for region in &group.regions {
            region.replies(&["SCARD", "set"], round * 3).await;
            region
                .replies(&["GET", "after"], (round * 21).to_string())
                .await;
        }
        group.converged().await;
    }
}

#[tokio::test]
async fn a_stop_is_graceful_and_loses_nothing() {
    let mut group = Group::start(2).await;
    for number in 0..500 {
        let _: i64 = group.region(1).ask(&["INCR", "counter"]).await.unwrap();
        if number == 250 {
            let _: i64 = group
                .region(1)
                .ask(&["HSET", "hash", "field", "value"])
                .await
                .unwrap();
        }
    }
    let status = group.region_mut(1).end(Signal::TERM).await;
    assert!(status.success(), "{status:?}");
    group.region_mut(2).end(Signal::TERM).await;
    group.launch(1, |_| {});
    group
        .region(1)
        .replies(&["GET", "counter"], "500".to_owned())
        .await;
    group
        .region(1)
        .replies(&["HGET", "hash", "field"], "value".to_owned())
        .await;
    group.launch(2, |_| {});
    group.region(2).links_up().await;
    group.converged().await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_shards_along_and_can_be_started_at_once() {
    let mut group = Group::start(2).await;
    let _: i64 = group
        .region(1)
        .ask(&["INCRBY", "counter", "42"])
        .await
        .unwrap();
    group.region_mut(1).end(Signal::KILL).await;
    group.launch(1, |_| {});
    group
        .region(1)
        .replies(&["GET", "counter"], "42".to_owned())
        .await;
    group.region(1).links_up().await;
    group.converged().await;
}

#[tokio::test]
async fn a_directory_has_one_node() {
    let group = Group::start(1).await;
    let second = group.command(1).output().unwrap();
    assert!(!second.status.success());
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        words.contains("is held by process") && words.contains("standalone --id 1"),
        "{words}"
    );
    group.region(1).replies(&["PING"], "PONG".to_owned()).await;
}

#[tokio::test]
async fn a_pause_survives_the_replication_process() {
    let group = Group::start(2).await;
    group.region(2).sync(&["pause", "--peer", "1"]).unwrap();
    group.region(2).kill_unit("sync").await;
    group
        .region(2)
        .link(1, "still paused", |link| link["state"] == "paused")
        .await;
    let _: i64 = group.region(1).ask(&["INCR", "counter"]).await.unwrap();
    group.region(2).replies(&["EXISTS", "counter"], 0_i64).await;
    group.region(2).sync(&["resume", "--peer", "1"]).unwrap();
    group
        .region(2)
        .replies(&["GET", "counter"], "1".to_owned())
        .await;
}
