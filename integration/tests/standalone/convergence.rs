//! Regions that take writes at the same time agree in the end.

use std::collections::{BTreeMap, BTreeSet};

use meridian_integration::wait::{Look, until};

use crate::group::{Group, SOON, free_port, http};

fn set(members: &[&str]) -> BTreeSet<String> {
    members.iter().map(|m| (*m).to_owned()).collect()
}

#[tokio::test]
async fn three_regions_agree_on_every_type() {
    let group = Group::start(3).await;
    for region in &group.regions {
        let id = region.id.to_string();
        let _: i64 = region
            .ask(&["INCRBY", "counter", &format!("{id}0")])
            .await
            .unwrap();
        let _: i64 = region
            .ask(&["SADD", "set", "all", &format!("from-{id}")])
            .await
            .unwrap();
        let _: i64 = region
            .ask(&["HSET", "hash", &format!("field-{id}"), &id])
            .await
            .unwrap();
        let _: i64 = region.ask(&["HINCRBY", "hash", "sum", &id]).await.unwrap();
        let _: String = region
            .ask(&["SET", &format!("string-{id}"), &id])
            .await
            .unwrap();
        let _: String = region.ask(&["SET", "contended", &id]).await.unwrap();
    }
    let digest = group.converged().await;
    let hash: BTreeMap<String, String> = [
        ("field-1", "1"),
        ("field-2", "2"),
        ("field-3", "3"),
        ("sum", "6"),
    ]
    .map(|(field, value)| (field.to_owned(), value.to_owned()))
    .into();
    let contended: String = group.region(1).ask(&["GET", "contended"]).await.unwrap();
    assert!(["1", "2", "3"].contains(&contended.as_str()), "{contended}");
    for region in &group.regions {
        region.replies(&["GET", "counter"], "60".to_owned()).await;
        region
            .replies(
                &["SMEMBERS", "set"],
                set(&["all", "from-1", "from-2", "from-3"]),
            )
            .await;
        region.replies(&["HGETALL", "hash"], hash.clone()).await;
        region.replies(&["GET", "string-2"], "2".to_owned()).await;
        region
            .replies(&["GET", "contended"], contended.clone())
            .await;
    }
    let _: i64 = group.region(2).ask(&["DEL", "counter"]).await.unwrap();
    group.region(3).replies(&["EXISTS", "counter"], 0_i64).await;
    assert_ne!(
        group.converged().await,
        digest,
        "the digest covers the values"
    );
}

#[tokio::test]
async fn a_region_that_was_cut_off_catches_up_to_the_sum() {
    let group = Group::start(3).await;
    let mut clients = Vec::new();
    for region in &group.regions {
        clients.push((region.id, region.client().await));
    }
    // Cut region 3 off in both directions.
    group.region(3).sync(&["pause"]).unwrap();
    for id in [1, 2] {
        group.region(id).sync(&["pause", "--peer", "3"]).unwrap();
        group
            .region(id)
            .link(3, "paused", |link| link["state"] == "paused")
            .await;
    }
    let mut writing = Vec::new();
    for (id, mut client) in clients {
        writing.push(tokio::spawn(async move {
            for _ in 0..200 {
                let _: i64 = redis::cmd("INCR")
                    .arg("counter")
                    .query_async(&mut client)
                    .await
                    .unwrap();
            }
            let _: i64 = redis::cmd("SADD")
                .arg("set")
                .arg(format!("from-{id}"))
                .query_async(&mut client)
                .await
                .unwrap();
            (id, client)
        }));
    }
    let mut clients = Vec::new();
    for task in writing {
        clients.push(task.await.unwrap());
    }
    for id in [1, 2] {
        group
            .region(id)
            .replies(&["GET", "counter"], "400".to_owned())
            .await;
    }
    group
        .region(3)
        .replies(&["GET", "counter"], "200".to_owned())
        .await;
    group
        .region(3)
        .replies(&["SMEMBERS", "set"], set(&["from-3"]))
        .await;

    for region in &group.regions {
        region.sync(&["resume"]).unwrap();
    }
    for (id, mut client) in clients {
        group
            .region(id)
            .replies(&["GET", "counter"], "600".to_owned())
            .await;
        group
            .region(id)
            .replies(&["SMEMBERS", "set"], set(&["from-1", "from-2", "from-3"]))
            .await;
        let pong: String = redis::cmd("PING")
            .query_async(&mut client)
            .await
            .expect("the client of before is still connected");
        assert_eq!(pong, "PONG");
    }
    group.converged().await;
}

