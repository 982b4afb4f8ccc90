//! A support bundle of a hub holds no byte of a secret, wherever secrets can stand.

use std::io::Read as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use serde_json::json;

use super::hub::{AUTHORITY, DATABASES, Hub, SECRET_OF_THE_ENVIRONMENT, database, token_for};
use super::{EU, US};

/// A secret, and how it may be spelled.
fn spellings(secret: &str) -> [String; 4] {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let base64 = STANDARD.encode(secret);
    [
        secret.to_owned(),
        base64.trim_end_matches('=').to_owned(),
        hex(secret.as_bytes()),
        hex(secret.as_bytes()).to_uppercase(),
    ]
}

/// The part of a token that is its secret.
fn secret_of(token: &str) -> String {
    token.trim().rsplit('.').next().unwrap().to_owned()
}

/// Every secret that a hub has or is shown.
async fn secrets(hub: &Hub) -> Vec<String> {
    let mut secrets = vec![SECRET_OF_THE_ENVIRONMENT.to_owned()];
    for file in AUTHORITY.iter().filter(|file| !file.ends_with(".crt")) {
        let text = std::fs::read_to_string(hub.data().join(file)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        // The last line of a key in PEM may be a few letters.
        let lines = lines.filter(|line| line.len() > 16).map(secret_of);
        secrets.extend(lines);
    }
    let ran = hub.cli(&["api-token", "create", "bob", "--role", "viewer"]);
    assert!(ran.success, "{ran:?}");
    secrets.push(secret_of(&ran.stdout));
    let (_, made) = hub
        .call_within("POST", "/api/v1/tokens", Some(&token_for("ap-1")), None)
        .await
        .unwrap();
    secrets.push(secret_of(made["status"]["join"]["token"].as_str().unwrap()));
    secrets
}

/// Shows each secret where it does not belong: in paths, queries and bodies.
async fn misplaced(hub: &Hub, secrets: &[String]) {
    for secret in secrets {
        let plain = secret.replace(['/', '+', '='], "x");
        for path in [
            format!("/api/v1/clusters/mrda.0707070707070707.{plain}"),
            format!("/api/v1/clusters?token={plain}"),
        ] {
            hub.call_within("GET", &path, None, None).await.unwrap();
        }
        let mut wrong = database("shop");
        wrong["metadata"]["annotations"] = json!({ "password": secret });
        wrong["spec"]["globalConfigurations"]["memorySize"] = json!(format!("password={secret}"));
        let path = DATABASES;
        hub.call_within("POST", path, Some(&wrong), None)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_secret_is_in_the_support_bundle_of_a_hub() {
    let hub = Hub::start().await;
    let all = json!({ "filter": "trace" });
    let changed = hub.call_within("PUT", "/debug/log", Some(&all), None).await;
    assert_eq!(changed.unwrap().0.status, 200);
    let (eu, us) = (hub.joined("eu-1", EU).await, hub.joined("us-1", US).await);
    let (first, _) = eu.session(None).await;
    let (second, _) = us.session(None).await;
    first.reports_a_rec("eu-1").await;
    second.reports_a_rec("us-1").await;
    hub.creates("cart").await;
    let secrets = secrets(&hub).await;
    assert!(secrets.len() > 5, "{} secrets", secrets.len());
    misplaced(&hub, &secrets).await;

    let file = hub.dir.path().join("hub.tar.gz");
    let ran = hub.cli(&["hub", "support-bundle", "-o", file.to_str().unwrap()]);
    assert!(ran.success, "{ran:?}");
    let mut bytes = Vec::new();
    let packed = std::fs::File::open(&file).unwrap();
    GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for (n, secret) in secrets.iter().enumerate() {
        for (how, spelled) in spellings(secret).iter().enumerate() {
            assert!(!text.contains(spelled), "secret {n} as spelling {how}");
        }
    }
    for part in [
        "eu-1",
        "\"cart\"",
        "sentTo",
        "nextRunBy",
        "meridian_hub_leads 1",
        "\"verb\": \"create\"",
        "trustDomain",
        "what of the log is written was changed",
    ] {
        assert!(text.contains(part), "{part} is missing");
    }
    let manifest = text.split("\"missing\": ").nth(1).unwrap();
    assert!(manifest.starts_with("[]"), "{manifest}");
}
