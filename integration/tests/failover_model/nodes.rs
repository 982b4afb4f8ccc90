//! What happens at the nodes: the cores are driven, their orders carried out, their reports sent.

use meridian_api::crds::topology::ReplicaReport;
use meridian_node::permission::{
    Action, Answer, Ask, Core, Event, Following, Found, Order, Position, Progress, Read, grant,
};

use meridian_node::valkey::{Copy, Replicated};

use super::{
    data::{Content, Keeps},
    node::{Node, Shard, index},
    world::{API, Snapshot, WELL, What, World, holds},
};

impl World {
    pub(super) fn feed(&mut self, node: usize, event: Event) {
        let clock = self.nodes[node].clock(self.now);
        let actions = self.nodes[node].core.handle(clock, event);
        let driver = self.nodes[node].driver;
        for action in actions {
            match action {
                Action::Ask(Ask::Grant {
                    round,
                    member,
                    uid,
                    epoch,
                }) => {
                    let request = grant::Request {
                        uid,
                        epoch,
                        requester: self.nodes[node].name.to_owned(),
                    };
                    let to = index(&member);
                    self.send(
                        node,
                        to,
                        What::Grant {
                            from: node,
                            driver,
                            round,
                            member,
                            request,
                        },
                    );
                }
                Action::Ask(Ask::Read { round }) => {
                    self.send(
                        node,
                        API,
                        What::ReadTopology {
                            node,
                            driver,
                            round,
                        },
                    );
                }
                Action::Do(order) => {
                    let life = self.nodes[node]
                        .shard
                        .as_ref()
                        .map_or(0, |shard| shard.life);
                    let slow = self.one_in(10);
                    let late = 1 + self.below(if slow { 500 } else { 5 });
                    self.at(
                        self.now + late,
                        What::Execute {
                            node,
                            driver,
                            life,
                            order,
                        },
                    );
                }
            }
        }
        self.report(node);
    }

    pub(super) fn tell(&mut self, node: usize, driver: u64, event: Event) {
        if self.nodes[node].up && self.nodes[node].driver == driver {
            self.feed(node, event);
        }
    }

    pub(super) fn tick(&mut self, node: usize) {
        self.at(self.now + 100, What::Tick(node));
        if self.nodes[node].up {
            self.feed(node, Event::Tick);
        }
        // A watch that broke begins again with what there is.
        let seen = self.api.clone();
        self.send(API, node, What::Watch(node, seen));
    }

    pub(super) fn grant(
        &mut self,
        from: usize,
        driver: u64,
        round: u64,
        member: &str,
        request: &grant::Request,
    ) {
        let to = index(member);
        if !self.nodes[to].up {
            return;
        }
        let promise = self.nodes[to].promise(self.now);
        let known = promise.fence.unwrap_or(0).max(promise.epoch);
        let answer = match grant::decide(member, Some(&promise), request) {
            Ok(()) => Answer::Granted,
            Err(_) => Answer::Refused {
                fenced: (promise.uid == request.uid && known > request.epoch).then_some(known),
            },
        };
        let event = Event::Granted {
            round,
            member: member.to_owned(),
            answer,
        };
        self.send(to, from, What::Tell(from, driver, event));
    }

    pub(super) fn read(&mut self, node: usize, driver: u64, round: u64) {
        let topology = &self.api.topology;
        let shard = &topology.spec.shards[0];
        let shown = Found::Topology(Read {
            uid: topology.metadata.uid.clone().unwrap(),
            epoch: topology.spec.epoch.unsigned_abs(),
            fence: topology
                .spec
                .fence
                .as_ref()
                .map(|fence| fence.epoch.unsigned_abs()),
            leads: shard.primary.as_deref() == Some(self.nodes[node].name),
            in_sync: shard.in_sync.iter().cloned().collect(),
        });
        let found = if self.gone { Found::Nothing } else { shown };
        self.send(
            API,
            node,
            What::Tell(node, driver, Event::Read { round, found }),
        );
    }

