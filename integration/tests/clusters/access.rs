//! Who gets into a database on a real cluster, and by what: TLS and certificates of clients, passwords and users, all of them
//! changed under connections that stay open; and settings that somebody changes in a shard by hand.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use meridian_integration::{
    stack::{Cluster, DATABASE_UP, Region},
    wait::{Look, until},
};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{
    support::{
        SOON, base64_of, cluster, condition, database_with, gone, object, replicated, running,
    },
    wire::{Authority, Client, Identity, der, encrypted, shown},
};

/// The name in the certificate of databases' servers.
const NAME: &str = "databases.example.com";

fn secret(cluster: &Cluster, name: &str, labels: &Value, data: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "stringData": data,
    });
    cluster.apply(&object.to_string())
}

fn patch(cluster: &Cluster, kind: &str, name: &str, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    cluster.must(&["patch", kind, name, "--type=merge", "-p", &patch], "")?;
    Ok(())
}

fn password_of(cluster: &Cluster, database: &str) -> Result<String> {
    let secret = cluster.get("secret", &format!("redb-{database}"))?;
    let secret = secret.context("no Secret")?;
    let password = secret["data"]["password"].as_str().context("no password")?;
    Ok(String::from_utf8(base64_of(password)?)?)
}

/// What a client meets that connects by TLS, logs in and asks for an answer.
fn enters(address: &str, client: &Arc<ClientConfig>, password: &str) -> Result<Client> {
    let mut entered = Client::over(encrypted(address, NAME, client)?);
    entered.says(&format!("AUTH {password}"))?;
    ensure!(entered.says("PING")? == "PONG");
    Ok(entered)
}

