//! What a person decides about a cluster with the command line: it reaches the member's stream, and the audit log tells who did it.

use std::time::{Duration, Instant};

use meridian_agent::link::{enroll::EnrollError, identity::Identity};
use meridian_api::link::codes;
use meridian_api::link::proto::hub_frame::Frame;
use serde_json::Value;

use super::EU;
use super::hub::{Hub, Ran};
use super::joining::{Refused, join};
use super::member::{Member, Session};

fn done(hub: &Hub, args: &[&str]) -> String {
    let Ran {
        success,
        stdout,
        stderr,
    } = hub.cli(args);
    assert!(success, "{args:?}: {stdout}{stderr}");
    stdout
}

/// Denies a member by the command at this hub, and waits until its stream has ended.
async fn deny(at: &Hub, mut session: Session) {
    done(
        at,
        &["cluster", "deny", "eu-1", "--reason", "machine was stolen"],
    );
    let denied = Instant::now();
    let bye = loop {
        if let Frame::Bye(bye) = session.hear().await {
            break bye;
        }
    };
    let took = denied.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?} after the command");
    assert_eq!(bye.code, codes::REVOKED);
    assert!(
        bye.message.contains("machine was stolen"),
        "{}",
        bye.message
    );
}

/// Who did what to eu-1, the oldest first.
fn told(hub: &Hub) -> Vec<String> {
    let listed = done(hub, &["audit", "list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let items = listed["items"].as_array().unwrap().iter().rev();
    let events = items.map(|record| &record["event"]);
    events
        .filter(|event| event["name"] == "eu-1")
        .map(|event| {
            let text = |field: &str| event.pointer(field).and_then(Value::as_str);
            ["/actor/kind", "/actor/name", "/verb", "/outcome"]
                .map(|field| text(field).unwrap_or_default())
                .join(" ")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_approves_denies_and_releases_a_cluster_and_the_log_tells_who_did() {
    let hub = Hub::start().await;
    let material = hub.material("eu-1", true).await;
    let mut identity = Identity::generate().unwrap();
    let refused = join(&mut identity, &material, EU).await.unwrap_err();
    let Refused::Enroll(EnrollError::AwaitsApproval { words, .. }) = refused else {
        panic!("{refused}")
    };
    let listed = done(&hub, &["token", "list"]);
    assert!(listed.contains(&words), "{listed}");
    let approve = |words: &str| hub.cli(&["cluster", "approve", "eu-1", "--words", words]);
    let wrong = approve("lusab babad gutih tugad hosum");
    assert!(
        !wrong.success && wrong.stderr.contains("not the words"),
        "{wrong:?}"
    );
    assert!(approve(&words).success);
    join(&mut identity, &material, EU).await.unwrap();

    let uid = EU.to_owned();
    let member = Member { identity, uid };
    deny(&hub, member.session(None).await.0).await;
    let shown = done(&hub, &["cluster", "list"]);
    assert!(shown.contains("(Denied)"), "{shown}");
    let shown = done(&hub, &["describe", "cluster", "eu-1"]);
    assert!(shown.contains("machine was stolen"), "{shown}");
    done(&hub, &["cluster", "release", "eu-1"]);
    drop(member.session(None).await);
    let expected = [
        "member eu-1 ask done",
        "token admin approve refused",
        "token admin approve done",
        "member eu-1 join done",
        "token admin deny done",
        "token admin release done",
    ];
    assert_eq!(told(&hub), expected);
    done(&hub, &["audit", "verify"]);
}

#[cfg(feature = "lab")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_that_a_follower_takes_ends_the_stream_at_the_leader_within_a_second() {
    let etcd = super::etcd::Etcd::start().await;
    let hub = Hub::over(etcd.endpoints()).await;
    let follower = hub.follower().await;
    let member = hub.joined("eu-1", EU).await;
    deny(&follower, member.session(None).await.0).await;
    done(&follower, &["cluster", "release", "eu-1"]);
    drop(member.session(None).await);
}
