//! Whether the API server serves the kinds that the agent works with.
//!
//! The agent never installs or changes a CRD: they are cluster-wide and may be another operator's.

use std::{collections::BTreeSet, time::Duration};

use kube::Client;

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
                    format!("missing: {list}. Apply the files of deploy/crds"),
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
