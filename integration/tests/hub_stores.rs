//! What becomes of a hub whose store is put back: processes of the hub and of the command line, and members that speak over
//! the real link. Needs `target/debug/meridian-hub` and `target/debug/meridian` (`cargo test --workspace` builds them); with
//! the feature `lab` etcd as well.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where its ground gives way"
)]

#[path = "hub_stores/decisions.rs"]
mod decisions;
#[cfg(feature = "lab")]
#[path = "hub_stores/etcd.rs"]
mod etcd;
#[path = "hub_stores/formats.rs"]
mod formats;
#[path = "hub_stores/hub.rs"]
mod hub;
#[path = "link_enrollment/hub.rs"]
#[expect(dead_code, reason = "only joining is needed of it")]
mod joining;
#[path = "hub_stores/member.rs"]
mod member;
#[path = "hub_stores/refusals.rs"]
mod refusals;
#[path = "hub_stores/rotation.rs"]
mod rotation;
#[path = "hub_stores/support.rs"]
mod support;
#[path = "hub_stores/trace.rs"]
mod trace;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hub::Hub;
use member::{Member, Obeyed, STRANGE};
use meridian_api::link::proto::{ConfirmAction, SyncMode, hub_frame::Frame};
use tokio_util::sync::CancellationToken;

const EU: &str = "0e0e0e0e-0000-4000-8000-000000000001";
const US: &str = "0e0e0e0e-0000-4000-8000-000000000002";

/// Two members that obey a hub.
struct Members {
    eu: Member,
    us: Member,
    /// What `eu` obeyed last.
    obeyed: Obeyed,
}

impl Members {
    /// Joins both and lets them obey a database.
    async fn of(hub: &Hub) -> Self {
        let (eu, us) = (hub.joined("eu-1", EU).await, hub.joined("us-1", US).await);
        let (mut first, _) = eu.session(None).await;
        let (mut second, _) = us.session(None).await;
        first.reports_a_rec("eu-1").await;
        second.reports_a_rec("us-1").await;
        hub.creates("cart").await;
        let obeyed = first.obeys("cart").await;
        second.obeys("cart").await;
        Self { eu, us, obeyed }
    }

    /// Both obey one more database, under the hub that runs now.
    async fn obey(&mut self, hub: &Hub, name: &str) {
        let last = self.obeyed.position.clone();
        let (mut first, welcome) = self.eu.session(Some(last)).await;
        assert_eq!(welcome.mode(), SyncMode::Resume, "{welcome:?}");
        let (mut second, _) = self.us.session(None).await;
        hub.creates(name).await;
        self.obeyed = first.obeys(name).await;
        second.obeys(name).await;
    }

    /// The hub only observes: what a member obeyed under a later state, and what the hub never heard of, stays as it is.
    /// Then a person promotes it.
    async fn are_observed_until_the_hub_is_promoted(&self, hub: &Hub, unknown: &BTreeSet<String>) {
        let last = &self.obeyed.position;
        let (mut session, welcome) = self.eu.session(Some(last.clone())).await;
        assert_eq!(welcome.mode(), SyncMode::Observe, "{welcome:?}");
        let status = hub.status().await;
        assert_eq!(status["mode"], "observes", "{status}");
        assert_eq!(hub.create("meanwhile").await, 409, "no intent is taken");
        assert!(matches!(session.hear().await, Frame::DigestAsk(_)));
        session.holds(&self.obeyed.objects).await;
        let mut kept = BTreeSet::new();
        loop {
            let frame = session.hear().await;
            if let Frame::Beat(_) = frame {
                break;
            }
            let Frame::Confirm(confirm) = frame else {
                panic!("{frame:?} while the hub only observes")
            };
            assert_eq!(confirm.action(), ConfirmAction::Keep);
            kept.insert(confirm.object_id);
        }
        let mut expected = unknown.clone();
        expected.insert(STRANGE.to_owned());
        assert_eq!(kept, expected, "what the hub does not know is kept");

        let ran = hub.cli(&["hub", "promote", "--yes"]);
        assert!(ran.stdout.contains("decides"), "{ran:?}");
        let (mut session, welcome) = self.eu.session(Some(last.clone())).await;
        assert_eq!(welcome.mode(), SyncMode::Full, "{welcome:?}");
        let term = welcome.head.unwrap().term;
        assert!(term > last.term, "{term} {last:?}");
        let obeyed = session.obeys("cart").await.position;
        assert_eq!(obeyed.term, term);
        // Above what the member reported.
        hub.creates("after").await;
        let membership = hub.database("after").await;
        let version = membership["status"]["configVersion"].as_u64();
        let plan = membership["status"]["planNumber"].as_u64();
        assert!(version > Some(9) && plan > Some(30), "{membership}");
        let ids = membership["status"]["participants"].as_array().unwrap();
        let mut ids = ids.iter().map(|it| it["instanceId"].as_u64());
        assert!(ids.all(|id| id > Some(7)), "{membership}");
    }
}

