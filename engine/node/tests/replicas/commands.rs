//! What the default user of a database may run: every command that the server lists, tried on a real shard of each kind and
//! compared with a committed list. A command that is on no list is refused, and says so.
//!
//! `MERIDIAN_WRITE=1` writes the lists; whoever does that answers for each line of the difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use meridian_api::access::OPERATOR;
use meridian_api::crds::topology::{ActiveActiveMembership, TopologyMember};
use meridian_node::kept;
use meridian_node::sync::topology::Topology;

use crate::cluster::{Cluster, PORT, first_topology};

/// A command that gives no answer within this waits for something: it was taken.
const TAKEN: Duration = Duration::from_millis(500);

/// Whether the answer says that the command is for somebody else, or for no database of this kind.
fn is_closed(answer: &str) -> bool {
    [
        "no permissions",
        "reserved for the operator",
        "is not supported in an Active-Active database",
        // Closed by a setting of every shard.
        "not allowed. If the enable-",
    ]
    .iter()
    .any(|words| answer.contains(words))
}

/// The answer to `command`, or nothing if it waits. Its arguments mean nothing: nothing is harmed by what is open.
async fn answer(host: &str, command: &str, arity: i64) -> String {
    let client = redis::Client::open(format!("redis://{host}:{PORT}")).unwrap();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(crate::node::SOON))
        .set_response_timeout(Some(TAKEN));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap();
    let mut words: Vec<&str> = command.split('|').collect();
    let wanted = usize::try_from(arity.unsigned_abs()).unwrap();
    words.resize(words.len().max(wanted), "x");
    let mut asked = redis::cmd(words[0]);
    asked.arg(&words[1..]);
    match asked.query_async::<redis::Value>(&mut connection).await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// Every command that the server lists, with its arity.
async fn commands(cluster: &Cluster) -> Vec<(String, i64)> {
    let node = cluster.node("a");
    let list = node.internal(&["COMMAND", "LIST"]).await.unwrap();
    let all: BTreeSet<String> = redis::from_redis_value(list).unwrap();
    let mut found = Vec::new();
    for name in all {
        let info = node.internal(&["COMMAND", "INFO", &name]).await.unwrap();
        let info: Vec<Vec<redis::Value>> = redis::from_redis_value(info).unwrap();
        let arity: i64 = redis::from_redis_value(info[0][1].clone()).unwrap();
        found.push((name, arity));
    }
    found
}

async fn check(name: &str, topology: Topology) {
    let cluster = Cluster::serving(topology, &[]).await;
    let host = cluster.node("a").host.clone();
    let before = cluster.node("a").pid("db-0").unwrap();
    let (mut open, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let all = commands(&cluster).await;
    let known: BTreeSet<String> = all.iter().map(|(name, _)| name.clone()).collect();
    for (command, arity) in all {
        let whole = command.split('|').next().unwrap();
        assert!(
            kept::is_command(whole),
            "{whole} would be taken for damage: add it to src/kept/commands.txt"
        );
        let answer = answer(&host, &command, arity).await;
        let list = if is_closed(&answer) {
            &mut closed
        } else {
            &mut open
        };
        list.insert(command);
    }
    assert_eq!(
        cluster.node("a").pid("db-0"),
        Ok(before),
        "the shard still runs"
    );
    for operator in OPERATOR {
        assert!(closed.contains(*operator), "{operator} is open");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/replicas/commands")
        .join(name);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let mut committed: BTreeSet<String> = committed.lines().map(str::to_owned).collect();
    if std::env::var_os("MERIDIAN_WRITE").is_some() {
        // What only another series has stays: the list is of all that are bundled.
        committed.retain(|command| !known.contains(command));
        committed.extend(open.iter().cloned());
        let text = committed.iter().fold(String::new(), |mut text, command| {
            writeln!(text, "{command}").unwrap();
            text
        });
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    committed.retain(|command| known.contains(command));
    let added: Vec<_> = open.difference(&committed).collect();
    let missing: Vec<_> = committed.difference(&open).collect();
    assert!(
        added.is_empty() && missing.is_empty(),
        "{}: open and not listed {added:?}, listed and not open {missing:?}",
        path.display()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_shard_without_copies_may_run_exactly_these_commands() {
    let mut topology = first_topology();
    topology.spec.replication = false;
    topology.spec.shards[0].replicas.clear();
    check("plain.txt", topology).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_shard_with_copies_may_run_exactly_these_commands() {
    check("replicated.txt", first_topology()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_an_active_active_shard_may_run_exactly_these_commands() {
    let mut topology = first_topology();
    topology.spec.active_active = Some(alone());
    check("active-active.txt", topology).await;
}

/// One member: this cluster.
fn alone() -> ActiveActiveMembership {
    let own = TopologyMember {
        instance_id: 1,
        name: "own".to_owned(),
        local: true,
        ..TopologyMember::default()
    };
    ActiveActiveMembership {
        guid: "00000000-0000-4000-8000-000000000001".to_owned(),
        instance_id: 1,
        config_version: 1,
        members: vec![own],
        ghosts: Vec::new(),
    }
}
