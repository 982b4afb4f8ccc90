//! The run: what is under way, what happens next, and what must hold after each of it.

use std::{collections::BTreeMap, rc::Rc};

use meridian_agent::controllers::failover::{
    decide::Step,
    renew::Memory,
    watch::{PodFacts, Watch},
};
use meridian_api::crds::topology::{DatabaseTopology, MemberReport};
use meridian_node::permission::{Core, Event, Facts, Order, Progress, grant};
use serde_json::json;

use super::{
    data::{Content, History, Keeps, Settled},
    node::{NAMES, Node, index},
    seen::Seen,
};

/// The API server beside the nodes, where a link needs a number.
pub(super) const API: usize = 4;
/// The first agent.
pub(super) const AGENT: usize = 5;

/// What somebody reads at the API server.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) topology: Rc<DatabaseTopology>,
    pub(super) pods: Rc<BTreeMap<String, PodFacts>>,
}

/// What an API server can be put back to: the topology, and what stands on the database.
pub(super) type Backup = (Rc<DatabaseTopology>, Memory);

pub(super) enum What {
    /// A watch of a node brings something.
    Watch(usize, Snapshot),
    Tick(usize),
    /// Something reaches the core of a node, in the start of its driver that asked.
    Tell(usize, u64, Event),
    Grant {
        from: usize,
        driver: u64,
        round: u64,
        member: String,
        request: grant::Request,
    },
    ReadTopology {
        node: usize,
        driver: u64,
        round: u64,
    },
    Execute {
        node: usize,
        driver: u64,
        life: u64,
        order: Order,
    },
    Reported(usize, Box<MemberReport>),
    /// The shard of a node looks for its primary.
    Follow(usize),
    /// A shard's process goes on, in the life in which it was stopped, with a reply to that.
    Reply(usize, u64, Content),
    Start(usize),
    Kubelet(usize, PodFacts),
    AgentWatch(usize, Snapshot),
    AgentLook(usize),
    AgentGet(usize, u64),
    AgentFresh(usize, u64, Snapshot),
    AgentSwap {
        agent: usize,
        start: u64,
        version: u64,
        next: Box<DatabaseTopology>,
        step: Step,
    },
    AgentDone(usize, u64, Step),
    Probe(usize),
    Probed {
        agent: usize,
        start: u64,
        node: usize,
        asked: u64,
        answered: bool,
    },
    Chaos,
    /// A shard's process ends, or its pod.
    End {
        node: usize,
        pod: bool,
    },
    /// Nobody hears a node, for so long.
    Isolate(usize, u64),
    /// The controller of the database looks at the topology: is it there, and new enough?
    Renew,
}

pub(super) struct Agent {
    /// Counts its terms as leader: what was sent in an earlier one is lost.
    pub(super) start: u64,
    pub(super) watch: Watch,
    pub(super) cache: Snapshot,
    pub(super) busy: bool,
    pub(super) not_before: u64,
    pub(super) paused_until: u64,
    pub(super) rate: u64,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) random: u64,
    pub(super) next: u64,
    pub(super) queue: BTreeMap<(u64, u64), What>,
    pub(super) nodes: Vec<Node>,
    pub(super) agents: Vec<Agent>,
    pub(super) api: Snapshot,
    /// Links that carry nothing until then.
    pub(super) cut: BTreeMap<(usize, usize), u64>,
    pub(super) lives: u64,
    pub(super) adversary: bool,
    /// Clients write now and then only.
    pub(super) quiet: bool,
    /// The module's alarm holds late replies back.
    pub(super) alarm: bool,
    pub(super) seen: Seen,
    pub(super) keeps: Keeps,
    pub(super) history: History,
    pub(super) settled: Settled,
    /// Who took writes last: node, life and epoch.
    pub(super) led: Option<(usize, u64, u64)>,
    /// What was acknowledged last.
    pub(super) acknowledged: Content,
    /// What stands on the database.
    pub(super) memory: Memory,
    /// The topology was deleted.
    pub(super) gone: bool,
    /// Earlier states of the API server.
    pub(super) backups: Vec<Backup>,
    /// Nodes whose replication link is down, or carries little, until then.
    pub(super) apart: BTreeMap<usize, u64>,
    pub(super) slow: BTreeMap<usize, u64>,
    /// Nodes whose watch says nothing until then, while what they ask is answered: half of a connection is gone.
    pub(super) deaf: BTreeMap<usize, u64>,
    /// Nodes whose child of PID 1 is stopped until then, while PID 1 answers and the shard runs on.
    pub(super) mute: BTreeMap<usize, u64>,
    /// Until then the adversary rests: an API server that was put back is trouble enough.
    pub(super) rests: u64,
}

