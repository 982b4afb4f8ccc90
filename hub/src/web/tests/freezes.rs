//! Frozen deletions: how they are shown, and released.

use std::collections::BTreeSet;

use super::*;
use crate::app::reads::DatabaseView;
use crate::domain::access::grant::{Role, Scope};

const FREEZES: &str = "/api/v1/freezes";

/// Four databases over two members whose deletions were confirmed, as a session would ask for them.
async fn frozen() -> Web {
    let web = Web::with_members().await;
    for name in ["a", "b", "c", "d"] {
        let mut wanted = database(&["lab-1", "lab-2"]);
        wanted["metadata"]["name"] = json!(name);
        let path = "/api/v1/activeactivedatabases";
        assert_eq!(web.call("POST", path, Some(&wanted)).await.0, 202);
    }
    web.plan().await;
    for name in ["a", "b", "c", "d"] {
        let path = format!("/api/v1/activeactivedatabases/{name}?confirm={name}");
        assert_eq!(web.call("DELETE", &path, None).await.0, 202);
    }
    web.plan().await;
    assert!(!web.may_delete().await);
    web
}

impl Web {
    async fn views(&self) -> Vec<DatabaseView> {
        let views = self.hub.app.database_views(&Scope::all()).await;
        views.unwrap().value
    }

    /// Whether the first member may be told all deletions.
    async fn may_delete(&self) -> bool {
        let views = self.views().await;
        let objects: BTreeSet<_> = views
            .iter()
            .map(|view| view.database.record.instance_object_id)
            .collect();
        let leave = self.hub.app.may_delete(uid(LAB_1), &objects).await.unwrap();
        leave.granted == objects
    }

    async fn condition(&self, path: &str, reason: &str) -> Option<String> {
        let (_, shown) = self.call("GET", path, None).await;
        let conditions = shown["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|one| one["reason"] == reason)?;
        Some(found["message"].as_str()?.to_owned())
    }
}

#[tokio::test]
async fn a_freeze_is_shown_everywhere_and_released_by_the_name_of_its_list() {
    let web = frozen().await;
    let (status, list) = web.call("GET", FREEZES, None).await;
    assert_eq!((status, list["items"].as_array().unwrap().len()), (200, 1));
    let freeze = &list["items"][0];
    assert_eq!(freeze["deletions"].as_array().unwrap().len(), 16);
    assert_eq!(
        (&freeze["databases"], &freeze["limit"]),
        (&json!(4), &json!(3))
    );
    assert_eq!(freeze["deletions"][0]["approvedBy"], "alice");
    let told = web
        .condition("/api/v1/clusters/lab-2", "TooManyInFleet")
        .await;
    assert!(told.is_some_and(|told| told.contains("meridian hub release")));
    let path = "/api/v1/activeactivedatabases/d";
    let told = web.condition(path, "DeletionsFrozen").await;
    assert!(told.is_some_and(|told| told.contains("lab-1") && told.contains("lab-2")));
    let answer = web.ask("GET", "/metrics", None, None).await;
    let metrics = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(
        metrics.contains("meridian_hub_frozen_scopes 1"),
        "{metrics}"
    );

    let release = format!("{FREEZES}/{}/release", freeze["list"].as_str().unwrap());
    let tried = web
        .call("POST", &format!("{release}?dryRun=All"), None)
        .await;
    assert_eq!((tried.0, &tried.1), (200, freeze));
    assert!(!web.may_delete().await, "it was only tried");
    let operator = web.token_of(Role::Operator, &[]).await;
    let refused = web.call_as(&operator, "POST", &release, None).await;
    assert_eq!(refused.0, 403, "whoever deletes does not release");
    let (status, released) = web.call("POST", &release, None).await;
    assert_eq!((status, &released), (200, freeze));
    assert!(web.may_delete().await);
    assert_eq!(web.condition(path, "DeletionsFrozen").await, None);
    let (status, problem) = web.call("POST", &release, None).await;
    let detail = problem["detail"].as_str().unwrap();
    assert_eq!(status, 404, "nothing is frozen any more");
    assert!(detail.ends_with("; no deletion is frozen"), "{detail}");
}
