//! The webhook's own life: before the first agent, without one, and while its certificate changes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_integration::wait::{Look, until, until_true};
use serde_json::json;

use crate::{
    says,
    site::{PODS, SOON, Site, reaadb, redb, rerc},
};

/// What the API server says when it wanted to ask and nobody answered.
const UNANSWERED: &str = "failed calling webhook \"redisenterprise.admission.redislabs\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_first_install_hinders_nobody_before_the_agent_is_there() {
    let site = Site::empty("first").await.unwrap();
    site.install_webhook().unwrap();
    site.apply(&redb("early", "{evictionPolicy: illegal}"))
        .unwrap();
    site.install_agent().unwrap();
    site.in_force().await.unwrap();
    let told = site
        .denied(&redb("late", "{evictionPolicy: illegal}"))
        .unwrap();
    says(&told, "spec.evictionPolicy: found \"illegal\"");
    let judged = until_true(
        "what came too early is shown as Invalid",
        SOON,
        async || {
            let early = site.get("redb", "early")?.unwrap_or_default();
            Ok(early["status"]["specStatus"] == "Invalid")
        },
    );
    judged.await.unwrap();
    site.install_webhook().unwrap();
    site.install_agent().unwrap();
    site.denied(&redb("late", "{evictionPolicy: illegal}"))
        .expect("a second apply of the bundle takes nothing away");
    site.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_agent_only_new_wishes_wait_and_everything_can_be_taken_down() {
    let site = Site::guarded("absent").await.unwrap();
    let kept = redb("kept", "{memorySize: 100MB}");
    site.apply(&kept).unwrap();
    site.apply(&rerc("eu-1", "")).unwrap();
    site.apply(&reaadb("cart", &["eu-1"], "{}")).unwrap();
    for (kind, name) in [("redb", "kept"), ("reaadb", "cart")] {
        let what = format!("the agent holds {name}");
        let held = until_true(&what, SOON, async || {
            let found = site.get(kind, name)?.unwrap_or_default();
            Ok(found["metadata"]["finalizers"].is_array())
        });
        held.await.unwrap();
    }
    site.scale(0).await.unwrap();
    only_new_wishes_wait(&site, &kept);
    everything_can_be_taken_down(&site).await;
    site.remove().await.unwrap();
}

fn only_new_wishes_wait(site: &Site, kept: &str) {
    says(&site.denied(&redb("new", "{}")).unwrap(), UNANSWERED);
    says(
        &site.denied(&redb("kept", "{memorySize: 1GB}")).unwrap(),
        UNANSWERED,
    );
    site.apply(kept).expect("what is unchanged needs no answer");
    site.must(&["label", "redb", "kept", "team=a"], "")
        .expect("labels are not judged");
    site.must(
        &["create", "configmap", "unrelated", "--from-literal=a=b"],
        "",
    )
    .expect("other kinds are not asked about");
    site.apply("apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {name: rec}\nspec: {nodes: 3}\n")
        .expect("clusters are not asked about");
}

