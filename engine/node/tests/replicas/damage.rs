//! Files that cannot be read, and disks that were full: nobody throws the only copy away, and nobody starts in vain for ever.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use meridian_api::crds::shared::Persistence;
use meridian_api::crds::topology::{FollowingState, ShardReport};
use meridian_node::kept;
use rustix::process::Signal;

use crate::client::Client;
use crate::cluster::{Cluster, first_topology};
use crate::failures::replace;
use crate::node::{Node, SOON, until};

/// A database that keeps every write.
async fn keeping(in_sync: &[&str], volume: Option<u32>) -> Cluster {
    let mut topology = first_topology();
    topology.spec.persistence = Persistence::AofEverySecond;
    if in_sync.is_empty() {
        topology.spec.replication = false;
        topology.spec.shards[0].replicas.clear();
    }
    Cluster::with_volumes(topology, in_sync, volume).await
}

async fn write(client: &mut Client, keys: std::ops::Range<u32>) {
    for number in keys {
        let key = format!("key-{number}");
        client.ask::<String>(&["SET", &key, "v"]).await.unwrap();
    }
}

/// The append-only file that is being written, once it has at least so many bytes.
async fn newest(node: &Node, bytes: u64) -> PathBuf {
    let directory = node.shard_dir().join("appendonlydir");
    until("the append-only file grows", SOON, async || {
        let entries = fs::read_dir(&directory).map_err(|e| e.to_string())?;
        let all = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let file = all
            .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
            .max()
            .ok_or("there is none")?;
        let found = fs::metadata(&file).map_err(|e| e.to_string())?.len();
        if found >= bytes {
            Ok(file)
        } else {
            Err(format!("{} has {found} bytes", file.display()))
        }
    })
    .await
}

/// Writes zeros into the middle of the file, as a lost machine leaves them, and ends the shard.
async fn damage(node: &Node) -> PathBuf {
    let file = newest(node, 2_000).await;
    let open = File::options().write(true).open(&file).unwrap();
    open.write_all_at(&[0; 48], 1_000).unwrap();
    node.signal("db-0", Signal::KILL);
    file
}

/// How often its shard has ended by itself.
fn tries(node: &Node) -> usize {
    let log = fs::read_to_string(node.log()).unwrap();
    log.matches("ended by itself unit=db-0").count()
}

