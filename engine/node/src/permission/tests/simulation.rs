//! Three nodes, an API server and an agent with an adversary between them: messages are late, lost and reordered, nodes obey late,
//! drivers and shards restart, clocks are far apart. Whatever happens, only the primary of the newest epoch takes writes.

use proptest::prelude::*;

use super::super::grant::{self, Obeyed};
use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];
const MARGIN: Millis = meridian_api::crds::topology::LEASE_MARGIN_MS;

#[derive(Clone, Debug)]
struct Topology {
    generation: u64,
    epoch: u64,
    fence: Option<(u64, usize)>,
    primary: usize,
    in_sync: BTreeSet<usize>,
    joining: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
struct Shard {
    life: u32,
    position: Position,
    permission: Option<Permission>,
    revoked: u64,
}

impl Shard {
    fn life(&self) -> Life {
        Life {
            id: self.life.to_string(),
            position: self.position.clone(),
            permission: self.permission,
            revoked: self.revoked,
        }
    }

    fn writable(&self, now: Millis) -> bool {
        self.position == Position::Leads
            && self
                .permission
                .is_some_and(|p| p.epoch > self.revoked && Until::At(now) < p.until)
    }

    /// As the module does it.
    fn permit(&mut self, asked: Permission) -> bool {
        let highest = self.permission.map_or(0, |p| p.epoch).max(self.revoked);
        if asked.epoch < highest || asked.epoch <= self.revoked {
            return false;
        }
        self.permission = Some(match self.permission {
            Some(held) if held.epoch == asked.epoch && held.until != Until::Forever => Permission {
                until: held.until.max(asked.until),
                ..held
            },
            _ => asked,
        });
        true
    }
}

#[derive(Clone, Debug)]
enum Message {
    Ask { from: usize, ask: Ask },
    Tell { to: usize, life: u32, event: Event },
}

struct Node {
    core: Core,
    /// How often its driver was started; what was sent to an earlier one arrives nowhere.
    driver: u32,
    facts: Facts,
    shard: Shard,
    obeyed: Topology,
    order: Option<Order>,
    skew: Millis,
}

#[derive(Clone, Copy, Debug, Default)]
struct Report {
    generation: u64,
    epoch: u64,
    counts: [bool; 3],
    fenced: u64,
    at: Millis,
}

struct World {
    now: Millis,
    nodes: Vec<Node>,
    topology: Topology,
    messages: Vec<Message>,
    reports: [Report; 3],
    fenced_at: Millis,
    joined_in: u64,
    lives: u32,
    promotions: u32,
}

fn names(indexes: &BTreeSet<usize>) -> BTreeSet<String> {
    indexes.iter().map(|i| NAMES[*i].to_owned()).collect()
}

fn duty_of(topology: &Topology, me: usize) -> Duty {
    Duty {
        uid: "u".to_owned(),
        epoch: topology.epoch,
        fence: topology.fence.map(|f| f.0),
        role: if topology.primary == me {
            Role::Lead
        } else {
            Role::Follow(NAMES[topology.primary].to_owned())
        },
        in_sync: names(&topology.in_sync),
        joining: names(&topology.joining),
        copies: names(&[0, 1, 2].into_iter().filter(|other| *other != me).collect()),
        // Not played here: what copies hold.
        as_is: true,
        keeps: true,
    }
}

impl World {
    fn new() -> Self {
        let topology = Topology {
            generation: 1,
            epoch: 1,
            fence: None,
            primary: 0,
            in_sync: BTreeSet::new(),
            joining: BTreeSet::new(),
        };
        let node = |index: usize| Node {
            core: Core::new(Facts::default()),
            driver: 0,
            facts: Facts::default(),
            shard: Shard {
                life: u32::try_from(index).unwrap(),
                position: Position::Leads,
                permission: None,
                revoked: 0,
            },
            obeyed: topology.clone(),
            order: None,
            skew: index as Millis * 1_000_000,
        };
        let mut world = Self {
            now: 1_000,
            nodes: (0..3).map(node).collect(),
            topology,
            messages: Vec::new(),
            reports: [Report::default(); 3],
            fenced_at: 0,
            joined_in: 0,
            lives: 3,
            promotions: 0,
        };
        for index in 0..3 {
            world.drive_anew(index);
        }
        world
    }

