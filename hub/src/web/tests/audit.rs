//! The audit log, as requests fill it.

use meridian_api::audit::verify;

use super::*;

const AUDIT: &str = "/api/v1/audit";

impl Web {
    /// What was written down, the newest first: who, what, what came of it.
    async fn audit(&self) -> Vec<Value> {
        let (status, list) = self.call("GET", AUDIT, None).await;
        assert_eq!(status, 200, "{list}");
        list["items"].as_array().unwrap().clone()
    }

    pub(super) async fn newest(&self) -> Value {
        self.audit().await[0]["event"].clone()
    }

    async fn exported(&self) -> String {
        let path = "/api/v1/audit/export";
        let answer = self.ask("GET", path, Some(&self.token), None).await;
        assert_eq!(answer.status(), 200);
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 24).await;
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn every_write_and_every_refusal_is_written_down_with_who_and_by_which_request() {
    let web = Web::with_members().await;
    let answer = web
        .ask(
            "POST",
            DATABASES,
            Some(&web.token),
            Some(&database(&["lab-1", "lab-2"])),
        )
        .await;
    let number = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let done = web.newest().await;
    assert_eq!(
        (&done["actor"]["kind"], &done["actor"]["name"]),
        (&json!("token"), &json!("alice"))
    );
    assert_eq!(
        (&done["verb"], &done["name"], &done["outcome"]),
        (&json!("create"), &json!("shop"), &json!("done"))
    );
    assert_eq!(done["request"], json!(number));
    assert!(done["revision"].is_number());

    web.call("DELETE", &format!("{SHOP}?confirm=other"), None)
        .await;
    let refused = web.newest().await;
    assert_eq!(
        (&refused["verb"], &refused["name"]),
        (&json!("delete"), &json!("shop"))
    );
    assert_eq!(
        (&refused["outcome"], &refused["reason"]),
        (&json!("refused"), &json!("conflict"))
    );

    let unknown = "mrda.0707070707070707.c2VjcmV0";
    web.ask("GET", "/api/v1/clusters", Some(unknown), None)
        .await;
    let stranger = web.newest().await;
    assert_eq!(
        (&stranger["actor"]["kind"], &stranger["actor"]["id"]),
        (&json!("unknown"), &json!("0707070707070707"))
    );
    assert_eq!(
        (&stranger["reason"], &stranger["kind"]),
        (&json!("unauthorized"), &json!("cluster"))
    );

    let viewer = web
        .token_of(crate::domain::access::grant::Role::Viewer, &[])
        .await;
    web.ask("DELETE", SHOP, Some(&viewer), None).await;
    let forbidden = web.newest().await;
    assert_eq!(
        (&forbidden["actor"]["name"], &forbidden["reason"]),
        (&json!("bob"), &json!("forbidden"))
    );

    let before = web.audit().await.len();
    web.call("GET", DATABASES, None).await;
    web.call("GET", &format!("{DATABASES}/nothing"), None).await;
    web.call("POST", &format!("{DATABASES}?dryRun=All"), Some(&json!({})))
        .await;
    assert_eq!(
        web.audit().await.len(),
        before + 1,
        "reads are not, a write that is wrong is"
    );
    verify(web.exported().await.lines(), &[]).unwrap();
}

#[tokio::test]
async fn every_guarded_write_that_is_refused_is_written_down_once() {
    let web = Web::with_members().await;
    for (path, methods, _) in guarded() {
        for method in methods.iter().filter(|method| **method != "GET") {
            let path = path.replace("{name}", "lab-9");
            let before = web.audit().await.len();
            let (status, _) = web.call(method, &format!("{path}?nothing=1"), None).await;
            let told = web.audit().await;
            assert_eq!((status, told.len()), (422, before + 1), "{method} {path}");
            assert_eq!(told[0]["event"]["reason"], "invalid");
        }
    }
}

#[tokio::test]
async fn a_backup_is_written_down_before_it_is_read() {
    let web = Web::new().await;
    let answer = web
        .ask("GET", "/api/v1/hub/backup", Some(&web.token), None)
        .await;
    assert_eq!(answer.status(), 200);
    let told = web.newest().await;
    assert_eq!(
        (&told["kind"], &told["verb"], &told["outcome"]),
        (&json!("backup"), &json!("get"), &json!("done"))
    );
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 24)
        .await
        .unwrap();
    assert!(
        String::from_utf8_lossy(&bytes).contains("/audit-new/"),
        "it holds its own record"
    );
}

