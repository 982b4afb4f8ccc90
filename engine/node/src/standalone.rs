//! A region without Kubernetes: the command line becomes the same topology that an agent would write, kept in a file. From there
//! on everything is the same code as in a pod.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use meridian_api::crds::shared::Persistence;
use meridian_api::crds::topology::{
    ActiveActiveMembership, DatabaseReference, DatabaseTopologySpec, ShardAssignment,
    TopologyMember,
};
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, FileError};
use crate::certs::region_spiffe_id;
use crate::layout::Layout;
use crate::sync::topology::Topology;

/// The name that stands for a cluster in a standalone topology.
pub const CLUSTER: &str = "standalone";

/// One region, as the command line gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its instance id.
    pub id: u32,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where other regions pull from.
    pub sync_listen: SocketAddr,
    /// The other regions' sync endpoints, by instance id.
    pub peers: BTreeMap<u32, String>,
    /// Its certificates; `None`: plain text.
    pub certs: Option<PathBuf>,
    /// The database's name.
    pub database: String,
    /// Bytes the data may take; 0: no limit.
    pub max_memory_bytes: u64,
    /// fsync before each reply.
    pub aof_always: bool,
    /// Where metrics are served.
    pub metrics_listen: Option<SocketAddr>,
}

/// What the child of a standalone region reads at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StandaloneFile {
    /// The name of this node.
    pub node: String,
    /// The topology.
    pub topology: Topology,
    /// Where clients connect.
    pub bind: String,
    /// Where other regions pull from.
    pub sync_listen: SocketAddr,
    /// Certificates; `None`: plain text.
    pub certs: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics_listen: Option<SocketAddr>,
}

/// Why the command line makes no region.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The region is a peer of itself.
    #[error("--peer {0}=… names this region itself (--id {0}); name the other regions only")]
    OwnPeer(u32),
    /// The directory belongs to another region.
    #[error(
        "the data in {directory} belongs to region {found} of database {database:?}, not to region {wanted}: an instance id is for life; use another --dir"
    )]
    OtherRegion {
        /// The directory.
        directory: PathBuf,
        /// The database found.
        database: String,
        /// The instance id found.
        found: i64,
        /// The instance id asked for.
        wanted: u32,
    },
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes the region's topology for the child, with higher numbers than the one before if anything changed.
///
/// # Errors
/// [`StandaloneError`] if the command line contradicts itself or the directory.
pub fn store(layout: &Layout, region: &Region) -> Result<(), StandaloneError> {
    if region.peers.contains_key(&region.id) {
        return Err(StandaloneError::OwnPeer(region.id));
    }
    let path = layout.standalone();
    let before: Option<StandaloneFile> = atomic_file::read_json(&path)?;
    if let Some(before) = &before
        && let Some(membership) = &before.topology.spec.active_active
        && (membership.instance_id != i64::from(region.id)
            || before.topology.name != region.database)
    {
        return Err(StandaloneError::OtherRegion {
            directory: layout.data().to_owned(),
            database: before.topology.name.clone(),
            found: membership.instance_id,
            wanted: region.id,
        });
    }
    atomic_file::make_dir(layout.data())?;
    atomic_file::write_json(&path, &file(region, before.as_ref().map(|f| &f.topology)))?;
    Ok(())
}

/// The file for `region`, numbered after `before`.
#[must_use]
pub fn file(region: &Region, before: Option<&Topology>) -> StandaloneFile {
    let spec = spec(region, before.and_then(|t| t.spec.active_active.as_ref()));
    let generation = before.map_or(1, |t| t.generation + u64::from(t.spec != spec));
    StandaloneFile {
        node: region_name(region.id),
        topology: Topology {
            name: region.database.clone(),
            uid: CLUSTER.to_owned(),
            generation,
            spec,
        },
        bind: region.listen.ip().to_string(),
        sync_listen: region.sync_listen,
        certs: region.certs.clone(),
        metrics_listen: region.metrics_listen,
    }
}

fn region_name(id: u32) -> String {
    format!("region-{id}")
}

