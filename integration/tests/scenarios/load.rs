//! Clients that write all the time and keep a log of their own of what was acknowledged.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use meridian_integration::stack::Region;
use tokio::task::JoinHandle;

/// A client of one region that increments a counter, one request after another.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    task: JoinHandle<Vec<String>>,
}

/// What a writer saw.
pub(crate) struct Log {
    pub(crate) acknowledged: i64,
    pub(crate) errors: Vec<String>,
}

impl Writer {
    /// Starts writing `INCR key` on one connection.
    pub(crate) async fn start(region: &Region, key: &str) -> anyhow::Result<Self> {
        let mut connection = region.connect().await?;
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicI64::new(0)),
        );
        let (key, name) = (key.to_owned(), region.name.clone());
        let (stopped, count) = (stop.clone(), acknowledged.clone());
        let task = tokio::spawn(async move {
            let mut errors = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match redis::cmd("INCR")
                    .arg(&key)
                    .query_async::<i64>(&mut connection)
                    .await
                {
                    Ok(_) => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(e) => errors.push(format!("{name}: {e}")),
                }
            }
            errors
        });
        Ok(Self {
            stop,
            acknowledged,
            task,
        })
    }

    /// Waits until `more` further requests were acknowledged: the proof that clients still make progress.
    pub(crate) async fn progress(&self, more: i64) -> anyhow::Result<()> {
        let from = self.acknowledged.load(Ordering::Relaxed);
        meridian_integration::wait::until_true(
            "clients make progress",
            crate::support::SOON,
            || async { Ok(self.acknowledged.load(Ordering::Relaxed) >= from + more) },
        )
        .await
    }

    /// Ends the client and gives its log.
    pub(crate) async fn finish(self) -> anyhow::Result<Log> {
        self.stop.store(true, Ordering::Relaxed);
        let errors = self.task.await?;
        Ok(Log {
            acknowledged: self.acknowledged.load(Ordering::Relaxed),
            errors,
        })
    }
}
