//! Everything that answers are made of, taken at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use meridian_api::crds::topology::{DatabaseTopology, MemberReport, ShardAssignment, ShardReport};
use meridian_api::login::{ClusterFacts, database_number};

use super::Source;
use super::probe::{self, Answer};
use crate::clock;
use crate::desired::ShardName;

/// A picture serves for so long: whoever asks often does not multiply the questions to other nodes.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of the cluster at one moment.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) facts: Arc<ClusterFacts>,
    /// The databases.
    pub(super) topologies: Vec<Arc<DatabaseTopology>>,
    /// What the nodes answered, by name; `None`: nothing.
    pub(super) nodes: BTreeMap<String, Option<Answer>>,
    /// When the nodes were asked, RFC 3339.
    pub(super) as_of: String,
    /// Since when the Kubernetes API is away: roles may have changed since.
    pub(super) away_since: Option<String>,
}

/// The newest picture.
#[derive(Debug, Default)]
pub(super) struct Recent(tokio::sync::Mutex<Option<(Instant, Arc<Picture>)>>);

impl Recent {
    /// A picture that is fresh; `None`: nothing has been heard of the cluster yet.
    pub(super) async fn get(&self, source: &Source) -> Option<Arc<Picture>> {
        let mut last = self.0.lock().await;
        if let Some((taken, picture)) = &*last
            && clock::now().duration_since(*taken) < FRESH
        {
            return Some(Arc::clone(picture));
        }
        let picture = Arc::new(take(source).await?);
        *last = Some((clock::now(), Arc::clone(&picture)));
        Some(picture)
    }
}

async fn take(source: &Source) -> Option<Picture> {
    let known = source.observed.now();
    let (topologies, facts) = (known.topologies?, known.facts?);
    let names = (0..facts.nodes).map(|ordinal| format!("{}-{ordinal}", source.cluster));
    let answers = names.map(|name| async {
        let host = (source.host)(&name);
        let answer = probe::ask(&host).await;
        (name, answer)
    });
    let nodes = join_all(answers).await.into_iter().collect();
    Some(Picture {
        cluster: source.cluster.clone(),
        namespace: source.namespace.clone(),
        facts,
        topologies: topologies.into_values().collect(),
        nodes,
        as_of: clock::rfc3339(clock::wall_ms()),
        away_since: known.away_since,
    })
}

/// What a copy of a shard is known to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    /// It answers, as its node said just now.
    Yes,
    /// It does not, as its node said just now.
    No,
    /// Its node does not answer.
    Unknown,
}

impl Picture {
    /// The database with this number.
    pub(super) fn numbered(&self, number: &str) -> Option<&DatabaseTopology> {
        let wanted: i64 = number.parse().ok()?;
        let found = self
            .topologies
            .iter()
            .find(|topology| database_number(topology.spec.port) == wanted);
        found.map(|topology| &**topology)
    }

    /// Whether the copy of a shard on `node` answers.
    pub(super) fn serves(&self, node: &str, database: &str, shard: i32) -> Serves {
        let Some(Some(answer)) = self.nodes.get(node) else {
            return Serves::Unknown;
        };
        let shard = u32::try_from(shard).unwrap_or(u32::MAX);
        let name = ShardName::new(database, shard);
        match answer.ready.get(name.as_str()) {
            Some(true) => Serves::Yes,
            Some(false) | None => Serves::No,
        }
    }
}

/// What `node` reported about one shard of a database, with its whole report.
pub(super) fn report<'a>(
    topology: &'a DatabaseTopology,
    node: &str,
    shard: i32,
) -> Option<(&'a MemberReport, &'a ShardReport)> {
    let members = &topology.status.as_ref()?.members;
    let member = members.iter().find(|member| {
        member.node == node && Some(&member.topology_uid) == topology.metadata.uid.as_ref()
    })?;
    let shard = member.shards.iter().find(|report| report.id == shard)?;
    Some((member, shard))
}

/// The nodes that hold a copy of a shard, its primary first.
pub(super) fn copies(shard: &ShardAssignment) -> impl Iterator<Item = (&String, bool)> {
    let primary = shard.primary.iter().map(|node| (node, true));
    primary.chain(shard.replicas.iter().map(|node| (node, false)))
}