/// Whether a trouble of `node` lasts at `now`.
pub(super) fn holds(trouble: &BTreeMap<usize, u64>, node: usize, now: u64) -> bool {
    trouble.get(&node).is_some_and(|until| *until > now)
}

fn first(replicas: &[&str], keeps: Keeps) -> DatabaseTopology {
    let persistence = match keeps {
        Keeps::Nothing => "disabled",
        Keeps::Log => "aofEverySecond",
        Keeps::Snapshots => "snapshotEvery6Hour",
    };
    serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "ns", "uid": "T", "generation": 1, "annotations": {}},
        "spec": {"database": {"kind": "K", "namespace": "ns", "name": "db", "uid": "u"}, "cluster": "rec", "epoch": 1,
                 "port": 10000, "memoryBytes": 1, "evictionPolicy": "noeviction", "persistence": persistence,
                 "replication": true,
                 "shards": [{"id": 0, "slots": "0-16383", "primary": "rec-0", "replicas": replicas, "asIs": 1}]},
        "status": {},
    }))
    .unwrap()
}

pub(super) const WELL: PodFacts = PodFacts {
    going: false,
    stopped: false,
    expected: true,
};

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let replicas: &[&str] = if seed.is_multiple_of(3) {
            &["rec-1", "rec-2"]
        } else {
            &["rec-1"]
        };
        let keeps =
            [Keeps::Log, Keeps::Nothing, Keeps::Snapshots][usize::try_from(seed / 3 % 3).unwrap()];
        let topology = Rc::new(first(replicas, keeps));
        let pods = NAMES.map(|name| (name.to_owned(), WELL)).into();
        let api = Snapshot {
            version: 1,
            topology: Rc::clone(&topology),
            pods: Rc::new(pods),
        };
        let mut world = Self {
            now: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            next: 0,
            queue: BTreeMap::new(),
            nodes: Vec::new(),
            agents: Vec::new(),
            api: api.clone(),
            cut: BTreeMap::new(),
            lives: 0,
            adversary: true,
            quiet: false,
            alarm: true,
            seen: Seen::default(),
            keeps,
            history: History::default(),
            settled: Settled::default(),
            led: None,
            acknowledged: 0,
            memory: Memory::of(&topology.spec).unwrap(),
            gone: false,
            backups: Vec::new(),
            apart: BTreeMap::new(),
            slow: BTreeMap::new(),
            deaf: BTreeMap::new(),
            mute: BTreeMap::new(),
            rests: 0,
        };
        world.populate(&topology, &api);
        world.at(3_000, What::Chaos);
        world.at(900, What::Renew);
        world
    }

    /// The nodes and the replicas of the agent, each with a clock of its own.
    fn populate(&mut self, topology: &Rc<DatabaseTopology>, api: &Snapshot) {
        for (at, name) in NAMES.into_iter().enumerate() {
            let node = Node {
                name,
                obeyed: topology.as_ref().clone(),
                refused: None,
                disk: 0,
                held: None,
                facts: Facts::default(),
                core: Core::new(Facts::default()),
                progress: Progress::default(),
                driver: 0,
                shard: None,
                up: false,
                paused_until: 0,
                rate: 950 + self.below(100),
                began: self.below(1_000_000_000),
                reported: None,
                listed: 0,
            };
            self.nodes.push(node);
            self.at(at as u64, What::Start(at));
            self.at(50 + at as u64, What::Tick(at));
            self.at(100 + at as u64, What::Follow(at));
        }
        for agent in 0..2 {
            let rate = 950 + self.below(100);
            self.agents.push(Agent {
                start: 0,
                watch: Watch::default(),
                cache: api.clone(),
                busy: false,
                not_before: 0,
                paused_until: 0,
                rate,
            });
            self.at(10, What::AgentLook(agent));
            self.at(11, What::Probe(agent));
        }
    }

    /// Without an adversary.
    pub(super) fn calm(&mut self) {
        self.adversary = false;
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// A number below `end`. Marsaglia's xorshift: it need only be different each time.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % end
    }

    pub(super) fn one_in(&mut self, number: u64) -> bool {
        self.adversary && self.below(number) == 0
    }

    pub(super) fn at(&mut self, time: u64, what: What) {
        self.next += 1;
        self.queue.insert((time, self.next), what);
    }

    /// Sends over a link: late, sometimes very late, sometimes never.
    pub(super) fn send(&mut self, from: usize, to: usize, what: What) {
        let link = (from.min(to), from.max(to));
        let lost = self.cut.get(&link).is_some_and(|until| *until > self.now) || self.one_in(50);
        if lost {
            return;
        }
        let late = if self.one_in(20) {
            self.below(4_000)
        } else {
            1 + self.below(20)
        };
        self.at(self.now + late, what);
    }

    pub(super) fn play(&mut self, until: u64) -> Result<Seen, String> {
        while let Some(next) = self.queue.first_entry() {
            let (time, number) = *next.key();
            if time >= until {
                break;
            }
            let what = next.remove();
            self.now = self.now.max(time);
            if let Some(awake) = self.paused(&what) {
                self.queue.insert((awake, number), what);
                continue;
            }
            self.happen(what)?;
            self.judge()?;
        }
        Ok(self.seen)
    }

    /// When a process that is stopped goes on, if `what` is for one.
    fn paused(&self, what: &What) -> Option<u64> {
        let child = |node: usize| {
            let mute = self.mute.get(&node).copied().unwrap_or(0);
            self.nodes[node].paused_until.max(mute)
        };
        let until = match what {
            What::Watch(node, _)
            | What::Tick(node)
            | What::Tell(node, ..)
            | What::Execute { node, .. } => child(*node),
            What::Reply(node, ..) | What::Follow(node) => self.nodes[*node].paused_until,
            What::Grant { member, .. } => child(index(member)),
            What::AgentLook(agent)
            | What::AgentFresh(agent, ..)
            | What::AgentDone(agent, ..)
            | What::Probe(agent)
            | What::Probed { agent, .. } => self.agents[*agent].paused_until,
            What::Start(_)
            | What::ReadTopology { .. }
            | What::Reported(..)
            | What::Kubelet(..)
            | What::AgentWatch(..)
            | What::AgentGet(..)
            | What::AgentSwap { .. }
            | What::Chaos
            | What::End { .. }
            | What::Renew
            | What::Isolate(..) => 0,
        };
        (until > self.now).then_some(until)
    }

    pub(super) fn kubelet(&mut self, node: usize, facts: PodFacts) {
        let mut pods = self.api.pods.as_ref().clone();
        pods.insert(NAMES[node].to_owned(), facts);
        self.api.pods = Rc::new(pods);
        self.changed();
    }

    fn shown(&mut self, agent: usize, seen: Snapshot) {
        if seen.version > self.agents[agent].cache.version {
            self.agents[agent].cache = seen;
        }
    }

    fn happen(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Watch(node, seen) => self.obey(node, &seen),
            What::Tick(node) => self.tick(node),
            What::Tell(node, driver, event) => self.tell(node, driver, event),
            What::Grant {
                from,
                driver,
                round,
                member,
                request,
            } => self.grant(from, driver, round, &member, &request),
            What::ReadTopology {
                node,
                driver,
                round,
            } => self.read(node, driver, round),
            What::Execute {
                node,
                driver,
                life,
                order,
            } => self.execute(node, driver, life, &order),
            What::Reported(node, report) => self.reported(node, *report),
            What::Follow(node) => self.follow(node),
            What::Reply(node, life, content) => self.reply(node, life, content)?,
            What::Start(node) => self.start(node),
            What::Kubelet(node, facts) => self.kubelet(node, facts),
            What::AgentWatch(agent, seen) => self.shown(agent, seen),
            What::AgentLook(agent) => self.look(agent),
            What::AgentGet(agent, start) => {
                let fresh = self.api.clone();
                self.send(API, AGENT + agent, What::AgentFresh(agent, start, fresh));
            }
            What::AgentFresh(agent, start, fresh) => self.fresh(agent, start, &fresh),
            What::AgentSwap {
                agent,
                start,
                version,
                next,
                step,
            } => self.swap(agent, start, version, &next, step)?,
            What::AgentDone(agent, start, step) => self.agent_done(agent, start, &step),
            What::Probe(agent) => self.probe(agent),
            What::Probed {
                agent,
                start,
                node,
                asked,
                answered,
            } => {
                let now = self.agent_clock(agent, self.now);
                let asked = self.agent_clock(agent, asked);
                let agent = &mut self.agents[agent];
                if agent.start == start {
                    if answered {
                        agent.watch.answered(NAMES[node], None, now);
                    } else {
                        agent.watch.failed(NAMES[node], asked);
                    }
                }
            }
            What::Chaos => self.chaos(),
            What::End { node, pod } => self.end(node, pod),
            What::Isolate(node, length) => self.isolate(node, length),
            What::Renew => self.renew(),
        }
        Ok(())
    }
}