    pub(super) fn execute(&mut self, node: usize, driver: u64, life: u64, order: &Order) {
        let this = &mut self.nodes[node];
        if !this.up || this.driver != driver {
            // The shard hears what an earlier driver sent, if it is the same one; nobody hears the answer.
            if let Some(shard) = this.shard.as_mut().filter(|shard| shard.life == life) {
                shard.execute(order);
            }
            return;
        }
        if let Order::Record(facts) = order {
            this.facts = facts.clone();
            return self.feed(node, Event::Done);
        }
        let done = match this.shard.as_mut().filter(|shard| shard.life == life) {
            Some(shard) => shard.execute(order),
            None => false,
        };
        if done {
            self.feed(node, Event::Done);
        } else {
            self.feed(node, Event::Down);
            let again = self.nodes[node].up_event();
            self.feed(node, again);
        }
    }

    pub(super) fn obey(&mut self, node: usize, seen: &Snapshot) {
        if holds(&self.deaf, node, self.now) || !self.nodes[node].up {
            return;
        }
        if seen.version < self.nodes[node].listed {
            return;
        }
        let refused = self.nodes[node].judge(&seen.topology);
        let known = self.nodes[node].refused != refused;
        self.nodes[node].refused.clone_from(&refused);
        if refused.is_some() {
            if known {
                self.report(node);
            }
            return;
        }
        let same = |t: &meridian_api::crds::DatabaseTopology| {
            (t.metadata.uid.clone(), t.spec.epoch, t.metadata.generation)
        };
        if same(&self.nodes[node].obeyed) == same(&seen.topology) {
            return;
        }
        self.nodes[node].obeyed = seen.topology.as_ref().clone();
        self.fit_shard(node);
        if let Some(duty) = self.nodes[node].duty() {
            self.feed(node, Event::Obeys(duty));
        }
    }

