//! A database that is entered by every node: real Valkey behind entries on three nodes, of which one has no part in it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use meridian_api::crds::topology::EntryReport;

use crate::client::{Client, Writer};
use crate::cluster::{Cluster, PORT, first_topology};
use crate::failures::replace;
use crate::handover::hand_over;
use crate::node::{SOON, until};

/// Where every node takes clients.
const ENTRY: u16 = PORT + 20_000;

fn entrances(cluster: &Cluster) -> Vec<String> {
    let nodes = cluster.nodes.iter();
    nodes.map(|node| format!("{}:{ENTRY}", node.host)).collect()
}

/// Waits until every node says that it takes clients, or that it does not.
async fn told(cluster: &Cluster, takes: bool) {
    for node in &cluster.nodes {
        until(&format!("{} says {takes}", node.name), SOON, async || {
            let found: Option<EntryReport> = cluster.entry(&node.name)?;
            let expected = EntryReport {
                node: node.name.clone(),
                topology_uid: "u".to_owned(),
                port: i32::from(ENTRY),
            };
            if found == takes.then_some(expected) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    }
}

/// What a client hears at `entrance`; an error once it is sent away, and a failure of the test if it has to wait.
fn ping(entrance: &str) -> Result<String, String> {
    let mut client = TcpStream::connect(entrance).map_err(|e| e.to_string())?;
    client.set_read_timeout(Some(SOON)).unwrap();
    let sent = client.write_all(b"PING\r\n");
    let mut reply = [0; 7];
    match sent.and_then(|()| client.read_exact(&mut reply)) {
        Ok(()) => Ok(String::from_utf8_lossy(&reply).trim_end().to_owned()),
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "{entrance} hangs");
            Err(error.to_string())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_node_reach_the_primary_over_hand_over_and_failover() {
    let mut topology = first_topology();
    // `c` has no part in the database.
    topology.spec.shards[0].replicas = vec!["b".to_owned()];
    topology.spec.entry_port = Some(i32::from(ENTRY));
    let mut cluster = Cluster::serving(topology, &["b"]).await;
    told(&cluster, true).await;
    let entrances = entrances(&cluster);
    let writers: Vec<Writer> = entrances
        .iter()
        .map(|entrance| Writer::start(vec![entrance.clone()]))
        .collect();
    let advance = async || {
        for writer in &writers {
            writer.advances(50).await;
        }
    };
    advance().await;

    hand_over(&mut cluster, "b").await;
    advance().await;
    cluster.grow("a").await;
    replace(&mut cluster, "a").await;
    advance().await;

    let mut acknowledged = 0;
    let mut client = Client::connect(&entrances[2]).await;
    for writer in writers {
        let log = writer.finish().await;
        for key in &log.acknowledged {
            let kept = client.ask::<bool>(&["EXISTS", key]).await.unwrap();
            assert!(kept, "{key} is lost");
        }
        acknowledged += log.acknowledged.len();
        eprintln!(
            "{} acknowledged, {} failed, longest pause {:?}",
            log.acknowledged.len(),
            log.failures.len(),
            log.longest_pause
        );
    }
    assert!(acknowledged >= 450, "{acknowledged}");

    // While nobody is known to take writes, whoever is connected and whoever comes is sent away.
    cluster.grow("b").await;
    cluster.fence("b", true);
    until("who is connected is sent away", SOON, async || {
        let answer = client.ask::<String>(&["PING"]).await;
        answer.map_or(Ok(()), Err)
    })
    .await;
    for entrance in &entrances {
        until(
            &format!("{entrance} sends clients away"),
            SOON,
            async || ping(entrance).map_or(Ok(()), Err),
        )
        .await;
    }
    cluster.promote();
    for entrance in &entrances {
        until(&format!("{entrance} takes them again"), SOON, async || {
            ping(entrance).and_then(|reply| if reply == "+PONG" { Ok(()) } else { Err(reply) })
        })
        .await;
    }

    // The policy changes while the database serves.
    cluster.topology.spec.entry_port = None;
    cluster.publish();
    told(&cluster, false).await;
    for entrance in &entrances {
        assert!(TcpStream::connect(entrance).is_err(), "{entrance}");
    }
    cluster.topology.spec.entry_port = Some(i32::from(ENTRY));
    cluster.publish();
    told(&cluster, true).await;
    assert_eq!(ping(&entrances[2]).unwrap(), "+PONG");
}
