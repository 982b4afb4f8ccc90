//! A client that reconnects, as clients do, and keeps a log of the ids of its acknowledged writes: the judge of a failover.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use meridian_integration::{stack::Region, wait::until_true};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use crate::support::SOON;

/// A client that writes one key after another.
pub(crate) struct Ledger {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    task: JoinHandle<Vec<u64>>,
    region: Region,
    run: String,
}

/// What became of a client's writes.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Writes that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Ids of those that are not there any more.
    pub(crate) lost: Vec<u64>,
}

impl Ledger {
    /// Starts writing keys that begin with `run`.
    pub(crate) fn start(region: &Region, run: &str) -> Self {
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let task = tokio::spawn(write(
            region.clone(),
            run.to_owned(),
            stop.clone(),
            count.clone(),
        ));
        Self {
            stop,
            count,
            task,
            region: region.clone(),
            run: run.to_owned(),
        }
    }

    /// Waits until `more` further writes were acknowledged, and says how long that took.
    pub(crate) async fn progress(&self, more: u64) -> anyhow::Result<Duration> {
        let (from, started) = (self.count.load(Ordering::Relaxed), Instant::now());
        until_true("the client's writes are acknowledged", SOON, || async {
            Ok(self.count.load(Ordering::Relaxed) >= from + more)
        })
        .await?;
        Ok(started.elapsed())
    }

    /// Ends the client and looks for every acknowledged write.
    pub(crate) async fn judge(self) -> anyhow::Result<Verdict> {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.task.await?;
        let mut connection = self.region.connect().await?;
        let mut lost = Vec::new();
        for id in &acknowledged {
            let found: Option<u64> = redis::cmd("GET")
                .arg(format!("{}:{id}", self.run))
                .query_async(&mut connection)
                .await?;
            if found != Some(*id) {
                lost.push(*id);
            }
        }
        Ok(Verdict {
            acknowledged: acknowledged.len(),
            lost,
        })
    }
}

async fn write(
    region: Region,
    run: String,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let mut connection: Option<MultiplexedConnection> = None;
    let mut id = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = &mut connection else {
            // Refused while nobody leads: the next attempt follows at once, as impatient clients do.
            connection = region.connect().await.ok();
            tokio::task::yield_now().await;
            continue;
        };
        id += 1;
        let answer = redis::cmd("SET")
            .arg(format!("{run}:{id}"))
            .arg(id)
            .query_async::<String>(open)
            .await;
        match answer {
            Ok(_) => {
                acknowledged.push(id);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(_refused_or_cut_off) => connection = None,
        }
    }
    acknowledged
}
