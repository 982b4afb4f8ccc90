//! The road of a request by its trace: over a restart of the hub, to the members and back, and through a replica that follows.

use std::time::{Duration, Instant};

use http::response::Parts;
use meridian_api::link::proto::{self, agent_frame::Frame as FromAgent, hub_frame::Frame};
use serde_json::Value;

use super::hub::{DATABASES, Hub, PATIENCE, database};
use super::member::Session;
use super::{EU, US};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Makes a database within the trace, once the hub knows the RECs of both members.
async fn creates_within_a_trace(hub: &Hub, name: &str) -> Parts {
    let (begun, body) = (Instant::now(), database(name));
    loop {
        let made = hub.call_within("POST", DATABASES, Some(&body), Some(PARENT));
        if let Some((parts, _)) = made.await
            && parts.status == 202
        {
            return parts;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", hub.logged());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the log of the hub says all this in lines that bear the trace.
async fn says(hub: &Hub, all: &[&str]) {
    let begun = Instant::now();
    loop {
        let log = hub.logged();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(TRACE)).collect();
        let missing = all
            .iter()
            .find(|what| !lines.iter().any(|line| line.contains(**what)));
        let Some(missing) = missing else { return };
        assert!(begun.elapsed() < PATIENCE, "{missing:?} is missing\n{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn traceresponse(parts: &Parts) -> &str {
    parts.headers["traceresponse"].to_str().unwrap()
}

/// The newest record of the audit log that is about this object.
async fn audited(hub: &Hub, name: &str) -> Value {
    let (_, list) = hub
        .call_within("GET", "/api/v1/audit", None, None)
        .await
        .unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let mut events = items.map(|item| &item["event"]);
    events.find(|event| event["name"] == name).unwrap().clone()
}

async fn comes(session: &mut Session, name: &str) -> proto::Item {
    loop {
        if let Frame::Apply(apply) = session.hear().await
            && let Some(item) = apply.items.into_iter().find(|item| item.name == name)
        {
            return item;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_followed_to_a_member_and_back_over_a_restart_of_the_hub() {
    let mut hub = Hub::start().await;
    let (eu, us) = (hub.joined("eu-1", EU).await, hub.joined("us-1", US).await);
    for (member, name) in [(&eu, "eu-1"), (&us, "us-1")] {
        let (session, _) = member.session(None).await;
        session.reports_a_rec(name).await;
        hub.knows(name).await;
    }
    // Nobody is there when it is made.
    let made = creates_within_a_trace(&hub, "cart").await;
    assert!(
        traceresponse(&made).starts_with(&format!("00-{TRACE}-")),
        "{made:?}"
    );
    assert_ne!(traceresponse(&made), PARENT, "it is a span of its own");
    assert_eq!(audited(&hub, "cart").await["trace"], TRACE);
    let body = database("cart");
    let again = hub.call_within("POST", DATABASES, Some(&body), Some(PARENT));
    let (_, problem) = again.await.unwrap();
    assert_eq!(problem["traceId"], TRACE, "{problem}");

    hub.kill();
    hub.again().await;
    let (mut session, _) = eu.session(None).await;
    let item = comes(&mut session, "cart").await;
    assert_eq!(hex(&item.trace_id), TRACE, "{item:?}");
    let outcome = proto::Outcome {
        object_id: item.object_id,
        revision: item.revision,
        result: proto::OutcomeResult::Applied.into(),
        trace_id: item.trace_id,
        ..proto::Outcome::default()
    };
    session.say(FromAgent::Outcome(outcome)).await;
    let road = [
        "a request was answered",
        "a plan carries out a request",
        "a member is told an object",
        "a member says what became of an object",
    ];
    says(&hub, &road).await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(feature = "lab")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_keeps_its_trace_where_a_replica_hands_it_on() {
    let etcd = super::etcd::Etcd::start().await;
    let hub = Hub::over(etcd.endpoints()).await;
    let mut follower = hub.follower().await;
    let wanted = super::hub::token_for("eu-9");
    for parent in [Some(PARENT), None] {
        let made = follower.call_within("POST", "/api/v1/tokens", Some(&wanted), parent);
        let (parts, made) = made.await.unwrap();
        let name = made["metadata"]["name"].as_str().unwrap();
        let trace = audited(&hub, name).await["trace"].clone();
        let trace = trace.as_str().unwrap();
        assert!(
            traceresponse(&parts).contains(trace),
            "{trace} {:?}",
            parts.headers
        );
        assert_eq!(trace == TRACE, parent.is_some());
        for log in [hub.logged(), follower.logged()] {
            assert!(log.contains(trace), "{trace}\n{log}");
        }
    }
    follower.stop().await;
}
