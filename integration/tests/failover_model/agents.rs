//! What happens at the API server and at the agents.

use std::rc::Rc;

use meridian_agent::controllers::failover::{
    decide::{ACCEPT_LOSS, Step, View, decide},
    renew::{self, Memory},
    watch::{own_shard, report},
    write,
};
use meridian_api::crds::topology::{DatabaseTopology, DatabaseTopologyStatus, MemberReport};

use super::{
    data::Keeps,
    node::{NAMES, index, is_said_whole},
    seen::MOST_LOST,
    world::{AGENT, API, Snapshot, What, World},
};

impl World {
    pub(super) fn reported(&mut self, node: usize, report: MemberReport) {
        if self.gone {
            return;
        }
        let mut topology = self.api.topology.as_ref().clone();
        let mut members = topology.status.take().unwrap_or_default().members;
        members.retain(|member| member.node != NAMES[node]);
        members.push(report);
        topology.status = Some(DatabaseTopologyStatus {
            members,
            ..DatabaseTopologyStatus::default()
        });
        self.api.topology = Rc::new(topology);
        self.changed();
    }

    /// Something was written: the watches bring it.
    pub(super) fn changed(&mut self) {
        self.api.version += 1;
        if self.gone {
            return;
        }
        for node in 0..NAMES.len() {
            let seen = self.api.clone();
            self.send(API, node, What::Watch(node, seen));
        }
        for agent in 0..self.agents.len() {
            let seen = self.api.clone();
            self.send(API, AGENT + agent, What::AgentWatch(agent, seen));
        }
    }

    pub(super) fn swap(
        &mut self,
        agent: usize,
        start: u64,
        version: u64,
        next: &DatabaseTopology,
        step: Step,
    ) -> Result<(), String> {
        if self.gone || version != self.api.version {
            self.send(
                API,
                AGENT + agent,
                What::AgentDone(agent, start, Step::Nothing),
            );
            return Ok(());
        }
        let before = Rc::clone(&self.api.topology);
        let (old, new) = (&before.spec.shards[0], &next.spec.shards[0]);
        if next.spec.epoch < before.spec.epoch {
            return Err(format!(
                "the epoch falls from {} to {}",
                before.spec.epoch, next.spec.epoch
            ));
        }
        let accepted = before.metadata.annotations.as_ref();
        let accepted = accepted.is_some_and(|all| all.contains_key(ACCEPT_LOSS));
        if old.primary != new.primary && accepted {
            self.seen.failovers += 1;
        } else if old.primary != new.primary {
            self.promoted(&before, new.primary.as_ref().unwrap())?;
        }
        if accepted && next.spec.epoch > before.spec.epoch {
            // Accepted twice before anybody led: the first word stands as well.
            let from = next.spec.epoch.unsigned_abs();
            self.settled.forgiven.get_or_insert(from);
        } else if matches!(step, Step::Reinstate { .. }) {
            self.settled.from_files = Some(next.spec.epoch.unsigned_abs());
        }
        if let Step::Shrink { pod } | Step::RemoveReplica { pod } | Step::Raise { pod, .. } = &step
        {
            self.settled.holders.remove(pod);
        }
        if let Some(fence) = before
            .spec
            .fence
            .as_ref()
            .filter(|_| next.spec.fence.is_none())
            && matches!(step, Step::AbandonFence { .. })
        {
            self.settled.holders.remove(&fence.candidate);
        }
        self.count(&step);
        self.backups.push((Rc::clone(&before), self.memory.clone()));
        self.memory = Memory::of(&next.spec).unwrap();
        let mut written = next.clone();
        written.status = before.status.clone();
        if next.spec != before.spec {
            written.metadata.generation = before.metadata.generation.map(|number| number + 1);
        }
        self.api.topology = Rc::new(written);
        self.changed();
        if self.one_in(6) {
            // Just when something has changed: the primary may have heard of it or not.
            let primary = self.api.topology.spec.shards[0]
                .primary
                .as_deref()
                .map(index);
            let (soon, length) = (self.below(120), self.below(20_000));
            self.at(self.now + soon, What::Isolate(primary.unwrap_or(0), length));
        }
        self.send(API, AGENT + agent, What::AgentDone(agent, start, step));
        Ok(())
    }

