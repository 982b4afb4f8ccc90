//! A watch through replicas, while they come and go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::body::BodyDataStream;
use futures::StreamExt as _;
use http::StatusCode;
use serde_json::Value;

use super::hubs::{Hubs, PATIENCE, pause};
use super::others;

const TOKENS: &str = "/api/v1/tokens?watch=true";
/// How soon a watch ends that has to.
const AT_ONCE: Duration = Duration::from_secs(5);

/// One reader of what becomes of join tokens.
struct Reader {
    pieces: BodyDataStream,
    unread: String,
    /// From where it would resume.
    id: Option<String>,
    /// How often it was told each: what happened, to the token with this name.
    told: BTreeMap<(String, String), usize>,
}

impl Reader {
    /// Begins through a replica, or goes on after what another reader has seen.
    async fn begin(hubs: &Hubs, at: usize, seen: Option<&str>) -> Self {
        let headers: Vec<_> = seen.map(|id| ("last-event-id", id)).into_iter().collect();
        let begun = Instant::now();
        loop {
            let answer = hubs.send(at, "GET", TOKENS, None, &headers).await;
            match answer {
                Some(answer) if answer.status() == StatusCode::OK => {
                    return Self {
                        pieces: answer.into_body().into_data_stream(),
                        unread: String::new(),
                        id: seen.map(str::to_owned),
                        told: BTreeMap::new(),
                    };
                }
                // Nobody leads yet, and it says so.
                Some(answer) => assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE),
                None => panic!("{at} does not answer\n{}", hubs.logs()),
            }
            assert!(begun.elapsed() < PATIENCE, "{}", hubs.logs());
            pause().await;
        }
    }

    /// Reads on; false at the end.
    async fn read(&mut self) -> bool {
        let piece = tokio::time::timeout(PATIENCE, self.pieces.next()).await;
        // A connection that broke is an end as well.
        let Some(Ok(piece)) = piece.unwrap() else {
            return false;
        };
        self.unread.push_str(std::str::from_utf8(&piece).unwrap());
        while let Some((event, rest)) = self.unread.split_once("\n\n") {
            for line in event.lines() {
                if let Some(id) = line.strip_prefix("id: ") {
                    self.id = Some(id.to_owned());
                } else if let Some(data) = line.strip_prefix("data: ") {
                    let event: Value = serde_json::from_str(data).unwrap();
                    let part = |found: &Value| found.as_str().unwrap_or_default().to_owned();
                    let name = part(&event["object"]["metadata"]["name"]);
                    let key = (part(&event["type"]), name);
                    *self.told.entry(key).or_default() += 1;
                }
            }
            self.unread = rest.to_owned();
        }
        true
    }

    /// Reads until it was told all of these, each once and nothing else, and could resume.
    async fn is_told(&mut self, expected: &[(&str, String)]) {
        let expected = expected.iter().map(|(what, name)| (*what, name.as_str()));
        let expected: BTreeMap<_, usize> = expected.map(|told| (told, 1)).collect();
        loop {
            let told = self.told.iter().filter(|((what, _), _)| what != "BOOKMARK");
            let told: BTreeMap<_, usize> = told
                .map(|((what, name), times)| ((what.as_str(), name.as_str()), *times))
                .collect();
            if told == expected && self.id.is_some() {
                return;
            }
            let more = told
                .iter()
                .find(|(told, times)| expected.get(*told) != Some(times));
            assert_eq!(more, None, "{expected:?}");
            assert!(self.read().await, "the watch ended after {:?}", self.told);
        }
    }

    /// Reads to the end.
    async fn ends(&mut self) {
        let begun = Instant::now();
        while self.read().await {}
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
}

impl Hubs {
    /// Makes a join token through a replica; its name.
    async fn token(&self, at: usize, cluster: &str) -> String {
        let answer = self.write(at, cluster).await.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let name = &answer.body["metadata"]["name"];
        name.as_str().unwrap().to_owned()
    }

    async fn delete(&self, at: usize, token: &str) {
        let path = format!("/api/v1/tokens/{token}");
        let answer = self.call(at, "DELETE", &path, None, &[]).await.unwrap();
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_through_a_follower_goes_on_after_the_leader_is_lost_and_misses_nothing() {
    let mut hubs = Hubs::start().await;
    let first = hubs.leader_among(&[0, 1, 2]).await;
    let [follower, other] = others(first)[..] else {
        panic!("three replicas");
    };
    let before = hubs.token(first, "before").await;
    let mut reader = Reader::begin(&hubs, follower, None).await;
    let mut written = vec![("ADDED", before.clone())];
    for at in 0..3 {
        written.push(("ADDED", hubs.token(at, &format!("through-{at}")).await));
    }
    reader.is_told(&written).await;

    hubs.kill(first);
    reader.ends().await;
    let second = hubs.leader_among(&[follower, other]).await;
    let meanwhile = hubs.token(second, "meanwhile").await;
    hubs.delete(second, &before).await;
    // The successor never saw what was deleted: only the log of the store knows.
    let mut since = vec![("ADDED", meanwhile), ("DELETED", before)];
    for at in [follower, other] {
        let mut again = Reader::begin(&hubs, at, reader.id.as_deref()).await;
        again.is_told(&since).await;
        since.push(("ADDED", hubs.token(at, &format!("after-{at}")).await));
        again.is_told(&since).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_at_once_with_the_replica_that_tells_it_and_with_the_one_that_hands_it_on() {
    let mut hubs = Hubs::start().await;
    let leader = hubs.leader_among(&[0, 1, 2]).await;
    let [follower, last] = others(leader)[..] else {
        panic!("three replicas");
    };
    let one = hubs.token(leader, "one").await;
    let mut handed_on = Reader::begin(&hubs, follower, None).await;
    handed_on.is_told(&[("ADDED", one.clone())]).await;
    let begun = Instant::now();
    hubs.signal(follower, "TERM");
    handed_on.ends().await;
    assert!(hubs.ended(follower).await, "{}", hubs.logs());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());

    let mut handed_on = Reader::begin(&hubs, last, None).await;
    handed_on.is_told(&[("ADDED", one.clone())]).await;
    let begun = Instant::now();
    hubs.signal(leader, "TERM");
    handed_on.ends().await;
    assert!(hubs.ended(leader).await, "{}", hubs.logs());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    hubs.leader_among(&[last]).await;
    let two = hubs.token(last, "two").await;
    let mut again = Reader::begin(&hubs, last, handed_on.id.as_deref()).await;
    again.is_told(&[("ADDED", two)]).await;
}
