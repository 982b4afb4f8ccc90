//! The lab itself, on this machine: what it promises to scenario tests. Every test has a lab of its own, beside any
//! other that runs, and ends by showing that nothing of it is left.

#[path = "lab/outage.rs"]
mod outage;
#[path = "lab/support.rs"]
mod support;

use std::time::{Duration, Instant};

use meridian_integration::lab::Lab;
use meridian_integration::shell;
use meridian_integration::wait::{Look, until, until_true};
use rustix::process::Signal;
use serde_json::json;
use support::{TestLab, answers, with_lab};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_stateful_set_gets_volumes_and_hosts_of_its_own_and_names_in_dns() {
    with_lab(30, 1, 3, async |lab: &TestLab| {
        lab.load_image().await?;
        lab.apply("lab30-1", &support::store())?;
        lab.wait_for_pods("lab30-1", 3).await?;
        let pods = lab.json("lab30-1", &["get", "pods", "-o", "json"])?;
        let hosts: std::collections::BTreeSet<_> = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pod| pod["spec"]["nodeName"].to_string())
            .collect();
        assert_eq!(
            hosts.len(),
            3,
            "pods that exclude one another share hosts: {hosts:?}"
        );
        let claims = lab.json("lab30-1", &["get", "pvc", "-o", "json"])?;
        let claims = claims["items"].as_array().cloned().unwrap_or_default();
        assert!(
            claims.len() == 3
                && claims
                    .iter()
                    .all(|claim| claim["status"]["phase"] == "Bound"),
            "{claims:?}"
        );

        for name in ["store-1.store", "store-lb.default.svc.cluster.local"] {
            let port = if name.starts_with("store-lb") {
                "443"
            } else {
                "6379"
            };
            let answer = lab.in_pod(
                "lab30-1",
                "store-0",
                &["valkey-cli", "-h", name, "-p", port, "ping"],
            )?;
            assert_eq!(answer.stdout.trim(), "PONG", "{name}: {}", answer.stderr);
        }
        let nowhere = lab.in_pod(
            "lab30-1",
            "store-0",
            &["valkey-cli", "-h", "no.such.example", "ping"],
        )?;
        assert!(
            nowhere.stderr.contains("not known"),
            "a name that does not exist: {nowhere:?}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_volume_outlives_its_pod_grows_with_its_claim_and_goes_with_it() {
    with_lab(31, 1, 1, async |lab: &TestLab| {
        lab.load_image().await?;
        lab.apply("lab31-1", &support::store())?;
        lab.wait_for_pods("lab31-1", 1).await?;
        lab.in_pod("lab31-1", "store-0", &["valkey-cli", "set", "kept", "yes"])?;
        lab.kubectl("lab31-1", &["delete", "pod", "store-0"], "")?;
        lab.wait_for_pods("lab31-1", 1).await?;
        let kept = lab.in_pod("lab31-1", "store-0", &["valkey-cli", "get", "kept"])?;
        assert_eq!(kept.stdout.trim(), "yes", "{}", kept.stderr);

        let grown = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}}).to_string();
        lab.kubectl(
            "lab31-1",
            &["patch", "pvc", "data-store-0", "--type=merge", "-p", &grown],
            "",
        )?;
        until_true("the claim has grown", SOON, async || {
            let claim = lab.json("lab31-1", &["get", "pvc", "data-store-0", "-o", "json"])?;
            Ok(claim["status"]["capacity"]["storage"] == "3Gi")
        })
        .await?;

        lab.kubectl(
            "lab31-1",
            &["delete", "statefulsets,persistentvolumeclaims", "--all"],
            "",
        )?;
        until_true("volumes and their folders are gone", SOON, async || {
            let left = lab.kubectl("lab31-1", &["get", "pv", "-o", "name"], "")?;
            let folders = std::fs::read_dir(lab.state().join("lab31-1/volumes"))?.count();
            Ok(left.is_empty() && folders == 0)
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn a_load_balancer_answers_host_and_other_clusters_until_they_are_cut_off() {
    with_lab(32, 2, 1, async |lab: &TestLab| {
        lab.load_image().await?;
        for cluster in ["lab32-1", "lab32-2"] {
            lab.apply(cluster, &support::store())?;
        }
        for cluster in ["lab32-1", "lab32-2"] {
            lab.wait_for_pods(cluster, 1).await?;
        }
        let first = lab.balancer_address("lab32-1").await?;
        until_true("the host reaches the first cluster", SOON, async || {
            Ok(answers(&first))
        })
        .await?;
        let from_second = || {
            let answer = lab.in_pod(
                "lab32-2",
                "store-0",
                &[
                    "timeout",
                    "2",
                    "valkey-cli",
                    "-h",
                    &first,
                    "-p",
                    "443",
                    "ping",
                ],
            );
            answer.is_ok_and(|answer| answer.stdout.trim() == "PONG")
        };
        until_true(
            "a pod of the second cluster reaches the first",
            SOON,
            async || Ok(from_second()),
        )
        .await?;

        lab.lab().partition("lab32-1", "lab32-2").await?;
        assert!(!from_second(), "the cut lets packets through");
        assert!(
            answers(&first),
            "the cut between clusters also cut off the host"
        );
        assert_eq!(
            lab.lab().status().await?.cuts,
            ["lab32-1 to lab32-2", "lab32-2 to lab32-1"]
        );
        lab.lab().heal().await?;
        assert!(from_second(), "healed, and still cut off");

        lab.lab().partition("host", "lab32-1").await?;
        assert!(
            !answers(&first),
            "the cut from the host lets packets through"
        );
        assert!(
            from_second(),
            "the cut from the host also cut off the other cluster"
        );
        lab.kubectl("lab32-1", &["get", "nodes"], "")?;
        lab.lab().heal_between("lab32-1", "host").await?;
        assert!(answers(&first), "healed, and still cut off");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_node_falls_silent_its_address_moves_and_it_comes_back() {
    with_lab(33, 1, 2, async |lab: &TestLab| {
        lab.load_image().await?;
        lab.apply("lab33-1", &support::store())?;
        lab.wait_for_pods("lab33-1", 2).await?;
        let address = lab.balancer_address("lab33-1").await?;
        until_true("the host reaches the service", SOON, async || {
            Ok(answers(&address))
        })
        .await?;
        let holder = lab.holder_of(&address)?;

        lab.lab().kill_node(&holder).await?;
        assert!(
            lab.lab().processes(&holder)?.is_empty(),
            "processes of the dead node run on"
        );
        until("the address moves to the other node", SOON, async || {
            Ok(match lab.holder_of(&address) {
                Ok(now) if now != holder => Look::Holds(()),
                other => Look::NotYet(format!("{other:?}")),
            })
        })
        .await?;
        until_true("the service answers again", SOON, async || {
            Ok(answers(&address))
        })
        .await?;

        lab.lab().start_node(&holder).await?;
        lab.wait_for_pods("lab33-1", 2).await
    })
    .await;
}

#[tokio::test]
async fn a_process_that_is_killed_is_started_again() {
    with_lab(34, 1, 1, async |lab: &TestLab| {
        let api_server = lab.process("lab34-1-control-plane", "kube-apiserver")?;
        assert!(api_server.signal(Signal::KILL));
        until_true("the API server answers again", SOON, async || {
            Ok(lab
                .kubectl("lab34-1", &["get", "--raw", "/readyz"], "")
                .is_ok())
        })
        .await?;
        assert_ne!(
            lab.process("lab34-1-control-plane", "kube-apiserver")?,
            api_server
        );
        let status = lab.lab().status().await?;
        assert_eq!(
            status.clusters[0]
                .control_plane
                .restarts
                .get("kube-apiserver"),
            Some(&1)
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_second_up_changes_nothing_and_can_add_nodes_and_clusters() {
    with_lab(35, 1, 1, async |lab: &TestLab| {
        let before = lab.process("lab35-1-a", "kubelet")?;
        lab.up_again(1, 1).await?;
        assert_eq!(
            lab.process("lab35-1-a", "kubelet")?,
            before,
            "the second up restarted the kubelet"
        );
        let grown = lab.up_again(2, 2).await?;
        assert_eq!(
            lab.process("lab35-1-a", "kubelet")?,
            before,
            "growing restarted the kubelet"
        );
        for cluster in grown.clusters() {
            assert_eq!(cluster.nodes().await?.len(), 2, "{}", cluster.name());
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_run_that_was_killed_at_any_moment_is_finished_by_the_next() {
    with_lab(36, 1, 2, async |lab: &TestLab| {
        // Each mark is a file that `lab up` writes on its way; the run is killed when it appears.
        for mark in [
            "lab.json",
            "lab36-1/pki/ca.key",
            "lab36-1/kubeconfig",
            "lab36-1/control-plane/supervisor.json",
            // Its etcd has a log now, but is not yet a member of its own cluster.
            "lab36-1/control-plane/etcd/member/wal",
        ] {
            lab.down().await?;
            let mut run = lab
                .command(&["up", "--clusters", "1", "--nodes", "2"])
                .spawn()?;
            // Without a pause: an etcd is in the state of interest for some milliseconds only.
            let deadline = Instant::now() + SOON;
            while !lab.state().join(mark).exists() {
                assert!(Instant::now() < deadline, "{mark} does not appear");
                tokio::task::yield_now().await;
            }
            lab.kill_supervisor("lab36-1/control-plane")?;
            run.kill()?;
            run.wait()?;
            let cluster = lab.up_again(1, 2).await?;
            assert_eq!(
                cluster.cluster("lab36-1")?.nodes().await?.len(),
                2,
                "killed at {mark}"
            );
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_a_lab_left_whose_folder_is_gone_is_removed_by_the_next_of_its_id() {
    with_lab(37, 1, 1, async |lab: &TestLab| {
        let orphan = lab.process("lab37-1-a", "kubelet")?;
        std::fs::rename(lab.state(), lab.state().with_extension("forgotten"))?;
        lab.up_again(1, 1).await?;
        assert!(
            !orphan.is_alive(),
            "the kubelet of the forgotten lab runs on"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_id_in_use_and_an_unknown_name_are_refused_with_the_next_step() {
    with_lab(38, 1, 1, async |lab: &TestLab| {
        let elsewhere = tempfile::tempdir()?;
        let second = lab
            .command_in(elsewhere.path(), &["up", "--clusters", "1"])
            .output()?;
        let error = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(
            !second.status.success() && error.contains("choose another with --id"),
            "{error}"
        );
        let error = lab
            .lab()
            .kill_node("lab38-1-z")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("lab38-1-a"), "{error}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_part_that_does_not_come_up_is_named_with_the_end_of_its_log() {
    with_lab(39, 1, 1, async |lab: &TestLab| {
        lab.down().await?;
        let cache = lab.cache_with(
            "kube-apiserver",
            "#!/bin/sh\necho the certificate is of cheese\nexit 3\n",
        )?;
        let mut run = lab.command(&["up", "--clusters", "1", "--nodes", "1"]);
        let run = run.env("MERIDIAN_CACHE", cache.path()).output()?;
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success(), "{error}");
        assert!(
            error.contains("kube-apiserver of lab39-1 did not come up"),
            "{error}"
        );
        assert!(error.contains("the certificate is of cheese"), "{error}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn clusters_that_somebody_else_made_are_used_but_not_harmed() {
    with_lab(29, 1, 1, async |lab: &TestLab| {
        let kubeconfig = lab.state().join("lab29-1/kubeconfig");
        let others = Lab::of_kubeconfigs([kubeconfig.as_path()].into_iter())?;
        assert_eq!(others.cluster("lab29-1")?.nodes().await?, ["lab29-1-a"]);
        let refused = others.kill_node("lab29-1-a").await.unwrap_err().to_string();
        assert!(refused.contains("MERIDIAN_KUBECONFIGS"), "{refused}");
        Ok(())
    })
    .await;
}

#[test]
fn faults_are_not_played_on_clusters_that_somebody_else_made() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("theirs.yaml");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: theirs\n";
    std::fs::write(&kubeconfig, text).unwrap();
    let theirs = [("MERIDIAN_KUBECONFIGS", kubeconfig.to_str().unwrap())];
    let out = shell::run(
        env!("CARGO_BIN_EXE_failover-bench"),
        &[] as &[&str],
        &theirs,
        "",
    )
    .unwrap();
    assert_ne!(out.code, 0);
    let told = "theirs comes from MERIDIAN_KUBECONFIGS; unset it";
    assert!(out.stderr.contains(told), "{}", out.stderr);
}

#[test]
fn help_has_examples() {
    let help = shell::succeed(env!("CARGO_BIN_EXE_lab"), &["--help"], &[], "").unwrap();
    assert!(help.contains("lab partition lab-1 lab-2"), "{help}");
}