async fn everything_can_be_taken_down(site: &Site) {
    site.must(&["delete", "redb", "kept", "--wait=false"], "")
        .expect("deleting a database needs no answer");
    let going = site
        .get("redb", "kept")
        .unwrap()
        .expect("its finalizer holds it");
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    says(
        &site.refused(&["delete", "reaadb", "cart"], "").unwrap(),
        UNANSWERED,
    );
    site.must(
        &[
            "annotate",
            "reaadb",
            "cart",
            "meridian.dev/confirm-deletion=cart",
        ],
        "",
    )
    .unwrap();
    site.must(&["delete", "reaadb", "cart", "--wait=false"], "")
        .expect("a confirmed deletion needs no answer");
    site.release_all()
        .expect("taking a finalizer off needs no answer");
    site.gone("redb", "kept").await.unwrap();
    site.gone("reaadb", "cart").await.unwrap();

    site.must(
        &[
            "delete",
            "validatingwebhookconfiguration",
            &site.configuration(),
        ],
        "",
    )
    .unwrap();
    let free = until_true(
        "without the configuration nothing is asked",
        SOON,
        async || {
            Ok(site
                .kubectl(&["apply", "-f", "-"], &redb("new", "{}"))?
                .code
                == 0)
        },
    );
    free.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_although_its_webhook_has_nobody_to_answer() {
    let site = Site::guarded("namespace").await.unwrap();
    site.apply(&redb("db", "{}")).unwrap();
    site.apply(&rerc("eu-1", "")).unwrap();
    site.apply(&reaadb("cart", &["eu-1"], "{}")).unwrap();
    site.scale(0).await.unwrap();
    site.must(
        &["delete", "namespace", &site.namespace, "--wait=false"],
        "",
    )
    .unwrap();
    let gone = until("the namespace is gone", PODS, async || {
        site.release_all()?;
        let args = [
            "get",
            "namespace",
            &site.namespace,
            "--ignore-not-found",
            "-o",
            "json",
        ];
        let left = site.must(&args, "")?;
        Ok(if left.trim().is_empty() {
            Look::Holds(())
        } else {
            Look::NotYet(left)
        })
    });
    gone.await.unwrap();
    site.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_changed_by_hand_is_put_right() {
    let site = Site::guarded("repair").await.unwrap();
    let right = site.ca_bundle().unwrap();
    let expired = STANDARD.encode(authority(2020, 2021));
    let foreign = STANDARD.encode(authority(2020, 2100));
    for (path, wrong) in [
        ("/webhooks/0/clientConfig/caBundle", json!(expired)),
        ("/webhooks/0/clientConfig/caBundle", json!(foreign)),
        ("/webhooks/0/failurePolicy", json!("Ignore")),
        ("/webhooks/0/rules", json!([])),
    ] {
        site.spoil(path, &wrong).unwrap();
        let what = format!("{path} is as it was");
        let repaired = until_true(&what, SOON, async || {
            let found = site.get("validatingwebhookconfiguration", &site.configuration())?;
            let found = found.unwrap_or_default();
            let webhook = &found["webhooks"][0];
            Ok(webhook["clientConfig"]["caBundle"] == right.as_str()
                && webhook["failurePolicy"] == "Fail"
                && webhook["rules"]
                    .as_array()
                    .is_some_and(|rules| rules.len() == 2))
        });
        repaired.await.unwrap();
        site.in_force().await.unwrap();
    }
    site.remove().await.unwrap();
}

/// The certificate of API servers ends while nobody is there to renew it: what needs no answer goes on, and the first agent
/// that comes back puts it right.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_hinders_nobody_while_there_is_no_agent() {
    let site = Site::guarded("expired").await.unwrap();
    let kept = redb("kept", "{memorySize: 100MB}");
    site.apply(&kept).unwrap();
    let held = until_true("the agent holds it", SOON, async || {
        let found = site.get("redb", "kept")?.unwrap_or_default();
        Ok(found["metadata"]["finalizers"].is_array())
    });
    held.await.unwrap();
    site.scale(0).await.unwrap();
    let expired = STANDARD.encode(authority(2020, 2021));
    site.spoil("/webhooks/0/clientConfig/caBundle", &json!(expired))
        .unwrap();
    only_new_wishes_wait(&site, &kept);
    site.must(&["delete", "redb", "kept", "--wait=false"], "")
        .expect("deleting needs no answer");

    site.scale(2).await.unwrap();
    let repaired = until_true("the certificate is put right", SOON, async || {
        Ok(site.ca_bundle()? != expired)
    });
    repaired.await.unwrap();
    site.in_force().await.unwrap();
    site.gone("redb", "kept").await.unwrap();
    site.remove().await.unwrap();
}

/// What README says about the end, in its order; and a cluster that was left without an agent is taken down by its way out.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_uninstalled_in_the_documented_order_leaves_nothing() {
    let site = Site::guarded("uninstall").await.unwrap();
    let rec = "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {name: rec}\nspec: {nodes: 3}\n";
    site.apply(rec).unwrap();
    site.apply(&redb("db", "{}")).unwrap();
    site.apply(&rerc("eu-1", "")).unwrap();
    for (kind, name) in [("rec", "rec"), ("redb", "db")] {
        let what = format!("the agent holds {name}");
        let held = until_true(&what, SOON, async || {
            let found = site.get(kind, name)?.unwrap_or_default();
            Ok(found["metadata"]["finalizers"].is_array())
        });
        held.await.unwrap();
    }
    // Databases and RERCs with the agent, the cluster without one.
    for (kind, name) in [("redb", "db"), ("rerc", "eu-1")] {
        site.must(&["delete", kind, name, "--timeout=60s"], "")
            .unwrap();
    }
    site.scale(0).await.unwrap();
    site.must(&["delete", "rec", "rec", "--wait=false"], "")
        .expect("deleting a cluster needs no answer");
    let going = site.get("rec", "rec").unwrap();
    assert!(going.is_some(), "its finalizer holds it");
    let out = r#"{"metadata":{"finalizers":null}}"#;
    site.must(&["patch", "rec", "rec", "--type=merge", "-p", out], "")
        .expect("taking a finalizer off needs no answer");
    site.gone("rec", "rec").await.unwrap();

    let admission = site.webhook_bundle().unwrap();
    site.must(&["delete", "--timeout=60s", "-f", "-"], &admission)
        .unwrap();
    site.uninstall_agent().unwrap();
    let listed = "deployment,service,serviceaccount,role,rolebinding,lease,networkpolicy,pdb";
    let words = [
        "get",
        listed,
        "-l",
        "app.kubernetes.io/name=meridian-agent",
        "-o",
        "name",
    ];
    let empty = until("nothing of the agent is left", SOON, async || {
        let left = site.must(&words, "")?;
        Ok(if left.trim().is_empty() {
            Look::Holds(())
        } else {
            Look::NotYet(left)
        })
    });
    empty.await.unwrap();
    site.apply(&redb("free", "{}"))
        .expect("nothing is asked any more");
    site.must(&["delete", "redb", "free", "--timeout=60s"], "")
        .expect("nobody holds what nobody served");
    site.remove().await.unwrap();
}

