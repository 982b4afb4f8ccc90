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
    let told = anew_after_failures(Some(SILENT), deaf)
        .take(3)
        .map(|event| match event {
            Ok(Event::InitApply(number)) => (number, began.elapsed()),
            other => panic!("expected a listed object, found {other:?}"),
        })
        .collect::<Vec<_>>();
    let told = tokio::time::timeout(10 * SILENT, told).await.unwrap();
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

#[tokio::test]
async fn a_report_that_an_older_definition_refuses_is_told_without_what_it_does_not_know() {
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&sent);
    let server = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
        let keep = Arc::clone(&keep);
        async move {
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let refuse = !body["status"]["members"][0]["file"].is_null();
            keep.lock().unwrap().push(body["status"].clone());
            let text = "failed to create typed patch object (ns/db; meridian.dev/v1alpha1, Kind=DatabaseTopology): \
                        .status.members[pod=\"rec-0\"].file: field not declared in schema";
            let (code, answer) = if refuse {
                let status = serde_json::json!({"kind": "Status", "status": "Failure", "code": 500, "message": text});
                (500, status)
            } else {
                (
                    200,
                    serde_json::json!({"apiVersion": "meridian.dev/v1alpha1", "kind": "DatabaseTopology",
                    "metadata": {"name": "db"}, "spec": {"database": {"kind": "k", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec",
                    "epoch": 1, "port": 12000, "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": "disabled", "replication": false, "shards": []}}),
                )
            };
            let body = kube::client::Body::from(serde_json::to_vec(&answer).unwrap());
            let answer = axum::http::Response::builder()
                .status(code)
                .body(body)
                .unwrap();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let api = Api::namespaced(Client::new(server, "ns"), "ns");
    let member = |file: serde_json::Value| serde_json::json!({"members": [{"pod": "rec-0", "epoch": 1, "file": file}]});
    write(&api, "rec-0", "db", &member(serde_json::json!("x")))
        .await
        .unwrap();
    let sent = sent.lock().unwrap().clone();
    let without = serde_json::json!({"members": [{"pod": "rec-0", "epoch": 1}]});
    assert_eq!(sent, [member(serde_json::json!("x")), without]);
}