async fn stays_away(node: &Node) -> ShardReport {
    node.reports(1, "that its files cannot be read", |shard| {
        let says = |text: &String| text.contains("cannot be read");
        !shard.ready && shard.problem.as_ref().is_some_and(says)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_files_cannot_be_read_stays_away_until_nobody_counts_on_it_and_copies_anew()
{
    let mut cluster = keeping(&["b"], None).await;
    write(&mut cluster.client("a").await, 0..100).await;
    cluster.holds("b", 100).await;
    let node = cluster.node("b");
    let file = damage(node).await;
    let name = file.file_name().unwrap();
    let kept = node.shard_dir().join("set-aside/appendonlydir").join(name);
    let report = stays_away(node).await;
    let problem = report.problem.unwrap();
    assert!(problem.contains("in-sync set"), "{problem}");
    assert_eq!(report.following, None, "the agent sees that it is gone");
    let tried = tries(node);
    until("it was tried again and again", SOON, async || {
        (tries(node) >= tried + 3)
            .then_some(())
            .ok_or("not yet".to_owned())
    })
    .await;
    stays_away(node).await;
    assert!(file.exists() && !kept.exists(), "it may have to lead");
    // As the agent does with one that has not followed for a while.
    cluster.shard().in_sync.clear();
    cluster.publish();
    let node = cluster.node("b");
    until("the files are set aside", SOON, async || {
        kept.exists().then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    node.reports(1, "that it follows", |shard| {
        shard.ready
            && shard.following == Some(FollowingState::Up)
            && shard.offset.is_some()
            && shard.problem.is_none()
    })
    .await;
    cluster.holds("b", 100).await;
    assert!(
        cluster
            .node("b")
            .logged("and it copies everything anew from its primary")
    );
    assert!(
        fs::read(&kept).unwrap()[1_000..1_048]
            .iter()
            .all(|byte| *byte == 0)
    );
    let unfinished = cluster.node("b").shard_dir().join("unfinished");
    until("it is noted that the copy is whole", SOON, async || {
        (!unfinished.exists())
            .then_some(())
            .ok_or("not yet".to_owned())
    })
    .await;
    cluster.grow("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_between_append_only_files_is_neither_made_nor_loaded() {
    let cluster = keeping(&[], None).await;
    let node = cluster.node("a");
    write(&mut cluster.client("a").await, 0..100).await;
    let first = newest(node, 2_000).await;
    // As a machine leaves it that was lost while the file was made anew: what was written last is there, and what was before is not.
    let manifest = node
        .shard_dir()
        .join("appendonlydir/appendonly.aof.manifest");
    let second = first.with_file_name("second.incr.aof");
    fs::write(&second, "*3\r\n$3\r\nSET\r\n$5\r\nlater\r\n$1\r\nv\r\n").unwrap();
    let listed = fs::read_to_string(&manifest).unwrap() + "file second.incr.aof seq 99 type i\n";
    fs::write(&manifest, listed).unwrap();
    let whole = fs::metadata(&first).unwrap().len();
    let mut open = File::options().append(true).open(&first).unwrap();
    open.write_all(b"*3\r\n$3\r\nSET\r\n$4\r\nlo").unwrap();
    node.signal("db-0", Signal::KILL);
    let tried = tries(node);
    let problem = stays_away(node).await.problem.unwrap();
    let named = format!("{} is whole up to byte {whole}", first.display());
    assert!(problem.contains(&named), "{problem}");
    until("it was tried again and again", SOON, async || {
        (tries(node) >= tried + 3)
            .then_some(())
            .ok_or("not yet".to_owned())
    })
    .await;
    stays_away(node).await;
    let now = fs::metadata(&first).unwrap().len();
    assert!(now > whole, "a person has to decide what is cut off");
    open.set_len(whole).unwrap();
    node.reports(1, "that it serves", |shard| {
        shard.ready && shard.problem.is_none()
    })
    .await;
    cluster.holds("a", 101).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_knows_is_named_and_valkey_has_the_last_word() {
    let cluster = keeping(&[], None).await;
    let node = cluster.node("a");
    write(&mut cluster.client("a").await, 0..100).await;
    let file = newest(node, 2_000).await;
    let whole = fs::metadata(&file).unwrap().len();
    let mut open = File::options().append(true).open(&file).unwrap();
    open.write_all(b"*1\r\n$4\r\nPXNG\r\n").unwrap();
    node.signal("db-0", Signal::KILL);
    let problem = stays_away(node).await.problem.unwrap();
    assert!(problem.contains("`PXNG` begins"), "{problem}");
    let refusals = || {
        let log = fs::read_to_string(node.shard_dir().join("valkey.log")).unwrap();
        log.matches("unknown command 'PXNG'").count()
    };
    let before = refusals();
    until("Valkey was asked again", SOON, async || {
        (refusals() > before)
            .then_some(())
            .ok_or("not yet".to_owned())
    })
    .await;
    open.set_len(whole).unwrap();
    cluster.holds("a", 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_append_only_files_hold_is_there_until_the_first_snapshot() {
    let mut cluster = keeping(&[], None).await;
    write(&mut cluster.client("a").await, 0..100).await;
    newest(cluster.node("a"), 2_000).await;
    cluster.topology.spec.persistence = Persistence::SnapshotEvery1Hour;
    cluster.publish();
    let node = cluster.node("a");
    let off = async || {
        let found = node.internal(&["CONFIG", "GET", "appendonly"]).await;
        let found: Vec<String> = redis::from_redis_value(found.map_err(|e| e.to_string())?)
            .map_err(|e| e.to_string())?;
        if found[1] == "no" {
            Ok(())
        } else {
            Err(found[1].clone())
        }
    };
    until("they are switched off", SOON, off).await;
    assert!(!node.shard_dir().join("dump.rdb").exists());
    let before = node.pid("db-0").unwrap();
    node.signal("db-0", Signal::KILL);
    until("another process runs", SOON, async || {
        match node.pid("db-0")? {
            now if now != before => Ok(()),
            _ => Err("it is the same".to_owned()),
        }
    })
    .await;
    cluster.holds("a", 100).await;
    until("they are switched off again", SOON, off).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_only_files_of_an_earlier_time_neither_stop_a_snapshot_nor_hide_that_it_is_damaged()
{
    let mut topology = first_topology();
    topology.spec.persistence = Persistence::SnapshotEvery1Hour;
    topology.spec.replication = false;
    topology.spec.shards[0].replicas.clear();
    let cluster = Cluster::serving(topology, &[]).await;
    let node = cluster.node("a");
    let directory = node.shard_dir().join("appendonlydir");
    let manifest = directory.join("appendonly.aof.manifest");
    fs::create_dir(&directory).unwrap();
    fs::write(&manifest, [0; 64]).unwrap();
    let snapshot = node.shard_dir().join("dump.rdb");
    fs::write(&snapshot, b"REDIS0011\xff\0\0\0\0\0\0\0\0").unwrap();
    node.signal("db-0", Signal::KILL);
    until("the manifest is out of the way", SOON, async || {
        let aside = node.shard_dir().join("appendonlydir.unreadable");
        aside.exists().then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    write(&mut cluster.client("a").await, 0..1).await;
    fs::create_dir(&directory).unwrap();
    fs::write(&manifest, "file a.incr.aof seq 1 type i\n").unwrap();
    fs::write(directory.join("a.incr.aof"), "").unwrap();
    fs::write(&snapshot, "REDIS0011 and no more").unwrap();
    node.signal("db-0", Signal::KILL);
    let problem = stays_away(node).await.problem.unwrap();
    assert!(
        problem.contains("dump.rdb is whole up to byte 0"),
        "{problem}"
    );
    assert!(
        snapshot.exists() && manifest.exists(),
        "nothing is thrown away"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_files_cannot_be_read_asks_for_another_and_then_copies_it() {
    let mut cluster = keeping(&["b"], None).await;
    write(&mut cluster.client("a").await, 0..100).await;
    cluster.holds("b", 100).await;
    damage(cluster.node("a")).await;
    let node = cluster.node("a");
    node.reports(1, "that another must lead", |shard| {
        let wish = shard.wants_failover.as_ref();
        !shard.ready && wish.is_some_and(|why| why.contains(".incr.aof is whole up to byte"))
    })
    .await;
    assert!(!cluster.node("a").shard_dir().join("set-aside").exists());
    replace(&mut cluster, "b").await;
    cluster
        .node("a")
        .reports(2, "that it follows", |shard| {
            shard.following == Some(FollowingState::Up)
        })
        .await;
    cluster.holds("a", 100).await;
    assert!(cluster.node("a").shard_dir().join("set-aside").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_without_a_copy_keeps_its_files_and_says_what_can_be_done() {
    let cluster = keeping(&[], None).await;
    let node = cluster.node("a");
    write(&mut cluster.client("a").await, 0..100).await;
    let file = damage(node).await;
    let report = stays_away(node).await;
    let problem = report.problem.unwrap();
    for words in [
        "valkey-check-aof --fix",
        "loses the writes in the last",
        "nothing was thrown away",
    ] {
        assert!(problem.contains(words), "{words}: {problem}");
    }
    let before = fs::read(&file).unwrap();
    let tried = tries(node);
    until("it was tried again and again", SOON, async || {
        (tries(node) >= tried + 3)
            .then_some(())
            .ok_or("not yet".to_owned())
    })
    .await;
    stays_away(node).await;
    assert_eq!(fs::read(&file).unwrap(), before, "nothing was changed");
    // What the tool that the report names does.
    let refused = kept::refused(&node.shard_dir().join("refused.json")).unwrap();
    let open = File::options().write(true).open(&file).unwrap();
    open.set_len(refused.damage.whole_up_to).unwrap();
    node.reports(1, "that it serves", |shard| {
        shard.ready && shard.problem.is_none()
    })
    .await;
    let keys: u64 = cluster.client("a").await.ask(&["DBSIZE"]).await.unwrap();
    assert!((10..100).contains(&keys), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_file_that_met_a_full_disk_is_made_anew_once_there_is_room() {
    let cluster = keeping(&[], Some(8)).await;
    let node = cluster.node("a");
    let mut client = cluster.client("a").await;
    write(&mut client, 0..10).await;
    let first = newest(node, 200).await;
    let filler = node.shard_dir().join("filler");
    let mut fills = File::create(&filler).unwrap();
    // Until it is full.
    while fills.write_all(&[0; 4_096]).is_ok() {}
    let value = "x".repeat(10_000);
    until("writes are refused", SOON, async || {
        let answer = client.ask::<String>(&["SET", "big", &value]).await;
        answer.err().map(|_| ()).ok_or("it was written".to_owned())
    })
    .await;
    let refusal = client.refused(&["SET", "big", &value]).await;
    assert!(refusal.contains("MISCONF"), "{refusal}");
    until("the node has seen it", SOON, async || {
        let seen = node.logged("MISCONF").then_some(());
        seen.ok_or("not yet".to_owned())
    })
    .await;
    drop(fills);
    fs::remove_file(&filler).unwrap();
    until("the file is made anew", SOON, async || {
        let answer = client.ask::<String>(&["SET", "small", "v"]).await;
        // Nothing has to stand in it: whoever waited here for a byte would write none.
        let now = newest(node, 0).await;
        if answer.is_ok() && now != first && !first.exists() {
            Ok(())
        } else {
            Err(format!("{answer:?}, {}", now.display()))
        }
    })
    .await;
    assert!(node.logged("is made anew"));
}