#[tokio::test]
async fn status_shows_clocks_lag_and_state_of_every_peer() {
    let group = Group::start(2).await;
    let _: i64 = group.region(1).ask(&["INCR", "counter"]).await.unwrap();
    group
        .region(2)
        .replies(&["GET", "counter"], "1".to_owned())
        .await;
    let link = group
        .region(2)
        .link(1, "has seen a write", |link| {
            link["sourceClock"]
                .as_object()
                .is_some_and(|c| !c.is_empty())
        })
        .await;
    assert_eq!(link["state"], "up");
    assert!(
        link["lagMs"].is_u64() && link["since"].is_string() && link["asOf"].is_string(),
        "{link}"
    );
    let status = group.region(2).sync(&["status"]).unwrap();
    let own = status["databases"][0]["shards"][0]["clock"]
        .as_object()
        .unwrap();
    assert!(
        own.keys().any(|origin| origin.starts_with("1/")),
        "{status}"
    );
    assert_eq!(status["databases"][0]["instanceId"], 2);
    let refused = group
        .region(2)
        .sync(&["pause", "--peer", "9"])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("no peer 9") && refused.contains("[1]"),
        "{refused}"
    );
}

/// Metadata may go only once every region has reported a clock that it cannot lose, so this ends only if reports flow.
#[tokio::test]
async fn metadata_is_forgotten_once_every_region_has_reported() {
    let group = Group::start(3).await;
    for region in &group.regions {
        let member = region.id.to_string();
        let _: i64 = region.ask(&["SADD", "set", &member]).await.unwrap();
        let _: i64 = region.ask(&["INCR", "counter"]).await.unwrap();
    }
    for region in &group.regions {
        region.replies(&["SCARD", "set"], 3_i64).await;
        until(
            &format!("region {} has forgotten", region.id),
            SOON,
            || async {
                let info: String = region.internal(&["INFO", "crdt"]).await?;
                if info.lines().any(|line| line == "crdt_gc_pending:0") {
                    Ok(Look::Holds(()))
                } else {
                    Ok(Look::NotYet(info))
                }
            },
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn probes_and_metrics_say_what_is_true() {
    let mut group = Group::prepare(2);
    let (probes, metrics) = (free_port(), free_port());
    group.launch(1, |command| {
        command.args(["--probe-listen", &format!("127.0.0.1:{probes}")]);
        command.args(["--metrics-listen", &format!("127.0.0.1:{metrics}")]);
    });
    let answers = |path: &'static str, port: u16, words: &'static [&'static str]| async move {
        until(&format!("{path} says {words:?}"), SOON, || async {
            let (status, body) = http(port, path)?;
            let all = format!("{status}\n{body}");
            if words.iter().all(|word| all.contains(word)) {
                Ok(Look::Holds(()))
            } else {
                Ok(Look::NotYet(all))
            }
        })
        .await
        .unwrap();
    };
    answers("/livez", probes, &["200", "ok"]).await;
    answers("/readyz", probes, &["200", "ok"]).await;
    // Region 2 does not run yet.
    answers(
        "/metrics",
        metrics,
        &["database_syncer_current_status{cluster=\"standalone\",node=\"region-1\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 2"],
    )
    .await;
    group.launch(2, |_| {});
    answers(
        "/metrics",
        metrics,
        &[
            "database_syncer_current_status{cluster=\"standalone\",node=\"region-1\",db=\"db\",peer=\"2\",syncer_type=\"crdt\"} 0",
            "meridian_shard_ready{cluster=\"standalone\",node=\"region-1\",db=\"db\",shard=\"1\",role=\"primary\"} 1",
        ],
    )
    .await;
}
