//! A hub, its members and everything between them, and what can be done to them.

use std::sync::{Arc, Mutex, OnceLock};

use meridian_agent::link::identity::Identity;
use meridian_api::ids::ClusterUid;
use meridian_hub::{
    app::restore::Whole,
    ca::Origin,
    clock::Clock as _,
    domain::denial::{Serial, Speaker},
};
use tokio::time::Instant;

use super::{
    agent::{Agent, Member},
    clock::Wall,
    dice::Dice,
    hub::Hub,
    judge::{Judge, SessionId},
    member::Kubernetes,
    network::{Path, Wires},
    people::Person,
    site::Site,
    trace::Trace,
    volume::Volume,
};

/// Members that databases lie on, and one that only stands by.
const NAMES: [&str; 4] = ["eu-1", "us-1", "ap-1", "idle-1"];

/// Everything.
pub(crate) struct World {
    pub(crate) trace: Trace,
    pub(crate) judge: Judge,
    pub(crate) dice: Dice,
    pub(crate) site: Site,
    pub(crate) person: Person,
    pub(crate) volume: Volume,
    /// The hub that should lead, if one runs.
    pub(crate) hub: Option<Hub>,
    /// Hubs that were overtaken and have not noticed.
    pub(crate) overtaken: Vec<Hub>,
    /// Copies of volumes that somebody put aside.
    pub(crate) copies: Vec<Volume>,
    /// Backups that the hub wrote.
    pub(crate) backups: Vec<Vec<u8>>,
    pub(crate) members: Vec<Member>,
    pub(crate) agents: Vec<Option<Agent>>,
    /// Agents that think that they still lead beside a successor.
    pub(crate) leftovers: Vec<Agent>,
}

/// The devices of all runs: keys are nothing that a seed decides.
fn identities() -> &'static [Identity] {
    static IDENTITIES: OnceLock<Vec<Identity>> = OnceLock::new();
    IDENTITIES.get_or_init(|| NAMES.map(|_| Identity::generate().unwrap()).to_vec())
}

impl World {
    /// A hub with its members, all joined and connected.
    pub(crate) async fn new(seed: u64, whole_trace: bool) -> Self {
        let (dice, trace) = (Dice::new(seed), Trace::new(whole_trace));
        let begun = Instant::now();
        let wall = Wall::new(begun);
        let judge = Judge::new(trace.clone(), wall.clone());
        let site = Site::new(trace.clone(), wall, dice.fork());
        let person = Person {
            dice: dice.fork(),
            trace: trace.clone(),
        };
        let mut world = Self {
            members: Vec::new(),
            agents: Vec::new(),
            leftovers: Vec::new(),
            overtaken: Vec::new(),
            copies: Vec::new(),
            backups: Vec::new(),
            hub: None,
            volume: Volume::default(),
            trace,
            judge,
            dice,
            site,
            person,
        };
        world.judge.knows(world.volume.clone());
        world.start_hub(Origin::Created).await;
        for (number, (name, identity)) in NAMES.iter().zip(identities()).enumerate() {
            world.add(number, name, identity, begun).await;
        }
        world
    }

    async fn add(&mut self, number: usize, name: &str, identity: &Identity, begun: Instant) {
        let digit = number + 1;
        let cluster = format!("{digit}{digit}{digit}{digit}0000-3b5e-4a3e-9d57-0d9a3c1f1e11");
        let cluster: ClusterUid = cluster.parse().unwrap();
        let (judge, trace, dice) = (self.judge.clone(), self.trace.clone(), self.dice.fork());
        let member = Member {
            name: name.to_owned(),
            cluster,
            kubernetes: Kubernetes::new(cluster, dice.fork(), judge.clone(), trace.clone()),
            wires: Wires {
                path: Path::default(),
                cluster,
                judge,
                trace,
            },
            wall: Wall::new(begun),
            identity: identity.clone(),
            certificate_ends: Arc::new(Mutex::new(0)),
            dice,
        };
        self.site.another_certificate(&member);
        if let Some(hub) = &self.hub {
            self.person.joins(hub, &member).await;
        }
        self.agents.push(Some(Agent::start(&member, &self.site)));
        self.members.push(member);
    }

    /// Starts a hub on the volume that is there.
    pub(crate) async fn start_hub(&mut self, origin: Origin) {
        let hub = Hub::start(&self.volume, origin, &self.site.wall, &self.dice).await;
        let term = hub.app.reign().term;
        self.trace.note("hub", format_args!("starts, term {term}"));
        self.hub = Some(hub);
        self.tell_who_listens();
    }

    /// Agents find the hub, or an overtaken one, or nobody.
    pub(crate) fn tell_who_listens(&self) {
        let hubs = self.hub.iter().chain(&self.overtaken);
        self.site.listens(hubs.cloned().collect());
    }