/// A certificate of an authority that is good between these years, PEM.
fn authority(from: i32, to: i32) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    params.self_signed(&key).unwrap().pem()
}

/// Twice, so that the second change would fail if a replica still served what the first one replaced.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_changes_twice_without_a_restart_and_without_a_request_lost() {
    let site = Arc::new(Site::guarded("renewal").await.unwrap());
    let pods_before = pods(&site);
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU32::new(0));
    let requests = {
        let (site, stop, asked) = (Arc::clone(&site), Arc::clone(&stop), Arc::clone(&asked));
        tokio::task::spawn_blocking(move || {
            let legal = redb("asked", "{memorySize: 200MB}");
            let mut lost = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let out = site
                    .kubectl(&["apply", "--dry-run=server", "-f", "-"], &legal)
                    .unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
                if out.code != 0 {
                    lost.push(out.stderr);
                }
            }
            lost
        })
    };
    for _ in 0..2 {
        let before = site.ca_bundle().unwrap();
        let garbled = json!({ "data": { "privateKey": STANDARD.encode("garbled") } }).to_string();
        site.must(
            &[
                "patch",
                "secret",
                "admission-tls",
                "--type=merge",
                "-p",
                &garbled,
            ],
            "",
        )
        .unwrap();
        let changed = until_true(
            "API servers are told to trust another certificate",
            SOON,
            async || Ok(site.ca_bundle()? != before),
        );
        changed.await.unwrap();
        // Both replicas serve the new one only some seconds later; requests meanwhile meet either.
        let seen = asked.load(Ordering::Relaxed);
        let more = until_true(
            "many requests were answered since",
            Duration::from_secs(120),
            async || Ok(asked.load(Ordering::Relaxed) > seen + 60),
        );
        more.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let lost = requests.await.unwrap();
    assert_eq!(
        lost,
        Vec::<String>::new(),
        "of {} requests",
        asked.load(Ordering::Relaxed)
    );
    assert_eq!(
        pods(&site),
        pods_before,
        "no replica was replaced or restarted"
    );
    site.remove().await.unwrap();
}

/// Identity and restarts of the agent's pods.
fn pods(site: &Site) -> Vec<String> {
    let found = site
        .json(&["get", "pods", "-l", "app.kubernetes.io/name=meridian-agent"])
        .unwrap();
    let pods = found["items"].as_array().unwrap();
    let mut told: Vec<_> = pods
        .iter()
        .map(|pod| {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            format!("{} {restarts}", pod["metadata"]["uid"])
        })
        .collect();
    told.sort();
    told
}