#[tokio::test]
async fn the_log_is_read_in_parts_the_newest_first() {
    let web = Web::new().await;
    for i in 0..5 {
        web.hub.token(&format!("lab-{i}")).await;
    }
    let (_, first) = web.call("GET", &format!("{AUDIT}?limit=2"), None).await;
    let numbers = |list: &Value| -> Vec<u64> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|one| one["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&first), [5, 4]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let next = format!(
        "{AUDIT}?limit=9&continue={}",
        first["metadata"]["continue"].as_str().unwrap()
    );
    web.hub.token("more").await;
    let (_, rest) = web.call("GET", &next, None).await;
    assert_eq!(
        (numbers(&rest), &rest["metadata"]["continue"]),
        (vec![3, 2, 1], &Value::Null)
    );
    let (status, told) = web.call("GET", &format!("{AUDIT}?continue=x"), None).await;
    assert_eq!((status, fields(&told)), (422, vec!["continue".to_owned()]));
}

/// Every secret that a request can carry, in every place, is searched for in all that was written down.
#[tokio::test]
async fn no_secret_byte_stands_in_the_audit_log() {
    let web = Web::with_members().await;
    let canary = "Y2FuYXJ5LWNhbmFyeQ";
    let forged = format!("mrda.0707070707070707.{canary}");
    web.ask("GET", "/api/v1/clusters", Some(&forged), None)
        .await;
    web.ask("GET", "/api/v1/clusters", Some(canary), None).await;
    for path in ["tokens", "apitokens", "clusters", "activeactivedatabases"] {
        for name in [&forged, &forged.replace('.', "%2E"), &web.token] {
            web.call("DELETE", &format!("/api/v1/{path}/{name}"), None)
                .await;
            web.call("DELETE", &format!("/api/v1/{path}/x?confirm={name}"), None)
                .await;
        }
        let body =
            json!({ "password": forged, "spec": { "holder": forged, "clusterName": forged } });
        web.call("POST", &format!("/api/v1/{path}"), Some(&body))
            .await;
    }
    let wanted = json!({ "apiVersion": "meridian.dev/v1alpha1", "kind": "ApiToken", "metadata": {},
        "spec": { "holder": "carol", "role": "viewer" } });
    let (_, made) = web.call("POST", "/api/v1/apitokens", Some(&wanted)).await;
    let made = made["status"]["token"].as_str().unwrap().to_owned();
    let join = web.hub.token("lab-7").await;
    let said = [
        ("x-meridian-forwarded-by", forged.as_str()),
        ("x-meridian-forwarded-for", canary),
    ];
    web.ask_with("DELETE", SHOP, Some(&web.token), None, &said)
        .await;
    assert_eq!(web.newest().await["via"], "replica unknown for unknown");
    let log = web.exported().await;
    assert!(log.lines().count() > 30, "{log}");
    let secret = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    for secret in [
        canary.to_owned(),
        secret(&web.token),
        secret(&made),
        secret(&join),
    ] {
        let found = log.lines().find(|line| line.contains(&secret));
        assert_eq!(found, None, "{secret}");
    }
    verify(log.lines(), &[]).unwrap();
}

#[tokio::test]
async fn what_members_do_with_their_identities_is_listed_with_who_did_it() {
    let web = Web::new().await;
    let device = web.hub.member("lab-1", LAB_1).await;
    device.renew(&web.hub.app).await.unwrap();
    device.recover(&web.hub.app, "old").await.unwrap_err();
    let release = "/api/v1/clusters/lab-1/release";
    assert_eq!(web.call("POST", release, None).await.0, 204);
    device.recover(&web.hub.app, "old").await.unwrap();
    let listed = web.audit().await;
    let told: Vec<_> = listed
        .iter()
        .rev()
        .map(|record| {
            let text = |field| record["event"].pointer(field).and_then(Value::as_str);
            ["/actor/kind", "/actor/name", "/verb", "/name", "/outcome"]
                .map(|field| text(field).unwrap_or_default())
                .join(" ")
        })
        .collect();
    let expected = [
        "member lab-1 join lab-1 done",
        "member lab-1 renew lab-1 done",
        "hub  quarantine lab-1 done",
        "unknown  recover  refused",
        "token alice release lab-1 done",
        "member lab-1 recover lab-1 done",
    ];
    let identities = told
        .iter()
        .filter(|one| !one.contains("create"))
        .collect::<Vec<_>>();
    assert_eq!(identities, expected.iter().collect::<Vec<_>>());
    verify(web.exported().await.lines(), &[]).unwrap();
}
