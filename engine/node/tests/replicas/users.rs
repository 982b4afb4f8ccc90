//! Who may log in, and what they may do then: real Valkey, changed while clients are connected.

use std::collections::BTreeSet;

use meridian_api::access::{Entry, NO_DEFAULT_USER, OPERATOR, Rules, User, Users};
use meridian_node::secret::sha256_hex;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::node::{SOON, until};

fn user(name: &str, passwords: &[&str], rules: &Rules) -> User {
    User {
        name: name.to_owned(),
        passwords: passwords.iter().map(|p| sha256_hex(p)).collect(),
        rules: rules.as_str().to_owned(),
    }
}

fn entry(login: &str, users: &[User]) -> Entry {
    Entry {
        login: login.to_owned(),
        users: Users(users.to_vec()).to_string(),
        certificates: String::new(),
    }
}

fn built_in(name: &str) -> Rules {
    Rules::built_in(name).unwrap()
}

const ADMINISTRATIVE: &[&[&str]] = &[
    &["CONFIG", "GET", "maxmemory"],
    &["ACL", "LIST"],
    &["REPLICAOF", "NO", "ONE"],
    &["SHUTDOWN", "NOSAVE"],
    &["DEBUG", "SLEEP", "0"],
    &["CRDT.FENCE", "STATUS"],
    &["CLIENT", "KILL", "USER", "default"],
    &["MODULE", "LIST"],
];

