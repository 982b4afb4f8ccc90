//! Tokens of the web API, and the audit log.

use meridian_api::audit::{Actor, ActorKind, Event, Outcome, Place, Record};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_made_token_is_all_that_is_printed_and_its_limits_are_asked_for() {
    let hub = Hub::start().await;
    let made = json!({
        "apiVersion": "meridian.dev/v1alpha1", "kind": "ApiToken", "metadata": { "name": "07" },
        "spec": { "holder": "ci", "role": "operator" },
        "status": { "expiresAt": "2026-12-22T00:00:00Z", "token": "mrda.07.secret" },
    });
    hub.answers("POST /api/v1/apitokens", 201, made);
    let line = "api-token create ci --role operator --project shop --project bank --expires-in 24h";
    let ran = hub.run(&line.split(' ').collect::<Vec<_>>(), "").await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "mrda.07.secret\n"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("until 2026-12-22") && !ran.stderr.contains("secret"),
        "{ran:?}"
    );
    let expected = json!({ "holder": "ci", "role": "operator", "projects": ["bank", "shop"], "expiresInSeconds": 86_400 });
    assert_eq!(hub.asked()[0].body["spec"], expected);

    let line = "api-token create eve --role admin --expires-in never";
    hub.run(&line.split(' ').collect::<Vec<_>>(), "").await;
    let expected = json!({ "holder": "eve", "role": "admin", "neverExpires": true });
    assert_eq!(hub.asked()[1].body["spec"], expected);

    hub.answers("DELETE /api/v1/apitokens/07", 204, Value::Null);
    let ran = hub.run(&["api-token", "delete", "07"], "").await;
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "apitoken/07 deleted\n"),
        "{ran:?}"
    );
}

fn event(name: &str) -> Event {
    Event {
        at: "2026-11-22T12:00:00Z".to_owned(),
        actor: Actor {
            kind: ActorKind::Hub,
            id: String::new(),
            name: String::new(),
        },
        address: String::new(),
        via: String::new(),
        request: String::new(),
        trace: None,
        verb: "create".to_owned(),
        kind: "cluster".to_owned(),
        name: name.to_owned(),
        project: String::new(),
        left: Vec::new(),
        outcome: Outcome::Done,
        reason: String::new(),
        revision: None,
        unrecorded: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_deletions_are_listed_and_released_by_the_name_of_their_list() {
    let hub = Hub::start().await;
    let freeze = json!({ "list": "5f3a", "since": "2026-01-02T00:00:00Z", "reason": "too many", "cluster": "eu-1",
        "deletions": [{ "cluster": "eu-1", "kind": "ActiveActiveInstance", "namespace": "ns", "name": "cart",
            "approvedBy": "alice", "told": false }] });
    let (list, release) = ("GET /api/v1/freezes", "POST /api/v1/freezes/5f3a/release");
    let tried = format!("{release}?dryRun=All");
    hub.answers(list, 200, json!({ "items": [freeze] }))
        .answers(&tried, 200, freeze.clone())
        .answers(release, 200, freeze.clone());
    let ran = hub.run(&["hub", "freezes"], "").await;
    for part in [
        "5f3a",
        "cluster eu-1",
        "too many",
        "cart",
        "alice",
        "not sent",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }
    let ran = hub.run(&["hub", "release", "5f3a", "--dry-run"], "").await;
    assert!(ran.stdout.contains("would go on"), "{ran:?}");
    let ran = hub.run(&["hub", "release", "5f3a"], "").await;
    assert!(ran.code == 0 && ran.stdout.contains("cart"), "{ran:?}");
    assert_eq!(hub.asked().len(), 3);
}

fn log(names: &[&str]) -> String {
    let store = "6f0c2a52-3b5e-4a3e-9d57-0d9a3c1f1e11";
    let mut last = Place::BEGIN;
    let opening = json!({ "meridianAudit": 1, "storeId": store, "exportedAt": "", "after": last });
    let mut lines = vec![opening.to_string()];
    for name in names {
        let record = Record::after(last, event(name));
        last = record.place();
        lines.push(serde_json::to_string(&record).unwrap());
    }
    lines.push(json!({ "head": last }).to_string());
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_exported_and_verified_with_and_without_the_hub() {
    let hub = Hub::start().await;
    let whole = log(&["a", "b", "c"]);
    let export = "GET /api/v1/audit/export";
    hub.answers_bytes(export, 200, whole.clone().into_bytes());
    let file = hub.folder().join("audit.jsonl");
    let path = file.to_str().unwrap();
    let ran = hub.run(&["audit", "export", "--file", path], "").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), whole);
    let mut lines = ran.stdout.lines();
    let place = lines.find_map(|line| line.strip_prefix("note this place: "));
    let place = place.unwrap().to_owned();

    let ran = hub.run(&["audit", "verify", "--noted", &place], "").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("3 records, 1 to 3"), "{ran:?}");

    let changed = whole.replace("\"name\":\"b\"", "\"name\":\"x\"");
    fs::write(&file, changed).unwrap();
    let asked = hub.asked().len();
    let nowhere = [("MERIDIAN_TOKEN_FILE", "/nothing")];
    let line = ["audit", "verify", "--file", path];
    let ran = hub.run_with(&line, "", &nowhere).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("record 2 was changed"), "{ran:?}");
    assert_eq!(hub.asked().len(), asked, "no hub is asked");

    fs::write(&file, log(&["a"])).unwrap();
    let ran = hub.run(&line, "").await;
    assert!(ran.stdout.contains("1 record, 1;"), "{ran:?}");

    fs::write(&file, log(&["a", "y", "c"])).unwrap();
    assert_eq!(hub.run(&line, "").await.code, 0);
    let line = [&line[..], &["--noted", &place]].concat();
    let ran = hub.run(&line, "").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("made anew"), "{ran:?}");
}
