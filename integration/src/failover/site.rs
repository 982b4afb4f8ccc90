//! The database that the faults are played against, and where its parts are now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::Api;
use meridian_api::crds::DatabaseTopology;
use redis::Value as Answer;
use serde_json::Value;

use super::client::{Connection, Target};
use super::history::History;
use super::writer::{Find, Plan, Writer, Writers};
use crate::lab::{Lab, RunningProcess};
use crate::stack::{Cluster, DATABASE_UP, NAMESPACE, REC_RUNNING};
use crate::wait::{Look, until, until_true};

/// The REC of the faults.
pub(crate) const REC: &str = "faulty";
/// Selects its pods.
const PODS: &str = "redis.io/cluster=faulty,redis.io/role=node";
const AGENTS: &str = "app.kubernetes.io/name=meridian-agent";
/// Its database.
pub(crate) const DATABASE: &str = "faulty-db";
/// How long it may take until everything is as it was before a fault. A node that was away needs the longest.
pub(crate) const SETTLED: Duration = Duration::from_secs(240);
/// How long a command to the database may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Keys that are asked for together.
const BATCH: usize = 500;
/// Pauses of the writers after an acknowledgement: of the Service's, and of each pod's.
const SERVICE_PACE: Duration = Duration::from_millis(2);
const POD_PACE: Duration = Duration::from_millis(5);

/// A database with a replica on a cluster of the lab.
#[derive(Debug)]
pub struct Site {
    pub(crate) lab: Arc<Lab>,
    pub(crate) cluster: Cluster,
    password: String,
    port: u16,
    service: SocketAddr,
    newest: Newest,
}

/// The highest epoch in which the database's topology was seen. A store that was put back shows older ones, which say nothing
/// about how the database is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Newest(Arc<AtomicI64>);

impl Newest {
    /// Whether `epoch` is the highest that was seen until now; it is remembered.
    pub(crate) fn is(&self, epoch: i64) -> bool {
        self.0.fetch_max(epoch, Ordering::Relaxed) <= epoch
    }
}

/// Who leads where, while nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Pod of the primary.
    pub(crate) primary: String,
    /// Its node.
    pub(crate) node: String,
    /// Pod of the replica that can take over.
    pub(crate) replica: String,
    /// A node that carries neither.
    pub(crate) bystander: String,
    /// The epoch.
    pub(crate) epoch: i64,
}

impl Site {
    /// Makes REC and database on this cluster of the lab, unless they are there.
    ///
    /// # Errors
    /// If they do not come up.
    pub async fn prepare(lab: Lab, cluster: Cluster) -> Result<Self> {
        cluster.apply(&format!(
            "apiVersion: app.redislabs.com/v1\nkind: RedisEnterpriseCluster\nmetadata: {{name: {REC}}}\nspec:\n  nodes: 3\n  \
             persistentSpec: {{enabled: true, volumeSize: 1Gi}}\n  \
             redisEnterpriseNodeResources:\n    limits: {{cpu: 1, memory: 512Mi}}\n    requests: {{cpu: 50m, memory: 256Mi}}\n"
        ))?;
        wait(&cluster, "rec", REC, "Running", REC_RUNNING, |rec| {
            rec["status"]["state"] == "Running"
        })
        .await?;
        let mut site = Self {
            lab: Arc::new(lab),
            cluster,
            password: String::new(),
            port: 0,
            service: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            newest: Newest::default(),
        };
        site.make_database().await?;
        Ok(site)
    }

    /// Makes the database, waits until it can be moved, and finds out how to reach it.
    pub(crate) async fn make_database(&mut self) -> Result<()> {
        let cluster = &self.cluster;
        cluster.apply(&format!(
            "apiVersion: app.redislabs.com/v1alpha1\nkind: RedisEnterpriseDatabase\nmetadata: {{name: {DATABASE}}}\nspec:\n  \
             redisEnterpriseCluster: {{name: {REC}}}\n  memorySize: 200MB\n  replication: true\n  persistence: aofEverySecond\n"
        ))?;
        wait(cluster, "redb", DATABASE, "active", DATABASE_UP, |redb| {
            redb["status"]["status"] == "active"
        })
        .await?;
        let secret = cluster
            .get("secret", &format!("redb-{DATABASE}"))?
            .context("the database has no Secret")?;
        let password = secret["data"]["password"]
            .as_str()
            .context("no password in the Secret")?;
        self.password = String::from_utf8(STANDARD.decode(password)?)?;
        let service = cluster
            .get("service", DATABASE)?
            .context("the database has no Service")?;
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        let port = service["spec"]["ports"][0]["port"].as_u64();
        self.service =
            format!("{address}:{}", port.context("a Service without a port")?).parse()?;
        let topology = cluster
            .get("dbtopo", DATABASE)?
            .context("the database has no topology")?;
        let port = topology["spec"]["port"].as_u64();
        self.port = u16::try_from(port.context("a topology without a port")?)?;
        self.settled(SETTLED).await.map(drop)
    }