#[tokio::test(flavor = "multi_thread")]
async fn users_of_roles_may_do_what_their_lists_say_on_both_nodes_and_stay_connected_when_lists_change()
 {
    let mut cluster = Cluster::start(&["b"]).await;
    let host = cluster.node("a").host.clone();
    let own = Rules::parse("+set +get ~app:*").unwrap();
    let reader = user("reader", &["r"], &built_in("Read-Only"));
    let all = entry(
        &sha256_hex("d"),
        &[
            user("app", &["one", "two"], &own),
            reader.clone(),
            user("full", &["f"], &built_in("Full Access")),
            user("careful", &["c"], &built_in("Not Dangerous")),
        ],
    );
    cluster.let_in("a", &all).await;

    let mut full = Client::log_in(&host, "full", "f").await;
    full.ask::<String>(&["SET", "k", "v"]).await.unwrap();
    for administrative in ADMINISTRATIVE {
        let error = full.refused(administrative).await;
        assert!(
            error.contains("no permissions") || error.contains("reserved for the operator"),
            "{administrative:?}: {error}"
        );
    }
    let mut careful = Client::log_in(&host, "careful", "c").await;
    careful.ask::<String>(&["SET", "k", "w"]).await.unwrap();
    assert!(careful.refused(&["FLUSHALL"]).await.contains("flushall"));
    let mut reads = Client::log_in(&host, "reader", "r").await;
    assert_eq!(reads.ask::<String>(&["GET", "k"]).await.unwrap(), "w");
    assert!(reads.refused(&["SET", "k", "v"]).await.contains("set"));
    for password in ["one", "two"] {
        let mut app = Client::log_in(&host, "app", password).await;
        app.ask::<String>(&["SET", "app:1", "v"]).await.unwrap();
        assert!(app.refused(&["SET", "other", "v"]).await.contains("key"));
        assert!(app.refused(&["DEL", "app:1"]).await.contains("del"));
    }
    assert!(Client::refused_login(&host, "app:three@").await.is_some());
    // A replica serves the same users.
    let replica = cluster.node("b").host.clone();
    let mut there = Client::log_in(&replica, "reader", "r").await;
    until("the replica has the value", SOON, async || {
        match there.ask::<Option<String>>(&["GET", "k"]).await {
            Ok(Some(value)) if value == "w" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    // Another list, another password, and nobody was sent away; whoever is no user any more was.
    let changed = entry(
        &sha256_hex("d"),
        &[user(
            "reader",
            &["r2"],
            &Rules::parse("+@read +set ~*").unwrap(),
        )],
    );
    cluster.let_in("a", &changed).await;
    reads.ask::<String>(&["SET", "k", "x"]).await.unwrap();
    assert!(Client::refused_login(&host, "reader:r@").await.is_some());
    assert!(full.ask::<String>(&["PING"]).await.is_err());

    // A primary that is relieved closes the connections of every user.
    cluster.fence("b", true);
    until(
        "the user of a role is sent away",
        SOON,
        async || match reads.ask::<String>(&["GET", "k"]).await {
            Ok(_) => Err("it is connected".to_owned()),
            Err(_closed) => Ok(()),
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_user_comes_and_goes_and_its_password_changes_under_open_connections() {
    let cluster = Cluster::start(&[]).await;
    let host = cluster.node("a").host.clone();
    let mut open = Client::connect(&host).await;
    open.ask::<String>(&["SET", "k", "v"]).await.unwrap();

    cluster.let_in("a", &entry(&sha256_hex("one"), &[])).await;
    let mut first = Client::log_in(&host, "default", "one").await;
    assert!(
        Client::refused_login(&host, "")
            .await
            .unwrap()
            .contains("NOAUTH")
    );
    cluster.let_in("a", &entry(&sha256_hex("two"), &[])).await;
    for client in [&mut open, &mut first] {
        assert_eq!(client.ask::<String>(&["GET", "k"]).await.unwrap(), "v");
    }
    assert!(Client::refused_login(&host, "default:one@").await.is_some());
    Client::log_in(&host, "default", "two").await;

    let rules = built_in("Read-Only");
    cluster
        .let_in(
            "a",
            &entry(NO_DEFAULT_USER, &[user("reader", &["r"], &rules)]),
        )
        .await;
    for login in ["", "default:two@"] {
        assert!(
            Client::refused_login(&host, login).await.is_some(),
            "{login}"
        );
    }
    Client::log_in(&host, "reader", "r").await;

    cluster.let_in("a", &entry("", &[])).await;
    assert_eq!(Client::refused_login(&host, "").await, None, "no password");
}

/// Commands that only a newer series has (and some of CLUSTER, which no shard is part of). No rule may name them: a shard of an older
/// one would not start with it.
const NEWER: &[&str] = &[
    "clusterscan",
    "delifeq",
    "hexpire",
    "hexpireat",
    "hexpiretime",
    "hgetdel",
    "hgetex",
    "hpersist",
    "hpexpire",
    "hpexpireat",
    "hpexpiretime",
    "hpttl",
    "hsetex",
    "httl",
    "msetex",
];

/// What the rules may name is what every server that is bundled knows.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_commands_is_the_servers_own() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node("a");
    let list = async |words: &[&str]| -> BTreeSet<String> {
        let found = node.internal(words).await.unwrap();
        redis::from_redis_value(found).unwrap()
    };
    let own = list(&["COMMAND", "LIST", "FILTERBY", "MODULE", "crdt"]).await;
    let mut administrative = list(&["COMMAND", "LIST", "FILTERBY", "ACLCAT", "admin"]).await;
    administrative.extend(OPERATOR.iter().map(|name| (*name).to_owned()));
    for command in list(&["COMMAND", "LIST"]).await.difference(&own) {
        let newer = NEWER.iter().any(|newer| *newer == command);
        if newer || command.starts_with("cluster|") {
            continue;
        }
        let taken = Rules::parse(&format!("+{command}"));
        if administrative.contains(command) {
            let error = taken.unwrap_err().to_string();
            assert!(error.contains("administrative"), "{command}: {error}");
        } else if let Err(error) = taken {
            // A container whose subcommands are administrative.
            assert!(!command.contains('|'), "{command}: {error}");
            let inside = |other: &&String| other.starts_with(&format!("{command}|"));
            assert!(
                administrative.iter().any(|c| inside(&c)),
                "{command}: {error}"
            );
        }
    }
    for category in list(&["ACL", "CAT"]).await {
        let taken = Rules::parse(&format!("+@{category}"));
        assert_eq!(taken.is_err(), category == "admin", "{category}");
    }
}
