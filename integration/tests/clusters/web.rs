//! The REC's own API, its status page and its metrics, over the sockets that its Services lead to: the certificates that a
//! person chose, the login of the credentials Secret, and what changes while nothing starts again.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use meridian_integration::{
    stack::{Cluster, NAMESPACE},
    wait::{Look, until},
};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{
    support::{SOON, base64_of, cluster, condition, gone, object, pods, replicated, running},
    wire::{Authority, Forward, Identity, der, encrypted, get, shown},
};

const REC: &str = "web";
const DATABASE: &str = "web-db";

/// A listener of every node: role of its certificate, Service, port, name in the certificate.
struct Door {
    role: &'static str,
    field: &'static str,
    service: &'static str,
    port: u16,
}

const DOORS: [Door; 3] = [
    Door {
        role: "api",
        field: "apiCertificateSecretName",
        service: "web-api",
        port: 9443,
    },
    Door {
        role: "cm",
        field: "cmCertificateSecretName",
        service: "web-ui",
        port: 8443,
    },
    Door {
        role: "metrics",
        field: "metricsExporterCertificateSecretName",
        service: "web-prom",
        port: 8070,
    },
];

impl Door {
    /// The name by which a client calls it.
    fn name(&self) -> String {
        format!("{}.{NAMESPACE}.svc", self.service)
    }

    fn ask(
        &self,
        client: &Arc<ClientConfig>,
        way: &Forward,
        path: &str,
        login: Option<&str>,
    ) -> Result<(u16, String)> {
        let stream = encrypted(&way.address, &self.name(), client)?;
        get(stream, path, login)
    }
}

/// Makes the Secret of a certificate.
fn secret(cluster: &Cluster, name: &str, identity: &Identity) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"certificate": identity.certificate, "key": identity.key, "name": "web"},
    });
    cluster.apply(&object.to_string())
}

/// Lets a person choose the certificate of every listener, and gives them.
fn choose(cluster: &Cluster, authority: &Authority) -> Result<Vec<Identity>> {
    let mut fields = serde_json::Map::new();
    let mut chosen = Vec::new();
    for door in &DOORS {
        let identity = authority.signs(&[&door.name()])?;
        let name = format!("web-chosen-{}", door.role);
        secret(cluster, &name, &identity)?;
        fields.insert(door.field.to_owned(), json!(name));
        chosen.push(identity);
    }
    let patch = json!({"spec": {"certificates": fields}}).to_string();
    cluster.must(&["patch", "rec", REC, "--type=merge", "-p", &patch], "")?;
    Ok(chosen)
}

/// Every way to a listener: its Service, and each pod behind it.
fn ways(cluster: &Cluster, door: &Door) -> Result<Vec<Forward>> {
    let mut targets = vec![format!("service/{}", door.service)];
    targets.extend(
        pods(cluster, REC)?
            .into_keys()
            .map(|pod| format!("pod/{pod}")),
    );
    let to = |target: &String| Forward::to(cluster, target, door.port);
    targets.iter().map(to).collect()
}

/// Waits until the Service and every node show this certificate.
async fn shows(
    cluster: &Cluster,
    door: &Door,
    client: &Arc<ClientConfig>,
    wanted: &Identity,
) -> Result<()> {
    let wanted = der(&wanted.certificate)?;
    for way in ways(cluster, door)? {
        let what = format!("{} shows what was chosen at {}", door.role, way.address);
        until(&what, SOON, || async {
            let stream = encrypted(&way.address, &door.name(), client)?;
            Ok(if shown(&stream)? == wanted {
                Look::Holds(())
            } else {
                Look::NotYet("another certificate".to_owned())
            })
        })
        .await?;
    }
    Ok(())
}

