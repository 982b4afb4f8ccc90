//! What becomes of a hub whose store is put back: processes of the hub and of the command line, and members that speak over
//! the real link. Needs `target/debug/meridian-hub` and `target/debug/meridian` (`cargo test --workspace` builds them); with
//! the feature `lab` etcd as well.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where its ground gives way"
)]

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

use std::path::Path;

use hub::Hub;
use member::{Member, Position};
use meridian_api::link::proto::{ConfirmAction, SyncMode, hub_frame::Frame};

const EU: &str = "0e0e0e0e-0000-4000-8000-000000000001";
const US: &str = "0e0e0e0e-0000-4000-8000-000000000002";

/// Two members that obey a hub.
struct Members {
    eu: Member,
    us: Member,
    /// What `eu` obeyed last.
    obeyed: Position,
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
        let (mut first, welcome) = self.eu.session(Some(self.obeyed.clone())).await;
        assert_eq!(welcome.mode(), SyncMode::Resume, "{welcome:?}");
        let (mut second, _) = self.us.session(None).await;
        hub.creates(name).await;
        self.obeyed = first.obeys(name).await;
        second.obeys(name).await;
    }

    /// The hub only observes: what a member obeyed under a later state stays as it is. Then a person promotes it.
    async fn are_observed_until_the_hub_is_promoted(&self, hub: &Hub) {
        let (mut session, welcome) = self.eu.session(Some(self.obeyed.clone())).await;
        assert_eq!(welcome.mode(), SyncMode::Observe, "{welcome:?}");
        let status = hub.status().await;
        assert_eq!(status["mode"], "observes", "{status}");
        assert_eq!(hub.create("meanwhile").await, 409, "no intent is taken");
        assert!(matches!(session.hear().await, Frame::DigestAsk(_)));
        session.holds_an_instance().await;
        let mut kept = 0;
        loop {
            match session.hear().await {
                Frame::Confirm(confirm) => {
                    assert_eq!(confirm.action(), ConfirmAction::Keep);
                    kept += 1;
                }
                Frame::Beat(_) => break,
                other => panic!("{other:?} while the hub only observes"),
            }
        }
        assert_eq!(kept, 1, "what the hub does not know is kept");

        let ran = hub.cli(&["hub", "promote", "--yes"]);
        assert!(ran.stdout.contains("decides"), "{ran:?}");
        let (mut session, welcome) = self.eu.session(Some(self.obeyed.clone())).await;
        assert_eq!(welcome.mode(), SyncMode::Full, "{welcome:?}");
        let term = welcome.head.unwrap().term;
        assert!(term > self.obeyed.term, "{term} {:?}", self.obeyed);
        let obeyed = session.obeys("cart").await;
        assert_eq!(obeyed.term, term);
        // Above what the member reported.
        hub.creates("after").await;
        let membership = hub.database("after").await;
        let version = membership["status"]["configVersion"].as_u64();
        let plan = membership["status"]["planNumber"].as_u64();
        assert!(version > Some(9) && plan > Some(30), "{membership}");
        let ids = membership["status"]["participants"].as_array().unwrap();
        let ids = ids.iter().map(|it| it["instanceId"].as_u64());
        assert!(ids.clone().all(|id| id > Some(7)), "{membership}");
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
    members.are_observed_until_the_hub_is_promoted(&hub).await;
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
    assert!(dry.stdout.contains("would restore"), "{dry:?}");
    // The store of the hub that was lost is out of the way.
    let lost = hub.dir.path().join("lost.redb");
    std::fs::rename(hub.store(), lost).unwrap();
    let dry = hub.restore(&file, &["--dry-run"]);
    assert!(dry.success && !hub.store().exists(), "{dry:?}");
    let ran = hub.restore(&file, &[]);
    assert!(ran.stdout.contains("only observes"), "{ran:?}");
    hub.again().await;
    let after = hub.status().await;
    assert_eq!(after["mode"], "observes", "{after}");
    assert_eq!(after["storeId"], before["storeId"]);
    assert!(after["term"].as_u64() > before["term"].as_u64(), "{after}");
    members.are_observed_until_the_hub_is_promoted(&hub).await;
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
    members.are_observed_until_the_hub_is_promoted(&hub).await;
}

#[cfg(feature = "lab")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_from_one_kind_of_store_into_the_other_and_back() {
    let (first, second) = (etcd::Etcd::start().await, etcd::Etcd::start().await);
    let mut hub = Hub::over(first.endpoints()).await;
    let members = Members::of(&hub).await;
    let of_etcd = hub.backup();
    hub.stop().await;
    hub.keep_state_in(Vec::new());
    assert!(hub.restore(&of_etcd, &[]).success);
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
    members.are_observed_until_the_hub_is_promoted(&hub).await;
}
