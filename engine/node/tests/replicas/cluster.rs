//! Three nodes and the topology of one database. The test is its agent.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use meridian_api::access::Entry;
use meridian_api::crds::shared::Persistence;
use meridian_api::crds::topology::{
    DatabaseReference, DatabaseTopologySpec, EntryReport, Fence, ShardAssignment, ShardReport,
};
use meridian_api::internal;
use meridian_node::atomic_file;
use meridian_node::secret::sha256_hex;
use meridian_node::sync::directory::DirectoryFile;
use meridian_node::sync::topology::Topology;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use crate::client::Client;
use crate::node::{Node, SOON, until};

/// The database's port on every node.
pub(crate) const PORT: u16 = 12_000;

const CLUSTER: &str = "shared";

pub(crate) struct Cluster {
    /// Dropped first: their logs are read then.
    pub(crate) nodes: Vec<Node>,
    pub(crate) topology: Topology,
    /// By what its nodes trust each other at first.
    pub(crate) trust: Trust,
    dir: tempfile::TempDir,
}

/// Addresses of this machine that no other cluster of this or a parallel test run has.
fn hosts(count: u32) -> Vec<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id();
    let cluster = NEXT.fetch_add(1, Ordering::Relaxed) % 60;
    let (second, third) = (process / 4 % 250 + 2, process % 4 * 60 + cluster);
    (1..=count)
        .map(|node| format!("127.{second}.{third}.{node}"))
        .collect()
}

/// One authority with the one certificate that it signed.
#[derive(Clone)]
pub(crate) struct Trust {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Trust {
    /// As the agent makes them: no two have one name, or Valkey would take the one for the other.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, format!("nodes of {CLUSTER}, {number}"));
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let name = format!("nodes.{CLUSTER}.{CLUSTER}.meridian.internal");
        let mut leaf = CertificateParams::new(vec![name]).unwrap();
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: leaf.signed_by(&key, &issuer).unwrap().pem(),
            authority,
            key: key.serialize_pem(),
        }
    }

    /// What the Secret of a cluster has that trusts `self` and `also`.
    pub(crate) fn entries(&self, also: &str, password: &str) -> BTreeMap<String, Vec<u8>> {
        let authorities = format!("{}{also}", self.authority);
        let pairs = [
            (internal::CA, authorities.as_str()),
            (internal::CERTIFICATE, &self.certificate),
            (internal::KEY, &self.key),
            (internal::PASSWORD, password),
        ];
        let own = |(key, text): (&str, &str)| (key.to_owned(), text.as_bytes().to_vec());
        pairs.map(own).into()
    }
}

/// The password of replicas at first.
pub(crate) const PASSWORD: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

/// A database with replication.
pub(crate) fn first_topology() -> Topology {
    let shard = ShardAssignment {
        id: 0,
        slots: "0-16383".to_owned(),
        primary: Some("a".to_owned()),
        replicas: vec!["b".to_owned(), "c".to_owned()],
        as_is: Some(1),
        ..ShardAssignment::default()
    };
    Topology {
        name: "db".to_owned(),
        uid: "u".to_owned(),
        generation: 1,
        spec: DatabaseTopologySpec {
            database: DatabaseReference {
                uid: "owner".to_owned(),
                ..DatabaseReference::default()
            },
            cluster: CLUSTER.to_owned(),
            epoch: 1,
            fence: None,
            port: i32::from(PORT),
            entry_port: None,
            memory_bytes: 0,
            eviction_policy: "noeviction".to_owned(),
            // A process that starts anew has nothing: the hardest case.
            persistence: Persistence::Disabled,
            version: None,
            tls: None,
            placement: None,
            metric_labels: Default::default(),
            replication: true,
            shards: vec![shard],
            active_active: None,
        },
    }
}

impl Cluster {
    /// `a` leads, `b` and `c` follow; `in_sync` of them may replace it.
    pub(crate) async fn start(in_sync: &[&str]) -> Self {
        Self::serving(first_topology(), in_sync).await
    }

    /// As [`Self::start`], for a database of another kind.
    pub(crate) async fn serving(topology: Topology, in_sync: &[&str]) -> Self {
        Self::with_volumes(topology, in_sync, None).await
    }