    /// Without a person's word only a member of the set that says it has a copy is promoted.
    fn promoted(&mut self, before: &DatabaseTopology, chosen: &String) -> Result<(), String> {
        let old = &before.spec.shards[0];
        if !old.in_sync.contains(chosen) {
            return Err(format!(
                "`{chosen}` is promoted and is not in {:?}",
                old.in_sync
            ));
        }
        if !is_said_whole(before, chosen) {
            return Err(format!(
                "`{chosen}` is promoted and does not say that it has a copy"
            ));
        }
        self.loses(chosen)?;
        let stopped = self.api.pods[old.primary.as_ref().unwrap()].stopped;
        let fence = before.spec.fence.as_ref().unwrap();
        let told = before
            .status
            .as_ref()
            .unwrap()
            .members
            .iter()
            .any(|member| {
                Some(&member.node) == old.primary.as_ref()
                    && member.shards[0].fenced >= Some(fence.epoch)
            });
        self.seen.failovers += 1;
        self.seen.planned += u64::from(fence.planned);
        self.seen.by_waiting += u64::from(!told && !stopped);
        Ok(())
    }

    /// What a failover loses by itself has a bound, if what the primary had can be known: by its word, or by its files.
    fn loses(&mut self, chosen: &str) -> Result<(), String> {
        let node = &self.nodes[index(chosen)];
        if node.is_blank() {
            // It lost its volume while the promotion was on its way. Whether it leads with nothing is judged when it leads.
            return Ok(());
        }
        let has = node.shard.as_ref().map_or(node.disk, |shard| shard.content);
        let common = self.history.common(self.acknowledged, has);
        let lost = self.history.count(self.acknowledged) - self.history.count(common);
        self.seen.lost = self.seen.lost.max(u64::from(lost));
        if self.keeps == Keeps::Log && lost > MOST_LOST {
            return Err(format!(
                "`{chosen}` is promoted without the last {lost} writes, and nobody was asked"
            ));
        }
        Ok(())
    }

    fn count(&mut self, step: &Step) {
        match step {
            Step::Admit { .. } => self.seen.admitted += 1,
            Step::Shrink { .. } => self.seen.shrunk += 1,
            Step::AbandonFence { .. } => self.seen.abandoned += 1,
            Step::Reinstate { .. } => self.seen.reinstated += 1,
            Step::Nothing
            | Step::Fence { .. }
            | Step::Promote
            | Step::NeedsPerson { .. }
            | Step::Join { .. }
            | Step::Leave { .. }
            | Step::AddReplica { .. }
            | Step::RemoveReplica { .. }
            | Step::Raise { .. } => {}
        }
    }

    pub(super) fn agent_clock(&self, agent: usize, now: u64) -> u64 {
        now * self.agents[agent].rate / 1000
    }

    pub(super) fn look(&mut self, agent: usize) {
        self.at(self.now + 200, What::AgentLook(agent));
        let now = self.agent_clock(agent, self.now);
        let this = &mut self.agents[agent];
        let (topology, pods) = (Rc::clone(&this.cache.topology), Rc::clone(&this.cache.pods));
        this.watch.saw(&topology, &pods, now);
        if this.busy && self.now < this.not_before {
            return;
        }
        let view = View {
            topology: &topology,
            pods: &pods,
            spare: None,
            replace_ms: 600_000,
            watch: &this.watch,
            now,
        };
        let step = decide(&view);
        if let Step::NeedsPerson { choices } = &step {
            let choices: Vec<String> = choices.iter().map(|loss| loss.pod.clone()).collect();
            self.ask_person(&topology, &choices);
            return;
        }
        if write::next(&topology, &step).is_none() {
            return;
        }
        // A request that nobody answers ends some time.
        (this.busy, this.not_before) = (true, self.now + 5_000);
        let start = this.start;
        self.send(AGENT + agent, API, What::AgentGet(agent, start));
    }

