//! Everything that was observed, and every condition, says when, in the document and in what a hub really answers (I11).

use jiff::Timestamp;
use meridian_api::link::clock::Skew;

use super::*;
use crate::app::members::Agent;
use crate::app::reports::Report;
use crate::store::records::{LinkReport, OutcomeKind, StoredObservation, StoredOutcome};
use crate::web::openapi::document;

/// What was looked at.
#[derive(Default)]
struct Looked {
    conditions: BTreeSet<String>,
    observed: usize,
    lags: usize,
    wrong: Vec<String>,
}

impl Looked {
    fn time(&mut self, place: &str, at: &Value) {
        let at = at.as_str().unwrap_or_default();
        if at.parse::<Timestamp>().is_err() {
            self.wrong
                .push(format!("{place}: found {at:?}, expected a time"));
        }
    }

    /// Looks at an answer; `dated` if something around it says when it was observed.
    fn at(&mut self, place: &str, value: &Value, dated: bool) {
        match value {
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.at(&format!("{place}[{n}]"), item, dated);
                }
            }
            Value::Object(fields) => {
                let says = |field: &str| fields.contains_key(field);
                if says("type") && says("reason") && says("status") {
                    self.conditions
                        .insert(fields["type"].as_str().unwrap().to_owned());
                    self.time(
                        &format!("{place}.lastTransitionTime"),
                        &value["lastTransitionTime"],
                    );
                }
                if says("stale") {
                    self.observed += 1;
                    self.time(&format!("{place}.asOf"), &value["asOf"]);
                }
                if says("lagMs") {
                    self.lags += 1;
                    if !dated {
                        self.wrong.push(format!("{place}.lagMs: nothing says when"));
                    }
                }
                for (name, field) in fields {
                    self.at(&format!("{place}.{name}"), field, dated || says("asOf"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// A database on two members, of which one is there and says everything that a member can.
async fn world() -> Web {
    let web = Web::with_members().await;
    let (status, _) = web
        .call("POST", DATABASES, Some(&database(&["lab-1", "lab-2"])))
        .await;
    assert_eq!(status, 202);
    web.plan().await;
    let (app, member) = (&web.hub.app, uid(LAB_1));
    app.presence(member, Presence::Connected, 1).await.unwrap();
    let skew = Skew {
        ahead_ms: 60_000,
        trip_ms: 2,
    };
    app.hear_clock(member, skew);
    let agent = Agent {
        version: "0",
        lacking: Some("it knows no databases"),
    };
    app.note_too_old(member, agent).await.unwrap();
    for held in app.desired_of(member).await.unwrap().value {
        let (object, as_of) = (held.record.object_id, app.now());
        let outcome = StoredOutcome {
            revision: held.modified,
            result: OutcomeKind::Nack,
            code: "NO".to_owned(),
            message: "no".to_owned(),
            as_of,
        };
        let seen = StoredObservation {
            for_revision: held.modified,
            status: json!({ "status": "active", "replicationStatus": "up" }),
            links: vec![LinkReport {
                instance_id: 2,
                from: "lab-2".to_owned(),
                state: "up".to_owned(),
                last_error: String::new(),
                lag_ms: Some(7),
                since: as_of,
            }],
            as_of,
        };
        let reports = [
            (object, Report::Outcome(outcome)),
            (object, Report::Observation(seen)),
        ];
        app.report(member, &reports).await.unwrap();
    }
    web
}

#[tokio::test]
async fn whatever_is_answered_says_of_every_condition_and_observation_when() {
    let web = world().await;
    let mut looked = Looked::default();
    let mut answered = 0;
    for (path, methods, _) in guarded() {
        if !methods.contains(&"GET") {
            continue;
        }
        let mut paths = vec![path.to_owned()];
        if let Some(collection) = path.strip_suffix("/{name}") {
            let (_, list) = web.call("GET", collection, None).await;
            let items = list["items"].as_array().into_iter().flatten();
            let names = items.filter_map(|item| item["metadata"]["name"].as_str());
            paths = names.map(|name| format!("{collection}/{name}")).collect();
        }
        for path in paths {
            let (status, answer) = web.call("GET", &path, None).await;
            answered += usize::from(status == 200);
            looked.at(&path, &answer, false);
        }
    }
    assert!(looked.wrong.is_empty(), "{:#?}", looked.wrong);
    assert!(answered >= 10, "{answered}");
    for type_ in [
        "Planned",
        "Delivered",
        "Active",
        "ClockSkewed",
        "AgentTooOld",
    ] {
        assert!(
            looked.conditions.contains(type_),
            "{type_} was not looked at"
        );
    }
    assert!(
        looked.observed >= 8 && looked.lags >= 2,
        "{} {}",
        looked.observed,
        looked.lags
    );
}

#[tokio::test]
async fn what_the_hub_has_not_heard_since_its_start_is_stale_and_no_link_is_up_by_it() {
    let web = world().await;
    let (_, shown) = web.call("GET", SHOP, None).await;
    let row = &shown["status"]["participants"][0];
    assert_eq!(
        (&row["observed"]["stale"], &row["links"]["stale"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(row["links"]["value"][0]["lagMs"], 7);
    let clusters = |shown: &Value| shown["status"]["participatingClusters"][0].clone();
    assert_eq!(clusters(&shown)["replicationStatus"], "up");

    let again = web.hub.restarted_with(web.hub.store.clone()).await;
    let again = Web::over(again).await;
    let (_, shown) = again.call("GET", SHOP, None).await;
    let row = &shown["status"]["participants"][0];
    assert_eq!(
        (&row["observed"]["stale"], &row["links"]["stale"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(row["links"]["value"][0].get("lagMs"), None);
    assert_eq!(clusters(&shown).get("replicationStatus"), None);
}

#[test]
fn every_schema_of_what_is_observed_demands_its_time() {
    let document = document();
    let (mut left, mut observed) = (vec![("", &document)], 0);
    while let Some((name, value)) = left.pop() {
        if value["properties"].get("stale").is_some() {
            let required = value["required"].as_array().unwrap();
            assert!(
                ["value", "asOf", "stale"]
                    .iter()
                    .all(|it| required.contains(&json!(it))),
                "{name}"
            );
            observed += 1;
        }
        match value {
            Value::Array(values) => left.extend(values.iter().map(|value| (name, value))),
            Value::Object(fields) => {
                left.extend(fields.iter().map(|(name, value)| (name.as_str(), value)))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    assert!(observed >= 4, "{observed}");
}
