//! A part is killed while clients write. No request may fail that did not go to the killed part.

use std::time::Duration;

use meridian_integration::{
    demo::{DATABASE, equal},
    stack::{Cluster, REC, Stack},
    wait::{Look, until},
};

use crate::{
    load::Writer,
    support::{Database, database, stack},
};

/// Runs `fault` while one client in each region writes, and expects that no client notices and all regions agree.
async fn nobody_notices<F>(database: &Database, key: &str, fault: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce() -> anyhow::Result<()>,
{
    let before: i64 = database.regions[0]
        .run::<Option<i64>>(&format!("GET {key}"))
        .await?
        .unwrap_or(0);
    let mut writers = Vec::new();
    for region in &database.regions {
        writers.push(Writer::start(region, key).await?);
    }
    for writer in &writers {
        writer.progress(50).await?;
    }
    fault().await?;
    let mut sum = before;
    for writer in &writers {
        writer.progress(200).await?;
    }
    for writer in writers {
        let log = writer.finish().await?;
        anyhow::ensure!(log.errors.is_empty(), "clients noticed: {:?}", log.errors);
        sum += log.acknowledged;
    }
    for region in &database.regions {
        equal(
            region,
            &format!("GET {key}"),
            &sum.to_string(),
            Duration::from_secs(60),
        )
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_notices_that_the_agents_leader_is_killed() {
    let stack = stack().await;
    let database = database(stack, DATABASE).await.unwrap();
    let cluster = &stack.clusters[0];
    nobody_notices(&database, "faults:agent", async || {
        let leader = leader(cluster)?;
        cluster.must(
            &["delete", "pod", &leader, "--grace-period=0", "--force"],
            "",
        )?;
        let what = format!("{}: another agent leads", cluster.name);
        until(&what, Duration::from_secs(60), || async {
            let now = self::leader(cluster)?;
            Ok(if now == leader {
                Look::NotYet(format!("{now} still holds the Lease"))
            } else {
                Look::Holds(())
            })
        })
        .await
    })
    .await
    .unwrap();
    stack
        .hub
        .connected(&cluster.name, Duration::from_secs(60))
        .await
        .unwrap();
}

fn leader(cluster: &Cluster) -> anyhow::Result<String> {
    let lease = cluster.get("lease", "meridian-agent")?.unwrap_or_default();
    Ok(lease["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_notices_that_the_hub_is_killed() {
    let stack = stack().await;
    let database = database(stack, DATABASE).await.unwrap();
    nobody_notices(&database, "faults:hub", async || stack.hub.kill().await)
        .await
        .unwrap();
    stack.hub.spawn().unwrap();
    stack.hub.ready().await.unwrap();
    for cluster in &stack.clusters {
        stack
            .hub
            .connected(&cluster.name, Duration::from_secs(90))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_notices_that_the_syncer_is_killed() {
    let stack = stack().await;
    let database = database(stack, DATABASE).await.unwrap();
    nobody_notices(&database, "faults:syncer", async || kill_syncers(stack))
        .await
        .unwrap();
}

/// Kills the child of PID 1 in every pod of the first cluster's REC.
fn kill_syncers(stack: &Stack) -> anyhow::Result<()> {
    // The bracket keeps the shell, whose own command line holds this text, out of the pattern.
    let find_and_kill = "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $p/cmdline 2>/dev/null)\" in \
        *meridian-nod[e]' sync'*) kill -9 ${p#/proc/} && echo killed;; esac; done";
    for index in 0..3 {
        let pod = format!("{REC}-{index}");
        let out = stack.clusters[0].must(&["exec", &pod, "--", "sh", "-c", find_and_kill], "")?;
        anyhow::ensure!(
            out.contains("killed"),
            "{pod}: no syncer was found to kill: {out}"
        );
    }
    Ok(())
}
