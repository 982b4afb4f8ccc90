//! Simulated agents: the link of `meridian-agent`, whole, over an API server in memory each.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use meridian_agent::{
    link::{self, LinkConfig, dial::ProxySettings},
    metrics::Metrics,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    api::Api as HubApi,
    kube::{Api, Arrival, NAMESPACE},
};

/// Members that join at the same time.
const AT_ONCE: usize = 64;
/// Nodes of each REC.
pub(crate) const NODES: usize = 3;
/// How long joining may take, for each hundred of members.
const JOINED: Duration = Duration::from_secs(60);

/// Members of one hub. They leave it with this value.
pub(crate) struct Fleet {
    hub: HubApi,
    link: String,
    members: Vec<Api>,
    arrived: mpsc::UnboundedSender<Arrival>,
    pub(crate) arrivals: mpsc::UnboundedReceiver<Arrival>,
    stop: CancellationToken,
    agents: TaskTracker,
}

impl Fleet {
    pub(crate) fn of(hub: HubApi, link: String) -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        Self {
            hub,
            link,
            members: Vec::new(),
            arrived,
            arrivals,
            stop: CancellationToken::new(),
            agents: TaskTracker::new(),
        }
    }

    pub(crate) fn hub(&self) -> &HubApi {
        &self.hub
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn member(&self, n: usize) -> &Api {
        &self.members[n]
    }

    /// Names of `count` remote clusters, those of the members from `first` on.
    pub(crate) fn names(first: usize, count: usize) -> Vec<String> {
        (first..first + count).map(name).collect()
    }

    /// Lets members join until there are `count`, and waits until the hub knows the RECs of all. Returns how long it took.
    pub(crate) async fn grow(&mut self, count: usize) -> Result<Duration> {
        let begun = Instant::now();
        let tokens = stream::iter(self.members.len()..count).map(|n| {
            let hub = self.hub.clone();
            async move { token(&hub, n).await.map(|made| (n, made)) }
        });
        // One after the other: a token of its own for each, as people make them.
        let made: Vec<(usize, Value)> = tokens.buffered(4).try_collect().await?;
        for members in made.chunks(AT_ONCE) {
            for (n, token) in members {
                self.join(*n, token)?;
            }
            self.connected(self.members.len()).await?;
        }
        self.reported(count).await?;
        Ok(begun.elapsed())
    }

    fn join(&mut self, n: usize, token: &Value) -> Result<()> {
        let api = self.member_api(n, token)?;
        let config = config(n, &api);
        self.members.push(api);
        self.agents.spawn(link::run(config, self.stop.clone()));
        Ok(())
    }

    fn member_api(&self, n: usize, token: &Value) -> Result<Api> {
        let uid = format!("00000000-0000-4000-8000-{n:012x}");
        let api = Api::new(n, uid, self.arrived.clone());
        api.put("redisenterpriseclusters", rec(n));
        api.put("secrets", material(n, token, &self.link)?);
        Ok(api)
    }

    /// Lets one more member join whose agent has a thread of its own, and can be stopped like a process.
    pub(crate) async fn join_apart(&mut self) -> Result<Stoppable> {
        let n = self.members.len();
        let token = token(&self.hub, n).await?;
        let api = self.member_api(n, &token)?;
        let (orders, ordered) = mpsc::unbounded_channel::<Stop>();
        let (stop, agent) = (self.stop.clone(), api.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::join!(
                    link::run(config(n, &agent), stop.clone()),
                    obey(ordered, stop)
                );
            });
        });
        self.members.push(api);
        self.connected(self.members.len()).await?;
        self.reported(self.members.len()).await?;
        Ok(Stoppable { orders })
    }

    async fn connected(&self, count: usize) -> Result<()> {
        connected(&self.hub, count).await
    }

    async fn reported(&self, count: usize) -> Result<()> {
        reported(&self.hub, count).await
    }

    /// Forgets arrivals that nobody waited for.
    pub(crate) fn settle(&mut self) {
        while self.arrivals.try_recv().is_ok() {}
    }

    /// All agents end.
    pub(crate) async fn leave(self) {
        self.stop.cancel();
        self.agents.close();
        self.agents.wait().await;
    }
}

