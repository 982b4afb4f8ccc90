//! A member with its agent: the production session, applier, observer, outbox and journal in one process that can be killed,
//! over a network and a Kubernetes of the simulation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use meridian_agent::{
    k8s::events::Events,
    link::{
        applier::{Applier, Setup},
        backoff::Backoff,
        identity::{Identity, Trust},
        inventory::Names,
        keep::SecretJournal,
        mirror::Change,
        observe::{Observer, Seen},
        order::Order,
        outbox::Outbox,
        session::{self, Context, Ended, Ends, Why},
    },
};
use meridian_api::ids::ClusterUid;
use serde_json::json;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    clock::Wall,
    dice::Dice,
    member::{Kubernetes, NAMESPACE},
    network::{AgentEnd, Wires},
    site::Site,
};

/// What the agent's process may ask its machine for: the functions that production takes carry no state of their own.
struct Machine {
    wall: Wall,
    dice: Dice,
}

tokio::task_local! {
    static MACHINE: Arc<Machine>;
}

fn wall_ms() -> i64 {
    MACHINE.with(|machine| machine.wall.millis())
}

fn random() -> f64 {
    MACHINE.with(|machine| machine.dice.unit())
}

/// What stays of a member whatever happens to its agent.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) cluster: ClusterUid,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) wires: Wires,
    pub(crate) wall: Wall,
    pub(crate) identity: Identity,
    /// Seconds since 1970 at which its certificate ends, by the hub's clock.
    pub(crate) certificate_ends: Arc<Mutex<i64>>,
    pub(crate) dice: Dice,
}

/// One process of a member's agent.
pub(crate) struct Agent {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    control: Arc<Control>,
}

/// What somebody does to the connection of an agent.
#[derive(Default)]
struct Control {
    /// The session moves to another connection, as after a renewal.
    moves: Notify,
    /// The process loses its connection without a word to the hub, and dials again at once.
    forgets: Notify,
}

impl Agent {
    /// Starts a process with what is stored.
    pub(crate) fn start(member: &Member, site: &Site) -> Self {
        let stop = CancellationToken::new();
        let control = Arc::<Control>::default();
        let mut tasks = JoinSet::new();
        let process = Process {
            member: member.clone(),
            site: site.clone(),
            stop: stop.clone(),
            control: Arc::clone(&control),
        };
        let machine = Arc::new(Machine {
            wall: member.wall.clone(),
            dice: member.dice.fork(),
        });
        tasks.spawn(MACHINE.scope(machine, process.run()));
        Self {
            tasks,
            stop,
            control,
        }
    }

    /// It ends where it stands.
    pub(crate) fn kill(mut self) {
        self.tasks.abort_all();
    }

    /// It ends in order, or is killed after a while.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // A member that answers nothing holds it up; then it is killed, as Kubernetes does.
        drop(tokio::time::timeout(Duration::from_secs(30), ended).await);
    }

    pub(crate) fn moves(&self) {
        self.control.moves.notify_one();
    }

    pub(crate) fn forgets(&self) {
        self.control.forgets.notify_one();
    }

    /// Fails the run if a part of the process panicked.
    pub(crate) fn must_be_well(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            ended.expect("a part of an agent panicked");
        }
    }
}

struct Process {
    member: Member,
    site: Site,
    stop: CancellationToken,
    control: Arc<Control>,
}

impl Process {
    /// As production does it: a link that ends by itself begins anew with what is stored.
    async fn run(self) {
        let mut owed = Vec::new();
        while !self.stop.is_cancelled() {
            owed = self.link(self.stop.child_token(), owed).await;
            self.stop
                .run_until_cancelled(sleep(Duration::from_secs(1)))
                .await;
        }
    }

