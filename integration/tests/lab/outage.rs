//! Troubles that last: cables, programs that stay away, stores that go back in time, volumes that fill up.

use std::io::Write as _;

use meridian_integration::wait::until_true;
use rustix::process::Signal;

use super::SOON;
use super::support::{self, TestLab, with_lab};

const CONTROL_PLANE: &str = "-1-control-plane";

#[tokio::test]
async fn a_node_without_its_cable_runs_on_unheard_until_it_is_plugged_in() {
    with_lab(25, 1, 1, async |lab: &TestLab| {
        let nodes = lab.json("lab25-1", &["get", "nodes", "-o", "json"])?;
        let address = nodes["items"][0]["status"]["addresses"][0]["address"].clone();
        let address = format!("{}:10256", address.as_str().unwrap_or_default());
        let heard = || {
            let limit = std::time::Duration::from_secs(1);
            let address = address.parse().expect("an address");
            std::net::TcpStream::connect_timeout(&address, limit).is_ok()
        };
        until_true("kube-proxy is heard", SOON, async || Ok(heard())).await?;
        let before = lab.process("lab25-1-a", "kubelet")?;

        lab.lab().unplug("lab25-1-a").await?;
        assert!(!heard(), "the node is heard without its cable");
        assert_eq!(lab.process("lab25-1-a", "kubelet")?, before);
        lab.lab().plug("lab25-1-a").await?;
        until_true("kube-proxy is heard again", SOON, async || Ok(heard())).await?;
        assert_eq!(lab.process("lab25-1-a", "kubelet")?, before);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_process_that_is_stopped_stays_away_until_it_may_start() {
    with_lab(26, 1, 1, async |lab: &TestLab| {
        let unit = format!("lab26{CONTROL_PLANE}");
        lab.lab().stop_process(&unit, "kube-apiserver").await?;
        // Whoever starts again what ends has had its turn once the store is back.
        let store = lab.process(&unit, "etcd")?;
        assert!(store.signal(Signal::KILL));
        until_true("etcd runs again", SOON, async || {
            Ok(lab.process(&unit, "etcd").is_ok_and(|now| now != store))
        })
        .await?;
        assert!(
            lab.process(&unit, "kube-apiserver").is_err(),
            "the API server was started again"
        );
        assert!(lab.kubectl("lab26-1", &["get", "nodes"], "").is_err());

        lab.lab().start_process(&unit, "kube-apiserver").await?;
        lab.kubectl("lab26-1", &["get", "nodes"], "")?;
        let refused = lab.lab().stop_process(&unit, "kubelet").await.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("`kubelet`") && text.contains("kube-scheduler"),
            "{text}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_put_back_forgets_what_was_written_since() {
    with_lab(27, 1, 1, async |lab: &TestLab| {
        let make = |name: &str| lab.kubectl("lab27-1", &["create", "configmap", name], "");
        let there = |name: &str| {
            let found = lab.kubectl("lab27-1", &["get", "configmap", name, "-o", "name"], "");
            found.is_ok_and(|text| text.contains(name))
        };
        make("before")?;
        let copy = lab.state().join("copy");
        lab.lab().snapshot_store("lab27-1", &copy).await?;
        make("after")?;
        lab.kubectl("lab27-1", &["delete", "configmap", "before"], "")?;

        lab.lab().restore_store("lab27-1", &copy).await?;
        assert!(there("before") && !there("after"));
        // The cluster goes on from there.
        make("later")?;
        let again = lab
            .lab()
            .snapshot_store("lab27-1", &copy)
            .await
            .unwrap_err();
        assert!(again.to_string().contains("which exists"), "{again}");
        let nothing = lab.state().join("nothing");
        let empty = lab
            .lab()
            .restore_store("lab27-1", &nothing)
            .await
            .unwrap_err();
        assert!(empty.to_string().contains("snapshot-store"), "{empty}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_limited_volume_is_empty_at_first_and_full_in_the_end() {
    with_lab(28, 1, 1, async |lab: &TestLab| {
        lab.load_image().await?;
        lab.apply("lab28-1", &support::store())?;
        lab.wait_for_pods("lab28-1", 1).await?;
        lab.in_pod("lab28-1", "store-0", &["valkey-cli", "set", "gone", "soon"])?;
        let claim = lab.json("lab28-1", &["get", "pvc", "data-store-0", "-o", "json"])?;
        let volume = claim["spec"]["volumeName"]
            .as_str()
            .unwrap_or_default()
            .to_owned();

        lab.lab().limit_volume("lab28-1-a", &volume, 8).await?;
        lab.kubectl("lab28-1", &["delete", "pod", "store-0"], "")?;
        lab.wait_for_pods("lab28-1", 1).await?;
        let left = lab.in_pod("lab28-1", "store-0", &["valkey-cli", "get", "gone"])?;
        assert_eq!(left.stdout.trim(), "", "the volume was not empty");

        let processes = lab.lab().pod_processes("store-0")?;
        let first = processes.iter().find(|process| process.inner == 1);
        let first = first.expect("a first process");
        assert_eq!(first.name, "valkey-server");
        let path = format!("/proc/{}/root/var/lib/meridian/filler", first.process.pid);
        let mut file = std::fs::File::create(path)?;
        let full = (0..16).try_for_each(|_| file.write_all(&vec![0; 1 << 20]));
        let error = full.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
        let unknown = lab
            .lab()
            .limit_volume("lab28-1-a", "pvc-none", 8)
            .await
            .unwrap_err();
        assert!(unknown.to_string().contains(&volume), "{unknown}");
        Ok(())
    })
    .await;
}