    /// Removes the database with its data, and makes it anew.
    ///
    /// # Errors
    /// If it does not go, or does not come up.
    pub async fn remake_database(&mut self) -> Result<()> {
        self.cluster
            .must(&["delete", "redb", DATABASE, "--timeout=90s"], "")?;
        // Another topology begins to count anew.
        self.newest = Newest::default();
        self.make_database().await
    }

    /// The topologies of the cluster, by a client of its own: one does not outlive the runtime that it was made in.
    async fn topologies(&self) -> Result<Api<DatabaseTopology>> {
        let client = self.lab.cluster(&self.cluster.name)?.client().await?;
        Ok(Api::namespaced(client, NAMESPACE))
    }

    /// Looks at the topology all the time.
    pub(crate) async fn history(&self) -> Result<History> {
        let topologies = self.topologies().await?;
        Ok(History::start(topologies, DATABASE, self.newest.clone()))
    }

    /// Waits until every node, pod and agent is well and the replica can take over, and says who leads.
    pub(crate) async fn settled(&self, within: Duration) -> Result<Place> {
        let waited = until("everything is as before", within, || async {
            self.place().map_or_else(
                |why| Ok(Look::NotYet(format!("{why:#}"))),
                |place| Ok(Look::Holds(place)),
            )
        })
        .await;
        waited.map_err(|error| error.context(self.cluster.evidence()))
    }

    /// Who leads where; an error says what is not as it should be.
    fn place(&self) -> Result<Place> {
        let topology = self
            .cluster
            .get("dbtopo", DATABASE)?
            .context("no topology")?;
        let spec = &topology["spec"];
        let shard = &spec["shards"][0];
        ensure!(spec["fence"].is_null(), "a fence stands: {spec}");
        let epoch = spec["epoch"].as_i64().unwrap_or_default();
        ensure!(
            self.newest.is(epoch),
            "the topology is in epoch {epoch}, and a later one was seen"
        );
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (primary, replica) = (text(&shard["primary"]), text(&shard["inSync"][0]));
        ensure!(
            !primary.is_empty() && !replica.is_empty() && shard["joining"][0].is_null(),
            "nobody can take over: {shard}"
        );
        let available = conditions(&topology);
        ensure!(
            available
                .iter()
                .all(|line| !line.starts_with("PrimaryAvailable")),
            "{available:?}"
        );
        let pods = self.nodes_of_pods()?;
        ensure!(pods.len() == 3, "of three pods these serve: {pods:?}");
        self.all_well()?;
        let node = |pod: &str| {
            let found = pods.get(pod).cloned();
            found.with_context(|| format!("`{pod}` serves nowhere: {pods:?}"))
        };
        let (node, replicas_node) = (node(&primary)?, node(&replica)?);
        let bystander = pods
            .values()
            .find(|at| **at != node && **at != replicas_node);
        Ok(Place {
            bystander: bystander.context("no third node")?.clone(),
            epoch,
            primary,
            node,
            replica,
        })
    }

    /// Nodes and agents.
    fn all_well(&self) -> Result<()> {
        for node in self.cluster.list("node")? {
            let ready = condition_is(&node, "Ready", "True");
            let name = &node["metadata"]["name"];
            ensure!(ready, "node {name} is not Ready");
            ensure!(
                node["spec"]["unschedulable"] != true,
                "node {name} is cordoned"
            );
        }
        let agents = self.cluster.get("deployment", "meridian-agent")?;
        let agents = agents.context("no Deployment meridian-agent")?;
        ensure!(
            agents["status"]["availableReplicas"] == agents["spec"]["replicas"],
            "agents: {}",
            agents["status"]
        );
        let leader = self.leader()?;
        ensure!(
            self.agents()?.contains_key(&leader),
            "`{leader}` holds the Lease and is gone"
        );
        Ok(())
    }

