use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;

/// A watch that fails, as kube's does, and would go on from where it was.
fn watch(number: usize) -> impl Stream<Item = watcher::Result<Event<usize>>> {
    stream::iter([
        Ok(Event::Init),
        Ok(Event::InitApply(number)),
        Ok(Event::InitDone),
        Err(watcher::Error::NoResourceVersion),
        Ok(Event::Apply(99)),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_failed_lists_everything_anew() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let events = anew_after_failures(None, move || watch(count.fetch_add(1, Ordering::SeqCst)));
    let told: Vec<_> = events.take(12).collect().await;
    let shown: Vec<_> = told
        .iter()
        .map(|event| match event {
            Ok(Event::InitApply(number)) => number.to_string(),
            Ok(Event::Apply(number)) => format!("went on: {number}"),
            Ok(_) => String::new(),
            Err(_) => "failed".to_owned(),
        })
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(shown, ["0", "failed", "1", "failed", "2", "failed"]);
    assert_eq!(started.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_silent_lists_everything_anew() {
    let listed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&listed);
    let deaf = move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        stream::iter([Ok(Event::InitApply(number))]).chain(stream::pending())
    };
    let began = tokio::time::Instant::now();
    let told: Vec<_> = anew_after_failures(Some(SILENT), deaf)
        .take(3)
        .map(|event| match event {
            Ok(Event::InitApply(number)) => (number, began.elapsed()),
            other => panic!("expected a listed object, found {other:?}"),
        })
        .collect()
        .await;
    assert_eq!(told, [(0, Duration::ZERO), (1, SILENT), (2, 2 * SILENT)]);
}

#[tokio::test]
async fn what_is_told_while_orders_are_carried_out_is_followed_next_and_together() {
    let (tell, told) = watch::channel(None);
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let done = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&done);
    let following = tokio::spawn(follow_newest(told, move |order: u32| {
        begin.send(order).unwrap();
        let gate = Arc::clone(&gate);
        async move { gate.acquire().await.unwrap().forget() }
    }));
    tell.send_replace(Some(1));
    assert_eq!(begun.recv().await, Some(1));
    for order in 2..=40 {
        tell.send_replace(Some(order));
    }
    done.add_permits(1);
    assert_eq!(begun.recv().await, Some(40));
    done.add_permits(1);
    drop(tell);
    following.await.unwrap();
    assert_eq!(begun.recv().await, None, "nothing is followed twice");
}
