//! A process that exists and does nothing.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use meridian_api::crds::shared::Persistence;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Pid, Signal};

use crate::cluster::{Cluster, first_topology};
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

/// A file that takes in nothing until somebody reads it, as one on a disk that has stalled.
struct Stalled(PathBuf);

impl Stalled {
    fn new(path: PathBuf) -> Self {
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        Self(path)
    }

    /// Whoever waits gets an error, and may begin anew.
    fn goes_on(self) {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let reader = File::options()
            .read(true)
            .custom_flags(flags)
            .open(&self.0)
            .unwrap();
        fs::remove_file(&self.0).unwrap();
        drop(reader);
    }
}

/// How many threads of the process wait until somebody reads what they are to write.
fn stalled(pid: Pid) -> usize {
    let threads = format!("/proc/{}/task", pid.as_raw_nonzero());
    let waits = |thread: &fs::DirEntry| {
        let place = fs::read_to_string(thread.path().join("wchan"));
        place.is_ok_and(|place| place == "wait_for_partner")
    };
    let threads = fs::read_dir(threads).unwrap();
    threads
        .filter(|thread| waits(thread.as_ref().unwrap()))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_whose_disk_has_stalled_lives_and_grants() {
    let mut topology = first_topology();
    topology.spec.persistence = Persistence::AofEverySecond;
    let mut cluster = Cluster::serving(topology, &["b"]).await;
    let waits = cluster.node("b").pid("sync").unwrap();
    // The orders, and how much its files hold: each is written by a task that needs a thread.
    let files = [
        Stalled::new(cluster.node("b").dir().join("proposed.json.new")),
        Stalled::new(cluster.node("b").shard_dir().join("held.json.new")),
    ];
    let mut client = cluster.client("a").await;
    client.ask::<String>(&["SET", "k", "v"]).await.unwrap();
    cluster.publish();
    until("both wait", SOON, async || match stalled(waits) {
        2 => Ok(()),
        threads => Err(format!("{threads} threads")),
    })
    .await;
    // The primary goes on only with the word of the other.
    cluster.api_away(true);
    let beside = cluster.node("c");
    let stopped = beside.pid("sync").unwrap();
    let _stopped = Frozen(vec![stopped]);
    beside.signal("sync", Signal::STOP);
    until("one that does nothing is replaced", SOON, async || {
        client
            .ask::<String>(&["SET", "k", "v"])
            .await
            .map_err(|error| error.to_string())
            .unwrap();
        match beside.pid("sync")? {
            now if now != stopped => Ok(()),
            _ => Err("it is the same".to_owned()),
        }
    })
    .await;
    assert_eq!(cluster.node("b").pid("sync"), Ok(waits));
    assert_eq!(cluster.node("b").hangs("sync"), 0);
    assert_eq!(stalled(waits), 2, "they still wait");
    cluster.api_away(false);
    for file in files {
        file.goes_on();
    }
    let generation = i64::try_from(cluster.topology.generation).unwrap();
    until("the order is followed", SOON, async || {
        let report = cluster.node("b").report()?;
        if report.generation >= generation {
            Ok(())
        } else {
            Err(format!("{report:?}"))
        }
    })
    .await;
}