    /// Deletes a pod and waits until it is gone. kubectl's own wait has no end if its watch misses that.
    pub(crate) async fn delete_pod(&self, pod: &str) -> Result<()> {
        let uid = || {
            let pod = self.cluster.get("pod", pod)?;
            Ok::<_, anyhow::Error>(pod.map(|pod| pod["metadata"]["uid"].clone()))
        };
        let before = uid()?;
        self.cluster
            .must(&["delete", "pod", pod, "--wait=false"], "")?;
        let gone = || async { Ok(uid()? != before) };
        until_true(&format!("`{pod}` is gone"), SETTLED, gone).await
    }

    /// The nodes of the REC's pods that are ready and stay, by pod.
    pub(crate) fn nodes_of_pods(&self) -> Result<BTreeMap<String, String>> {
        self.pods(PODS)
    }

    /// What agents and nodes logged within the last `seconds`, each line after the name of its pod.
    pub(crate) fn logged(&self, seconds: u64) -> Result<String> {
        let since = format!("--since={seconds}s");
        let mut all = String::new();
        for selector in [AGENTS, PODS] {
            let words = ["logs", "-l", selector, "--prefix", "--tail=-1", &since];
            all.push_str(&self.cluster.must(&words, "")?);
        }
        Ok(all)
    }

    /// The nodes of the agents that are ready and stay, by pod.
    pub(crate) fn agents(&self) -> Result<BTreeMap<String, String>> {
        self.pods(AGENTS)
    }

    /// The agent that holds the Lease.
    pub(crate) fn leader(&self) -> Result<String> {
        let lease = self.cluster.get("lease", "meridian-agent")?;
        let lease = lease.context("no Lease meridian-agent")?;
        let holder = lease["spec"]["holderIdentity"].as_str();
        Ok(holder.unwrap_or_default().to_owned())
    }

    /// The pods of the REC and of the agent whose container is not the one that they began with.
    pub(crate) fn restarted_pods(&self) -> Result<Vec<String>> {
        let (nodes, agents) = (self.list_pods(PODS)?, self.list_pods(AGENTS)?);
        let restarted = nodes.into_iter().chain(agents).filter(|pod| {
            let containers = pod["status"]["containerStatuses"].as_array();
            let mut all = containers.into_iter().flatten();
            all.any(|container| container["restartCount"] != 0)
        });
        let name = |pod: Value| pod["metadata"]["name"].as_str().map(str::to_owned);
        Ok(restarted.filter_map(name).collect())
    }