    fn feed(&mut self, index: usize, event: Event) {
        let now = self.now + self.nodes[index].skew;
        for action in self.nodes[index].core.handle(now, event) {
            match action {
                Action::Ask(ask) => self.messages.push(Message::Ask { from: index, ask }),
                Action::Do(order) => {
                    assert!(self.nodes[index].order.is_none(), "one order at a time");
                    self.nodes[index].order = Some(order);
                }
            }
        }
    }

    fn drive_anew(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.core = Core::new(node.facts.clone());
        node.driver += 1;
        node.order = None;
        let duty = duty_of(&node.obeyed, index);
        let life = node.shard.life();
        self.feed(index, Event::Obeys(duty));
        self.feed(index, Event::Up(life));
    }

    fn carry_out(&mut self, index: usize) {
        let Some(order) = self.nodes[index].order.take() else {
            return;
        };
        let node = &mut self.nodes[index];
        let mut done = true;
        match order {
            Order::Record(facts) => node.facts = facts,
            Order::Revoke(epoch) => node.shard.revoked = node.shard.revoked.max(epoch),
            Order::Permit(permission) => done = node.shard.permit(permission),
            Order::Lead => node.shard.position = Position::Leads,
            Order::Follow(host) => {
                let state = Following::Down;
                node.shard.position = Position::Follows { host, state };
            }
            Order::CloseClients => {}
        }
        let life = node.shard.life();
        self.feed(index, if done { Event::Done } else { Event::Up(life) });
    }

    fn deliver(&mut self, index: usize) {
        match self.messages.swap_remove(index) {
            Message::Tell { to, life, event } => {
                if self.nodes[to].driver == life {
                    self.feed(to, event);
                }
            }
            Message::Ask { from, ask } => {
                let event = match ask {
                    Ask::Grant {
                        round,
                        member,
                        uid,
                        epoch,
                    } => Event::Granted {
                        round,
                        answer: self.grant(&member, uid, epoch, from),
                        member,
                    },
                    Ask::Read { round } => Event::Read {
                        round,
                        found: self.show(from),
                    },
                };
                let life = self.nodes[from].driver;
                self.messages.push(Message::Tell {
                    to: from,
                    life,
                    event,
                });
            }
        }
    }

    fn grant(&self, member: &str, uid: String, epoch: u64, from: usize) -> Answer {
        let me = NAMES.iter().position(|n| *n == member).unwrap();
        let obeyed = &self.nodes[me].obeyed;
        let fence = obeyed.fence.map(|f| f.0);
        let known = Obeyed {
            uid: "u".to_owned(),
            epoch: obeyed.epoch,
            fence,
            primary: Some(NAMES[obeyed.primary].to_owned()),
            copies: names(&BTreeSet::from([0, 1, 2])),
            apart_ms: 0,
        };
        let request = grant::Request {
            uid,
            epoch,
            requester: NAMES[from].to_owned(),
        };
        match grant::decide(member, Some(&known), &request) {
            Ok(()) => Answer::Granted,
            Err(_) => Answer::Refused { fenced: fence },
        }
    }

    fn show(&self, to: usize) -> Found {
        let t = &self.topology;
        Found::Topology(Read {
            uid: "u".to_owned(),
            epoch: t.epoch,
            fence: t.fence.map(|f| f.0),
            leads: t.primary == to,
            in_sync: names(&t.in_sync),
        })
    }

    fn report(&mut self, index: usize) {
        let node = &self.nodes[index];
        let view = node.core.view(self.now + node.skew);
        self.reports[index] = Report {
            generation: node.obeyed.generation,
            epoch: node.obeyed.epoch,
            counts: std::array::from_fn(|i| view.counts.contains(NAMES[i])),
            fenced: view.fenced.unwrap_or(0),
            at: self.now,
        };
    }