fn spec(region: &Region, before: Option<&ActiveActiveMembership>) -> DatabaseTopologySpec {
    let membership = membership(region, before);
    let persistence = if region.aof_always {
        Persistence::AofAlways
    } else {
        Persistence::AofEverySecond
    };
    let primary = Some(region_name(region.id));
    DatabaseTopologySpec {
        database: DatabaseReference {
            kind: "RedisEnterpriseActiveActiveDatabase".to_owned(),
            namespace: CLUSTER.to_owned(),
            name: region.database.clone(),
            uid: membership.guid.clone(),
        },
        cluster: CLUSTER.to_owned(),
        epoch: 1,
        fence: None,
        port: i32::from(region.listen.port()),
        entry_port: None,
        memory_bytes: i64::try_from(region.max_memory_bytes).unwrap_or(i64::MAX),
        eviction_policy: "noeviction".to_owned(),
        persistence,
        version: None,
        tls: None,
        placement: None,
        metric_labels: BTreeMap::new(),
        replication: false,
        shards: vec![ShardAssignment {
            id: 1,
            slots: "0-16383".to_owned(),
            primary,
            ..ShardAssignment::default()
        }],
        active_active: Some(membership),
    }
}

fn membership(region: &Region, before: Option<&ActiveActiveMembership>) -> ActiveActiveMembership {
    let member = |instance: u32, endpoint: String| TopologyMember {
        instance_id: i64::from(instance),
        name: region_name(instance),
        endpoint,
        server_name: format!(
            "{}.region-{instance}.standalone.meridian.internal",
            region.database
        ),
        spiffe_id: region_spiffe_id(instance),
        local: instance == region.id,
    };
    let mut members: Vec<TopologyMember> = region
        .peers
        .iter()
        .map(|(peer, endpoint)| member(*peer, endpoint.clone()))
        .collect();
    members.push(member(region.id, region.sync_listen.to_string()));
    members.sort_by_key(|m| m.instance_id);
    let ids =
        |members: &[TopologyMember]| members.iter().map(|m| m.instance_id).collect::<Vec<_>>();
    ActiveActiveMembership {
        guid: format!("standalone/{}", region.database),
        instance_id: i64::from(region.id),
        config_version: before.map_or(1, |b| {
            b.config_version + i64::from(ids(&b.members) != ids(&members))
        }),
        members,
        ghosts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Region {
        Region {
            id: 1,
            listen: "127.0.0.1:7001".parse().unwrap(),
            sync_listen: "127.0.0.1:8001".parse().unwrap(),
            peers: BTreeMap::from([(2, "127.0.0.1:8002".to_owned())]),
            certs: None,
            database: "db".to_owned(),
            max_memory_bytes: 0,
            aof_always: false,
            metrics_listen: None,
        }
    }

    #[test]
    fn numbers_rise_only_when_something_changes() {
        let first = file(&region(), None).topology;
        assert_eq!(file(&region(), Some(&first)).topology, first);
        let mut wider = region();
        wider.peers.insert(3, "127.0.0.1:8003".to_owned());
        let second = file(&wider, Some(&first)).topology;
        let version = |t: &Topology| t.spec.active_active.as_ref().unwrap().config_version;
        assert_eq!((second.generation, version(&second)), (2, 2));
        let mut moved = wider;
        moved.peers.insert(3, "127.0.0.1:9003".to_owned());
        let third = file(&moved, Some(&second)).topology;
        assert_eq!(
            (third.generation, version(&third)),
            (3, 2),
            "an address is no membership"
        );
    }

    #[test]
    fn a_directory_keeps_its_instance_id() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), None);
        store(&layout, &region()).unwrap();
        let error = store(&layout, &Region { id: 3, ..region() }).unwrap_err();
        assert!(error.to_string().contains("belongs to region 1"), "{error}");
    }

    #[test]
    fn a_region_is_not_its_own_peer() {
        let dir = tempfile::tempdir().unwrap();
        let mut own = region();
        own.peers.insert(1, "127.0.0.1:8001".to_owned());
        assert!(matches!(
            store(&Layout::new(dir.path(), None), &own),
            Err(StandaloneError::OwnPeer(1))
        ));
    }
}
