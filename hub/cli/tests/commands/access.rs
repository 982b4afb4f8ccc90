//! Tokens of the web API.

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
