//! What a person sees from outside: metrics of nodes and agents, and a support bundle without a secret in it.

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_integration::{
    shell,
    stack::{Cluster, DATABASE_UP, NAMESPACE, Paths},
    wait::{Look, until},
};
use serde_json::Value;

use super::support::{SOON, cluster, object, pods, running};

const REC: &str = "seen";
const DATABASE: &str = "cart";
/// In every place where a person may put a secret.
const CANARY: &str = "Kanari9enVogel7Q";

/// Keys of Secrets whose values are no secrets: names, places, certificates.
const PUBLIC: &[&str] = &[
    "username",
    "service_name",
    "service_names",
    "port",
    "name",
    "hub",
    "ca.crt",
    "tls.crt",
];

fn page(cluster: &Cluster, pod: &str, port: u16, path: &str) -> anyhow::Result<String> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let scheme = if port == 8070 { "https:" } else { "" };
    cluster.must(
        &[
            "get",
            "--raw",
            &format!("{pods}/{scheme}{pod}:{port}/proxy/{path}"),
        ],
        "",
    )
}

/// The samples of a metric: the line without its name.
fn samples<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.filter(|rest| rest.starts_with('{')).collect()
}

fn agents(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let label = "app.kubernetes.io/name=meridian-agent";
    let names = [
        "get",
        "pods",
        "-l",
        label,
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ];
    let text = cluster.must(&names, "")?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

async fn made(cluster: &Cluster) -> anyhow::Result<()> {
    let more = format!(
        "  redisEnterprisePodAnnotations: {{example.com/note: {CANARY}}}\n  extraLabels: {{example.com/team: shop}}\n"
    );
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: chosen, annotations: {{example.com/note: {CANARY}}}}}\n\
         stringData: {{password: {CANARY}-password}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: notes}}\ndata: {{text: {CANARY}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: pair}}\n\
         stringData: {{tls.key: \"-----BEGIN PRIVATE KEY-----\\n{CANARY}\\n-----END PRIVATE KEY-----\\n\"}}\n"
    ))?;
    running(cluster, REC, &more).await?;
    cluster.apply(&format!(
        "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\n\
         metadata: {{name: {DATABASE}, annotations: {{example.com/note: {CANARY}}}}}\nspec:\n  \
         redisEnterpriseCluster: {{name: {REC}}}\n  memorySize: 100MB\n  replication: true\n  databaseSecretName: chosen\n"
    ))?;
    let active = |redb: &Value| redb["status"]["status"] == "active";
    object(cluster, "redb", DATABASE, "active", DATABASE_UP, active).await?;
    Ok(())
}

/// One node takes writes, with a permission and a replica in sync.
async fn nodes_show_it(cluster: &Cluster) -> anyhow::Result<()> {
    let nodes = pods(cluster, REC)?;
    until(
        "the metrics show a primary with a replica",
        SOON,
        || async {
            let mut all = String::new();
            for node in nodes.keys() {
                all += &page(cluster, node, 8070, "metrics")?;
            }
            let with = |name: &str, end: &str| {
                samples(&all, name)
                    .iter()
                    .filter(|line| line.ends_with(end))
                    .count()
            };
            let found = (
                with("meridian_shard_writable", "} 1"),
                with("redis_server_up", "} 1"),
                with("meridian_shard_in_sync_members", "role=\"primary\"} 1"),
                with("meridian_shard_replica_online", "} 1"),
            );
            let lease = samples(&all, "meridian_shard_lease_remaining_seconds");
            let seconds = lease
                .first()
                .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            let fresh = seconds.is_some_and(|left| left > 0.0 && left <= 3.0);
            Ok(if found == (1, 2, 1, 1) && fresh {
                Look::Holds(())
            } else {
                Look::NotYet(format!("{found:?} {lease:?}"))
            })
        },
    )
    .await?;
    for node in nodes.keys() {
        let known = page(cluster, node, 8070, "v2")?;
        assert!(
            known.contains("node_metrics_up{") && !known.contains("meridian_"),
            "{known}"
        );
        assert!(page(cluster, node, 8080, "livez")?.contains("ok: "));
    }
    Ok(())
}

/// One agent leads, and all say what they did.
fn agents_show_it(cluster: &Cluster) -> anyhow::Result<()> {
    let mut leaders = 0;
    for agent in agents(cluster)? {
        let text = page(cluster, &agent, 8080, "metrics")?;
        if text.lines().any(|line| line == "meridian_agent_leader 1") {
            leaders += 1;
            let renewed = "meridian_agent_api_requests_total{verb=\"update\",resource=\"leases\"";
            assert!(text.contains(renewed), "{text}");
            assert!(
                !samples(&text, "meridian_agent_reconciles_total").is_empty(),
                "{text}"
            );
        }
        assert!(
            page(cluster, &agent, 8080, "livez")?.contains("lease"),
            "it says its role"
        );
    }
    assert_eq!(leaders, 1);
    Ok(())
}

/// Every value of every Secret of the namespace that is one, as it is and as the API writes it.
fn secrets(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let mut values = vec![CANARY.to_owned(), STANDARD.encode(CANARY)];
    for secret in cluster.list("secrets")? {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let encoded = value.as_str().context("a value is no text")?;
            let clear = String::from_utf8_lossy(&STANDARD.decode(encoded)?).into_owned();
            if !PUBLIC.contains(&key.as_str()) && clear.len() >= 8 {
                values.extend([clear.trim().to_owned(), encoded.to_owned()]);
            }
        }
    }
    Ok(values)
}

fn bundle(cluster: &Cluster, paths: &Paths, more: &[&str]) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bundle.tar.gz");
    let file = file.to_string_lossy();
    let mut args = vec![
        "support-bundle",
        "--kubeconfig",
        &cluster.kubeconfig,
        "-n",
        NAMESPACE,
        "-o",
        &file,
    ];
    args.extend(more);
    shell::succeed(&paths.program("meridian")?, &args, &[], "")?;
    shell::succeed("tar", &["-xzOf", &file], &[], "")
}

#[tokio::test]
async fn nodes_and_agents_are_seen_from_outside_and_a_bundle_holds_no_secret() {
    let cluster = cluster().await;
    let paths = Paths::from_environment().unwrap();
    made(cluster).await.unwrap();
    nodes_show_it(cluster).await.unwrap();
    agents_show_it(cluster).unwrap();

    for more in [&[] as &[&str], &["--all", "--since", "1h"]] {
        let text = bundle(cluster, &paths, more).unwrap();
        for secret in secrets(cluster).unwrap() {
            let at = text
                .find(&secret)
                .map(|at| &text[at.saturating_sub(300)..at]);
            assert_eq!(
                at,
                None,
                "a secret of {} bytes stands behind this",
                secret.len()
            );
        }
        for wanted in [
            "\"missing\": []",
            "\"name\": \"chosen\"",
            "\"memorySize\": \"100MB\"",
            "used_memory:",
            "redis_server_up{",
            "leader",
        ] {
            assert!(text.contains(wanted), "no {wanted}");
        }
    }
    cluster
        .must(&["delete", "redb", DATABASE, "--timeout=60s"], "")
        .unwrap();
    super::support::gone(cluster, REC).await.unwrap();
}
