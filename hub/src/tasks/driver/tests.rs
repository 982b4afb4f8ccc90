use std::sync::atomic::AtomicU32;

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Fence, Txn};

/// A task that takes a while, and counts how often it looks.
struct Slow(Arc<AtomicU32>);

impl Task for Slow {
    const NAME: &'static str = "slow";

    async fn activate(&mut self) -> Result<Outcome, TaskError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(50)).await;
        Ok(Outcome::Settled)
    }
}

/// Drives one, and writes a key every millisecond of a second; how often it looked meanwhile.
async fn looks(triggers: Triggers, key: &str) -> u32 {
    let (store, looks) = (MemoryStore::new(), Arc::<AtomicU32>::default());
    let stop = CancellationToken::new();
    let task = Slow(Arc::clone(&looks));
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let driven = drive(task, triggers, shared, Arc::default(), stop.clone());
    let driven = tokio::spawn(driven);
    sleep(Duration::from_secs(1)).await;
    let before = looks.load(Ordering::SeqCst);
    for n in 0..1000 {
        let txn = Txn::new().put(key, n.to_string());
        store.commit(txn, Fence(1)).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    let after = looks.load(Ordering::SeqCst);
    stop.cancel();
    driven.await.unwrap();
    after - before
}

fn triggers(waits: &Waits) -> Triggers {
    Triggers {
        every: Duration::from_secs(3600),
        prefixes: vec!["/a/".to_owned()],
        awaited: vec![Awaited {
            prefix: "/b/".to_owned(),
            waits: waits.clone(),
        }],
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_woken_all_the_time_rests_longer_than_it_works() {
    // Fifty milliseconds of work and three times as much rest.
    let looks = looks(triggers(&Waits::default()), "/a/1").await;
    assert!((4..=6).contains(&looks), "{looks} looks in a second");
}

#[tokio::test(start_paused = true)]
async fn what_is_awaited_wakes_only_who_waits_for_it() {
    let waits = Waits::default();
    assert_eq!(looks(triggers(&waits), "/b/1").await, 0);
    assert!(waits.set(true), "it begins to wait");
    assert!(!waits.set(true), "it waited already");
    assert!(looks(triggers(&waits), "/b/1").await > 0);
    assert!(!waits.set(false));
    assert_eq!(looks(triggers(&waits), "/b/1").await, 0);
}
