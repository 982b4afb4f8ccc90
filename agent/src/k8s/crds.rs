//! Whether the API server serves the kinds that the agent works with, and whose definitions these are.
//!
//! The agent never installs or changes a `CustomResourceDefinition`: they are cluster-wide and may be another operator's.
//! It works with such as well; what they do not keep is told otherwise ([`super::pruned`]).

use std::{collections::BTreeSet, time::Duration};

use http::Request;
use kube::Client;
use meridian_api::installation::{Definition, Finding, SHARED};
use serde_json::Value;

use crate::probes::Board;

/// The kinds, by group version.
const NEEDED: [(&str, &[&str]); 3] = [
    ("app.redislabs.com/v1", &["redisenterpriseclusters"]),
    (
        "app.redislabs.com/v1alpha1",
        &[
            "redisenterpriseactiveactivedatabases",
            "redisenterprisedatabases",
            "redisenterpriseremoteclusters",
        ],
    ),
    (
        "meridian.dev/v1alpha1",
        &["activeactiveinstances", "databasetopologies"],
    ),
];
/// Name of the check in `/readyz`.
const CHECK: &str = "custom resources";
/// Name of the check that says whose the definitions are.
const WHOSE: &str = "definitions";
/// Where definitions are read.
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Pause between two looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Waits until every kind is served, showing on `board` what is missing.
pub async fn wait_served(client: &Client, board: &Board) {
    board.bad(CHECK, "not looked at yet");
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tick.tick().await;
        match missing(client).await {
            Ok(missing) if missing.is_empty() => {
                board.good(CHECK, "all served");
                return;
            }
            Ok(missing) => {
                let list = missing.into_iter().collect::<Vec<_>>().join(", ");
                tracing::warn!(missing = list, "waits for custom resources");
                board.bad(
                    CHECK,
                    format!("missing: {list}. Ask `meridian preflight` how to install them"),
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the API server could not be asked for its kinds");
                board.bad(CHECK, format!("the API server could not be asked: {error}"));
            }
        }
    }
}

async fn missing(client: &Client) -> Result<BTreeSet<String>, kube::Error> {
    let mut missing = BTreeSet::new();
    for (group_version, plurals) in NEEDED {
        let served: BTreeSet<String> = match client.list_api_group_resources(group_version).await {
            Ok(list) => list
                .resources
                .into_iter()
                .map(|resource| resource.name)
                .collect(),
            // A group that is not served is answered without a reason.
            Err(kube::Error::Api(status)) if status.code == 404 => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        missing.extend(
            plurals
                .iter()
                .filter(|plural| !served.contains(**plural))
                .map(|plural| format!("{plural} ({group_version})")),
        );
    }
    Ok(missing)
}

/// Looks once whose the definitions are that another operator may have installed, and says so on `board` and in the log. None
/// of it keeps the agent from working.
pub async fn show_whose(client: &Client, board: &Board) {
    let told = match whose(client).await {
        Ok(found) => judge(&found),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            "whose they are is not known: deploy/bundle/definitions.yaml gives the right to look"
                .to_owned()
        }
        Err(error) => format!("whose they are is not known: {error}"),
    };
    tracing::info!(told, "definitions of the custom resources");
    board.good(WHOSE, told);
}

async fn whose(client: &Client) -> Result<Vec<Definition>, kube::Error> {
    let mut found = Vec::new();
    for name in SHARED {
        let request = Request::get(format!("{DEFINITIONS}/{name}")).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        found.push(Definition::read(&client.request::<Value>(request).await?));
    }
    Ok(found)
}

fn judge(found: &[Definition]) -> String {
    let told: Vec<String> = found
        .iter()
        .filter(|one| !one.ours || !one.keeps_conditions)
        .map(|one| match one.ours {
            true => format!(
                "the definition {} is of an older release and keeps no status.conditions: apply deploy/crds",
                one.name
            ),
            false => Finding::Definition(one.clone()).to_string(),
        })
        .collect();
    if told.is_empty() {
        return "all are ours".to_owned();
    }
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::k8s::testing::{answer, objects};

    fn definition(name: &str, ours: bool, conditions: bool) -> Value {
        let mut labels = json!({"app": "redis-enterprise"});
        if ours {
            labels["app.kubernetes.io/part-of"] = json!("meridian");
        }
        let mut status = json!({"properties": {"state": {"type": "string"}}});
        if conditions {
            status["properties"]["conditions"] = json!({"type": "array"});
        }
        let schema = json!({"openAPIV3Schema": {"properties": {"status": status}}});
        json!({"metadata": {"name": name, "labels": labels},
               "spec": {"versions": [{"name": "v1", "served": true, "schema": schema}]}})
    }

    async fn shown(answers: Vec<(u16, Value)>) -> (bool, String) {
        let (objects, server) = objects();
        let asked = tokio::spawn(answer(server, answers));
        let board = Board::default();
        show_whose(&objects.client(), &board).await;
        drop(objects);
        for (method, uri, _) in asked.await.unwrap() {
            assert_eq!(method, http::Method::GET);
            let name = uri.rsplit('/').next().unwrap().to_owned();
            assert!(SHARED.contains(&name.as_str()), "{uri}");
        }
        board.read_one(WHOSE)
    }

    #[tokio::test]
    async fn whose_the_definitions_are_is_told_and_keeps_nobody_from_working() {
        let all = |ours, conditions| {
            SHARED
                .map(|name| (200, definition(name, ours, conditions)))
                .to_vec()
        };
        let forbidden = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"});
        let cases = [
            (all(true, true), "all are ours"),
            (all(true, false), "older release"),
            (all(false, true), "is not ours"),
            (all(false, false), "keeps no status.conditions"),
            (vec![(403, forbidden)], "deploy/bundle/definitions.yaml"),
        ];
        for (answers, expected) in cases {
            let (ready, text) = shown(answers).await;
            assert!(ready && text.contains(expected), "{expected}: {text}");
        }
    }
}
