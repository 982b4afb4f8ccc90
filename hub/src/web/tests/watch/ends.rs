//! Ends of watches, and what keeps them within bounds.

use super::*;

#[tokio::test]
async fn a_watch_ends_when_the_token_of_its_caller_is_deleted() {
    let web = Web::new().await;
    let (clear, kept) = crate::app::tokens::draw("bob", web.hub.app.now());
    web.hub.app.keep_api_token(&kept).await.unwrap();
    let mut of_alice = web.watch(TOKENS).await;
    let mut of_bob = Reader::of(web.ask("GET", TOKENS, Some(&clear), None).await);
    of_alice.first().await;
    of_bob.first().await;
    let gone = Txn::new().delete(keys::user(&kept.id).text());
    web.hub.app.commit(gone).await.unwrap();
    assert_eq!(of_bob.next().await, None);
    let a = web.a_token_for("lab-a").await;
    of_alice.is_told("ADDED", &a).await;
    let again = web.ask("GET", TOKENS, Some(&clear), None).await;
    assert_eq!(again.status(), 401);
}

#[tokio::test]
async fn every_watch_ends_when_the_hub_stops_or_leads_no_more() {
    let hub = TestHub::new().await;
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let watches = Watches::new(stop.clone(), tracker.clone());
    let web = Web::served(hub, watches).await;
    let mut reader = web.watch(TOKENS).await;
    reader.first().await;
    stop.cancel();
    assert_eq!(reader.block().await, None);
    tracker.close();
    timeout(PATIENCE, tracker.wait())
        .await
        .expect("no task is left");
    let late = web.ask("GET", TOKENS, Some(&web.token), None).await;
    assert_eq!(late.status(), 503);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_hub_is_not_held_up_by_a_reader_that_takes_nothing() {
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let watches = Watches::new(stop.clone(), tracker.clone());
    let web = Web::served(TestHub::new().await, watches).await;
    let _reader = web.watch(TOKENS).await;
    // More than wait for it, and not so long that it is sent away.
    for i in 0..8 {
        web.a_token_for(&format!("lab-{i}")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tracker.close();
    assert!(!tracker.is_empty());
    stop.cancel();
    timeout(Duration::from_secs(1), tracker.wait())
        .await
        .expect("no task is left");
}

#[tokio::test]
async fn one_token_has_only_so_many_watches_and_an_ended_one_makes_room() {
    let web = Web::new().await;
    let mut readers = Vec::new();
    let refused = loop {
        let answer = web.ask("GET", TOKENS, Some(&web.token), None).await;
        if answer.status() != 200 {
            break answer;
        }
        readers.push(Reader::of(answer));
    };
    assert_eq!((readers.len(), refused.status().as_u16()), (64, 429));
    assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
    let (_, problem) = read(refused).await;
    assert_eq!(problem["kind"], "too-many-requests");
    readers.pop();
    let begun = Instant::now();
    while web
        .ask("GET", TOKENS, Some(&web.token), None)
        .await
        .status()
        != 200
    {
        assert!(begun.elapsed() < PATIENCE, "its place is not free again");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_sent_away_and_holds_nothing() {
    let web = Web::new().await;
    let mut reader = web.watch(TOKENS).await;
    for i in 0..20 {
        web.a_token_for(&format!("lab-{i}")).await;
        // Each is told alone.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut told = 0;
    while let Some(block) = reader.block().await {
        let is_event = ["ADDED", "BOOKMARK"]
            .iter()
            .any(|what| block.contains(what));
        assert!(is_event, "it is still there: {block:?}");
        told += 1;
    }
    assert!(
        (1..10).contains(&told),
        "{told} of 21 events were kept for it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_lives_longer_than_a_request_and_keeps_its_place_in_history() {
    let web = Web::with_members().await;
    let mut reader = web.watch(TOKENS).await;
    let (_, begin) = reader.first().await;
    for _ in 0..5 {
        assert_eq!(reader.block().await.unwrap(), ": nothing new");
    }
    let joined = web.hub.app.presence(uid(LAB_1), Presence::Connected, 1);
    joined.await.unwrap();
    // What does not concern it moves it on, so that it can resume when that is long compacted.
    let told = reader.next().await.unwrap();
    let head = web.hub.store.list(Vec::new()).await.unwrap().revision;
    let marked = told.id.unwrap();
    assert_eq!((told.what.as_str(), marked), ("BOOKMARK", head.0));
    assert!(marked > begin);
}
