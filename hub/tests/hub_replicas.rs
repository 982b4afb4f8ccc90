//! Three processes of the hub over three processes of etcd.

#![cfg(feature = "lab")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are outside of the functions that clippy knows as tests"
)]

#[path = "hub_replicas/audit.rs"]
mod audit;
#[path = "../src/store/etcd/tests/group.rs"]
mod group;
#[path = "hub_replicas/hubs.rs"]
mod hubs;
#[path = "hub_replicas/watch.rs"]
mod watch;

use std::time::{Duration, Instant};

use http::{StatusCode, header};
use meridian_hub::store::etcd::{EtcdSettings, EtcdStore, Tls};
use meridian_hub::store::{Fence, Store as _, Txn};
use serde_json::Value;

use hubs::{Hubs, PATIENCE, pause};

/// The bar for a failover of the leader.
const FAILOVER: Duration = Duration::from_secs(5);

fn others(leader: usize) -> Vec<usize> {
    (0..3).filter(|at| *at != leader).collect()
}

async fn role(hubs: &Hubs, at: usize) -> (String, u64) {
    let hub = hubs.call(at, "GET", "/api/v1/hub", None, &[]).await;
    let hub = hub.map(|answer| answer.body).unwrap_or(Value::Null);
    let role = hub["role"].as_str().unwrap_or_default().to_owned();
    (role, hub["term"].as_u64().unwrap_or_default())
}

