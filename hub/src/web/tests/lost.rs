//! A member that is lost for good.

use super::*;
use crate::store::records::{OutcomeKind, StoredOutcome};

const LOSE: &str = "/api/v1/clusters/lab-2/lose";
const CART: &str = "/api/v1/activeactivedatabases/cart";

impl Web {
    /// A database over both members.
    async fn with_cart() -> Self {
        let web = Self::with_members().await;
        let cart = json!({
            "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseActiveActiveDatabase",
            "metadata": { "name": "cart" },
            "spec": { "participatingClusters": [{ "name": "lab-1" }, { "name": "lab-2" }] },
        });
        let all = "/api/v1/activeactivedatabases";
        let (status, made) = web.call("POST", all, Some(&cart)).await;
        assert_eq!(status, 202, "{made}");
        web.plan().await;
        web
    }

    /// A member says that it did what it was told.
    async fn obeyed(&self, cluster: &str) {
        let app = &self.hub.app;
        for held in app.desired_of(uid(cluster)).await.unwrap().value {
            let outcome = StoredOutcome {
                revision: held.modified,
                result: OutcomeKind::Applied,
                code: String::new(),
                message: String::new(),
                as_of: app.now(),
            };
            let object = held.record.object_id;
            app.outcome(uid(cluster), object, outcome).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_lost_member_holds_nothing_up() {
    let web = Web::with_cart().await;
    let (_, shown) = web.call("GET", CART, None).await;
    assert!(shown["status"]["waitsFor"].is_null(), "{shown}");
    let (status, refused) = web.call("DELETE", "/api/v1/clusters/lab-2", None).await;
    let detail = refused["detail"].as_str().unwrap();
    assert_eq!(status, 409);
    assert!(detail.contains("remove lab-2 --lost"), "{detail}");

    let unconfirmed = web.call("POST", LOSE, None).await;
    assert_eq!(unconfirmed.0, 409, "not without its name");
    let confirmed = format!("{LOSE}?confirm=lab-2");
    assert_eq!(web.call("POST", &confirmed, None).await.0, 200);
    let gone = web.call("GET", "/api/v1/clusters/lab-2", None).await;
    assert_eq!(gone.0, 404);
    web.plan().await;
    let (_, shown) = web.call("GET", CART, None).await;
    assert_eq!(shown["status"]["configVersion"], 2, "{shown}");
    let waits = shown["status"]["waitsFor"][0].as_str().unwrap();
    assert!(waits.starts_with("goes on without lab-2"), "{waits}");
    let confirmed = format!("{CART}?confirm=cart");
    assert_eq!(web.call("DELETE", &confirmed, None).await.0, 202);
    web.plan().await;
    let (_, shown) = web.call("GET", CART, None).await;
    let waits = "waits for lab-1: it has not confirmed that the database is gone";
    assert_eq!(shown["status"]["waitsFor"], json!([waits]));
    assert_eq!(shown["status"]["waitsSince"], "2026-11-22T12:00:00Z");
    web.obeyed(LAB_1).await;
    web.plan().await;
    let gone = web.call("GET", CART, None).await;
    assert_eq!(gone.0, 404, "nobody waits for lab-2");
}

#[tokio::test]
async fn what_may_be_left_of_a_lost_member_is_in_the_answer_the_list_and_the_audit_log() {
    let web = Web::with_cart().await;
    let (status, tried) = web.call("POST", &format!("{LOSE}?dryRun=All"), None).await;
    assert_eq!(status, 200, "{tried}");
    let there = web.call("GET", "/api/v1/clusters/lab-2", None).await;
    assert_eq!(there.0, 200, "it was only tried");
    let (_, lost) = web
        .call("POST", &format!("{LOSE}?confirm=lab-2"), None)
        .await;
    assert_eq!(lost["declaredBy"], "alice");
    assert_eq!(
        (&lost["residue"], &lost["databases"]),
        (&tried["residue"], &json!(["cart"]))
    );
    let residue = lost["residue"].as_array().unwrap();
    let mut kinds = residue.iter().map(|one| &one["kind"]);
    assert!(kinds.any(|kind| kind == "PersistentVolumeClaim"), "{lost}");

    let (_, list) = web.call("GET", "/api/v1/lostclusters", None).await;
    assert_eq!(list["items"], json!([lost]));
    let (_, audit) = web.call("GET", "/api/v1/audit", None).await;
    let records = audit["items"].as_array().unwrap();
    let record = records.iter().find(|one| one["event"]["verb"] == "lose");
    let left = record.and_then(|one| one["event"]["left"].as_array());
    let cart = json!("db/ActiveActiveInstance/cart");
    assert!(left.is_some_and(|left| left.contains(&cart)), "{audit}");
}
