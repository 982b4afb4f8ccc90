//! The adversary: kills, stops, cuts off, and asks for moves.

use std::rc::Rc;

use meridian_agent::controllers::failover::{
    decide::LEAVE,
    watch::{PodFacts, Watch},
};
use meridian_node::permission::{Event, Facts};

use super::{
    data::Keeps,
    node::{NAMES, index},
    seen::Seen,
    world::{AGENT, API, Backup, WELL, What, World},
};

impl World {
    pub(super) fn chaos(&mut self) {
        let pause = 500 + self.below(4_000);
        self.at(self.now + pause, What::Chaos);
        if !self.adversary || self.now < self.rests {
            return;
        }
        let agent = usize::try_from(self.below(2)).unwrap();
        // The primary is where it hurts.
        let primary = self.api.topology.spec.shards[0]
            .primary
            .as_deref()
            .map(index);
        let any = usize::try_from(self.below(3)).unwrap();
        let node = if self.one_in(2) {
            primary.unwrap_or(any)
        } else {
            any
        };
        let length = 500 + self.below(9_000);
        match self.below(28) {
            0 => self.kill(node, length),
            // The shard alone: PID 1 starts it again at once.
            1 => self.end(node, false),
            2 if self.nodes[node].up => self.restart_driver(node),
            3 => self.nodes[node].paused_until = self.now + length,
            4 => self.agents[agent].paused_until = self.now + length,
            5 => {
                // Another leader, which remembers nothing.
                let agent = &mut self.agents[agent];
                agent.start += 1;
                (agent.watch, agent.busy) = (Watch::default(), false);
            }
            6 => {
                self.cut.insert((node, API), self.now + length);
            }
            7 => {
                let other = (node + 1) % 3;
                self.cut
                    .insert((node.min(other), node.max(other)), self.now + length);
            }
            8 => self.isolate(node, length),
            9 | 10 => self.lose_the_api(node),
            11 | 12 => {
                // Who leads, and who may lead next.
                self.kill(node, length);
                self.kill((node + 1) % 3, length);
            }
            13 => self.lose_the_topology(),
            14 | 15 => self.put_the_api_back(),
            16 => {
                self.apart.insert(node, self.now + 2 * length);
            }
            17 => {
                self.slow.insert(node, self.now + 2 * length);
            }
            18 => self.replace_with_an_empty_volume(node, length),
            19 => self.leave_it_alone(node),
            20 => self.stop_before_a_reply(node, 2 * length),
            21 | 22 => {
                self.deaf.insert(node, self.now + 2 * length);
            }
            23 => {
                self.mute.insert(node, self.now + length);
            }
            24 => self.part(&[node, (node + 1) % 3], length),
            25 => {
                // Only the API server hears it, and it does not hear the API server by itself.
                self.deaf.insert(node, self.now + 2 * length);
                self.cut_but_for_the_api(node, 2 * length);
            }
            _ => self.ask_to_leave(),
        }
    }

    /// The pod is made again under its name, and nothing of what it had comes along.
    fn replace_with_an_empty_volume(&mut self, node: usize, length: u64) {
        if !self.nodes[node].up {
            return;
        }
        self.kill(node, length);
        let this = &mut self.nodes[node];
        (this.disk, this.held, this.facts) = (0, None, Facts::default());
        this.obeyed.metadata.uid = Some(String::new());
        this.obeyed.metadata.generation = Some(0);
        (this.obeyed.spec.epoch, this.obeyed.spec.fence) = (0, None);
        this.reported = None;
        self.seen.emptied += 1;
    }

    /// Agents and replication are away for long, the API server is there; in the end the shard's process dies, or its pod.
    fn leave_it_alone(&mut self, node: usize) {
        let length = 20_000 + self.below(20_000);
        for agent in &mut self.agents {
            agent.paused_until = self.now + length;
        }
        for other in (0..NAMES.len()).filter(|other| *other != node) {
            self.apart.insert(other, self.now + length + 5_000);
        }
        self.rests = self.now + length + 10_000;
        let end = self.now + length - 1_000 - self.below(2_000);
        let pod = self.one_in(2);
        self.at(end, What::End { node, pod });
    }

    pub(super) fn end(&mut self, node: usize, pod: bool) {
        if pod {
            self.kill(node, 1_000);
        } else if self.nodes[node].up && self.nodes[node].shard.is_some() {
            self.end_shard(node);
            self.feed(node, Event::Down);
            self.fit_shard(node);
        }
    }

    /// The pod of the primary is marked for deletion, and its PID 1 is asked to stop.
    pub(super) fn drain(&mut self, node: usize) {
        self.at(
            self.now,
            What::Kubelet(
                node,
                PodFacts {
                    going: true,
                    ..WELL
                },
            ),
        );
        self.feed(node, Event::Stopping);
    }

    pub(super) fn kill(&mut self, node: usize, length: u64) {
        if !self.nodes[node].up {
            return;
        }
        self.end_shard(node);
        let this = &mut self.nodes[node];
        (this.up, this.paused_until) = (false, 0);
        let late = 1 + self.below(600);
        self.at(
            self.now + late,
            What::Kubelet(
                node,
                PodFacts {
                    stopped: true,
                    ..WELL
                },
            ),
        );
        self.at(self.now + 700 + length / 3, What::Start(node));
    }

