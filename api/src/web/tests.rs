use serde_json::{Value, json};

use super::*;
use crate::{
    fault::{Fault, FaultKind},
    validate::FieldError,
};

fn material() -> JoinMaterial {
    JoinMaterial {
        hub: vec!["hub.example.com:8444".into(), "10.0.0.1:8444".into()],
        ca_pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        token: "t: \"quoted\" # not a comment\\".into(),
        name: "eu-1".into(),
    }
}

#[test]
fn the_join_secret_is_yaml_with_the_agreed_keys() {
    let secret: Value = serde_saphyr::from_str(&material().secret_yaml()).unwrap();
    assert_eq!(
        secret,
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "meridian-join" },
            "type": "Opaque",
            "stringData": {
                "hub": "hub.example.com:8444,10.0.0.1:8444",
                "ca.crt": material().ca_pem,
                "token": material().token,
                "name": "eu-1",
            },
        })
    );
}

#[test]
fn a_token_is_not_shown_by_debug() {
    let status = TokenStatus {
        expires_at: "2026-01-01T00:00:00Z".into(),
        used_by: None,
        approval: None,
        join: Some(material()),
    };
    let shown = format!("{status:?}");
    assert!(
        shown.contains("eu-1") && !shown.contains("quoted"),
        "{shown}"
    );
}

#[test]
fn a_token_of_the_web_api_is_not_shown_by_debug() {
    let status = ApiTokenStatus {
        expires_at: Some("2026-01-01T00:00:00Z".into()),
        token: Some("mrda.0707070707070707.quoted".into()),
        ..ApiTokenStatus::default()
    };
    let shown = format!("{status:?}");
    assert!(
        shown.contains("2026") && !shown.contains("quoted"),
        "{shown}"
    );
}

#[test]
fn the_yaml_that_users_know_is_a_request_to_the_hub() {
    let database: ActiveActiveDatabase = serde_json::from_value(json!({
        "apiVersion": CLASSIC_API_VERSION,
        "kind": "RedisEnterpriseActiveActiveDatabase",
        "metadata": { "name": "db", "labels": { "team": "a" } },
        "spec": { "participatingClusters": [{ "name": "eu-1" }], "globalConfigurations": { "memorySize": "1GB" } },
    }))
    .unwrap();
    assert_eq!(database.spec.participating_clusters[0].name, "eu-1");
    assert_eq!(database.status, None);
}

#[test]
fn a_status_has_the_classic_words_where_tools_look_for_them() {
    let mut status = ActiveActiveDatabaseStatus::default();
    status.classic.guid = Some("g".into());
    status.participants.push(Participant {
        name: "eu-1".into(),
        instance_id: Some(1),
        ..Participant::default()
    });
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["guid"], "g");
    assert_eq!(json["participants"][0]["instanceId"], 1);
    assert_eq!(
        serde_json::from_value::<ActiveActiveDatabaseStatus>(json).unwrap(),
        status
    );
}

#[test]
fn a_problem_names_each_broken_rule() {
    let error = FieldError {
        field: "spec.nodes".into(),
        found: "4".into(),
        expected: "an odd number".into(),
        remedy: "use 3 or 5".into(),
    };
    let fault = Fault::invalid("cluster \"a\"", vec![error.clone()]);
    let problem = Problem::new(&fault, Some("r-1".into()));
    assert_eq!(
        (problem.status, problem.kind),
        (422, Some(FaultKind::Invalid))
    );
    assert!(problem.detail.contains("spec.nodes"), "{}", problem.detail);
    assert_eq!(problem.errors, [error]);
    let json = serde_json::to_value(&problem).unwrap();
    assert_eq!(json["type"], "urn:meridian:problem:invalid");
    assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
}

#[test]
fn the_detail_of_an_internal_fault_does_not_leave_the_hub() {
    let fault = Fault::Internal {
        detail: "password=hunter2".into(),
    };
    let problem = Problem::new(&fault, Some("r-7".into()));
    let json = serde_json::to_string(&problem).unwrap();
    assert!(!json.contains("hunter2") && json.contains("r-7"), "{json}");
}

#[test]
fn a_problem_of_another_server_is_read_too() {
    let problem: Problem = serde_json::from_str(r#"{"status":502,"more":1}"#).unwrap();
    assert_eq!(
        (problem.type_.as_str(), problem.status),
        ("about:blank", 502)
    );
}