    async fn link(&self, stop: CancellationToken, owed: Vec<Order>) -> Vec<Order> {
        let client = self.member.kubernetes.client();
        let (store, journal) = loop {
            match SecretJournal::open(client.clone(), NAMESPACE).await {
                Ok(opened) => break opened,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        };
        let outbox = Outbox::default();
        let (applier, applied) = Applier::new(Setup {
            member: Arc::new(self.member.kubernetes.clone()),
            store,
            journal,
            owed,
            namespace: NAMESPACE.to_owned(),
            outbox: outbox.clone(),
            random,
        });
        let (commands, received) = mpsc::channel(32);
        let (answers, answered) = mpsc::channel(32);
        let (names, names_seen) = watch::channel(None);
        let (_states, peer_states) = watch::channel(BTreeMap::new());
        let observer = Observer {
            outbox: outbox.clone(),
            applier: commands.clone(),
            names: names_seen,
            peer_states,
            recs: watch::channel(Vec::new()).0,
            answers: answered,
            events: Events::new(client, "agent"),
            wall_ms,
            random,
        };
        let context = Context {
            kube_system_uid: self.member.cluster.to_string(),
            instance_id: self.site.instance_id(),
            agent_version: "1".to_owned(),
            outbox,
            applier: commands,
            applied,
            trust: watch::channel(None).0,
            answers,
            clocks: watch::channel(None).0,
            observing: watch::channel(None).0,
            wall_ms,
            random,
            namespace: NAMESPACE.to_owned(),
        };
        names.send_replace(Some(self.names()));
        let (send, seen) = mpsc::channel(64);
        let applier = async {
            let left = applier.run(received, stop.clone()).await;
            stop.cancel();
            left
        };
        // All in one task: the process dies as one.
        let (left, ..) = tokio::join!(
            applier,
            observer.run(seen, stop.clone()),
            stop.run_until_cancelled(self.watches(send)),
            stop.run_until_cancelled(self.controllers()),
            self.supervise(&context, &stop),
        );
        left
    }

    fn names(&self) -> (Names, Trust) {
        let names = Names {
            cluster_uid: self.member.cluster.to_string(),
            cluster_name: self.member.name.clone(),
            trust_domain: "meridian.local".to_owned(),
        };
        (names, Trust::default())
    }

    /// What the watches of the process tell: everything at first, then each change, a little late.
    async fn watches(&self, send: mpsc::Sender<Seen>) {
        let dice = self.member.dice.fork();
        let mut changes = self.member.kubernetes.watch();
        let first = [
            Seen::Rec(Change::There(rec())),
            Seen::Rec(Change::Complete),
            Seen::Service(Box::new(Change::There(service(&self.member.name)))),
            Seen::Service(Box::new(Change::Complete)),
        ];
        for seen in first {
            drop(send.send(seen).await);
        }
        while let Some(seen) = changes.recv().await {
            sleep(dice.millis(0..40)).await;
            if send.send(seen).await.is_err() {
                return;
            }
        }
    }

    async fn controllers(&self) {
        let dice = self.member.dice.fork();
        loop {
            sleep(dice.millis(300..4000)).await;
            let status = if dice.in_thousand(50) {
                "pending"
            } else {
                "active"
            };
            self.member.kubernetes.controllers_look(status);
        }
    }

    /// Holds one session after the other.
    async fn supervise(&self, context: &Context, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            let pause = match self.site.dial(&self.member).await {
                Err(_) => backoff.next_delay(random()),
                Ok(end) => self.hold(context, end, (&mut backoff, stop)).await,
            };
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    /// One session to its end; how long to wait then.
    async fn hold(
        &self,
        context: &Context,
        end: AgentEnd,
        (backoff, stop): (&mut Backoff, &CancellationToken),
    ) -> Duration {
        let AgentEnd {
            incoming,
            outgoing,
            forgotten,
            id,
        } = end;
        let ends = Ends {
            cancel: stop.child_token(),
            moved: CancellationToken::new(),
        };
        let session = session::run(incoming, outgoing, context, &ends);
        let moved = async {
            self.control.moves.notified().await;
            ends.moved.cancel();
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            () = self.control.forgets.notified() => {
                forgotten.cancel();
                return Duration::ZERO;
            }
            ended = session => ended,
            () = moved => return Duration::ZERO,
        };
        let Ended {
            lasted,
            reconnect,
            why,
        } = ended;
        self.site
            .trace
            .note(id, format_args!("ended: {}", told(&why)));
        backoff.session_lasted(lasted);
        if let Some(advice) = reconnect {
            let millis = |ms: u32| Duration::from_millis(ms.into());
            backoff.hint(millis(advice.spread_ms), millis(advice.cap_ms));
        }
        match why {
            Why::Moved => return Duration::ZERO,
            Why::Drained(drain) => backoff.slot(Duration::from_millis(drain.slot_ms.into())),
            Why::Bye { code, .. } if code == meridian_api::link::codes::CERTIFICATE => {
                self.site.another_certificate(&self.member);
            }
            _ => {}
        }
        backoff.next_delay(random())
    }
}

/// Why a session ended, without what differs from run to run.
fn told(why: &Why) -> String {
    match why {
        Why::Bye { code, .. } => format!("Bye {code}"),
        Why::Broken(_) => "broken".to_owned(),
        Why::Local(what) => format!("local: {what}"),
        Why::Drained(_) => "drained".to_owned(),
        why => why.to_string(),
    }
}

/// The REC of every member.
fn rec() -> DynamicObject {
    let rec = json!({"apiVersion": "app.redislabs.com/v1", "kind": "RedisEnterpriseCluster",
        "metadata": {"name": "rec", "namespace": NAMESPACE, "uid": "rec-uid"}, "spec": {}, "status": {"state": "Running"}});
    serde_json::from_value(rec).unwrap()
}

/// The Service that gives the REC its address.
fn service(member: &str) -> Service {
    let service = json!({"metadata": {"name": "rec-sync", "namespace": NAMESPACE},
        "status": {"loadBalancer": {"ingress": [{"hostname": format!("{member}.example.com")}]}}});
    serde_json::from_value(service).unwrap()
}
