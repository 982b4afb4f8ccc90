//! What is written down while the leader changes: one chain, whoever led and whoever was asked.

use std::time::Instant;

use axum::body;
use http::StatusCode;
use meridian_api::audit::{self, ActorKind, Outcome, Place, Record};

use super::hubs::{Hubs, PATIENCE, pause};
use super::{others, role};

/// The whole log, as a replica answers it.
async fn exported(hubs: &Hubs, at: usize) -> String {
    let path = "/api/v1/audit/export";
    let answer = hubs.send(at, "GET", path, None, &[]).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{}", hubs.logs());
    let bytes = body::to_bytes(answer.into_body(), 1 << 24).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn records(log: &str) -> Vec<Record> {
    // The first line opens the log, the last one closes it.
    let lines: Vec<_> = log.lines().collect();
    let records = lines[1..lines.len() - 1].iter();
    records
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Makes a join token through each of these, and adds their names.
async fn written(hubs: &Hubs, replicas: &[usize], names: &mut Vec<String>) {
    for at in replicas {
        let answer = hubs.write(*at, "eu-1").await.unwrap();
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let name = answer.body["metadata"]["name"].as_str();
        names.push(name.unwrap().to_owned());
    }
}

/// Exports the log through each of these, verifies it against the places that were noted, and notes the newest; its records.
async fn verified(hubs: &Hubs, replicas: &[usize], noted: &mut Vec<Place>) -> Vec<Record> {
    let mut log = String::new();
    for at in replicas {
        log = exported(hubs, *at).await;
        let verified = audit::verify(log.lines(), noted);
        noted.push(
            verified
                .unwrap_or_else(|broken| panic!("{at}: {broken}\n{log}"))
                .head,
        );
    }
    records(&log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_is_one_chain_whoever_led_and_names_every_write_once() {
    let mut hubs = Hubs::start().await;
    let (mut names, mut noted) = (Vec::new(), Vec::new());
    let first = hubs.leader_among(&[0, 1, 2]).await;
    written(&hubs, &[0, 1, 2], &mut names).await;
    verified(&hubs, &[0, 1, 2], &mut noted).await;

    // One that was stopped wakes up when another leads, and hands on what it is asked.
    hubs.signal(first, "STOP");
    let rest = others(first);
    let second = hubs.leader_among(&rest).await;
    written(&hubs, &rest, &mut names).await;
    hubs.signal(first, "CONT");
    let begun = Instant::now();
    while hubs.leads(first) || role(&hubs, first).await != ("follows".to_owned(), 2) {
        assert!(begun.elapsed() < PATIENCE, "{}", hubs.logs());
        pause().await;
    }
    written(&hubs, &[0, 1, 2], &mut names).await;
    verified(&hubs, &[0, 1, 2], &mut noted).await;

    hubs.kill(second);
    let rest = others(second);
    let third = hubs.leader_among(&rest).await;
    written(&hubs, &rest, &mut names).await;
    let wrong = [("authorization", "Bearer mrda.0000.0000")];
    let asked = rest.iter().find(|at| **at != third).copied().unwrap();
    let refused = hubs
        .call(asked, "GET", "/api/v1/tokens", None, &wrong)
        .await;
    assert_eq!(refused.unwrap().status, StatusCode::UNAUTHORIZED);
    let records = verified(&hubs, &rest, &mut noted).await;

    let made = records.iter().map(|record| &record.event);
    let made: Vec<_> = made
        .filter(|event| (event.verb.as_str(), event.kind.as_str()) == ("create", "join token"))
        .collect();
    let found: Vec<_> = made.iter().map(|event| event.name.clone()).collect();
    assert_eq!(found, names, "each once, in their order");
    assert!(made.iter().all(|event| event.outcome == Outcome::Done));
    assert!(
        made.iter()
            .all(|event| event.actor.kind == ActorKind::Token)
    );
    assert!(made.is_sorted_by_key(|event| event.revision), "{made:#?}");
    let handed_on = made.iter().filter(|event| !event.via.is_empty()).count();
    // Of each round all but the one that was asked of the leader.
    assert_eq!(handed_on, names.len() - 4, "{made:#?}");
    let strangers = records.iter().map(|record| &record.event);
    let strangers = strangers.filter(|event| event.actor.kind == ActorKind::Unknown);
    let strangers: Vec<_> = strangers.map(|event| event.outcome).collect();
    assert_eq!(strangers, [Outcome::Refused], "by the leader alone");
}