fn copied(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_file_that_is_put_back_is_noticed_by_a_member_and_only_observed() {
    let mut hub = Hub::start().await;
    let mut members = Members::of(&hub).await;
    let copy = hub.dir.path().join("copy.redb");
    hub.stop().await;
    copied(&hub.store(), &copy);
    hub.again().await;
    members.obey(&hub, "later").await;
    hub.stop().await;
    copied(&copy, &hub.store());
    hub.again().await;
    assert_eq!(hub.status().await["mode"], "decides", "nobody knows yet");
    let unknown = members.obeyed.objects.clone();
    members
        .are_observed_until_the_hub_is_promoted(&hub, &unknown)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_hub_observes_before_any_member_comes_and_goes_on_once_promoted() {
    let mut hub = Hub::start().await;
    let mut members = Members::of(&hub).await;
    let before = hub.status().await;
    let file = hub.backup();
    members.obey(&hub, "later").await;
    hub.stop().await;

    let dry = hub.restore(&file, &["--dry-run"]);
    assert!(!dry.success && dry.stderr.contains("not empty"), "{dry:?}");
    // The store of the hub that was lost is out of the way.
    let lost = hub.dir.path().join("lost.redb");
    std::fs::rename(hub.store(), lost).unwrap();
    let dry = hub.restore(&file, &["--dry-run"]);
    assert!(dry.stdout.contains("would restore"), "{dry:?}");
    assert!(!hub.store().exists(), "a dry run makes nothing");
    let ran = hub.restore(&file, &[]);
    assert!(ran.stdout.contains("only observes"), "{ran:?}");
    hub.again().await;
    let after = hub.status().await;
    assert_eq!(after["mode"], "observes", "{after}");
    assert_eq!(after["storeId"], before["storeId"]);
    assert!(after["term"].as_u64() > before["term"].as_u64(), "{after}");
    let unknown = members.obeyed.objects.clone();
    members
        .are_observed_until_the_hub_is_promoted(&hub, &unknown)
        .await;
}

#[cfg(feature = "lab")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_etcd_that_is_put_back_is_noticed_by_a_member_and_only_observed() {
    let mut etcd = etcd::Etcd::start().await;
    let mut hub = Hub::over(etcd.endpoints()).await;
    let mut members = Members::of(&hub).await;
    hub.stop().await;
    etcd.stopped(etcd::Put::Aside).await;
    hub.again().await;
    members.obey(&hub, "later").await;
    hub.stop().await;
    etcd.stopped(etcd::Put::Back).await;
    hub.again().await;
    assert_eq!(hub.status().await["mode"], "decides", "nobody knows yet");
    let unknown = members.obeyed.objects.clone();
    members
        .are_observed_until_the_hub_is_promoted(&hub, &unknown)
        .await;
}

#[cfg(feature = "lab")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_through_a_follower_and_from_one_kind_of_store_into_the_other_and_back() {
    let (first, second) = (etcd::Etcd::start().await, etcd::Etcd::start().await);
    let mut hub = Hub::over(first.endpoints()).await;
    let members = Members::of(&hub).await;
    let mut follower = hub.follower().await;
    let of_etcd = follower.backup();
    follower.stop().await;
    hub.stop().await;
    hub.keep_state_in(Vec::new());
    let ran = hub.restore(&of_etcd, &[]);
    assert!(ran.success, "{ran:?}");
    hub.again().await;
    assert_eq!(hub.status().await["mode"], "observes");
    let of_file = hub.backup();
    hub.stop().await;
    hub.keep_state_in(second.endpoints());
    let ran = hub.restore(&of_file, &["-o", "json"]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["mode"], "observes", "{told}");
    let again = hub.restore(&of_file, &[]);
    assert!(again.stderr.contains("not empty"), "{again:?}");
    hub.again().await;
    members
        .are_observed_until_the_hub_is_promoted(&hub, &BTreeSet::new())
        .await;
}

/// Name of the n-th write of the test below.
fn written(n: usize) -> String {
    format!("cluster-{n:04}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_taken_while_writes_run_is_all_of_one_moment() {
    let hub = Arc::new(Hub::start().await);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let (writing, counted) = (Arc::clone(&hub), Arc::clone(&acknowledged));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let writer = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            let next = counted.load(Ordering::SeqCst);
            assert_eq!(writing.token(&written(next)).await, 201);
            counted.store(next + 1, Ordering::SeqCst);
        }
    });
    let mut backups = Vec::new();
    while backups.len() < 3 {
        let before = acknowledged.load(Ordering::SeqCst);
        let taking = Arc::clone(&hub);
        let file = tokio::task::spawn_blocking(move || taking.backup()).await;
        // The write that is on its way may be in it or not.
        let after = acknowledged.load(Ordering::SeqCst) + 1;
        assert!(after > before + 1, "no write was acknowledged meanwhile");
        backups.push((file.unwrap(), before, after));
    }
    stop.cancel();
    writer.await.unwrap();
    for (file, before, after) in backups {
        let mut restored = Hub::stopped();
        restored.has_the_authority_of(&hub);
        let ran = restored.restore(&file, &[]);
        assert!(ran.success, "{ran:?}");
        restored.again().await;
        let found = restored.tokens().await;
        let count = found.len();
        assert!(
            (before..=after).contains(&count),
            "{before} {count} {after}"
        );
        let first: BTreeSet<_> = (0..count).map(written).collect();
        assert_eq!(found, first, "none is missing before the last");
    }
}