    pub(super) fn fresh(&mut self, agent: usize, start: u64, fresh: &Snapshot) {
        let now = self.agent_clock(agent, self.now);
        let this = &mut self.agents[agent];
        if this.start != start {
            return;
        }
        let mut watch = this.watch.clone();
        watch.saw(&fresh.topology, &fresh.pods, now);
        let view = View {
            topology: &fresh.topology,
            pods: &fresh.pods,
            spare: None,
            replace_ms: 600_000,
            watch: &watch,
            now,
        };
        let step = decide(&view);
        let Some(next) = write::next(&fresh.topology, &step) else {
            this.busy = false;
            return;
        };
        if self.one_in(8) {
            // It is remembered, and this agent gets no further.
            self.memory = Memory::of(&next.spec).unwrap();
            return;
        }
        let what = What::AgentSwap {
            agent,
            start,
            version: fresh.version,
            next: Box::new(next),
            step,
        };
        self.send(AGENT + agent, API, what);
    }

    pub(super) fn agent_done(&mut self, agent: usize, start: u64, step: &Step) {
        let now = self.agent_clock(agent, self.now);
        let this = &mut self.agents[agent];
        if this.start == start {
            this.busy = false;
            if matches!(step, Step::AbandonFence { .. }) {
                this.watch.gave_up(now);
            }
        }
    }

    pub(super) fn probe(&mut self, agent: usize) {
        self.at(self.now + 1_000, What::Probe(agent));
        for node in 0..NAMES.len() {
            let link = (node, AGENT + agent);
            let cut = self.cut.get(&link).is_some_and(|until| *until > self.now);
            let lives = self.nodes[node].up && self.nodes[node].paused_until <= self.now;
            let answered = lives && !cut && !self.one_in(50);
            let late = if answered { 1 + self.below(50) } else { 900 };
            let (asked, start) = (self.now, self.agents[agent].start);
            self.at(
                self.now + late,
                What::Probed {
                    agent,
                    start,
                    node,
                    asked,
                    answered,
                },
            );
        }
    }

    /// A person thinks for a while, and chooses: another only if the primary is certain not to take writes.
    fn ask_person(&mut self, topology: &DatabaseTopology, choices: &[String]) {
        self.seen.asked += 1;
        let now = self.api.topology.spec.epoch;
        let put_back = self.now < self.rests;
        if self.gone || put_back || self.below(20) != 0 || topology.spec.epoch != now {
            return;
        }
        let primary = topology.spec.shards[0].primary.clone().unwrap();
        // What it said in an epoch before says nothing: somebody may have let it go on since.
        let said = report(&self.api.topology, &primary).filter(|said| said.epoch == now);
        let stopped = said
            .and_then(|_| own_shard(&self.api.topology, &primary))
            .is_some_and(|own| own.ready && !own.writable && own.wants_failover.is_some());
        let chosen = choices
            .first()
            .filter(|_| stopped && self.now.is_multiple_of(2));
        let text = format!("{}@{now}", chosen.unwrap_or(&primary));
        let mut accepted = self.api.topology.as_ref().clone();
        accepted.metadata.annotations = Some([(ACCEPT_LOSS.to_owned(), text)].into());
        self.api.topology = Rc::new(accepted);
        self.changed();
    }

    /// What the controller of the database does with a topology that is gone, or older than what its nodes obey.
    pub(super) fn renew(&mut self) {
        self.at(self.now + 700, What::Renew);
        let before = Rc::clone(&self.api.topology);
        let mut next = before.as_ref().clone();
        let memories = std::slice::from_ref(&self.memory);
        let renewed = if self.gone {
            self.seen.rebuilt += 1;
            next.metadata.uid = Some(format!("T{}", self.api.version));
            next.metadata.generation = Some(1);
            next.metadata.annotations = None;
            next.status = None;
            renew::rebuilt(memories, false, before.spec.shards[0].clone())
        } else {
            next.metadata.generation = before.metadata.generation.map(|number| number + 1);
            let raised = renew::raised(&before, memories);
            self.seen.raised += u64::from(raised.is_some());
            raised
        };
        let Some(renewed) = renewed else {
            return;
        };
        self.gone = false;
        (next.spec.epoch, next.spec.fence) = (renewed.epoch, renewed.fence);
        next.spec.shards = vec![renewed.shard];
        next.spec.shards[0].joining.clear();
        self.memory = Memory::of(&next.spec).unwrap();
        self.api.topology = Rc::new(next);
        self.changed();
    }
}