/// The header of the administrator, with this password.
fn login(cluster: &Cluster, password: Option<&str>) -> Result<String> {
    let secret = cluster.get("secret", REC)?.context("no credentials")?;
    let text = |key: &str| -> Result<String> {
        let value = secret["data"][key].as_str().context("a value is missing")?;
        Ok(String::from_utf8(base64_of(value)?)?)
    };
    let password = match password {
        Some(password) => password.to_owned(),
        None => text("password")?,
    };
    let both = format!("{}:{password}", text("username")?);
    Ok(format!("Basic {}", STANDARD.encode(both)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_the_page_and_the_metrics_are_served_as_a_person_chose() {
    let cluster = cluster().await;
    running(cluster, REC, "").await.unwrap();
    replicated(cluster, REC, DATABASE, "").await.unwrap();
    let before = pods(cluster, REC).unwrap();
    let authority = Authority::new("web").unwrap();
    let client = authority.client(None).unwrap();
    for door in &DOORS {
        let way = Forward::to(cluster, &format!("service/{}", door.service), door.port).unwrap();
        let refused = door.ask(&client, &way, "/", None).unwrap_err();
        let told = format!("{refused:#}");
        assert!(told.contains("certificate"), "{}: {told}", door.role);
    }
    let chosen = choose(cluster, &authority).unwrap();
    for (door, identity) in DOORS.iter().zip(&chosen) {
        shows(cluster, door, &client, identity).await.unwrap();
    }
    let completed = |rec: &Value| {
        rec["status"]["certificatesStatus"]["updateStatus"] == "Completed"
            && condition(rec, "Ready").starts_with("True")
    };
    object(cluster, "rec", REC, "Completed", SOON, completed)
        .await
        .unwrap();

    strangers_see_nothing(cluster, &client).unwrap();
    the_api_answers(cluster, &client).await.unwrap();
    the_page_and_the_metrics_answer(cluster, &client).unwrap();
    the_login_changes(cluster, &client).await.unwrap();

    // A certificate that is changed in its Secret is shown as well.
    let renewed = authority.signs(&[&DOORS[0].name()]).unwrap();
    secret(cluster, "web-chosen-api", &renewed).unwrap();
    shows(cluster, &DOORS[0], &client, &renewed).await.unwrap();
    assert_eq!(pods(cluster, REC).unwrap(), before, "a pod was replaced");
    let restarts = [
        "get",
        "pods",
        "-l",
        "redis.io/cluster=web",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    ];
    let restarts = cluster.must(&restarts, "").unwrap();
    assert!(
        restarts.split_whitespace().all(|count| count == "0"),
        "{restarts}"
    );
    cluster
        .must(&["delete", "redb", DATABASE, "--timeout=60s"], "")
        .unwrap();
    gone(cluster, REC).await.unwrap();
}

/// Nobody, a wrong password, a wrong name and another scheme are told the same, whatever they ask for.
fn strangers_see_nothing(cluster: &Cluster, client: &Arc<ClientConfig>) -> Result<()> {
    let wrong = login(cluster, Some("wrong"))?;
    let nobody = format!("Basic {}", STANDARD.encode("nobody:wrong"));
    for door in &DOORS[..2] {
        let way = Forward::to(cluster, &format!("service/{}", door.service), door.port)?;
        let logins = [None, Some(wrong.as_str()), Some(&nobody), Some("Bearer x")];
        for login in logins {
            for path in ["/", "/v1/cluster", "/v1/bdbs", "/no-such-path"] {
                let (status, body) = door.ask(client, &way, path, login)?;
                ensure!(
                    status == 401 && !body.contains(DATABASE),
                    "{} {path} {login:?}: {status} {body}",
                    door.role
                );
            }
        }
    }
    Ok(())
}

async fn the_api_answers(cluster: &Cluster, client: &Arc<ClientConfig>) -> Result<()> {
    let door = &DOORS[0];
    let login = login(cluster, None)?;
    for way in ways(cluster, door)? {
        let ask = |path: &str| -> Result<(u16, Value)> {
            let (status, body) = door.ask(client, &way, path, Some(&login))?;
            let body = match body.as_str() {
                "" => Value::Null,
                body => serde_json::from_str(body).with_context(|| body.to_owned())?,
            };
            Ok((status, body))
        };
        // A node learns of the replica's role a moment after the agent has.
        let whole = async || -> Result<Look<(Value, Value)>> {
            let (shown, databases) = (ask("/v1/cluster")?, ask("/v1/bdbs")?);
            let all = &databases.1[0];
            let copies = all["shards"].as_array().cloned().unwrap_or_default();
            let well = copies
                .iter()
                .filter(|copy| copy["status"] == "active")
                .count();
            Ok(if well == 2 && all["available"] == true {
                Look::Holds((shown.1, databases.1))
            } else {
                Look::NotYet(format!("{shown:?} {databases:?}"))
            })
        };
        let (shown, databases) = until("the API shows the database", SOON, whole).await?;
        ensure!(
            shown["nodes_count"] == 3 && shown["bdbs_count"] == 1 && shown["as_of"].is_string(),
            "{shown}"
        );
        let database = &databases[0];
        ensure!(
            database["name"] == DATABASE
                && database["namespace"] == NAMESPACE
                && database["status"] == "active"
                && database["replication"] == true
                && database["shards"][0]["role"] == "master"
                && database["shards"][1]["role"] == "slave",
            "{database}"
        );
        let (status, nodes) = ask("/v1/nodes")?;
        let active = nodes.as_array().into_iter().flatten();
        let active = active.filter(|node| node["status"] == "active").count();
        ensure!(status == 200 && active == 3, "{nodes}");
        ensure!(ask("/v1/nodes/1")?.1["name"] == "web-0");
        ensure!(ask("/v1/crdbs")? == (200, json!([])));
        let one = format!("/v1/bdbs/{}", database["uid"]);
        ensure!(ask(&one)?.1["name"] == DATABASE);
        for query in [
            "",
            "?extend_check=lag",
            "?extend_check=lag&availability_lag_tolerance_ms=50",
        ] {
            let (status, body) = ask(&format!("{one}/availability{query}"))?;
            ensure!(status == 200, "{query}: {status} {body}");
        }
        let (status, body) = ask(&format!("{one}/availability?extend_check=everything"))?;
        ensure!(
            (status, &body["error_code"]) == (400, &json!("bad_query")),
            "{body}"
        );
        let (status, body) = ask("/v1/bdbs/4711/availability?extend_check=lag")?;
        ensure!(
            (status, &body["error_code"]) == (404, &json!("db_not_found")),
            "{body}"
        );
    }
    Ok(())
}

fn the_page_and_the_metrics_answer(cluster: &Cluster, client: &Arc<ClientConfig>) -> Result<()> {
    let login = login(cluster, None)?;
    for way in ways(cluster, &DOORS[1])? {
        let (status, page) = DOORS[1].ask(client, &way, "/", Some(&login))?;
        ensure!(
            status == 200 && page.contains(DATABASE) && page.contains("web-2"),
            "{status} {page}"
        );
    }
    for way in ways(cluster, &DOORS[2])? {
        let (status, text) = DOORS[2].ask(client, &way, "/metrics", None)?;
        ensure!(
            status == 200 && text.contains("node_metrics_up{"),
            "{status} {text}"
        );
    }
    Ok(())
}

/// The password is changed in its Secret: the old one is refused by every node, and the new one let in.
async fn the_login_changes(cluster: &Cluster, client: &Arc<ClientConfig>) -> Result<()> {
    let old = login(cluster, None)?;
    let patch = json!({"stringData": {"password": "an0ther-Passw0rd"}}).to_string();
    cluster.must(&["patch", "secret", REC, "--type=merge", "-p", &patch], "")?;
    let new = login(cluster, Some("an0ther-Passw0rd"))?;
    for (door, path) in DOORS[..2].iter().zip(["/v1/cluster", "/"]) {
        for way in ways(cluster, door)? {
            until("the new password is let in", SOON, || async {
                let (status, body) = door.ask(client, &way, path, Some(&new))?;
                Ok(if status == 200 {
                    Look::Holds(())
                } else {
                    Look::NotYet(format!("{status} {body}"))
                })
            })
            .await?;
            let (status, body) = door.ask(client, &way, path, Some(&old))?;
            ensure!(status == 401, "the old password: {status} {body}");
        }
    }
    Ok(())
}
