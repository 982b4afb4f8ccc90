//! A client that writes while something is done to its database, and keeps the ids that were acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use meridian_integration::stack::Region;
use tokio::task::JoinHandle;

/// How long a client waits for an answer before it connects anew.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nobody may be able to write while a primary is moved on purpose.
pub(crate) const MOVE: Duration = Duration::from_secs(3);

/// A writer that runs.
pub(crate) struct Load {
    region: Region,
    stop: Arc<AtomicBool>,
    task: JoinHandle<(Vec<u64>, Duration)>,
}

/// What a writer saw.
#[derive(Debug)]
pub(crate) struct Written {
    /// How many writes were acknowledged.
    pub(crate) acknowledged: usize,
    /// How many of them are not there.
    pub(crate) lost: usize,
    /// The longest time without an acknowledgement.
    pub(crate) gap: Duration,
}

impl Load {
    /// Writes numbered keys from now on.
    pub(crate) fn start(region: &Region) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(region.clone(), Arc::clone(&stop)));
        Self {
            region: region.clone(),
            stop,
            task,
        }
    }

    /// Ends the writer, and looks for every id that it was acknowledged.
    pub(crate) async fn finish(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let (ids, gap) = self.task.await.expect("a writer that ends");
        Written {
            acknowledged: ids.len(),
            lost: lost(&self.region, &ids).await,
            gap,
        }
    }
}

impl Written {
    /// Everything that was acknowledged is there, and no time without a write was longer than that of a planned move.
    pub(crate) fn moved_at_most(&self, what: &str) {
        self.kept(what);
        assert!(self.gap <= MOVE, "{what}: {self:?}");
    }

    /// Everything that was acknowledged is there.
    pub(crate) fn kept(&self, what: &str) {
        assert!(self.acknowledged > 0, "{what}: nothing was written");
        assert_eq!(self.lost, 0, "{what}: {self:?}");
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (acknowledged, lost, gap) = (self.acknowledged, self.lost, self.gap.as_secs_f64());
        write!(
            f,
            "{acknowledged} writes acknowledged, {lost} lost, longest time without one {gap:.1} s"
        )
    }
}

/// Starts a writer for each of these databases.
pub(crate) fn start_all(regions: &BTreeMap<String, Region>) -> BTreeMap<String, Load> {
    let start = |(name, region): (&String, &Region)| (name.clone(), Load::start(region));
    regions.iter().map(start).collect()
}

async fn write(region: Region, stop: Arc<AtomicBool>) -> (Vec<u64>, Duration) {
    let mut acknowledged = Vec::new();
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    let mut connection = None;
    for id in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if connection.is_none() {
            connection = region.connect().await.ok();
        }
        let Some(open) = &mut connection else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut set = redis::cmd("SET");
        set.arg(format!("id:{id}")).arg(id);
        match tokio::time::timeout(PATIENCE, set.query_async::<()>(open)).await {
            Ok(Ok(())) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                acknowledged.push(id);
            }
            Ok(Err(_)) | Err(_) => connection = None,
        }
    }
    // One that ended while nobody answered has seen that as well.
    (acknowledged, longest.max(last.elapsed()))
}

/// How many of the acknowledged ids are not there.
async fn lost(region: &Region, acknowledged: &[u64]) -> usize {
    let mut connection = region.connect().await.unwrap();
    let mut lost = 0;
    for ids in acknowledged.chunks(500) {
        let mut get = redis::cmd("MGET");
        for id in ids {
            get.arg(format!("id:{id}"));
        }
        let found: Vec<Option<u64>> = get.query_async(&mut connection).await.unwrap();
        let there = ids
            .iter()
            .zip(&found)
            .filter(|(id, one)| **one == Some(**id));
        lost += ids.len() - there.count();
    }
    lost
}