/// Waits until this holds.
async fn comes(what: &str, mut look: impl FnMut() -> Result<()>) {
    until(what, SOON, || {
        let found = look();
        async move {
            Ok(match found {
                Ok(()) => Look::Holds(()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        }
    })
    .await
    .unwrap();
}

async fn active(cluster: &Cluster, name: &str) {
    let generation = cluster.get("redb", name).unwrap().unwrap()["metadata"]["generation"].clone();
    let active = |redb: &Value| {
        redb["status"]["status"] == "active" && redb["status"]["observedGeneration"] == generation
    };
    object(cluster, "redb", name, "active", DATABASE_UP, active)
        .await
        .unwrap();
}

/// Stores the certificate that servers of databases show.
fn servers(cluster: &Cluster, identity: &Identity) -> Result<()> {
    let data = json!({"certificate": identity.certificate, "key": identity.key, "name": "proxy"});
    secret(cluster, "entry-server", &json!({}), &data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_entered_by_tls_by_those_whose_certificate_it_knows() {
    let cluster = cluster().await;
    let authority = Authority::new("servers").unwrap();
    let first = authority.signs(&[NAME]).unwrap();
    servers(cluster, &first).unwrap();
    let chosen = "  certificates: {proxyCertificateSecretName: entry-server}\n";
    running(cluster, "entry", chosen).await.unwrap();
    let region = replicated(cluster, "entry", "entry-db", "").await.unwrap();
    let (address, password) = (region.address, password_of(cluster, "entry-db").unwrap());
    let client = authority.client(None).unwrap();

    let mut plain = Client::open(&address).unwrap();
    plain.says(&format!("AUTH {password}")).unwrap();
    plain.says("SET before tls").unwrap();
    patch(cluster, "redb", "entry-db", &json!({"tlsMode": "enabled"})).unwrap();
    comes("the database is entered by TLS", || {
        enters(&address, &client, &password).map(drop)
    })
    .await;
    active(cluster, "entry-db").await;
    let mut open = enters(&address, &client, &password).unwrap();
    assert_eq!(open.says("GET before").unwrap(), "tls");
    let refused = Client::open(&address).and_then(|mut plain| plain.says("PING"));
    assert!(refused.is_err(), "it is entered without TLS: {refused:?}");
    let stranger = Authority::new("another").unwrap().client(None).unwrap();
    assert!(
        encrypted(&address, NAME, &stranger).is_err(),
        "a client that does not know the authority believes the server"
    );

    let second = authority.signs(&[NAME]).unwrap();
    servers(cluster, &second).unwrap();
    let wanted = der(&second.certificate).unwrap();
    comes("the new certificate is shown", || {
        let stream = encrypted(&address, NAME, &client)?;
        ensure!(shown(&stream)? == wanted, "the one before");
        Ok(())
    })
    .await;
    assert_eq!(open.says("PING").unwrap(), "PONG", "the open connection");

    only_known_clients(cluster, &address, &password, &authority).await;
    cluster
        .must(&["delete", "redb", "entry-db", "--timeout=60s"], "")
        .unwrap();
    gone(cluster, "entry").await.unwrap();
}

/// Of clients only those enter whose certificate an authority signed that the database names.
async fn only_known_clients(cluster: &Cluster, address: &str, password: &str, servers: &Authority) {
    let (shop, strangers) = (
        Authority::new("shop").unwrap(),
        Authority::new("strangers").unwrap(),
    );
    let cert = json!({"cert": shop.certificate});
    secret(cluster, "entry-clients", &json!({}), &cert).unwrap();
    let spec = json!({"clientAuthenticationCertificates": ["entry-clients"]});
    patch(cluster, "redb", "entry-db", &spec).unwrap();
    let known = servers
        .client(Some(&shop.signs(&["till"]).unwrap()))
        .unwrap();
    let nobody = servers.client(None).unwrap();
    let wrong = strangers.signs(&["till"]).unwrap();
    let wrong = servers.client(Some(&wrong)).unwrap();
    comes("a client without a certificate is refused", || {
        let entered = enters(address, &nobody, password);
        ensure!(entered.is_err(), "it enters");
        Ok(())
    })
    .await;
    comes("a client that is known enters", || {
        enters(address, &known, password).map(drop)
    })
    .await;
    active(cluster, "entry-db").await;
    for (what, client) in [
        ("without a certificate", &nobody),
        ("of a stranger", &wrong),
    ] {
        let entered = enters(address, client, password);
        assert!(entered.is_err(), "a client {what} entered");
    }
    let mut open = enters(address, &known, password).unwrap();
    // The authority of others is added beside it.
    let both = format!("{}{}", shop.certificate, strangers.certificate);
    secret(cluster, "entry-clients", &json!({}), &json!({"cert": both})).unwrap();
    comes("those of the second authority enter", || {
        enters(address, &wrong, password).map(drop)
    })
    .await;
    assert_eq!(open.says("PING").unwrap(), "PONG", "the open connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_passwords_change_under_open_connections() {
    let cluster = cluster().await;
    running(cluster, "login", "").await.unwrap();
    let region = replicated(cluster, "login", "login-db", "").await.unwrap();
    the_password_is_rotated(cluster, &region).await;
    roles_may_what_their_lists_say(cluster, &region.address).await;
    nobody_is_the_default_user(cluster, &region.address).await;
    no_password_is_asked_for(cluster).await;
    for name in ["login-db", "login-open"] {
        cluster
            .must(&["delete", "redb", name, "--timeout=60s"], "")
            .unwrap();
    }
    gone(cluster, "login").await.unwrap();
}

/// The password is changed in its Secret: the new one is let in, the old one is not, and who is in stays in.
async fn the_password_is_rotated(cluster: &Cluster, region: &Region) {
    let old = password_of(cluster, "login-db").unwrap();
    let mut open = Client::open(&region.address).unwrap();
    open.says(&format!("AUTH {old}")).unwrap();
    open.says("SET shop:1 apple").unwrap();
    let patch = json!({"stringData": {"password": "an0ther"}}).to_string();
    let words = [
        "patch",
        "secret",
        "redb-login-db",
        "--type=merge",
        "-p",
        &patch,
    ];
    cluster.must(&words, "").unwrap();
    let enters = |password: &str| {
        let mut fresh = Client::open(&region.address)?;
        fresh.says(&format!("AUTH {password}"))
    };
    comes("the new password is let in", || enters("an0ther").map(drop)).await;
    let refused = enters(&old).unwrap_err().to_string();
    assert!(refused.contains("WRONGPASS"), "{refused}");
    assert_eq!(open.says("GET shop:1").unwrap(), "apple");
}

async fn roles_may_what_their_lists_say(cluster: &Cluster, address: &str) {
    for (name, role) in [("login-shop", "shop"), ("login-report", "report")] {
        let labels = json!({"meridian.dev/role": role});
        let data = json!({"username": role, "password": format!("{role}-password")});
        secret(cluster, name, &labels, &data).unwrap();
    }
    let list = "+@read +@write +@connection -@dangerous ~shop:* &shop:*";
    let lists = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "login-acls"}, "data": {"shop-only": list},
    });
    cluster.apply(&lists.to_string()).unwrap();
    let entry =
        |role: &str, acl: &str| json!({"type": "redis-enterprise", "role": role, "acl": acl});
    let roles = json!([entry("shop", "shop-only"), entry("report", "Read-Only")]);
    let spec = json!({ "rolesPermissions": roles });
    patch(cluster, "redb", "login-db", &spec).unwrap();
    let user = |name: &str| {
        let mut user = Client::open(address)?;
        user.says(&format!("AUTH {name} {name}-password"))?;
        Ok::<_, anyhow::Error>(user)
    };
    comes("both users are let in", || {
        user("shop").and_then(|_| user("report")).map(drop)
    })
    .await;
    let granted = |redb: &Value| condition(redb, "RolesPermissions").starts_with("True");
    object(cluster, "redb", "login-db", "roles", SOON, granted)
        .await
        .unwrap();
    let (mut shop, mut report) = (user("shop").unwrap(), user("report").unwrap());
    let refused = |client: &mut Client, command: &str| {
        let told = client.says(command).map_err(|error| error.to_string());
        assert!(
            told.as_ref().is_err_and(|told| told.contains("NOPERM")),
            "{command}: {told:?}"
        );
    };
    assert_eq!(shop.says("SET shop:2 pear").unwrap(), "OK");
    refused(&mut shop, "SET other:1 x");
    refused(&mut shop, "FLUSHALL");
    assert_eq!(report.says("GET shop:2").unwrap(), "pear");
    refused(&mut report, "SET shop:2 plum");
    for client in [&mut shop, &mut report] {
        for command in ["CONFIG GET maxmemory", "ACL LIST", "REPLICAOF NO ONE"] {
            let told = client.says(command).map_err(|error| error.to_string());
            let kept = |told: &String| told.contains("NOPERM") || told.contains("is reserved for");
            assert!(told.as_ref().is_err_and(kept), "{command}: {told:?}");
        }
    }

    // A role that is taken away is gone; the other one's connection stays.
    let spec = json!({"rolesPermissions": [entry("shop", "shop-only")]});
    patch(cluster, "redb", "login-db", &spec).unwrap();
    comes("the user of the other role is refused", || {
        let told = user("report").map(drop).map_err(|error| error.to_string());
        ensure!(
            told.as_ref().is_err_and(|told| told.contains("WRONGPASS")),
            "{told:?}"
        );
        Ok(())
    })
    .await;
    assert_eq!(shop.says("GET shop:2").unwrap(), "pear");
}

/// Without a default user the password alone lets nobody in; users of roles stay.
async fn nobody_is_the_default_user(cluster: &Cluster, address: &str) {
    let switch = |on: bool| patch(cluster, "redb", "login-db", &json!({ "defaultUser": on }));
    switch(false).unwrap();
    let default = || Client::open(address)?.says("AUTH an0ther");
    comes("the default user is refused", || {
        let told = default().map_err(|error| error.to_string());
        ensure!(
            told.as_ref().is_err_and(|told| told.contains("WRONGPASS")),
            "{told:?}"
        );
        Ok(())
    })
    .await;
    active(cluster, "login-db").await;
    let told = Client::open(address).unwrap().says("GET shop:2");
    assert!(told.is_err_and(|told| told.to_string().contains("NOAUTH")));
    let mut shop = Client::open(address).unwrap();
    shop.says("AUTH shop shop-password").unwrap();
    assert_eq!(shop.says("GET shop:2").unwrap(), "pear");
    switch(true).unwrap();
    let password = || password_of(cluster, "login-db");
    comes("the default user is let in again", || {
        let mut client = Client::open(address)?;
        client.says(&format!("AUTH {}", password()?)).map(drop)
    })
    .await;
}

/// A Secret with an empty password turns authentication off.
async fn no_password_is_asked_for(cluster: &Cluster) {
    secret(cluster, "login-empty", &json!({}), &json!({"password": ""})).unwrap();
    let spec = json!({
        "apiVersion": "app.redislabs.com/v1alpha1", "kind": "RedisEnterpriseDatabase", "metadata": {"name": "login-open"},
        "spec": {"redisEnterpriseCluster": {"name": "login"}, "memorySize": "100MB", "databaseSecretName": "login-empty"},
    });
    cluster.apply(&spec.to_string()).unwrap();
    active(cluster, "login-open").await;
    let region = cluster.region("login-open", "", DATABASE_UP).await.unwrap();
    let mut client = Client::open(&region.address).unwrap();
    comes("nobody is asked for a password", || {
        client = Client::open(&region.address)?;
        client.says("SET open yes").map(drop)
    })
    .await;
    secret(
        cluster,
        "login-empty",
        &json!({}),
        &json!({"password": "n0w"}),
    )
    .unwrap();
    comes("a password is asked for", || {
        let told = Client::open(&region.address)?.says("GET open");
        ensure!(
            told.is_err_and(|told| told.to_string().contains("NOAUTH")),
            "nobody is asked"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_setting_is_put_back_and_another_is_left_alone() {
    let cluster = cluster().await;
    running(cluster, "drift", "").await.unwrap();
    database_with(
        cluster,
        "drift",
        "drift-db",
        "  evictionPolicy: volatile-lru\n",
    )
    .await
    .unwrap();
    let topology = cluster.get("dbtopo", "drift-db").unwrap().unwrap();
    let pod = topology["spec"]["shards"][0]["primary"].as_str().unwrap();
    let shard = |command: &str| {
        let script = format!(
            "valkey-cli -s /run/meridian/drift-db-0.sock --user meridian-internal --no-auth-warning \
             --pass \"$(cat /run/meridian/internal-secret)\" {command}"
        );
        let words = [
            "exec",
            pod,
            "-c",
            "redis-enterprise-node",
            "--",
            "sh",
            "-c",
            &script,
        ];
        cluster.must(&words, "")
    };
    let value = |name: &str| -> Result<String> {
        let text = shard(&format!("CONFIG GET {name}"))?;
        Ok(text.lines().nth(1).unwrap_or_default().to_owned())
    };
    let before = value("maxmemory").unwrap();
    for (name, changed) in [
        ("maxmemory-policy", "allkeys-random"),
        ("maxmemory", "12345678"),
        ("appendfsync", "no"),
    ] {
        assert_eq!(
            shard(&format!("CONFIG SET {name} {changed}"))
                .unwrap()
                .trim(),
            "OK"
        );
    }
    shard("CONFIG SET slowlog-max-len 7").unwrap();
    for (name, wanted) in [
        ("maxmemory-policy", "volatile-lru"),
        ("maxmemory", &before),
        ("appendfsync", "always"),
    ] {
        comes(&format!("{name} is put back"), || {
            let found = value(name)?;
            ensure!(found == wanted, "{found}");
            Ok(())
        })
        .await;
    }
    assert_eq!(value("slowlog-max-len").unwrap(), "7");
    cluster
        .must(&["delete", "redb", "drift-db", "--timeout=60s"], "")
        .unwrap();
    gone(cluster, "drift").await.unwrap();
}