/// Waits until a replica shows all of these.
async fn shows(hubs: &Hubs, at: usize, names: &[String]) {
    let begun = Instant::now();
    loop {
        let found = hubs.names(at, &[]).await;
        if names.iter().all(|name| found.contains(name)) {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{at}: {found:?}\n{}",
            hubs.logs()
        );
        pause().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_replicas_leads_and_every_one_takes_reads_and_writes() {
    let hubs = Hubs::start().await;
    let leader = hubs.leader_among(&[0, 1, 2]).await;
    let mut written = Vec::new();
    for at in 0..3 {
        let name = format!("cluster-{at}");
        let answer = hubs.write(at, &name).await.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        written.push(name);
        let newest = hubs.names(at, &[("cache-control", "no-cache")]).await;
        assert_eq!(newest.len(), written.len(), "the newest is the leader's");
    }
    for at in 0..3 {
        shows(&hubs, at, &written).await;
        let answer = hubs
            .call(at, "GET", "/api/v1/tokens", None, &[])
            .await
            .unwrap();
        let age = answer.headers.get(header::AGE);
        let age = age.map(|age| age.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(age.is_some(), at != leader, "only a copy has an age");
        assert!(age.unwrap_or_default() <= 3, "{age:?}");
        let (role, term) = role(&hubs, at).await;
        let expected = if at == leader { "leads" } else { "follows" };
        assert_eq!((role.as_str(), term), (expected, 1));
    }
    let refused = hubs
        .call(
            others(leader)[0],
            "POST",
            "/api/v1/tokens",
            None,
            &[("authorization", "Bearer x")],
        )
        .await
        .unwrap();
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_handed_on_once_and_a_follower_that_has_no_leader_says_when_to_try_again() {
    let mut hubs = Hubs::start().await;
    let leader = hubs.leader_among(&[0, 1, 2]).await;
    let follower = others(leader)[0];
    let looped = [("x-meridian-forwarded-by", "somebody")];
    let refused = hubs
        .call(follower, "POST", "/api/v1/tokens", None, &looped)
        .await;
    let refused = refused.unwrap();
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    assert_eq!(
        refused.headers[header::CONTENT_TYPE],
        "application/problem+json"
    );

    // What members observe the leader knows alone.
    let databases = "/api/v1/activeactivedatabases";
    let read = hubs.call(follower, "GET", databases, None, &[]).await;
    let read = read.unwrap();
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    assert!(!read.headers.contains_key(header::AGE), "{read:?}");

    // Without a majority of etcd nobody leads, and what was read before is still answered.
    hubs.etcd.kill(0).await;
    hubs.etcd.kill(1).await;
    let begun = Instant::now();
    while hubs.leads(leader) {
        assert!(begun.elapsed() < PATIENCE, "{}", hubs.logs());
        pause().await;
    }
    let refused = hubs.write(leader, "late").await.unwrap();
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );
    let read = hubs
        .call(follower, "GET", "/api/v1/tokens", None, &[])
        .await
        .unwrap();
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    let read = hubs.call(follower, "GET", databases, None, &[]).await;
    let read = read.unwrap();
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    assert!(read.headers.contains_key(header::AGE), "{read:?}");
    // Who shows no token is told so, whoever leads.
    let nobody = [("authorization", "none")];
    let refused = hubs
        .call(follower, "POST", "/api/v1/tokens", None, &nobody)
        .await
        .unwrap();
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
    hubs.etcd.restart(0).await;
    hubs.leader_among(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_another_within_five_seconds_and_an_ended_one_at_once() {
    let mut hubs = Hubs::start().await;
    let first = hubs.leader_among(&[0, 1, 2]).await;
    hubs.write(first, "before").await.unwrap();
    let killed = Instant::now();
    hubs.kill(first);
    let rest = others(first);
    let second = hubs.leader_among(&rest).await;
    let took = killed.elapsed();
    assert!(took <= FAILOVER, "{took:?}\n{}", hubs.logs());
    println!("leader killed: another after {} ms", took.as_millis());
    let mut written = vec!["before".to_owned()];
    for at in &rest {
        let name = format!("after-{at}");
        let answer = hubs.write(*at, &name).await.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        written.push(name);
    }
    for at in &rest {
        shows(&hubs, *at, &written).await;
    }
    assert_eq!(role(&hubs, second).await, ("leads".to_owned(), 2));

    let ended = Instant::now();
    hubs.signal(second, "TERM");
    assert!(hubs.ended(second).await, "{}", hubs.logs());
    let last = rest.into_iter().find(|at| *at != second).unwrap();
    hubs.leader_among(&[last]).await;
    let took = ended.elapsed();
    println!("leader ended: another after {} ms", took.as_millis());
    assert!(took <= Duration::from_secs(2), "{took:?}\n{}", hubs.logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_wakes_up_as_a_follower_and_writes_nothing() {
    let hubs = Hubs::start().await;
    let former = hubs.leader_among(&[0, 1, 2]).await;
    hubs.signal(former, "STOP");
    let second = hubs.leader_among(&others(former)).await;
    let answer = hubs.write(second, "meanwhile").await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    hubs.signal(former, "CONT");
    // Whatever it takes while it wakes up is carried out by its successor or not at all.
    let mut late = Vec::new();
    for n in 0..20 {
        let name = format!("late-{n}");
        if let Some(answer) = hubs.write(former, &name).await {
            let (status, body) = (answer.status, &answer.body);
            let refused = status == StatusCode::SERVICE_UNAVAILABLE;
            assert!(refused || status == StatusCode::CREATED, "{status} {body}");
            late.push((name, status == StatusCode::CREATED));
        }
    }
    let begun = Instant::now();
    while hubs.leads(former) || role(&hubs, former).await != ("follows".to_owned(), 2) {
        assert!(begun.elapsed() < PATIENCE, "{}", hubs.logs());
        pause().await;
    }
    let names = hubs.names(second, &[]).await;
    for (name, written) in late {
        assert_eq!(names.contains(&name), written, "{name}");
    }
    let answer = hubs.write(former, "through-the-former").await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    shows(
        &hubs,
        former,
        &["meanwhile".to_owned(), "through-the-former".to_owned()],
    )
    .await;
    assert_eq!(role(&hubs, second).await, ("leads".to_owned(), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_term_was_raised_by_somebody_else_makes_way_for_one_that_can_write() {
    let hubs = Hubs::start().await;
    let leader = hubs.leader_among(&[0, 1, 2]).await;
    hubs.write(leader, "before").await.unwrap();
    // As a hub does that knows nothing of seats, or a transaction of this one whose answer is lost.
    let store = EtcdStore::open(&hubs.etcd.settings()).await.unwrap();
    let raising = Txn::new().put("/raised", "x");
    store.commit(raising, Fence(50)).await.unwrap();
    let begun = Instant::now();
    for n in 0.. {
        let answer = hubs.write(leader, &format!("after-{n}")).await.unwrap();
        if answer.status == StatusCode::CREATED {
            break;
        }
        let refused = answer.status == StatusCode::SERVICE_UNAVAILABLE;
        assert!(
            refused && begun.elapsed() < FAILOVER,
            "{answer:?}\n{}",
            hubs.logs()
        );
        pause().await;
    }
    println!(
        "term raised: written again after {} ms",
        begun.elapsed().as_millis()
    );
    let newest = hubs.leader_among(&[0, 1, 2]).await;
    assert_eq!(role(&hubs, newest).await, ("leads".to_owned(), 51));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_when_a_member_of_etcd_is_lost() {
    let mut hubs = Hubs::start().await;
    for member in 0..3 {
        hubs.etcd.kill(member).await;
        for at in 0..3 {
            let name = format!("without-{member}-{at}");
            let begun = Instant::now();
            loop {
                let answer = hubs.write(at, &name).await.unwrap();
                if answer.status == StatusCode::CREATED {
                    break;
                }
                // While etcd elects, and while the replicas do.
                assert!(
                    answer.status.is_server_error() && begun.elapsed() < PATIENCE,
                    "{answer:?}\n{}",
                    hubs.logs()
                );
                pause().await;
            }
        }
        hubs.etcd.restart(member).await;
    }
    hubs.leader_among(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_another_authority_refuses_to_start_and_names_both() {
    let hubs = Hubs::start().await;
    let other = hubs.dir.path().join("other");
    let domain = || "meridian.local".parse().unwrap();
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let (theirs, _) = meridian_hub::ca::Authority::open(&other, domain(), now).unwrap();
    let shared = hubs.dir.path().join("ca");
    let (ours, _) = meridian_hub::ca::Authority::given(&shared, domain()).unwrap();
    let refused = hubs.another(&other);
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    for part in [
        theirs.fingerprint(),
        ours.fingerprint(),
        "--ca-dir".to_owned(),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
}