    fn agent(&mut self, choice: usize, who: usize) {
        let (now, primary) = (self.now, self.topology.primary);
        let t = &mut self.topology;
        let before = (t.epoch, t.generation);
        if let Some((epoch, candidate)) = t.fence {
            let report = self.reports[candidate];
            // An agent that hears the candidate at once waits the shortest.
            let waits_from = self.fenced_at.max(report.at);
            let confirmed = report.fenced >= epoch;
            let stopped = self.reports[primary].fenced >= epoch;
            if choice == 7 {
                t.epoch = epoch;
                t.fence = None;
                t.generation += 1;
            } else if confirmed && (stopped || now >= waits_from + LEASE_MS + MARGIN) {
                t.epoch = epoch;
                t.fence = None;
                t.primary = candidate;
                t.in_sync.remove(&candidate);
                t.joining.clear();
                t.generation += 1;
                self.promotions += 1;
            }
        } else if t.in_sync.contains(&who) && choice < 3 {
            t.fence = Some((t.epoch + 1, who));
            t.generation += 1;
            self.fenced_at = now;
        } else if t.in_sync.contains(&who) && choice == 3 {
            t.in_sync.remove(&who);
            t.generation += 1;
        } else if t.joining.contains(&who) {
            let report = self.reports[primary];
            let newest = report.epoch == t.epoch && report.generation >= self.joined_in;
            if newest && report.counts[who] {
                t.joining.remove(&who);
                t.in_sync.insert(who);
                t.generation += 1;
            } else if choice == 4 {
                t.joining.remove(&who);
                t.generation += 1;
            }
        } else if who != primary && !t.in_sync.contains(&who) && choice > 3 {
            t.joining.insert(who);
            t.generation += 1;
            self.joined_in = t.generation;
        }
        assert!((t.epoch, t.generation) >= before);
    }

    fn step(&mut self, what: u8, choice: u16) {
        let index = usize::from(choice) % 3;
        match what % 16 {
            0..=4 if !self.messages.is_empty() => {
                let message = usize::from(choice) % self.messages.len();
                self.deliver(message);
            }
            5 if !self.messages.is_empty() => {
                let message = usize::from(choice) % self.messages.len();
                drop(self.messages.swap_remove(message));
            }
            6..=8 => self.carry_out(index),
            9 => {
                self.nodes[index].obeyed = self.topology.clone();
                let duty = duty_of(&self.topology, index);
                self.feed(index, Event::Obeys(duty));
            }
            10 => self.report(index),
            11 | 12 => self.agent(usize::from(choice) / 3 % 8, index),
            13 if choice.is_multiple_of(5) => self.drive_anew(index),
            14 if choice.is_multiple_of(7) => {
                self.lives += 1;
                let position = self.nodes[index].shard.position.clone();
                self.nodes[index].shard = Shard {
                    life: self.lives,
                    position,
                    permission: None,
                    revoked: 0,
                };
                let life = self.nodes[index].shard.life();
                self.nodes[index].order = None;
                self.feed(index, Event::Down);
                self.feed(index, Event::Up(life));
            }
            14 => self.catches_up(index),
            _ => {
                self.now += Millis::from(choice % 700);
                for index in 0..3 {
                    self.feed(index, Event::Tick);
                }
            }
        }
        self.check();
    }

    fn catches_up(&mut self, index: usize) {
        if let Position::Follows { state, .. } = &mut self.nodes[index].shard.position {
            *state = Following::Up;
            let seen = self.nodes[index].shard.position.clone();
            self.feed(index, Event::Seen(seen));
        }
    }

    fn check(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let writable = node.shard.writable(self.now + node.skew);
            assert!(
                !writable || index == self.topology.primary,
                "{} takes writes, but {:?} says otherwise",
                NAMES[index],
                self.topology
            );
        }
    }
}

fn run(steps: &[(u8, u16)]) -> World {
    let mut world = World::new();
    for (what, choice) in steps {
        world.step(*what, *choice);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn only_the_primary_of_the_newest_epoch_takes_writes(
        steps in prop::collection::vec((any::<u8>(), any::<u16>()), 600..1500)
    ) {
        let _ended = run(&steps);
    }
}

#[test]
fn the_adversary_leaves_room_for_promotions() {
    let mut random = 7_u64;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        random >> 33
    };
    let promotions: u32 = (0..20)
        .map(|_| {
            let steps: Vec<(u8, u16)> = (0..1500)
                .map(|_| ((next() & 0xff) as u8, (next() & 0xffff) as u16))
                .collect();
            run(&steps).promotions
        })
        .sum();
    assert!(promotions > 20, "{promotions} promotions prove nothing");
}