/// Waits until so many members have a session.
pub(crate) async fn connected(hub: &HubApi, count: usize) -> Result<()> {
    let begun = Instant::now();
    while hub.connected().await? < count {
        let limit = JOINED * u32::try_from(count.div_ceil(100))?;
        ensure!(
            begun.elapsed() < limit,
            "{count} members are not connected after {limit:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until the RECs of so many members are known.
pub(crate) async fn reported(hub: &HubApi, count: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let list = hub.get("/api/v1/remoteclusters").await?;
        let known = list["items"].as_array().map_or(0, Vec::len);
        if known >= count {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < JOINED,
            "{known} of {count} RECs are known after {JOINED:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Ends when the agent may go on.
type Stop = std::sync::mpsc::Receiver<()>;

/// An agent that can be stopped: it reads nothing and says nothing, and its connection stays.
pub(crate) struct Stoppable {
    orders: mpsc::UnboundedSender<Stop>,
}

impl Stoppable {
    /// Stops it until the returned value is dropped.
    pub(crate) fn stop(&self) -> Result<std::sync::mpsc::Sender<()>> {
        let (go_on, stopped) = std::sync::mpsc::channel();
        let sent = self.orders.send(stopped);
        sent.ok().context("the agent has ended")?;
        Ok(go_on)
    }
}

/// Holds the only thread of its runtime as long as it is told to.
async fn obey(mut orders: mpsc::UnboundedReceiver<Stop>, end: CancellationToken) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            stopped = orders.recv() => match stopped {
                // What ends it is that the sender goes.
                Some(stopped) => drop(stopped.recv()),
                None => return,
            },
        }
    }
}

fn config(n: usize, api: &Api) -> LinkConfig {
    LinkConfig {
        client: api.client(),
        namespace: NAMESPACE.to_owned(),
        identity: name(n),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        proxy: ProxySettings::default(),
        metrics: Arc::new(Metrics::default()),
    }
}

pub(crate) fn name(n: usize) -> String {
    format!("m-{n:04}")
}

pub(crate) async fn token(hub: &HubApi, n: usize) -> Result<Value> {
    let wanted = json!({
        "apiVersion": "meridian.dev/v1alpha1",
        "kind": "Token",
        "metadata": {},
        "spec": { "clusterName": name(n) },
    });
    let made = hub.post("/api/v1/tokens", &wanted).await?;
    Ok(made["status"]["join"].clone())
}

/// The Secret that a person applies.
pub(crate) fn material(n: usize, token: &Value, link: &str) -> Result<Value> {
    let text = |field: &str| {
        token[field]
            .as_str()
            .with_context(|| format!("a token without {field}"))
    };
    let keys = [
        ("hub", link),
        ("ca.crt", text("caPem")?),
        ("token", text("token")?),
        ("name", &name(n)),
    ];
    let data = keys.map(|(key, text)| (key.to_owned(), json!(encoded(text))));
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "meridian-join" },
        "data": serde_json::Map::from_iter(data),
    }))
}

pub(crate) fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A REC that runs and can be reached from other regions.
pub(crate) fn rec(n: usize) -> Value {
    json!({
        "apiVersion": "app.redislabs.com/v1",
        "kind": "RedisEnterpriseCluster",
        "metadata": { "name": "rec" },
        "spec": {
            "nodes": NODES,
            "ingressOrRouteSpec": {
                "apiFqdnUrl": format!("api.{}.example.com", name(n)),
                "dbFqdnSuffix": format!(".db.{}.example.com", name(n)),
                "method": "openShiftRoute",
            },
        },
        "status": { "state": "Running" },
    })
}