    /// The hub's process dies.
    pub(crate) fn kill_hub(&mut self) {
        if let Some(hub) = self.hub.take() {
            self.trace.note("hub", "killed");
            hub.kill();
        }
        self.tell_who_listens();
    }

    /// The hub's process ends in order.
    pub(crate) async fn end_hub(&mut self) {
        if let Some(hub) = self.hub.take() {
            self.tell_who_listens();
            hub.end().await;
            self.trace.note("hub", "ended");
        }
    }

    /// Another hub takes the store over while this one goes on.
    pub(crate) async fn overtake_hub(&mut self) {
        if let Some(hub) = self.hub.take() {
            self.trace.note("hub", "overtaken");
            hub.is_overtaken();
            self.overtaken.push(hub);
        }
        self.start_hub(Origin::Loaded).await;
    }

    /// Overtaken hubs notice at last.
    pub(crate) fn end_overtaken(&mut self) {
        for hub in self.overtaken.drain(..) {
            hub.kill();
        }
        self.tell_who_listens();
    }

    /// The store is another one from now on; its hub starts with it.
    pub(crate) async fn replace_volume(&mut self, volume: Volume) {
        self.kill_hub();
        self.end_overtaken();
        self.judge.knows(volume.clone());
        self.volume = volume;
        self.start_hub(Origin::Loaded).await;
    }

    /// Somebody looks at what is frozen, and lets it go.
    pub(crate) async fn thaws(&self) {
        if let Some(hub) = &self.hub {
            self.person.thaws(hub, &self.judge).await;
        }
    }

    /// Writes a backup while the hub runs.
    pub(crate) async fn back_up(&mut self) {
        let Some(hub) = &self.hub else { return };
        let Ok(backup) = hub.app.backup().await else {
            return;
        };
        let pieces: Result<Vec<_>, _> = backup.pieces().collect();
        self.backups.push(pieces.unwrap().concat());
        self.trace.note("person", "backs up");
    }

    /// Puts a backup into an empty store, as the command does, and starts the hub on it.
    pub(crate) async fn restore_backup(&mut self) {
        let Some(bytes) = self.dice.pick(&self.backups).cloned() else {
            return;
        };
        self.trace.note("person", "restores a backup");
        self.kill_hub();
        let volume = Volume::default();
        let mount = volume.mounted(self.dice.fork());
        let whole = Whole::read(&bytes).unwrap();
        let now = self.site.wall.now();
        whole.put_into(&mount, false, now).await.unwrap();
        self.replace_volume(volume).await;
    }

    /// Somebody with the certificate of one member says to be another.
    pub(crate) async fn impostor(&mut self, certified: usize, claimed: usize) {
        let Some(hub) = &self.hub else { return };
        let (certified, claimed) = (&self.members[certified], &self.members[claimed]);
        let dice = self.site.dice();
        let id = SessionId(dice.next());
        self.judge.is_impostor(id, certified.cluster);
        self.trace.note(
            "impostor",
            format_args!("{} as {}", certified.name, claimed.name),
        );
        let (agent, at_hub) = certified.wires.open(id, &hub.volume, &dice);
        let speaker = Speaker {
            cluster: certified.cluster,
            root: hub.app.ca().fingerprint(),
            serial: Serial::of(&[1]),
            ends_at: jiff::Timestamp::MAX,
        };
        hub.accept(speaker, at_hub);
        let hello =
            super::network::hello_of(&claimed.cluster.to_string(), &self.site.instance_id());
        drop(agent.outgoing.send(hello).await);
        // It listens until the hub hangs up, or for a minute.
        tokio::spawn(async move {
            let mut agent = agent;
            let heard = async {
                while futures::StreamExt::next(&mut agent.incoming)
                    .await
                    .is_some()
                {}
            };
            drop(tokio::time::timeout(std::time::Duration::from_secs(60), heard).await);
        });
    }

    /// The agent's process dies.
    pub(crate) fn kill_agent(&mut self, number: usize) {
        if let Some(agent) = self.agents[number].take() {
            self.trace.note(&self.members[number].name, "agent killed");
            agent.kill();
        }
    }

    /// The agent starts, if it does not run.
    pub(crate) fn start_agent(&mut self, number: usize) {
        if self.agents[number].is_none() {
            let member = &self.members[number];
            self.trace.note(&member.name, "agent starts");
            self.agents[number] = Some(Agent::start(member, &self.site));
        }
    }

    /// Fails if a part of any process panicked.
    pub(crate) fn must_be_well(&mut self) {
        let agents = self.agents.iter_mut().flatten();
        agents
            .chain(&mut self.leftovers)
            .for_each(Agent::must_be_well);
    }
}
