//! A member as it is in production but for its nodes: the agent's process and a real API server, which the bench watches. The pods
//! of its REC stand there as a kubelet would show them, so that databases find a place; nothing runs in them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::TryStreamExt as _;
use kube::{
    Client, ResourceExt as _,
    api::{Api, DynamicObject, Patch, PatchParams, PostParams},
    discovery::ApiResource,
    runtime::watcher::{self, Event},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    apiserver::ApiServer,
    fleet,
    kube::{Arrival, DATABASES, NAMESPACE},
    process::{Usage, free_port},
};

/// Namespace that no agent operates.
const ELSEWHERE: &str = "floor";
/// How long an agent may take until it has made its first objects.
const MADE: Duration = Duration::from_secs(60);

/// It ends with this value.
pub(crate) struct Member {
    n: usize,
    api: ApiServer,
    agent: Option<Child>,
    _watch: AbortOnDropHandle<Result<()>>,
}

impl Member {
    /// Starts the API server of the member, and tells of every database that comes to stand there.
    pub(crate) async fn start(
        n: usize,
        dir: &Path,
        arrivals: mpsc::UnboundedSender<Arrival>,
    ) -> Result<Self> {
        let api = ApiServer::start(dir.join(fleet::name(n))).await?;
        let client = api.client().await?;
        let namespaces: Api<DynamicObject> =
            Api::all_with(client.clone(), &kind("", "v1", "Namespace", "namespaces"));
        for name in [NAMESPACE, ELSEWHERE] {
            let wanted = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
            });
            namespaces
                .create(&PostParams::default(), &serde_json::from_value(wanted)?)
                .await?;
        }
        let watch = AbortOnDropHandle::new(tokio::spawn(watch(
            Api::all_with(client, &database_kind()),
            n,
            arrivals,
        )));
        Ok(Self {
            n,
            api,
            agent: None,
            _watch: watch,
        })
    }

    /// Creates a database that concerns nobody; when it was asked for.
    pub(crate) async fn create_elsewhere(&self, name: &str) -> Result<Instant> {
        let databases = self.databases(ELSEWHERE).await?;
        let mut wanted = super::api::database(name, &[fleet::name(self.n)]);
        wanted["spec"]["redisEnterpriseCluster"] = json!({ "name": "rec" });
        let wanted: DynamicObject = serde_json::from_value(wanted)?;
        let begun = Instant::now();
        databases.create(&PostParams::default(), &wanted).await?;
        Ok(begun)
    }

    async fn databases(&self, namespace: &str) -> Result<Api<DynamicObject>> {
        let client = self.api.client().await?;
        Ok(Api::namespaced_with(client, namespace, &database_kind()))
    }

    /// Puts a REC and the join material there, and starts the agent.
    pub(crate) async fn join(&mut self, program: &Path, token: &Value, link: &str) -> Result<()> {
        let client = self.api.client().await?;
        let secrets = kind("", "v1", "Secret", "secrets");
        let recs = kind(
            "app.redislabs.com",
            "v1",
            "RedisEnterpriseCluster",
            "redisenterpriseclusters",
        );
        let mut rec = fleet::rec(self.n);
        rec["apiVersion"] = json!("app.redislabs.com/v1");
        rec["kind"] = json!("RedisEnterpriseCluster");
        // Room for every database of the bench.
        let size = json!({ "cpu": "4", "memory": "64Gi" });
        rec["spec"]["redisEnterpriseNodeResources"] = json!({ "requests": size, "limits": size });
        for (kind, object) in [
            (recs, rec),
            (secrets, fleet::material(self.n, token, link)?),
        ] {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
            api.create(&PostParams::default(), &serde_json::from_value(object)?)
                .await?;
        }
        let listen = || free_port().map(|port| format!("127.0.0.1:{port}"));
        let log = File::create(self.log())?;
        let agent = Command::new(program)
            .args([
                "run",
                "--namespace",
                NAMESPACE,
                "--identity",
                "agent-0",
                "--kubeconfig",
            ])
            .arg(self.api.kubeconfig())
            .args([
                "--probes-listen",
                &listen()?,
                "--admission-listen",
                &listen()?,
            ])
            // As deploy/bundle/agent.yaml has it.
            .env(
                "_RJEM_MALLOC_CONF",
                "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        self.agent = Some(agent);
        self.pods(&client).await
    }

    /// Makes the pods of the REC's StatefulSet, and says that they are ready.
    async fn pods(&self, client: &Client) -> Result<()> {
        let sets = kind("apps", "v1", "StatefulSet", "statefulsets");
        let sets: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &sets);
        let begun = Instant::now();
        let set = loop {
            if let Some(set) = sets.get_opt("rec").await? {
                break set;
            }
            self.agent()?;
            ensure!(
                begun.elapsed() < MADE,
                "the agent makes no StatefulSet within {MADE:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let pods = kind("", "v1", "Pod", "pods");
        let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &pods);
        for n in 0..fleet::NODES {
            let name = format!("rec-{n}");
            let mut pod = set.data["spec"]["template"].clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!(name);
            pod["spec"]["nodeName"] = json!(format!("host-{n}"));
            pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
                .await?;
            let ready = json!({ "status": {
                "phase": "Running",
                "podIP": format!("10.0.0.{}", n + 1),
                "conditions": [{ "type": "Ready", "status": "True" }],
            } });
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(ready))
                .await?;
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.api.kubeconfig().with_file_name("agent.log")
    }

    /// What the agent has used.
    pub(crate) fn agent(&self) -> Result<Usage> {
        let agent = self.agent.as_ref().context("no agent was started")?;
        Usage::of(agent.id()).with_context(|| {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            format!("the agent of {} has ended: {log}", fleet::name(self.n))
        })
    }

    /// Processor time of the API server and its etcd.
    pub(crate) fn api_cpu(&self) -> Result<Duration> {
        self.api.cpu()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            // It may have ended by itself, which the bench has noticed by then.
            drop(agent.kill());
            drop(agent.wait());
        }
    }
}

async fn watch(
    databases: Api<DynamicObject>,
    member: usize,
    arrivals: mpsc::UnboundedSender<Arrival>,
) -> Result<()> {
    let mut events = std::pin::pin!(watcher::watcher(databases, watcher::Config::default()));
    while let Some(event) = events.try_next().await? {
        let (Event::Apply(object) | Event::InitApply(object)) = event else {
            continue;
        };
        let arrival = Arrival {
            member,
            plural: DATABASES.to_owned(),
            name: object.name_any(),
            at: Instant::now(),
        };
        if arrivals.send(arrival).is_err() {
            return Ok(());
        }
    }
    bail!("the watch of {} ended", fleet::name(member))
}

fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

fn database_kind() -> ApiResource {
    kind(
        "app.redislabs.com",
        "v1alpha1",
        "RedisEnterpriseActiveActiveDatabase",
        DATABASES,
    )
}