    /// As [`Self::serving`]; the shards of each node lie on a volume of so many MiB.
    pub(crate) async fn with_volumes(
        topology: Topology,
        in_sync: &[&str],
        mebibytes: Option<u32>,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("mrr").tempdir().unwrap();
        let root = dir.path();
        let trust = Trust::new();
        atomic_file::make_dir(&root.join("api")).unwrap();
        let names = ["a", "b", "c"];
        let hosts = hosts(3);
        let nodes: Vec<Node> = names
            .iter()
            .zip(&hosts)
            .map(|(name, host)| Node::new(name, host.clone(), root))
            .collect();
        let mut cluster = Self {
            nodes,
            topology,
            dir,
            trust: trust.clone(),
        };
        for name in names {
            cluster.give(name, &trust.entries("", PASSWORD));
        }
        cluster.publish();
        for (node, host) in cluster.nodes.iter_mut().zip(&hosts) {
            atomic_file::make_dir(node.dir()).unwrap();
            let file = DirectoryFile {
                node: node.name.clone(),
                cluster: CLUSTER.to_owned(),
                directory: cluster.dir.path().join("api"),
                hosts: names
                    .map(str::to_owned)
                    .into_iter()
                    .zip(hosts.clone())
                    .collect(),
                internal_listen: format!("{host}:8445").parse().unwrap(),
                sync_listen: format!("{host}:8444").parse().unwrap(),
            };
            atomic_file::write_json(&node.dir().join("directory.json"), &file).unwrap();
            if let Some(mebibytes) = mebibytes {
                node.limit_volume(mebibytes);
            }
            node.start();
        }
        cluster
            .node("a")
            .reports(1, "that it takes writes", |shard| shard.writable)
            .await;
        for name in in_sync {
            cluster.grow(name).await;
        }
        cluster
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|n| n.name == name).unwrap()
    }

    pub(crate) fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|n| n.name == name).unwrap()
    }

    pub(crate) fn shard(&mut self) -> &mut ShardAssignment {
        &mut self.topology.spec.shards[0]
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.topology.spec.epoch
    }

    /// Writes the topology as a new generation.
    pub(crate) fn publish(&mut self) {
        self.topology.generation += 1;
        atomic_file::write_json(&self.api("db.json"), &self.topology).unwrap();
    }

    fn api(&self, name: &str) -> PathBuf {
        self.dir.path().join("api").join(name)
    }

    /// Makes `entries` all that `node` sees of the internal Secret.
    pub(crate) fn give(&self, node: &str, entries: &BTreeMap<String, Vec<u8>>) {
        let directory = self.node(node).internal_dir();
        atomic_file::make_dir(&directory).unwrap();
        for key in internal::READ {
            match entries.get(key) {
                Some(text) => atomic_file::write(&directory.join(key), text).unwrap(),
                None => drop(fs::remove_file(directory.join(key))),
            }
        }
    }

    /// Waits until `node` has taken over `entries`.
    pub(crate) async fn took_over(&self, node: &str, entries: &BTreeMap<String, Vec<u8>>) {
        let hash = sha256_hex(&internal::text(entries));
        self.node(node)
            .reports(self.epoch(), "the internal Secret", |shard| {
                shard.internal.as_ref() == Some(&hash)
            })
            .await;
    }

    /// Says who may log in, as the users Secret does, and waits until `node` has taken it over.
    pub(crate) async fn let_in(&self, node: &str, entry: &Entry) {
        let users = BTreeMap::from([
            ("db".to_owned(), entry.login.clone()),
            (Entry::users_key("db"), entry.users.clone()),
            (Entry::certificates_key("db"), entry.certificates.clone()),
        ]);
        atomic_file::write_json(&self.api("users"), &users).unwrap();
        let hash = sha256_hex(&entry.text());
        self.node(node)
            .reports(self.epoch(), "the users", |shard| {
                shard.access.as_ref() == Some(&hash)
            })
            .await;
    }

    /// What `node` says of clients that it takes.
    pub(crate) fn entry(&self, node: &str) -> Result<Option<EntryReport>, String> {
        let path = self.api("entries").join(format!("db.{node}.json"));
        let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// Nobody can read the topology or report.
    pub(crate) fn api_away(&self, away: bool) {
        if away {
            fs::write(self.api("away"), "").unwrap();
        } else {
            fs::remove_file(self.api("away")).unwrap();
        }
    }

    /// Takes a replica into the in-sync set, as the agent does it.
    pub(crate) async fn grow(&mut self, name: &str) {
        let (epoch, primary) = (self.epoch(), self.shard().primary.clone().unwrap());
        let wanted =
            |shard: &ShardReport| shard.replicas.iter().any(|r| r.node == name && r.online);
        self.node(&primary)
            .reports(epoch, &format!("{name} online"), wanted)
            .await;
        self.shard().joining.push(name.to_owned());
        self.publish();
        let generation = i64::try_from(self.topology.generation).unwrap();
        until(&format!("{primary} counts {name}"), SOON, async || {
            let report = self.node(&primary).report()?;
            let counted = report.shards[0].counts.iter().any(|c| c == name);
            if report.epoch == epoch && report.generation >= generation && counted {
                Ok(())
            } else {
                Err(format!("{report:?}"))
            }
        })
        .await;
        self.shard().joining.retain(|pod| pod != name);
        self.shard().in_sync.push(name.to_owned());
        self.publish();
        let generation = i64::try_from(self.topology.generation).unwrap();
        until(
            &format!("{name} obeys that it is in sync"),
            SOON,
            async || {
                let report = self.node(name).report()?;
                if report.generation >= generation {
                    Ok(())
                } else {
                    Err(format!("{report:?}"))
                }
            },
        )
        .await;
    }

    /// Step 1 of a failover.
    pub(crate) fn fence(&mut self, candidate: &str, planned: bool) {
        self.topology.spec.fence = Some(Fence {
            epoch: self.epoch() + 1,
            candidate: candidate.to_owned(),
            planned,
        });
        self.publish();
    }

    /// Step 3 of a failover.
    pub(crate) fn promote(&mut self) {
        let fence = self.topology.spec.fence.take().unwrap();
        self.topology.spec.epoch = fence.epoch;
        let shard = self.shard();
        let before = shard.primary.replace(fence.candidate.clone()).unwrap();
        shard.replicas.retain(|pod| *pod != fence.candidate);
        shard.replicas.push(before);
        shard.in_sync.retain(|pod| *pod != fence.candidate);
        shard.joining.clear();
        self.publish();
    }

    /// A client of `node`.
    pub(crate) async fn client(&self, node: &str) -> Client {
        Client::connect(&self.node(node).host).await
    }

    /// Waits until `node` has `count` keys.
    pub(crate) async fn holds(&self, node: &str, count: u64) {
        let mut client = self.client(node).await;
        until(&format!("{node} holds {count} keys"), SOON, async || {
            let found: u64 = client.ask(&["DBSIZE"]).await.map_err(|e| e.to_string())?;
            if found == count {
                Ok(())
            } else {
                Err(found.to_string())
            }
        })
        .await;
    }
}