    fn list_pods(&self, selector: &str) -> Result<Vec<Value>> {
        let words = ["get", "pods", "-l", selector, "-o", "json"];
        let mut list: Value = serde_json::from_str(&self.cluster.must(&words, "")?)?;
        Ok(list["items"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default())
    }

    fn pods(&self, selector: &str) -> Result<BTreeMap<String, String>> {
        let pods = self.list_pods(selector)?.into_iter();
        let serve = pods.filter(|pod| {
            condition_is(pod, "Ready", "True") && pod["metadata"]["deletionTimestamp"].is_null()
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(serve
            .map(|pod| {
                (
                    text(&pod["metadata"]["name"]),
                    text(&pod["spec"]["nodeName"]),
                )
            })
            .collect())
    }

    /// The processes of one of the REC's pods.
    pub(crate) fn processes(&self, pod: &str) -> Result<Vec<RunningProcess>> {
        let found = self.lab.pod_processes(pod)?;
        ensure!(
            !found.is_empty(),
            "`{pod}` has no processes on this machine"
        );
        Ok(found)
    }

    /// A process of one of the REC's pods: `first` the first of its container, else the one of this name.
    pub(crate) fn process(&self, pod: &str, name: &str) -> Result<RunningProcess> {
        let all = self.processes(pod)?;
        let wanted = |found: &&RunningProcess| match name {
            "first" => found.inner == 1,
            name => found.name == name,
        };
        let found = all.iter().find(wanted);
        let found = found.with_context(|| format!("`{pod}` has no process `{name}`: {all:?}"))?;
        Ok(found.clone())
    }

    /// The database's shard as those see it that stand in the pod itself.
    pub(crate) fn direct(&self, pod: &str) -> Result<Target> {
        target_in_pod(&self.lab, pod, self.port, &self.password)
    }

    /// Starts a writer for the Service, on a node that carries no copy, and one in each pod.
    pub(crate) fn start_writers(&self, place: &Place, run: &str) -> Result<Writers> {
        let network = self.lab.network_namespace(&place.bystander)?;
        let (address, password) = (self.service, self.password.clone());
        let service: Find = Box::new(move || {
            Ok(Target {
                network: File::open(&network)?,
                address,
                password: password.clone(),
            })
        });
        let plan = |name: &str, pod: Option<&str>, pace| Plan {
            prefix: format!("{run}:{name}"),
            pod: pod.map(str::to_owned),
            pace,
        };
        let mut writers = vec![Writer::start(plan("service", None, SERVICE_PACE), service)];
        for pod in self.nodes_of_pods()?.into_keys() {
            let (lab, password, port) = (Arc::clone(&self.lab), self.password.clone(), self.port);
            let of = pod.clone();
            let find: Find = Box::new(move || target_in_pod(&lab, &of, port, &password));
            writers.push(Writer::start(plan(&pod, Some(&pod), POD_PACE), find));
        }
        Ok(Writers::new(writers))
    }

    /// Which of these keys exist; they are removed.
    pub(crate) async fn take(&self, pod: &str, keys: Vec<String>) -> Result<BTreeSet<String>> {
        let target = self.direct(pod)?;
        tokio::task::spawn_blocking(move || std::thread::spawn(move || take(&target, &keys)).join())
            .await?
            .map_err(|_| anyhow::anyhow!("the client that looks for keys panicked"))?
    }

    /// What is wrong, in words: conditions of topology and database that do not say that all is well.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let look = |kind| {
            let found = self.cluster.get(kind, DATABASE).ok().flatten();
            found.map(|object| conditions(&object)).unwrap_or_default()
        };
        let mut all = look("dbtopo");
        let known: BTreeSet<String> = all.iter().cloned().collect();
        all.extend(
            look("redb")
                .into_iter()
                .filter(|line| !known.contains(line)),
        );
        all
    }
}

/// Conditions that do not say that all is well: type, reason and message.
fn conditions(object: &Value) -> Vec<String> {
    let all = object["status"]["conditions"].as_array();
    let bad = all.into_iter().flatten().filter(|condition| {
        let well = if condition["type"] == "FailoverInProgress" {
            "False"
        } else {
            "True"
        };
        condition["status"] != well && condition["type"] != "FieldsNotImplemented"
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    bad.map(|condition| {
        let (type_, reason) = (text(&condition["type"]), text(&condition["reason"]));
        format!("{type_} {reason}: {}", text(&condition["message"]))
    })
    .collect()
}

fn condition_is(object: &Value, type_: &str, status: &str) -> bool {
    let all = object["status"]["conditions"].as_array();
    all.into_iter()
        .flatten()
        .any(|condition| condition["type"] == type_ && condition["status"] == status)
}

fn target_in_pod(lab: &Lab, pod: &str, port: u16, password: &str) -> Result<Target> {
    let processes = lab.pod_processes(pod)?;
    let first = processes.iter().find(|process| process.inner == 1);
    let first = first.with_context(|| format!("`{pod}` does not run"))?;
    Ok(Target {
        network: File::open(format!("/proc/{}/ns/net", first.process.pid))?,
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        password: password.to_owned(),
    })
}

fn take(target: &Target, keys: &[String]) -> Result<BTreeSet<String>> {
    let mut connection = Connection::open(target)?;
    let mut there = BTreeSet::new();
    for batch in keys.chunks(BATCH) {
        let words = |verb: &str| {
            let keys = batch.iter().map(String::as_str);
            std::iter::once(verb)
                .chain(keys)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let Answer::Array(found) = connection.ask(&words("MGET"), ANSWER)? else {
            bail!("MGET gives no list");
        };
        let pairs = batch.iter().zip(found);
        let whole =
            pairs.filter(|(key, value)| *value == Answer::BulkString(key.as_bytes().to_vec()));
        there.extend(whole.map(|(key, _)| key.clone()));
        connection.ask(&words("UNLINK"), ANSWER)?;
    }
    Ok(there)
}

async fn wait(
    cluster: &Cluster,
    kind: &str,
    name: &str,
    what: &str,
    within: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Result<()> {
    let waited = until(&format!("{kind} {name}: {what}"), within, || async {
        let found = cluster.get(kind, name)?.unwrap_or_default();
        Ok(if wanted(&found) {
            Look::Holds(())
        } else {
            Look::NotYet(found["status"].to_string())
        })
    })
    .await;
    waited.map_err(|error| error.context(cluster.evidence()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_before_one_that_was_seen_is_old() {
        let newest = Newest::default();
        let elsewhere = newest.clone();
        assert!(newest.is(4) && elsewhere.is(4) && elsewhere.is(6));
        assert!(!newest.is(5), "somebody saw the sixth");
        assert!(newest.is(6));
    }
}