    /// What the process wrote may have reached its files or not.
    fn end_shard(&mut self, node: usize) {
        let written = self.keeps == Keeps::Log && self.one_in(2);
        if let Some(shard) = self.nodes[node].shard.take()
            && written
            && shard.whole
        {
            self.nodes[node].disk = shard.content;
        }
    }

    fn lose_the_topology(&mut self) {
        self.gone = true;
        self.api.version += 1;
    }

    /// The API server is put back to a state of before, while everybody can be reached.
    fn put_the_api_back(&mut self) {
        let over = |until: &u64| *until <= self.now;
        let quiet = self.cut.values().all(over)
            && self.mute.values().all(over)
            && self
                .nodes
                .iter()
                .all(|node| node.up && node.paused_until <= self.now)
            && self
                .agents
                .iter()
                .all(|agent| agent.paused_until <= self.now);
        let back = usize::try_from(1 + self.below(6)).unwrap();
        if self.gone || !quiet || self.backups.len() < back {
            return;
        }
        let at = self.backups.len() - back;
        let backup = self.backups[at].clone();
        self.backups.truncate(at);
        self.put_back(backup);
    }

    pub(super) fn put_back(&mut self, backup: Backup) {
        // No watch survives the API server that was away for it.
        self.deaf.clear();
        let (topology, memory) = backup;
        let mut topology = topology.as_ref().clone();
        // A person's word about an epoch is taken back together with what it was about.
        topology.metadata.annotations = None;
        (self.api.topology, self.memory) = (Rc::new(topology), memory);
        self.rests = self.now + 20_000;
        self.changed();
    }

    pub(super) fn isolate(&mut self, node: usize, length: u64) {
        self.part(&[node], length);
    }

    /// These hear one another, and nobody else.
    pub(super) fn part(&mut self, side: &[usize], length: u64) {
        for one in side {
            for other in (0..AGENT + 2).filter(|other| !side.contains(other)) {
                self.cut_link(*one, other, length);
            }
        }
    }

    /// The API server hears the node, and nobody else does.
    pub(super) fn cut_but_for_the_api(&mut self, node: usize, length: u64) {
        for other in (0..AGENT + 2).filter(|other| ![node, API].contains(other)) {
            self.cut_link(node, other, length);
        }
    }

    pub(super) fn cut_link(&mut self, one: usize, other: usize, length: u64) {
        let until = self.now + length;
        self.cut.insert((one.min(other), one.max(other)), until);
    }

    /// Nobody hears the API server, each for a time of its own, and the agents do not hear `node`: what the nodes promise
    /// one another is all that there is.
    pub(super) fn lose_the_api(&mut self, node: usize) {
        self.rests = self.now + 22_000;
        for other in 0..NAMES.len() {
            let length = 4_000 + self.below(18_000);
            self.cut.insert((other, API), self.now + length);
        }
        for agent in 0..2 {
            self.cut.insert((node, AGENT + agent), self.now + 20_000);
        }
    }

    pub(super) fn ask_to_leave(&mut self) {
        if self.gone {
            return;
        }
        let mut topology = self.api.topology.as_ref().clone();
        let primary = topology.spec.shards[0].primary.clone().unwrap();
        let all = topology.metadata.annotations.get_or_insert_default();
        all.insert(LEAVE.to_owned(), primary);
        self.api.topology = Rc::new(topology);
        self.changed();
    }

    /// The candidate dies as soon as it is chosen and is away for fifteen seconds.
    pub(super) fn drained_while_the_candidate_dies(&mut self) -> Result<(), String> {
        const STEP: u64 = 50;
        self.play(15_000)?;
        self.drain(0);
        let (mut killed, mut mute) = (false, 0);
        let end = self.now + 60_000;
        while self.now < end {
            self.play(self.now + STEP)?;
            self.now = self.now.max(self.now + STEP).min(end);
            let chosen = self.api.topology.spec.fence.as_ref();
            let chosen = chosen.map(|fence| index(&fence.candidate));
            if let Some(node) = chosen.filter(|_| !killed) {
                killed = true;
                self.kill(node, 45_000);
            }
            mute += if self.writable().is_empty() { STEP } else { 0 };
        }
        let writable = self.writable();
        if !killed || writable.is_empty() || writable.contains(&0) {
            return Err(format!(
                "candidate killed: {killed}, {writable:?} take writes"
            ));
        }
        // One that dies just when it is promoted leaves the choice to a person.
        let bound = if self.seen.asked == 0 { 10_000 } else { 40_000 };
        if mute > bound {
            return Err(format!("nobody took writes for {mute} ms"));
        }
        Ok(())
    }

    /// Everything that was broken works again: somebody takes writes, if need be after a person has chosen.
    pub(super) fn recovers(&mut self) -> Result<Seen, String> {
        self.calm();
        self.cut.clear();
        self.apart.clear();
        self.slow.clear();
        self.deaf.clear();
        self.mute.clear();
        self.play(self.now + 60_000)?;
        if self.writable().len() == 1 {
            return Ok(self.seen);
        }
        Err(format!(
            "nobody takes writes after a minute of peace: {:?}, {:#?}",
            self.api.topology.spec, self.api.topology.status
        ))
    }
}
