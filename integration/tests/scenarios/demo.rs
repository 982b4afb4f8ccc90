//! The claims of the demo.

use meridian_integration::demo::{self, DATABASE};

use crate::support::{database, stack};

#[tokio::test(flavor = "multi_thread")]
async fn a_database_takes_writes_in_three_clusters_and_agrees_after_a_cut() {
    let stack = stack().await;
    let (again, regions, seen) = demo::run(stack.paths.clone()).await.unwrap();
    println!("{}", demo::summary(&again, &regions, &seen));
    let status = demo::hub_status(&stack.hub).unwrap();
    assert_eq!(status["metadata"]["name"], DATABASE);
    assert_eq!(
        status["status"]["replicationStatus"], "up",
        "the hub shows what the members show: {status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_shows_every_participant_with_an_id_of_its_own() {
    let stack = stack().await;
    let database = database(stack, DATABASE).await.unwrap();
    for cluster in &stack.clusters {
        let found = cluster
            .get("reaadb", &database.name)
            .unwrap()
            .expect("the member has the REAADB");
        let participants = found["status"]["participatingClusters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut ids: Vec<i64> = participants
            .iter()
            .filter_map(|p| p["id"].as_i64())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(
            ids.len(),
            stack.clusters.len(),
            "{}: {}",
            cluster.name,
            found["status"]
        );
        for peer in &stack.clusters {
            let rerc = cluster
                .get("rerc", &peer.name)
                .unwrap()
                .expect("one RERC for each participant");
            assert_eq!(
                rerc["status"]["local"] == true,
                peer.name == cluster.name,
                "{}: {rerc}",
                cluster.name
            );
        }
    }
}