    /// A node that has no part runs no shard; one that has gets one.
    pub(super) fn fit_shard(&mut self, node: usize) {
        let position = self.nodes[node].first_position();
        match (position, self.nodes[node].shard.is_some()) {
            (None, true) => {
                self.nodes[node].shard = None;
                self.feed(node, Event::Down);
            }
            (Some(position), false) => {
                self.lives += 1;
                let disk = self.nodes[node].disk;
                self.nodes[node].shard = Some(Shard::new(self.lives, position, disk));
                let up = self.nodes[node].up_event();
                self.feed(node, up);
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// The container starts, with what is on its disk.
    pub(super) fn start(&mut self, node: usize) {
        self.nodes[node].up = true;
        self.nodes[node].listed = self.api.version;
        self.restart_driver(node);
        self.fit_shard(node);
        let late = 1 + self.below(500);
        self.at(self.now + late, What::Kubelet(node, WELL));
    }

    pub(super) fn restart_driver(&mut self, node: usize) {
        // A new process has connections of its own.
        self.deaf.remove(&node);
        self.mute.remove(&node);
        let this = &mut self.nodes[node];
        this.driver += 1;
        this.core = Core::new(this.facts.clone());
        this.progress = Progress::default();
        if let Some(duty) = this.duty() {
            self.feed(node, Event::Obeys(duty));
            let up = self.nodes[node].up_event();
            self.feed(node, up);
        }
    }

    /// A replica finds its primary, takes a copy over, follows; or loses it.
    pub(super) fn follow(&mut self, node: usize) {
        let pause = 100 + self.below(300);
        self.at(self.now + pause, What::Follow(node));
        let Some(Position::Follows { host, state }) = self.nodes[node]
            .shard
            .as_ref()
            .map(|shard| shard.position.clone())
        else {
            self.write(node);
            if let Some(looked) = self.replicated(node) {
                let clock = self.nodes[node].clock(self.now);
                self.nodes[node].progress.saw(clock, &looked);
            }
            return;
        };
        let of = index(&host);
        let link = (node.min(of), node.max(of));
        let reached =
            self.cut.get(&link).is_none_or(|until| *until <= self.now) && self.nodes[of].up;
        let apart = holds(&self.apart, node, self.now);
        let slow = holds(&self.slow, node, self.now);
        self.seen.apart += u64::from(apart);
        let reached = reached && !apart;
        let source = self.nodes[of]
            .shard
            .as_ref()
            .filter(|shard| reached && (shard.ever || shard.whole));
        let source = source.map(|shard| (shard.content, shard.stream));
        let next = match (source, state) {
            (None, _) => Following::Down,
            (Some(_), Following::Down) => Following::Copying,
            (Some(_), Following::Copying | Following::Up) => Following::Up,
        };
        let position = Position::Follows { host, state: next };
        if let Some(shard) = &mut self.nodes[node].shard {
            shard.position = position.clone();
            match next {
                Following::Up => {
                    // A copy that has just been taken over is never slow.
                    if let Some((content, stream)) = source.filter(|_| !slow || !shard.whole) {
                        (shard.content, shard.stream) = (content, stream);
                    }
                    shard.whole = true;
                }
                Following::Copying => shard.whole = false,
                Following::Down => {}
            }
        }
        self.keep(node);
        self.settle();
        if self.nodes[node].up && !holds(&self.mute, node, self.now) {
            self.feed(node, Event::Seen(position));
        }
    }

    pub(super) fn report(&mut self, node: usize) {
        if self.nodes[node].is_blank() || holds(&self.mute, node, self.now) {
            return;
        }
        let followers = self.followers(node);
        let mut report = self.nodes[node].report(self.now, &followers, &self.history);
        let (clock, looked) = (self.nodes[node].clock(self.now), self.replicated(node));
        let members = self.nodes[node].core.view(clock).members;
        let counted = self.nodes[node].progress.count(&members, looked.as_ref());
        report.shards[0]
            .counts
            .retain(|member| counted.contains(member));
        let shown = self.api.topology.status.as_ref().and_then(|status| {
            status
                .members
                .iter()
                .find(|member| member.node == self.nodes[node].name)
        });
        let known = self.nodes[node].reported.as_ref() == Some(&report) && shown == Some(&report);
        let repeated =
            self.nodes[node].reported.as_ref() == Some(&report) && !self.now.is_multiple_of(7);
        if known || repeated {
            return;
        }
        self.nodes[node].reported = Some(report.clone());
        self.send(node, API, What::Reported(node, Box::new(report)));
    }

    /// What the shard of a node says about its place in replication.
    fn replicated(&self, of: usize) -> Option<Replicated> {
        let own = self.nodes[of].shard.as_ref()?;
        let offset = |content| self.history.offset(content).unsigned_abs();
        let followers = self.followers(of).into_iter().filter_map(|follower| {
            let copy = self.nodes[index(&follower.node)].shard.as_ref()?;
            let (online, offset) = (true, offset(copy.content));
            Some((follower.node, Copy { online, offset }))
        });
        Some(Replicated {
            position: own.position.clone(),
            port: 1,
            stream: own.stream.to_string(),
            offset: offset(own.content),
            copies: followers.collect(),
        })
    }

    pub(super) fn followers(&self, of: usize) -> Vec<ReplicaReport> {
        let follows = |node: &&Node| {
            node.shard.as_ref().is_some_and(|shard| {
                matches!(&shard.position, Position::Follows { host, state: Following::Up } if host == self.nodes[of].name)
            })
        };
        let content = |node: &Node| node.shard.as_ref().map_or(0, |shard| shard.content);
        let written = self.history.offset(content(&self.nodes[of]));
        let one = |node: &Node| ReplicaReport {
            node: node.name.to_owned(),
            online: true,
            lag_bytes: (written - self.history.offset(content(node))).max(0),
        };
        self.nodes.iter().filter(follows).map(one).collect()
    }

    /// Clients write to a shard that takes writes.
    fn write(&mut self, node: usize) {
        if self.quiet && self.below(20) != 0 {
            return;
        }
        if let Some(written) = self.make_writes(node) {
            self.acknowledged = written;
            self.keep(node);
            self.settle();
            self.report(node);
        }
    }

    /// A process is stopped after its last look at its permission, with the reply to a write in its hands.
    pub(super) fn stop_before_a_reply(&mut self, node: usize, length: u64) {
        let Some(written) = self.make_writes(node) else {
            return;
        };
        let life = self.nodes[node]
            .shard
            .as_ref()
            .map_or(0, |shard| shard.life);
        self.nodes[node].paused_until = self.now + length;
        self.at(self.now, What::Reply(node, life, written));
    }

    /// It goes on: the reply is the first that it does.
    pub(super) fn reply(&mut self, node: usize, life: u64, written: Content) -> Result<(), String> {
        let clock = self.nodes[node].clock(self.now);
        let shard = self.nodes[node].shard.as_ref();
        let Some(shard) = shard.filter(|shard| shard.life == life) else {
            return Ok(());
        };
        if self.alarm && !shard.answers(clock) {
            self.seen.held_back += 1;
            return Ok(());
        }
        match self.led {
            Some((at, of, _)) if (at, of) == (node, life) => {
                self.acknowledged = written;
                Ok(())
            }
            led => Err(format!(
                "`{}` acknowledges a write after {led:?} began to take writes",
                self.nodes[node].name
            )),
        }
    }

    /// What a shard that takes writes holds after some more; nobody has heard of them yet.
    fn make_writes(&mut self, node: usize) -> Option<Content> {
        let clock = self.nodes[node].clock(self.now);
        let takes = |shard: &&Shard| shard.writable(clock);
        let shard = self.nodes[node].shard.as_ref().filter(takes);
        let content = shard.map(|shard| shard.content)?;
        let mut written = content;
        for _ in 0..1 + self.below(4) {
            written = self.history.write(written);
        }
        if let Some(shard) = &mut self.nodes[node].shard {
            shard.content = written;
        }
        Some(written)
    }

    /// Puts on disk what is kept there, sooner or later.
    fn keep(&mut self, node: usize) {
        let now = match self.keeps {
            Keeps::Nothing => false,
            Keeps::Log => self.below(2) == 0,
            Keeps::Snapshots => self.below(40) == 0,
        };
        let clock = self.nodes[node].clock(self.now);
        let this = &mut self.nodes[node];
        let complete = this.core.view(clock).complete;
        let Some(shard) = this.shard.as_ref().filter(|shard| now && shard.whole) else {
            return;
        };
        this.disk = shard.content;
        if self.keeps == Keeps::Log && complete {
            this.held = Some((shard.stream, self.history.offset(shard.content)));
        }
    }

    /// What everybody has by now who may take over, or is about to be able to: the tail that only the primary has may be lost.
    fn settle(&mut self) {
        let shard = &self.api.topology.spec.shards[0];
        let primary = index(shard.primary.as_deref().unwrap());
        let clock = self.nodes[primary].clock(self.now);
        let leads = self.nodes[primary].shard.as_ref();
        let Some(mut common) = leads.filter(|s| s.writable(clock)).map(|s| s.content) else {
            return;
        };
        for pod in shard.in_sync.iter().chain(&shard.joining) {
            let Some(own) = &self.nodes[index(pod)].shard else {
                return;
            };
            common = self.history.common(common, own.content);
        }
        if self.history.common(common, self.settled.content) == self.settled.content {
            self.settled.content = common;
            // One that joins holds nobody back yet: a primary that restarts alone leads with what it has.
            let all = shard.primary.iter().chain(&shard.in_sync);
            self.settled.holders = all.cloned().collect();
        }
    }
}
